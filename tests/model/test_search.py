"""The explorer itself: it sees everything, its reductions lose nothing, its schedules replay."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ScheduleError
from model.explore import catalogue as explored
from model.explore.catalogue import HOLD, REFUTED, Exploration
from model.explore.schedule import format_schedule, parse_schedule, replay
from model.explore.search import explore, failure_of, verdict
from model.explore.weak import catalogue as weakened
from model.transitions import (
    DEADLOCK,
    LIVELOCK,
    SPURIOUS,
    STEP,
    STOP,
    Move,
    Step,
    System,
    outcomes_of,
)
from tests.support.needs import LONG_RUN

SMALL = [
    e
    for e in (*HOLD, *REFUTED)
    if not e.deep and e.options.get("helpers", e.options.get("threads", 1)) <= 2
]


class One(NamedTuple):
    """A place: all that there is to a process, or to shared memory, of a small system."""

    pc: str | int


def length(schedule: str) -> int:
    return len(parse_schedule(schedule, "c123456789"))


Global = tuple[object, tuple[Any, ...]]


def reached(system: System[Any, Any], *, reduced: bool) -> set[Global]:
    """Every state that an exploration visits."""
    states = set[Global]()
    explore(system, reduced=reduced, visited=lambda at, processes: states.add((at, processes)))
    return states


@pytest.mark.parametrize("exploration", SMALL, ids=lambda e: e.title)
def test_reduced_and_plain_agree(exploration: Exploration, long_run: bool) -> None:
    if exploration.options.get("copiers", 1) > 2 and not long_run:
        pytest.skip(LONG_RUN)
    plain = explore(exploration.make(), reduced=False)
    reduced = explore(exploration.make(), reduced=True)
    assert (plain.failure is None) == (reduced.failure is None)
    if plain.failure and reduced.failure:
        assert plain.failure.invariant == reduced.failure.invariant
        assert length(plain.failure.schedule) == length(reduced.failure.schedule)
    assert reduced.states <= plain.states


def test_processes_that_are_alike_stand_for_each_other() -> None:
    """Up to who is who, the reduced search visits exactly the states of the plain one."""

    def sorted_helpers(states: set[Global]) -> set[Global]:
        return {(at, (caller, *sorted(helpers))) for at, (caller, *helpers) in states}

    system = explored.check_in(2, rounds=2)
    plain, reduced = reached(system, reduced=False), reached(system, reduced=True)
    assert sorted_helpers(plain) == sorted_helpers(reduced)
    assert len(reduced) < 0.6 * len(plain)


def test_a_failing_schedule_is_a_shortest_one() -> None:
    """Every schedule shorter than the one found is tried, and none fails."""
    system = explored.check_in(1, rounds=1, words=1, fault="never closes")
    failure = explore(system, reduced=False).failure
    assert failure is not None
    states = {(system.shared, system.processes)}
    for _ in range(length(failure.schedule)):
        assert not any(verdict(system, at, processes) for at, processes in states)
        states = {after for state in states for after in successors(system, state)}
    assert any(verdict(system, at, processes) == failure.invariant for at, processes in states)


def successors(system: System[Any, Any], state: Global) -> set[Global]:
    """Every state one move away, worked out without the explorer."""
    at, processes = state
    return {
        (shared, (*processes[:number], me, *processes[number + 1 :]))
        for number, process in enumerate(processes)
        for _, shared, me in outcomes_of(system.steps, at, process)
    }


def test_random_runs_stay_among_the_states_explored() -> None:
    system = explored.patch(2, rounds=2)
    known = reached(system, reduced=False)
    dice = random.Random(6)
    for _ in range(200):
        state = (system.shared, system.processes)
        while after := sorted(successors(system, state), key=repr):
            state = dice.choice(after)
            assert state in known


@pytest.mark.parametrize("exploration", REFUTED, ids=lambda e: e.title)
def test_a_failing_schedule_replays_to_its_failure(exploration: Exploration) -> None:
    system = exploration.make()
    failure = explore(system, reduced=False).failure
    assert failure is not None
    assert failure_of(system, failure.schedule) == exploration.refutes


MOVES = st.lists(st.builds(Move, st.integers(0, 4), st.sampled_from([STEP, SPURIOUS, STOP])))


@given(MOVES)
def test_a_schedule_survives_being_written(moves: list[Move]) -> None:
    assert parse_schedule(format_schedule(moves, "c1234"), "c1234") == moves


@pytest.mark.parametrize("schedule", ["x", "c?", "c*", "c*x", "5", "c*-1"])
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ScheduleError, match="cannot read"):
        parse_schedule(schedule, "c12")


def test_a_move_that_is_not_possible_is_refused() -> None:
    with pytest.raises(ScheduleError, match="move 2, c~, is not possible"):
        list(replay(explored.check_in(1), "c c~"))


def test_giving_up_is_no_verdict() -> None:
    with pytest.raises(MemoryError, match="more than 100 states"):
        explore(explored.check_in(2), limit=100)


@pytest.mark.parametrize("fault", ["rewinds for ever", "only looks"])
def test_a_protocol_that_goes_round_is_found(fault: str) -> None:
    system = explored.check_in(1, rounds=1, words=1, fault=fault)
    failure = explore(system, reduced=False).failure
    assert failure is not None and failure.invariant == LIVELOCK
    assert failure.schedule.endswith(("| c", "| 1"))


def test_a_standstill_is_found() -> None:
    system = explored.check_in(1, rounds=1, words=1, fault="quit without doorbell")
    failure = explore(system, reduced=False).failure
    assert failure is not None and failure.invariant == DEADLOCK


def stepping(**leads: str) -> System[One, One]:
    """One process that goes from place to place; ``end`` is where it ends."""
    return System(
        name="a walk",
        shared=One(0),
        processes=(One("a"),),
        names="c",
        steps={
            place: Step(place, choosing(to), spurious=choosing(aside) if aside else None)
            for place, (to, _, aside) in ((p, t.partition(" ")) for p, t in leads.items())
        },
        is_final=lambda processes: processes[0].pc == "end",
        symmetric_from=1,
    )


def choosing(place: str) -> Callable[[One, One], tuple[One, One]]:
    return lambda at, me: (at, One(place))


def test_a_livelock_is_found_with_the_shortest_lasso() -> None:
    """From a one may go aside to x, whence there is no way but round and round."""
    seen = explore(stepping(a="b x", b="end", x="y", y="z", z="y"))
    assert seen.failure == (LIVELOCK, "c~ c | c*2")
    assert failure_of(stepping(a="b x", b="end", x="y", y="z", z="y"), "c~ c | c*2") == LIVELOCK


def test_a_loop_with_a_way_out_is_no_livelock() -> None:
    system = stepping(a="b x", b="end", x="y a", y="a")
    assert explore(system).failure is None
    assert failure_of(system, "c~ | c*2 c~") is None


def test_a_way_out_by_a_whim_alone_is_none() -> None:
    """A futex may return without cause; nobody's progress may rest on it."""
    assert explore(stepping(a="b", b="a end")).failure == (LIVELOCK, "| c*2")


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explored, "HOLD", HOLD[:1])
    monkeypatch.setattr(explored, "REFUTED", REFUTED[:1])
    # Each of them is a test of its own, in test_weakened.py.
    monkeypatch.setattr(weakened, "HOLD", weakened.HOLD[:1])
    monkeypatch.setattr(weakened, "weakest", tuple)
    monkeypatch.setattr(weakened, "weakenings", tuple)
    assert explored.main([]) == 0
    printed = capsys.readouterr().out
    assert "check-in helpers=1 watched=0: holds" in printed
    assert "FAILS: no deadlock, no lost wake-up" in printed
    monkeypatch.setattr(explored, "HOLD", (Exploration("check-in", {"helpers": 1}, DEADLOCK),))
    assert explored.main([]) == 1
    with pytest.raises(SystemExit, match="2"):
        explored.main(["--shallow"])
