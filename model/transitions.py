"""Small-step processes: their steps, their invariants, and the systems made of them.

A :class:`System` is some shared memory and some processes. Each process stands at a *step*, at most
one access to shared memory. ``model.explore`` visits every state that any schedule reaches.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from model.boundary.docstring import docstring

#: Shared memory, and a process: a NamedTuple of its locals, first of them ``pc``, where it stands.
S = TypeVar("S")

L = TypeVar("L")

#: The ``pc`` of a process that the scheduler has dropped for ever, and of one that has ended.
STOPPED = -1

ENDED = 0

STEP, SPURIOUS, STOP = "", "~", "!"

DEADLOCK = "no deadlock, no lost wake-up"

LIVELOCK = "a final state can always be reached"

FOR_EVER = "|"


class Invariant(NamedTuple):
    """What must hold whenever a process is about to take a step, of it and of shared memory."""

    name: str
    holds: Callable[[Any, Any], Any]


class Step(NamedTuple):
    """One step of a program: at most one access to shared memory.

    ``act`` maps shared memory and the process to what they are after it. The process is blocked
    while ``ready`` is false. ``spurious`` is a wake-up without a cause, if one may come here.
    ``stops``: the scheduler may drop the process for ever at this step.
    """

    text: str
    act: Callable[[Any, Any], tuple[Any, Any]]
    ready: Callable[[Any, Any], Any] | None = None
    spurious: Callable[[Any, Any], tuple[Any, Any]] | None = None
    invariants: tuple[Invariant, ...] = ()
    stops: bool = False


def step(act: Callable[[Any, Any], tuple[Any, Any]], **more: Any) -> Step:
    """A step whose text is the first line of its function's docstring."""
    return Step(docstring(act).splitlines()[0], act, **more)


@dataclass(frozen=True)
class System(Generic[S, L]):
    """Shared memory, processes with their names, and the steps of their programs.

    ``symmetric_from``: the processes from this one on run the same program on the same values, so that
    states that differ by a permutation of them count as one. ``is_final`` tells a legitimate end from a
    deadlock. ``view_shared`` and ``view_local`` map shared memory, and a process in it, to a
    representative that no step can distinguish from it, which shrinks the state space.
    """

    name: str
    shared: S
    processes: tuple[L, ...]
    names: str
    steps: Mapping[Hashable, Step]
    is_final: Callable[[tuple[L, ...]], bool]
    symmetric_from: int
    view_shared: Callable[[S], S] = lambda shared: shared
    view_local: Callable[[S, L], L] | None = None


class Move(NamedTuple):
    """One choice of the scheduler: which process, and what happens (STEP, SPURIOUS or STOP)."""

    process: int
    kind: str


def outcomes_of(
    steps: Mapping[Hashable, Step], shared: Any, me: Any
) -> Iterator[tuple[str, Any, Any]]:
    """(kind, shared memory after, process after) for all that may happen to a process next."""
    step = steps.get(me.pc)
    if step is None:
        return
    if step.ready is None or step.ready(shared, me):
        yield (STEP, *step.act(shared, me))
    if step.spurious is not None:
        yield (SPURIOUS, *step.spurious(shared, me))
    if step.stops:
        yield (STOP, shared, type(me)(STOPPED))


def broken_invariant(steps: Mapping[Hashable, Step], shared: Any, me: Any) -> str | None:
    """The first invariant of a process's next step that does not hold."""
    step = steps.get(me.pc)
    invariants = step.invariants if step is not None else ()
    return next((one.name for one in invariants if not one.holds(shared, me)), None)
