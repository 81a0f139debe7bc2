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

STEP, WHIM, STOP = "", "~", "!"

STANDSTILL = "nobody waits for ever"

LIVELOCK = "a final state can always be reached"

FOR_EVER = "|"


class Claim(NamedTuple):
    """What must hold whenever a process is about to take a step: read from it and shared memory."""

    name: str
    holds: Callable[[Any, Any], Any]


class Step(NamedTuple):
    """One step of a program: at most one access to shared memory.

    ``act`` maps shared memory and the process to what they are after it. The process is blocked
    while ``ready`` is false. ``whim`` is what may befall it here with no cause. ``stops``: the
    scheduler may drop the process for ever at this step.
    """

    text: str
    act: Callable[[Any, Any], tuple[Any, Any]]
    ready: Callable[[Any, Any], Any] | None = None
    whim: Callable[[Any, Any], tuple[Any, Any]] | None = None
    claims: tuple[Claim, ...] = ()
    stops: bool = False


def said(act: Callable[[Any, Any], tuple[Any, Any]], **more: Any) -> Step:
    """A step whose text is the first line of its function's docstring."""
    return Step(docstring(act).splitlines()[0], act, **more)


@dataclass(frozen=True)
class System(Generic[S, L]):
    """Shared memory, processes with their names, and the steps of their programs.

    ``alike``: this process and all after it run one program under one set of values, so that
    states which differ only in who is who are one state. ``rest`` says whether a standstill is as
    it should be. ``forget`` maps shared memory, and ``stale`` a process in it, to ones that no step
    tells apart from them, so that there are fewer.
    """

    name: str
    shared: S
    processes: tuple[L, ...]
    names: str
    steps: Mapping[Hashable, Step]
    rest: Callable[[tuple[L, ...]], bool]
    alike: int
    forget: Callable[[S], S] = lambda shared: shared
    stale: Callable[[S, L], L] | None = None


class Move(NamedTuple):
    """One choice of the scheduler: which process, and what happens (STEP, WHIM or STOP)."""

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
    if step.whim is not None:
        yield (WHIM, *step.whim(shared, me))
    if step.stops:
        yield (STOP, shared, type(me)(STOPPED))


def broken_claim(steps: Mapping[Hashable, Step], shared: Any, me: Any) -> str | None:
    """The first claim of a process's next step that does not hold."""
    step = steps.get(me.pc)
    claims = step.claims if step is not None else ()
    return next((claim.name for claim in claims if not claim.holds(shared, me)), None)
