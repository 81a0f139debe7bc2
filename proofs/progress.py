"""Every flush returns and every pool closes: rankings, of the caller and of one arbitrary helper.

A *rank* is a list of numbers, compared from the left, that a process's own steps lower and others
raise only now and then. It cannot fall for ever; so a process that goes on being scheduled comes to
where its program says. What is assumed of the scheduler is fairness to those that are named, and
that a futex does not for ever return without cause. Of dynamic and queued rounds, and of those that
the caller flushes alone; that a static round ends, which waits for every helper, is explored.
"""

from model.protocols import check_in as h
from model.protocols.check_in import Control, Process
from model.transitions import ENDED
from proofs.check_in import (
    ACTS_ON_RING,
    WAITING,
    always,
    claims_are_handed_out_once,
    in_domain,
    name_of,
    number_if,
    sleepers_will_be_woken,
    somebody_wakes_the_caller,
    stands,
    steps_of,
    taken,
)
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.ranks import Rank, among, falls, not_raised
from proofs.prover.symbolic import Natural, every, implies, natural, select, truth

#: The caller's way through a flush, and its way through close.
CALLER_PHASES = {
    h.WRITE_JOB: 10,
    h.REWIND: 9,
    h.FLUSH_ALONE: 8,
    h.OPEN_JOB: 7,
    h.RING_BELL: 6,
    h.WAKE_HELPERS: 5,
    h.CALLER_CLAIM: 4,
    h.CALLER_COPY: 4,
    h.CLOSE_JOB: 3,
    **dict.fromkeys(WAITING, 2),
    h.RETURN: 1,
    h.SET_QUIT: 4,
    h.RING_TO_QUIT: 3,
    h.WAKE_TO_QUIT: 2,
    h.JOIN: 1,
}
#: A helper's way from the alarm back to bed.
HELPER_PHASES = {
    h.READ_RING: 11,
    h.READ_STATE: 10,
    h.CHECK_IN: 10,
    h.READ_JOB: 9,
    h.CLAIM: 8,
    h.COPY: 8,
    h.COMPLETE: 7,
    h.CHECK_OUT: 6,
    h.WAKE_CALLER: 5,
    h.LOOK_AT_RING: 3,
    h.GO_TO_BED: 2,
    h.HELPER_SLEEPS: 1,
    h.END: 1,
}
#: How many of its own steps a helper may take, once every claim has been handed out, till it is out
#: and has woken the caller.
STEPS_TO_GO = {
    h.WAKE_CALLER: 1,
    h.CHECK_OUT: 2,
    h.COMPLETE: 3,
    h.CLAIM: 4,
    h.COPY: 5,
    h.READ_JOB: 5,
}


def to_claim(at: Control) -> Natural:
    """How many claims are still to be handed out."""
    left: Natural = select(natural(at.cursor) < at.words, at.words - at.cursor, 0)
    return left


def rank_of_caller(at: Control, me: Process) -> Rank:
    """Lowered by the caller's steps; while it waits raised by a check-out, and by being woken."""
    claiming = stands(me, h.CALLER_CLAIM, h.CALLER_COPY)
    late = stands(me, h.GO_TO_SLEEP) & (at.state != me.saw)
    woken = stands(me, h.CALLER_SLEEPS) & (natural(at.caller_asleep) == 0)
    return (
        among(CALLER_PHASES, me.pc),
        select(claiming, to_claim(at), 0),
        among({h.CALLER_COPY: 1, h.LOOK_INSIDE: 3, h.GO_TO_SLEEP: 2}, me.pc)
        + number_if(late) * 2
        + number_if(woken) * 4,
    )


def rank_of_helper(at: Control, me: Process) -> Rank:
    """Lowered by a helper's steps; raised by a ring, its wake-up, and a change of STATE."""
    missed = stands(me, h.READ_STATE, *ACTS_ON_RING) & (natural(me.seen) != at.ring)
    woken = stands(me, h.HELPER_SLEEPS) & (natural(me.asleep_at) != at.rung)
    late = stands(me, h.CHECK_IN) & (at.state != me.saw)
    return (
        number_if(missed) + number_if(woken),
        among(HELPER_PHASES, me.pc) + number_if(stands(me, h.GO_TO_BED) & missed) * 2,
        select(stands(me, h.CLAIM, h.COPY), to_claim(at), 0),
        among({h.COPY: 1, h.READ_STATE: 2, h.CHECK_IN: 1}, me.pc) + number_if(late) * 2,
    )


@claim(
    faulty("rewinds for ever", refutes="rewind goes on"),
    faulty("last wakes nobody", refutes="check out keeps it"),
)
def every_flush_returns(p: Proof) -> None:
    """Every flush returns if its caller, and the helpers that are in its round, go on being scheduled.

    Each of the caller's steps brings it nearer to its return. While it waits a helper may throw it
    back, by checking out or by waking it: but each that is inside, or about to wake it, has at most
    five such steps to take, nobody comes in, and as long as the caller is asleep there is one of them.
    """
    w = always(p, claims_are_handed_out_once, sleepers_will_be_woken, dynamic=True)
    rank = rank_of_caller(w.at, w.caller)
    for pc, step in steps_of(h.CALLER):
        if pc in (h.AWAIT_ALL, h.RETURN):
            continue
        with p.case():
            p.assume("the step is taken", *taken(p, w, "caller", pc, step, with_cause=True))
            at, me = p.read(step.act)(w.at, w.caller)
            after = rank_of_caller(in_domain(at), in_domain(me))
            p.prove(f"{name_of(pc, step)} goes on", falls(rank, after))

    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step))
            at, me = p.read(step.act)(w.at, w.helper)
            nearer = among(STEPS_TO_GO, me.pc) < among(STEPS_TO_GO, w.helper.pc)
            p.prove(
                f"{name_of(pc, step)} brings no one back",
                not_raised(rank, rank_of_caller(in_domain(at), w.caller))
                | (stands(w.caller, *WAITING) & nearer),
            )

    blocked = stands(w.caller, h.CALLER_SLEEPS) & ~p.read(h.caller_woken)(w.at, w.caller)
    inside = p.read(h.inside)(w.at.state) != 0
    p.prove("while it is blocked", implies(blocked, inside | somebody_wakes_the_caller(w)))
    never_blocked = all(not step.ready for pc, step in steps_of(h.HELPER) if pc in STEPS_TO_GO)
    p.prove("who brings it on is not blocked", truth(never_blocked))


@claim(
    faulty("only looks", refutes="read state goes on"),
)
def a_helper_comes_to_rest(p: Proof) -> None:
    """A helper goes round only when somebody has rung or changed STATE: left alone it sleeps, or ends."""
    w = always(p)
    rank = rank_of_helper(w.at, w.helper)
    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step, with_cause=True))
            at, me = p.read(step.act)(w.at, w.helper)
            after = rank_of_helper(in_domain(at), in_domain(me))
            p.prove(f"{name_of(pc, step)} goes on", falls(rank, after))
    for who, program in (("caller", h.CALLER), ("other", h.HELPER)):
        for pc, step in steps_of(program):
            with p.case():
                p.assume("the step is taken", *taken(p, w, who, pc, step))
                at, _ = p.read(step.act)(w.at, getattr(w, who))
                at = in_domain(at)
                quiet = every(
                    *(getattr(at, n) == getattr(w.at, n) for n in ("state", "ring", "rung"))
                )
                p.prove(
                    f"{name_of(pc, step)} of another brings no one back",
                    implies(quiet, not_raised(rank, rank_of_helper(at, w.helper))),
                )


@claim(
    faulty("ends unseen", refutes="end keeps it"),
    faulty("quit without ring", refutes="set quit keeps it"),
)
def close_returns(p: Proof) -> None:
    """Once the pool is closed every helper ends, if it goes on being scheduled, and close returns.

    No helper is left asleep, and whatever the others do none is thrown back (``a_helper_comes_to_rest``).
    """
    w = always(p, claims_are_handed_out_once, sleepers_will_be_woken, dynamic=True)
    p.assume("the pool is being closed", stands(w.caller, h.JOIN))
    rank = rank_of_helper(w.at, w.helper)
    asleep = stands(w.helper, h.HELPER_SLEEPS)
    p.prove("nobody is left asleep", implies(asleep, p.read(h.helper_woken)(w.at, w.helper)))
    blocking = {pc for pc, step in steps_of(h.HELPER) if step.ready}
    p.prove("only sleepers are blocked", truth(blocking == {h.HELPER_SLEEPS}))
    for pc, step in steps_of(h.HELPER):
        at, _ = p.read(step.act)(w.at, w.other)
        kept = not_raised(rank, rank_of_helper(in_domain(at), w.helper))
        is_taken = every(*taken(p, w, "other", pc, step))
        p.prove(f"{name_of(pc, step)} of another brings no one back", implies(is_taken, kept))
    p.assume("all have ended", stands(w.helper, ENDED), stands(w.other, ENDED), w.rest.running == 0)
    p.prove("join is ready", p.read(h.all_ended)(w.at, w.caller))
