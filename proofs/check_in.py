"""The check-in protocol: what holds of any number of helpers, rounds and batches, in any interleaving.

By the invariant of ``check_in_invariant``.
"""

from collections.abc import Iterator
from itertools import permutations

from model.protocols import check_in as h
from model.protocols.check_in import Process
from proofs.check_in_invariant import (
    EVERY_PART,
    INSIDE,
    OPENED,
    WAITING,
    Shares,
    State,
    any_state,
    are_counts,
    assume_rounds,
    batches_are_handed_out_once,
    cursor_is_not_far_past,
    each_takes_part_once,
    helpers_work_for_the_round,
    is_dynamic,
    name_of,
    number_if,
    prove_invariant,
    schedule_scenario,
    sleepers_will_be_woken,
    somebody_wakes_the_caller,
    stands,
    stepped,
    steps_of,
    taken,
    variables,
    whoever_took_part_completes,
    with_one_more,
)
from proofs.prover.machine import TWO_TO_THE_64
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.ranks import among
from proofs.prover.symbolic import Natural, Truth, every, implies, truth
from proofs.shares import MOST_GRAIN, MOST_PAGES, MOST_THREADS


@claim(
    faulty("never closes", refutes="close job preserves it"),
    faulty("looks once", refutes="caller wakes preserves it"),
    faulty("blind check-in", refutes="check in preserves it"),
    faulty("plain countdown", refutes="check out preserves it"),
)
def flush_returns_when_all_have_finished(p: Proof) -> None:
    """A flush returns only when every helper that checked in has finished."""
    w = prove_invariant(p)
    p.assume("the flush returns", stands(w.caller, h.RETURN))
    p.prove("nobody works", p.lift(h.nobody_works)(w.at, w.caller), w.at.working == 0)
    p.prove("the helper is outside", ~stands(w.helper, *INSIDE))


@claim(faulty("parameters read early", refutes="check in preserves it"))
def memory_is_touched_only_during_a_flush(p: Proof) -> None:
    """No helper touches memory after flush has returned: it works for the flush in progress."""
    w = prove_invariant(p, helpers_work_for_the_round)
    p.prove("the caller", implies(stands(w.caller, h.CALLER_COPY), lent(p, w, w.caller)))
    alone = lent(p, w, w.caller) & p.lift(h.nobody_works)(w.at, w.caller)
    p.prove("the caller, alone", implies(stands(w.caller, h.FLUSH_ALONE), alone))
    p.prove("any helper", implies(stands(w.helper, h.COPY), lent(p, w, w.helper)))
    in_progress = (w.at.live == w.helper.job) & (w.at.live != 0)
    p.prove("no less is claimed", lent(p, w, w.helper) == in_progress)


def lent(p: Proof, w: State, me: Process) -> Truth:
    """The model's own invariant, of a process that is about to copy."""
    holds: Truth = p.lift(h.memory_is_lent)(w.at, me)
    return holds


@claim(
    faulty("plain cursor", refutes="take batch preserves it"),
    faulty("one batch only", refutes="copy preserves it"),
)
def each_batch_is_flushed_exactly_once(p: Proof) -> None:
    """When a flush returns, each batch, the watched one, has been flushed exactly once.

    And no helper leaves as long as a batch is left.
    """
    w = prove_invariant(p, batches_are_handed_out_once)
    schedule_scenario(p, words=2)
    p.assume("a batch to watch", w.at.watched < p.lift(h.asked)(w.at.plan, w.caller.job).words)
    copies = ((w.caller, h.CALLER_COPY), (w.caller, h.FLUSH_ALONE), (w.helper, h.COPY))
    for me, copying in copies:
        first_time = p.lift(h.not_flushed_yet)(w.at, me)
        p.prove("not twice", implies(stands(me, copying), first_time))
        untouched = (me.batch != w.at.watched) | (w.at.times == 0)
        there_is_one = w.at.watched < w.at.words
        p.prove("no less is claimed", implies(there_is_one, first_time == untouched))
    stays = p.lift(h.nothing_is_left)(w.at, w.helper)
    p.prove("no helper leaves work behind", implies(stands(w.helper, h.COMPLETE), stays))
    all_taken = w.at.cursor >= w.at.words
    p.prove("no less is claimed of that", implies(w.at.awaited == 0, stays == all_taken))
    once = p.lift(h.flushed_once)(w.at, w.caller)
    p.prove("once", implies(stands(w.caller, h.RETURN), once))
    p.prove("and once is once", once == (w.at.times == 1))


@claim(
    faulty("completes nothing", refutes="take batch preserves it"),
)
def all_counts_are_added_up(p: Proof) -> None:
    """When a flush returns every helper that took part has COMPLETED: the caller adds up its counts."""
    w = prove_invariant(p, whoever_took_part_completes)
    p.assume("the flush returns", stands(w.caller, h.RETURN))
    p.prove(
        "all are counted",
        p.lift(h.all_are_counted)(w.at, w.caller),
        w.at.completed == w.at.took_part,
    )


@claim(
    faulty("last wakes nobody", refutes="check out preserves it"),
    faulty("STATE before DOORBELL", refutes="read state preserves it"),
    faulty("quit without doorbell", refutes="set quit preserves it"),
)
def no_wake_up_is_lost(p: Proof) -> None:
    """No lost wake-up: whoever is blocked has somebody, not blocked, who will wake it.

    A helper is blocked only while it sleeps, the caller while it sleeps or joins the helpers.
    """
    w = prove_invariant(p, sleepers_will_be_woken)
    blocking = {pc for pc, step in h.program().items() if step.ready}
    may_block = {h.AWAIT_ALL, h.CALLER_PARKED, h.JOIN, h.HELPER_PARKED}
    p.prove("who is blocked", truth(blocking == may_block))

    asleep = stands(w.caller, h.CALLER_PARKED) & (w.at.caller_asleep != 0)
    inside = p.lift(h.inside)(w.at.state) != 0
    p.prove("the caller will be woken", implies(asleep, inside | somebody_wakes_the_caller(w)))

    joins_sleeper = stands(w.caller, h.JOIN) & stands(w.helper, h.HELPER_PARKED)
    woken = p.lift(h.helper_woken)(w.at, w.helper)
    p.prove("close has woken every helper", implies(joins_sleeper, woken))


@claim(
    faulty("takes batches for ever", refutes="take batch preserves it"),
)
def the_cursor_is_not_far_past_the_end(p: Proof) -> None:
    """CURSOR is never further past the last batch than one for each worker, and so far below 2^64.

    Below 2^55 pages are handed out, in batches of fewer than 2^48, to up to 2^12 threads: what
    ``shares.sixty_four_bits_suffice`` takes for granted.
    """
    w = prove_invariant(
        p, each_takes_part_once, whoever_took_part_completes, cursor_is_not_far_past
    )
    at = w.at
    p.assume("a round is in progress", stands(w.caller, *OPENED, *WAITING, h.RETURN))
    p.prove("one for each worker", at.cursor <= at.words + w.helpers + 1)
    pages, grain, cursor = p.naturals("pages grain cursor")
    p.assume("sizes", pages < MOST_PAGES, w.helpers < MOST_THREADS, grain >= 1, grain < MOST_GRAIN)
    p.assume("as many batches as the pages need", at.words * grain < pages + grain)
    p.assume("CURSOR counts pages", cursor == at.cursor * grain)
    in_pages = p.lemma(
        "fewer batches have no more pages",
        lambda few, many, each: implies((few <= many) & (each >= 0), few * each <= many * each),
        *(pages, pages, grain),
    )
    in_pages(at.cursor, at.words + w.helpers + 1, grain)
    p.prove("so far at most", cursor <= (at.words + w.helpers + 1) * grain)
    p.prove("a worker has a batch at most", (w.helpers + 1) * grain <= MOST_THREADS * grain)
    p.prove("and no further than 64 bits", cursor + grain < TWO_TO_THE_64)


@claim(faulty("plain countdown", refutes="check out of one that is counted"))
def whoever_moves_may_be_counted(p: Proof) -> None:
    """The invariants hold of any two helpers after a step of a third one, that is only counted.

    Three are spelled out here, and each two of them are as the invariant says, the third being
    counted. So whoever of any number moves, of whatever two the invariant is read.
    """
    schedule_scenario(p)
    w = any_state(p)
    assume_rounds(p, w)
    third, times = variables(p, Process, "third"), p.naturals("share_third")[0]
    p.assume("there are three", w.there_is_another, are_counts(w.others))

    def two_of_three(w: State, mover: Process, times: Natural) -> Iterator[State]:
        """Each two of the three helpers, the third one counted with the rest."""
        all_three = ((w.helper, w.shares.helper), (w.other, w.shares.other), (mover, times))
        for one, other, counted in permutations(all_three):
            yield w._replace(
                helper=one[0],
                other=other[0],
                shares=Shares(one[1], other[1]),
                others=with_one_more(w, counted[0]),
            )

    def holds(w: State) -> Truth:
        return every(*(part(p, w) for part in EVERY_PART))

    for pair in two_of_three(w, third, times):
        p.assume("the invariant of each two", holds(pair))
    for pc, step in steps_of(h.HELPER):
        with p.case():
            alone = w._replace(helper=third, shares=w.shares._replace(helper=times))
            p.assume("the step is taken", *taken(p, alone, "helper", pc, step))
            after = stepped(p, alone, "helper", pc, step)
            pair = w._replace(at=after.at, others=with_one_more(after, after.helper))
            p.prove(f"{name_of(pc, step)} of one that is counted", holds(pair))


#: How many steps of its own take a helper out, once every batch has been handed out.
STEPS_TO_GO = {h.CHECK_OUT: 1, h.COMPLETE: 2, h.TAKE_BATCH: 3, h.COPY: 4, h.READ_JOB: 4}


@claim(faulty("waits for the woken", refutes="open job preserves it"))
def a_flush_waits_only_for_who_came(p: Proof) -> None:
    """A helper that never runs delays nobody: once the job is closed nobody comes in.

    Whoever is inside is out after at most four steps of its own, whatever the others do.
    """
    w = prove_invariant(p, batches_are_handed_out_once)
    p.assume("the caller waits", stands(w.caller, *WAITING))
    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step))
            _, after = p.lift(step.act)(w.at, w.helper)
            if pc in STEPS_TO_GO:
                nearer = steps_to_go(w, after) < steps_to_go(w, w.helper)
                p.prove(f"{name_of(pc, step)} leads out", nearer)
            else:
                p.prove(f"{name_of(pc, step)} does not lead in", steps_to_go(w, after) == 0)


def steps_to_go(w: State, process: Process) -> Natural:
    """A helper's rank in STEPS_TO_GO, a share being the last it has to copy; 0 outside."""
    copies_its_share = stands(process, h.COPY) & ~is_dynamic(w)
    return among(STEPS_TO_GO, process.pc) - number_if(copies_its_share)
