"""What a register of LLVM holds: a number that may be poison, a pointer, or a row of these.

Poison is LLVM's word for a result that some promise made impossible (an ``add nuw`` that wraps, a shift
by 64). It spreads through operations; to branch on it, to divide by it or to go to its address is
undefined. ``undef`` is taken for poison, which may be anything that undef may be, and more.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias, Union

import z3

from proofs.compiled.ir import Integer, Pointer, Type, UnknownIR, parts_of
from proofs.prover.symbolic import Word, some_population, trailing_zeros

NEVER, ALWAYS = z3.BoolVal(False), z3.BoolVal(True)


@dataclass(frozen=True)
class Bits:
    """An integer, or an address made of one: what it is unless it is poison, and when it is."""

    z: z3.BitVecRef
    poison: z3.BoolRef = NEVER

    @property
    def width(self) -> int:
        """In bits."""
        return int(self.z.size())


@dataclass(frozen=True)
class Slot:
    """The address of a variable of a function (``alloca``), or of a place in it, in bytes.

    No address that is computed from a number is ever one of these.
    """

    region: str
    offset: int = 0


@dataclass(frozen=True)
class Opaque:
    """A pointer that is handed around and never followed: to a description of an exception."""


@dataclass(frozen=True)
class Line:
    """64 bytes as they were loaded from an address: they are stored again, and nothing else is done."""

    source: z3.BitVecRef


Datum: TypeAlias = Union[Bits, Slot, Opaque, Line, "tuple[Datum, ...]"]


def number(value: int, bits: int = 64) -> Bits:
    """A constant, modulo 2^bits."""
    return Bits(z3.BitVecVal(value, bits))


def any_of(*conditions: z3.BoolRef) -> z3.BoolRef:
    """Their disjunction, without those that are plainly false."""
    left = [c for c in map(z3.simplify, conditions) if not z3.is_false(c)]
    return z3.Or(*left) if len(left) > 1 else left[0] if left else NEVER


def all_of(conditions: Collection[z3.BoolRef]) -> z3.BoolRef:
    """Their conjunction. (z3 prints one of none as no solver can read it.)"""
    return z3.And(*conditions) if conditions else ALWAYS


def poison(kind: Type) -> Datum:
    """A value of a type, all of it poison."""
    if isinstance(kind, Integer):
        return Bits(z3.BitVecVal(0, kind.bits), ALWAYS)
    if isinstance(kind, Pointer):
        return Opaque()
    return tuple(poison(part) for part in parts_of(kind))


def zero(kind: Type) -> Datum:
    """``zeroinitializer``, ``null``."""
    if isinstance(kind, Integer):
        return number(0, kind.bits)
    if isinstance(kind, Pointer):
        return Opaque()
    return tuple(zero(part) for part in parts_of(kind))


def bits(value: Datum, what: str) -> Bits:
    """``value`` as a number; UnknownIR if it is something else."""
    if isinstance(value, Bits):
        return value
    raise UnknownIR(f"a number is needed and not {value}, in the LLVM IR: {what}")


def slot(value: Datum, what: str) -> Slot:
    """``value`` as the address of a variable; UnknownIR if it is something else."""
    if isinstance(value, Slot):
        return value
    raise UnknownIR(f"the address of a variable is needed and not {value}, in the LLVM IR: {what}")


def row(value: Datum, what: str) -> tuple[Datum, ...]:
    """``value`` as an aggregate; UnknownIR if it is something else."""
    if isinstance(value, tuple):
        return value
    raise UnknownIR(f"an aggregate is needed and not {value}, in the LLVM IR: {what}")


def by_lane(operation: Callable[..., Datum], *values: Datum) -> Datum:
    """An operation on numbers, or on each lane of vectors."""
    if isinstance(values[0], tuple):
        rows = [value if isinstance(value, tuple) else () for value in values]
        return tuple(by_lane(operation, *lane) for lane in zip(*rows, strict=True))
    return operation(*values)


def choice(condition: Bits, then: Datum, otherwise: Datum) -> Datum:
    """``select``."""
    if isinstance(then, tuple) and isinstance(otherwise, tuple):
        return tuple(choice(condition, a, b) for a, b in zip(then, otherwise, strict=True))
    if not isinstance(then, Bits) or not isinstance(otherwise, Bits):
        return then if then == otherwise else Opaque()
    yes = condition.z == 1
    chosen = z3.If(yes, then.poison, otherwise.poison)
    return Bits(z3.If(yes, then.z, otherwise.z), any_of(condition.poison, chosen))


def merged(condition: z3.BoolRef, then: Datum, otherwise: Datum) -> Datum:
    """What a register holds where two paths meet; ``condition`` says that the first was taken."""
    return choice(Bits(as_bit(condition)), then, otherwise)


def as_bit(condition: z3.BoolRef) -> z3.BitVecRef:
    """A truth as an ``i1``."""
    return z3.If(condition, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))


# Operations on numbers.


def _shl(a: z3.BitVecRef, b: z3.BitVecRef) -> z3.BitVecRef:
    """By a constant a product, so that an address has one form however it was computed."""
    by = z3.simplify(b)
    return a * (1 << by.as_long()) if z3.is_bv_value(by) and by.as_long() < a.size() else a << b


ARITHMETIC: dict[str, Callable[..., z3.BitVecRef]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": _shl,
    "lshr": z3.LShR,
    "ashr": lambda a, b: a >> b,
    "udiv": z3.UDiv,
    "urem": z3.URem,
    "sdiv": lambda a, b: a / b,
    "srem": z3.SRem,
}
COMPARISONS: dict[str, Callable[..., z3.BoolRef]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ult": z3.ULT,
    "ule": z3.ULE,
    "ugt": z3.UGT,
    "uge": z3.UGE,
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
    "sgt": lambda a, b: a > b,
    "sge": lambda a, b: a >= b,
}


def arithmetic(op: str, flags: frozenset[str], a: Bits, b: Bits) -> Bits:
    """A binary operation; poison where a shift is too far, or where a flag's promise is not kept."""
    of, x, y = ARITHMETIC[op], a.z, b.z
    wrong = [a.poison, b.poison]
    if op in ("shl", "lshr", "ashr"):
        wrong.append(z3.UGE(y, a.width))
    if "nuw" in flags:
        wrong.append(_wraps_unsigned(op, x, y))
    if "nsw" in flags:
        wrong.append(_wraps_signed(op, x, y))
    if "exact" in flags:
        back = ARITHMETIC["mul" if op in ("udiv", "sdiv") else "shl"]
        wrong.append(back(of(x, y), y) != x)
    if "disjoint" in flags:
        wrong.append(x & y != 0)
    return Bits(of(x, y), any_of(*wrong))


def _wraps_unsigned(op: str, x: z3.BitVecRef, y: z3.BitVecRef) -> z3.BoolRef:
    if op == "shl":
        return z3.LShR(x << y, y) != x
    fits: dict[str, Callable[..., z3.BoolRef]] = {
        "add": z3.BVAddNoOverflow,
        "sub": z3.BVSubNoUnderflow,
        "mul": z3.BVMulNoOverflow,
    }
    return z3.Not(fits[op](x, y, False))


def _wraps_signed(op: str, x: z3.BitVecRef, y: z3.BitVecRef) -> z3.BoolRef:
    if op == "shl":
        return (x << y) >> y != x
    wide = [z3.SignExt(x.size(), value) for value in (x, y)]
    return ARITHMETIC[op](*wide) != z3.SignExt(x.size(), ARITHMETIC[op](x, y))


def comparison(predicate: str, flags: frozenset[str], a: Bits, b: Bits) -> Bits:
    """``icmp``."""
    wrong = [a.poison, b.poison]
    if "samesign" in flags:
        wrong.append((a.z < 0) != (b.z < 0))
    return Bits(as_bit(COMPARISONS[predicate](a.z, b.z)), any_of(*wrong))


def cast(op: str, flags: frozenset[str], value: Bits, width: int) -> Bits:
    """``zext``, ``sext``, ``trunc``."""
    wrong = [value.poison]
    if op == "trunc":
        short = z3.Extract(width - 1, 0, value.z)
        if "nuw" in flags:
            wrong.append(z3.ZeroExt(value.width - width, short) != value.z)
        if "nsw" in flags:
            wrong.append(z3.SignExt(value.width - width, short) != value.z)
        return Bits(short, any_of(*wrong))
    if "nneg" in flags:
        wrong.append(value.z < 0)
    extend = z3.ZeroExt if op == "zext" else z3.SignExt
    return Bits(extend(width - value.width, value.z), any_of(*wrong))


def moved(flags: frozenset[str], address: Bits, index: Bits, step: int) -> Bits:
    """``getelementptr``: the address ``index`` elements on. ``inbounds`` says that nothing wraps."""
    offset = index.z * step
    wrong = [address.poison, index.poison]
    if flags & {"inbounds", "nusw"}:
        wrong.append(z3.Not(z3.BVMulNoOverflow(index.z, z3.BitVecVal(step, 64), True)))
        wrong.append(z3.Not(z3.BVMulNoUnderflow(index.z, z3.BitVecVal(step, 64))))
        wrong.append((offset >= 0) != z3.UGE(address.z + offset, address.z))
    if "nuw" in flags:
        wrong.append(z3.Not(z3.BVMulNoOverflow(index.z, z3.BitVecVal(step, 64), False)))
        wrong.append(z3.ULT(address.z + offset, address.z))
    return Bits(address.z + offset, any_of(*wrong))


# Intrinsics on numbers.


def _smaller(less: Callable[..., z3.BoolRef], a: Bits, b: Bits) -> Bits:
    return Bits(z3.If(less(a.z, b.z), a.z, b.z), any_of(a.poison, b.poison))


def _saturated(op: str, a: Bits, b: Bits) -> Bits:
    limit = z3.BitVecVal(0 if op == "sub" else -1, a.width)
    plain = ARITHMETIC[op](a.z, b.z)
    return Bits(z3.If(_wraps_unsigned(op, a.z, b.z), limit, plain), any_of(a.poison, b.poison))


def _ctpop(value: Bits) -> Bits:
    """Any function of the word, as in the model: which word it is of is what matters."""
    if value.width != 64:
        raise UnknownIR(f"llvm.ctpop of {value.width} bits is not known here")
    return Bits(some_population(Word(value.z)).z, value.poison)


def _cttz(value: Bits, zero_is_poison: Bits) -> Bits:
    if value.width != 64:
        raise UnknownIR(f"llvm.cttz of {value.width} bits is not known here")
    wrong = z3.And(zero_is_poison.z == 1, value.z == 0)
    return Bits(trailing_zeros(Word(value.z)).z, any_of(value.poison, wrong))


INTRINSICS: dict[str, Callable[..., Datum]] = {
    "umin": lambda a, b: _smaller(z3.ULE, a, b),
    "umax": lambda a, b: _smaller(z3.UGE, a, b),
    "smin": lambda a, b: _smaller(COMPARISONS["sle"], a, b),
    "smax": lambda a, b: _smaller(COMPARISONS["sge"], a, b),
    "usub.sat": lambda a, b: _saturated("sub", a, b),
    "uadd.sat": lambda a, b: _saturated("add", a, b),
    "ctpop": _ctpop,
    "cttz": _cttz,
}


def as_one_number(lanes: Datum, to: int, what: str) -> Bits:
    """``bitcast`` of a vector of bits to a number as wide: the first lane is its lowest bit."""
    if not isinstance(lanes, tuple) or len(lanes) != to:
        raise UnknownIR(f"a bitcast that is not of as many bits, in the LLVM IR: {what}")
    each = [bits(lane, what) for lane in lanes]
    if any(lane.width != 1 for lane in each):
        raise UnknownIR(f"a bitcast of numbers, in the LLVM IR: {what}")
    return Bits(z3.Concat(*(lane.z for lane in reversed(each))), any_of(*(b.poison for b in each)))
