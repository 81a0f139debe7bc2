"""The check-in protocol: how a flush gets help from sleeping threads, and waits only for who came.

One *caller* flushes, round after round; *helpers* sleep in between. A control block of 64-bit
words, each on a cache line of its own:

    STATE     OPEN bit, QUIT bit, and the number of helpers inside
    DOORBELL  grows by one with every round: the futex that helpers sleep on
    CURSOR    the number of the next batch

The caller writes the job's parameters, opens the job, rings the doorbell, works too, closes the job,
and waits until nobody is inside. A helper *checks in* (compare-and-swap on STATE, only while OPEN),
only then reads the parameters, works, and *checks out*. So a helper that is asleep, late or
descheduled before it checks in holds up nobody, and after the flush has returned nobody touches memory.

Rounds differ: each has its own number of batches. A *static* round is the patch's: every helper has a
share of its own, so the caller keeps the job open until all of them have COMPLETED it, and waits for
the slowest. In a round with few pages the caller flushes *alone* and opens no job. A round off the
queue hands out words as a dynamic one hands out batches (``model.protocols.work_queue``).

Each step below is one access to shared memory. They are plain functions of (control block, process)
in the discipline of ``model.domain``: explored as Python (``model.explore``), proved for any
number of helpers and rounds as z3 terms (``proofs/check_in.py``).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from model.domain import select
from model.transitions import ENDED, STOPPED, Invariant, Step, System, step

Word: TypeAlias = int
Truth: TypeAlias = bool

ZERO = 0
ONE = 1

#: The bits of STATE. A futex compares the low 32 bits only: the number inside, which is all that
#: can change while the caller sleeps on it.
INSIDE = 2**32 - 1
OPEN = 1 << 62
QUIT = 1 << 63


def is_open(state: Word) -> Truth:
    """May helpers check in?"""
    return state & OPEN != ZERO


def has_quit(state: Word) -> Truth:
    """Should helpers end?"""
    return state & QUIT != ZERO


def inside(state: Word) -> Word:
    """How many helpers have checked in and not yet out."""
    return state & INSIDE


def checked_in(state: Word) -> Word:
    """STATE with one more helper inside."""
    return state + ONE


def checked_out(state: Word) -> Word:
    """STATE with one helper less inside."""
    return state - ONE


def closed(state: Word) -> Word:
    """STATE once nobody may check in any more."""
    return state & ~OPEN


def quitting(state: Word) -> Word:
    """STATE once helpers should end."""
    return state | QUIT


def caller_must_be_woken(state: Word) -> Truth:
    """Of STATE as a helper leaves it behind: was it the last one in a job that is closed?"""
    return (inside(state) == ZERO) & (state & OPEN == ZERO)


def state_in_words(state: int) -> str:
    """STATE for people: ``OPEN, 2 inside``."""
    flags = ["OPEN"] * bool(is_open(state)) + ["QUIT"] * bool(has_quit(state))
    return ", ".join([*flags, f"{inside(state)} inside"])


class Round(NamedTuple):
    """What is asked of one round, and stands in the job's parameters."""

    words: Word
    """batches to hand out"""
    awaited: Word
    """in a static round, how many helpers must complete it; else 0"""
    alone: Word
    """1 if the caller flushes alone, else 0"""


class ControlBlock(NamedTuple):
    """Shared memory. ``job`` stands for the job's parameters, by the round they were written for.

    ``wakeups`` counts the wake-ups of the futex DOORBELL: whoever fell asleep at another count is awake.
    ``caller_asleep`` is the futex STATE, on which only the caller sleeps.
    """

    state: Word
    doorbell: Word
    cursor: Word
    job: Word
    completed: Word
    """how many helpers' COMPLETED words hold the number of this round: their counts are added up"""
    wakeups: Word
    caller_asleep: Word
    running: Word
    """threads that have not ended (what ``join`` waits for)"""
    rounds: Word
    """flushes before the caller closes the pool; never changes"""
    plan: tuple[Round, ...]
    """what will be asked of each round (:func:`asked`); never changes"""
    words: Word
    """of this round, as are the next two: :class:`Round`"""
    awaited: Word
    alone: Word
    watched: Word
    """an arbitrary batch; never changes"""
    live: Word
    """the round of the flush in progress, or 0; read only by invariants, as are the next three"""
    times: Word
    """how often the watched batch has been flushed in this round"""
    working: Word
    """helpers between check-in and check-out"""
    took_part: Word
    """how many helpers have gone to work in this round"""


class Process(NamedTuple):
    """The caller or a helper: the step it stands at and its locals, 0 once they no longer matter.

    ``job`` is the round a process works for, or did last; ``seen_doorbell`` and ``seen_state`` are
    what it last loaded from DOORBELL and STATE; ``asleep_at`` is the count of ``wakeups`` at which it
    fell asleep.
    """

    pc: Word
    job: Word = 0
    batch: Word = 0
    seen_doorbell: Word = 0
    seen_state: Word = 0
    asleep_at: Word = 0


After = tuple[ControlBlock, Process]

# Where a process may stand. First the caller's program, in order.
(
    WRITE_JOB,
    REWIND,
    FLUSH_ALONE,
    OPEN_JOB,
    RING_DOORBELL,
    WAKE_HELPERS,
    CALLER_TAKE_BATCH,
    CALLER_COPY,
    AWAIT_ALL,
    CLOSE_JOB,
    LOOK_INSIDE,
    CALLER_PARK,
    CALLER_PARKED,
    RETURN,
    SET_QUIT,
    RING_TO_QUIT,
    WAKE_TO_QUIT,
    JOIN,
) = range(1, 19)
# A helper's program, in order.
(
    READ_DOORBELL,
    READ_STATE,
    CHECK_IN,
    READ_JOB,
    TAKE_BATCH,
    COPY,
    COMPLETE,
    CHECK_OUT,
    WAKE_CALLER,
    LOOK_AT_DOORBELL,
    HELPER_PARK,
    HELPER_PARKED,
    END,
) = range(21, 34)


def write_job(at: ControlBlock, me: Process) -> After:
    """flush() begins: the parameters of the next round."""
    job = me.job + ONE
    words, awaited, alone = asked(at.plan, job)
    after = at._replace(job=job, words=words, awaited=awaited, alone=alone)
    after = after._replace(completed=ZERO, live=job, times=ZERO, took_part=ZERO)
    return after, me._replace(pc=REWIND, job=job)


def asked(plan: tuple[Round, ...], job: Word) -> Round:
    """What is asked of a round; a primitive of each domain."""
    return plan[job - ONE]


def rewind(at: ControlBlock, me: Process) -> After:
    """CURSOR = 0."""
    return at._replace(cursor=ZERO), me._replace(pc=select(at.alone == ONE, FLUSH_ALONE, OPEN_JOB))


def flush_alone(at: ControlBlock, me: Process) -> After:
    """Few pages: the caller flushes all there is, and opens no job."""
    times = at.times + select(at.watched < at.words, ONE, ZERO)
    return at._replace(times=times), me._replace(pc=RETURN)


def open_job(at: ControlBlock, me: Process) -> After:
    """STATE = OPEN: a plain store, for by now nobody is inside."""
    return at._replace(state=OPEN), me._replace(pc=RING_DOORBELL)


def ring_doorbell(at: ControlBlock, me: Process) -> After:
    """DOORBELL += 1: whoever is about to sleep on the old number will not."""
    return at._replace(doorbell=at.doorbell + ONE), me._replace(pc=WAKE_HELPERS)


def wake_helpers(at: ControlBlock, me: Process) -> After:
    """futex_wake(DOORBELL): helpers that sleep wake up."""
    return at._replace(wakeups=at.wakeups + ONE), me._replace(pc=CALLER_TAKE_BATCH)


def caller_take_batch(at: ControlBlock, me: Process) -> After:
    """The caller works too: fetch-add on CURSOR."""
    got_one = at.cursor < at.words
    pc = select(got_one, CALLER_COPY, select(at.awaited == ZERO, CLOSE_JOB, AWAIT_ALL))
    batch = select(got_one, at.cursor, ZERO)
    return at._replace(cursor=at.cursor + ONE), me._replace(pc=pc, batch=batch)


def caller_copy(at: ControlBlock, me: Process) -> After:
    """Flush the batch."""
    return _flushed(at, me), me._replace(pc=CALLER_TAKE_BATCH, batch=ZERO)


def all_completed(at: ControlBlock, me: Process) -> Truth:
    """Does every helper's COMPLETED hold this round's number?"""
    return at.completed == at.awaited


def await_all(at: ControlBlock, me: Process) -> After:
    """A static round: every helper has completed it."""
    return at, me._replace(pc=CLOSE_JOB)


def close_job(at: ControlBlock, me: Process) -> After:
    """STATE &= ~OPEN: from here on nobody checks in."""
    return at._replace(state=closed(at.state)), me._replace(pc=LOOK_INSIDE)


def look_inside(at: ControlBlock, me: Process) -> After:
    """Load STATE: is anybody inside?"""
    empty = inside(at.state) == ZERO
    pc = select(empty, RETURN, CALLER_PARK)
    return at, me._replace(pc=pc, seen_state=select(empty, ZERO, at.state))


def caller_park(at: ControlBlock, me: Process) -> After:
    """futex_wait(STATE, seen_state): the kernel looks at STATE once more, then sleeps, in one step."""
    same = at.state == me.seen_state
    pc = select(same, CALLER_PARKED, LOOK_INSIDE)
    asleep = select(same, ONE, at.caller_asleep)
    return at._replace(caller_asleep=asleep), me._replace(pc=pc, seen_state=ZERO)


def caller_woken(at: ControlBlock, me: Process) -> Truth:
    """Has a helper woken the caller?"""
    return at.caller_asleep == ZERO


def caller_wakes(at: ControlBlock, me: Process) -> After:
    """futex_wait returns, with cause or without."""
    return at._replace(caller_asleep=ZERO), me._replace(pc=LOOK_INSIDE)


def finish(at: ControlBlock, me: Process) -> After:
    """flush() returns; then the next flush(), or close()."""
    return at._replace(live=ZERO), me._replace(pc=select(me.job < at.rounds, WRITE_JOB, SET_QUIT))


def set_quit(at: ControlBlock, me: Process) -> After:
    """close(): STATE |= QUIT."""
    return at._replace(state=quitting(at.state)), me._replace(pc=RING_TO_QUIT)


def ring_to_quit(at: ControlBlock, me: Process) -> After:
    """DOORBELL += 1."""
    return at._replace(doorbell=at.doorbell + ONE), me._replace(pc=WAKE_TO_QUIT)


def wake_to_quit(at: ControlBlock, me: Process) -> After:
    """futex_wake(DOORBELL): all of them."""
    return at._replace(wakeups=at.wakeups + ONE), me._replace(pc=JOIN)


def all_ended(at: ControlBlock, me: Process) -> Truth:
    """Has every thread ended?"""
    return at.running == ZERO


def join(at: ControlBlock, me: Process) -> After:
    """Join the threads; now the control block may be freed."""
    return at, me._replace(pc=ENDED, job=ZERO)


def read_doorbell(at: ControlBlock, me: Process) -> After:
    """Load DOORBELL, before STATE: so a ring of the doorbell after this load is not missed."""
    return at, me._replace(pc=READ_STATE, seen_doorbell=at.doorbell)


def read_state(at: ControlBlock, me: Process) -> After:
    """Load STATE: end, check in, or sleep?"""
    comes_in = is_open(at.state)
    pc = select(has_quit(at.state), END, select(comes_in, CHECK_IN, LOOK_AT_DOORBELL))
    return at, me._replace(pc=pc, seen_state=select(pc == CHECK_IN, at.state, ZERO))


def check_in(at: ControlBlock, me: Process) -> After:
    """Compare-and-swap STATE from what was loaded to one more inside; on failure load again."""
    same = at.state == me.seen_state
    state = select(same, checked_in(at.state), at.state)
    working = select(same, at.working + ONE, at.working)
    pc = select(same, READ_JOB, READ_STATE)
    return at._replace(state=state, working=working), me._replace(pc=pc, seen_state=ZERO)


def read_job(at: ControlBlock, me: Process) -> After:
    """Load the job's parameters: batches, a share of its own, or a job done before?"""
    work = select(at.awaited == ZERO, TAKE_BATCH, COPY)
    took_part = at.took_part + select(at.job == me.job, ZERO, ONE)
    after = me._replace(pc=select(at.job == me.job, CHECK_OUT, work), job=at.job)
    return at._replace(took_part=took_part), after


def take_batch(at: ControlBlock, me: Process) -> After:
    """Fetch-add on CURSOR; check out when none is left."""
    got_one = at.cursor < at.words
    pc = select(got_one, COPY, COMPLETE)
    batch = select(got_one, at.cursor, ZERO)
    return at._replace(cursor=at.cursor + ONE), me._replace(pc=pc, batch=batch)


def copy(at: ControlBlock, me: Process) -> After:
    """Flush the batch."""
    pc = select(at.awaited == ZERO, TAKE_BATCH, COMPLETE)
    return _flushed(at, me), me._replace(pc=pc, batch=ZERO)


def complete(at: ControlBlock, me: Process) -> After:
    """COMPLETED = the round, the copies fenced before it."""
    return at._replace(completed=at.completed + ONE), me._replace(pc=CHECK_OUT)


def check_out(at: ControlBlock, me: Process) -> After:
    """Fetch-sub on STATE, the copies fenced before it; is this the last one the caller awaits?"""
    state = checked_out(at.state)
    pc = select(caller_must_be_woken(state), WAKE_CALLER, LOOK_AT_DOORBELL)
    return at._replace(state=state, working=at.working - ONE), me._replace(pc=pc)


def wake_caller(at: ControlBlock, me: Process) -> After:
    """futex_wake(STATE). By now the caller may be rounds ahead: then it wakes for nothing."""
    return at._replace(caller_asleep=ZERO), me._replace(pc=LOOK_AT_DOORBELL)


def look_at_doorbell(at: ControlBlock, me: Process) -> After:
    """Load DOORBELL: still the one seen?"""
    same = at.doorbell == me.seen_doorbell
    return at, me._replace(
        pc=select(same, HELPER_PARK, READ_DOORBELL),
        seen_doorbell=select(same, me.seen_doorbell, ZERO),
    )


def helper_park(at: ControlBlock, me: Process) -> After:
    """futex_wait(DOORBELL, seen_doorbell): sleep, unless DOORBELL has moved on, in one step."""
    same = at.doorbell == me.seen_doorbell
    pc = select(same, HELPER_PARKED, LOOK_AT_DOORBELL)
    return at, me._replace(pc=pc, asleep_at=select(same, at.wakeups, ZERO))


def helper_woken(at: ControlBlock, me: Process) -> Truth:
    """Has DOORBELL's futex been woken since this helper fell asleep?"""
    return at.wakeups != me.asleep_at


def helper_wakes(at: ControlBlock, me: Process) -> After:
    """futex_wait returns, with cause or without."""
    return at, me._replace(pc=LOOK_AT_DOORBELL, asleep_at=ZERO)


def end(at: ControlBlock, me: Process) -> After:
    """The thread ends."""
    return at._replace(running=at.running - ONE), me._replace(
        pc=ENDED, job=ZERO, seen_doorbell=ZERO
    )


def _flushed(at: ControlBlock, me: Process) -> ControlBlock:
    return at._replace(times=at.times + select(me.batch == at.watched, ONE, ZERO))


# What must hold.


def memory_is_lent(at: ControlBlock, me: Process) -> Truth:
    """Whoever is about to copy works for the flush that is in progress."""
    return (at.live == me.job) & (me.job != ZERO)


def nobody_works(at: ControlBlock, me: Process) -> Truth:
    """When a flush returns, no helper is between check-in and check-out."""
    return at.working == ZERO


def flushed_once(at: ControlBlock, me: Process) -> Truth:
    """When a flush returns, the watched batch, if there is one, has been flushed exactly once."""
    return (at.times == ONE) | (at.watched >= asked(at.plan, me.job).words)


def not_flushed_yet(at: ControlBlock, me: Process) -> Truth:
    """Whoever is about to copy the watched batch is the first to do so in this round."""
    return (me.batch != at.watched) | (at.times == ZERO) | (at.watched >= at.words)


def everybody_completed(at: ControlBlock, me: Process) -> Truth:
    """When a static flush returns, every helper has flushed its share."""
    awaited = asked(at.plan, me.job).awaited
    return (awaited == ZERO) | (at.completed == awaited)


def every_share_is_flushed(at: ControlBlock, me: Process) -> Truth:
    """When a static flush returns, each share has been flushed, once: no batch is handed out there."""
    awaited = asked(at.plan, me.job).awaited
    return (awaited == ZERO) | (at.watched != ZERO) | (at.times == awaited)


def all_rounds_are_flushed(at: ControlBlock, me: Process) -> Truth:
    """Who closes the pool has flushed as often as it was to."""
    return me.job >= at.rounds


def nothing_is_left(at: ControlBlock, me: Process) -> Truth:
    """Who has done its part of a dynamic round has found that no batch is left."""
    return (at.awaited != ZERO) | (at.cursor >= at.words)


def all_are_counted(at: ControlBlock, me: Process) -> Truth:
    """When a flush returns, whoever took part has completed: only its counts are added up."""
    return at.completed == at.took_part


LENT = Invariant("no helper touches memory after flush has returned", memory_is_lent)
FINISHED = Invariant("flush returns only when every checked-in helper has finished", nobody_works)
EXACTLY_ONCE = Invariant("each batch is flushed exactly once", flushed_once)
AT_MOST_ONCE = Invariant("each batch is flushed exactly once", not_flushed_yet)
COUNTED = Invariant("the counts of all who took part are added up", all_are_counted)
ALL_ROUNDS = Invariant("the pool is closed after the last flush", all_rounds_are_flushed)
STAYS = Invariant("a helper stays as long as a batch is left", nothing_is_left)
SHARES_ONCE = Invariant("each share is flushed exactly once", every_share_is_flushed)
EVERY_SHARE = Invariant(
    "a static flush returns only when every share is flushed", everybody_completed
)


CALLER: Mapping[Hashable, Step] = {
    WRITE_JOB: step(write_job),
    REWIND: step(rewind),
    FLUSH_ALONE: step(flush_alone, invariants=(LENT, AT_MOST_ONCE, FINISHED)),
    OPEN_JOB: step(open_job),
    RING_DOORBELL: step(ring_doorbell),
    WAKE_HELPERS: step(wake_helpers),
    CALLER_TAKE_BATCH: step(caller_take_batch),
    CALLER_COPY: step(caller_copy, invariants=(LENT, AT_MOST_ONCE)),
    AWAIT_ALL: step(await_all, ready=all_completed),
    CLOSE_JOB: step(close_job),
    LOOK_INSIDE: step(look_inside),
    CALLER_PARK: step(caller_park),
    CALLER_PARKED: step(caller_wakes, ready=caller_woken, spurious=caller_wakes),
    RETURN: step(finish, invariants=(FINISHED, EXACTLY_ONCE, EVERY_SHARE, SHARES_ONCE, COUNTED)),
    SET_QUIT: step(set_quit, invariants=(ALL_ROUNDS,)),
    RING_TO_QUIT: step(ring_to_quit),
    WAKE_TO_QUIT: step(wake_to_quit),
    JOIN: step(join, ready=all_ended),
}
HELPER: Mapping[Hashable, Step] = {
    READ_DOORBELL: step(read_doorbell, stops=True),
    READ_STATE: step(read_state, stops=True),
    CHECK_IN: step(check_in, stops=True),
    READ_JOB: step(read_job),
    TAKE_BATCH: step(take_batch),
    COPY: step(copy, invariants=(LENT, AT_MOST_ONCE)),
    COMPLETE: step(complete, invariants=(STAYS,)),
    CHECK_OUT: step(check_out),
    WAKE_CALLER: step(wake_caller),
    LOOK_AT_DOORBELL: step(look_at_doorbell, stops=True),
    HELPER_PARK: step(helper_park, stops=True),
    HELPER_PARKED: step(helper_wakes, ready=helper_woken, spurious=helper_wakes, stops=True),
    END: step(end),
}


def program() -> Mapping[Hashable, Step]:
    """Every step of the protocol, by where a process stands."""
    return {**CALLER, **HELPER}


def check_in_protocol(
    helpers: int,
    rounds: int,
    words: int,
    watched: int = 0,
    *,
    static: bool = False,
    plan: Sequence[Round] = (),
) -> System[ControlBlock, Process]:
    """The caller (``c``) and some helpers (``1``, ``2``, ...).

    Any helper may stop for ever while it is outside: a pool that is being closed then waits for it,
    but a flush must not. (A futex_wake that wakes only some of the sleepers needs no case of its
    own: the others are as good as late.) In ``static`` rounds each helper has a share instead of
    batches, and no helper stops. All rounds are alike unless there is a ``plan``.
    """
    alike = Round(words=0 if static else words, awaited=helpers if static else 0, alone=0)
    plan = tuple(plan) or (alike,) * rounds
    awaits = any(asked.awaited for asked in plan)
    control = ControlBlock(
        state=0,
        doorbell=1,
        cursor=0,
        job=0,
        completed=0,
        wakeups=1,
        caller_asleep=0,
        running=helpers,
        rounds=len(plan),
        plan=plan,
        words=0,
        awaited=0,
        alone=0,
        watched=watched,
        live=0,
        times=0,
        working=0,
        took_part=0,
    )
    return System(
        name=f"check-in protocol, {helpers} helpers, {len(plan)} {kind_of(plan)} rounds",
        shared=control,
        processes=(Process(WRITE_JOB), *[Process(READ_DOORBELL)] * helpers),
        names="c123456789"[: helpers + 1],
        steps={
            pc: step._replace(stops=step.stops and not awaits) for pc, step in program().items()
        },
        is_final=all_have_ended,
        symmetric_from=1,
        view_shared=forget_unread,
        view_local=forget_stale_numbers,
    )


def kind_of(plan: Sequence[Round]) -> str:
    """``static``, ``dynamic``, or ``mixed`` rounds."""
    kinds = {"static" if asked.awaited else "dynamic" for asked in plan}
    return kinds.pop() if len(kinds) == 1 and not any(asked.alone for asked in plan) else "mixed"


def forget_unread(at: ControlBlock) -> ControlBlock:
    """Forget how far the cursor is past the last batch, and who has completed where nobody awaits it.

    And how often the watched one was flushed, once that was too often.
    """
    gone_by = 0 if at.awaited else min(at.completed, at.took_part)
    most = max(asked.words for asked in at.plan)
    too_often = 2 + max(asked.awaited for asked in at.plan)
    return at._replace(
        cursor=min(at.cursor, most),
        times=min(at.times, too_often),
        completed=at.completed - gone_by,
        took_part=at.took_part - gone_by,
    )


def forget_stale_numbers(at: ControlBlock, me: Process) -> Process:
    """DOORBELL, its wake-ups and the rounds only grow: an old number is as good as any older one."""
    return me._replace(
        seen_doorbell=me.seen_doorbell if me.seen_doorbell == at.doorbell else 0,
        asleep_at=me.asleep_at if me.asleep_at == at.wakeups else 0,
        job=me.job if me.job == at.job or me.pc in CALLER else 0,
    )


def forked_child(parent: ControlBlock) -> System[ControlBlock, Process]:
    """A child forked when its parent's control block was ``parent``: no helper came with it.

    The child flushes, then closes. (The pool's child goes further: it knows by its process number that
    it has no helpers, and begins with a STATE of 0.)
    """
    control = parent._replace(
        running=0, awaited=0, working=0, live=0, times=0, took_part=0, caller_asleep=0, rounds=1
    )
    return System(
        name="a forked child",
        shared=control,
        processes=(Process(WRITE_JOB),),
        names="c",
        steps=program(),
        is_final=all_have_ended,
        symmetric_from=1,
        view_shared=forget_unread,
    )


def all_have_ended(processes: tuple[Process, ...]) -> bool:
    """Everybody has ended; or the caller closes the pool and waits for a helper that stopped."""
    caller, *helpers = processes
    if caller.pc == JOIN:
        return any(h.pc == STOPPED for h in helpers) and all(
            h.pc in (STOPPED, ENDED) for h in helpers
        )
    return all(process.pc == ENDED for process in processes)
