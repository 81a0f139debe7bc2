"""The check-in protocol: how a caller and its sleeping helpers share one round of work.

The caller opens a round and works too. A helper that wakes *checks in*, by compare-and-swap and only
while the round is open; the caller closes the round when no work is left, and waits only for helpers
inside. So a helper that is not scheduled holds up nobody, and once a round is over nobody touches the
RAM. A static round is the patch's: it stays open until every helper has completed its share.

What kernels are given, all uint64: ``control``, the address of the control block
(``impl.kernels.control``); ``job``, that of a job table; ``worker``, a worker's number, 0 the
caller's; ``helpers`` and ``threads``, how many; ``current``, a round's number; ``dirty``, pages;
``begin``, nanoseconds.
"""

from typing import Any

import numpy as np

from impl.kernels import control as c
from impl.kernels import events as e
from impl.kernels import job_table as j
from impl.kernels import strategies as s
from impl.kernels.compile import compiled, entry, kernel
from impl.kernels.flush import (
    NO_PAGE,
    add_up_stretches,
    choose_copy,
    clear_bitmaps,
    count_either,
    first_stray,
    index_words,
)
from impl.kernels.intrinsics import (
    LINE_BYTES,
    atomic_add,
    atomic_and,
    atomic_load,
    atomic_or,
    atomic_store,
    compare_and_swap,
    fence_stores,
    futex_wait,
    futex_wake,
    give_way,
    load,
    nanoseconds,
    prefetch,
    store,
    this_process,
)
from impl.kernels.nodes import index_places, number_nodes
from model.protocols import check_in
from model.ram import PAGES_PER_WORD
from model.shares import STRETCH

_0, _1 = np.uint64(0), np.uint64(1)
_PAGES_PER_WORD = np.uint64(PAGES_PER_WORD)
_NOT_OPEN = ~c.OPEN
_LINE = np.uint64(LINE_BYTES)
# To add it is to take one away. The flags above the number are safe: who checks out has checked in.
_MINUS_ONE = ~_0
# The most that futex(2) can wake: its number is an int.
_EVERYONE = np.uint64(2**31 - 1)
_CALLER = np.uint64(0)
# Dirty pages in a batch: few enough for a short tail, enough to be worth the fetch-add.
_SMALLEST_BATCH, _LARGEST_BATCH = np.uint64(32), np.uint64(128)
_BATCHES_PER_THREAD = np.uint64(16)
_STRETCH = np.uint64(STRETCH)
# Words up to which the caller makes the index alone: a round costs about as much as eight stretches.
_INDEXED_ALONE = np.uint64(8 * STRETCH)

_is_open, _has_quit = compiled(check_in.is_open), compiled(check_in.has_quit)
_inside = compiled(check_in.inside)
_checked_in, _checked_out = compiled(check_in.checked_in), compiled(check_in.checked_out)
_caller_must_be_woken = compiled(check_in.caller_must_be_woken)


@entry
def helper(control: Any, worker: Any) -> None:
    """A helper's life: sleep till a round, check in, work, check out; leave when the pool quits."""
    state_word, doorbell = control + c.STATE, control + c.DOORBELL
    # A static round awaits every helper, so no pool is handed out before each of them is here.
    atomic_add(control + c.ARRIVED, _1)
    last = _0  # Rounds count from 1.
    while True:
        # Before STATE: who rings after this load changes what is waited for below, so no ring is missed.
        seen = atomic_load(doorbell)
        checked_in = False
        while not checked_in:
            state = atomic_load(state_word)
            if _has_quit(state):
                e.record(control, worker, e.END, _0, _0)
                return
            if not _is_open(state):
                break
            # By compare-and-swap: a fetch-add could land in a round that has been closed since. Where
            # somebody else was faster STATE is looked at again, and nothing else.
            checked_in = compare_and_swap(state_word, state, _checked_in(state)) == state
        if checked_in:
            e.record(control, worker, e.CHECK_IN, seen, state)
            # Checked in: from here the caller waits for us, and the round's parameters stand. Plain
            # loads suffice: they were stored before STATE was opened, which the swap has read.
            current = load(control + c.ROUND)
            e.record(control, worker, e.JOB, current, _0)
            # Woken without a cause it may come into the same round again: its part is done, and counted.
            if current != last:
                last = current
                s.work(control, worker)
                complete(control, worker, current)
                e.record(control, worker, e.COMPLETE, current, _0)
            check_out(control, worker)
        spin_deadline = nanoseconds() + load(control + c.SPIN)
        while atomic_load(doorbell) == seen:
            spin_or_sleep(control, worker, doorbell, seen, spin_deadline, e.HELPER_PARK)


@kernel
def spin_or_sleep(
    control: Any, worker: Any, word: Any, seen: Any, spin_deadline: Any, park: Any
) -> None:
    """Pass some time while the word at this address is still ``seen``; the caller looks again.

    First it polls, for a sleeper comes late: to be woken costs more than a short round. Between polls it
    gives way: whoever is waited for may need this very processor. ``park``: the event to record.
    """
    if nanoseconds() < spin_deadline:
        give_way()
    else:
        if park != e.UNRECORDED:
            e.record(control, worker, park, seen, _0)
        futex_wait(word, seen)


@kernel
def complete(control: Any, worker: Any, current: Any) -> None:
    """Publish that a worker has done its part of a round (the patch: set ``completes[i]``)."""
    # No store orders streamed pages on x86, only a locked instruction, which the store below and the
    # check-out happen to be: this says that the pages come first.
    fence_stores()
    completed = s.worker_line(control, worker) + c.COMPLETED
    atomic_store(completed, current)
    # Under the other strategies nobody sleeps here: the caller waits for STATE.
    if load(control + c.STRATEGY) == s.STATIC and worker != _CALLER:
        futex_wake(completed, _1)


@kernel
def check_out(control: Any, worker: Any) -> None:
    """Leave the round; the last one out of a closed round wakes the caller."""
    before = atomic_add(control + c.STATE, _MINUS_ONE)
    e.record(control, worker, e.CHECK_OUT, before, _0)
    if _caller_must_be_woken(_checked_out(before)):
        futex_wake(control + c.STATE, _1)
        e.record(control, worker, e.WAKE_CALLER, _0, _0)


@kernel
def run_round(control: Any, helpers: Any) -> None:
    """Open a round whose parameters are written, work in it, close it, wait for those inside."""
    state_word, doorbell = control + c.STATE, control + c.DOORBELL
    # A store, no read-modify-write: nobody is inside, and who quits is this caller.
    atomic_store(state_word, c.OPEN)
    e.record(control, _CALLER, e.OPEN, load(control + c.TO_HAND_OUT), load(control + c.GRAIN))
    # After OPEN: who is about to sleep finds another number on the doorbell, looks at STATE, comes in.
    e.record(control, _CALLER, e.DOORBELL, atomic_add(doorbell, _1), _0)
    e.record(control, _CALLER, e.WAKE, futex_wake(doorbell, helpers), _0)

    current = load(control + c.ROUND)
    s.work(control, _CALLER)
    complete(control, _CALLER, current)
    if load(control + c.STRATEGY) == s.STATIC:
        e.record(control, _CALLER, e.AWAIT_ALL, _0, _0)
        wait_for_all(control, helpers, current)
        e.record(control, _CALLER, e.ALL_COMPLETED, _0, _0)

    # No work is left; who has not come in by now has nothing to come for, and is not waited for.
    e.record(control, _CALLER, e.CLOSE, atomic_and(state_word, _NOT_OPEN), _0)
    spin_deadline = nanoseconds() + load(control + c.SPIN)
    while True:
        state = atomic_load(state_word)
        if _inside(state) == _0:
            break
        spin_or_sleep(control, _CALLER, state_word, state, spin_deadline, e.CALLER_PARK)
    e.record(control, _CALLER, e.RETURN, _0, _0)


@kernel
def wait_for_all(control: Any, helpers: Any, current: Any) -> None:
    """The patch's wait: for every helper in turn, until it has completed this round."""
    # One deadline for all: while the first is waited for the others work too.
    spin_deadline = nanoseconds() + load(control + c.SPIN)
    for number in range(helpers):
        completed = s.worker_line(control, number + _1) + c.COMPLETED
        while True:
            seen = atomic_load(completed)
            if seen == current:
                break
            spin_or_sleep(control, _CALLER, completed, seen, spin_deadline, e.UNRECORDED)


@kernel
def batch_size(dirty: Any, threads: Any) -> Any:
    """Dirty pages in a batch: several batches for every thread, neither too small nor too large."""
    return min(max(dirty // (threads * _BATCHES_PER_THREAD), _SMALLEST_BATCH), _LARGEST_BATCH)


@kernel
def helpers_here(control: Any) -> Any:
    """How many helpers there are in this process.

    None in a child after ``fork``: they have stayed with the parent, with the round that they were
    in and the log of their events.
    """
    # To ask for the number of this process is a system call, and takes a microsecond after other work.
    if load(control + c.UNFORKED) == _0:
        here = this_process()
        # What a fork interrupted may have left OPEN or a number inside: here nobody would ever check out.
        if load(control + c.OWNER) != here:
            store(control + c.OWNER, here)
            store(control + c.HELPERS, _0)
            store(control + c.STATE, _0)
            store(s.worker_line(control, _CALLER) + c.LOG, _0)
    return load(control + c.HELPERS)


@entry
def flush_once(control: Any, job: Any, strategy: Any, threads: Any) -> Any:
    """One whole flush. Returns the first stray bit, with nothing changed, or NO_PAGE."""
    begin = nanoseconds()
    fetch_what_is_looked_at(control, job)
    helpers = helpers_here(control)
    # REFUSE, before a byte is copied: nothing that was done would have to be undone.
    stray = first_stray(job)
    if stray != NO_PAGE:
        return stray
    dirty, first, last = count_either(job, most_that_matters(control, job))
    choose_copy(control, job, dirty)
    is_small = dirty * load(job + j.PAGE_BYTES) <= load(control + c.SERIAL_BELOW)
    # Few pages are copied sooner than a helper wakes. Not a static round: that is the patch's, to be
    # measured as it is.
    if strategy != s.STATIC and (helpers == _0 or is_small):
        strategy = s.SERIAL
    took_part = threads
    if helpers == _0 or strategy == s.SERIAL:
        start_round(control, job, strategy, threads)
        flush_alone(control, threads, first, last)
        took_part = _1
    elif strategy == s.DYNAMIC or strategy == s.BY_NODE:
        dirty = index_dirty(control, job, strategy, helpers, threads)
        start_round(control, job, strategy, threads)
        hand_out(control, dirty, batch_size(dirty, threads))
        if strategy == s.BY_NODE:
            number_nodes(job, dirty)
            s.rewind_by_node(control, job)
        run_round(control, helpers)
    else:
        start_round(control, job, strategy, threads)
        run_round(control, helpers)
    add_up(control, job, took_part, begin)
    return NO_PAGE


@kernel
def fetch_what_is_looked_at(control: Any, job: Any) -> None:
    """Prefetch the lines that every flush looks at, all at once.

    Between two checkpoints other work has used the processor's cache. They would be waited for one after
    the other: a tenth of a flush of a few pages.
    """
    prefetch(control + c.UNFORKED)
    prefetch(control + c.ROUND)
    prefetch(control + c.SERIAL_BELOW)
    prefetch(s.worker_line(control, _CALLER))
    prefetch(job)
    prefetch(job + _LINE)
    prefetch(job + j.ROWS)


@kernel
def most_that_matters(control: Any, job: Any) -> Any:
    """A number of dirty pages: where there are more, no limit of the pool's is any nearer."""
    most = max(load(control + c.ORDINARY_BELOW), load(control + c.FETCHING_BELOW))
    return max(most, load(control + c.SERIAL_BELOW)) // load(job + j.PAGE_BYTES)


@kernel
def index_dirty(control: Any, job: Any, strategy: Any, helpers: Any, threads: Any) -> Any:
    """Index the dirty pages, of a large RAM in a round of its own; how many there are.

    Nobody can have begun to flush: who clears a bit takes it from whoever still counts.
    """
    n_words = load(job + j.WORDS)
    if n_words > _INDEXED_ALONE:
        kind = s.INDEX_BY_NODE if strategy == s.BY_NODE else s.INDEX
        start_round(control, job, kind, threads)
        hand_out(control, n_words, _STRETCH)
        run_round(control, helpers)
    elif strategy == s.BY_NODE:
        index_places(job, _0, n_words)
    else:
        index_words(job, _0, n_words)
    return add_up_stretches(job)


@kernel
def add_up(control: Any, job: Any, threads: Any, begin: Any) -> None:
    """Write the totals of a finished round, over those of ``threads`` that took part; keep the count."""
    current = load(control + c.ROUND)
    copied = host_dirty = cache_dirty = both_dirty = _0
    for worker in range(threads):
        line = s.worker_line(control, worker)
        # A helper that did not come in has the numbers of an earlier round on its line.
        if load(line + c.COMPLETED) == current:
            copied += load(line + c.COPIED)
            host_dirty += load(line + c.HOST_DIRTY)
            cache_dirty += load(line + c.CACHE_DIRTY)
            both_dirty += load(line + c.BOTH_DIRTY)
    left = load(job + j.DIRTY_PAGES) - cache_dirty
    store(job + j.DIRTY_PAGES, left)
    totals = control + c.TOTALS
    store(totals + c.LEFT, left)
    store(totals + c.COPIED, copied)
    store(totals + c.HOST_DIRTY, host_dirty)
    store(totals + c.CACHE_DIRTY, cache_dirty)
    store(totals + c.BOTH_DIRTY, both_dirty)
    store(totals + c.BEGIN, begin)
    store(totals + c.END, nanoseconds())


@kernel
def start_round(control: Any, job: Any, strategy: Any, threads: Any) -> None:
    """Write a round's parameters. Nobody is inside, so nobody reads them yet."""
    store(control + c.ROUND, load(control + c.ROUND) + _1)
    store(control + c.STRATEGY, strategy)
    store(control + c.JOB, job)
    store(control + c.THREADS, threads)
    store(control + c.CURSOR, _0)
    store(control + c.TO_HAND_OUT, _0)
    store(control + c.HEAD, _0)
    store(control + c.TAIL, _0)
    store(control + c.CLOSED, _0)
    e.record(control, _CALLER, e.BEGIN, load(control + c.ROUND), _0)


@kernel
def hand_out(control: Any, number: Any, grain: Any) -> None:
    """Write how much a round hands out off its cursor, and how much at a time."""
    store(control + c.TO_HAND_OUT, number)
    store(control + c.GRAIN, grain)


@kernel
def flush_alone(control: Any, threads: Any, first: Any, last: Any) -> None:
    """A round of the caller's own: few pages, or no helpers. Static: one share after the other.

    All dirty words lie in ``[first, last)``, as count_either has found: no other is looked at again.
    """
    s.begin_line(control, _CALLER)
    if load(control + c.STRATEGY) == s.STATIC:
        for thread in range(threads):
            s.flush_share(control, _CALLER, thread)
    elif first < last:
        s.flush_part(control, _CALLER, first * _PAGES_PER_WORD, last * _PAGES_PER_WORD)
    s.end_line(control, _CALLER)
    complete(control, _CALLER, load(control + c.ROUND))
    e.record(control, _CALLER, e.RETURN, _0, _0)


@entry
def back_up_once(control: Any, job: Any, grain: Any, threads: Any) -> None:
    """Copy every used page from host to cache and clear both bitmaps."""
    helpers = helpers_here(control)
    start_round(control, job, s.BACKUP, threads)
    hand_out(control, load(job + j.WORDS), grain)
    run_round(control, helpers)
    clear_bitmaps(job)


@entry
def dismiss(control: Any) -> None:
    """Tell every helper to leave (the patch: set ``quit``, then every trigger)."""
    # QUIT before the doorbell, as a round opens before it rings: who misses the bit hears the ring.
    e.record(control, _CALLER, e.QUIT, atomic_or(control + c.STATE, c.QUIT), _0)
    e.record(control, _CALLER, e.DOORBELL, atomic_add(control + c.DOORBELL, _1), _0)
    e.record(control, _CALLER, e.WAKE, futex_wake(control + c.DOORBELL, _EVERYONE), _0)
