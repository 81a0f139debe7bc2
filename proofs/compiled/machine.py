"""LLVM's functions run on terms: every path, what it returns, and what must hold on the way.

What LLVM leaves undefined (a branch on poison, a division by zero, an access out of bounds) is an
*obligation*, under the conditions of the path that leads to it. A loop is taken by its invariant: shown
where the loop is entered, assumed of arbitrary values at its header, shown again where it comes back.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Protocol

import z3

from proofs.compiled.ir import (
    Function,
    Global,
    Instruction,
    Integer,
    Number,
    Operand,
    Pointer,
    Register,
    Type,
    Undefined,
    UnknownIR,
    offset_of,
    parts_of,
    size_of,
)
from proofs.compiled.reader import BINARY, CASTS, read
from proofs.compiled.values import (
    ALWAYS,
    INTRINSICS,
    NEVER,
    Bits,
    Datum,
    Opaque,
    Slot,
    any_of,
    arithmetic,
    as_one_number,
    bits,
    by_lane,
    cast,
    choice,
    comparison,
    merged,
    moved,
    number,
    poison,
    row,
    zero,
)

Layout = Mapping[int, Type]


@dataclass(frozen=True)
class Obligation:
    """On a path (its conditions), ``goal`` must hold."""

    name: str
    path: tuple[z3.BoolRef, ...]
    goal: z3.BoolRef


class Memory(Protocol):
    """Memory that is reached by addresses: what the claims about loops bring with them."""

    def copy(self) -> "Memory": ...
    def load(self, machine: "Machine", state: "State", what: Instruction, at: Bits) -> Datum: ...
    def store(
        self, machine: "Machine", state: "State", what: Instruction, at: Bits, value: Datum
    ) -> None: ...


class Loop(Protocol):
    """What is known at a loop's header, by those who make claims about it."""

    def arrive(self, machine: "Machine", state: "State", again: bool) -> None:
        """Show the invariant: on entry, or when the loop has come round."""

    def enter(self, machine: "Machine", state: "State") -> None:
        """Assume the invariant, of variables that may hold anything now, and go once round."""


@dataclass
class State:
    """Where a path stands: its conditions, registers, variables, memory, and the loops it is in."""

    path: list[z3.BoolRef] = field(default_factory=list)
    registers: dict[str, Datum] = field(default_factory=dict)
    slots: dict[Slot, Datum] = field(default_factory=dict)
    memory: Memory | None = None
    inside: tuple[str, ...] = ()
    frame: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def fork(self, *conditions: z3.BoolRef) -> "State":
        """A copy, under more conditions."""
        return replace(
            self,
            path=[*self.path, *conditions],
            registers=dict(self.registers),
            slots=dict(self.slots),
            memory=self.memory.copy() if self.memory else None,
            notes=dict(self.notes),
        )


Outcome = tuple[State, Datum]
_read_function = lru_cache(maxsize=256)(read)
Contract = Callable[["Machine", State, list[Datum]], Datum]


class Machine:
    """Runs functions of a module on terms; collects obligations.

    ``contracts`` and ``loops`` are by a function's symbol (and a header's label): what a callee is
    known to do, instead of running it, and what is known of a loop.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        contracts: Mapping[str, Contract] | None = None,
        loops: Mapping[tuple[str, str], Loop] | None = None,
    ) -> None:
        self.obligations: list[Obligation] = []
        self.layouts: dict[str, Layout] = {}
        #: By which paths each block of a function was come to.
        self.visits: dict[tuple[str, str], list[tuple[z3.BoolRef, ...]]] = {}
        self._texts = texts
        self._contracts = contracts or {}
        self._loops = loops or {}
        self._functions: dict[str, Function] = {}
        self._frames = 0
        self._named: dict[str, int] = {}

    def function(self, symbol: str) -> Function:
        """A function, read when it is first asked for. Raises UnknownIR."""
        if symbol not in self._functions:
            if symbol not in self._texts:
                raise UnknownIR(f"a call of {symbol!r} is not known here, in the LLVM IR")
            self._functions[symbol] = _read_function(self._texts[symbol])
        return self._functions[symbol]

    def fresh(self, sort: z3.SortRef, name: str) -> Any:
        """A variable that is used nowhere else; those of a name are numbered by themselves.

        So the others keep their names when one more or less is made: what is asked is the same then.
        """
        self._named[name] = self._named.get(name, 0) + 1
        return z3.Const(f"{name}!{self._named[name]}", sort)

    def must(self, state: State, name: str, goal: z3.BoolRef) -> None:
        """An obligation, unless it is plainly true."""
        goal = z3.simplify(goal)
        if not z3.is_true(goal):
            self.obligations.append(Obligation(name, tuple(state.path), goal))

    def defined(self, state: State, name: str, value: Datum) -> Datum:
        """The value, which must not be poison."""
        if isinstance(value, Bits):
            self.must(state, f"{name} is not poison", z3.Not(value.poison))
        elif isinstance(value, tuple):
            for part in value:
                self.defined(state, name, part)
        return value

    def place(self, region: str, kind: Type) -> Slot:
        """A new variable of some type."""
        self.layouts[region] = dict(_members(kind))
        return Slot(region)

    # Functions and blocks.

    def run(self, symbol: str, arguments: list[Datum], state: State) -> Iterator[Outcome]:
        """Every path through a function: the state it leaves, and what it returns."""
        function = self.function(symbol)
        if len(arguments) != len(function.parameters):
            raise UnknownIR(f"{symbol} takes {len(function.parameters)} arguments")
        self._frames += 1
        inner = replace(
            state.fork(),
            registers=dict(zip(function.parameters, arguments, strict=True)),
            inside=(),
            frame=f"{self._frames}",
        )
        for after, value in self._block(function, function.entry, "", inner):
            if function.range is not None:
                low, high = (
                    z3.BitVecVal(limit, bits(value, symbol).width) for limit in function.range
                )
                result = bits(value, symbol).z
                self.must(
                    after, f"{symbol}'s result is in its range", z3.ULT(result - low, high - low)
                )
            yield (
                replace(after, registers=state.registers, inside=state.inside, frame=state.frame),
                value,
            )

    def _block(
        self, function: Function, label: str, came_from: str, state: State
    ) -> Iterator[Outcome]:
        """Every path on from the beginning of a block."""
        self.visits.setdefault((function.symbol, label), []).append(tuple(state.path))
        body = function.blocks[label]
        phis = [instruction for instruction in body if instruction.op == "phi"]
        incoming = {phi.result or "": self._incoming(state, phi, came_from) for phi in phis}
        state.registers.update(incoming)
        if label in function.loops:
            loop = self._loops.get((function.symbol, label))
            if loop is None:
                raise UnknownIR(
                    f"{function.symbol} has a loop, at {label}, without an invariant here"
                )
            again = label in state.inside
            self._defined_at_header(function, label, incoming, state)
            loop.arrive(self, state, again)
            if again:
                self._nothing_else_changed(function, label, state)
                return
            before = dict(state.slots)
            state = state.fork()
            state.inside = (*state.inside, label)
            self._forget(function, function.loops[label], phis, state)
            loop.enter(self, state)
            state.notes[f"{function.symbol} {label}"] = {
                slot: value for slot, value in before.items() if state.slots[slot] is value
            }
        yield from self._rest(function, label, len(phis), state)

    def _rest(self, function: Function, label: str, index: int, state: State) -> Iterator[Outcome]:
        """Every path on from an instruction of a block."""
        body = function.blocks[label]
        for number_, instruction in enumerate(body[index:-1], index):
            if instruction.op != "call":
                self._execute(state, instruction)
                continue
            outcomes = self._call(state, instruction)
            if len(outcomes) != 1:
                for after in outcomes:
                    yield from self._rest(function, label, number_ + 1, after)
                return
            (state,) = outcomes
        last = body[-1]
        if last.op == "ret":
            result = self._value(state, last.operands[0]) if last.operands else Opaque()
            yield state, self.defined(state, "the result", result)
        elif last.op == "unreachable":
            self.must(state, "what cannot be reached is not", NEVER)
        else:
            targets = [(t, c) for t, c in self._targets(state, last) if not z3.is_false(c)]
            for target, condition in targets:
                taken = state if len(targets) == 1 else state.fork(condition)
                yield from self._block(function, target, label, taken)

    def _incoming(self, state: State, phi: Instruction, came_from: str) -> Datum:
        return self._value(state, phi.operands[phi.labels.index(came_from)])

    def _targets(self, state: State, last: Instruction) -> Iterator[tuple[str, z3.BoolRef]]:
        if not last.operands:
            yield last.labels[0], ALWAYS
            return
        asked = bits(self._value(state, last.operands[0]), last.text)
        self.defined(state, "what a branch depends on", asked)
        numbers = last.numbers if last.op == "switch" else (1,)
        for value, label in zip(numbers, last.labels, strict=False):
            yield label, z3.simplify(asked.z == value)
        yield last.labels[-1], z3.simplify(z3.And(*(asked.z != value for value in numbers)))

    def _defined_at_header(
        self, function: Function, label: str, incoming: Mapping[str, Datum], state: State
    ) -> None:
        for name, value in incoming.items():
            self.defined(state, name, value)
        for region in self._written(function, function.loops[label], state):
            for offset in self.layouts[region]:
                if (slot := Slot(region, offset)) not in state.slots:
                    continue
                self.defined(state, region.partition(":")[2], state.slots[slot])
                kept = state.notes.setdefault(f"{label} {slot}", state.slots[slot])
                if isinstance(kept, Slot) and state.slots[slot] != kept:
                    raise UnknownIR(f"{function.symbol}: a pointer to a variable changes in a loop")

    def _nothing_else_changed(self, function: Function, label: str, state: State) -> None:
        """What was not forgotten at the header must be as it was: the loop has been through it once."""
        for slot, value in state.notes[f"{function.symbol} {label}"].items():
            if state.slots[slot] != value:
                raise UnknownIR(
                    f"{function.symbol}: {slot} changes in a loop in a way not known here"
                )

    def _forget(
        self, function: Function, blocks: frozenset[str], phis: list[Instruction], state: State
    ) -> None:
        """What a loop may change may be anything at its header: numbers that are not poison.

        (That they are not is shown where the loop is entered and where it comes back.)
        """
        for phi in phis:
            state.registers[phi.result or ""] = self._anything(phi.type, phi.result or "")
        for region in self._written(function, blocks, state):
            for offset, kind in self.layouts[region].items():
                place = Slot(region, offset)
                held = state.slots.get(place)
                # A pointer to a variable stays: _defined_at_header refuses a loop that changes it.
                if held is not None and not isinstance(held, Slot):
                    state.slots[place] = self._anything(kind, region.partition(":")[2])

    def written(self, symbol: str, label: str, state: State) -> set[str]:
        """The variables that the loop at a header may change, by region."""
        function = self.function(symbol)
        return self._written(function, function.loops[label], state)

    def _written(self, function: Function, blocks: frozenset[str], state: State) -> set[str]:
        """Every variable whose address stands anywhere in the loop but as the place of a load."""
        regions = set()
        for label in blocks:
            for instruction in function.blocks[label]:
                places = (
                    instruction.operands[1:] if instruction.op == "load" else instruction.operands
                )
                for operand in places:
                    if isinstance(operand.value, Register):
                        held = state.registers.get(operand.value.name)
                        if isinstance(held, Slot):
                            regions.add(held.region)
        return regions

    def _anything(self, kind: Type, name: str) -> Datum:
        if isinstance(kind, Integer):
            return Bits(self.fresh(z3.BitVecSort(kind.bits), name))
        if isinstance(kind, Pointer):
            return Opaque()
        return tuple(self._anything(part, name) for part in parts_of(kind))

    # Instructions.

    def _value(self, state: State, operand: Operand) -> Datum:
        value, kind = operand.value, operand.type
        if isinstance(value, Register):
            if value.name not in state.registers:
                raise UnknownIR(f"%{value.name} is used where it has no value, in the LLVM IR")
            return state.registers[value.name]
        if isinstance(value, Global):
            return Opaque()
        if isinstance(value, Number):
            return number(value.value, width(kind))
        return poison(kind) if isinstance(value, Undefined) else zero(kind)

    def _execute(self, state: State, instruction: Instruction) -> None:
        values = [self._value(state, operand) for operand in instruction.operands]
        if instruction.op == "store":
            self._store(state, instruction, values[1], values[0])
        elif instruction.result is None:
            raise UnknownIR(
                f"{instruction.op!r} is not known here, in the LLVM IR: {instruction.text}"
            )
        else:
            state.registers[instruction.result] = self._computed(state, instruction, values)

    def _computed(self, state: State, instruction: Instruction, values: list[Datum]) -> Datum:
        op, text = instruction.op, instruction.text
        if op in BINARY:
            if op in ("udiv", "urem", "sdiv", "srem"):
                self._divisor(state, op, bits(values[0], text), bits(values[1], text))
            compute = partial(arithmetic, op, instruction.flags)
            return by_lane(lambda a, b: compute(bits(a, text), bits(b, text)), *values)
        if op == "icmp":
            compare = partial(comparison, instruction.name, instruction.flags)
            return by_lane(lambda a, b: compare(bits(a, text), bits(b, text)), *values)
        if op in CASTS:
            return self._cast(instruction, values[0])
        if op == "freeze":
            value = bits(values[0], text)
            return Bits(z3.If(value.poison, self.fresh(value.z.sort(), "frozen"), value.z))
        if op == "select":
            return choice(bits(values[0], text), values[1], values[2])
        if op == "alloca":
            return self.place(f"{state.frame}:{instruction.result}", instruction.type)
        if op == "load":
            return self._load(state, instruction, values[0])
        if op == "getelementptr":
            return self._address(instruction, values)
        if op == "extractvalue":
            return row(values[0], text)[instruction.numbers[0]]
        if op == "insertvalue":
            members, index = row(values[0], text), instruction.numbers[0]
            return (*members[:index], values[1], *members[index + 1 :])
        raise UnknownIR(f"{op!r} is not known here, in the LLVM IR: {text}")

    def _divisor(self, state: State, op: str, a: Bits, b: Bits) -> None:
        self.defined(state, "a divisor", b)
        self.must(state, "no division by zero", b.z != 0)
        if op in ("sdiv", "srem"):
            self.must(state, "no division that wraps", z3.Or(b.z != -1, a.z != 1 << (a.width - 1)))

    def _cast(self, instruction: Instruction, value: Datum) -> Datum:
        if instruction.op in ("inttoptr", "ptrtoint", "bitcast"):
            if instruction.op == "bitcast" and not isinstance(instruction.type, Pointer):
                return as_one_number(value, width(instruction.type), instruction.text)
            if instruction.op != "bitcast":
                bits(value, instruction.text)
            return value
        to = width(instruction.type)
        return cast(instruction.op, instruction.flags, bits(value, instruction.text), to)

    def _address(self, instruction: Instruction, values: list[Datum]) -> Datum:
        base, *indices = values
        kind = instruction.type
        if isinstance(base, Bits):
            if len(indices) != 1:
                raise UnknownIR(f"a member by an address, in the LLVM IR: {instruction.text}")
            index = bits(indices[0], instruction.text)
            return moved(instruction.flags, base, index, size_of(kind))
        if not isinstance(base, Slot):
            raise UnknownIR(f"an address that is not known, in the LLVM IR: {instruction.text}")
        offset = base.offset
        for position, step in enumerate(indices):
            exact = z3.simplify(bits(step, instruction.text).z)
            if not z3.is_bv_value(exact):
                raise UnknownIR(
                    f"a place in a variable is computed, in the LLVM IR: {instruction.text}"
                )
            if position == 0:
                offset += exact.as_signed_long() * size_of(kind)
            else:
                parts = parts_of(kind)
                if exact.as_long() >= len(parts):
                    raise UnknownIR(f"there is no such member, in the LLVM IR: {instruction.text}")
                offset += offset_of(kind, exact.as_long())
                kind = parts[exact.as_long()]
        return Slot(base.region, offset)

    def _load(self, state: State, instruction: Instruction, at: Datum) -> Datum:
        kind = instruction.type
        if isinstance(at, Slot):
            return self._load_slot(state, at, kind, instruction.text)
        if isinstance(at, Opaque):
            if isinstance(kind, Pointer) and isinstance(instruction.operands[0].value, Global):
                return Opaque()
            raise UnknownIR(f"a load from an unknown place, in the LLVM IR: {instruction.text}")
        address = self._accessed(state, instruction, at)
        return self._memory(state, instruction).load(self, state, instruction, address)

    def _load_slot(self, state: State, at: Slot, kind: Type, text: str) -> Datum:
        if not isinstance(kind, Integer | Pointer):
            return tuple(
                self._load_slot(state, Slot(at.region, at.offset + offset_of(kind, i)), part, text)
                for i, part in enumerate(parts_of(kind))
            )
        self._check_layout(at, kind, text)
        return state.slots.get(at, poison(kind))

    def _store(self, state: State, instruction: Instruction, at: Datum, value: Datum) -> None:
        if isinstance(at, Slot):
            self._store_slot(state, at, instruction.type, value, instruction.text)
            return
        if isinstance(at, Opaque):
            raise UnknownIR(f"a store to an unknown place, in the LLVM IR: {instruction.text}")
        address = self._accessed(state, instruction, at)
        self.defined(state, "what is stored", value)
        self._memory(state, instruction).store(self, state, instruction, address, value)

    def _store_slot(self, state: State, at: Slot, kind: Type, value: Datum, text: str) -> None:
        if isinstance(kind, Integer | Pointer):
            self._check_layout(at, kind, text)
            state.slots[at] = value
            return
        members = row(value, text)
        for i, part in enumerate(parts_of(kind)):
            place = Slot(at.region, at.offset + offset_of(kind, i))
            self._store_slot(state, place, part, members[i], text)

    def _check_layout(self, at: Slot, kind: Type, text: str) -> None:
        if self.layouts[at.region].get(at.offset) != kind:
            raise UnknownIR(f"an access across the members of a variable, in the LLVM IR: {text}")

    def _accessed(self, state: State, instruction: Instruction, at: Datum) -> Bits:
        address = bits(at, instruction.text)
        self.defined(state, "an address", address)
        aligned = address.z & (instruction.align - 1) == 0
        self.must(state, f"an address is a multiple of {instruction.align}", aligned)
        return address

    def _memory(self, state: State, instruction: Instruction) -> Memory:
        if state.memory is None:
            raise UnknownIR(f"an access to memory, in the LLVM IR: {instruction.text}")
        return state.memory

    # Calls.

    def _call(self, state: State, call: Instruction) -> list[State]:
        arguments = [self._value(state, operand) for operand in call.operands]
        for operand, argument in zip(call.operands, arguments, strict=True):
            if operand.defined:
                self.defined(state, "an argument", argument)
        if call.name.startswith("llvm."):
            return [self._returned(state, call, self._intrinsic(state, call, arguments))]
        if call.name in self._contracts:
            value = self._contracts[call.name](self, state, arguments)
            return [self._returned(state, call, value)]
        before = len(state.path)
        outcomes = list(self.run(call.name, arguments, state))
        if len(outcomes) > 1 and all(after.memory is None for after, _ in outcomes):
            outcomes = [_met(before, outcomes)]
        return [self._returned(after.fork(), call, value) for after, value in outcomes]

    def _returned(self, state: State, call: Instruction, value: Datum) -> State:
        if call.range is not None:
            result = bits(value, call.text)
            low, high = (z3.BitVecVal(limit, result.width) for limit in call.range)
            outside = z3.UGE(result.z - low, high - low)
            value = Bits(result.z, any_of(result.poison, outside))
        if call.result is not None:
            state.registers[call.result] = value
        return state

    def _intrinsic(self, state: State, call: Instruction, arguments: list[Datum]) -> Datum:
        name = call.name.removeprefix("llvm.")
        if name.startswith("prefetch."):
            return Opaque()
        if name == "assume":
            self.must(state, "what is to be assumed", bits(arguments[0], call.text).z == 1)
            return Opaque()
        match = re.fullmatch(r"(.+)\.i(\d+)", name)
        operation = INTRINSICS.get(match[1]) if match else None
        if operation is None:
            raise UnknownIR(f"{call.name!r} is not known here, in the LLVM IR: {call.text}")
        return operation(*(bits(argument, call.text) for argument in arguments))


def width(kind: Type) -> int:
    """Of an integer type, in bits. Raises UnknownIR."""
    if isinstance(kind, Integer):
        return kind.bits
    raise UnknownIR(f"a number of type {kind}, in the LLVM IR")


def _members(kind: Type, offset: int = 0) -> Iterator[tuple[int, Type]]:
    """The numbers and pointers in a variable of some type, by where they lie in it."""
    if isinstance(kind, Integer | Pointer):
        yield offset, kind
    else:
        for index, part in enumerate(parts_of(kind)):
            yield from _members(part, offset + offset_of(kind, index))


def _met(before: int, outcomes: list[Outcome]) -> Outcome:
    """Several paths through a callee as one: what differs depends on which was taken."""
    last, value = outcomes[-1]
    slots = dict(last.slots)
    for state, other in outcomes[-2::-1]:
        taken = z3.And(*state.path[before:])
        value = merged(taken, other, value)
        for slot in slots.keys() | state.slots.keys():
            if slot in slots and slot in state.slots:
                slots[slot] = merged(taken, state.slots[slot], slots[slot])
            else:  # a variable of the callee, which is gone
                slots.pop(slot, None)
    return replace(last, path=last.path[:before], slots=slots), value
