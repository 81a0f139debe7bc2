"""The join protocol with one thing broken: the faults of ``model.faults`` that are steps.

A fault replaces a step or two of :mod:`model.protocols.check_in`, or adds one; the rest stands. Broken
steps are read in other domains as the whole ones are, so they call the model's functions by plain names.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from model.domain import select
from model.protocols import accesses as a
from model.protocols import check_in as h
from model.protocols.accesses import Access
from model.protocols.check_in import (
    ONE,
    ZERO,
    After,
    Control,
    Process,
    caller_woken,
    check_in,
    check_out,
    claim,
    copy,
    read_state,
    set_quit,
)
from model.protocols.check_in import go_to_bed as whole_go_to_bed
from model.protocols.check_in import write_job as whole_write_job
from model.transitions import ENDED, LIVELOCK, STANDSTILL, Step, said

# Steps that only the broken protocols have.
STORE_OUT = 41
READ_JOB_TOO_EARLY = 42
STORE_CURSOR = 43

#: What every step does to memory, those of the broken protocols included.
ACCESSES: Mapping[Hashable, tuple[Access, ...]] = {
    **a.ACCESSES,
    STORE_OUT: (Access("store", a.STATE, "check_out, broken"),),
    READ_JOB_TOO_EARLY: (a.READ_JOB,),
    STORE_CURSOR: (a.READ_JOB, a.COUNT, Access("store", a.CURSOR, "work_off_claims, broken")),
}


class BrokenSteps(NamedTuple):
    """What is broken, by which steps, the claim that fails for it, and in rounds of how many batches."""

    what: str
    steps: Mapping[Hashable, Step]
    refutes: str
    words: int = 1


def _plain_countdown() -> Mapping[Hashable, Step]:
    def load_out(at: Control, me: Process) -> After:
        """Check out: load STATE."""
        return at, me._replace(pc=STORE_OUT, saw=at.state)

    def store_out(at: Control, me: Process) -> After:
        """Check out: store STATE with one less inside."""
        return check_out(at._replace(state=me.saw), me._replace(saw=h.ZERO))

    return {h.CHECK_OUT: said(load_out), STORE_OUT: said(store_out)}


def _blind_check_in() -> Mapping[Hashable, Step]:
    def add_one(at: Control, me: Process) -> After:
        """Check in: fetch-add on STATE, whatever it is by now."""
        return check_in(at, me._replace(saw=at.state))

    return {h.CHECK_IN: said(add_one)}


def _early_parameters() -> Mapping[Hashable, Step]:
    def load_state(at: Control, me: Process) -> After:
        """Load STATE: end, go on to the job, or sleep?"""
        at, me = read_state(at, me)
        return at, me._replace(pc=select(me.pc == h.CHECK_IN, READ_JOB_TOO_EARLY, me.pc))

    def load_job(at: Control, me: Process) -> After:
        """Load the job's parameters, before checking in."""
        return at, me._replace(pc=h.CHECK_IN, job=at.job)

    def enter(at: Control, me: Process) -> After:
        """Compare-and-swap STATE; then work by the parameters read before."""
        at, me = check_in(at, me)
        comes_in = me.pc == h.READ_JOB
        took_part = at.took_part + select(comes_in, ONE, ZERO)
        return at._replace(took_part=took_part), me._replace(pc=select(comes_in, h.CLAIM, me.pc))

    return {
        h.READ_STATE: said(load_state),
        READ_JOB_TOO_EARLY: said(load_job),
        h.CHECK_IN: said(enter),
    }


def _plain_claims() -> Mapping[Hashable, Step]:
    def load_cursor(at: Control, me: Process) -> After:
        """Claim: load CURSOR."""
        return at, me._replace(pc=STORE_CURSOR, claim=at.cursor)

    def store_cursor(at: Control, me: Process) -> After:
        """Claim: store CURSOR, one further; leave when all is claimed."""
        return claim(at._replace(cursor=me.claim), me)

    return {h.CLAIM: said(load_cursor), STORE_CURSOR: said(store_cursor)}


def _waits_for_the_woken() -> Mapping[Hashable, Step]:
    def open_job(at: Control, me: Process) -> After:
        """STATE = OPEN, with every helper that will be woken counted as inside already."""
        return at._replace(state=h.OPEN + at.running), me._replace(pc=h.RING_BELL)

    def come_in(at: Control, me: Process) -> After:
        """Check in: one has been counted already."""
        return at._replace(working=at.working + ONE), me._replace(pc=h.READ_JOB, saw=h.ZERO)

    return {h.OPEN_JOB: said(open_job), h.CHECK_IN: said(come_in)}


def _never_closes() -> Mapping[Hashable, Step]:
    def skip(at: Control, me: Process) -> After:
        """The job stays open."""
        return at, me._replace(pc=h.LOOK_INSIDE)

    return {h.CLOSE_JOB: said(skip)}


def _closes_early() -> Mapping[Hashable, Step]:
    def skip(at: Control, me: Process) -> After:
        """Whoever has come has come."""
        return at, me._replace(pc=h.CLOSE_JOB)

    return {h.AWAIT_ALL: said(skip)}


def _rings_first() -> Mapping[Hashable, Step]:
    def rewind_then_ring(at: Control, me: Process) -> After:
        """CURSOR = 0."""
        return at._replace(cursor=h.ZERO), me._replace(pc=h.RING_BELL)

    def ring_then_open(at: Control, me: Process) -> After:
        """RING += 1, the job not open yet."""
        return at._replace(ring=at.ring + ONE), me._replace(pc=h.OPEN_JOB)

    def open_then_wake(at: Control, me: Process) -> After:
        """STATE = OPEN."""
        return at._replace(state=h.OPEN), me._replace(pc=h.WAKE_HELPERS)

    return {
        h.REWIND: said(rewind_then_ring),
        h.RING_BELL: said(ring_then_open),
        h.OPEN_JOB: said(open_then_wake),
    }


def _looks_once() -> Mapping[Hashable, Step]:
    def wakes(at: Control, me: Process) -> After:
        """futex_wait returns, with cause or without, and nobody looks at STATE again."""
        return at._replace(caller_asleep=h.ZERO), me._replace(pc=h.RETURN)

    return {h.CALLER_SLEEPS: said(wakes, ready=caller_woken, whim=wakes)}


def _last_wakes_nobody() -> Mapping[Hashable, Step]:
    def leave(at: Control, me: Process) -> After:
        """Fetch-sub on STATE, and to bed, even as the last one."""
        at, me = check_out(at, me)
        return at, me._replace(pc=h.LOOK_AT_RING)

    return {h.CHECK_OUT: said(leave)}


def _state_before_ring() -> Mapping[Hashable, Step]:
    def load_state(at: Control, me: Process) -> After:
        """Load STATE, before RING."""
        return at, me._replace(pc=h.READ_STATE, saw=at.state, seen=h.ZERO)

    def load_ring(at: Control, me: Process) -> After:
        """Load RING; then end, check in, or sleep, by the STATE loaded before."""
        _, decided = read_state(at._replace(state=me.saw), me)
        return at, decided._replace(seen=at.ring)

    return {
        h.READ_RING: said(load_state, stops=True),
        h.READ_STATE: said(load_ring, stops=True),
    }


def _quit_without_ring() -> Mapping[Hashable, Step]:
    def just_quit(at: Control, me: Process) -> After:
        """close(): STATE |= QUIT, and nobody is told."""
        at, me = set_quit(at, me)
        return at, me._replace(pc=h.JOIN)

    return {h.SET_QUIT: said(just_quit)}


def _claims_forgotten() -> Mapping[Hashable, Step]:
    def write_job(at: Control, me: Process) -> After:
        """flush() begins: the parameters of the next round, the number of claims left out."""
        at, me = whole_write_job(at, me)
        return at._replace(words=ZERO), me

    return {h.WRITE_JOB: said(write_job)}


def _one_batch_only() -> Mapping[Hashable, Step]:
    def copy_and_leave(at: Control, me: Process) -> After:
        """Flush the words claimed; then the round is done, whatever is left."""
        at, me = copy(at, me)
        return at, me._replace(pc=h.COMPLETE)

    return {h.COPY: said(copy_and_leave)}


def _completes_nothing() -> Mapping[Hashable, Step]:
    def claim_then_leave(at: Control, me: Process) -> After:
        """Fetch-add on CURSOR; check out when all is claimed, COMPLETED left as it is."""
        at, me = claim(at, me)
        return at, me._replace(pc=select(me.pc == h.COMPLETE, h.CHECK_OUT, me.pc))

    return {h.CLAIM: said(claim_then_leave)}


def _rewinds_for_ever() -> Mapping[Hashable, Step]:
    def rewind(at: Control, me: Process) -> After:
        """CURSOR = 0, and again."""
        return at._replace(cursor=ZERO), me

    return {h.REWIND: said(rewind)}


def _only_looks() -> Mapping[Hashable, Step]:
    def look(at: Control, me: Process) -> After:
        """Load STATE, and again, whatever it says."""
        return at, me

    return {h.READ_STATE: said(look, stops=True)}


def _ends_elsewhere() -> Mapping[Hashable, Step]:
    def end(at: Control, me: Process) -> After:
        """The thread ends, but is not among those that join waits for."""
        return at, me._replace(pc=ENDED)

    return {h.END: said(end)}


def _rewinds_in_passing() -> Mapping[Hashable, Step]:
    def go_to_bed(at: Control, me: Process) -> After:
        """futex_wait(RING, seen), CURSOR set back to 0 in passing."""
        at, me = whole_go_to_bed(at, me)
        return at._replace(cursor=ZERO), me

    whole = h.HELPER[h.GO_TO_BED]
    return {h.GO_TO_BED: said(go_to_bed, stops=whole.stops)}


def _opens_by_or() -> Mapping[Hashable, Step]:
    def open_job(at: Control, me: Process) -> After:
        """STATE |= OPEN: whoever is counted inside stays counted."""
        return at._replace(state=at.state | h.OPEN), me._replace(pc=h.RING_BELL)

    return {h.OPEN_JOB: said(open_job)}


#: Refuted by a helper and two rounds of one claim.
BROKEN: Mapping[str, BrokenSteps] = {
    "plain countdown": BrokenSteps(
        "helpers check out by a plain load and a plain store of STATE",
        _plain_countdown(),
        STANDSTILL,
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
    "plain claims": BrokenSteps(
        "helpers claim by a plain load and a plain store of CURSOR",
        _plain_claims(),
        h.AT_MOST_ONCE.name,
    ),
    "waits for the woken": BrokenSteps(
        "the caller waits for every helper it has woken, come or not",
        _waits_for_the_woken(),
        STANDSTILL,
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
        STANDSTILL,
    ),
    "STATE before RING": BrokenSteps(
        "a helper loads STATE before RING: a ring between the two is lost",
        _state_before_ring(),
        STANDSTILL,
    ),
    "claims forgotten": BrokenSteps(
        "the number of claims is not written with the job's other parameters",
        _claims_forgotten(),
        h.EXACTLY_ONCE.name,
    ),
    "rewinds in passing": BrokenSteps(
        "a helper that goes to bed sets CURSOR back, which is the caller's",
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
        STANDSTILL,
    ),
    "quit without ring": BrokenSteps(
        "close sets QUIT and joins, but does not ring",
        _quit_without_ring(),
        STANDSTILL,
    ),
}

#: Refuted by a helper and two static rounds; the second does no harm in any other round.
BROKEN_IN_A_STATIC_ROUND: Mapping[str, BrokenSteps] = {
    "closes early": BrokenSteps(
        "the caller of a static round closes it without waiting for every helper",
        _closes_early(),
        h.EVERY_SHARE.name,
    ),
    "rings first": BrokenSteps(
        "the caller rings before it opens the job: a helper looks, sees it closed, and sleeps",
        _rings_first(),
        STANDSTILL,
    ),
}

#: Refuted by a forked child: its parent's helpers may be counted in STATE, but do not exist.
CHILD_KEEPS_STATE = "child keeps STATE"
BROKEN_IN_A_CHILD: Mapping[str, BrokenSteps] = {
    CHILD_KEEPS_STATE: BrokenSteps(
        "a forked child goes on with its parent's count of helpers inside",
        _opens_by_or(),
        STANDSTILL,
    ),
}
