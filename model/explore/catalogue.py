"""What is explored, with its bounds, and what must fail: ``python -m model.explore [--deep]``.

Every interleaving of each system below is visited. Why these bounds: a value from one round (DOORBELL,
STATE, the job's parameters) can be met stale in the next round and, if it looks the same, taken for
that round's own, and the third round shows that the second left nothing behind; two batches a round
are the least that two workers can share; four helpers are three that meet in every way while one is
elsewhere. Beyond the bounds stands the proof for any number of helpers and rounds
(``proofs/check_in.py``).

Then the same over weaker memories, with what breaks if an access is weakened (``model.explore.weak``);
those bounds are smaller, for a memory multiplies the states, and each line says what they are enough for.

Exit 0: every invariant holds, and every faulty variant fails as it should. 1: not so. ``--html``
draws it, each failure to be stepped through; ``--json`` writes what is drawn.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.boundary.options import Parser
from model.boundary.output import check_outputs, run_command
from model.explore.pictures import fields, picture
from model.explore.schedule import replay
from model.explore.search import Explored, Failure, explore, failure_of
from model.explore.weak import catalogue as weakened
from model.faults import broken
from model.faults.check_in import BROKEN, BROKEN_IN_A_STATIC_ROUND, CHILD_KEEPS_STATE
from model.nodes import Run
from model.page.document import Document, Replays, document, save, slug
from model.page.page import write_page
from model.page.picture import drawn
from model.protocols import flush_workers, node_cursors, patch_events
from model.protocols.check_in import Round, check_in_protocol, forked_child
from model.protocols.marking import marking
from model.protocols.work_queue_round import ONCE, TWICE, queue_round
from model.transitions import DEADLOCK, LIVELOCK, System

FAILS = "FAILS: "
AnySystem = System[Any, Any]


def check_in(
    helpers: int,
    rounds: int = 3,
    words: int = 2,
    watched: int = 0,
    static: bool = False,
    mixed: bool = False,
    fault: str | None = None,
) -> AnySystem:
    """The check-in protocol, whole or with one fault; ``mixed``: with rounds of every kind."""
    plan = (Round(2, 0, 0), Round(0, helpers, 0), Round(1, 0, 1), Round(1, 0, 0)) if mixed else ()
    with broken(fault):
        return check_in_protocol(helpers, rounds, words, watched, static=static, plan=plan)


def patch(threads: int, rounds: int = 3, fault: str | None = None) -> AnySystem:
    """The patch's events, mended or with one fault."""
    return patch_events.patch_protocol(threads, rounds, fault)


def static(border: int, overlap: int = 0, fault: str | None = None) -> AnySystem:
    """Two workers with static shares of two words; the second share begins at bit ``border``.

    With an ``overlap`` it begins that number of bits earlier.
    """
    cache, host = (1 << 63 | 1, 1 << 61 | 1), (1 << 63 | 2, 1 << 61 | 2)
    parts = (0, border), (border - overlap, 128)
    shares = [
        [
            flush_workers.WordWindow(word, max(first, 64 * word), min(last, 64 * word + 64))
            for word in (0, 1)
            if max(first, 64 * word) < min(last, 64 * word + 64)
        ]
        for first, last in parts
    ]
    return flush_workers.static_flush(cache, host, shares, fault)


def dynamic(helpers: int, words: int, fault: str | None = None) -> AnySystem:
    """Workers that take words off the cursor."""
    cache, host = (1 << 63 | 1,) + (1,) * (words - 1), (1 << 63,) * words
    return flush_workers.dynamic_flush(cache, host, helpers, fault)


def queued(
    words: int, dirty: Sequence[int], copiers: int, slots: int, fault: str | None = None
) -> AnySystem:
    """A round off the queue, whole or with one fault."""
    with broken(fault):
        return queue_round(words, frozenset(dirty), copiers, slots)


def by_node(
    workers: Sequence[int],
    border: int,
    words: int = 4,
    nodes: int = 2,
    grain: int = 1,
    fault: str | None = None,
) -> AnySystem:
    """Workers of the nodes named; from page ``border`` on memory lies on node 1."""
    cache, host = (1 << 63 | 1, 1 << 63, 1, 1)[:words], (1 << 63, 2, 0, 1)[:words]
    runs = Run(0, 0, border), Run(1, border, 64 * words)
    with broken(fault):
        return node_cursors.node_round(cache, host, runs, nodes, workers, grain)


SYSTEMS: Mapping[str, Callable[..., AnySystem]] = {
    "check-in": check_in,
    "patch": patch,
    "static": static,
    "dynamic": dynamic,
    "queue": queued,
    "nodes": by_node,
    "marking": marking,
}


@dataclass(frozen=True)
class Exploration:
    """A system by name and options; the invariant it must violate, or None if all must hold."""

    system: str
    options: Mapping[str, Any]
    refutes: str | None = None
    deep: bool = False

    def make(self) -> AnySystem:
        """The system."""
        return SYSTEMS[self.system](**self.options)

    @property
    def title(self) -> str:
        """The system and its options in a line."""
        return " ".join([self.system, *(f"{key}={value}" for key, value in self.options.items())])


HOLD = (
    *(
        Exploration("check-in", {"helpers": n, "watched": w}, deep=n + w > 3)
        for n in (1, 2, 3, 4)
        for w in (0, 1)
    ),
    *(Exploration("check-in", {"helpers": n, "static": True}, deep=n > 3) for n in (1, 2, 3, 4)),
    *(Exploration("check-in", {"helpers": n, "mixed": True}, deep=n > 2) for n in (1, 2, 3)),
    *(Exploration("patch", {"threads": n}, deep=n > 3) for n in (1, 2, 3, 4)),
    Exploration("static", {"border": 64}),
    Exploration("dynamic", {"helpers": 2, "words": 3}),
    Exploration("dynamic", {"helpers": 3, "words": 3}),
    *(
        Exploration("queue", {"words": 4, "dirty": dirty, "copiers": copiers, "slots": slots})
        for dirty, copiers in (([], 2), ([1, 3], 2), ([0, 1, 3], 2), ([0, 2], 3))
        for slots in (1, 2)
    ),
    # Both nodes have workers; one has none, and its pages are copied all the same; one has no pages.
    *(
        Exploration("nodes", {"workers": workers, "border": border, **more})
        for workers, border, more in (
            ([0, 1], 96, {}),
            ([0, 1, 1], 96, {}),
            ([0, 1], 96, {"grain": 4}),
            ([0, 0], 96, {}),
            ([1, 2], 128, {"nodes": 3}),
            ([0, 1], 0, {}),
        )
    ),
    Exploration("marking", {"markers": 3, "pages": 4}),
)

_PATCH_REFUTES = {
    "trigger wait looks once": patch_events.LENT.name,
    "completion wait looks once": patch_events.FINISHED.name,
    "completion reset last": DEADLOCK,
    "flushes again": patch_events.AT_MOST_ONCE.name,
    "trigger reset last": DEADLOCK,
    "quit without trigger": DEADLOCK,
    "release before init": "events are made before they are used",
}

_QUEUE_REFUTES = {
    "an entry taken without comparing": TWICE,
    "a copier leaves too early": ONCE,
    "a full queue is overwritten": TWICE,
    "closing drops what is queued": ONCE,
    "the searcher looks on too late": ONCE,
    "the searcher skips a word": ONCE,
    "queueing moves no tail": ONCE,
    "copiers never leave": LIVELOCK,
}

_NODES_REFUTES = {
    "a border word on two nodes": ([0, 1], flush_workers.ONCE),
    "a thief takes by load and store": ([0, 1], flush_workers.ONCE),
    "a worker stops after its own node": ([0], node_cursors.SEEN),
    "a worker asks the same node again": ([0, 1], LIVELOCK),
}

REFUTED = (
    *(
        Exploration(
            "check-in",
            {"helpers": 1, "rounds": 2, "words": fault.words, "fault": name},
            fault.refutes,
        )
        for name, fault in BROKEN.items()
    ),
    *(
        Exploration(
            "check-in", {"helpers": 1, "rounds": 2, "static": True, "fault": name}, fault.refutes
        )
        for name, fault in BROKEN_IN_A_STATIC_ROUND.items()
    ),
    *(
        Exploration("patch", {"threads": 1, "rounds": 2, "fault": name}, invariant)
        for name, invariant in _PATCH_REFUTES.items()
    ),
    *(
        Exploration(
            "queue",
            {"words": 3, "dirty": [0, 1, 2], "copiers": 1, "slots": 1, "fault": name},
            invariant,
        )
        for name, invariant in _QUEUE_REFUTES.items()
    ),
    *(
        Exploration(
            "nodes", {"workers": workers, "border": 96, "words": 3, "fault": name}, invariant
        )
        for name, (workers, invariant) in _NODES_REFUTES.items()
    ),
    Exploration("static", {"border": 125}, "no dirty bit is left"),
    Exploration("static", {"border": 64, "overlap": 1}, flush_workers.ONCE),
    Exploration(
        "dynamic",
        {"helpers": 2, "words": 2, "fault": "count by load and store"},
        "the dirty count reaches zero",
    ),
    Exploration(
        "marking",
        {"markers": 2, "pages": 1, "fault": "mark by load and store"},
        "no mark is undone",
    ),
)


def fork_anywhere(
    helpers: int, rounds: int, *, keeps_state: bool = False
) -> tuple[int, str | None]:
    """Fork in every state that the parent reaches; the child, without helpers, flushes and closes.

    Returns the number of control blocks tried and the first child's failure, if any.
    """
    blocks = set()
    explore(check_in(helpers, rounds), visited=lambda shared, _: blocks.add(shared))
    with broken(CHILD_KEEPS_STATE if keeps_state else None):
        for block in sorted(blocks):
            failure = explore(forked_child(block)).failure
            if failure:
                return len(blocks), failure.invariant
    return len(blocks), None


def shortest_failure(words: int = 1, static: bool = False) -> str:
    """The shortest failing schedule of the check-in protocol as it stands: ``model.faults.broken``.

    With one helper and two rounds of one batch, or ``words`` of them, or two static rounds; "" if it
    does not fail.
    """
    try:
        made = check_in_protocol(1, 2, words, static=static)
        failure = explore(made, reduced=False, limit=10_000).failure
    except MemoryError:
        return ""
    return failure.schedule if failure else ""


def lines(system: str, schedule: str, **options: Any) -> Iterator[str]:
    """Replay a schedule of a system of the catalogue."""
    return lines_of(SYSTEMS[system](**options), schedule)


def lines_of(made: AnySystem, schedule: str) -> Iterator[str]:
    """Replay a schedule: each move and what it changed in shared memory, then what fails."""
    shared = made.shared
    yield drawn(f"{made.name}: {schedule}", picture(made, shared, made.processes))
    for taken in replay(made, schedule):
        after = dict(fields(taken.shared))
        changed = ", ".join(
            f"{name}: {before} -> {after[name]}"
            for name, before in fields(shared)
            if before != after[name]
        )
        shared = taken.shared
        text = f"{taken.name}{taken.kind}  {taken.text}" + (f"   [{changed}]" if changed else "")
        yield drawn(text, picture(made, shared, taken.processes, taken.name))
    failure = failure_of(made, schedule)
    if failure:
        yield f"{FAILS}{failure}"


def main(arguments: list[str]) -> int:
    """Explore the catalogue and print it as a table."""
    parser = Parser(prog="python -m model.explore", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="also with four helpers: minutes more")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found")
    parser.add_argument("--html", metavar="FILE", type=Path, help="draw what was found")
    options = parser.parse_args(arguments)
    return run_command(lambda: _explore_and_write(options.deep, options.json, options.html))


def _explore_and_write(deep: bool, json_file: Path | None, html_file: Path | None) -> int:
    check_outputs(json_file, html_file)
    found = Found()
    _explore_all(deep, found)
    made = document("explored", systems=found.systems, **found.replays.parts())
    if json_file:
        save(json_file, made)
    if html_file:
        write_page(html_file, made)
    return 0 if found.good else 1


class Found:
    """What was found, for a document (``model.page``)."""

    def __init__(self) -> None:
        self.good = True
        self.systems: list[Document] = []
        self.replays = Replays()

    def add(
        self,
        title: str,
        failure: Failure | None,
        as_expected: bool,
        told: Iterator[str],
        seen: Explored | None = None,
        seconds: float | None = None,
    ) -> None:
        """One system: how it fails, if it does, ``told`` in the lines of a replay."""
        self.good = self.good and as_expected
        lines = [line for line in told if not line.startswith(FAILS)] if failure else []
        name = slug("explored", title) if lines else None
        if failure and name:
            about = {"claim": failure.invariant, "control": title}
            self.replays.add(name, lines, failure.invariant, **about)
        self.systems.append(
            {
                "title": title,
                "failure": failure.invariant if failure else None,
                "as_expected": as_expected,
                "states": seen.states if seen else None,
                "transitions": seen.transitions if seen else None,
                "seconds": None if seconds is None else round(seconds, 2),
                "schedule": failure.schedule if failure else "",
                "replay": name,
            }
        )


def _explore_all(deep: bool, found: Found) -> None:
    print(f"{'states':>9} {'transitions':>11} {'seconds':>7}  system")
    for exploration in (*HOLD, *REFUTED):
        if exploration.deep and not deep:
            continue
        begin = time.perf_counter()
        seen = explore(exploration.make(), reduced=exploration.refutes is None)
        seconds = time.perf_counter() - begin
        got = seen.failure.invariant if seen.failure else None
        schedule = seen.failure.schedule if seen.failure else ""
        told = lines(exploration.system, schedule, **exploration.options)
        as_expected = got == exploration.refutes
        found.add(exploration.title, seen.failure, as_expected, told, seen, seconds)
        verdict_line = "holds" if got is None else f"{FAILS}{got}   {schedule}"
        wanted = "" if got == exploration.refutes else f"   (expected: {exploration.refutes})"
        print(
            f"{seen.states:9} {seen.transitions:11} {seconds:7.1f}  {exploration.title}: "
            f"{verdict_line}{wanted}",
            flush=True,
        )
    for keeps_state, wanted_failure in ((False, None), (True, DEADLOCK)):
        blocks, failure_seen = fork_anywhere(2, 2, keeps_state=keeps_state)
        what = CHILD_KEEPS_STATE if keeps_state else "a forked child flushes and closes"
        print(f"{blocks:9} {'':11} {'':7}  {what}: {failure_seen or 'holds'}", flush=True)
        failure = Failure(failure_seen, "") if failure_seen else None
        found.add(what, failure, failure_seen == wanted_failure, iter(()))
    for one in weakened.report(deep=deep):
        print(one.line if one.expected else f"{one.line}   (not as expected)", flush=True)
        failure = one.found.failure if one.found else None
        found.add(one.title, failure, one.expected, one.told(), one.seen, one.seconds)
