"""A system's states as tuples of small numbers, and the moves between them.

Each value, a shared memory or a process, gets a number when it is first met. A state is the number of its
shared memory, then that of each process; two helpers that stand at the same place have the same number:

    shared memory         caller             helpers                                   state
    ControlBlock(...)     Process(pc=4)      Process(pc=20)     Process(pc=20)
    0                     1                  2                  2                      (0, 1, 2, 2)

A step is worked out once for each pair of shared memory and process. After that every state that has the
pair in it finds the outcome in a table.
"""

from collections.abc import Iterator
from typing import Any, Generic

from model.transitions import L, S, System, broken_invariant, outcomes_of

State = tuple[int, ...]
Pair = tuple[int, int]


class Interner:
    """Numbers for values, in the order in which they are met."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """A value's number."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class Table(Generic[S, L]):
    """The states and moves of a system. ``symmetric``: symmetric processes stand for each other."""

    def __init__(self, system: System[S, L], *, symmetric: bool) -> None:
        self._system = system
        self._symmetric_from = system.symmetric_from + 1 if symmetric else None
        self._interned = Interner()
        self._outcomes: dict[Pair, list[tuple[str, int, int]]] = {}
        self._broken: dict[Pair, str | None] = {}
        self._views: dict[Pair, int] = {}

    def start(self) -> State:
        """The state that the system starts in."""
        number = self._interned.number
        return (number(self._system.shared), *map(number, self._system.processes))

    def meaning(self, state: State) -> tuple[S, tuple[L, ...]]:
        """Shared memory and the processes that a state stands for."""
        shared, *processes = map(self._interned.values.__getitem__, state)
        return shared, tuple(processes)

    def representative(self, state: State) -> State:
        """The one state of all that differ from this by a permutation of symmetric processes."""
        first = self._symmetric_from
        return state if first is None else (*state[:first], *sorted(state[first:]))

    def broken_invariant(self, state: State) -> str | None:
        """The invariant that a process, about to take its step, violates."""
        for pair in ((state[0], process) for process in state[1:]):
            if pair not in self._broken:
                self._broken[pair] = broken_invariant(self._system.steps, *self._values(pair))
            if self._broken[pair]:
                return self._broken[pair]
        return None

    def successors(self, state: State) -> Iterator[tuple[int, str, State]]:
        """Every move from a state: which process, what happens, and the state after it."""
        before, has_views = state[0], self._system.view_local is not None
        for position in range(1, len(state)):
            for kind, shared, me in self._outcomes_of((before, state[position])):
                after = (shared, *state[1:position], me, *state[position + 1 :])
                if has_views and shared != before:
                    after = (shared, *(self._view((shared, process)) for process in after[1:]))
                yield position - 1, kind, after

    def _outcomes_of(self, pair: Pair) -> list[tuple[str, int, int]]:
        """(kind, shared memory after, process after) for all that may happen to a process."""
        if pair not in self._outcomes:
            number, view = self._interned.number, self._system.view_shared
            self._outcomes[pair] = [
                (kind, number(view(after)), number(me))
                for kind, after, me in outcomes_of(self._system.steps, *self._values(pair))
            ]
        return self._outcomes[pair]

    def _view(self, pair: Pair) -> int:
        """The process without what no longer matters to it, now that shared memory has changed."""
        if pair not in self._views and self._system.view_local is not None:
            view = self._system.view_local(*self._values(pair))
            self._views[pair] = self._interned.number(view)
        return self._views[pair]

    def _values(self, pair: Pair) -> tuple[Any, Any]:
        shared, process = pair
        return self._interned.values[shared], self._interned.values[process]
