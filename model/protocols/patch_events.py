"""The patch's handshake: each thread has an event that triggers it and one that says it is done.

``colo_flush_ram_cache`` resets every completion and sets every trigger, then waits for every
completion. A thread waits for its trigger, resets it, leaves if ``quit`` is set, flushes its share,
sets its completion. ``colo_release_ram_cache`` sets ``quit`` and every trigger, and joins.

Each event operation is broken down to its memory accesses (``model.protocols.event``).
"""

from collections.abc import Hashable
from typing import NamedTuple

from model.protocols.event import Event, Place, Then, reset_event, set_event, wait_event
from model.transitions import ENDED, Invariant, Step, System

TRIGGER, COMPLETE = Place("triggers"), Place("completes")


class Threads(NamedTuple):
    """``ColoRamCacheThreads``, and what its invariants need to know about each thread's share."""

    triggers: tuple[Event, ...]
    completes: tuple[Event, ...]
    quit: bool
    ended: tuple[int, ...]
    live: int
    """the round of the flush in progress, 0 when none is"""
    flushed: tuple[int, ...]
    """the last round in which each share was flushed"""


class Process(NamedTuple):
    """Where a process stands; the thread it is, or the thread that the caller is dealing with."""

    pc: Hashable
    thread: int = 0
    round: int = 0


LENT = Invariant(
    "no helper touches memory after flush has returned",
    lambda at, me: at.live != 0,
)
AT_MOST_ONCE = Invariant(
    "each share is flushed exactly once",
    lambda at, me: at.flushed[me.thread] != at.live,
)
FINISHED = Invariant(
    "flush returns only when every thread has finished",
    lambda at, me: all(done == at.live for done in at.flushed),
)

FAULTS = {
    "trigger wait looks once": "a thread waits for its trigger with the QemuEvent of 2016: a futex "
    "that returns for no reason ends the wait",
    "completion wait looks once": "flush waits for completions with the QemuEvent of 2016",
    "completion reset last": "flush sets a thread's trigger before it resets its completion",
    "trigger reset last": "a thread resets its trigger after it has set its completion",
    "quit without trigger": "release sets quit but no trigger, and joins",
    "release before init": "release finds no events: init was never called or had failed",
}


def patch_protocol(threads: int, rounds: int, fault: str | None = None) -> System[Threads, Process]:
    """The caller (``c``) and the patch's threads (``1``, ``2``, ...), mended, or with one fault."""
    made = 0 if fault == "release before init" else threads
    return System(
        name=f"the patch's events, {threads} threads, {rounds} rounds",
        shared=Threads(
            triggers=(Event(),) * made,
            completes=(Event(),) * made,
            quit=False,
            ended=(0,) * threads,
            live=0,
            flushed=(0,) * threads,
        ),
        processes=(
            Process("flush" if made else "release"),
            *[Process("wait", index) for index in range(made)],
        ),
        names="c123456789"[: made + 1],
        steps={**_caller(threads, rounds, fault), **_thread(fault)},
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=made + 1,
    )


def _goto(pc: Hashable) -> Then:
    return lambda me: me._replace(pc=pc)


def _for_each(threads: int, pc: Hashable, then: Hashable) -> Then:
    """The next thread at ``pc``; after the last one, ``then``."""

    def go_on(me: Process) -> Process:
        over = me.thread + 1 == threads
        return me._replace(pc=then if over else pc, thread=0 if over else me.thread + 1)

    return go_on


def _caller(threads: int, rounds: int, fault: str | None) -> dict[Hashable, Step]:
    def flush(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at._replace(live=me.round + 1), me._replace(pc=kick, round=me.round + 1)

    def finish(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at._replace(live=0), me._replace(pc="flush" if me.round < rounds else "release")

    def release(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at._replace(quit=True), me._replace(pc=end_threads)

    def join(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at, _for_each(threads, end_threads, ENDED)(me)

    resets_last = fault == "completion reset last"
    kick = "set trigger" if resets_last else "reset completion"
    kick_next = _for_each(threads, kick, "await")
    end_threads = "join" if fault == "quit without trigger" else "set last trigger"
    return {
        "flush": Step("flush() begins", flush),
        **reset_event(
            COMPLETE, "reset completion", kick_next if resets_last else _goto("set trigger")
        ),
        **set_event(
            TRIGGER, "set trigger", _goto("reset completion") if resets_last else kick_next
        ),
        **wait_event(
            COMPLETE,
            "await",
            _for_each(threads, "await", "return"),
            looks_again=fault != "completion wait looks once",
        ),
        "return": Step("flush() returns", finish, invariants=(FINISHED,)),
        "release": Step("release(): quit = true", release),
        **set_event(TRIGGER, "set last trigger", _goto("join")),
        "join": Step("join the thread", join, ready=lambda at, me: at.ended[me.thread]),
    }


def _thread(fault: str | None) -> dict[Hashable, Step]:
    def check_quit(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at, me._replace(pc="end" if at.quit else "copy")

    def copy(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at._replace(flushed=_with(at.flushed, me.thread, at.live)), me._replace(
            pc="complete"
        )

    def end(at: Threads, me: Process) -> tuple[Threads, Process]:
        return at._replace(ended=_with(at.ended, me.thread, 1)), me._replace(pc=ENDED)

    resets_last = fault == "trigger reset last"
    return {
        **wait_event(
            TRIGGER,
            "wait",
            _goto("check quit" if resets_last else "reset trigger"),
            looks_again=fault != "trigger wait looks once",
        ),
        **reset_event(TRIGGER, "reset trigger", _goto("wait" if resets_last else "check quit")),
        "check quit": Step("load quit", check_quit),
        "copy": Step("flush the share", copy, invariants=(LENT, AT_MOST_ONCE)),
        **set_event(COMPLETE, "complete", _goto("reset trigger" if resets_last else "wait")),
        "end": Step("the thread ends", end),
    }


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])
