"""The check-in protocol with one thing broken: the faults of ``model.faults`` that are steps.

A fault replaces a step or two of :mod:`model.protocols.check_in`, or adds one; the rest stands. Broken
steps are read in other domains as the whole ones are, so they call the model's functions by plain names.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from model.domain import select
from model.faults.registry import Fault, register
from model.protocols import accesses as a
from model.protocols import check_in as h
from model.protocols.accesses import Access
from model.protocols.check_in import (
    ONE,
    ZERO,
    After,
    ControlBlock,
    Process,
    caller_woken,
    check_in,
    check_out,
    copy,
    read_state,
    set_quit,
    take_batch,
)
from model.protocols.check_in import helper_park as whole_helper_park
from model.protocols.check_in import read_job as whole_read_job
from model.protocols.check_in import write_job as whole_write_job
from model.transitions import DEADLOCK, ENDED, LIVELOCK, Step, step

# Steps that only the broken protocols have.
STORE_OUT = 41
READ_JOB_TOO_EARLY = 42
STORE_CURSOR = 43

#: What every step does to memory, those of the broken protocols included.
ACCESSES: Mapping[Hashable, tuple[Access, ...]] = {
    **a.ACCESSES,
    STORE_OUT: (Access("store", a.STATE, "check_out, broken"),),
    READ_JOB_TOO_EARLY: (a.READ_JOB,),
    STORE_CURSOR: (a.READ_JOB, a.COUNT, Access("store", a.CURSOR, "take_batch, broken")),
}


class BrokenSteps(NamedTuple):
    """What is broken, by which steps, the invariant that fails, and in rounds of how many batches."""

    what: str
    steps: Mapping[Hashable, Step]
    refutes: str
    words: int = 1


def _plain_countdown() -> Mapping[Hashable, Step]:
    def load_out(at: ControlBlock, me: Process) -> After:
        """Check out: load STATE."""
        return at, me._replace(pc=STORE_OUT, seen_state=at.state)

    def store_out(at: ControlBlock, me: Process) -> After:
        """Check out: store STATE with one less inside."""
        return check_out(at._replace(state=me.seen_state), me._replace(seen_state=h.ZERO))

    return {h.CHECK_OUT: step(load_out), STORE_OUT: step(store_out)}


def _blind_check_in() -> Mapping[Hashable, Step]:
    def add_one(at: ControlBlock, me: Process) -> After:
        """Check in: fetch-add on STATE, whatever it is by now."""
        return check_in(at, me._replace(seen_state=at.state))

    return {h.CHECK_IN: step(add_one)}


def _early_parameters() -> Mapping[Hashable, Step]:
    def load_state(at: ControlBlock, me: Process) -> After:
        """Load STATE: end, go on to the job, or sleep?"""
        at, me = read_state(at, me)
        return at, me._replace(pc=select(me.pc == h.CHECK_IN, READ_JOB_TOO_EARLY, me.pc))

    def load_job(at: ControlBlock, me: Process) -> After:
        """Load the job's parameters, before checking in."""
        return at, me._replace(pc=h.CHECK_IN, job=at.job)

    def enter(at: ControlBlock, me: Process) -> After:
        """Compare-and-swap STATE; then work by the parameters read before."""
        at, me = check_in(at, me)
        comes_in = me.pc == h.READ_JOB
        took_part = at.took_part + select(comes_in, ONE, ZERO)
        return at._replace(took_part=took_part), me._replace(
            pc=select(comes_in, h.TAKE_BATCH, me.pc)
        )

    return {
        h.READ_STATE: step(load_state),
        READ_JOB_TOO_EARLY: step(load_job),
        h.CHECK_IN: step(enter),
    }


def _plain_cursor() -> Mapping[Hashable, Step]:
    def load_cursor(at: ControlBlock, me: Process) -> After:
        """Take a batch: load CURSOR."""
        return at, me._replace(pc=STORE_CURSOR, batch=at.cursor)

    def store_cursor(at: ControlBlock, me: Process) -> After:
        """Take a batch: store CURSOR, one further; check out when none is left."""
        return take_batch(at._replace(cursor=me.batch), me)

    return {h.TAKE_BATCH: step(load_cursor), STORE_CURSOR: step(store_cursor)}


def _waits_for_the_woken() -> Mapping[Hashable, Step]:
    def open_job(at: ControlBlock, me: Process) -> After:
        """STATE = OPEN, with every helper that will be woken counted as inside already."""
        return at._replace(state=h.OPEN + at.running), me._replace(pc=h.RING_DOORBELL)

    def come_in(at: ControlBlock, me: Process) -> After:
        """Check in: one has been counted already."""
        return at._replace(working=at.working + ONE), me._replace(pc=h.READ_JOB, seen_state=h.ZERO)

    return {h.OPEN_JOB: step(open_job), h.CHECK_IN: step(come_in)}


def _never_closes() -> Mapping[Hashable, Step]:
    def skip(at: ControlBlock, me: Process) -> After:
        """The job stays open."""
        return at, me._replace(pc=h.LOOK_INSIDE)

    return {h.CLOSE_JOB: step(skip)}


def _closes_early() -> Mapping[Hashable, Step]:
    def skip(at: ControlBlock, me: Process) -> After:
        """Whoever has come has come."""
        return at, me._replace(pc=h.CLOSE_JOB)

    return {h.AWAIT_ALL: step(skip)}


def _flushes_no_share() -> Mapping[Hashable, Step]:
    def read_job(at: ControlBlock, me: Process) -> After:
        """Load the job's parameters; then a share is taken for flushed."""
        at, me = whole_read_job(at, me)
        return at, me._replace(pc=select(me.pc == h.COPY, h.COMPLETE, me.pc))

    return {h.READ_JOB: step(read_job)}


def _rings_first() -> Mapping[Hashable, Step]:
    def rewind_then_ring(at: ControlBlock, me: Process) -> After:
        """CURSOR = 0."""
        return at._replace(cursor=h.ZERO), me._replace(pc=h.RING_DOORBELL)

    def ring_then_open(at: ControlBlock, me: Process) -> After:
        """DOORBELL += 1, the job not open yet."""
        return at._replace(doorbell=at.doorbell + ONE), me._replace(pc=h.OPEN_JOB)

    def open_then_wake(at: ControlBlock, me: Process) -> After:
        """STATE = OPEN."""
        return at._replace(state=h.OPEN), me._replace(pc=h.WAKE_HELPERS)

    return {
        h.REWIND: step(rewind_then_ring),
        h.RING_DOORBELL: step(ring_then_open),
        h.OPEN_JOB: step(open_then_wake),
    }


def _looks_once() -> Mapping[Hashable, Step]:
    def wakes(at: ControlBlock, me: Process) -> After:
        """futex_wait returns, with cause or without, and nobody looks at STATE again."""
        return at._replace(caller_asleep=h.ZERO), me._replace(pc=h.RETURN)

    return {h.CALLER_PARKED: step(wakes, ready=caller_woken, spurious=wakes)}


def _last_wakes_nobody() -> Mapping[Hashable, Step]:
    def leave(at: ControlBlock, me: Process) -> After:
        """Fetch-sub on STATE, and parks, even as the last one."""
        at, me = check_out(at, me)
        return at, me._replace(pc=h.LOOK_AT_DOORBELL)

    return {h.CHECK_OUT: step(leave)}


def _state_before_doorbell() -> Mapping[Hashable, Step]:
    def load_state(at: ControlBlock, me: Process) -> After:
        """Load STATE, before DOORBELL."""
        return at, me._replace(pc=h.READ_STATE, seen_state=at.state, seen_doorbell=h.ZERO)

    def load_doorbell(at: ControlBlock, me: Process) -> After:
        """Load DOORBELL; then end, check in, or sleep, by the STATE loaded before."""
        _, decided = read_state(at._replace(state=me.seen_state), me)
        return at, decided._replace(seen_doorbell=at.doorbell)

    return {
        h.READ_DOORBELL: step(load_state, stops=True),
        h.READ_STATE: step(load_doorbell, stops=True),
    }


def _quit_without_doorbell() -> Mapping[Hashable, Step]:
    def just_quit(at: ControlBlock, me: Process) -> After:
        """close(): STATE |= QUIT, and nobody is told."""
        at, me = set_quit(at, me)
        return at, me._replace(pc=h.JOIN)

    return {h.SET_QUIT: step(just_quit)}


def _batches_forgotten() -> Mapping[Hashable, Step]:
    def write_job(at: ControlBlock, me: Process) -> After:
        """flush() begins: the parameters of the next round, the number of batches left out."""
        at, me = whole_write_job(at, me)
        return at._replace(words=ZERO), me

    return {h.WRITE_JOB: step(write_job)}


def _one_batch_only() -> Mapping[Hashable, Step]:
    def copy_and_leave(at: ControlBlock, me: Process) -> After:
        """Flush the batch; then the round is done, whatever is left."""
        at, me = copy(at, me)
        return at, me._replace(pc=h.COMPLETE)

    return {h.COPY: step(copy_and_leave)}


def _completes_nothing() -> Mapping[Hashable, Step]:
    def take_batch_then_check_out(at: ControlBlock, me: Process) -> After:
        """Fetch-add on CURSOR; check out when none is left, COMPLETED as it is."""
        at, me = take_batch(at, me)
        return at, me._replace(pc=select(me.pc == h.COMPLETE, h.CHECK_OUT, me.pc))

    return {h.TAKE_BATCH: step(take_batch_then_check_out)}


def _takes_batches_for_ever() -> Mapping[Hashable, Step]:
    def take_and_take(at: ControlBlock, me: Process) -> After:
        """Fetch-add on CURSOR, and again when none is left."""
        at, me = take_batch(at, me)
        return at, me._replace(pc=select(me.pc == h.COMPLETE, h.TAKE_BATCH, me.pc))

    return {h.TAKE_BATCH: step(take_and_take)}


def _rewinds_for_ever() -> Mapping[Hashable, Step]:
    def rewind(at: ControlBlock, me: Process) -> After:
        """CURSOR = 0, and again."""
        return at._replace(cursor=ZERO), me

    return {h.REWIND: step(rewind)}


def _only_looks() -> Mapping[Hashable, Step]:
    def look(at: ControlBlock, me: Process) -> After:
        """Load STATE, and again, whatever it says."""
        return at, me

    return {h.READ_STATE: step(look, stops=True)}


def _ends_elsewhere() -> Mapping[Hashable, Step]:
    def end(at: ControlBlock, me: Process) -> After:
        """The thread ends, but is not among those that join waits for."""
        return at, me._replace(pc=ENDED)

    return {h.END: step(end)}


def _rewinds_in_passing() -> Mapping[Hashable, Step]:
    def helper_park(at: ControlBlock, me: Process) -> After:
        """futex_wait(DOORBELL, seen_doorbell), CURSOR set back to 0 in passing."""
        at, me = whole_helper_park(at, me)
        return at._replace(cursor=ZERO), me

    whole = h.HELPER[h.HELPER_PARK]
    return {h.HELPER_PARK: step(helper_park, stops=whole.stops)}


def _opens_by_or() -> Mapping[Hashable, Step]:
    def open_job(at: ControlBlock, me: Process) -> After:
        """STATE |= OPEN: whoever is counted inside stays counted."""
        return at._replace(state=at.state | h.OPEN), me._replace(pc=h.RING_DOORBELL)

    return {h.OPEN_JOB: step(open_job)}


#: Refuted by a helper and two rounds of one batch.
BROKEN: Mapping[str, BrokenSteps] = {
    "plain countdown": BrokenSteps(
        "helpers check out by a plain load and a plain store of STATE",
        _plain_countdown(),
        DEADLOCK,
    ),
    "blind check-in": BrokenSteps(
        "a helper that has seen OPEN checks in by fetch-add, though the job may be closed by then",
        _blind_check_in(),
        h.FINISHED.name,
    ),
    "parameters read early": BrokenSteps(
        "a helper reads the job's parameters before it checks in: the OPEN it saw may come again",
        _early_parameters(),
        h.LENT.name,
    ),
    "plain cursor": BrokenSteps(
        "helpers take batches by a plain load and a plain store of CURSOR",
        _plain_cursor(),
        h.AT_MOST_ONCE.name,
    ),
    "waits for the woken": BrokenSteps(
        "the caller waits for every helper it has woken, come or not",
        _waits_for_the_woken(),
        DEADLOCK,
    ),
    "never closes": BrokenSteps(
        "the caller waits till nobody is inside, without closing the job first",
        _never_closes(),
        h.FINISHED.name,
    ),
    "looks once": BrokenSteps(
        "the caller does not look at STATE again when its futex returns",
        _looks_once(),
        h.FINISHED.name,
    ),
    "last wakes nobody": BrokenSteps(
        "the last helper out of a closed job does not wake the caller",
        _last_wakes_nobody(),
        DEADLOCK,
    ),
    "STATE before DOORBELL": BrokenSteps(
        "a helper loads STATE before DOORBELL: a ring of the doorbell between the two is lost",
        _state_before_doorbell(),
        DEADLOCK,
    ),
    "batches forgotten": BrokenSteps(
        "the number of batches is not written with the job's other parameters",
        _batches_forgotten(),
        h.EXACTLY_ONCE.name,
    ),
    "rewinds in passing": BrokenSteps(
        "a helper that parks sets CURSOR back, which is the caller's",
        _rewinds_in_passing(),
        h.AT_MOST_ONCE.name,
    ),
    "completes nothing": BrokenSteps(
        "a helper checks out without writing COMPLETED: what it has counted is not added up",
        _completes_nothing(),
        h.COUNTED.name,
    ),
    "one batch only": BrokenSteps(
        "a helper leaves after its first batch: the caller does the rest by itself",
        _one_batch_only(),
        h.STAYS.name,
        words=2,
    ),
    "takes batches for ever": BrokenSteps(
        "a helper that finds no batch left looks for one over and over",
        _takes_batches_for_ever(),
        LIVELOCK,
    ),
    "rewinds for ever": BrokenSteps(
        "the caller rewinds CURSOR and does not go on",
        _rewinds_for_ever(),
        LIVELOCK,
    ),
    "only looks": BrokenSteps(
        "a helper looks at STATE over and over, and never checks in, sleeps or ends",
        _only_looks(),
        LIVELOCK,
    ),
    "ends unseen": BrokenSteps(
        "a helper ends without telling whoever joins it",
        _ends_elsewhere(),
        DEADLOCK,
    ),
    "quit without doorbell": BrokenSteps(
        "close sets QUIT and joins, but does not ring the doorbell",
        _quit_without_doorbell(),
        DEADLOCK,
    ),
}

#: Refuted by a helper and two static rounds; the second does no harm in any other round.
BROKEN_IN_A_STATIC_ROUND: Mapping[str, BrokenSteps] = {
    "closes early": BrokenSteps(
        "the caller of a static round closes it without waiting for every helper",
        _closes_early(),
        h.EVERY_SHARE.name,
    ),
    "flushes no share": BrokenSteps(
        "a helper of a static round completes it without flushing its share",
        _flushes_no_share(),
        h.SHARES_ONCE.name,
    ),
    "rings first": BrokenSteps(
        "the caller rings before it opens the job: a helper looks, sees it closed, and sleeps",
        _rings_first(),
        DEADLOCK,
    ),
}

#: Refuted by a forked child: its parent's helpers may be counted in STATE, but do not exist.
CHILD_KEEPS_STATE = "child keeps STATE"
BROKEN_IN_A_CHILD: Mapping[str, BrokenSteps] = {
    CHILD_KEEPS_STATE: BrokenSteps(
        "a forked child goes on with its parent's count of helpers inside",
        _opens_by_or(),
        DEADLOCK,
    ),
}


def _with_steps(name: str, broken: BrokenSteps) -> Fault:
    def program() -> Mapping[Hashable, Step]:
        return {**h.CALLER, **h.HELPER, **broken.steps}

    return Fault(name, broken.what, h.program, program)


for _name, _broken in {**BROKEN, **BROKEN_IN_A_STATIC_ROUND, **BROKEN_IN_A_CHILD}.items():
    register(_with_steps(_name, _broken))
