"""The table "what breaks if it were weaker", explored: ``python -m model.explore.weak`` prints it.

Every access that ``impl/README.md`` lists is weakened, alone, in two ways: relaxed, and, if it is a
read-modify-write, taken apart into a load and a store. Each is explored over the memories of
``model.explore.weak.memory``; either everything holds, or the invariant that fails is printed, with a
shortest schedule that ``python -m model.replay`` runs. ``Row.weakest`` is the weakest order with
which everything still holds, all of them at once: what a port in C, C++ or Rust may use.

``HOLD`` is what is explored of the protocol as it is implemented. The release/acquire memory takes
even that for less: a sequentially consistent access is an acquire or a release there, and no fence.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from model.boundary.options import Parser
from model.boundary.output import run_command
from model.errors import ColoError
from model.explore.search import Explored, Failure
from model.explore.weak import search as weak
from model.explore.weak import work_queue
from model.explore.weak.check_in import CheckInOverMemory
from model.explore.weak.memory import Fence, Memory, Order, SequentiallyConsistent, Value
from model.explore.weak.release_acquire import ReleaseAcquire
from model.explore.weak.search import OverMemory
from model.explore.weak.store_buffers import StoreBuffers
from model.explore.weak.work_queue import QueueOverMemory
from model.page.picture import drawn
from model.protocols.accesses import DOORBELL, STATE

SC, TSO, WARY, RA = "sc", "tso", "tso, locked instructions mistrusted", "release/acquire"


def _release_acquire(words: Mapping[str, Value], threads: int, locks: int) -> Memory:
    # Never accessed but atomically: these cannot race.
    always_atomic = {STATE, DOORBELL, work_queue.HEAD, work_queue.CLOSED, work_queue.OUT}
    return ReleaseAcquire(words, threads, locks, racy=[w for w in words if w not in always_atomic])


MEMORIES: Mapping[str, Callable[[Mapping[str, Value], int, int], Memory]] = {
    SC: SequentiallyConsistent,
    TSO: StoreBuffers,
    WARY: partial(StoreBuffers, locked_drain_streams=False),
    RA: _release_acquire,
}


class UnknownPartError(ColoError, ValueError):
    """There is no such system, memory, or row of the table."""


def over_memory(system: str, memory: str, **options: Any) -> OverMemory:
    """The check-in protocol or the queue over a memory.

    ``options`` are those of the system, but for ``orders`` (row to the name of an order) and
    ``fenced``: is the fence there, where the memory has one? UnknownPartError if there is no such
    system, memory, or row of the table.
    """
    rows = {row.name for row in ROWS}
    for part, known in (
        (system, ("check-in", "queue")),
        (memory, MEMORIES),
        *((row, rows) for row in (*options.get("orders", {}), *options.get("split", ()))),
    ):
        if part not in known:
            raise UnknownPartError(f"{part!r} is unknown: have {', '.join(known)}")
    options["orders"] = {row: Order(name) for row, name in options.get("orders", {}).items()}
    if system == "queue":
        return QueueOverMemory(MEMORIES[memory], **options)
    fenced = options.pop("fenced", True) and memory != RA
    return CheckInOverMemory(MEMORIES[memory], fence=Fence.SFENCE if fenced else None, **options)


@dataclass(frozen=True)
class Execution:
    """A system over a memory, by name and options, as a counterexample's file has them."""

    system: str
    memory: str
    options: Mapping[str, Any]
    why: str = ""
    """what these bounds are enough for"""
    deep: bool = False

    def make(self) -> OverMemory:
        """The system."""
        return over_memory(self.system, self.memory, **self.options)

    @property
    def title(self) -> str:
        """All of it in a line."""
        options = " ".join(
            f"{key}={value if key != 'orders' or len(value) == 1 else 'weakest'}"
            for key, value in self.options.items()
        )
        return f"{self.system} over {self.memory} {options}"


def _check_in(memory: str, helpers: int, rounds: int, words: int, **more: Any) -> Execution:
    told = {key: more.pop(key) for key in ("why", "deep") if key in more}
    options = {"helpers": helpers, "rounds": rounds, "words": words, **more}
    return Execution("check-in", memory, options, **told)


def _static(memory: str, helpers: int, rounds: int, **more: Any) -> Execution:
    return _check_in(memory, helpers, rounds, 0, static=True, **more)


#: Words, awaited and alone of each round: a dynamic one, one that the caller flushes alone, a static one.
_ALONE_THEN_STATIC = ([1, 0, 0], [1, 0, 1], [0, 1, 0])
_STATIC_FIRST = ([0, 1, 0], [1, 0, 1], [1, 0, 0])


def _mixed(memory: str, plan: Sequence[list[int]]) -> Execution:
    why = "a helper that comes late finds a round of another kind"
    return Execution("check-in", memory, {"helpers": 1, "plan": list(plan)}, why)


def _queue(memory: str, copiers: int, words: int, slots: int, **told: Any) -> Execution:
    options = {"copiers": copiers, "words": words, "slots": slots}
    return Execution("queue", memory, options, **told)


_STALE = "what one round leaves behind is met in the next; helpers may stop for ever"
_THIRD = "the third round shows that the second left nothing behind"
_MEET = "two batches are the least that workers can share"
_TWO = "two helpers meet each other as well as the caller"
_LAPPED = "the ring is used again while a copier still looks at a slot"

HOLD = (
    *(_check_in(memory, 1, 2, 1, stops=True, why=_STALE) for memory in (SC, TSO, RA)),
    *(_static(memory, 1, 3, why=_THIRD) for memory in (SC, TSO, RA)),
    _check_in(TSO, 1, 3, 2, stops=True, why=_THIRD),
    _check_in(RA, 1, 2, 2, why=_MEET, deep=True),
    _check_in(RA, 1, 3, 1, why=_THIRD, deep=True),
    _check_in(SC, 2, 2, 2, why=_TWO, deep=True),
    _check_in(TSO, 2, 1, 2, why=_TWO),
    _check_in(TSO, 2, 2, 1, why=_TWO, deep=True),
    _static(TSO, 2, 2, why=_TWO),
    *(_mixed(memory, plan) for memory in (TSO, RA) for plan in (_ALONE_THEN_STATIC, _STATIC_FIRST)),
    _check_in(WARY, 1, 2, 1, why="the fence alone is enough, too"),
    _static(WARY, 1, 2, why="the fence alone is enough, too"),
    *(_queue(memory, 1, 3, 2, why=_LAPPED) for memory in (SC, TSO)),
    _queue(RA, 1, 2, 1, why="each word waits for the one before it to be taken"),
    _queue(RA, 1, 3, 2, why=_LAPPED, deep=True),
    _queue(SC, 2, 2, 1, why=_TWO),
    _queue(TSO, 2, 2, 1, why=_TWO, deep=True),
    _queue(RA, 2, 2, 1, why=_TWO, deep=True),
)


class Row(NamedTuple):
    """A row of the table: an access, the weakest order it may have, and what it is there for."""

    kernel: str
    access: str
    word: str
    weakest: Order | None
    """None for the fence"""
    purpose: str
    divisible: bool = False
    """does everything hold if it is a load and then a store?"""

    @property
    def name(self) -> str:
        """As ``model.protocols.accesses`` has it."""
        return f"{self.kernel} {self.access} {self.word}"

    @property
    def is_update(self) -> bool:
        """Is it a read-modify-write?"""
        return self.access not in ("atomic_load", "atomic_store", "fence_stores")

    @property
    def is_of_the_queue(self) -> bool:
        """Is it in a round off the queue only?"""
        return self.name in work_queue.ROWS


_RELAXED, _ACQUIRE, _RELEASE = Order.RELAXED, Order.ACQUIRE, Order.RELEASE

ROWS = (
    Row(
        "helper",
        "atomic_load",
        "DOORBELL",
        _ACQUIRE,
        "who sees a ring must see the STATE stored before it: else it finds STATE closed, or without"
        ' QUIT, and sleeps through the ring (fault "STATE before DOORBELL")',
    ),
    Row(
        "helper",
        "atomic_load",
        "STATE",
        _RELAXED,
        "nothing of its own: the compare-and-swap decides. It must not move before DOORBELL",
    ),
    Row(
        "helper",
        "compare_and_swap",
        "STATE",
        _ACQUIRE,
        "else the parameters may be read before the check-in: those of a round that is over (fault"
        ' "parameters read early"); apart, it enters a closed job (fault "blind check-in")',
    ),
    Row(
        "helper",
        "atomic_load",
        "DOORBELL, again",
        _RELAXED,
        "the look before each futex_wait: the kernel looks again, and so does the next iteration",
    ),
    Row(
        "complete",
        "fence_stores",
        "",
        None,
        "belt and braces: as compiled for x86 the exchange of COMPLETED and the locked add of check_out"
        " drain streaming stores too. It is the only order there is if those become ordinary stores, or"
        " do not drain, and the only thing in the source that says so",
    ),
    Row(
        "complete",
        "atomic_store",
        "COMPLETED",
        _RELAXED,
        "says who is done and orders nothing: what was copied and counted is handed over by check_out,"
        " in a static round too",
    ),
    Row(
        "check_out",
        "atomic_add",
        "STATE",
        _RELEASE,
        "hands copies, cleared bits and counts to the caller, and keeps parameters unwritten until they"
        ' have been read; apart, it undoes a close (fault "plain countdown")',
    ),
    Row(
        "run_round",
        "atomic_store",
        "STATE",
        _RELEASE,
        "hands parameters and CURSOR = 0 to whoever checks in",
    ),
    Row(
        "run_round",
        "atomic_add",
        "DOORBELL",
        _RELEASE,
        "who sees the ring must see STATE open; a dynamic round does without, a static one waits for"
        ' ever (fault "rings first"). Only the caller writes DOORBELL: a load and a store would do',
        divisible=True,
    ),
    Row(
        "run_round",
        "atomic_and",
        "STATE",
        _RELAXED,
        "apart, it loses a check-in or a check-out that comes between; it orders nothing",
    ),
    Row(
        "run_round",
        "atomic_load",
        "STATE",
        _ACQUIRE,
        "takes over what check_out handed over: else flush may return with copies it does not see",
    ),
    Row(
        "wait_for_all",
        "atomic_load",
        "COMPLETED",
        _RELAXED,
        "the caller then still closes the round and loads STATE, and that does it",
    ),
    Row(
        "dismiss",
        "atomic_or",
        "STATE",
        _RELAXED,
        "nobody is inside by now, so that not even an update is needed; but it must stay before DOORBELL"
        ' (fault "quit without doorbell")',
        divisible=True,
    ),
    Row(
        "dismiss",
        "atomic_add",
        "DOORBELL",
        _RELEASE,
        "who sees the ring must see QUIT: else it sleeps, and is never woken",
        divisible=True,
    ),
    Row(
        "take_batch",
        "atomic_add",
        "CURSOR",
        _RELAXED,
        'hands out numbers, not memory; apart, two get one batch (fault "plain cursor")',
    ),
    Row(
        "search",
        "atomic_load",
        "HEAD",
        _RELAXED,
        "an old HEAD only makes the queue look fuller than it is; the slot it guards is atomic",
    ),
    Row(
        "search",
        "atomic_store",
        "SLOTS",
        _RELAXED,
        "plain, it is a data race: a copier that is about to lose HEAD may be loading this very slot",
    ),
    Row(
        "search",
        "atomic_store",
        "TAIL",
        _RELEASE,
        "who sees TAIL must see the word in the slot",
    ),
    Row(
        "search",
        "atomic_store",
        "CLOSED",
        _RELAXED,
        "early, a copier leaves with words still queued; the searcher copies those itself",
    ),
    Row("copy_queued", "atomic_load", "CLOSED", _RELAXED, "the same"),
    Row(
        "copy_one",
        "atomic_load",
        "HEAD",
        _ACQUIRE,
        "who sees HEAD must see a TAIL no older: else a queue that is empty looks full, and a slot"
        " that holds nothing is taken for a word",
    ),
    Row("copy_one", "atomic_load", "TAIL", _ACQUIRE, "takes the word over from the searcher"),
    Row(
        "copy_one",
        "atomic_load",
        "SLOTS",
        _RELAXED,
        "plain, the same data race; what a late copier reads here the compare-and-swap throws away",
    ),
    Row(
        "copy_one",
        "compare_and_swap",
        "HEAD",
        _RELEASE,
        "hands on the TAIL that was seen; apart, two copiers take one word",
    ),
)

_WORSE = {
    "complete fence_stores ": "if locked instructions do not drain",
    "search atomic_store SLOTS": "plain",
    "copy_one atomic_load SLOTS": "plain",
}


def _bounds(system: str, memory: str) -> Iterator[Execution]:
    """Where a weakening is looked for. A ring of two slots is slow over release/acquire."""
    if system == "check-in":
        yield _check_in(memory, 1, 2, 1)
        yield _static(memory, 1, 2)
    else:
        yield _queue(memory, 1, 2, 1)
        yield _queue(memory, 1, 3, 2, deep=memory == RA)


def _weakened(row: Row, how: Mapping[str, Any], *memories: str) -> Iterator[Execution]:
    for memory in memories:
        for execution in _bounds("queue" if row.is_of_the_queue else "check-in", memory):
            yield replace(execution, options={**execution.options, **how})


def relaxed(row: Row) -> Iterator[Execution]:
    """The row's access relaxed and nothing else; the fence left out."""
    if row.weakest is None:
        return _weakened(row, {"fenced": False}, TSO)
    return _weakened(row, {"orders": {row.name: _RELAXED.value}}, RA, TSO)


def apart(row: Row) -> Iterator[Execution]:
    """The row's read-modify-write as a load and a store, which no memory may take for one access."""
    return _weakened(row, {"split": [row.name]}, SC)


def worse(row: Row) -> Iterator[Execution]:
    """Where relaxed holds and that is not the whole story: a slot that is not even atomic; the fence
    left out where locked instructions do not drain streaming stores."""
    if row.weakest is None:
        return _weakened(row, {"fenced": False}, WARY)
    return _weakened(row, {"orders": {row.name: Order.PLAIN.value}}, RA)


def weakest() -> Iterator[Execution]:
    """Every access as weak as it may be, all at once."""
    for memory in (RA, TSO):
        for system in ("check-in", "queue"):
            rows = [row for row in ROWS if row.is_of_the_queue == (system == "queue")]
            orders = {row.name: row.weakest.value for row in rows if row.weakest}
            for execution in _bounds(system, memory):
                yield replace(execution, options={**execution.options, "orders": orders})


class Found(NamedTuple):
    """Where a weakening breaks something, and what."""

    execution: Execution
    failure: Failure


def first_failure(executions: Iterable[Execution]) -> Found | None:
    """The first that fails, or None if everything holds in all of them."""
    for execution in executions:
        failure = weak.explore(execution.make()).failure
        if failure:
            return Found(execution, failure)
    return None


RELAXED, APART = "relaxed", "apart"


class Weakening(NamedTuple):
    """A cell of the table: a row weakened in some way, where that is looked for, what is expected."""

    how: str
    row: Row
    executions: tuple[Execution, ...]
    holds: bool


def weakenings() -> Iterator[Weakening]:
    """Every cell of the table."""
    for row in ROWS:
        holds = row.weakest in (None, _RELAXED)
        yield Weakening(RELAXED, row, tuple(relaxed(row)), holds)
        if row.is_update:
            yield Weakening(APART, row, tuple(apart(row)), row.divisible)
        if row.name in _WORSE:
            yield Weakening(_WORSE[row.name], row, tuple(worse(row)), False)


HEADING = """\
| kernel | access | word | weakest | alone relaxed | as load and store | what it is there for |
|---|---|---|---|---|---|---|
"""


def line(row: Row, found: Mapping[str, Found | None]) -> str:
    """A row of the table in ``impl/README.md``; ``found`` has what each way of weakening it breaks."""
    relaxed_cell = _cell(found[RELAXED])
    if row.name in _WORSE:
        relaxed_cell += f"; {_WORSE[row.name]}: {_cell(found[_WORSE[row.name]])}"
    apart_cell = _cell(found[APART]) if row.is_update else ""
    order = row.weakest.value if row.weakest else ""
    return (
        f"| `{row.kernel}` | `{row.access}` | {row.word} | {order} "
        f"| {relaxed_cell} | {apart_cell} | {row.purpose} |\n"
    )


def _cell(found: Found | None) -> str:
    if found is None:
        return "holds"
    options = found.execution.options
    kind = (
        ""
        if found.execution.system == "queue"
        else ", static"
        if options.get("static")
        else ", dynamic"
    )
    return (
        f"**{found.failure.invariant}** `{found.failure.schedule}` ({found.execution.memory}{kind})"
    )


def lines(system: str, memory: str, schedule: str, **options: Any) -> Iterator[str]:
    """Replay a schedule: each move, and what it changed in memory, then what fails."""
    made = over_memory(system, memory, **options)
    yield drawn(f"{made.name} ({memory}): {schedule}", weak.picture(made, made.first))
    yield from weak.replay_lines(made, schedule)


def shortest_failure() -> str:
    """The shortest failing schedule of the check-in protocol as it stands, data races included.

    Over sequentially consistent memory, with the fault that is in force (``model.faults.broken``); one
    helper, two rounds of one batch. "" if it does not fail.
    """
    found = first_failure([_check_in(SC, 1, 2, 1)])
    return found.failure.schedule if found else ""


class Reported(NamedTuple):
    """One line of the report, and what it says. ``seen``, ``seconds``: of a single exploration."""

    line: str
    title: str
    found: Found | None
    expected: bool
    """does it fail where it must, and nowhere else?"""
    seen: Explored | None = None
    seconds: float | None = None

    def told(self) -> Iterator[str]:
        """The failure, step by step."""
        if self.found:
            execution, failure = self.found
            system, memory, options = execution.system, execution.memory, execution.options
            yield from lines(system, memory, failure.schedule, **options)


def report(*, deep: bool) -> Iterator[Reported]:
    """Explore all of it."""
    for execution in (*HOLD, *weakest()):
        if deep or not execution.deep:
            begin = time.perf_counter()
            seen = weak.explore(execution.make())
            seconds = time.perf_counter() - begin
            failed = (
                f"FAILS: {seen.failure.invariant}   {seen.failure.schedule}"
                if seen.failure
                else "holds"
            )
            why = execution.why or "the weakest orders, all at once"
            counts = f"{seen.states:9} {seen.transitions:11} {seconds:7.1f}"
            line = f"{counts}  {execution.title}: {failed}   ({why})"
            found = Found(execution, seen.failure) if seen.failure else None
            yield Reported(line, execution.title, found, not found, seen, seconds)
    for weakening in weakenings():
        found = first_failure(e for e in weakening.executions if deep or not e.deep)
        what = f"{weakening.row.name}, {weakening.how}"
        line = f"{'':29}  {what}: {_cell(found)}"
        yield Reported(line, what, found, weakening.holds == (found is None))


def main(arguments: list[str]) -> int:
    """Explore every weakening and print the table."""
    Parser(prog="python -m model.explore.weak", description=__doc__).parse_args(arguments)
    return run_command(_print_table)


def _print_table() -> int:
    print(HEADING, end="")
    for row in ROWS:
        mine = [weakening for weakening in weakenings() if weakening.row == row]
        print(line(row, {w.how: first_failure(w.executions) for w in mine}), end="", flush=True)
    return 0
