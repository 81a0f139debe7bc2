"""Every flush returns and every pool closes: rankings, of the caller and of one arbitrary helper.

A *rank* is a list of numbers, compared from the left, that a process's own steps lower and others
raise only now and then. It cannot fall for ever; so a process that goes on being scheduled comes to
where its program says. What is assumed of the scheduler is fairness to those that are named, and
that a futex does not for ever return without cause. Of rounds of any kind; why the caller of a static
one, which awaits every helper, does not wait for ever is said in ``static_rounds``.
"""

from model.protocols import check_in as h
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED
from proofs.check_in_invariant import (
    ACTS_ON_DOORBELL,
    WAITING,
    batches_are_handed_out_once,
    in_domain,
    name_of,
    number_if,
    prove_invariant,
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
    h.WRITE_JOB: 11,
    h.REWIND: 10,
    h.FLUSH_ALONE: 9,
    h.OPEN_JOB: 8,
    h.RING_DOORBELL: 7,
    h.WAKE_HELPERS: 6,
    h.CALLER_TAKE_BATCH: 5,
    h.CALLER_COPY: 5,
    h.AWAIT_ALL: 4,
    h.CLOSE_JOB: 3,
    **dict.fromkeys(WAITING, 2),
    h.RETURN: 1,
    h.SET_QUIT: 4,
    h.RING_TO_QUIT: 3,
    h.WAKE_TO_QUIT: 2,
    h.JOIN: 1,
}
#: A helper's way from a ring of the doorbell to its next sleep.
HELPER_PHASES = {
    h.READ_DOORBELL: 11,
    h.READ_STATE: 10,
    h.CHECK_IN: 10,
    h.READ_JOB: 9,
    h.TAKE_BATCH: 8,
    h.COPY: 8,
    h.COMPLETE: 7,
    h.CHECK_OUT: 6,
    h.WAKE_CALLER: 5,
    h.LOOK_AT_DOORBELL: 3,
    h.HELPER_PARK: 2,
    h.HELPER_PARKED: 1,
    h.END: 1,
}
#: How many of its own steps a helper may take, once every batch has been handed out, till it is out
#: and has woken the caller.
STEPS_TO_GO = {
    h.WAKE_CALLER: 1,
    h.CHECK_OUT: 2,
    h.COMPLETE: 3,
    h.TAKE_BATCH: 4,
    h.COPY: 5,
    h.READ_JOB: 5,
}


def to_hand_out(at: ControlBlock) -> Natural:
    """How many batches are still to be handed out."""
    left: Natural = select(natural(at.cursor) < at.words, at.words - at.cursor, 0)
    return left


def rank_of_caller(at: ControlBlock, me: Process) -> Rank:
    """Lowered by the caller's steps; while it waits raised by a check-out, and by being woken."""
    taking_batches = stands(me, h.CALLER_TAKE_BATCH, h.CALLER_COPY)
    late = stands(me, h.CALLER_PARK) & (at.state != me.seen_state)
    woken = stands(me, h.CALLER_PARKED) & (natural(at.caller_asleep) == 0)
    return (
        among(CALLER_PHASES, me.pc),
        select(taking_batches, to_hand_out(at), 0),
        among({h.CALLER_COPY: 1, h.LOOK_INSIDE: 3, h.CALLER_PARK: 2}, me.pc)
        + number_if(late) * 2
        + number_if(woken) * 4,
    )


def rank_of_helper(at: ControlBlock, me: Process) -> Rank:
    """Lowered by a helper's steps; raised by a ring, its wake-up, and a change of STATE."""
    missed = stands(me, h.READ_STATE, *ACTS_ON_DOORBELL) & (
        natural(me.seen_doorbell) != at.doorbell
    )
    woken = stands(me, h.HELPER_PARKED) & (natural(me.asleep_at) != at.wakeups)
    late = stands(me, h.CHECK_IN) & (at.state != me.seen_state)
    return (
        number_if(missed) + number_if(woken),
        among(HELPER_PHASES, me.pc) + number_if(stands(me, h.HELPER_PARK) & missed) * 2,
        select(stands(me, h.TAKE_BATCH, h.COPY), to_hand_out(at), 0),
        among({h.COPY: 1, h.READ_STATE: 2, h.CHECK_IN: 1}, me.pc) + number_if(late) * 2,
    )


@claim(
    faulty("rewinds for ever", refutes="rewind goes on"),
    faulty("last wakes nobody", refutes="check out preserves it"),
)
def every_flush_returns(p: Proof) -> None:
    """Every flush returns if its caller, and the helpers that are in its round, go on being scheduled.

    In a static round that is every helper: what the caller awaits comes about, says
    ``static_rounds.a_static_round_ends``.

    Each of the caller's steps brings it nearer to its return. While it waits a helper may throw it
    back, by checking out or by waking it: but each that is inside, or about to wake it, has at most
    five such steps to take, nobody comes in, and as long as the caller is asleep there is one of them.
    """
    w = prove_invariant(p, batches_are_handed_out_once, sleepers_will_be_woken)
    rank = rank_of_caller(w.at, w.caller)
    for pc, step in steps_of(h.CALLER):
        if pc == h.RETURN:
            continue
        with p.case():
            p.assume("the step is taken", *taken(p, w, "caller", pc, step, with_cause=True))
            at, me = p.lift(step.act)(w.at, w.caller)
            after = rank_of_caller(in_domain(at), in_domain(me))
            p.prove(f"{name_of(pc, step)} goes on", falls(rank, after))

    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step))
            at, me = p.lift(step.act)(w.at, w.helper)
            nearer = among(STEPS_TO_GO, me.pc) < among(STEPS_TO_GO, w.helper.pc)
            p.prove(
                f"{name_of(pc, step)} brings no one back",
                not_raised(rank, rank_of_caller(in_domain(at), w.caller))
                | (stands(w.caller, *WAITING) & nearer),
            )

    blocked = stands(w.caller, h.CALLER_PARKED) & ~p.lift(h.caller_woken)(w.at, w.caller)
    inside = p.lift(h.inside)(w.at.state) != 0
    p.prove("while it is blocked", implies(blocked, inside | somebody_wakes_the_caller(w)))
    never_blocked = all(not step.ready for pc, step in steps_of(h.HELPER) if pc in STEPS_TO_GO)
    p.prove("who brings it on is not blocked", truth(never_blocked))


@claim(
    faulty("only looks", refutes="read state goes on"),
)
def a_helper_comes_to_rest(p: Proof) -> None:
    """A helper goes round only after a ring or a change of STATE: left alone, it sleeps or ends."""
    w = prove_invariant(p)
    rank = rank_of_helper(w.at, w.helper)
    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step, with_cause=True))
            at, me = p.lift(step.act)(w.at, w.helper)
            after = rank_of_helper(in_domain(at), in_domain(me))
            p.prove(f"{name_of(pc, step)} goes on", falls(rank, after))
    for who, program in (("caller", h.CALLER), ("other", h.HELPER)):
        for pc, step in steps_of(program):
            with p.case():
                p.assume("the step is taken", *taken(p, w, who, pc, step))
                at, _ = p.lift(step.act)(w.at, getattr(w, who))
                at = in_domain(at)
                quiet = every(
                    *(getattr(at, n) == getattr(w.at, n) for n in ("state", "doorbell", "wakeups"))
                )
                p.prove(
                    f"{name_of(pc, step)} of another brings no one back",
                    implies(quiet, not_raised(rank, rank_of_helper(at, w.helper))),
                )


@claim(
    faulty("ends unseen", refutes="end preserves it"),
    faulty("quit without doorbell", refutes="set quit preserves it"),
)
def close_returns(p: Proof) -> None:
    """Once the pool is closed every helper ends, if it goes on being scheduled, and close returns.

    No helper is left asleep, and whatever the others do none is thrown back (``a_helper_comes_to_rest``).
    """
    w = prove_invariant(p, batches_are_handed_out_once, sleepers_will_be_woken)
    p.assume("the pool is being closed", stands(w.caller, h.JOIN))
    rank = rank_of_helper(w.at, w.helper)
    asleep = stands(w.helper, h.HELPER_PARKED)
    p.prove("nobody is left asleep", implies(asleep, p.lift(h.helper_woken)(w.at, w.helper)))
    blocking = {pc for pc, step in steps_of(h.HELPER) if step.ready}
    p.prove("only sleepers are blocked", truth(blocking == {h.HELPER_PARKED}))
    for pc, step in steps_of(h.HELPER):
        at, _ = p.lift(step.act)(w.at, w.other)
        kept = not_raised(rank, rank_of_helper(in_domain(at), w.helper))
        is_taken = every(*taken(p, w, "other", pc, step))
        p.prove(f"{name_of(pc, step)} of another brings no one back", implies(is_taken, kept))
    p.assume(
        "all have ended", stands(w.helper, ENDED), stands(w.other, ENDED), w.others.running == 0
    )
    p.prove("join is ready", p.lift(h.all_ended)(w.at, w.caller))
