"""The memories beneath the protocols: litmus tests, and random programs against the models' axioms."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import pytest

from model.explore.weak.memory import Fence, Order, SequentiallyConsistent, State, Update, Value
from model.explore.weak.release_acquire import ReleaseAcquire
from model.explore.weak.store_buffers import StoreBuffers
from tests.model.axioms import (
    Exchange,
    Execution,
    Instruction,
    Load,
    MakeMemory,
    Program,
    Store,
    by_axioms,
    by_machine,
    rc11,
    x86,
)

RELAXED, ACQUIRE, RELEASE, ACQ_REL = Order.RELAXED, Order.ACQUIRE, Order.RELEASE, Order.ACQ_REL
PLAIN, STREAMING, SEQ_CST = Order.PLAIN, Order.STREAMING, Order.SEQ_CST

watched = partial(ReleaseAcquire, racy=("d",))
mistrusted = partial(StoreBuffers, locked_drain_streams=False)


def shapes(w: Order, r: Order) -> dict[str, tuple[Program, dict[str, Value]]]:
    """The classical tests, by name: a program, and the outcome that is asked for."""

    def store(word: str, value: Value = 1) -> Store:
        return Store(word, value, w)

    def load(word: str, register: str) -> Load:
        return Load(word, register, r)

    x, y, z = store("x"), store("y"), store("z")
    return {
        "SB": ([[x, load("y", "a")], [y, load("x", "b")]], {"a": 0, "b": 0}),
        "MP": ([[x, y], [load("y", "a"), load("x", "b")]], {"a": 1, "b": 0}),
        "LB": ([[load("x", "a"), y], [load("y", "b"), x]], {"a": 1, "b": 1}),
        "S": ([[store("x", 2), y], [load("y", "a"), x]], {"a": 1, "x": 2}),
        "R": ([[x, y], [store("y", 2), load("x", "a")]], {"a": 0, "y": 2}),
        "2+2W": ([[x, store("y", 2)], [y, store("x", 2)]], {"x": 1, "y": 1}),
        "IRIW": (
            [[x], [y], [load("x", "a"), load("y", "b")], [load("y", "c"), load("x", "d")]],
            {"a": 1, "b": 0, "c": 1, "d": 0},
        ),
        "WRC": (
            [[x], [load("x", "a"), y], [load("y", "b"), load("x", "c")]],
            {"a": 1, "b": 1, "c": 0},
        ),
        "ISA2": (
            [[x, y], [load("y", "a"), z], [load("z", "b"), load("x", "c")]],
            {"a": 1, "b": 1, "c": 0},
        ),
        "CoRR": ([[x], [load("x", "a"), load("x", "b")]], {"a": 1, "b": 0}),
        "CoWR": ([[x, load("x", "a")], [store("x", 2)]], {"a": 2, "x": 1}),
    }


#: Which of them each memory allows. Alglave, Maranget, Tautschnig, Herding Cats, TOPLAS 2014 (SC, TSO);
#: Lahav et al., PLDI 2017 (RC11, which forbids LB).
ALLOWED: Mapping[str, tuple[MakeMemory, Order, Order, set[str]]] = {
    "sc": (SequentiallyConsistent, SEQ_CST, SEQ_CST, set()),
    "tso": (StoreBuffers, RELAXED, RELAXED, {"SB", "R"}),
    "rel/acq": (ReleaseAcquire, RELEASE, ACQUIRE, {"SB", "R", "2+2W", "IRIW"}),
    "relaxed": (
        ReleaseAcquire,
        RELAXED,
        RELAXED,
        {"SB", "MP", "S", "R", "2+2W", "IRIW", "WRC", "ISA2"},
    ),
}


def allows(make: MakeMemory, program: Program, outcome: dict[str, Value]) -> bool:
    return any(outcome.items() <= set(found) for found in by_machine(make, program).outcomes)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_memory_allows_the_classical_tests_that_it_should(name: str) -> None:
    make, w, r, allowed = ALLOWED[name]
    tests = shapes(w, r)
    assert len(tests) == 11
    assert {shape for shape, test in tests.items() if allows(make, *test)} == allowed


def message(*data_and_flag: Instruction) -> Program:
    """A message is passed: some stores of ``x`` and then ``y``; y is read, then x."""
    return [data_and_flag, [Load("y", "a", RELAXED), Load("x", "b", RELAXED)]]


def twice(*between: Instruction) -> Program:
    """Store buffering, with something between each store and load."""
    return [
        [Store("x", 1, RELAXED), *between, Load("y", "a", RELAXED)],
        [Store("y", 1, RELAXED), *between, Load("x", "b", RELAXED)],
    ]


STREAM, MOVE = Store("x", 1, STREAMING), Store("y", 1, RELAXED)
SWAP = Store("y", 1, SEQ_CST)
LOCKED = Exchange("y", 1, "r", SEQ_CST)
MISSED, NEITHER = {"a": 1, "b": 0}, {"a": 0, "b": 0}

#: Streaming stores, fences, exchanges: (what, memory, program, outcome, is it allowed?).
MORE: Sequence[tuple[str, MakeMemory, Program, dict[str, Value], bool]] = (
    ("stream, then move", StoreBuffers, message(STREAM, MOVE), MISSED, True),
    (
        "move, then stream",
        StoreBuffers,
        message(Store("x", 1, RELAXED), Store("y", 1, STREAMING)),
        MISSED,
        True,
    ),
    ("two streams", StoreBuffers, message(STREAM, Store("y", 1, STREAMING)), MISSED, True),
    ("stream, sfence, move", StoreBuffers, message(STREAM, Fence.SFENCE, MOVE), MISSED, False),
    ("stream, xchg", StoreBuffers, message(STREAM, SWAP), MISSED, False),
    ("stream, locked", StoreBuffers, message(STREAM, LOCKED), MISSED, False),
    ("stream, xchg, mistrusted", mistrusted, message(STREAM, SWAP), MISSED, True),
    ("stream, locked, mistrusted", mistrusted, message(STREAM, LOCKED), MISSED, True),
    ("fenced, mistrusted", mistrusted, message(STREAM, Fence.SFENCE, SWAP), MISSED, False),
    ("one word in order", StoreBuffers, [[STREAM, Store("x", 2, STREAMING)]], {"x": 1}, False),
    ("read back", StoreBuffers, [[STREAM, Load("x", "a", RELAXED)]], {"a": 0}, False),
    ("SB, sfence", StoreBuffers, twice(Fence.SFENCE), NEITHER, True),
    ("SB, mfence", StoreBuffers, twice(Fence.MFENCE), NEITHER, False),
    (
        "SB, xchg",
        StoreBuffers,
        [[Store("x", 1, SEQ_CST), Load("y", "a", RELAXED)], [SWAP, Load("x", "b", RELAXED)]],
        NEITHER,
        False,
    ),
    (
        "release sequence through a relaxed exchange",
        ReleaseAcquire,
        [
            [Store("x", 1, RELAXED), Store("y", 1, RELEASE)],
            [Exchange("y", 2, "r", RELAXED)],
            [Load("y", "a", ACQUIRE), Load("x", "b", RELAXED)],
        ],
        {"r": 1, "a": 2, "b": 0},
        False,
    ),
    (
        "no release sequence through a store",
        ReleaseAcquire,
        [
            [Store("x", 1, RELAXED), Store("y", 1, RELEASE), Store("y", 2, RELAXED)],
            [Load("y", "a", ACQUIRE), Load("x", "b", RELAXED)],
        ],
        {"a": 2, "b": 0},
        True,
    ),
    (
        "two exchanges take one value",
        ReleaseAcquire,
        [[Exchange("x", 1, "a", RELAXED)], [Exchange("x", 2, "b", RELAXED)]],
        NEITHER,
        False,
    ),
    (
        "an exchange before a store that came first",
        ReleaseAcquire,
        [[Store("x", 5, RELAXED)], [Exchange("x", 1, "a", RELAXED)]],
        {"a": 0, "x": 5},
        True,
    ),
)


@pytest.mark.parametrize(
    ("make", "program", "outcome", "allowed"), [t[1:] for t in MORE], ids=[t[0] for t in MORE]
)
def test_streaming_stores_fences_and_exchanges(
    make: MakeMemory, program: Program, outcome: dict[str, Value], allowed: bool
) -> None:
    assert allows(make, program, outcome) == allowed


D = Store("d", 1, PLAIN)
RACES: Mapping[str, tuple[Program, bool]] = {
    "handed over": ([[D, Store("f", 1, RELEASE)], [Load("f", "a", ACQUIRE)]], False),
    "plain and plain": ([[D], [Load("d", "a", PLAIN)]], True),
    "plain and atomic": ([[D], [Load("d", "a", RELAXED)]], True),
    "atomic and atomic": ([[Store("d", 1, RELAXED)], [Load("d", "a", RELAXED)]], False),
    "two loads": ([[Load("d", "a", PLAIN)], [Load("d", "b", PLAIN)]], False),
    "a relaxed flag": (
        [[D, Store("f", 1, RELAXED)], [Exchange("f", 2, "a", ACQ_REL), Load("d", "b", PLAIN)]],
        True,
    ),
    "by an exchange that may come first": (
        [[D, Store("f", 1, RELEASE)], [Exchange("f", 2, "a", ACQ_REL), Load("d", "b", PLAIN)]],
        True,
    ),
}


@pytest.mark.parametrize("name", RACES)
def test_data_races_are_found(name: str) -> None:
    program, races = RACES[name]
    assert by_machine(watched, program).raced == races


# Random programs.

#: How many accesses each thread makes.
SIZES = ((2, 2), (2, 2), (3, 2), (3, 3), (2, 2, 1), (2, 2, 2), (1, 2, 2), (1, 1, 2, 2))


@dataclass(frozen=True)
class Model:
    """A machine and the axioms it is to agree with; the orders and fences that programs draw from."""

    machine: MakeMemory
    consistent: Callable[[Execution], bool]
    stores: Sequence[Order]
    loads: Sequence[Order]
    exchanges: Sequence[Order]
    fences: Sequence[Fence]

    def program(self, rng: random.Random) -> Program:
        """Threads turn from word to word, with now and then a fence: so there is something to see."""
        values, registers = count(1), (f"r{i}" for i in count())

        def access(word: str) -> Instruction:
            match rng.choice("SSSLLLX"):
                case "S":
                    return Store(word, next(values), rng.choice(self.stores))
                case "L":
                    return Load(word, next(registers), rng.choice(self.loads))
                case _:
                    order = rng.choice(self.exchanges)
                    return Exchange(word, next(values), next(registers), order)

        def thread(size: int) -> Iterator[Instruction]:
            word = rng.choice("xy")
            for number in range(size):
                if number and self.fences and rng.random() < 0.3:
                    yield rng.choice(self.fences)
                yield access(word)
                if rng.random() < 0.8:
                    word = "y" if word == "x" else "x"

        return [list(thread(size)) for size in rng.choice(SIZES)]

    def differences(self, programs: int, seed: int) -> Iterator[Program]:
        """The programs on which the two do not agree."""
        rng = random.Random(seed)
        for _ in range(programs):
            program = self.program(rng)
            allowed = by_axioms(program, self.consistent)
            if by_machine(self.machine, program).outcomes != allowed:
                yield program


RC11 = Model(
    ReleaseAcquire,
    rc11,
    (RELAXED, RELEASE),
    (RELAXED, ACQUIRE),
    (RELAXED, ACQUIRE, RELEASE, ACQ_REL),
    (),
)
X86 = Model(
    StoreBuffers,
    x86,
    (RELAXED, STREAMING, STREAMING, SEQ_CST),
    (RELAXED,),
    (SEQ_CST,),
    (Fence.SFENCE, Fence.MFENCE),
)


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("model", [RC11, X86], ids=["rc11", "x86"])
def test_a_machine_does_what_its_axioms_allow(model: Model, part: int, long_run: bool) -> None:
    """Neither more nor less, on random programs: 600 of each model, 20,000 in the long profile."""
    assert list(model.differences(5000 if long_run else 150, seed=part)) == []


class HandsNothingOver(ReleaseAcquire):
    """Wrong: stores do not release."""

    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        return super().stores(state, thread, word, value, RELAXED)


class TakesNothingOver(ReleaseAcquire):
    """Wrong: loads do not acquire."""

    def loads(
        self, state: State, thread: int, word: str, order: Order
    ) -> list[tuple[Value, State]]:
        return super().loads(state, thread, word, RELAXED)


class EndsSequences(ReleaseAcquire):
    """Wrong: an exchange does not hand on what the store before it released."""

    def updates(self, state: State, thread: int, word: str, order: Order) -> list[Update]:
        messages, *rest = state
        bare = tuple(tuple(m._replace(view=None) for m in mine) for mine in messages)
        return super().updates((bare, *rest), thread, word, order)


class OneBuffer(StoreBuffers):
    """Wrong: streaming stores wait their turn."""

    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        return super().stores(state, thread, word, value, SEQ_CST if order is SEQ_CST else RELAXED)


@pytest.mark.parametrize(
    ("model", "machine"),
    [
        (RC11, HandsNothingOver),
        (RC11, TakesNothingOver),
        (RC11, EndsSequences),
        (X86, OneBuffer),
        (X86, mistrusted),
    ],
)
def test_a_wrong_machine_is_noticed(model: Model, machine: MakeMemory) -> None:
    assert next(replace(model, machine=machine).differences(500, seed=0), None)
