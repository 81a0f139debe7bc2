"""The invariant of the check-in protocol: any number of helpers, rounds and batches, any interleaving.

The steps are those of ``model.protocols.check_in``, the very ones that are explored. Shared memory, the
caller, one arbitrary helper and another one are spelled out; the rest of the helpers are *counted*:
how many are inside, hold the watched batch, and so on. A step changes no other process's locals. So
what holds of shared memory, the caller and *any* two helpers always holds if it holds at first and is
kept by the steps of the caller and of a helper: each is the one that moves, or the other, or counted
(``check_in.whoever_moves_may_be_counted``). The watched batch stands for any batch.

Rounds are *dynamic*, await nobody and hand out batches, or *static*, await every helper, each of which
has a share of its own, and hand out none; in any order.

Memory is sequentially consistent here, and numbers that only grow (DOORBELL, CURSOR) never wrap.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from model.explore.catalogue import shortest_failure
from model.protocols import check_in as h
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED, Step
from proofs.prover.obligation import Proof
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
RUNG = (h.WAKE_HELPERS, h.CALLER_TAKE_BATCH, h.CALLER_COPY, h.AWAIT_ALL)
WOKEN = (h.CALLER_TAKE_BATCH, h.CALLER_COPY, h.AWAIT_ALL)
CLOSING = (h.RING_TO_QUIT, h.WAKE_TO_QUIT, h.JOIN, ENDED)
RUNG_TO_QUIT = (h.WAKE_TO_QUIT, h.JOIN, ENDED)
WOKEN_TO_QUIT = (h.JOIN, ENDED)

AT_WORK = (h.TAKE_BATCH, h.COPY, h.COMPLETE)

MOST_HELPERS = 2**30
OF_WORDS = {"state", "working", "running", "seen_state", "inside"}


class OtherHelpers(NamedTuple):
    """The helpers that are not spelled out, counted: in all, and those of whom something holds."""

    inside: Word
    holding: Natural
    waking: Natural
    running: Word
    at_work: Natural
    taking: Natural
    """at work, and have not found yet that no batch is left"""
    took_part: Natural
    """have gone to work in the round in progress"""
    all: Natural


class Shares(NamedTuple):
    """How often the two helpers have flushed their shares in the round in progress."""

    helper: Natural
    other: Natural


class State(NamedTuple):
    """A state of the protocol: one helper, another if there is one, and the rest, counted."""

    at: ControlBlock
    caller: Process
    helper: Process
    other: Process
    others: OtherHelpers
    shares: Shares
    there_is_another: Truth

    @property
    def helpers(self) -> Natural:
        """How many helpers there are in all; never changes."""
        return number_if(self.there_is_another) + self.others.all + 1


def any_state(p: Proof) -> State:
    """Variables for everything."""
    return State(
        variables(p, ControlBlock, "at"),
        variables(p, Process, "caller"),
        variables(p, Process, "helper"),
        variables(p, Process, "other"),
        variables(p, OtherHelpers, "others"),
        variables(p, Shares, "share"),
        *p.truths("there_is_another"),
    )


def variables(p: Proof, kind: Any, prefix: str) -> Any:
    """A variable for each field of a NamedTuple."""
    return kind._make(
        (p.words if name in OF_WORDS else p.naturals)(f"{prefix}_{name}")[0]
        for name in kind._fields
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


# How many processes there are of whom something holds, those that are only counted among them.


def how_many(w: State, counted: Natural, holds: Callable[[Process], MaybeTruth]) -> Natural:
    """Helpers: those counted, and the two that are spelled out."""
    return counted + number_if(holds(w.helper)) + number_if(holds(w.other))


def holding_the_batch(w: State) -> Natural:
    """Workers that have taken the watched batch, and copy it."""
    by_the_caller = number_if(holds_the_batch(w, w.caller, h.CALLER_COPY))
    return how_many(w, w.others.holding + by_the_caller, lambda me: holds_the_batch(w, me))


def holds_the_batch(w: State, me: Process, copying: int = h.COPY) -> Truth:
    """Has it taken the watched batch, to copy it?"""
    return stands(me, copying) & (me.batch == w.at.watched)


def is_at_work(me: Process) -> Truth:
    """Has the helper read the parameters of a round that it has not completed?"""
    return stands(me, *AT_WORK)


def is_taking(me: Process) -> Truth:
    """Is it at work, and has not found yet that no batch is left?"""
    return stands(me, h.TAKE_BATCH, h.COPY)


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
        are_counts(others),
        implies(~w.there_is_another, stands(w.other, ENDED)),
        implies(~w.there_is_another, (others.all == 0) & (others.running == 0)),
    )


def are_counts(others: OtherHelpers) -> Truth:
    """Who is inside has not ended; who holds a batch or is at work is inside; and so on."""
    return every(
        others.inside <= others.running,
        others.running < MOST_HELPERS,
        implies(others.inside == 0, (others.holding == 0) & (others.at_work == 0)),
        others.taking <= others.at_work,
        others.took_part <= others.all,
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
    has_read = (*AT_WORK, h.CHECK_OUT)
    return for_both(w, lambda me: implies(stands(me, *has_read), me.job == w.at.live))


def batches_are_handed_out_once(p: Proof, w: State) -> Truth:
    """The watched batch is not handed out, or is held by one worker, or has been flushed once."""
    at, caller = w.at, w.caller
    held = holding_the_batch(w)
    handed_out = number_if((at.watched < at.cursor) & (at.watched < at.words))
    return every(
        implies(stands(caller, *OPENED, *WAITING) & is_dynamic(w), at.times + held == handed_out),
        implies(
            stands(caller, h.RETURN) & is_dynamic(w), at.times == number_if(at.watched < at.words)
        ),
        implies(stands(caller, h.REWIND, h.FLUSH_ALONE, h.OPEN_JOB), at.times == 0),
        implies(stands(caller, h.OPEN_JOB), at.cursor == 0),
        implies(stands(caller, *ALL_HANDED_OUT), at.words <= at.cursor),
        for_both(w, lambda me: implies(stands(me, h.COMPLETE), at.words <= at.cursor)),
    )


def whoever_took_part_completes(p: Proof, w: State) -> Truth:
    """Who has gone to work in this round has COMPLETED it, or is at work still."""
    at_work = how_many(w, w.others.at_work, is_at_work)
    return natural(w.at.took_part) == w.at.completed + at_work


def is_dynamic(w: State) -> Truth:
    """Is the round a dynamic one, of batches?"""
    return natural(w.at.awaited) == 0


def has_taken_part(w: State, me: Process) -> Truth:
    """Has the helper gone to work in the round in progress, or in the last one if none is?"""
    return (natural(me.job) == w.at.job) & ~stands(me, ENDED)


def each_takes_part_once(p: Proof, w: State) -> Truth:
    """Helpers take part at most once in a round, are as many as there are, and end when told to."""
    at, caller = w.at, w.caller
    in_a_flush = stands(caller, *IN_A_FLUSH)
    took_part = how_many(w, w.others.took_part, lambda me: has_taken_part(w, me))
    ended = (h.END, ENDED)
    return every(
        for_both(w, lambda me: natural(me.job) <= at.job),
        implies(in_a_flush, at.took_part == took_part),
        implies(stands(w.helper, *ended), stands(caller, *CLOSING)),
        implies(stands(w.other, *ended) & w.there_is_another, stands(caller, *CLOSING)),
    )


def shares_are_flushed_once(p: Proof, w: State) -> Truth:
    """In a static round who has taken part has flushed its share once, or is about to."""
    at, caller = w.at, w.caller
    is_static = stands(caller, *IN_A_FLUSH) & ~is_dynamic(w)

    def once(me: Process, times: Natural) -> Truth:
        is_flushed: Truth = has_taken_part(w, me) & ~stands(me, h.COPY)
        return (times == number_if(is_flushed)) & ~stands(me, h.TAKE_BATCH)

    return every(
        implies(is_static, once(w.helper, w.shares.helper) & once(w.other, w.shares.other)),
        implies(is_static, at.awaited == w.helpers),
        implies(stands(caller, h.FLUSH_ALONE), is_dynamic(w)),
        implies(
            is_static & stands(caller, h.CLOSE_JOB, *WAITING, h.RETURN), at.completed == at.awaited
        ),
    )


def cursor_is_not_far_past(p: Proof, w: State) -> Truth:
    """Past the last batch CURSOR moves once for each worker: when it finds that none is left."""
    at, caller = w.at, w.caller
    taking = how_many(w, w.others.taking, is_taking)
    found_none = at.took_part - taking + number_if(stands(caller, *ALL_HANDED_OUT, h.RETURN))
    return every(
        implies(stands(caller, *OPENED, *WAITING, h.RETURN), at.cursor <= at.words + found_none),
        implies(stands(caller, h.FLUSH_ALONE, h.OPEN_JOB), at.cursor == 0),
        implies(stands(caller, h.REWIND, h.FLUSH_ALONE, h.OPEN_JOB), at.took_part == 0),
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


def nobody_sleeps_through_a_round(p: Proof, w: State) -> Truth:
    """Once the doorbell has been rung for a round, who has not taken part is up, or will be."""
    at, caller = w.at, w.caller
    rung, woken = stands(caller, *RUNG), stands(caller, *WOKEN)

    def wakes_up(me: Process) -> Truth:
        late = ~has_taken_part(w, me)
        on_its_way_to_sleep = stands(
            me, h.WAKE_CALLER, h.LOOK_AT_DOORBELL, h.HELPER_PARK, h.HELPER_PARKED
        )
        return every(
            implies(rung & late & on_its_way_to_sleep, me.seen_doorbell < at.doorbell),
            implies(woken & late & stands(me, h.HELPER_PARKED), me.asleep_at < at.wakeups),
        )

    return for_both(w, wakes_up)


def somebody_wakes_the_caller(w: State) -> Truth:
    """Is a helper about to wake the caller?"""
    return stands(w.helper, h.WAKE_CALLER) | stands(w.other, h.WAKE_CALLER) | (w.others.waking > 0)


def for_both(w: State, holds: Callable[[Process], Truth]) -> Truth:
    """For the arbitrary helper, and for the other one."""
    return every(holds(w.helper), holds(w.other))


#: All of them.
EVERY_PART = (
    everybody_is_counted,
    everybody_stands_at_a_step,
    state_follows_the_caller,
    helpers_work_for_the_round,
    batches_are_handed_out_once,
    whoever_took_part_completes,
    each_takes_part_once,
    shares_are_flushed_once,
    cursor_is_not_far_past,
    sleepers_will_be_woken,
    nobody_sleeps_through_a_round,
)


def with_one_more(w: State, me: Process) -> OtherHelpers:
    """The rest of the helpers, and this one, counted."""
    others = w.others
    return OtherHelpers(
        inside=others.inside + word_if(stands(me, *INSIDE)),
        holding=others.holding + number_if(holds_the_batch(w, me)),
        waking=others.waking + number_if(stands(me, h.WAKE_CALLER)),
        running=others.running + word_if(~stands(me, ENDED)),
        at_work=others.at_work + number_if(is_at_work(me)),
        taking=others.taking + number_if(is_taking(me)),
        took_part=others.took_part + number_if(has_taken_part(w, me)),
        all=others.all + 1,
    )


# Its proof.


def prove_invariant(p: Proof, *more: Part) -> State:
    """Prove these parts, by induction over the steps; return any state, in which they hold."""
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
    assume_rounds(p, w)
    with p.case():
        p.assume("the start", *at_first(w))
        p.prove("it holds at first", holds(w))
    p.assume("the invariant", holds(w))
    for who, program in (("caller", h.CALLER), ("helper", h.HELPER)):
        for pc, step in steps_of(program):
            with p.case():
                p.assume("the step is taken", *taken(p, w, who, pc, step))
                after = stepped(p, w, who, pc, step)
                p.prove(f"{name_of(pc, step)} preserves it", holds(after), *constants(w, after))
    return w


def assume_rounds(p: Proof, w: State) -> None:
    """What may be asked of a round, this one and the next: it is dynamic, or static."""
    for ahead in (0, 1):
        asked = p.lift(h.asked)(w.at.plan, w.caller.job + ahead)
        awaits_all = every(asked.awaited == w.helpers, asked.words == 0, asked.alone == 0)
        p.assume("rounds are dynamic or static", (asked.awaited == 0) | awaits_all)


def stepped(p: Proof, w: State, who: str, pc: int, step: Step) -> State:
    """The state after a step of the caller, the helper or the other one."""
    at, me = p.lift(step.act)(w.at, getattr(w, who))
    after = w._replace(at=in_domain(at), **{who: in_domain(me)})
    if pc == h.WRITE_JOB:
        # A new round: nobody has taken part in it yet, for nobody has a later one's number.
        nobody, nothing = w.others._replace(took_part=natural(0)), Shares(natural(0), natural(0))
        return after._replace(others=nobody, shares=nothing)
    if pc == h.COPY:
        times = getattr(w.shares, who) + 1
        return after._replace(shares=w.shares._replace(**{who: times}))
    return after


def schedule_scenario(p: Proof, words: int = 1, *, static: bool = False) -> None:
    """A counterexample is a failing schedule of a helper and two rounds of ``words``, if one fails."""
    system = {"helpers": 1, "rounds": 2, "words": words, **({"static": True} if static else {})}
    schedule = partial(shortest_failure, words, static)
    p.scenario("schedule", system="check-in", **system, schedule=schedule)


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
    yield w.at.running == 1 + word_if(w.there_is_another) + w.others.running
    yield implies(~w.there_is_another, (w.others.running == 0) & (w.others.all == 0))
    of_whom_something_holds = set(w.others._fields) - {"running", "all"}
    yield every(*(getattr(w.others, name) == 0 for name in of_whom_something_holds))
    yield stands(w.caller, h.WRITE_JOB) & (w.caller.job == 0)
    yield stands(w.helper, h.READ_DOORBELL) & (w.helper.job == 0)
    yield stands(w.other, h.READ_DOORBELL) == w.there_is_another
    yield stands(w.other, ENDED) == ~w.there_is_another
    yield w.other.job == 0
    yield are_counts(w.others)


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
