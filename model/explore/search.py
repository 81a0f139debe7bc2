"""Every interleaving of small-step processes: explored, counted, and any one of them replayed.

A :class:`System` is some shared memory and some processes. Each process stands at a *step*, at most
one access to shared memory; a schedule says whose step is next. :func:`explore` visits every state
that any schedule reaches, breadth first, and stops at the first state that violates an invariant or
in which nobody can move (a deadlock). If there is none it looks whether a *final* state, in which all has
come to its end, can still be reached from every state by steps alone: from where it cannot, processes
run for ever (a livelock). ``schedule.py`` runs one schedule.

Shared memory here is sequentially consistent: a step's effect is seen by all at once. What the real
code does to deserve that is listed in ``impl/README.md``.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from model.explore.livelock import Graph
from model.explore.schedule import format_schedule, replay
from model.explore.table import Table
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
        invariant = search.table.broken_invariant(state) or search.expand(number)
        if invariant:
            failure = Failure(invariant, search.schedule(search.path(number)))
            return Explored(len(search.states), search.transitions, failure)
        if limit and len(search.states) > limit:
            raise MemoryError(f"{system.name}: more than {limit} states")
    return Explored(len(search.states), search.transitions, search.livelock())


class _Search(Generic[S, L]):
    """Breadth first: the states met so far, each with the one it was met from."""

    def __init__(self, system: System[S, L], reduced: bool) -> None:
        self.system = system
        self.table = Table(system, symmetric=reduced)
        self.transitions = 0
        self.graph = Graph()
        self.states = [self.table.representative(self.table.start())]
        self._number = {self.states[0]: 0}
        self._came_from = array("l", [-1])

    def expand(self, number: int) -> str | None:
        """Add the new states one move away; DEADLOCK if nobody moves who should."""
        steps = []
        for _, kind, after in self.table.successors(self.states[number]):
            self.transitions += 1
            state = self.table.representative(after)
            found = self._number.setdefault(state, len(self.states))
            if found == len(self.states):
                self.states.append(state)
                self._came_from.append(number)
            if kind == STEP:
                steps.append(found)
        self.graph.add(steps)
        if steps or self.system.is_final(self.table.meaning(self.states[number])[1]):
            return None
        return DEADLOCK

    def livelock(self) -> Failure | None:
        """Once all states are known: the shortest way to run for ever, if no end can be reached."""
        best: tuple[list[int], list[int]] | None = None
        length = len(self.states) + 1
        for number in self.graph.trapped():
            stem = self.path(number)
            if len(stem) >= length:
                break
            loop = self.graph.shortest_loop(number, length - len(stem))
            if loop:
                best, length = (stem, loop), len(stem) + len(loop)
        return Failure(LIVELOCK, self.schedule(*best)) if best else None

    def path(self, number: int) -> list[int]:
        """The states on the way found to a state, without the first."""
        path = []
        while number:
            path.append(number)
            number = self._came_from[number]
        return path[::-1]

    def schedule(self, path: list[int], loop: Sequence[int] = ()) -> str:
        """The schedule that leads along a path, then round a loop; it tells symmetric processes apart."""
        state = self.table.start()
        moves: list[Move] = []
        for goal in (*path, *loop):
            process, kind, state = next(
                move
                for move in self.table.successors(state)
                if self.table.representative(move[-1]) == self.states[goal]
            )
            moves.append(Move(process, kind))
        stem, round_and_round = moves[: len(path)], moves[len(path) :]
        parts = [format_schedule(stem, self.system.names)]
        if round_and_round:
            parts += [FOR_EVER, format_schedule(round_and_round, self.system.names)]
        return " ".join(filter(None, parts))


# What fails at the end of a schedule.


def failure_of(system: System[S, L], schedule: str) -> str | None:
    """The invariant that fails at the end of a schedule: LIVELOCK if it has a loop with no way out."""
    stem, bar, _ = schedule.partition(FOR_EVER)
    if not bar:
        return verdict(system, *_at_end(system, schedule))
    before, after = _at_end(system, stem), _at_end(system, schedule)
    start = replace(system, shared=before[0], processes=before[1])
    loops = _canonical_state(system, *before) == _canonical_state(system, *after)
    search = _Search(start, reduced=False)
    for number, _ in enumerate(search.states):
        search.expand(number)
    return LIVELOCK if loops and 0 in search.graph.trapped()[:1] else verdict(system, *after)


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
