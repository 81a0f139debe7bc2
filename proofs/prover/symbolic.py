"""The z3 domain: model functions read as terms, with the meaning that Python's operators have.

z3's own operators differ from Python's where it hurts (``>>`` and ``<`` on bit-vectors are signed,
integers have no ``//`` and no ``&``), so terms are wrapped and every operator is defined here.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias, Union

import z3

from model.protocols.check_in import Round

MaybeTruth: TypeAlias = Union["Truth", bool]


class Truth:
    """A proposition."""

    def __init__(self, z: z3.BoolRef) -> None:
        self.z = z

    def __and__(self, other: MaybeTruth) -> "Truth":
        return Truth(z3.And(self.z, truth(other).z))

    def __or__(self, other: MaybeTruth) -> "Truth":
        return Truth(z3.Or(self.z, truth(other).z))

    def __invert__(self) -> "Truth":
        return Truth(z3.Not(self.z))

    def __eq__(self, other: MaybeTruth) -> "Truth":  # type: ignore[override]
        return Truth(self.z == truth(other).z)

    __hash__ = None  # type: ignore[assignment]
    __rand__ = __and__
    __ror__ = __or__

    def as_number(self) -> "Natural":
        """1 if it is true, else 0."""
        return Natural(z3.If(self.z, z3.IntVal(1), z3.IntVal(0)))

    def __bool__(self) -> bool:
        raise TypeError(
            "a proposition has no truth value of its own: use select() in model functions"
        )


def truth(value: MaybeTruth) -> Truth:
    """A Truth from a Truth or a Python bool."""
    return value if isinstance(value, Truth) else Truth(z3.BoolVal(value))


def some(*truths: MaybeTruth) -> Truth:
    """At least one of them."""
    return Truth(z3.Or(*(truth(t).z for t in truths)))


def implies(premise: MaybeTruth, conclusion: MaybeTruth) -> Truth:
    """If ``premise`` then ``conclusion``."""
    return Truth(z3.Implies(truth(premise).z, truth(conclusion).z))


def every(*truths: MaybeTruth) -> Truth:
    """All of them; nothing is asked of none. (z3 would write that as ``(and)``, which is no SMT-LIB.)"""
    return Truth(z3.And(*(truth(t).z for t in truths))) if truths else truth(True)


BITMAP = z3.ArraySort(z3.IntSort(), z3.BoolSort())
SEQUENCE = z3.ArraySort(z3.IntSort(), z3.IntSort())
WORDS = z3.ArraySort(z3.BitVecSort(64), z3.BitVecSort(64))


class Natural:
    """An integer of any size, as Python's. Divisors are positive, so ``//`` and ``%`` agree."""

    def __init__(self, z: z3.ArithRef) -> None:
        self.z = z

    def __add__(self, other: Any) -> "Natural":
        return Natural(self.z + natural(other).z)

    def __sub__(self, other: Any) -> "Natural":
        return Natural(self.z - natural(other).z)

    def __rsub__(self, other: Any) -> "Natural":
        return Natural(natural(other).z - self.z)

    def __mul__(self, other: Any) -> "Natural":
        return Natural(self.z * natural(other).z)

    def __floordiv__(self, other: Any) -> "Natural":
        return Natural(self.z / natural(other).z)

    def __mod__(self, other: Any) -> "Natural":
        return Natural(self.z % natural(other).z)

    def __and__(self, mask: int) -> "Natural":
        """As Python's. Each run of ones is a division and a remainder: x & 0b1100 == x // 4 % 4 * 4."""
        if mask < 0:
            return self - (self & ~mask)
        found = natural(0)
        for low, high in reversed(list(runs_of_ones(mask))):
            found = self // 2**low % 2 ** (high - low) * 2**low + found
        return found

    def __or__(self, mask: int) -> "Natural":
        """As Python's, for a mask that is not negative."""
        return self + mask - (self & mask)

    def __lt__(self, other: Any) -> Truth:
        return Truth(self.z < natural(other).z)

    def __le__(self, other: Any) -> Truth:
        return Truth(self.z <= natural(other).z)

    def __gt__(self, other: Any) -> Truth:
        return Truth(self.z > natural(other).z)

    def __ge__(self, other: Any) -> Truth:
        return Truth(self.z >= natural(other).z)

    def __eq__(self, other: Any) -> Truth:  # type: ignore[override]
        return Truth(self.z == natural(other).z)

    def __ne__(self, other: Any) -> Truth:  # type: ignore[override]
        return Truth(self.z != natural(other).z)

    __hash__ = None  # type: ignore[assignment]
    __radd__ = __add__
    __rmul__ = __mul__


def runs_of_ones(mask: int) -> Iterator[tuple[int, int]]:
    """The bits ``[low, high)`` of each run of ones, from below: (1, 3) and (6, 8) of 0b1100_0110."""
    low = 0
    for bit in range(mask.bit_length() + 1):
        if not mask >> bit & 1:
            if low < bit:
                yield low, bit
            low = bit + 1


def natural(value: Any) -> Natural:
    """A Natural from a Natural or a Python int."""
    return value if isinstance(value, Natural) else Natural(_integer(int(value)))


@cache
def _integer(value: int) -> z3.ArithRef:
    return z3.IntVal(value)


class Word:
    """A 64-bit word; unsigned, arithmetic modulo 2^64, as numba's uint64."""

    def __init__(self, z: z3.BitVecRef) -> None:
        self.z = z

    def __add__(self, other: Any) -> "Word":
        return Word(self.z + word(other).z)

    def __sub__(self, other: Any) -> "Word":
        return Word(self.z - word(other).z)

    def __rsub__(self, other: Any) -> "Word":
        return Word(word(other).z - self.z)

    def __mul__(self, other: Any) -> "Word":
        return Word(self.z * word(other).z)

    def __floordiv__(self, other: Any) -> "Word":
        return Word(z3.UDiv(self.z, word(other).z))

    def __and__(self, other: Any) -> "Word":
        return Word(self.z & word(other).z)

    def __or__(self, other: Any) -> "Word":
        return Word(self.z | word(other).z)

    def __xor__(self, other: Any) -> "Word":
        return Word(self.z ^ word(other).z)

    def __invert__(self) -> "Word":
        return Word(~self.z)

    def __neg__(self) -> "Word":
        return Word(-self.z)

    def __lshift__(self, other: Any) -> "Word":
        return Word(self.z << _shift(other).z)

    def __rlshift__(self, other: Any) -> "Word":
        return Word(word(other).z << _shift(self).z)

    def __rshift__(self, other: Any) -> "Word":
        return Word(z3.LShR(self.z, _shift(other).z))

    def __rrshift__(self, other: Any) -> "Word":
        return Word(z3.LShR(word(other).z, _shift(self).z))

    def __lt__(self, other: Any) -> Truth:
        return Truth(z3.ULT(self.z, word(other).z))

    def __le__(self, other: Any) -> Truth:
        return Truth(z3.ULE(self.z, word(other).z))

    def __gt__(self, other: Any) -> Truth:
        return Truth(z3.UGT(self.z, word(other).z))

    def __ge__(self, other: Any) -> Truth:
        return Truth(z3.UGE(self.z, word(other).z))

    def __eq__(self, other: Any) -> Truth:  # type: ignore[override]
        return Truth(self.z == word(other).z)

    def __ne__(self, other: Any) -> Truth:  # type: ignore[override]
        return Truth(self.z != word(other).z)

    __hash__ = None  # type: ignore[assignment]
    __radd__ = __add__
    __rmul__ = __mul__
    __rand__ = __and__
    __ror__ = __or__


def word(value: Any) -> Word:
    """A Word from a Word or a Python int, modulo 2^64."""
    return value if isinstance(value, Word) else Word(z3.BitVecVal(value, 64))


_recorders: list[list[Word]] = []


@contextmanager
def recorded_shifts() -> Iterator[list[Word]]:
    """By how much words are shifted within the block."""
    shifts: list[Word] = []
    _recorders.append(shifts)
    yield shifts
    _recorders.remove(shifts)


def _shift(by: Any) -> Word:
    for recorder in _recorders:
        recorder.append(word(by))
    return word(by)


class Bitmap:
    """A set of pages of any size: an array from integers to Booleans."""

    def __init__(self, z: z3.ArrayRef) -> None:
        self.z = z

    def __getitem__(self, page: Any) -> Truth:
        return Truth(z3.Select(self.z, natural(page).z))

    def __eq__(self, other: "Bitmap") -> Truth:  # type: ignore[override]
        return Truth(self.z == other.z)

    __hash__ = None  # type: ignore[assignment]


class Words:
    """A bitmap as the machine has it: an array of 64-bit words."""

    def __init__(self, z: z3.ArrayRef) -> None:
        self.z = z

    def __getitem__(self, index: Any) -> Word:
        return Word(z3.Select(self.z, word(index).z))

    def __eq__(self, other: "Words") -> Truth:  # type: ignore[override]
        return Truth(self.z == other.z)

    __hash__ = None  # type: ignore[assignment]


class Sequence:
    """A sequence of integers of any length: an array."""

    def __init__(self, z: z3.ArrayRef) -> None:
        self.z = z

    def __getitem__(self, index: Any) -> Natural:
        return Natural(z3.Select(self.z, natural(index).z))

    def __eq__(self, other: "Sequence") -> Truth:  # type: ignore[override]
        return Truth(self.z == other.z)

    __hash__ = None  # type: ignore[assignment]


Term: TypeAlias = Truth | Natural | Word | Bitmap | Words | Sequence


def select(condition: MaybeTruth, then: Any, otherwise: Any) -> Any:
    """``model.domain.select`` on terms; numbers are taken into the domain of the other side."""
    kinds = {
        Natural: natural,
        Word: word,
        Truth: truth,
        Bitmap: _same,
        Words: _same,
        Sequence: _same,
    }
    kind = next((type(side) for side in (then, otherwise) if type(side) in kinds), Natural)
    into = kinds[kind]
    return kind(z3.If(truth(condition).z, into(then).z, into(otherwise).z))


def _same(array: Any) -> Any:
    return array


def clear(bitmap: Bitmap, page: Any) -> Bitmap:
    """``model.walk.clear`` on arrays."""
    return Bitmap(z3.Store(bitmap.z, natural(page).z, z3.BoolVal(False)))


def mark(bitmap: Bitmap, page: Any) -> Bitmap:
    """``model.walk.mark`` on arrays."""
    return Bitmap(z3.Store(bitmap.z, natural(page).z, z3.BoolVal(True)))


def stored(words: Words, index: Any, value: Any) -> Words:
    """``model.worker.stored`` on arrays."""
    return Words(z3.Store(words.z, word(index).z, word(value).z))


def loaded(words: Words, index: Any) -> Word:
    """``model.worker.loaded`` on arrays."""
    return words[index]


def marked(bitmap: Bitmap, page: Any) -> Truth:
    """``model.protocols.work_queue.marked`` on arrays."""
    return bitmap[page]


def get(sequence: Sequence, index: Any) -> Natural:
    """``model.protocols.work_queue.get`` on arrays."""
    return sequence[index]


def put(sequence: Sequence, index: Any, value: Any) -> Sequence:
    """``model.protocols.work_queue.put`` on arrays."""
    return Sequence(z3.Store(sequence.z, natural(index).z, natural(value).z))


_ASKED = [
    z3.Function(f"asked_{field}", z3.IntSort(), z3.IntSort(), z3.IntSort())
    for field in Round._fields
]


def asked(plan: Natural, job: Any) -> Round:
    """``model.protocols.check_in.asked``: any natural numbers, others for each plan and round."""
    found = (Natural(of(plan.z, natural(job).z)) for of in _ASKED)
    return Round(*(select(number < 0, 0, number) for number in found))


def trailing_zeros(value: Word) -> Word:
    """``model.words.trailing_zeros`` on bit-vectors; 64 for 0."""
    result = z3.BitVecVal(64, 64)
    for bit in reversed(range(64)):
        result = z3.If(z3.Extract(bit, bit, value.z) == 1, z3.BitVecVal(bit, 64), result)
    return Word(result)


def one(value: Word, position: int) -> Natural:
    """1 if the bit is set, else 0."""
    return Truth(z3.Extract(position, position, value.z) == 1).as_number()


def total(numbers: Iterable[Natural]) -> Natural:
    """Their sum."""
    return Natural(z3.Sum([number.z for number in numbers]))


def population(value: Word) -> Natural:
    """``model.words.population``: the sum of a word's bits."""
    return total(one(value, position) for position in range(64))


_bound: list[z3.ArithRef] = []


_POPULATION = z3.Function("population", z3.BitVecSort(64), z3.BitVecSort(64))


def some_population(value: Word) -> Word:
    """``model.words.population`` where it does not matter what it is: any function of the word."""
    return Word(_POPULATION(value.z))


def forall(statement: Callable[[Natural], Truth], name: str = "k") -> Truth:
    """``statement`` for every integer.

    The variable is named by how many quantifiers it stands within, and so as no other one there.
    """
    bound = z3.Int(f"{name}?{len(_bound)}")
    _bound.append(bound)
    try:
        return Truth(z3.ForAll([bound], statement(Natural(bound)).z))
    finally:
        _bound.pop()
