"""model/TRAPS.md: every command in it does what it says."""

import re
from pathlib import Path

import pytest

from model.errors import ScheduleError
from model.replay import Counterexample, load, replay
from proofs.prover.catalogue import catalogue
from tests.conformance.bugs.catch import BUGS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "model" / "TRAPS.md").read_text()
TRAPS = re.split(r"^## (?=\d+$)", TEXT, flags=re.MULTILINE)[1:]
REPLAYED = re.findall(r"python -m model\.replay (tests/\S+\.json)`.*\n(?:.*\n)?? *> (.+)", TEXT)


def test_there_are_twenty_eight_each_with_something_to_run() -> None:
    assert [int(trap.split()[0]) for trap in TRAPS] == list(range(1, 29))
    assert [trap.split()[0] for trap in TRAPS if "`python -m " not in trap] == []
    assert [trap.split()[0] for trap in TRAPS if "- Instead: " not in trap] == []


def test_every_counterexample_is_quoted() -> None:
    assert {path for path, _ in REPLAYED} == set(
        re.findall(r"tests/counterexamples/\S+\.json", TEXT)
    )
    assert len(REPLAYED) >= 15


@pytest.mark.parametrize(("path", "quoted"), REPLAYED, ids=lambda value: str(value)[-40:])
def test_a_counterexample_fails_as_recorded_and_quoted(path: str, quoted: str) -> None:
    recorded = load(str(ROOT / path))
    seen = replay(recorded)
    assert seen.failure == recorded.failure != ""
    assert quoted in (seen.failure, seen.steps[-1])


def unbroken(recorded: Counterexample) -> Counterexample | None:
    """The same without what is broken in it; None if that is not one of the model's faults."""
    values = dict(recorded.values)
    if values.get("clear_first") or values.get("stop_first"):
        values |= {name: False for name in ("clear_first", "stop_first") if name in values}
    elif values.get("told") is False:
        values["told"] = True
    elif recorded.fault is None:
        return None
    return Counterexample(recorded.claim, None, None, recorded.scenario, values)


def still_fails(one: Counterexample) -> bool:
    """Not where the steps that lead to the failure cannot be made any more."""
    try:
        return replay(one).failure != ""
    except ScheduleError:
        return False


def test_without_what_is_broken_they_do_not_fail() -> None:
    repaired = [one for path, _ in REPLAYED if (one := unbroken(load(str(ROOT / path))))]
    assert len(repaired) >= 5
    assert [one.scenario for one in repaired if still_fails(one)] == []


def test_the_claims_and_bugs_named_exist() -> None:
    named = set(re.findall(r"`(?:python -m proofs --only )?((?:\w+)\.(?:\w+_\w+))`", TEXT))
    assert len(named) >= 8
    assert named <= {claim.name for claim in catalogue()}
    commands = re.findall(r"tests\.conformance\.bugs ([\w ]+)`", TEXT)
    bugs = {name for names in commands for name in names.split()} - {"NAME"}
    assert len(bugs) >= 25
    assert bugs <= {bug.name for bug in BUGS}
