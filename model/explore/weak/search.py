"""Processes over a weak memory: every execution explored, any one of them replayed.

The step functions are those of the model, unchanged. Each touches one word of shared memory. Here the
*memory* (``model.explore.weak.memory``) says what a load sees, and the step is given that; every other
word is :data:`UNKNOWN` to it, so that a step which touches another one fails.

A schedule is a string as in ``model.explore``, with two things more: ``c'`` is a move of the
hardware (a store of ``c`` reaches memory), and ``c@2`` the second other way in which the memory may let
``c`` take its step (an older value is read, say).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

from model.domain import Domain, select
from model.errors import ColoError, ScheduleError
from model.explore.search import Explored, Failure
from model.explore.weak.memory import DataRace, Memory, Order, Value
from model.page.picture import Picture, Place, drawn
from model.transitions import DEADLOCK, ENDED, FOR_EVER, LIVELOCK, STOPPED

DRAIN, SPURIOUS, STOP = "'", "~", "!"
NAMES = "c123456789"


class TouchesAnotherWordError(ColoError):
    """A step depends on, or changes, a word that it is not said to touch."""


class Unknown:
    """A word that a step must not depend on: what is made of it is unknown too."""

    def _unknown(self, *_: Any) -> "Unknown":
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mod__ = __invert__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __eq__ = __ne__ = _unknown  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> Any:
        return False if other is False else self

    def __or__(self, other: Any) -> Any:
        return True if other is True else self

    __rand__, __ror__ = __and__, __or__

    def __bool__(self) -> bool:
        raise TouchesAnotherWordError("a step depends on a word that it is not said to touch")


UNKNOWN = Unknown()


def _select(condition: Any, then: Any, otherwise: Any) -> Any:
    if isinstance(condition, Unknown):
        return then if then is otherwise else UNKNOWN
    return then if condition else otherwise


def with_unknown_words(
    primitives: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Domain:
    """Plain integers of which some are unknown."""
    return Domain(int, {select: _select, **(primitives or {})})


class Wrong(Exception):
    """A property does not hold."""


class Stage(NamedTuple):
    """A process in the middle of its step: how many parts of it are done, and a value kept."""

    me: Any
    done: int = 0
    kept: Value = 0


class State(NamedTuple):
    """A state: what is not in the memory, each process, and the memory."""

    apart: Any
    stages: tuple[Stage, ...]
    memory: Any


class Move(NamedTuple):
    """What may happen next: its name in a schedule, what it is, and the state after it, or what fails."""

    label: str
    text: str
    after: State | None
    failure: str | None = None


#: A process's step done in one way: what is not in the memory, the process, the memory.
Outcome = tuple[Any, Stage, Any]


class OverMemory(ABC):
    """Processes whose accesses go to a memory. A subclass says what their steps are."""

    name: str
    memory: Memory
    first: State
    orders: dict[str, Order]
    """the order of each access by its row, if not sequentially consistent"""

    @abstractmethod
    def outcomes(self, state: State, thread: int) -> Iterator[Outcome]:
        """Every way in which a process may take its step. Raises Wrong where a property fails."""

    @abstractmethod
    def text(self, stage: Stage) -> str:
        """What the step does, in words."""

    def accidents(self, state: State, thread: int) -> Iterator[tuple[str, Outcome]]:
        """What else may befall a process: (SPURIOUS or STOP, outcome)."""
        return iter(())

    @abstractmethod
    def is_final(self, state: State) -> bool:
        """May everybody stand still here?"""

    def broken(self, state: State) -> str | None:
        """A property of states that this one does not have."""
        return None

    def moves(self, state: State) -> list[Move]:
        """All that may happen in a state; if a property fails in one of them, that one alone."""
        found: list[Move] = []
        for thread, stage in enumerate(state.stages):
            if stage.me.pc in (STOPPED, ENDED):
                continue
            name, text = NAMES[thread], self.text(stage)
            try:
                outcomes = list(self.outcomes(state, thread))
            except DataRace as race:
                return [Move(name, text, None, f"data race on {race}")]
            except Wrong as wrong:
                return [Move(name, text, None, str(wrong))]
            found += [
                Move(name + _other(way), text, self._after(state, thread, outcome))
                for way, outcome in enumerate(outcomes)
            ]
            found += [
                Move(name + kind, text, self._after(state, thread, outcome))
                for kind, outcome in self.accidents(state, thread)
            ]
        ways = dict[int, int]()
        for thread, memory in self.memory.drains(state.memory):
            way = ways[thread] = ways.get(thread, -1) + 1
            text = "a store reaches memory"
            found.append(
                Move(NAMES[thread] + DRAIN + _other(way), text, state._replace(memory=memory))
            )
        return found

    def _after(self, state: State, thread: int, outcome: Outcome) -> State:
        apart, stage, memory = outcome
        if stage.me.pc in (STOPPED, ENDED):
            memory = self.memory.without(memory, thread)
        stages = (*state.stages[:thread], stage, *state.stages[thread + 1 :])
        return State(apart, stages, memory)

    def shown(self, word: str, value: Value) -> str:
        """The value of a word, or of a process's local, for people."""
        return str(value)

    def order(self, row: str) -> Order:
        """The order of the access in a row of the table."""
        return self.orders.get(row, Order.SEQ_CST)

    def one(self, memory: Any, thread: int, word: str, otherwise: str) -> tuple[Value, Any]:
        """The value and memory of a plain load; if it may see several values, ``otherwise`` fails."""
        found = self.memory.loads(memory, thread, word, Order.PLAIN)
        if len({value for value, _ in found}) > 1:
            raise Wrong(otherwise)
        return found[-1]


def _other(way: int) -> str:
    return f"@{way}" if way else ""


def explore(system: OverMemory, limit: int = 0) -> Explored:
    """Visit every state, breadth first; stop at the first that fails, by a shortest schedule.

    If none fails, look for one from which no final state can be reached, whatever is scheduled: a
    livelock, whose schedule ends in ``|``. ``limit``, if not 0, is the number of states after which to
    give up with MemoryError.
    """
    search = _Search(system)
    for number, state in enumerate(search.states):
        if failure := search.expand(number, state):
            return Explored(len(search.states), search.transitions, failure)
        if limit and len(search.states) > limit:
            raise MemoryError(f"{system.name}: more than {limit} states")
    return Explored(len(search.states), search.transitions, search.livelock())


class _Search:
    """The states met so far, by number, each with how it was met and from which states it is reached."""

    def __init__(self, system: OverMemory) -> None:
        self.system = system
        self.states = [system.first]
        self.transitions = 0
        self._number = {system.first: 0}
        self._met: list[tuple[int, str]] = [(0, "")]
        self._before: list[list[int]] = [[]]
        self._final: list[int] = []

    def expand(self, number: int, state: State) -> Failure | None:
        """Add the states after this one; what fails here, if anything does."""
        if failure := self.system.broken(state):
            return Failure(failure, self.schedule(number))
        stuck = True
        for move in self.system.moves(state):
            if move.after is None:
                return Failure(str(move.failure), self.schedule(number, move.label))
            self.transitions += 1
            after = self._number.setdefault(move.after, len(self.states))
            if after == len(self.states):
                self.states.append(move.after)
                self._met.append((number, move.label))
                self._before.append([])
            if SPURIOUS not in move.label and STOP not in move.label:
                stuck = False
                self._before[after].append(number)
        if self.system.is_final(state):
            self._final.append(number)
        elif stuck:
            return Failure(DEADLOCK, self.schedule(number))
        return None

    def livelock(self) -> Failure | None:
        """The first state met from which steps lead to no final state. (A step may be the hardware's.)"""
        ends, waiting = set(self._final), list(self._final)
        while waiting:
            found = [n for n in self._before[waiting.pop()] if n not in ends]
            ends.update(found)
            waiting += found
        trapped = next((n for n in range(len(self.states)) if n not in ends), None)
        return None if trapped is None else Failure(LIVELOCK, self.schedule(trapped, FOR_EVER))

    def schedule(self, number: int, *last: str) -> str:
        """The schedule by which a state was met, and what follows it."""
        labels = list(last)
        while number:
            number, label = self._met[number]
            labels.append(label)
        return format_schedule(labels[::-1])


def format_schedule(labels: list[str]) -> str:
    """A schedule as a string: ``c*9 1*3 c' 1@2``."""
    runs: list[tuple[str, int]] = []
    for label in labels:
        count = runs.pop()[1] if runs and runs[-1][0] == label else 0
        runs.append((label, count + 1))
    return " ".join(label + (f"*{count}" if count > 1 else "") for label, count in runs)


def replay(system: OverMemory, schedule: str) -> Iterator[tuple[Move, State]]:
    """Each move of a schedule and the state before it. ScheduleError at one that is not possible.

    The last move may be one that fails. What fails in the state at the end is told by a move without a
    label: an invariant, a deadlock, or, if the schedule ends in ``|``, that no final state can be
    reached.
    """
    state = system.first
    schedule, for_ever, _ = schedule.partition(FOR_EVER)
    for number, label in enumerate(_labels(schedule), start=1):
        move = next((m for m in system.moves(state) if m.label == label), None)
        if move is None:
            raise ScheduleError(f"{system.name}: move {number}, {label}, is not possible")
        yield move, state
        if move.after is None:
            return
        state = move.after
    failure = system.broken(state)
    if not failure and not system.is_final(state):
        if all(SPURIOUS in m.label or STOP in m.label for m in system.moves(state)):
            failure = DEADLOCK
        elif for_ever and not _may_end(system, state):
            failure = LIVELOCK
    if failure:
        yield Move("", "", None, failure), state


def _may_end(system: OverMemory, state: State) -> bool:
    """Can a final state be reached?"""
    seen, waiting = {state}, [state]
    while waiting:
        state = waiting.pop()
        if system.is_final(state):
            return True
        for move in system.moves(state):
            if move.after not in seen and not (SPURIOUS in move.label or STOP in move.label):
                if move.after is None:
                    return True  # it fails before: not a livelock
                seen.add(move.after)
                waiting.append(move.after)
    return False


def _labels(schedule: str) -> Iterator[str]:
    for word in schedule.split():
        label, times, count = word.partition("*")
        if times and not count.isdigit():
            raise ScheduleError(f"schedule: cannot read {word!r}")
        yield from repeat(label, int(count or 1))


def replay_lines(system: OverMemory, schedule: str) -> Iterator[str]:
    """A replay in lines: each move, what it changed and, last, what fails."""
    for move, before in replay(system, schedule):
        if move.label:
            text = f"{move.label}  {move.text}" + _changes(system, before, move.after)
            yield drawn(text, picture(system, move.after or before, move.label[0]))
        if move.failure:
            yield f"FAILS: {move.failure}"


def picture(system: OverMemory, state: State, moved: str = "") -> Picture:
    """A state: what is to be read in memory and in buffers, and what each process is about to do."""
    memory = {word: system.shown(word, value) for word, value in system.memory.values(state.memory)}
    processes = {
        f"process {name}": Place(_doing(system, stage), dict(_locals(system, stage.me)))
        for name, stage in zip(NAMES, state.stages, strict=False)
    }
    return Picture(memory=memory, processes=processes, moved=f"process {moved}" if moved else "")


def _doing(system: OverMemory, stage: Stage) -> str:
    if stage.me.pc == STOPPED:
        return "is never scheduled again"
    return "has ended" if stage.me.pc == ENDED else f"is about to: {system.text(stage)}"


def _locals(system: OverMemory, me: Any) -> Iterator[tuple[str, str]]:
    for name, value in zip(me._fields, me, strict=True):
        if hasattr(value, "_fields"):
            yield from _locals(system, value)
        elif value and name not in ("pc", "step"):
            yield name, system.shown(name, value)


def _changes(system: OverMemory, before: State, after: State | None) -> str:
    if after is None:
        return ""
    old, new = dict(system.memory.values(before.memory)), dict(system.memory.values(after.memory))
    changes = [
        f"{word} = {system.shown(word, value)}"
        for word, value in new.items()
        if old.get(word) != value
    ]
    for stage, stage_after in zip(before.stages, after.stages, strict=True):
        changes += _locals_changed(system, stage.me, stage_after.me)
    return f"   [{', '.join(changes)}]" if changes else ""


def _locals_changed(system: OverMemory, before: Any, after: Any) -> Iterator[str]:
    for field, old, new in zip(before._fields, before, after, strict=True):
        if hasattr(old, "_fields") and hasattr(new, "_fields"):
            yield from _locals_changed(system, old, new)
        elif old != new and field not in ("pc", "step"):
            yield f"{field}: {system.shown(field, old)} -> {system.shown(field, new)}"
