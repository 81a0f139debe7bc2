"""A search by halving: between what is left out below and above, there is less each time."""

from collections.abc import Callable

import z3

from proofs.compiled.loops import WORD, Counted, Part, held, hold, shown
from proofs.compiled.machine import Machine, State
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, every, implies


def halving(
    p: Proof,
    name: str,
    end: z3.BitVecRef,
    holds: Callable[[z3.BitVecRef, z3.BitVecRef], list[Part]],
) -> Counted:
    """The loop over ``low`` and ``high``, of numbers below ``end``: how many are left out.

    ``holds`` says what is known of the numbers below ``low``, and of those from ``high`` on.
    """
    p.lemma("fewer are left above the middle", _fewer_above, *p.words("number " * 4))
    p.lemma("fewer are left below the middle", _fewer_below, *p.words("number " * 4))

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        return end - (held(machine, state, "high.2") - held(machine, state, "low.2"))

    def writes(machine: Machine, state: State, left_out: z3.BitVecRef) -> None:
        low, high = machine.fresh(WORD, "low"), machine.fresh(WORD, "high")
        hold(machine, state, low__2=low, high__2=high)
        state.path += [left_out == end - (high - low), z3.ULT(low, high), z3.ULE(high, end)]
        middle = z3.UDiv(low + high, z3.BitVecVal(2, 64))
        between = z3.And(z3.ULE(low, middle), z3.ULT(middle, high))
        shown(machine, state, "the middle lies between", between)
        numbers = [Word(number) for number in (low, middle, high, end)]
        state.path += [_fewer_above(*numbers).z, _fewer_below(*numbers).z]

    def known(machine: Machine, state: State, _: z3.BitVecRef) -> list[Part]:
        low, high = held(machine, state, "low.2"), held(machine, state, "high.2")
        left = z3.And(z3.ULT(low, high), z3.ULE(high, end))
        return [("there are some left", left), *holds(low, high)]

    return Counted(name, reads, writes, known)


def _fewer_above(low: Word, middle: Word, high: Word, end: Word) -> Truth:
    """More are left out without the middle one and those below it."""
    inside = every(low <= middle, middle < high, high <= end, end < 2**50)
    return implies(inside, end - (high - low) < end - (high - (middle + 1)))


def _fewer_below(low: Word, middle: Word, high: Word, end: Word) -> Truth:
    """More are left out without the middle one and those above it."""
    inside = every(low <= middle, middle < high, high <= end, end < 2**50)
    return implies(inside, end - (high - low) < end - (middle - low))
