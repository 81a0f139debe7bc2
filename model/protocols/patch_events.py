"""The patch's events: each thread has one that triggers it and one that says it is done.

``colo_flush_ram_cache`` resets every completion and sets every trigger, then waits for every
completion. A thread waits for its trigger, resets it, leaves if ``quit`` is set, flushes its share,
sets its completion. ``colo_release_ram_cache`` sets ``quit`` and every trigger, and joins.

An event is QEMU's ``QemuEvent``, broken down to its memory accesses: one word, compare-and-swap,
exchange, and a futex. The word is SET, FREE (not set, nobody waits) or BUSY (not set, somebody waits).
``set`` wakes only if it finds BUSY. As it was in 2016, ``wait`` called the futex once and did not look
again: a futex may return for no reason, and then ``wait`` returned with the event not set. Mended
upstream in 2025 by a loop. Both are here.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from model.transitions import ENDED, Invariant, Step, System

SET, FREE, BUSY = 0, 1, -1

T = TypeVar("T")


class Event(NamedTuple):
    """``value`` and whether its one waiter is asleep on it."""

    value: int = FREE
    asleep: bool = False


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
    rounds: int
    """how many there are to be"""


class Process(NamedTuple):
    """Where a process stands; the thread it is, or the thread that the caller is dealing with."""

    pc: Hashable
    thread: int = 0
    round: int = 0


After = tuple[Threads, Process]

TRIGGER, COMPLETE = "triggers", "completes"

# What must hold.


def is_in_progress(at: Threads, me: Process) -> bool:
    """Whoever is about to copy does so while a flush is in progress."""
    return at.live != 0


def not_flushed_yet(at: Threads, me: Process) -> bool:
    """Whoever is about to flush a share is the first to do so in this round."""
    return at.flushed[me.thread] != at.live


def all_are_flushed(at: Threads, me: Process) -> bool:
    """When a flush returns every share has been flushed in its round."""
    return all(done == at.live for done in at.flushed)


def none_is_in_progress(at: Threads, me: Process) -> bool:
    """A flush begins, and the pool is released, when no flush is in progress."""
    return at.live == 0


def all_rounds_are_flushed(at: Threads, me: Process) -> bool:
    """Who releases the pool has flushed as often as it was to."""
    return me.round == at.rounds or not at.triggers


LENT = Invariant("no helper touches memory after flush has returned", is_in_progress)
AT_MOST_ONCE = Invariant("each share is flushed exactly once", not_flushed_yet)
FINISHED = Invariant("flush returns only when every thread has finished", all_are_flushed)
ONE_AT_A_TIME = Invariant("one flush is in progress at a time", none_is_in_progress)
ALL_ROUNDS = Invariant("the pool is released after the last flush", all_rounds_are_flushed)


# An event, used at one place of a program.


class Use(NamedTuple):
    """Which event is used at ``pc``: one of the process's ``thread``; and where the process goes on.

    With ``each`` the caller goes on there with the next thread; after the last one, at ``then``.
    """

    event: str
    pc: str
    then: Hashable
    each: str | None = None
    looks_again: bool = True
    """after the futex, as since 2025"""

    def get(self, at: Threads, me: Process) -> Event:
        """The event, as shared memory has it."""
        event: Event = getattr(at, self.event)[me.thread]
        return event

    def put(self, at: Threads, me: Process, event: Event) -> Threads:
        """Shared memory with the event changed."""
        changed: dict[str, Any] = {self.event: _with(getattr(at, self.event), me.thread, event)}
        return at._replace(**changed)

    def on(self, access: str) -> str:
        """The ``pc`` of one of the operation's later accesses."""
        return f"{self.pc}, {access}"

    def done(self, at: Threads, me: Process) -> Process:
        """The operation is over."""
        return (
            _next_thread(at, me, self.each, self.then) if self.each else me._replace(pc=self.then)
        )

    def woken(self, at: Threads, me: Process) -> Process:
        """The futex has returned."""
        return me._replace(pc=self.pc) if self.looks_again else self.done(at, me)


def load_to_set(use: Use, at: Threads, me: Process) -> After:
    # Set already: who waited has been woken by whoever set it.
    if use.get(at, me).value == SET:
        return at, use.done(at, me)
    return at, me._replace(pc=use.on("exchange"))


def exchange(use: Use, at: Threads, me: Process) -> After:
    # No plain store: only what was there before says whether somebody sleeps.
    event = use.get(at, me)
    after = me._replace(pc=use.on("wake")) if event.value == BUSY else use.done(at, me)
    return use.put(at, me, event._replace(value=SET)), after


def futex_wake(use: Use, at: Threads, me: Process) -> After:
    return use.put(at, me, use.get(at, me)._replace(asleep=False)), use.done(at, me)


def load_to_reset(use: Use, at: Threads, me: Process) -> After:
    if use.get(at, me).value == SET:
        return at, me._replace(pc=use.on("or"))
    return at, use.done(at, me)


def fetch_or(use: Use, at: Threads, me: Process) -> After:
    # No plain store: of SET it makes FREE, and BUSY, a waiter that has come since, stays.
    event = use.get(at, me)
    return use.put(at, me, event._replace(value=event.value | FREE)), use.done(at, me)


def load_to_wait(use: Use, at: Threads, me: Process) -> After:
    value = use.get(at, me).value
    if value == SET:
        return at, use.done(at, me)
    return at, me._replace(pc=use.on("compare-and-swap" if value == FREE else "futex"))


def compare_and_swap(use: Use, at: Threads, me: Process) -> After:
    event = use.get(at, me)
    if event.value == SET:
        return at, use.done(at, me)
    # BUSY before it sleeps: whoever sets the event finds that, and wakes it.
    if event.value == FREE:
        at = use.put(at, me, event._replace(value=BUSY))
    return at, me._replace(pc=use.on("futex"))


def futex_wait(use: Use, at: Threads, me: Process) -> After:
    event = use.get(at, me)
    # The kernel looks once more: whoever has set the event since has woken nobody, for nobody slept.
    if event.value != BUSY:
        return at, use.woken(at, me)
    return use.put(at, me, event._replace(asleep=True)), me._replace(pc=use.on("asleep"))


def wake_up(use: Use, at: Threads, me: Process) -> After:
    return use.put(at, me, use.get(at, me)._replace(asleep=False)), use.woken(at, me)


Steps = dict[Hashable, Step]


def setting(use: Use) -> Steps:
    """``qemu_event_set``."""
    return {
        use.pc: _access(use, "set: load", load_to_set),
        use.on("exchange"): _access(use, "set: exchange for SET", exchange),
        use.on("wake"): _access(use, "set: futex_wake", futex_wake),
    }


def resetting(use: Use) -> Steps:
    """``qemu_event_reset``."""
    return {
        use.pc: _access(use, "reset: load", load_to_reset),
        use.on("or"): _access(use, "reset: fetch-or FREE", fetch_or),
    }


def waiting(use: Use) -> Steps:
    """``qemu_event_wait``."""
    wakes = partial(wake_up, use)
    return {
        use.pc: _access(use, "wait: load", load_to_wait),
        use.on("compare-and-swap"): _access(
            use, "wait: compare-and-swap FREE to BUSY", compare_and_swap
        ),
        use.on("futex"): _access(use, "wait: futex_wait while BUSY", futex_wait),
        use.on("asleep"): Step(
            f"{use.event}: wait: futex_wait returns",
            wakes,
            ready=lambda at, me: not use.get(at, me).asleep,
            spurious=wakes,
        ),
    }


def _access(use: Use, text: str, act: Callable[[Use, Threads, Process], After]) -> Step:
    made = Invariant(
        "events are made before they are used",
        lambda at, me: me.thread < len(getattr(at, use.event)),
    )
    return Step(f"{use.event}: {text}", partial(act, use), invariants=(made,))


# The caller, and a thread.


def flush(first: str, at: Threads, me: Process) -> After:
    return at._replace(live=me.round + 1), me._replace(pc=first, round=me.round + 1)


def finish(at: Threads, me: Process) -> After:
    return at._replace(live=0), me._replace(pc="flush" if me.round < at.rounds else "release")


def release(first: str, at: Threads, me: Process) -> After:
    return at._replace(quit=True), me._replace(pc=first)


def join(first: str, at: Threads, me: Process) -> After:
    return at, _next_thread(at, me, first, ENDED)


def has_ended(at: Threads, me: Process) -> bool:
    return bool(at.ended[me.thread])


def check_quit(at: Threads, me: Process) -> After:
    return at, me._replace(pc="end" if at.quit else "copy")


def copy(at: Threads, me: Process) -> After:
    flushed = _with(at.flushed, me.thread, at.live)
    return at._replace(flushed=flushed), me._replace(pc="complete")


def end(at: Threads, me: Process) -> After:
    return at._replace(ended=_with(at.ended, me.thread, 1)), me._replace(pc=ENDED)


AWAIT = Use(COMPLETE, "await", then="return", each="await")
WAIT = Use(TRIGGER, "wait", then="reset trigger")


def caller() -> Steps:
    """The caller's program."""
    return {
        "flush": Step(
            "flush() begins", partial(flush, "reset completion"), invariants=(ONE_AT_A_TIME,)
        ),
        # Reset before the thread is triggered: later, it could undo a completion of this very round.
        **resetting(Use(COMPLETE, "reset completion", then="set trigger")),
        **setting(Use(TRIGGER, "set trigger", then="await", each="reset completion")),
        **waiting(AWAIT),
        "return": Step("flush() returns", finish, invariants=(FINISHED,)),
        "release": Step(
            "release(): quit = true",
            partial(release, "set last trigger"),
            invariants=(ONE_AT_A_TIME, ALL_ROUNDS),
        ),
        **setting(Use(TRIGGER, "set last trigger", then="join")),
        "join": Step("join the thread", partial(join, "set last trigger"), ready=has_ended),
    }


def thread() -> Steps:
    """The program of each of the patch's threads."""
    return {
        **waiting(WAIT),
        # Reset before it works: a trigger set meanwhile is that of the next round, and stays.
        **resetting(Use(TRIGGER, "reset trigger", then="check quit")),
        "check quit": Step("load quit", check_quit),
        "copy": Step("flush the share", copy, invariants=(LENT, AT_MOST_ONCE)),
        **setting(Use(COMPLETE, "complete", then="wait")),
        "end": Step("the thread ends", end),
    }


# What is broken, by which steps.


class Fault(NamedTuple):
    """What is broken, and the steps that stand instead."""

    what: str
    steps: Callable[[], Mapping[Hashable, Step]]


FAULTS = {
    "trigger wait looks once": Fault(
        "a thread waits for its trigger with the QemuEvent of 2016: a futex that returns for no reason "
        "ends the wait",
        lambda: waiting(WAIT._replace(looks_again=False)),
    ),
    "completion wait looks once": Fault(
        "flush waits for completions with the QemuEvent of 2016",
        lambda: waiting(AWAIT._replace(looks_again=False)),
    ),
    "completion reset last": Fault(
        "flush sets a thread's trigger before it resets its completion",
        lambda: {
            "flush": Step("flush() begins", partial(flush, "set trigger")),
            **setting(Use(TRIGGER, "set trigger", then="reset completion")),
            **resetting(Use(COMPLETE, "reset completion", then="await", each="set trigger")),
        },
    ),
    "trigger reset last": Fault(
        "a thread resets its trigger after it has set its completion",
        lambda: {
            **waiting(WAIT._replace(then="check quit")),
            **setting(Use(COMPLETE, "complete", then="reset trigger")),
            **resetting(Use(TRIGGER, "reset trigger", then="wait")),
        },
    ),
    "flushes again": Fault(
        "a thread that has completed flushes its share again, untriggered",
        lambda: setting(Use(COMPLETE, "complete", then="copy")),
    ),
    "quit without trigger": Fault(
        "release sets quit but no trigger, and joins",
        lambda: {
            "release": Step("release(): quit = true", partial(release, "join")),
            "join": Step("join the thread", partial(join, "join"), ready=has_ended),
        },
    ),
    "release before init": Fault(
        "release finds no events: init was never called or had failed", dict
    ),
}


def patch_protocol(threads: int, rounds: int, fault: str | None = None) -> System[Threads, Process]:
    """The caller (``c``) and the patch's threads (``1``, ``2``, ...), mended, or with one fault."""
    instead = FAULTS[fault].steps() if fault else {}
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
            rounds=rounds,
        ),
        processes=(
            Process("flush" if made else "release"),
            *[Process("wait", index) for index in range(made)],
        ),
        names="c123456789"[: made + 1],
        steps={**caller(), **thread(), **instead},
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=made + 1,
    )


def _next_thread(at: Threads, me: Process, each: str, then: Hashable) -> Process:
    """At ``each`` with the next thread; after the last one, at ``then``."""
    over = me.thread + 1 == len(at.flushed)
    return me._replace(pc=then if over else each, thread=0 if over else me.thread + 1)


def _with(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])
