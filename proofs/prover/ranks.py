"""Ranks: lists of numbers, compared from the left, that sink while a process comes nearer to its end."""

from collections.abc import Mapping

from proofs.prover.symbolic import Natural, Truth, every, natural, select, truth

Rank = tuple[Natural, ...]


def among(numbers: Mapping[int, int], step: Natural | int) -> Natural:
    """The number that a step has in a table; 0 if it has none."""
    found = natural(0)
    for at, number in numbers.items():
        found = select(natural(step) == at, number, found)
    return found


def falls(before: Rank, after: Rank) -> Truth:
    """Is the rank lower, compared from the left?"""
    lower = truth(False)
    for was, now in reversed(tuple(zip(before, after, strict=True))):
        lower = (now < was) | ((now == was) & lower)
    return lower


def not_raised(before: Rank, after: Rank) -> Truth:
    """Is the rank lower, or the same?"""
    same = every(*(was == now for was, now in zip(before, after, strict=True)))
    return falls(before, after) | same
