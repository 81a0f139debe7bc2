"""The protocols, explored: every invariant holds, every faulty variant fails for its named reason."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model import replay
from model.boundary.command import run
from model.boundary.options import Parser
from model.errors import ScheduleError
from model.explore import catalogue as explored
from model.explore.catalogue import HOLD, REFUTED, Exploration, fork_anywhere
from model.explore.schedule import replay as play
from model.explore.search import explore, verdict
from model.faults import FAULTS, broken
from model.faults.check_in import (
    BROKEN,
    BROKEN_IN_A_CHILD,
    BROKEN_IN_A_STATIC_ROUND,
    CHILD_KEEPS_STATE,
)
from model.protocols import check_in
from model.protocols.check_in import ControlBlock, Process
from model.replay import Counterexample
from model.transitions import DEADLOCK
from tests.support.needs import LONG_RUN

COUNTEREXAMPLES = Path(__file__).parents[1] / "counterexamples"


def ids(exploration: Exploration) -> str:
    return exploration.title


def sharing(options: Mapping[str, Any]) -> int:
    """How many processes share a round, or a queue."""
    return max(int(options.get(who, 1)) for who in ("helpers", "threads", "copiers"))


@pytest.mark.parametrize("exploration", HOLD, ids=ids)
def test_every_claim_holds_in_every_interleaving(exploration: Exploration, long_run: bool) -> None:
    """By default of two that share a round; ``python -m model.explore`` takes three."""
    if (exploration.deep or sharing(exploration.options) > 2) and not long_run:
        pytest.skip(LONG_RUN)
    seen = explore(exploration.make())
    assert seen.failure is None
    assert seen.states > 100


@pytest.mark.parametrize("exploration", REFUTED, ids=ids)
def test_a_broken_variant_is_refuted(exploration: Exploration) -> None:
    seen = explore(exploration.make(), reduced=False)
    assert seen.failure is not None
    assert seen.failure.invariant == exploration.refutes


def test_every_fault_of_the_join_protocol_is_explored() -> None:
    explored_faults = {e.options["fault"] for e in REFUTED if e.system == "check-in"}
    assert explored_faults == {*BROKEN, *BROKEN_IN_A_STATIC_ROUND}
    assert set(BROKEN_IN_A_CHILD) == {CHILD_KEEPS_STATE}


def counterexample(exploration: Exploration) -> Counterexample:
    """The shortest failing schedule of a broken variant, as a file for ``model.replay``."""
    failure = explore(exploration.make(), reduced=False).failure
    assert failure is not None
    options = dict(exploration.options)
    fault = options.pop("fault") if options.get("fault") in FAULTS else None
    return replay.replay(
        Counterexample(
            claim=failure.invariant,
            control=exploration.title,
            fault=fault,
            scenario="schedule",
            values={"system": exploration.system, **options, "schedule": failure.schedule},
        )
    )


def path_of(exploration: Exploration) -> Path:
    """Where a broken variant's counterexample is kept."""
    two_have = "a page" if exploration.options.get("overlap") else "a word"
    fault = exploration.options.get("fault", f"{two_have} in two shares")
    name = f"schedule {exploration.system} {fault}".replace(" ", "-").lower()
    return COUNTEREXAMPLES / f"{name}.json"


@pytest.mark.parametrize("exploration", REFUTED, ids=ids)
def test_the_counterexample_on_file_is_the_shortest_and_replays(
    exploration: Exploration, capsys: pytest.CaptureFixture[str]
) -> None:
    path = path_of(exploration)
    recorded = replay.load(str(path))
    assert recorded == counterexample(exploration)
    assert recorded.failure == exploration.refutes
    assert replay.main([str(path)]) == 0
    assert f"FAILS: {exploration.refutes}" in capsys.readouterr().out


def test_the_whole_protocol_survives_the_schedules_of_the_broken_ones() -> None:
    """A schedule may ask for a move that the whole protocol has not; it never violates an invariant."""
    for exploration in REFUTED:
        if exploration.system == "check-in":
            found = json.loads(path_of(exploration).read_text(encoding="utf-8"))
            whole = {k: v for k, v in exploration.options.items() if k != "fault"}
            system = explored.check_in(**whole)
            try:
                steps = list(play(system, found["values"]["schedule"]))
            except ScheduleError:
                continue
            assert verdict(system, steps[-1].shared, steps[-1].processes) is None


def test_a_child_forked_anywhere_flushes_alone() -> None:
    blocks, failure = fork_anywhere(2, 2)
    assert failure is None
    assert blocks > 50


def test_a_child_that_keeps_its_parents_state_waits_for_ever() -> None:
    _, failure = fork_anywhere(2, 2, keeps_state=True)
    assert failure == DEADLOCK


def test_what_is_forgotten_makes_no_difference() -> None:
    """Forgetting old numbers, then a step, is a step, then forgetting: no step can tell."""
    system = explored.check_in(2)
    pairs = set[tuple[ControlBlock, Process]]()
    explore(system, visited=lambda at, processes: pairs.update((at, me) for me in processes))
    tested = 0
    for at, me in pairs:
        for past in range(4):
            older = older_numbers(at, me, past)
            step = system.steps.get(me.pc)
            if older is None or step is None:
                continue
            ready = step.ready is None or step.ready(at, me)
            assert ready == (step.ready is None or step.ready(*older))
            if ready:
                assert forgotten(*step.act(at, me)) == forgotten(*step.act(*older))
                tested += 1
    assert tested > 5_000


def older_numbers(at: ControlBlock, me: Process, past: int) -> tuple[ControlBlock, Process] | None:
    """The same state with different old numbers: a cursor further on, DOORBELL seen longer ago."""
    if at.doorbell <= past or at.wakeups <= past:
        return None
    return (
        at._replace(cursor=at.cursor + past) if at.cursor == at.words else at,
        me._replace(
            seen_doorbell=me.seen_doorbell or past,
            asleep_at=me.asleep_at or past,
            job=me.job or (past if past < at.job else 0),
        ),
    )


def forgotten(at: ControlBlock, me: Process) -> tuple[ControlBlock, Process]:
    """What the explorer keeps of a state."""
    at = check_in.forget_unread(at)
    return at, check_in.forget_stale_numbers(at, me)


def test_a_fault_is_gone_after_its_block() -> None:
    with broken("never closes"):
        assert explored.shortest_failure() == "c*10 1*3"
    assert explored.shortest_failure() == ""


def main(arguments: list[str]) -> int:
    """Bring the files up to date: ``python -m tests.model.test_check_in``."""
    Parser(prog="python -m tests.model.test_check_in").parse_args(arguments)
    for exploration in REFUTED:
        path_of(exploration).write_text(counterexample(exploration).to_json(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
