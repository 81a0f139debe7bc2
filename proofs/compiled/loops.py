"""Claims about a compiled function with loops: run it, one turn of each loop, and state what must hold.

As numba makes it, each loop of Python's is one loop, its variables have their names and a call is a call.
A loop is proved by an invariant at its header, and ends because a number of its grows and is bounded.
A callee is taken by its *contract*: what another claim shows of it, wherever what that claim assumes is
shown to hold.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import z3

from model.boundary.docstring import docstring
from proofs.compiled import source
from proofs.compiled.functions import DIVISORS, full_name
from proofs.compiled.ir import Integer, Pointer, Type, UnknownIR
from proofs.compiled.machine import Contract, Loop, Machine, Memory, State
from proofs.compiled.values import (
    Bits,
    Datum,
    Opaque,
    Slot,
    all_of,
    bits,
    number,
    poison,
    slot,
)
from proofs.prover.obligation import CLAIMS, Claim, Control, Proof
from proofs.prover.symbolic import Truth, Word

#: numba names a variable after Python's, and numbers its lives in the order of Python's bytecode. Under
#: these the names at the headers of the loops are the same; under another a true claim might be refuted.
PYTHONS = ("3.11", "3.12", "3.13")
WORD = z3.BitVecSort(64)
#: A statement with its name.
Part = tuple[str, z3.BoolRef]
M = TypeVar("M")


def a_word(name: str) -> z3.BitVecRef:
    """A variable for a 64-bit word."""
    return z3.BitVec(name, 64)


def memory_of(state: State, kind: type[M]) -> M:
    """The memory, which is of this kind. Raises UnknownIR."""
    if not isinstance(state.memory, kind):
        raise UnknownIR(f"no {kind.__name__} memory")
    return state.memory


def variable(machine: Machine, state: State, name: str) -> Slot:
    """The variable of the function that runs, by the name that numba gives it. Raises UnknownIR."""
    place = Slot(f"{state.frame}:{name}")
    if place.region not in machine.layouts:
        raise UnknownIR(f"there is no variable {name!r} in the LLVM IR")
    return place


def held(machine: Machine, state: State, name: str) -> z3.BitVecRef:
    """What a variable holds."""
    return bits(state.slots[variable(machine, state, name)], name).z


def hold(machine: Machine, state: State, **values: z3.BitVecRef) -> None:
    """Let variables hold these; a dot in a name is written as two underscores."""
    for name, value in values.items():
        state.slots[variable(machine, state, name.replace("__", "."))] = Bits(value)


def _nothing(now: z3.BitVecRef) -> list[Part]:
    return []


@dataclass(frozen=True)
class Counted(Loop):
    """A loop over a number that grows: ``reads`` it off the variables, ``writes`` sets them to it.

    ``holds`` is the invariant for a value of that number. A turn starts from any value that meets it.
    """

    name: str
    reads: Callable[[Machine, State], z3.BitVecRef]
    writes: Callable[[Machine, State, z3.BitVecRef], None]
    holds: Callable[[Machine, State, z3.BitVecRef], list[Part]]
    #: What follows from the invariant and is said once, so that the solver need not find it.
    follows: Callable[[z3.BitVecRef], list[Part]] = _nothing
    #: What is assumed of the number, at each turn: an instance of what the claim assumes of all.
    given: Callable[[z3.BitVecRef], z3.BoolRef] = lambda now: z3.BoolVal(True)
    #: What a turn from one number to the next does, beyond keeping the invariant.
    turn: Callable[[State, z3.BitVecRef, z3.BitVecRef], list[Part]] = lambda state, was, now: []
    #: The conditions of every path on which a turn begins: they must not contradict each other.
    begun: list[tuple[z3.BoolRef, ...]] = field(default_factory=list)
    #: The same of every path on which one ends: contracts, too, are assumed on the way.
    turned: list[z3.BoolRef] = field(default_factory=list)

    def arrive(self, machine: Machine, state: State, again: bool) -> None:
        now = z3.simplify(self.reads(machine, state))
        if again:
            self.turned.append(all_of(state.path))
            before = state.notes[self.name]
            for name, goal in self.turn(state, before, now):
                machine.must(state, name, goal)
            machine.must(state, f"{self.name} come to an end", z3.ULT(before, now))
        for name, goal in self.holds(machine, state, now):
            machine.must(state, f"{name}, {'kept' if again else 'at the start'}", goal)

    def enter(self, machine: Machine, state: State) -> None:
        now = machine.fresh(WORD, self.name)
        self.writes(machine, state, now)
        known = [*(goal for _, goal in self.holds(machine, state, now)), self.given(now)]
        state.path += [goal for goal in map(z3.simplify, known) if not z3.is_true(goal)]
        for name, goal in self.follows(now):
            machine.must(state, name, goal)
            state.path.append(goal)
        state.notes[self.name] = now
        self.begun.append(tuple(state.path))


def over_range(
    name: str,
    total: Callable[[State], z3.BitVecRef],
    writes: Callable[[Machine, State, z3.BitVecRef], None],
    holds: Callable[[Machine, State, z3.BitVecRef], list[Part]],
    *,
    first: Callable[[State], z3.BitVecRef] = lambda state: number(0).z,
    step: int = 1,
    given: Callable[[z3.BitVecRef], z3.BoolRef] = lambda now: z3.BoolVal(True),
) -> Counted:
    """A loop over a range of ``total`` numbers, ``step`` apart from ``first`` on: how many are done.

    ``writes`` sets variables and memory to that, ``holds`` is what is true of it then.
    """

    def iterator(state: State) -> tuple[str, Slot, Slot]:
        """numba's iterator over a range: its variable, the next value's, that of how many are left."""
        for place, following in state.slots.items():
            left = state.slots.get(replace(place, offset=24))
            in_this = place.region.startswith(f"{state.frame}:$phi") and place.offset == 0
            if in_this and isinstance(following, Slot) and isinstance(left, Slot):
                return place.region, following, left
        raise UnknownIR("there is no iterator over a range in the LLVM IR")

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        _, _, left = iterator(state)
        return total(state) - bits(state.slots[left], "how many are left").z

    def set_to(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        region, following, left = iterator(state)
        state.slots[following] = Bits(first(state) + step * done)
        state.slots[left] = Bits(total(state) - done)
        state.slots[Slot(region, 16)] = number(step)
        writes(machine, state, done)

    def known(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        region, following, _ = iterator(state)
        next_ = bits(state.slots[following], "the next").z
        return [
            ("one after the other", next_ == first(state) + step * done),
            ("the step stays", bits(state.slots[Slot(region, 16)], "the step").z == step),
            ("there are no more than all", z3.ULE(done, total(state))),
            *holds(machine, state, done),
        ]

    return Counted(name, reads, set_to, known, given=given)


@dataclass(frozen=True)
class Change:
    """One thing broken in a function's text: the first match of a pattern replaced.

    ``refutes`` names the obligation at which that must be refuted.
    """

    name: str
    pattern: str
    new: str
    refutes: str

    def made(self, text: str) -> str:
        """The text with that broken. Raises UnknownIR if there is no such thing in it."""
        broken, changed = re.subn(self.pattern, self.new, text, count=1)
        if not changed:
            raise UnknownIR(f"there is nothing to break by {self.name!r}, in the LLVM IR")
        return broken


#: What must be refused: a function by its full name, and what is broken in it.
CHANGES: dict[str, tuple[Change, ...]] = {}
#: The claim about each function, by their full names.
CLAIM_OF: dict[str, str] = {}


def symbol(name: str) -> str:
    """The symbol of a compiled function by its full name. Raises UnknownIR."""
    return source.kernels().symbol(name)


def run(
    p: Proof,
    name: str,
    arguments: list[z3.BitVecRef],
    loops: list[Counted],
    memory: Memory | None,
    result: Type,
    after: Callable[[State], Iterable[Part]],
    contracts: Mapping[str, Contract] | None = None,
) -> None:
    """State every obligation of a function; ``loops`` are its loops, the outer one first."""
    kernels = source.kernels()
    if kernels.python not in PYTHONS:
        raise UnknownIR(f"what numba names the variables of a loop under Python {kernels.python}")
    texts = dict(kernels.texts[source.AS_MADE])
    own = symbol(name)
    for change in CHANGES.get(name, ()):
        if p.mutant == change.name:
            texts[own] = change.made(texts[own])
    headers = Machine(texts).function(own).loops
    if len(headers) != len(loops):
        raise UnknownIR(f"{name} has {len(headers)} loops, and not {len(loops)}, in the LLVM IR")
    by_size = sorted(headers, key=lambda header: len(headers[header]), reverse=True)
    known = {(own, header): loop for header, loop in zip(by_size, loops, strict=True)}
    machine = Machine(texts, contracts, known)
    places: list[Datum] = [machine.place("result", result), machine.place("exception", Pointer())]
    start = State(slots={Slot("exception"): Opaque()}, memory=memory)
    ends = []
    for state, code in machine.run(own, [*places, *map(Bits, arguments)], start):
        ends.append(all_of(state.path))
        machine.must(state, "no exception is raised", bits(code, name).z == 0)
        for offset, kind in machine.layouts["result"].items():
            value = state.slots.get(Slot("result", offset), poison(kind))
            machine.defined(state, "the result", value)
        for what, goal in after(state):
            machine.must(state, what, goal)
    if not ends:
        raise UnknownIR(f"{name} never returns, in the LLVM IR")
    p.possible("it comes to an end", Truth(z3.Or(*ends)))
    for loop in loops:
        for path in loop.begun:
            p.possible(f"there are {loop.name}", *map(Truth, path))
        if not loop.turned:
            raise UnknownIR(f"no turn of {loop.name} comes to its end, in the LLVM IR")
        p.possible(f"a turn of {loop.name} comes to its end", Truth(z3.Or(*loop.turned)))
    for o in machine.obligations:
        p.prove(o.name, Truth(z3.Implies(all_of(o.path), o.goal)), keep=False)
    p.compiled = True
    p.reached = set(machine.visits)


def results(state: State, count: int) -> list[z3.BitVecRef]:
    """The words that a function has returned. (That none is poison is stated by ``run``.)"""
    places = [Slot("result", 8 * index) for index in range(count)]
    nothing = poison(Integer(64))
    return [bits(state.slots.get(place, nothing), "a result").z for place in places]


def arguments(machine: Machine, state: State, values: list[Datum], what: str) -> list[z3.BitVecRef]:
    """The numbers that a callee is given, behind the places of its result and its exception."""
    return [bits(machine.defined(state, "an argument", v), what).z for v in values[2:]]


def returned(state: State, values: list[Datum], *found: z3.BitVecRef) -> Datum:
    """What a callee returns: its results go where it was told to put them, and it raises nothing."""
    place = slot(values[0], "a result") if found else Slot("")
    for index, result in enumerate(found):
        offset = place.offset + index * result.size() // 8
        state.slots[replace(place, offset=offset)] = Bits(result)
    return number(0, 32)


def shown(machine: Machine, state: State, name: str, goal: z3.BoolRef) -> None:
    """State an obligation, and use it from here on."""
    machine.must(state, name, goal)
    state.path.append(goal)


def of_the_model(lift: Callable[[Callable[..., Any]], Callable[..., Any]]) -> dict[str, Contract]:
    """The contracts of the functions of ``model/``: each is the model's own."""
    kernels = source.kernels()

    def contract(function: Callable[..., object]) -> Contract:
        def call(machine: Machine, state: State, values: list[Datum]) -> Datum:
            given = [Word(a) for a in arguments(machine, state, values, full_name(function))]
            found = lift(function)(*given)
            return returned(state, values, *_numbers(found))

        return call

    return {
        kernels.symbol(full_name(function)): contract(function)
        for function, divisors in DIVISORS.items()
        if not divisors and len(kernels.symbols.get(full_name(function), ())) == 1
    }


def _numbers(found: object) -> Iterator[z3.BitVecRef]:
    """Results as they lie in memory: a truth is a byte."""
    for result in found if isinstance(found, tuple) else (found,):
        if isinstance(result, Truth):
            yield z3.If(result.z, number(1, 8).z, number(0, 8).z)
        elif isinstance(result, Word):
            yield result.z


def claim(name: str, state: Callable[[Proof], None], *changes: Change) -> None:
    """Register a slow claim about a kernel, by its module's and its own name, with its controls."""
    CHANGES[f"impl.kernels.{name}"] = changes
    controls = tuple(Control(c.name, refutes=c.refutes, mutant=c.name) for c in changes)
    made = Claim(f"compiled.{name}", docstring(state), state, controls, slow=True)
    CLAIMS[made.name] = made
    CLAIM_OF[f"impl.kernels.{name}"] = made.name
