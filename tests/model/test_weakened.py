"""The protocols over weaker memories: what is implemented holds, and what breaks if it were weaker."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from model import replay
from model.boundary.command import run
from model.boundary.options import Parser
from model.domain import select
from model.errors import ScheduleError
from model.explore.search import Failure
from model.explore.weak import search as weak
from model.explore.weak import work_queue
from model.explore.weak.catalogue import (
    HEADING,
    HOLD,
    ROWS,
    Execution,
    Found,
    UnknownPartError,
    Weakening,
    first_failure,
    line,
    over_memory,
    weakenings,
    weakest,
)
from model.explore.weak.check_in import CheckInOverMemory
from model.explore.weak.memory import SequentiallyConsistent
from model.explore.weak.search import TouchesAnotherWordError, Unknown
from model.faults import broken
from model.faults.check_in import ACCESSES, BROKEN, BROKEN_IN_A_STATIC_ROUND
from model.protocols.check_in import STAYS, Process
from model.replay import Counterexample
from model.transitions import DEADLOCK, LIVELOCK
from tests.model.test_check_in import sharing
from tests.support.needs import LONG_RUN

ROOT = Path(__file__).parents[2]
COUNTEREXAMPLES = Path(__file__).parents[1] / "counterexamples"
WEAKENINGS = list(weakenings())


def ids(weakening: Weakening) -> str:
    return f"{weakening.row.name}, {weakening.how}"


@pytest.mark.parametrize("execution", [*HOLD, *weakest()], ids=lambda e: e.title)
def test_everything_holds(execution: Execution, long_run: bool) -> None:
    """As implemented, and with the weakest order of every access at once.

    By default of one helper; ``python -m model.explore`` takes two.
    """
    if (execution.deep or sharing(execution.options) > 1) and not long_run:
        pytest.skip(LONG_RUN)
    seen = weak.explore(execution.make())
    assert seen.failure is None
    assert seen.states > 100


# The table.


def readme() -> list[str]:
    return (ROOT / "impl" / "README.md").read_text(encoding="utf-8").splitlines(keepends=True)


def recorded(weakening: Weakening) -> Counterexample | None:
    """The counterexample on file, if the weakening breaks something."""
    return None if weakening.holds else replay.load(str(path_of(weakening)))


def path_of(weakening: Weakening) -> Path:
    name = f"weaker {weakening.row.name} {weakening.how}".replace(",", "").lower()
    return COUNTEREXAMPLES / f"{'-'.join(name.split())}.json"


def counterexample(weakening: Weakening, found: Found) -> Counterexample:
    """A file for ``model.replay``."""
    execution = found.execution
    values = {"system": execution.system, "memory": execution.memory, **execution.options}
    return replay.replay(
        Counterexample(
            claim=found.failure.invariant,
            control=ids(weakening),
            fault=None,
            scenario="schedule over a memory",
            values={**values, "schedule": found.failure.schedule},
        )
    )


@pytest.mark.parametrize("weakening", WEAKENINGS, ids=ids)
def test_a_weakening_is_as_the_table_says(weakening: Weakening, long_run: bool) -> None:
    """It holds, or breaks by the schedule on file, which is a shortest one and replays."""
    found = first_failure(e for e in weakening.executions if long_run or not e.deep)
    on_file = recorded(weakening)
    assert on_file == (counterexample(weakening, found) if found else None)
    if found and on_file:
        assert on_file.failure == found.failure.invariant
    assert any(line(weakening.row, cells(weakening)) == written for written in readme())


def cells(weakening: Weakening) -> dict[str, Found | None]:
    """What is known of each way of weakening this row, by the files."""
    found: dict[str, Found | None] = {}
    for other in WEAKENINGS:
        if other.row == weakening.row:
            on_file = recorded(other)
            found[other.how] = found_in(on_file) if on_file else None
    return found


def found_in(on_file: Counterexample) -> Found:
    options = dict(on_file.values)
    system, memory, schedule = (options.pop(key) for key in ("system", "memory", "schedule"))
    return Found(Execution(system, memory, options), Failure(on_file.failure, schedule))


def test_the_table_has_a_row_for_every_access_of_the_model() -> None:
    listed = {a.row for accesses in ACCESSES.values() for a in accesses if " atomic_" in a.row}
    listed |= {"helper compare_and_swap STATE", "complete fence_stores ", *work_queue.ROWS}
    assert listed == {row.name for row in ROWS}
    assert HEADING in "".join(readme())


def test_the_counterexamples_replay(capsys: pytest.CaptureFixture[str]) -> None:
    broken_ones = [weakening for weakening in WEAKENINGS if not weakening.holds]
    assert {path_of(w) for w in broken_ones} == set(COUNTEREXAMPLES.glob("weaker-*.json"))
    for weakening in broken_ones:
        assert replay.main([str(path_of(weakening))]) == 0
        on_file = recorded(weakening)
        assert on_file
        assert f"FAILS: {on_file.failure}" in capsys.readouterr().out


def test_what_is_implemented_survives_those_schedules() -> None:
    """It may not have such a move; it never violates an invariant."""
    survived = 0
    for weakening in WEAKENINGS:
        if on_file := recorded(weakening):
            execution = found_in(on_file).execution
            whole = {
                key: value
                for key, value in execution.options.items()
                if key not in ("orders", "split", "fenced")
            }
            system = over_memory(execution.system, execution.memory, **whole)
            try:
                moves = [move for move, _ in weak.replay(system, on_file.values["schedule"])]
            except ScheduleError:
                continue
            assert not moves[-1].failure
            survived += 1
    assert survived


#: The orders in the C port: (function, atomic operation, word) to the row of the table.
IN_C = {
    ("check_in", "load", "state"): "helper atomic_load STATE",
    ("check_in", "compare_exchange_weak", "state"): "helper compare_and_swap STATE",
    ("check_out", "fetch_sub", "state"): "check_out atomic_add STATE",
    ("helper_main", "load", "doorbell"): "helper atomic_load DOORBELL",
    ("helper_main", "load", "state"): "helper atomic_load STATE",
    ("ring", "fetch_add", "doorbell"): "run_round atomic_add DOORBELL",
    ("run_round", "store", "state"): "run_round atomic_store STATE",
    ("run_round", "fetch_and", "state"): "run_round atomic_and STATE",
    ("run_round", "load", "state"): "run_round atomic_load STATE",
    ("stop_helpers", "fetch_or", "state"): "dismiss atomic_or STATE",
}


def test_the_port_in_c_has_the_weakest_orders() -> None:
    """``check_in.h`` says that its memory orders are those explored: none weaker, and none stronger."""
    text = (ROOT / "impl" / "ports" / "check_in.h").read_text(encoding="utf-8")
    weakest_of = {row.name: row.weakest for row in ROWS}
    found = dict[tuple[str, str, str], str]()
    function = ""
    for line_or_access in re.finditer(
        r"^[a-z_].*?\b(\w+)\(.*\)$|atomic_(\w+)_explicit\(\s*&pool\.(\w+)[^;{]*?memory_order_(\w+)",
        text,
        re.MULTILINE,
    ):
        if line_or_access.group(1):
            function = line_or_access.group(1)
        else:
            _, operation, word, order = line_or_access.groups()
            found.setdefault((function, operation, word), order)
    found = {access: order for access, order in found.items() if access in IN_C}
    assert found == {access: weakest_of[row].value for access, row in IN_C.items()}  # type: ignore[union-attr]


def test_the_porting_guide_has_the_weakest_orders() -> None:
    """As many acquires, releases and relaxed accesses as the table has, and no stronger ones."""
    text = (ROOT / "impl" / "ports" / "README.md").read_text(encoding="utf-8")
    told = Counter[str]()
    for accesses, order in re.findall(
        r"^\| (\w+: .+?) \| `memory_order_(\w+)` \|", text, re.MULTILINE
    ):
        told[order] += len(accesses.split(";"))
    assert told == Counter(row.weakest.value for row in ROWS if row.weakest)


# The explorer.


# Looked for by model.explore only: a livelock, and whether a helper stays while a batch is left.
FAIL_IN_A_STATE = [
    name
    for name, fault in {**BROKEN, **BROKEN_IN_A_STATIC_ROUND}.items()
    if fault.refutes not in (LIVELOCK, STAYS.name)
]


@pytest.mark.parametrize("name", FAIL_IN_A_STATE)
def test_a_broken_protocol_fails_over_a_memory_too(name: str) -> None:
    static = name in BROKEN_IN_A_STATIC_ROUND
    with broken(name):
        system = CheckInOverMemory(SequentiallyConsistent, static=static)
        if name in ("STATE before DOORBELL", "rewinds in passing"):
            # Its steps touch other words than the list says, and are not believed.
            with pytest.raises(TouchesAnotherWordError):
                weak.explore(system)
        else:
            assert weak.explore(system).failure is not None


def test_what_is_made_of_an_unknown_word_is_unknown() -> None:
    unknown = weak.UNKNOWN
    assert all(isinstance(x, Unknown) for x in (unknown + 1, 1 - unknown, ~unknown, unknown < 1))
    assert (False & unknown) is False and (True | unknown) is True
    assert isinstance(True & unknown, Unknown)
    read = weak.with_unknown_words()(select)
    assert read(unknown, 1, 1) == 1
    assert isinstance(read(unknown, 1, 2), Unknown)
    with pytest.raises(TouchesAnotherWordError):
        bool(unknown == 1)


def test_a_schedule_that_is_not_possible_is_refused() -> None:
    system = over_memory("check-in", "sc", helpers=1, rounds=1, words=1)
    for schedule in ("2", "c*x", "c'", "c@1"):
        with pytest.raises(ScheduleError):
            list(weak.replay(system, schedule))


@pytest.mark.parametrize(
    "part",
    [
        {"system": "joined"},
        {"memory": "arm"},
        {"orders": {"helper": "relaxed"}},
        {"split": ["STATE"]},
    ],
    ids=str,
)
def test_a_part_that_is_unknown_is_refused(part: dict[str, object]) -> None:
    """A misspelt row would weaken nothing, and everything would seem to hold."""
    with pytest.raises(UnknownPartError, match="is unknown: have"):
        over_memory(**{"system": "check-in", "memory": "sc", **part})  # type: ignore[arg-type]


class WakesNobody(CheckInOverMemory):
    """Wrong: who has completed a static round does not wake the caller that sleeps on it."""

    def _has_woken(self, helper: Process, job: int) -> bool:
        return False


def test_the_futex_of_a_static_round_is_part_of_it() -> None:
    failure = weak.explore(WakesNobody(SequentiallyConsistent, static=True)).failure
    assert failure and failure.invariant == DEADLOCK


def test_a_livelock_is_found_and_replays() -> None:
    with broken("only looks"):
        system = CheckInOverMemory(SequentiallyConsistent)
        failure = weak.explore(system).failure
        assert failure and failure.invariant == LIVELOCK
        moves = [move for move, _ in weak.replay(system, failure.schedule)]
        assert moves[-1].failure == LIVELOCK
        # From where it comes from there is another way.
        assert all(not move.failure for move in moves[:-1])


def test_an_exploration_has_a_limit() -> None:
    with pytest.raises(MemoryError, match="more than 50 states"):
        weak.explore(HOLD[0].make(), limit=50)


@cache
def all_found() -> dict[tuple[str, str], Found | None]:
    return {(w.how, w.row.name): first_failure(w.executions) for w in WEAKENINGS}


def main(arguments: list[str]) -> int:
    """Bring the files and the README's table up to date: ``python -m tests.model.test_weakened``."""
    Parser(prog="python -m tests.model.test_weakened").parse_args(arguments)
    for old in COUNTEREXAMPLES.glob("weaker-*.json"):
        old.unlink()
    for weakening in WEAKENINGS:
        if found := all_found()[weakening.how, weakening.row.name]:
            text = counterexample(weakening, found).to_json()
            path_of(weakening).write_text(text, encoding="utf-8")
    lines = readme()
    start = "".join(lines).index(HEADING.splitlines()[0])
    text = "".join(lines)
    end = text.index("\n\n", start) + 1
    table = HEADING + "".join(
        line(row, {w.how: all_found()[w.how, row.name] for w in WEAKENINGS if w.row == row})
        for row in ROWS
    )
    (ROOT / "impl" / "README.md").write_text(text[:start] + table + text[end:], encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
