"""What ``python -m model.replay`` prints, whole: this is how a counterexample reads."""

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from model import replay

COUNTEREXAMPLES = Path(__file__).parents[1] / "counterexamples"

#: A trap of the patch on sets of pages: numbered steps, the state after each, what is wrong at the end.
BULK_STAGE = """\
    claim: walk.a_window_is_flushed
    control: the patch in the bulk stage: thread 1 of 2, 128 pages, page 64 dirty
    broken: in the bulk stage the search returns the page after the one asked for, unread
       1  window [64, 128) of a block of 128 pages
       2  cache-dirty [64], host-dirty [], dirty count 1
       3  copied [65]; cache-dirty [64], host-dirty [], dirty count 0
       4  copied [65, 66]; cache-dirty [64], host-dirty [], dirty count -1
    FAILS: finished False, not True; pages copied [65, 66], not [64]; cache-dirty pages left [64], \
not []; dirty count -1, not 0
    """
#: A schedule of threads: who moves (c is the caller, ~ a spurious wake-up), what the step does, and in
#: brackets what it changed in shared memory. The first line is the schedule itself.
WAIT_LOOKS_ONCE = """\
    claim: flush returns only when every thread has finished
    control: patch threads=1 rounds=2 fault=completion wait looks once
       1  the patch's events, 1 threads, 2 rounds: c*7 c~
       2  c  flush() begins   [live: 0 -> 1]
       3  c  completes: reset: load
       4  c  triggers: set: load
       5  c  triggers: set: exchange for SET   [triggers[0].value: 1 -> 0]
       6  c  completes: wait: load
       7  c  completes: wait: compare-and-swap FREE to BUSY   [completes[0].value: 1 -> -1]
       8  c  completes: wait: futex_wait while BUSY   [completes[0].asleep: False -> True]
       9  c~  completes: wait: futex_wait returns   [completes[0].asleep: True -> False]
    FAILS: flush returns only when every thread has finished
    """
#: The same values on the whole definition: nothing is broken, so nothing fails. Exit status 1.
NOTHING_BROKEN = """\
    claim: walk.a_window_is_flushed
       1  window [64, 128) of a block of 128 pages
       2  cache-dirty [64], host-dirty [], dirty count 1
       3  copied [64]; cache-dirty [], host-dirty [], dirty count 0
       4  copied [64]; cache-dirty [], host-dirty [], dirty count 0
    does not fail
    """


@pytest.fixture(autouse=True, params=["20", "200"])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the same however wide the terminal is: a line is one step."""
    monkeypatch.setenv("COLUMNS", request.param)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("patch-bulk-stage", BULK_STAGE),
        ("schedule-patch-completion-wait-looks-once", WAIT_LOOKS_ONCE),
    ],
)
def test_a_counterexample_reads_like_this(
    name: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(COUNTEREXAMPLES / f"{name}.json")]) == 0
    assert capsys.readouterr().out == textwrap.dedent(printed)


def test_what_does_not_fail_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = replay.load(str(COUNTEREXAMPLES / "patch-bulk-stage.json"))
    whole = tmp_path / "whole.json"
    whole.write_text(replace(recorded, control=None, fault=None).to_json(), encoding="utf-8")
    assert replay.main([str(whole)]) == 1
    assert capsys.readouterr().out == textwrap.dedent(NOTHING_BROKEN)


def test_a_file_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"claim": "walk.a_window_is_flushed"}', encoding="utf-8")
    assert replay.main([str(other)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {other}: not a counterexample: ")
    assert printed.err.count("\n") == 1
