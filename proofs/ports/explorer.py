"""Every path of a function up to a bound: loops are gone round until no path does so once more.

What must hold is asked at once, path by path, and the first thing that does not is the answer, with the
values for which it does not. Where a path is longer than the bound nothing is concluded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import z3

from proofs.compiled.ir import (
    Function,
    Global,
    Instruction,
    Many,
    Operand,
    Pointer,
    UnknownIR,
    Zero,
    offset_of,
    parts_of,
    size_of,
)
from proofs.compiled.machine import Contract, Machine, Outcome, State
from proofs.compiled.values import (
    Bits,
    Datum,
    Opaque,
    any_of,
    arithmetic,
    bits,
    moved,
    number,
)
from proofs.ports.memory import Bytes

MOST_BLOCKS = 1000
MOST_PLACES = 8
#: What one question may cost: work, not time.
MOST_WORK = 40_000_000
_KEPT = 6


class Broken(Exception):
    """A rule that a path breaks, and values for which it does."""

    def __init__(self, rule: str, model: z3.ModelRef) -> None:
        super().__init__(rule)
        self.rule, self.model = rule, model


class Explorer(Machine):
    """A machine whose loops are gone round, and whose memory is :class:`Bytes`."""

    def __init__(
        self,
        texts: Mapping[str, str],
        contracts: Mapping[str, Contract],
        variables: Mapping[str, int],
    ) -> None:
        super().__init__(texts, contracts)
        self._variables = variables
        self._models: list[z3.ModelRef] = []
        self._blocks = 0

    # What may be, and what must.

    def example(self, state: State, *conditions: z3.BoolRef) -> z3.ModelRef | None:
        """Values for which a path is taken and the conditions hold. Raises UnknownIR."""
        asked = [*state.path, *conditions]
        for known in self._models:
            if all(z3.is_true(known.eval(each, model_completion=True)) for each in asked):
                return known
        solver = z3.SolverFor("QF_BV")
        solver.set("rlimit", MOST_WORK)
        solver.add(*asked)
        answer = solver.check()
        if answer == z3.unknown:
            raise UnknownIR("z3 has no answer: nothing is concluded")
        if answer == z3.unsat:
            return None
        self._models = [solver.model(), *self._models[: _KEPT - 1]]
        return self._models[0]

    def must(self, state: State, name: str, goal: z3.BoolRef) -> None:
        """Ask at once. Raises Broken."""
        goal = z3.simplify(goal)
        if not z3.is_true(goal):
            found = self.example(state, z3.Not(goal))
            if found is not None:
                raise Broken(name, found)

    def addresses(self, state: State, address: z3.BitVecRef) -> list[int]:
        """All that an address may be on a path. Raises UnknownIR if that is too many."""
        exact = z3.simplify(address)
        if z3.is_bv_value(exact):
            return [exact.as_long()]
        found: list[int] = []
        while (model := self.example(state, *(address != place for place in found))) is not None:
            if len(found) == MOST_PLACES:
                raise UnknownIR(f"an address may be more than {MOST_PLACES}: nothing is concluded")
            found.append(model.eval(address, model_completion=True).as_long())
        return found

    # Paths.

    def _block(
        self, function: Function, label: str, came_from: str, state: State
    ) -> Iterator[Outcome]:
        gone = state.notes["blocks"] = state.notes.get("blocks", 0) + 1
        if gone > MOST_BLOCKS:
            raise UnknownIR(f"a path of more than {MOST_BLOCKS} blocks: nothing is concluded")
        phis = [instruction for instruction in function.blocks[label] if instruction.op == "phi"]
        state.registers.update(
            {phi.result or "": self._incoming(state, phi, came_from) for phi in phis}
        )
        yield from self._rest(function, label, len(phis), state)

    def _targets(self, state: State, last: Instruction) -> Iterator[tuple[str, z3.BoolRef]]:
        for label, condition in super()._targets(state, last):
            if z3.is_true(condition) or self.example(state, condition) is not None:
                yield label, condition

    # Instructions.

    def _value(self, state: State, operand: Operand) -> Datum:
        if isinstance(operand.value, Global):
            address = self._variables.get(operand.value.name)
            return Opaque() if address is None else number(address)
        if isinstance(operand.value, Zero) and isinstance(operand.type, Pointer):
            return number(0)
        return super()._value(state, operand)

    def _execute(self, state: State, instruction: Instruction) -> None:
        if instruction.op == "fence":
            return  # one thread sees its own accesses in order
        super()._execute(state, instruction)

    def _computed(self, state: State, instruction: Instruction, values: list[Datum]) -> Datum:
        if instruction.op == "alloca":
            name = f"{instruction.result}"
            return number(self._bytes(state).place(name, size_of(instruction.type)))
        if instruction.op == "atomicrmw":
            old = self._load(state, instruction, values[0])
            op = instruction.name.split()[0]
            new = arithmetic(op, frozenset(), bits(old, op), bits(values[1], op))
            self._store(state, instruction, values[0], new)
            return old
        return simplified(super()._computed(state, instruction, values))

    def _address(self, instruction: Instruction, values: list[Datum]) -> Datum:
        address, *indices = values
        kind, text = instruction.type, instruction.text
        at = bits(address, text)
        for position, value in enumerate(indices):
            index = bits(value, text)
            wide = Bits(z3.SignExt(64 - index.width, index.z), index.poison)
            if position == 0:
                at = moved(instruction.flags, at, wide, size_of(kind))
            elif isinstance(kind, Many):
                kind = kind.of
                at = moved(instruction.flags, at, wide, size_of(kind))
            else:
                member = z3.simplify(index.z).as_long()
                at = Bits(at.z + offset_of(kind, member), at.poison)
                kind = parts_of(kind)[member]
        return at

    def _intrinsic(self, state: State, call: Instruction, arguments: list[Datum]) -> Datum:
        name = call.name.removeprefix("llvm.")
        if name.startswith("lifetime."):
            return Opaque()
        if (exact := EXACT.get(name)) is not None:
            return simplified(exact(*(bits(argument, call.text) for argument in arguments)))
        for family, contract in self._contracts.items():
            if name.startswith(f"{family}.p0."):
                return contract(self, state, arguments)
        return simplified(super()._intrinsic(state, call, arguments))

    def _bytes(self, state: State) -> Bytes:
        assert isinstance(state.memory, Bytes)
        return state.memory


def simplified(value: Datum) -> Datum:
    """The same, so that what is a number reads as one."""
    if isinstance(value, Bits):
        return Bits(cast(z3.BitVecRef, z3.simplify(value.z)), z3.simplify(value.poison))
    return tuple(map(simplified, value)) if isinstance(value, tuple) else value


def population(word: z3.BitVecRef) -> z3.BitVecRef:
    """The bits set in 64, or in several times 64, as 64 bits."""
    total = z3.BitVecVal(0, 64)
    for low in range(0, word.size(), 64):
        x = z3.Extract(low + 63, low, word)
        for shift, mask in (
            (1, 0x5555555555555555),
            (2, 0x3333333333333333),
            (4, 0x0F0F0F0F0F0F0F0F),
        ):
            x = (x & mask) + (z3.LShR(x, shift) & mask)
        for shift in (8, 16, 32):
            x = x + z3.LShR(x, shift)
        total = total + (x & 127)
    return total


def _trailing_zeros(word: z3.BitVecRef) -> z3.BitVecRef:
    found = z3.BitVecVal(word.size(), word.size())
    for bit in reversed(range(word.size())):
        found = z3.If(z3.Extract(bit, bit, word) == 1, z3.BitVecVal(bit, word.size()), found)
    return found


def _ctpop(value: Bits) -> Bits:
    return Bits(population(value.z), value.poison)


def _cttz(value: Bits, zero_is_poison: Bits) -> Bits:
    wrong = z3.And(zero_is_poison.z == 1, value.z == 0)
    return Bits(_trailing_zeros(value.z), any_of(value.poison, wrong))


#: Here with all their bits: the claims about every RAM get by with a few facts of them.
EXACT: dict[str, Callable[..., Bits]] = {"ctpop.i64": _ctpop, "cttz.i64": _cttz, "cttz.i32": _cttz}
