"""The check-in protocol, for any number of helpers, rounds and batches, by induction over its steps.

The steps are those of ``model.protocols.check_in``, the very ones that are explored. Shared memory, the
caller, one arbitrary helper and another one are spelled out; the rest of the helpers are *counted*:
how many are inside, hold the watched batch, are about to wake the caller, have not ended, are at work
and have not COMPLETED. A step changes no other process's locals. So what holds of shared memory, the
caller and *any* two helpers
always holds if it holds at first and is kept by the steps of the caller and of a helper: each is
the one that moves, or the other, or counted. The watched batch stands for any batch.

Memory is sequentially consistent here, and numbers that only grow (DOORBELL, CURSOR) never wrap.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from model.explore.catalogue import shortest_failure
from model.protocols import check_in as h
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED, Step
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import (
    MaybeTruth,
    Natural,
    Truth,
    Word,
    every,
    implies,
    natural,
    select,
    some,
    truth,
    word,
)

# Where a helper is inside; where it has loaded DOORBELL and will act on it.
INSIDE = (h.READ_JOB, h.TAKE_BATCH, h.COPY, h.COMPLETE, h.CHECK_OUT)
ACTS_ON_DOORBELL = (
    h.CHECK_IN,
    *INSIDE,
    h.WAKE_CALLER,
    h.LOOK_AT_DOORBELL,
    h.HELPER_PARK,
    h.HELPER_PARKED,
)
# The caller's way through a flush, and through close.
OPENED = (
    h.RING_DOORBELL,
    h.WAKE_HELPERS,
    h.CALLER_TAKE_BATCH,
    h.CALLER_COPY,
    h.AWAIT_ALL,
    h.CLOSE_JOB,
)
WAITING = (h.LOOK_INSIDE, h.CALLER_PARK, h.CALLER_PARKED)
IN_A_FLUSH = (h.REWIND, h.FLUSH_ALONE, h.OPEN_JOB, *OPENED, *WAITING, h.RETURN)
ALL_HANDED_OUT = (h.AWAIT_ALL, h.CLOSE_JOB, *WAITING)
CLOSING = (h.RING_TO_QUIT, h.WAKE_TO_QUIT, h.JOIN, ENDED)
RUNG_TO_QUIT = (h.WAKE_TO_QUIT, h.JOIN, ENDED)
WOKEN_TO_QUIT = (h.JOIN, ENDED)

MOST_HELPERS = 2**30
OF_WORDS = {"state", "working", "running", "seen_state", "inside"}


class OtherHelpers(NamedTuple):
    """The helpers that are not spelled out, counted."""

    inside: Word
    holding: Natural
    waking: Natural
    running: Word
    at_work: Natural


class State(NamedTuple):
    """A state of the protocol with any number of helpers."""

    at: ControlBlock
    caller: Process
    helper: Process
    other: Process
    others: OtherHelpers


def any_state(p: Proof) -> State:
    """Variables for everything."""

    def variables(kind: Any, prefix: str) -> Any:
        return kind._make(
            (p.words if name in OF_WORDS else p.naturals)(f"{prefix}_{name}")[0]
            for name in kind._fields
        )

    return State(
        variables(ControlBlock, "at"),
        variables(Process, "caller"),
        variables(Process, "helper"),
        variables(Process, "other"),
        variables(OtherHelpers, "others"),
    )


def in_domain(value: Any) -> Any:
    """The same with each field a term of its domain: steps may write plain constants."""
    return value._make(
        (word if name in OF_WORDS else natural)(part)
        for name, part in zip(value._fields, value, strict=True)
    )


def stands(process: Process, *pcs: int) -> Truth:
    """Does the process stand at one of these steps?"""
    return some(*(process.pc == pc for pc in pcs))


def word_if(condition: MaybeTruth) -> Word:
    """1 or 0, as a word."""
    one_or_zero: Word = select(condition, word(1), word(0))
    return one_or_zero


def number_if(condition: MaybeTruth) -> Natural:
    """1 or 0, as a number."""
    one_or_zero: Natural = select(condition, 1, 0)
    return one_or_zero


# The invariant, in parts; each proof takes the parts it needs.

Part = Callable[[Proof, State], Truth]


def everybody_is_counted(p: Proof, w: State) -> Truth:
    """STATE, and the counts that invariants read, say how many helpers are where."""
    at, others = w.at, w.others
    inside = word_if(stands(w.helper, *INSIDE)) + word_if(stands(w.other, *INSIDE)) + others.inside
    ended = word_if(stands(w.helper, ENDED)) + word_if(stands(w.other, ENDED))
    return every(
        p.lift(h.inside)(at.state) == inside,
        at.working == inside,
        at.running == 2 - ended + others.running,
        at.state & ~(h.OPEN | h.QUIT | h.INSIDE) == 0,
        others.inside <= others.running,
        others.running < MOST_HELPERS,
        implies(others.inside == 0, others.holding == 0),
    )


def state_follows_the_caller(p: Proof, w: State) -> Truth:
    """Where the caller stands says what STATE is, and which round is in progress."""
    at, caller = w.at, w.caller
    in_a_flush = stands(caller, *IN_A_FLUSH)
    return every(
        p.lift(h.is_open)(at.state) == stands(caller, *OPENED),
        p.lift(h.has_quit)(at.state) == stands(caller, *CLOSING),
        implies(p.lift(h.inside)(at.state) != 0, stands(caller, *OPENED, *WAITING)),
        implies(stands(caller, h.AWAIT_ALL), at.awaited != 0),
        implies(in_a_flush, every(*(got == want for got, want in round_asked_for(p, w)))),
        implies(in_a_flush, (at.live == caller.job) & (at.live >= 1)),
        implies(~in_a_flush, at.live == 0),
        implies(~stands(caller, ENDED), at.job == caller.job),
        for_both(w, lambda me: implies(stands(me, h.CHECK_IN), p.lift(h.is_open)(me.seen_state))),
    )


def round_asked_for(p: Proof, w: State) -> Iterator[tuple[Natural, Natural]]:
    """Each parameter of the round, and what was asked."""
    for field, want in p.lift(h.asked)(w.at.plan, w.caller.job)._asdict().items():
        yield getattr(w.at, field), want


def everybody_stands_at_a_step(p: Proof, w: State) -> Truth:
    """Nobody has left the program."""
    return every(
        stands(w.caller, *(pc for pc, _ in steps_of(h.CALLER)), ENDED),
        for_both(w, lambda me: stands(me, *(pc for pc, _ in steps_of(h.HELPER)), ENDED)),
    )


def helpers_work_for_the_round(p: Proof, w: State) -> Truth:
    """A helper that has read the parameters has read those of the flush in progress."""
    return for_both(w, lambda me: implies(stands(me, h.TAKE_BATCH, h.COPY), me.job == w.at.live))


def batches_are_handed_out_once(p: Proof, w: State) -> Truth:
    """The watched batch is not handed out, or is held by one worker, or has been flushed once."""
    at, caller = w.at, w.caller
    held = w.others.holding
    for me, copying in ((caller, h.CALLER_COPY), (w.helper, h.COPY), (w.other, h.COPY)):
        held = held + number_if(stands(me, copying) & (me.batch == at.watched))
    handed_out = number_if((at.watched < at.cursor) & (at.watched < at.words))
    return every(
        implies(stands(caller, *OPENED, *WAITING), at.times + held == handed_out),
        implies(stands(caller, h.RETURN), at.times == number_if(at.watched < at.words)),
        implies(stands(caller, h.REWIND, h.FLUSH_ALONE, h.OPEN_JOB), at.times == 0),
        implies(stands(caller, h.OPEN_JOB), at.cursor == 0),
        implies(stands(caller, *ALL_HANDED_OUT), at.words <= at.cursor),
        for_both(w, lambda me: implies(stands(me, h.COMPLETE), at.words <= at.cursor)),
    )


def whoever_took_part_completes(p: Proof, w: State) -> Truth:
    """Who has gone to work in this round has COMPLETED it, or is at work still."""
    at, at_work = w.at, w.others.at_work
    for me in (w.helper, w.other):
        at_work = at_work + number_if(stands(me, h.TAKE_BATCH, h.COPY, h.COMPLETE))
    return every(
        at.took_part == at.completed + at_work,
        implies(w.others.inside == 0, w.others.at_work == 0),
    )


def sleepers_will_be_woken(p: Proof, w: State) -> Truth:
    """While the caller sleeps somebody is inside, or about to wake it; helpers wake up to quit."""
    at, caller = w.at, w.caller

    def not_past_quit(me: Process) -> Truth:
        last_ring = stands(caller, *RUNG_TO_QUIT)
        last_wake = stands(caller, *WOKEN_TO_QUIT)
        return every(
            implies(stands(me, h.READ_STATE, *ACTS_ON_DOORBELL), me.seen_doorbell <= at.doorbell),
            implies(stands(me, *ACTS_ON_DOORBELL) & last_ring, me.seen_doorbell < at.doorbell),
            implies(stands(me, h.HELPER_PARKED), me.asleep_at <= at.wakeups),
            implies(stands(me, h.HELPER_PARKED) & last_wake, me.asleep_at < at.wakeups),
        )

    asleep = stands(caller, h.CALLER_PARKED) & (at.caller_asleep != 0)
    return every(
        implies(asleep, (p.lift(h.inside)(at.state) != 0) | somebody_wakes_the_caller(w)),
        implies(stands(caller, h.CALLER_PARK), p.lift(h.inside)(caller.seen_state) != 0),
        for_both(w, not_past_quit),
    )


def somebody_wakes_the_caller(w: State) -> Truth:
    """Is a helper about to wake the caller?"""
    return stands(w.helper, h.WAKE_CALLER) | stands(w.other, h.WAKE_CALLER) | (w.others.waking > 0)


def for_both(w: State, holds: Callable[[Process], Truth]) -> Truth:
    """For the arbitrary helper, and for the other one."""
    return every(holds(w.helper), holds(w.other))


# Its proof.


def prove_invariant(p: Proof, *more: Part, dynamic: bool = False) -> State:
    """Prove these parts, by induction over the steps; return any state, in which they hold.

    Of rounds static and dynamic, or of ``dynamic`` ones, in which the caller awaits no helper.
    """
    parts = (
        everybody_is_counted,
        everybody_stands_at_a_step,
        state_follows_the_caller,
        *more,
    )

    def holds(w: State) -> Truth:
        return every(*(part(p, w) for part in parts))

    schedule_scenario(p)
    w = any_state(p)
    if dynamic:
        this, following = (p.lift(h.asked)(w.at.plan, w.caller.job + ahead) for ahead in (0, 1))
        p.assume("dynamic rounds", this.awaited == 0, following.awaited == 0)
    with p.case():
        p.assume("the start", *at_first(w))
        p.prove("it holds at first", holds(w))
    p.assume("the invariant", holds(w))
    if dynamic:
        p.prove("nobody is awaited", ~stands(w.caller, h.AWAIT_ALL))
    for who, program in (("caller", h.CALLER), ("helper", h.HELPER)):
        for pc, step in steps_of(program):
            if dynamic and pc == h.AWAIT_ALL:
                continue
            with p.case():
                p.assume("the step is taken", *taken(p, w, who, pc, step))
                at, me = p.lift(step.act)(w.at, getattr(w, who))
                after = w._replace(at=in_domain(at), **{who: in_domain(me)})
                p.prove(f"{name_of(pc, step)} preserves it", holds(after), *constants(w, after))
    return w


def schedule_scenario(p: Proof, words: int = 1) -> None:
    """A counterexample is a failing schedule of a helper and two rounds of ``words``, if one fails."""
    schedule = partial(shortest_failure, words)
    p.scenario("schedule", system="check-in", helpers=1, rounds=2, words=words, schedule=schedule)


def constants(before: State, after: State) -> Iterator[Truth]:
    """What no step changes."""
    for name in ("rounds", "plan", "watched"):
        yield getattr(before.at, name) == getattr(after.at, name)


def at_first(w: State) -> Iterator[MaybeTruth]:
    """Everybody is about to take the first step, and nothing has happened.

    There are at least one helper and the other, or there never was another.
    """
    given = {"doorbell", "wakeups", "rounds", "plan", "watched", "running"}
    for name, value in zip(ControlBlock._fields, w.at, strict=True):
        if name not in given:
            yield value == 0
    yield w.at.running == 1 + word_if(stands(w.other, h.READ_DOORBELL)) + w.others.running
    yield implies(stands(w.other, ENDED), w.others.running == 0)
    yield w.others.running < MOST_HELPERS
    yield every(
        *(n == 0 for n in (w.others.inside, w.others.holding, w.others.waking, w.others.at_work))
    )
    yield stands(w.caller, h.WRITE_JOB) & (w.caller.job == 0)
    yield stands(w.helper, h.READ_DOORBELL)
    yield stands(w.other, h.READ_DOORBELL, ENDED)


def steps_of(program: Mapping[Hashable, Step]) -> Iterator[tuple[int, Step]]:
    """The steps of one program as the model has them now: perhaps broken, perhaps with more."""
    for pc, step in h.program().items():
        if pc in program or (program is h.HELPER and pc not in h.CALLER):
            yield int(str(pc)), step


def taken(
    p: Proof, w: State, who: str, pc: int, step: Step, *, with_cause: bool = False
) -> Iterator[MaybeTruth]:
    """The process stands at the step and is not blocked there. (A spurious wake-up needs no cause.)"""
    me: Process = getattr(w, who)
    yield me.pc == pc
    if step.ready and (with_cause or not step.spurious):
        yield p.lift(step.ready)(w.at, me)


def name_of(pc: int, step: Step) -> str:
    """A step's name: that of the model's own function, also where a fault replaces it."""
    whole = {**h.CALLER, **h.HELPER}.get(pc, step)
    return whole.act.__name__.replace("_", " ")


# The claims. Each is of any number of helpers, rounds and batches, and of any interleaving. Of static
# rounds, that they end and that every share is flushed is explored, not proved.


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
    w = prove_invariant(p, batches_are_handed_out_once, dynamic=True)
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
    w = prove_invariant(p, sleepers_will_be_woken, dynamic=True)
    blocking = {pc for pc, step in h.program().items() if step.ready} - {h.AWAIT_ALL}
    p.prove("who is blocked", truth(blocking == {h.CALLER_PARKED, h.JOIN, h.HELPER_PARKED}))

    asleep = stands(w.caller, h.CALLER_PARKED) & (w.at.caller_asleep != 0)
    inside = p.lift(h.inside)(w.at.state) != 0
    p.prove("the caller will be woken", implies(asleep, inside | somebody_wakes_the_caller(w)))

    joins_sleeper = stands(w.caller, h.JOIN) & stands(w.helper, h.HELPER_PARKED)
    woken = p.lift(h.helper_woken)(w.at, w.helper)
    p.prove("close has woken every helper", implies(joins_sleeper, woken))


#: How many steps of its own take a helper out, once every batch has been handed out.
STEPS_TO_GO = {h.CHECK_OUT: 1, h.COMPLETE: 2, h.TAKE_BATCH: 3, h.COPY: 4, h.READ_JOB: 4}


@claim(faulty("waits for the woken", refutes="open job preserves it"))
def a_flush_waits_only_for_who_came(p: Proof) -> None:
    """A helper that never runs delays nobody: once the job is closed nobody comes in.

    Whoever is inside is out after at most four steps of its own, whatever the others do.
    """
    w = prove_invariant(p, batches_are_handed_out_once, dynamic=True)
    p.assume("the caller waits", stands(w.caller, *WAITING))
    for pc, step in steps_of(h.HELPER):
        with p.case():
            p.assume("the step is taken", *taken(p, w, "helper", pc, step))
            _, after = p.lift(step.act)(w.at, w.helper)
            if pc in STEPS_TO_GO:
                p.prove(f"{name_of(pc, step)} leads out", steps_to_go(after) < STEPS_TO_GO[pc])
            else:
                p.prove(f"{name_of(pc, step)} does not lead in", steps_to_go(after) == 0)


def steps_to_go(process: Process) -> Natural:
    """A helper's rank in STEPS_TO_GO; 0 outside."""
    steps = natural(0)
    for pc, number in STEPS_TO_GO.items():
        steps = select(natural(process.pc) == pc, number, steps)
    return steps
