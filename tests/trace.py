"""Does the model explain a pool's events? ``python -m tests.trace FILE.ndjson``.

A log (``impl.kernels.events``) holds each worker's events in order; how the workers interleaved it does
not say. It is accepted only if some behaviour of ``model.protocols.check_in`` has exactly these events,
all of them, from the pool's start to the end of its last helper. Steps without an event may happen
between.

Exit 0: explained. 1: not, with the events that nothing explains. 2: not a log. ``--html`` draws that
behaviour, to be stepped through in a browser; ``--json`` writes what is drawn.
"""

import json
import operator
import sys
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from impl.pool import MAX_THREADS
from model.boundary.command import run
from model.boundary.input import read_text
from model.boundary.options import Parser
from model.boundary.output import check_outputs, printable, run_command
from model.errors import ColoError
from model.explore.pictures import picture
from model.nodes import node_in_turn
from model.page.document import Document, Replays, document, save
from model.page.page import write_page
from model.page.picture import drawn
from model.protocols import check_in as h
from model.protocols import node_cursors
from model.protocols.check_in import ControlBlock, Process, Round
from model.protocols.node_cursors import FLUSH, TAKE, Cursors, Taker
from model.transitions import ENDED


class NotALog(ColoError, ValueError):
    """A file that is no event log, or one of another kind."""


class Event(NamedTuple):
    """What a worker did, and the values it saw."""

    name: str
    values: dict[str, int]

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value:#x}" for key, value in self.values.items())])


#: As many steps of a behaviour are drawn.
MOST_STEPS = 2000

Log = tuple[tuple[Event, ...], ...]


def load(path: str | Path) -> Log:
    """Read a log; NotALog if the file is none."""
    try:
        head, *lines = [json.loads(line) for line in read_text(path).splitlines()]
        if head.get("log") != "pool events":
            raise NotALog(f"{path}: the first line does not say that this is a log of pool events")
        workers: list[list[Event]] = [[] for _ in range(min(head["workers"], MAX_THREADS))]
        for line in lines:
            worker, name = line.pop("worker"), line.pop("event")
            workers[range(len(workers))[worker]].append(
                Event(f"{name}", {key: _number(line[key]) for key in line})
            )
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise NotALog(f"{path}: not a log of pool events: {error}") from error
    return tuple(tuple(events) for events in workers)


def _number(value: int | str) -> int:
    number = int(value, 16) if isinstance(value, str) else operator.index(value)
    if not 0 <= number < 2**64:
        raise ValueError(f"{number:#x} is no value of 64 bits")
    return number


class State(NamedTuple):
    """A state of the model, and how many of each worker's events have been explained.

    In a round by node ``model.protocols.node_cursors`` says who takes which batch: ``begins`` are the
    numbers of the nodes' first dirty pages, and the end; of a worker that has taken none yet there is no
    taker. In other rounds these are empty.
    """

    at: ControlBlock
    processes: tuple[Process, ...]
    done: tuple[int, ...]
    grain: int
    begins: Cursors = ()
    cursors: Cursors = ()
    takers: tuple[Taker | None, ...] = ()


class Step(NamedTuple):
    """A worker's only possible next step. A free one commutes with whatever others do before it."""

    free: bool
    after: State


class Explained(NamedTuple):
    """Whether the model explains a log; if not, how far any behaviour got, and what came next.

    ``way``: the states of that behaviour between which there is a choice, from the start on.
    """

    accepted: bool
    events: int
    states: int
    unexplained: tuple[str, ...] = ()
    way: tuple[State, ...] = ()


def explain(log: Log) -> Explained:
    """Search for a behaviour of the model with exactly these events."""
    total = sum(map(len, log))
    if not log or not _count(log[0], "begin"):
        return Explained(False, 0, 0, ("a log without a round",))
    stack = [_start(log)]
    came_from: dict[State, State | None] = {stack[0]: None}
    furthest, its_last_choice = stack[0], stack[0]
    while stack:
        choice = stack.pop()
        state = _settle(log, choice)
        if sum(state.done) > sum(furthest.done):
            furthest, its_last_choice = state, choice
        if sum(state.done) == total and _over(state):
            return Explained(True, total, len(came_from), way=_way(came_from, choice))
        for step in _steps(log, state):
            if step.after not in came_from:
                came_from[step.after] = choice
                stack.append(step.after)
    missing, way = tuple(_waiting(log, furthest)), _way(came_from, its_last_choice)
    return Explained(False, sum(furthest.done), len(came_from), missing, way)


def _way(came_from: dict[State, State | None], last: State | None) -> tuple[State, ...]:
    way = []
    while last is not None:
        way.append(last)
        last = came_from[last]
    return tuple(reversed(way))


def behaviour(log: Log, way: tuple[State, ...]) -> Iterator[tuple[int, State]]:
    """Every step along a way: the worker, and the state after its step."""
    state = way[0]
    for after in way[1:]:
        for worker, moved in _settling(log, state):
            yield worker, (state := moved)
        steps = ((worker, _step(log, state, worker)) for worker in range(len(log)))
        yield next((worker, after) for worker, step in steps if step and step.after == after)
        state = after
    yield from _settling(log, state)


def _start(log: Log) -> State:
    system = h.check_in_protocol(len(log) - 1, rounds=0, words=0, plan=tuple(_plan(log)))
    return State(system.shared._replace(doorbell=0), system.processes, (0,) * len(log), 1)


def _plan(log: Log) -> Iterator[Round]:
    """What each round was asked to be, by the caller's events."""
    caller = log[0]
    starts = [place for place, event in enumerate(caller) if event.name == "begin"]
    for start, end in pairwise([*starts, len(caller)]):
        events = {event.name: event.values for event in caller[start:end]}
        # By node no batch is handed out by the one cursor.
        opened = {} if BEGINS in events else events.get("open", {})
        words = -(-opened.get("to_hand_out", 0) // max(opened.get("grain", 1), 1))
        awaited = (len(log) - 1) * ("await all" in events)
        yield Round(words, awaited, alone=int("open" not in events))


def _count(events: tuple[Event, ...], name: str) -> int:
    return sum(event.name == name for event in events)


def _over(state: State) -> bool:
    caller, *helpers = state.processes
    return caller.pc == h.JOIN and all(helper.pc == ENDED for helper in helpers)


def _waiting(log: Log, state: State) -> Iterator[str]:
    for worker, done in enumerate(state.done):
        if done < len(log[worker]):
            yield f"worker {worker}, event {done + 1}: {log[worker][done]}"
        elif state.processes[worker].pc not in (ENDED, h.JOIN):
            yield f"worker {worker}: its log ends, but not its work"


def _settle(log: Log, state: State) -> State:
    for _, moved in _settling(log, state):
        state = moved
    return state


def _settling(log: Log, state: State) -> Iterator[tuple[int, State]]:
    """Take every step that is free; their order makes no difference."""
    moved = True
    while moved:
        moved = False
        for worker in range(len(log)):
            step = _step(log, state, worker)
            while step is not None and step.free:
                state, moved = step.after, True
                yield worker, state
                step = _step(log, state, worker)


def _steps(log: Log, state: State) -> Iterator[Step]:
    for worker in range(len(log)):
        step = _step(log, state, worker)
        if step is not None:
            yield step


# Steps whose outcome, or effect on others, depends on the order in which workers take them.
ORDERED = {
    h.OPEN_JOB,
    h.RING_DOORBELL,
    h.CALLER_TAKE_BATCH,
    h.CLOSE_JOB,
    h.SET_QUIT,
    h.RING_TO_QUIT,
    h.CHECK_IN,
    h.TAKE_BATCH,
    h.CHECK_OUT,
}


def _step(log: Log, state: State, worker: int) -> Step | None:
    """The next step of a worker, if its log allows one now.

    Steps without an event wait till they lead on to the worker's next event: a load that sees
    something else is one that may as well not have happened.
    """
    me = state.processes[worker]
    events, done = log[worker], state.done[worker]
    event = events[done] if done < len(events) else Event("nothing more", {})
    step = h.program().get(me.pc)
    if step is None or me.pc == h.JOIN:
        return None
    if me.pc == h.AWAIT_ALL and not h.all_completed(state.at, me):
        return None
    if me.pc == h.REWIND:
        state = _rewound(log, state)
    if me.pc == h.OPEN_JOB:
        state = state._replace(grain=max(event.values.get("grain", 1), 1))
        if state.begins:
            end = event.values.get("to_hand_out", 0)
            state = state._replace(begins=(*state.begins, end))
    if state.begins and me.pc in FLUSHES:
        return _taken_of_node(state, worker, event)
    if state.begins and me.pc in FLUSHES.values():
        return _flushed_of_node(state, worker, event)
    at, after = step.act(state.at, me)
    shown = _shown(state, me, after, event)
    if shown != event if shown else not _leads_on(state.at, me, after, event):
        return None
    free = shown is None or me.pc not in ORDERED
    return Step(free, _moved(state, worker, at, after, explained=shown is not None))


#: Where a worker takes a batch, and where it then flushes it.
FLUSHES = {h.TAKE_BATCH: h.COPY, h.CALLER_TAKE_BATCH: h.CALLER_COPY}
BEGINS, TAKES = "node", "take batch of node"


def _rewound(log: Log, state: State) -> State:
    """What the caller has noted of a round's nodes is read off, as one step of it."""
    begins = list[int]()
    done, *others = state.done
    for event in log[0][done:]:
        if event.name != BEGINS or event.values.get("node") != len(begins):
            break
        begins.append(event.values.get("begin", 0))
    return state._replace(
        begins=tuple(begins),
        cursors=tuple(begins),
        takers=(None,) * len(state.done),
        done=(done + len(begins), *others),
    )


def _taken_of_node(state: State, worker: int, event: Event) -> Step | None:
    """A step of ``model.protocols.node_cursors``; its worker's own node is the first that it asks."""
    me, nodes = state.processes[worker], len(state.cursors)
    taker = state.takers[worker] or Taker(TAKE, event.values.get("node", nodes), 0, 0, 0)
    if taker.own >= nodes:
        return None
    node = node_in_turn(taker.own, taker.used_up, nodes)
    if event != Event(TAKES, {"cursor": state.cursors[node], "node": node}):
        return None
    cursors, taker = node_cursors.step(state.cursors, state.begins, nodes, state.grain, taker)
    at, after = state.at, me
    if taker.step == FLUSH:
        after = me._replace(pc=FLUSHES[me.pc], batch=event.values["cursor"])
    elif taker.step != TAKE:
        at, after = h.program()[me.pc].act(at, me)
    moved = _moved(state, worker, at, after, explained=True)
    return Step(False, moved._replace(cursors=cursors, takers=_with(taker, worker, state)))


def _flushed_of_node(state: State, worker: int, event: Event) -> Step | None:
    me, taker = state.processes[worker], state.takers[worker]
    if event != Event("done", {"cursor": me.batch}) or taker is None:
        return None
    _, taker = node_cursors.step(
        state.cursors, state.begins, len(state.cursors), state.grain, taker
    )
    at, after = h.program()[me.pc].act(state.at, me)
    moved = _moved(state, worker, at, after, explained=True)
    return Step(True, moved._replace(takers=_with(taker, worker, state)))


def _with(taker: Taker, worker: int, state: State) -> tuple[Taker | None, ...]:
    return (*state.takers[:worker], taker, *state.takers[worker + 1 :])


def _moved(state: State, worker: int, at: ControlBlock, me: Process, explained: int) -> State:
    processes = (*state.processes[:worker], me, *state.processes[worker + 1 :])
    done = (*state.done[:worker], state.done[worker] + explained, *state.done[worker + 1 :])
    return state._replace(at=at, processes=processes, done=done)


def _shown(state: State, me: Process, after: Process, event: Event) -> Event | None:
    """The event that a step from ``me`` to ``after`` leaves in the log, if it leaves one."""
    if me.pc in NOT_OURS_TO_SAY:
        name = NOT_OURS_TO_SAY[me.pc]
        return event if event.name == name else Event(name, {})
    shows = EVENT_OF.get(me.pc)
    return shows(state, me, after) if shows else None


#: What is in these events is not the model's to say: the job's size, how many a futex woke.
NOT_OURS_TO_SAY = {h.OPEN_JOB: "open", h.WAKE_HELPERS: "wake", h.WAKE_TO_QUIT: "wake"}

Shows = Callable[[State, Process, Process], Event | None]


def _takes_batch(state: State, me: Process, after: Process) -> Event | None:
    if state.at.words:
        return Event("take batch", {"cursor": state.at.cursor * state.grain})
    # A static or queued round hands out nothing by the cursor.
    awaits = me.pc == h.CALLER_TAKE_BATCH and state.at.awaited
    return Event("await all", {}) if awaits else None


def _has_done(state: State, me: Process, after: Process) -> Event:
    return Event("done", {"cursor": me.batch * state.grain})


def _if_next(pc: int, shows: Shows) -> Shows:
    """Only a step that leads to ``pc`` leaves the event."""
    return lambda state, me, after: shows(state, me, after) if after.pc == pc else None


EVENT_OF: dict[Hashable, Shows] = {
    h.WRITE_JOB: lambda s, me, after: Event("begin", {"round": after.job}),
    h.RING_DOORBELL: lambda s, me, after: Event("ring doorbell", {"doorbell": s.at.doorbell}),
    h.RING_TO_QUIT: lambda s, me, after: Event("ring doorbell", {"doorbell": s.at.doorbell}),
    h.CALLER_TAKE_BATCH: _takes_batch,
    h.CALLER_COPY: _has_done,
    h.AWAIT_ALL: lambda s, me, after: Event("all completed", {}),
    h.CLOSE_JOB: lambda s, me, after: Event("close", {"state": s.at.state}),
    h.LOOK_INSIDE: _if_next(
        h.CALLER_PARK, lambda s, me, after: Event("caller park", {"state": s.at.state})
    ),
    h.RETURN: lambda s, me, after: Event("return", {}),
    h.SET_QUIT: lambda s, me, after: Event("quit", {"state": s.at.state}),
    h.CHECK_IN: _if_next(
        h.READ_JOB,
        lambda s, me, after: Event(
            "check in", {"doorbell": me.seen_doorbell, "state": me.seen_state}
        ),
    ),
    h.READ_JOB: lambda s, me, after: Event("job", {"round": s.at.job}),
    h.TAKE_BATCH: _takes_batch,
    h.COPY: lambda s, me, after: _has_done(s, me, after) if s.at.words else None,
    h.COMPLETE: lambda s, me, after: Event("complete", {"round": s.at.job}),
    h.CHECK_OUT: lambda s, me, after: Event("check out", {"state": s.at.state}),
    h.WAKE_CALLER: lambda s, me, after: Event("wake caller", {}),
    h.LOOK_AT_DOORBELL: _if_next(
        h.HELPER_PARK, lambda s, me, after: Event("helper park", {"doorbell": s.at.doorbell})
    ),
    h.END: lambda s, me, after: Event("end", {}),
}


def _leads_on(at: ControlBlock, me: Process, after: Process, event: Event) -> bool:
    """Does a step without an event lead on to the worker's next event?"""
    leads = LEADS_ON.get(me.pc)
    return leads is None or leads(at, after, event)


def _saw_what_it_acts_on(at: ControlBlock, after: Process, event: Event) -> bool:
    goals = {"check in": h.CHECK_IN, "helper park": h.LOOK_AT_DOORBELL, "end": h.END}
    saw = event.values.get("state", after.seen_state)
    return goals.get(event.name) == after.pc and after.seen_state == saw


#: Of the other steps without an event each does.
LEADS_ON: dict[Hashable, Callable[[ControlBlock, Process, Event], bool]] = {
    h.READ_DOORBELL: lambda at, after, event: (
        event.name == "end" or event.values.get("doorbell") == at.doorbell
    ),
    h.READ_STATE: _saw_what_it_acts_on,
    h.CHECK_IN: lambda at, after, event: False,
    h.LOOK_INSIDE: lambda at, after, event: event.name == "return",
}


def as_document(path: str, log: Log, found: Explained) -> Document:
    """The behaviour found, as a replay: its first steps, or, if it explains not all, its last."""
    replays = Replays()
    replays.add(
        Path(path).name,
        list(_told(log, found)),
        "; ".join(("no behaviour of the model goes on", *found.unexplained))
        if found.unexplained
        else "",
        claim="the model explains what this pool did",
        control=None,
        about="Each worker's events are from the log; how the workers interleaved was searched for.",
    )
    return document("replays", traps=[], **replays.parts())


def _told(log: Log, found: Explained) -> Iterator[str]:
    names = ["c", *map(str, range(1, len(log)))]
    state, system = found.way[0], h.check_in_protocol(len(log) - 1, 0, 0, plan=tuple(_plan(log)))
    steps = list(behaviour(log, found.way))
    left_out = max(len(steps) - MOST_STEPS, 0)
    first = left_out if found.unexplained else 0
    if first:
        state = steps[first - 1][1]
    text = f"{len(log)} workers; {first} steps of {len(steps)} are left out before this one"
    yield drawn(text, picture(system, state.at, state.processes, names=names))
    for worker, after in steps[first : first + MOST_STEPS]:
        step = h.program()[state.processes[worker].pc]
        events = log[worker][state.done[worker] : after.done[worker]]
        text = f"{names[worker]}  {step.text}" + "".join(f"   [{event}]" for event in events)
        yield drawn(text, picture(system, after.at, after.processes, names[worker], names))
        state = after
    if left_out and not first:
        yield f"and {left_out} steps more"


def main(arguments: list[str]) -> int:
    """Check one log."""
    parser = Parser(prog="python -m tests.trace", description=__doc__)
    parser.add_argument(
        "file", metavar="FILE.ndjson", help="python -m impl flush --events FILE.ndjson"
    )
    parser.add_argument("--json", metavar="OUT", type=Path, help="write the behaviour found")
    parser.add_argument("--html", metavar="OUT", type=Path, help="draw it, step by step")
    options = parser.parse_args(arguments)
    return run_command(lambda: _check(options.file, options.json, options.html))


def _check(path: str, json_file: Path | None, html_file: Path | None) -> int:
    check_outputs(json_file, html_file, inputs=[Path(path)])
    try:
        log = load(path)
    except NotALog as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    found = explain(log)
    total = sum(map(len, log))
    rounds = _count(log[0], "begin") if log else 0
    print(f"{len(log)} workers, {rounds} rounds, {total} events")
    if found.way and (json_file or html_file):
        made = as_document(path, log, found)
        if json_file:
            save(json_file, made)
        if html_file:
            write_page(html_file, made)
    if found.accepted:
        print(
            f"explained: a behaviour of the model has all of them ({found.states} states searched)"
        )
        return 0
    print(f"NOT EXPLAINED: {found.events} of {total} events, then")
    for line in found.unexplained:
        print(f"  {printable(line)}")
    return 1


if __name__ == "__main__":
    run(main)
