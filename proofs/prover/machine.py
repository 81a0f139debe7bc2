"""A domain that asks whether 64 bits are enough: numbers with what must hold for that.

Code is read in it as it is read as integers; each number also carries the condition under which
arithmetic modulo 2^64, as compiled code has it, arrives at the same number. A branch that ``select``
discards may wrap around and do no harm.

This is the bridge between claims about integers and claims about 64-bit words. SMT-LIB defines an
operation on words as that on integers, modulo 2^64: so a function comes to the same in both wherever
what it computes on the way *fits*. ``tests/proofs/test_numbers.py`` sees that it is asked of every
function that is read in both, or read as integers and compiled.
"""

from typing import Any

from model import domain, shares
from model.domain import Domain
from proofs.prover import symbolic
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Natural, Sequence, Truth, every, implies, natural, truth

TWO_TO_THE_64 = 2**64


class Number:
    """An integer, and what must hold for 64-bit arithmetic to compute it."""

    def __init__(self, exact: Natural, fits: Truth) -> None:
        self.exact = exact
        self.fits = fits

    def __add__(self, other: Any) -> "Number":
        return _made(self.exact + number(other).exact, self, other)

    def __sub__(self, other: Any) -> "Number":
        return _made(self.exact - number(other).exact, self, other)

    def __mul__(self, other: Any) -> "Number":
        return _made(self.exact * number(other).exact, self, other)

    def __floordiv__(self, other: Any) -> "Number":
        return _made(self.exact // number(other).exact, self, other)

    def __and__(self, mask: int) -> "Number":
        return _made(self.exact & mask, self, 0)

    def __lt__(self, other: Any) -> "Condition":
        return _compared(self.exact < number(other).exact, self, other)

    def __ge__(self, other: Any) -> "Condition":
        return _compared(self.exact >= number(other).exact, self, other)

    def __le__(self, other: Any) -> "Condition":
        return _compared(self.exact <= number(other).exact, self, other)

    def __eq__(self, other: Any) -> "Condition":  # type: ignore[override]
        return _compared(self.exact == number(other).exact, self, other)

    __hash__ = None  # type: ignore[assignment]


class Condition:
    """A proposition about numbers, and what must hold for 64-bit arithmetic to decide it right."""

    def __init__(self, exact: Truth, fits: Truth) -> None:
        self.exact = exact
        self.fits = fits

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(self.exact & other.exact, self.fits & other.fits)

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(self.exact | other.exact, self.fits & other.fits)


def number(value: Any) -> Number:
    """A Number from a Number, a Natural or a Python int."""
    return value if isinstance(value, Number) else Number(natural(value), truth(True))


def select(condition: Condition, then: Any, otherwise: Any) -> Number:
    """``model.domain.select``: only the branch that is taken has to fit."""
    then, otherwise = number(then), number(otherwise)
    taken_fits = every(
        condition.fits,
        implies(condition.exact, then.fits),
        implies(~condition.exact, otherwise.fits),
    )
    return Number(symbolic.select(condition.exact, then.exact, otherwise.exact), taken_fits)


def in_64_bits(p: Proof) -> Domain:
    """The domain of such numbers."""

    def first_word_with(before: Sequence, pages: Number) -> Number:
        """A word's number, of a table whose words are numbered with 64 bits."""
        found = p.lift(shares.first_word_with)(before, pages.exact)
        return Number(found, pages.fits)

    return p.domain(int, {domain.select: select, shares.first_word_with: first_word_with})


def _made(exact: Natural, left: Number, right: Any) -> Number:
    inside = (exact >= 0) & (exact < TWO_TO_THE_64)
    return Number(exact, every(left.fits, number(right).fits, inside))


def _compared(exact: Truth, left: Number, right: Any) -> Condition:
    return Condition(exact, left.fits & number(right).fits)
