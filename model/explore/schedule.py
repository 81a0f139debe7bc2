"""A schedule as a string, and the run that it describes.

A schedule is a short string of process names, each with a count and what happened:
``c*9 1*3 2 1~ c!`` is nine steps of ``c``, three of ``1``, one of ``2``, then a *spurious*
wake-up of ``1`` (its futex returns though nobody woke it), then ``c`` is never scheduled again. In
``c*3 | c*2`` the two steps after the bar lead back to where they began, and are taken for ever.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from model.errors import ScheduleError
from model.transitions import FOR_EVER, SPURIOUS, STEP, STOP, L, Move, S, System, outcomes_of


def format_schedule(moves: list[Move], names: str) -> str:
    """A schedule as a string, e.g. ``c*9 1*3 2 1~``."""
    runs: list[tuple[Move, int]] = []
    for move in moves:
        count = runs.pop()[1] if runs and runs[-1][0] == move else 0
        runs.append((move, count + 1))
    return " ".join(
        names[move.process] + move.kind + (f"*{count}" if count > 1 else "") for move, count in runs
    )


def parse_schedule(schedule: str, names: str) -> list[Move]:
    """The moves of a schedule written as a string; ScheduleError if it is not one."""
    moves: list[Move] = []
    for word in schedule.replace(FOR_EVER, " ").split():
        who, times, count = word.partition("*")
        name, kind = who[:1], who[1:]
        counted = count.isdigit() if times else True
        if name not in names or kind not in (STEP, SPURIOUS, STOP) or not counted:
            raise ScheduleError(f"schedule: cannot read {word!r}; processes are {', '.join(names)}")
        moves += [Move(names.index(name), kind)] * int(count or 1)
    return moves


class ReplayedStep(NamedTuple):
    """One move of a replay: who, what the step does, and the state after it."""

    name: str
    kind: str
    text: str
    shared: Any
    processes: tuple[Any, ...]


def replay(system: System[S, L], schedule: str) -> Iterator[ReplayedStep]:
    """Run a schedule move by move. ScheduleError at a move that is not possible."""
    shared, processes = system.shared, system.processes
    for number, move in enumerate(parse_schedule(schedule, system.names), start=1):
        me: Any = processes[move.process]
        name = system.names[move.process]
        outcomes = outcomes_of(system.steps, shared, me)
        outcome = next((o for o in outcomes if o[0] == move.kind), None)
        if outcome is None:
            raise ScheduleError(f"{system.name}: move {number}, {name}{move.kind}, is not possible")
        text = system.steps[me.pc].text
        _, shared, me = outcome
        processes = (*processes[: move.process], me, *processes[move.process + 1 :])
        yield ReplayedStep(name, move.kind, text, shared, processes)
