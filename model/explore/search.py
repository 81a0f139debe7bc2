"""Every interleaving of small-step processes: explored, counted, and any one of them replayed.

A :class:`System` is some shared memory and some processes. Each process stands at a *step*, at most
one access to shared memory; a schedule says whose step is next. :func:`explore` visits every state
that any schedule reaches, breadth first, and stops at the first state that violates an invariant or
in which nobody can move (a deadlock). If there is none it looks whether a *final* state, in which all has
come to its end, can still be reached from every state by steps alone: from where it cannot, processes
run for ever (a livelock). :func:`replay` runs one schedule.

Shared memory here is sequentially consistent: a step's effect is seen by all at once. What the real
code does to deserve that is listed in ``impl/README.md``.

A schedule is a short string of process names, each with a count and what happened:
``c*9 1*3 2 1~ c!`` is nine steps of ``c``, three of ``1``, one of ``2``, then a *spurious*
wake-up of ``1`` (its futex returns though nobody woke it), then ``c`` is never scheduled again. In
``c*3 | c*2`` the two steps after the bar lead back to where they began, and are taken for ever.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from model.explore.schedule import format_schedule, replay
from model.transitions import (
    DEADLOCK,
    FOR_EVER,
    LIVELOCK,
    STEP,
    L,
    Move,
    S,
    System,
    broken_invariant,
    outcomes_of,
)


class Failure(NamedTuple):
    """An invariant that is violated, and the schedule that leads there."""

    invariant: str
    schedule: str


class Explored(NamedTuple):
    """What an exploration saw. Complete unless there is a failure."""

    states: int
    transitions: int
    failure: Failure | None


State = tuple[int, ...]


class _Numbered(Generic[S, L]):
    """The system's states as tuples of small numbers: shared memory's, then each process's.

    A step is worked out once for each pair of shared memory and process; after that every state
    that has the pair in it finds the outcome in a table.
    """

    def __init__(self, system: System[S, L]) -> None:
        self.system = system
        self.number: dict[Any, int] = {}
        self.value: list[Any] = []
        self._moves: dict[tuple[int, int], list[tuple[str, int, int]]] = {}
        self._broken: dict[tuple[int, int], str | None] = {}
        self._fresh: dict[tuple[int, int], int] = {}

    def intern(self, value: Any) -> int:
        """The number of a shared memory or process."""
        if value not in self.number:
            self.number[value] = len(self.value)
            self.value.append(value)
        return self.number[value]

    def start(self) -> State:
        """The state that the system starts in."""
        return (self.intern(self.system.shared), *map(self.intern, self.system.processes))

    def moves(self, shared: int, process: int) -> list[tuple[str, int, int]]:
        """(kind, shared after, process after) for all that may happen to a process."""
        pair = (shared, process)
        if pair not in self._moves:
            outcomes = outcomes_of(self.system.steps, self.value[shared], self.value[process])
            self._moves[pair] = [
                (kind, self.intern(self.system.view_shared(after)), self.intern(me))
                for kind, after, me in outcomes
            ]
        return self._moves[pair]

    def after(self, state: State, position: int, shared: int, me: int) -> State:
        """The state after the process at ``position`` has become ``me`` in memory ``shared``."""
        after = (shared, *state[1:position], me, *state[position + 1 :])
        if self.system.view_local is None or shared == state[0]:
            return after
        return (shared, *(self.fresh(shared, process) for process in after[1:]))

    def fresh(self, shared: int, process: int) -> int:
        """The process without what no longer matters to it."""
        pair = (shared, process)
        if pair not in self._fresh and self.system.view_local is not None:
            self._fresh[pair] = self.intern(
                self.system.view_local(self.value[shared], self.value[process])
            )
        return self._fresh[pair]

    def broken(self, shared: int, process: int) -> str | None:
        """The invariant that this process, about to take its step, violates."""
        pair = (shared, process)
        if pair not in self._broken:
            self._broken[pair] = broken_invariant(
                self.system.steps, self.value[shared], self.value[process]
            )
        return self._broken[pair]

    def meaning(self, state: State) -> tuple[S, tuple[L, ...]]:
        """Shared memory and the processes that a state stands for."""
        return self.value[state[0]], tuple(self.value[number] for number in state[1:])

    def all_moves(self, state: State) -> Iterator[tuple[Move, State]]:
        """Every move from a state, and the state after it."""
        for position in range(1, len(state)):
            for kind, shared, me in self.moves(state[0], state[position]):
                yield Move(position - 1, kind), self.after(state, position, shared, me)


def explore(
    system: System[S, L],
    *,
    reduced: bool = True,
    limit: int = 0,
    visited: Callable[[S, tuple[L, ...]], None] | None = None,
) -> Explored:
    """Visit every state any schedule reaches; stop at the first that fails; then look for a livelock.

    The schedule of a failure is a shortest one, with the loop if it is a livelock. ``reduced``:
    of states that differ by a permutation of symmetric processes only one is
    visited. ``limit``, if not 0, is the number of states after which to give up with MemoryError;
    ``visited`` is called with each state.
    """
    search = _Search(system, reduced)
    for number, state in enumerate(search.states):
        if visited:
            visited(*search.table.meaning(state))
        invariant = search.broken_invariant(state) or search.expand(state)
        if invariant:
            failure = Failure(invariant, search.schedule(search.path(number)))
            return Explored(len(search.states), search.transitions, failure)
        if limit and len(search.states) > limit:
            raise MemoryError(f"{system.name}: more than {limit} states")
    return Explored(len(search.states), search.transitions, search.livelock())


class _Search(Generic[S, L]):
    """Breadth first: the states met so far, each with the one it was met from.

    Where the steps of a state lead is kept, state by state, for :meth:`livelock`.
    """

    def __init__(self, system: System[S, L], reduced: bool) -> None:
        self.system = system
        self.table = _Numbered(system)
        self.transitions = 0
        self._canonical = _sorting(system.symmetric_from) if reduced else _as_it_is
        start = self._canonical(self.table.start())
        self.states = [start]
        self._number = {start: 0}
        self._came_from = array("l", [-1])
        self._steps = array("l")
        self._steps_from = array("l", [0])
        self._everyone = tuple(range(1, len(start)))

    def broken_invariant(self, state: State) -> str | None:
        """The invariant that a process, about to take its step, violates."""
        for position in self._everyone:
            if invariant := self.table.broken(state[0], state[position]):
                return invariant
        return None

    def expand(self, state: State) -> str | None:
        """Add the new states one move away; DEADLOCK if nobody moves who should."""
        number = len(self._steps_from) - 1
        for position in self._everyone:
            for kind, shared, me in self.table.moves(state[0], state[position]):
                self.transitions += 1
                after = self._canonical(self.table.after(state, position, shared, me))
                found = self._number.setdefault(after, len(self.states))
                if found == len(self.states):
                    self.states.append(after)
                    self._came_from.append(number)
                if kind == STEP:
                    self._steps.append(found)
        self._steps_from.append(len(self._steps))
        if self._after(number) or self.system.is_final(self.table.meaning(state)[1]):
            return None
        return DEADLOCK

    def _after(self, number: int) -> "array[int]":
        """The states one step away."""
        return self._steps[self._steps_from[number] : self._steps_from[number + 1]]

    def livelock(self) -> Failure | None:
        """Once all states are known: the shortest way to run for ever, if no end can be reached."""
        trapped = self._trapped()
        best: tuple[list[int], list[int]] | None = None
        length = len(self.states) + 1
        for number in trapped:
            stem = self.path(number)
            if len(stem) >= length:
                break
            loop = self._shortest_loop(number, length - len(stem))
            if loop:
                best, length = (stem, loop), len(stem) + len(loop)
        if best is None:
            return None
        return Failure(LIVELOCK, self.schedule(*best))

    def _trapped(self) -> list[int]:
        """The states from which steps lead to no final state. (Where no step is possible is one.)"""
        ends = bytearray(not self._after(number) for number in range(len(self.states)))
        changed = True
        while changed:
            changed = False
            for number in reversed(range(len(self.states))):
                if not ends[number] and any(ends[after] for after in self._after(number)):
                    ends[number] = changed = True
        return [number for number, end in enumerate(ends) if not end]

    def _shortest_loop(self, start: int, below: int) -> list[int]:
        """The states of a shortest way from ``start`` back to it, of fewer than ``below`` steps."""
        came_from: dict[int, int] = {}
        frontier = [start]
        for _ in range(below - 1):
            found = []
            for number in frontier:
                for after in self._after(number):
                    if after not in came_from:
                        came_from[after] = number
                        found.append(after)
            if start in came_from:
                loop = [start]
                while len(loop) == 1 or loop[-1] != start:
                    loop.append(came_from[loop[-1]])
                return loop[-2::-1]
            frontier = found
        return []

    def path(self, number: int) -> list[int]:
        """The states on the way found to a state, without the first."""
        path = []
        while number:
            path.append(number)
            number = self._came_from[number]
        return path[::-1]

    def schedule(self, path: list[int], loop: Sequence[int] = ()) -> str:
        """The schedule that leads along a path, the processes told apart again; then round a loop."""
        state = self.table.start()
        moves: list[Move] = []
        for goal in (*path, *loop):
            move, state = next(
                (move, after)
                for move, after in self.table.all_moves(state)
                if self._canonical(after) == self.states[goal]
            )
            moves.append(move)
        stem, round_and_round = moves[: len(path)], moves[len(path) :]
        parts = [format_schedule(stem, self.system.names)]
        if round_and_round:
            parts += [FOR_EVER, format_schedule(round_and_round, self.system.names)]
        return " ".join(filter(None, parts))


def _as_it_is(state: State) -> State:
    return state


def _sorting(symmetric_from: int) -> Callable[[State], State]:
    first = symmetric_from + 1

    def canonical(state: State) -> State:
        return (*state[:first], *sorted(state[first:]))

    return canonical


# Schedules as strings, and their replay.


def failure_of(system: System[S, L], schedule: str) -> str | None:
    """The invariant that fails at the end of a schedule: LIVELOCK if it has a loop with no way out."""
    stem, bar, _ = schedule.partition(FOR_EVER)
    if not bar:
        return verdict(system, *_at_end(system, schedule))
    before, after = _at_end(system, stem), _at_end(system, schedule)
    start = replace(system, shared=before[0], processes=before[1])
    loops = _canonical_state(system, *before) == _canonical_state(system, *after)
    search = _Search(start, reduced=False)
    for state in search.states:
        search.expand(state)
    return LIVELOCK if loops and 0 in search._trapped()[:1] else verdict(system, *after)


def _at_end(system: System[S, L], schedule: str) -> tuple[S, tuple[L, ...]]:
    shared, processes = system.shared, system.processes
    for taken in replay(system, schedule):
        shared, processes = taken.shared, taken.processes
    return shared, processes


def _canonical_state(system: System[S, L], shared: S, processes: tuple[L, ...]) -> tuple[Any, ...]:
    """What is the same state to the explorer is the same here: no numbers gone by, no who is who."""
    at = system.view_shared(shared)
    view_local = system.view_local or (lambda at, me: me)
    first, rest = processes[: system.symmetric_from], processes[system.symmetric_from :]
    return (
        at,
        tuple(view_local(at, me) for me in first),
        sorted(repr(view_local(at, me)) for me in rest),
    )


def verdict(system: System[S, L], shared: S, processes: tuple[L, ...]) -> str | None:
    """The invariant that fails in this state, ``DEADLOCK`` if nobody moves, else None."""
    for me in processes:
        if invariant := broken_invariant(system.steps, shared, me):
            return invariant
    stuck = not any(
        kind == STEP for me in processes for kind, *_ in outcomes_of(system.steps, shared, me)
    )
    return DEADLOCK if stuck and not system.is_final(processes) else None
