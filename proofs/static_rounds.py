"""Static rounds: each share is flushed once, and every round comes to its end.

The patch's way, on our protocol: every helper has a share of its own, and the caller waits for all of
them. By the invariant of ``check_in_invariant``; rounds of both kinds may follow one another.
"""

from model.protocols import check_in as h
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED
from proofs.check_in_invariant import (
    INSIDE,
    State,
    each_takes_part_once,
    has_taken_part,
    helpers_work_for_the_round,
    is_at_work,
    is_dynamic,
    name_of,
    nobody_sleeps_through_a_round,
    number_if,
    prove_invariant,
    schedule_scenario,
    shares_are_flushed_once,
    sleepers_will_be_woken,
    stands,
    stepped,
    steps_of,
    taken,
    whoever_took_part_completes,
)
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Natural, Truth, implies, natural


def a_state(p: Proof) -> State:
    """Any state that can be reached, in which all is as it must be for static rounds."""
    w = prove_invariant(
        p,
        each_takes_part_once,
        helpers_work_for_the_round,
        whoever_took_part_completes,
        shares_are_flushed_once,
        sleepers_will_be_woken,
        nobody_sleeps_through_a_round,
    )
    schedule_scenario(p, static=True)
    return w


@claim(
    faulty("closes early", refutes="await all preserves it"),
)
def every_share_is_flushed_once(p: Proof) -> None:
    """When a static round is over each helper, of any number, has flushed its share in it just once."""
    w = a_state(p)
    is_static = ~is_dynamic(w)
    copies = stands(w.helper, h.COPY) & is_static
    p.prove("not twice", implies(copies, w.shares.helper == 0))
    all_have = p.lift(h.everybody_completed)(w.at, w.caller)
    with p.case():
        p.assume("a round is awaited, or returns", stands(w.caller, h.AWAIT_ALL, h.RETURN))
        held_to = all_have == implies(is_static, w.at.completed == w.at.awaited)
        p.prove("all is what a static round is held to, and it alone", held_to)
    p.assume("a static round returns", is_static, stands(w.caller, h.RETURN))
    p.prove("its share", w.shares.helper == 1)
    p.prove("each other's", w.shares.other == number_if(w.there_is_another))
    p.prove("all have completed", all_have, w.at.completed == w.helpers)


def has_completed(w: State, me: Process) -> Truth:
    """Has the helper completed the round in progress?"""
    return has_taken_part(w, me) & ~is_at_work(me)


def comings_and_goings(at: ControlBlock, me: Process) -> Natural:
    """How often a helper may yet change STATE while the caller awaits all: it rings no doorbell then.

    Once to come in and once to go out; twice if it has not seen the doorbell rung.
    """
    on_its_way_in = stands(me, h.READ_DOORBELL, h.READ_STATE, h.CHECK_IN)
    missed = ~stands(me, h.READ_DOORBELL, h.END, ENDED) & (natural(me.seen_doorbell) != at.doorbell)
    return number_if(on_its_way_in) * 2 + number_if(stands(me, *INSIDE)) + number_if(missed) * 2


@claim(
    faulty("rings first", refutes="rewind preserves it"),
)
def a_static_round_ends(p: Proof) -> None:
    """A static round comes to its end if every helper goes on being scheduled.

    The caller waits for the helpers that have not completed the round. None of them is blocked, each of
    its own steps brings it on (``progress.a_helper_comes_to_rest``), and only a change of STATE throws
    one back: of which each helper has at most four to make. When all have completed the caller goes on.
    """
    w = a_state(p)
    p.assume("the caller awaits all", stands(w.caller, h.AWAIT_ALL))
    awake = ~stands(w.helper, h.HELPER_PARKED) | p.lift(h.helper_woken)(w.at, w.helper)
    runs = awake & ~stands(w.helper, h.END, ENDED)
    p.prove("who has not completed is not blocked", implies(~has_completed(w, w.helper), runs))
    to_go, others_to_go = (comings_and_goings(w.at, me) for me in (w.helper, w.other))
    p.prove("four at most", to_go <= 4)
    elsewhere = (h.TAKE_BATCH, h.END)
    p.prove("nobody takes a batch, or ends", ~stands(w.helper, *elsewhere))
    for pc, step in steps_of(h.HELPER):
        if pc in elsewhere:
            continue
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step))
            after = stepped(p, w, "helper", pc, step)
            now = comings_and_goings(after.at, after.helper)
            name = name_of(pc, step)
            p.prove(
                f"{name} comes and goes no more than is left",
                now <= to_go,
                implies(after.at.state != w.at.state, now < to_go),
                comings_and_goings(after.at, w.other) == others_to_go,
            )
            p.prove(
                f"{name} undoes nothing",
                implies(has_completed(w, w.helper), has_completed(after, after.helper)),
                implies(has_completed(w, w.other), has_completed(after, w.other)),
                after.at.completed >= w.at.completed,
            )
    others_have = (w.others.took_part == w.others.all) & (w.others.at_work == 0)
    the_other_has = has_completed(w, w.other) | ~w.there_is_another
    everybody_has = has_completed(w, w.helper) & the_other_has & others_have
    ready = p.lift(h.all_completed)(w.at, w.caller)
    p.prove("when all have completed the caller goes on", implies(everybody_has, ready))
