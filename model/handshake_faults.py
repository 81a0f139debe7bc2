"""The join protocol with one thing broken: the faults of ``model.faults`` that are steps.

A fault replaces a step or two of :mod:`model.handshake`, or adds one; the rest stands.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from model import handshake as h
from model.handshake import ONE, After, Control, Process
from model.interleave import STANDSTILL, Step, said
from model.reading import select

# Steps that only the broken protocols have.
STORE_OUT = 41
READ_JOB_TOO_EARLY = 42


class BrokenSteps(NamedTuple):
    """What is broken, by which steps, and the claim that fails for it."""

    what: str
    steps: Mapping[Hashable, Step]
    refutes: str


def _plain_countdown() -> Mapping[Hashable, Step]:
    def load_out(at: Control, me: Process) -> After:
        """Check out: load STATE."""
        return at, me._replace(pc=STORE_OUT, saw=at.state)

    def store_out(at: Control, me: Process) -> After:
        """Check out: store STATE with one less inside."""
        return h.check_out(at._replace(state=me.saw), me._replace(saw=h.ZERO))

    return {h.CHECK_OUT: said(load_out), STORE_OUT: said(store_out)}


def _blind_check_in() -> Mapping[Hashable, Step]:
    def add_one(at: Control, me: Process) -> After:
        """Check in: fetch-add on STATE, whatever it is by now."""
        return h.check_in(at, me._replace(saw=at.state))

    return {h.CHECK_IN: said(add_one)}


def _early_parameters() -> Mapping[Hashable, Step]:
    def read_state(at: Control, me: Process) -> After:
        """Load STATE: end, go on to the job, or sleep?"""
        at, me = h.read_state(at, me)
        return at, me._replace(pc=select(me.pc == h.CHECK_IN, READ_JOB_TOO_EARLY, me.pc))

    def read_job(at: Control, me: Process) -> After:
        """Load the job's parameters, before checking in."""
        return at, me._replace(pc=h.CHECK_IN, job=at.job)

    def check_in(at: Control, me: Process) -> After:
        """Compare-and-swap STATE; then work by the parameters read before."""
        at, me = h.check_in(at, me)
        return at, me._replace(pc=select(me.pc == h.READ_JOB, h.CLAIM, me.pc))

    return {
        h.READ_STATE: said(read_state),
        READ_JOB_TOO_EARLY: said(read_job),
        h.CHECK_IN: said(check_in),
    }


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


def _looks_once() -> Mapping[Hashable, Step]:
    def wakes(at: Control, me: Process) -> After:
        """futex_wait returns, with cause or without, and nobody looks at STATE again."""
        return at._replace(caller_asleep=h.ZERO), me._replace(pc=h.RETURN)

    return {h.CALLER_SLEEPS: said(wakes, ready=h.caller_woken, whim=wakes)}


def _last_wakes_nobody() -> Mapping[Hashable, Step]:
    def check_out(at: Control, me: Process) -> After:
        """Fetch-sub on STATE, and to bed, even as the last one."""
        at, me = h.check_out(at, me)
        return at, me._replace(pc=h.GO_TO_BED)

    return {h.CHECK_OUT: said(check_out)}


def _state_before_ring() -> Mapping[Hashable, Step]:
    def read_state(at: Control, me: Process) -> After:
        """Load STATE, before RING."""
        return at, me._replace(pc=h.READ_STATE, saw=at.state)

    def read_ring(at: Control, me: Process) -> After:
        """Load RING; then end, check in, or sleep, by the STATE loaded before."""
        _, decided = h.read_state(at._replace(state=me.saw), me)
        return at, decided._replace(seen=at.ring)

    return {
        h.READ_RING: said(read_state, stops=True),
        h.READ_STATE: said(read_ring, stops=True),
    }


def _quit_without_ring() -> Mapping[Hashable, Step]:
    def set_quit(at: Control, me: Process) -> After:
        """close(): STATE |= QUIT, and nobody is told."""
        at, me = h.set_quit(at, me)
        return at, me._replace(pc=h.JOIN)

    return {h.SET_QUIT: said(set_quit)}


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
    "quit without ring": BrokenSteps(
        "close sets QUIT and joins, but does not ring",
        _quit_without_ring(),
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
