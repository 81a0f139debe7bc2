"""Mutants that do no harm, by the reason: nothing refuses them, and nothing should.

``python -m tests.mutation`` says if one is missing here, or is refused by now.
"""

from collections.abc import Mapping

MODEL, KERNELS = "model", "kernels"

_OF_THE_MODEL: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Looks once more, and finds the same.",
        (
            "work_queue.after_search: QUEUE -> QUEUE - 1 (3)",
            "work_queue.following: READ_HEAD -> READ_HEAD - 1",
            "work_queue.following: READ_CLOSED -> READ_CLOSED + 1 (2)",
            "work_queue.searcher_step: (me.step == LOOK_FIRST) & found -> me.step == LOOK_FIRST",
        ),
    ),
    (
        "Neither queueing nor closing moves HEAD: it is the same in both.",
        (
            "work_queue.if_so: select(condition, then.head, otherwise.head) -> otherwise.head",
            "work_queue.if_so: QueueOf(head=select(condition, then.head, otherwise.head)) -> head stays",
            "work_queue.if_so: select(condition, then.head, otherwise.head) -> "
            "select(condition, otherwise.head, then.head)",
        ),
    ),
    (
        "Nobody reads that local any more.",
        (
            "check_in.caller_copy: me._replace(batch=ZERO) -> batch stays",
            "check_in.caller_copy: ZERO -> ZERO + 1",
            "check_in.caller_park: ZERO -> ZERO + 1",
            "check_in.caller_park: me._replace(seen_state=ZERO) -> seen_state stays",
            "check_in.caller_take_batch: ZERO -> ZERO + 1 (2)",
            "check_in.caller_take_batch: select(got_one, at.cursor, ZERO) -> at.cursor",
            "check_in.check_in: me._replace(seen_state=ZERO) -> seen_state stays",
            "check_in.check_in: ZERO -> ZERO + 1",
            "check_in.copy: me._replace(batch=ZERO) -> batch stays",
            "check_in.helper_park: select(same, at.wakeups, ZERO) -> at.wakeups",
            "check_in.helper_park: ZERO -> ZERO + 1",
            "check_in.helper_wakes: me._replace(asleep_at=ZERO) -> asleep_at stays",
            "check_in.helper_wakes: ZERO -> ZERO + 1",
            "check_in.look_at_doorbell: me._replace(seen_doorbell=select(same, "
            "me.seen_doorbell, ZERO)) -> seen_doorbell stays",
            "check_in.look_at_doorbell: select(same, me.seen_doorbell, ZERO) -> me.seen_doorbell",
            "check_in.look_at_doorbell: ZERO -> ZERO + 1",
            "check_in.look_inside: select(empty, ZERO, at.state) -> at.state",
            "check_in.look_inside: ZERO -> ZERO + 1 (2)",
            "check_in.read_state: select(pc == CHECK_IN, at.state, ZERO) -> at.state",
            "check_in.read_state: ZERO -> ZERO + 1",
            "worker.starting: ZERO -> ZERO + 1",
            "worker.starting: ZERO -> ZERO + 1 (2)",
            "worker.starting: ZERO -> ZERO + 1 (3)",
        ),
    ),
    (
        "Wakes somebody who is awake, or lets a helper look at the doorbell sooner or later.",
        (
            "check_in.caller_must_be_woken: OPEN -> OPEN + 1",
            "check_in.check_out: select(caller_must_be_woken(state), WAKE_CALLER, "
            "LOOK_AT_DOORBELL) -> WAKE_CALLER",
            "check_in.check_out: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL + 1",
            "check_in.check_out: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL - 1",
            "check_in.helper_wakes: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL + 1",
            "check_in.helper_wakes: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL - 1",
            "check_in.read_state: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL + 1",
            "check_in.read_state: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL - 1",
            "check_in.wake_caller: LOOK_AT_DOORBELL -> LOOK_AT_DOORBELL + 1",
            "check_in.caller_must_be_woken: (inside(state) == ZERO) & (state & OPEN == ZERO) "
            "-> (inside(state) == ZERO) | (state & OPEN == ZERO)",
            "check_in.caller_must_be_woken: (inside(state) == ZERO) & (state & OPEN == ZERO) "
            "-> inside(state) == ZERO",
            "check_in.caller_must_be_woken: (inside(state) == ZERO) & (state & OPEN == ZERO) "
            "-> state & OPEN == ZERO",
            "check_in.caller_must_be_woken: inside(state) -> state",
            "check_in.caller_must_be_woken: state & OPEN -> state",
            "check_in.caller_must_be_woken: OPEN -> OPEN - 1",
        ),
    ),
    (
        "Whether the caller is asleep is asked only where it has just been set.",
        (
            "check_in.caller_park: select(same, ONE, at.caller_asleep) -> ONE",
            "check_in.caller_park: ONE -> ONE + 1",
            "check_in.caller_wakes: at._replace(caller_asleep=ZERO) -> caller_asleep stays",
            "check_in.caller_wakes: ZERO -> ZERO + 1",
        ),
    ),
    (
        "ENDED is zero, too.",
        (
            "check_in.end: me._replace(pc=ENDED, job=ZERO) -> pc=ZERO, job=ENDED",
            "check_in.join: me._replace(pc=ENDED, job=ZERO) -> pc=ZERO, job=ENDED",
        ),
    ),
    (
        "It has ended: nobody reads its locals.",
        (
            "check_in.end: me._replace(job=ZERO) -> job stays",
            "check_in.end: me._replace(seen_doorbell=ZERO) -> seen_doorbell stays",
            "check_in.end: ZERO -> ZERO + 1 (2)",
            "check_in.join: me._replace(job=ZERO) -> job stays",
            "check_in.join: ZERO -> ZERO + 1",
        ),
    ),
    (
        "Nothing has been flushed by then.",
        (
            "check_in.flush_alone: at.times + select(at.watched < at.words, ONE, ZERO) -> "
            "select(at.watched < at.words, ONE, ZERO)",
        ),
    ),
    (
        "The job is closed and the pool is not: STATE is the number inside.",
        ("check_in.look_inside: inside(at.state) -> at.state",),
    ),
    (
        "Of a static round it is not asked by the claims, and the explorer's have no batches.",
        (
            "check_in.nothing_is_left: (at.awaited != ZERO) | (at.cursor >= at.words) -> "
            "at.cursor >= at.words",
        ),
    ),
    (
        "Nobody is inside, and no job is open: STATE is zero.",
        (
            "check_in.quitting: state | QUIT -> state ^ QUIT",
            "check_in.quitting: state | QUIT -> QUIT",
        ),
    ),
    (
        "Alone or in a round, the pages are flushed; which of the two is a matter of speed.",
        (
            "check_in.rewind: select(at.alone == ONE, FLUSH_ALONE, OPEN_JOB) -> OPEN_JOB",
            "check_in.rewind: ONE -> ONE + 1",
            "check_in.rewind: FLUSH_ALONE -> FLUSH_ALONE + 1",
        ),
    ),
    (
        "The doorbell only has to be another number.",
        (
            "check_in.ring_doorbell: ONE -> ONE + 1",
            "check_in.ring_to_quit: ONE -> ONE + 1",
            "check_in.wake_helpers: ONE -> ONE + 1",
            "check_in.wake_to_quit: ONE -> ONE + 1",
        ),
    ),
    (
        "An empty window, or one more that is empty, is as good as none.",
        (
            "shares.batch: select(cursor < words, cursor, words) -> cursor",
            "shares.batch: cursor < words -> cursor <= words",
            "shares.batch: cursor + grain < words -> cursor + grain <= words",
            "shares.clip: first <= lower -> first < lower",
            "shares.clip: first + used >= upper -> first + used > upper",
            "shares.in_reach: first < upper -> first <= upper",
        ),
    ),
    (
        "A share that is empty is nobody's page: by what it is divided does not matter.",
        ("shares.owner: ONE -> ONE + 1",),
    ),
    (
        "The walk is over: nobody asks where it stands.",
        ("walk.copy_next: select(over, walk.offset, page) -> page",),
    ),
    (
        "It searches only where the cursor is the offset.",
        ("walk.search_cache: walk.offset -> walk.cache_next (2)",),
    ),
    (
        "Outside the window the mask is empty either way; of a distance only six bits are used.",
        (
            "words.window_mask: first_page < base -> first_page <= base",
            "words.window_mask: start < stop -> start <= stop",
            "words.window_mask: stop - base -> stop + base",
            "words.window_mask: stop - base -> stop",
        ),
    ),
    (
        "The two are treated alike.",
        (
            "worker.memory_after: either(loaded(memory.copied, me.word), page) -> "
            "either(page, loaded(memory.copied, me.word))",
            "worker.worker_after: either(cache, host) -> either(host, cache)",
            "worker.counts: either(cache, host) -> either(host, cache)",
            "worker.counts: both(cache, host) -> both(host, cache)",
        ),
    ),
)

_OF_THE_KERNELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Looks at rows, or windows, in which nothing of the range lies.",
        (
            "flush.flush_range: if _in_reach(first, used, lower, upper) -> always if "
            "_in_reach(first, used, lower, upper)",
            "flush.flush_range: load(row + j.FIRST_BIT) < upper -> load(row + j.FIRST_BIT) <= upper",
            "flush.flush_range: row < end and load(row + j.FIRST_BIT) < upper -> row < end",
            "flush.flush_range: if start < limit -> always if start < limit",
            "flush.flush_range: start < limit -> start <= limit",
            "flush.back_up_range: row < end and load(row + j.FIRST_BIT) < upper -> row < end",
            "flush.back_up_range: load(row + j.FIRST_BIT) < upper -> load(row + j.FIRST_BIT) <= upper",
            "flush.back_up_range: if _in_reach(first, used, lower, upper) -> always if "
            "_in_reach(first, used, lower, upper)",
            "flush.back_up_range: if start < limit -> always if start < limit",
            "flush.back_up_range: start < limit -> start <= limit",
        ),
    ),
    (
        "The two are treated alike.",
        (
            "flush.flush_window: next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), "
            "end) -> next_dirty_word(host_bitmap, cache_bitmap, _word_of(first), end)",
            "flush.flush_window: next_dirty_word(cache_bitmap, host_bitmap, word + _1, end) "
            "-> next_dirty_word(host_bitmap, cache_bitmap, word + _1, end)",
            "flush.flush_window: _either(cache, host) -> _either(host, cache)",
            "flush.flush_window: _either(word_at(cache_bitmap, following), "
            "word_at(host_bitmap, following)) -> _either(word_at(host_bitmap, following), "
            "word_at(cache_bitmap, following))",
            "flush.flush_window: _both(cache, host) -> _both(host, cache)",
            "flush.next_dirty_word: _either(word_at(cache_bitmap, word), "
            "word_at(host_bitmap, word)) -> _either(word_at(host_bitmap, word), "
            "word_at(cache_bitmap, word))",
            "flush.next_dirty_word: any_of_stride(cache_bitmap, host_bitmap, word) -> "
            "any_of_stride(host_bitmap, cache_bitmap, word)",
            "flush.count_either: next_dirty_word(cache_bitmap, host_bitmap, _0, n_words) -> "
            "next_dirty_word(host_bitmap, cache_bitmap, _0, n_words)",
            "flush.index_dirty: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
            "word)) -> _either(word_at(host_bitmap, word), word_at(cache_bitmap, word))",
            "flush.count_either: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
            "word)) -> _either(word_at(host_bitmap, word), word_at(cache_bitmap, word))",
            "flush.first_dirty: next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), "
            "end) -> next_dirty_word(host_bitmap, cache_bitmap, _word_of(first), end)",
            "flush.first_dirty: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
            "word)) -> _either(word_at(host_bitmap, word), word_at(cache_bitmap, word))",
            "flush.first_dirty: next_dirty_word(cache_bitmap, host_bitmap, word + _1, end) "
            "-> next_dirty_word(host_bitmap, cache_bitmap, word + _1, end)",
            "strategies.search: next_dirty_word(cache_bitmap, host_bitmap, _0, end) -> "
            "next_dirty_word(host_bitmap, cache_bitmap, _0, end)",
            "strategies.search: next_dirty_word(cache_bitmap, host_bitmap, word + _1, end) "
            "-> next_dirty_word(host_bitmap, cache_bitmap, word + _1, end)",
            "check_in.batch_size: min(max(dirty // (threads * _BATCHES_PER_THREAD), "
            "_SMALLEST_BATCH), _LARGEST_BATCH) -> min(_LARGEST_BATCH, max(dirty // (threads "
            "* _BATCHES_PER_THREAD), _SMALLEST_BATCH))",
            "check_in.batch_size: max(dirty // (threads * _BATCHES_PER_THREAD), "
            "_SMALLEST_BATCH) -> max(_SMALLEST_BATCH, dirty // (threads * "
            "_BATCHES_PER_THREAD))",
        ),
    ),
    (
        "Begins at a word that may be clean, and finds nothing in it.",
        (
            "flush.flush_window: next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), "
            "end) -> next_dirty_word(cache_bitmap, host_bitmap, end, _word_of(first))",
            "flush.count_either: next_dirty_word(cache_bitmap, host_bitmap, _0, n_words) -> "
            "next_dirty_word(cache_bitmap, host_bitmap, n_words, _0)",
            "flush.first_dirty: next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), "
            "end) -> next_dirty_word(cache_bitmap, host_bitmap, end, _word_of(first))",
            "flush.first_dirty: next_dirty_word(cache_bitmap, host_bitmap, word + _1, end) "
            "-> next_dirty_word(cache_bitmap, host_bitmap, end, word + _1)",
            "strategies.search: next_dirty_word(cache_bitmap, host_bitmap, _0, end) -> "
            "next_dirty_word(cache_bitmap, host_bitmap, end, _0)",
            "strategies.search: next_dirty_word(cache_bitmap, host_bitmap, word + _1, end) "
            "-> next_dirty_word(cache_bitmap, host_bitmap, end, word + _1)",
        ),
    ),
    (
        "The end lies in the same line.",
        ("flush.fetch: _FETCHED_BYTES -> _FETCHED_BYTES - 1",),
    ),
    (
        "A slot stays empty.",
        ("strategies.search: _SLOTS -> _SLOTS - 1",),
    ),
    (
        "Whoever reads it asks only whether it is zero.",
        (
            "strategies.search: _1 -> _1 + 1 (3)",
            "strategies.copy_one: _1 -> _1 + 1 (3)",
        ),
    ),
    (
        "Wakes somebody who is not asleep.",
        (
            "check_in.complete: load(control + c.STRATEGY) == s.STATIC and worker != _CALLER "
            "-> load(control + c.STRATEGY) == s.STATIC or worker != _CALLER",
            "check_in.complete: if load(control + c.STRATEGY) == s.STATIC and worker != "
            "_CALLER -> always if load(control + c.STRATEGY) == s.STATIC and worker != "
            "_CALLER",
            "check_in.complete: load(control + c.STRATEGY) == s.STATIC and worker != _CALLER "
            "-> worker != _CALLER",
            "check_in.complete: load(control + c.STRATEGY) == s.STATIC and worker != _CALLER "
            "-> load(control + c.STRATEGY) == s.STATIC",
            "check_in.complete: _1 -> _1 + 1",
            "check_in.check_out: _1 -> _1 + 1",
        ),
    ),
    (
        "A nanosecond more.",
        (
            "check_in.spin_or_sleep: nanoseconds() < spin_deadline -> nanoseconds() <= spin_deadline",
        ),
    ),
    (
        "The job is closed and the pool is not: STATE is the number inside.",
        ("check_in.run_round: _inside(state) -> state",),
    ),
    (
        "No event is recorded there, so nobody looks at the control block or the worker.",
        (
            "check_in.wait_for_all: spin_or_sleep(control, _CALLER, completed, seen, spin_deadline, "
            "e.UNRECORDED) -> spin_or_sleep(_CALLER, control, completed, seen, spin_deadline, "
            "e.UNRECORDED)",
            "check_in.wait_for_all: _CALLER -> _CALLER + 1",
        ),
    ),
    (
        "Without helpers the caller flushes alone whatever the strategy is called.",
        ("check_in.flush_once: helpers == _0 or is_small -> is_small",),
    ),
    (
        "The same number there.",
        (
            "check_in.start_round: e.record(control, _CALLER, e.BEGIN, load(control + "
            "c.ROUND), _0) -> e.record(control, e.BEGIN, _CALLER, load(control + c.ROUND), "
            "_0)",
            "check_in.flush_alone: s.flush_part(control, _CALLER, _0, load(job + j.PAGES)) -> "
            "s.flush_part(control, _0, _CALLER, load(job + j.PAGES))",
            "check_in.dismiss: e.record(control, _CALLER, e.QUIT, atomic_or(control + "
            "c.STATE, c.QUIT), _0) -> e.record(control, _CALLER, e.QUIT, _0, "
            "atomic_or(control + c.STATE, c.QUIT))",
        ),
    ),
    (
        "One share after the other is all of the RAM, and all of it at once is, too.",
        (
            "check_in.flush_alone: if load(control + c.STRATEGY) == s.STATIC -> always if "
            "load(control + c.STRATEGY) == s.STATIC",
            "check_in.flush_alone: if load(control + c.STRATEGY) == s.STATIC -> never if "
            "load(control + c.STRATEGY) == s.STATIC",
            "check_in.flush_alone: load(control + c.STRATEGY) == s.STATIC -> load(control + "
            "c.STRATEGY) != s.STATIC",
            "check_in.flush_alone: control + c.STRATEGY -> control",
            "check_in.flush_alone: load(control + c.STRATEGY) -> control + c.STRATEGY",
            "check_in.flush_alone: c.STRATEGY -> c.STRATEGY + 8",
            "check_in.flush_alone: s.STATIC -> s.STATIC + 1",
            "check_in.flush_alone: c.STRATEGY -> c.STRATEGY - 8",
            "check_in.flush_alone: s.STATIC -> s.STATIC - 1",
        ),
    ),
    (
        "Where nothing is dirty nothing is found.",
        ("check_in.flush_alone: if dirty != _0 -> always if dirty != _0",),
    ),
    (
        "An end beyond the RAM's is as good as the RAM's.",
        (
            "check_in.flush_alone: load(job + j.PAGES) -> job + j.PAGES",
            "check_in.flush_alone: j.PAGES -> j.PAGES - 8",
        ),
    ),
    (
        "Batches beyond the end are empty.",
        ("check_in.back_up_once: j.WORDS -> j.WORDS - 8",),
    ),
    (
        "Nobody looks at the number inside once the pool has quit.",
        ("check_in.dismiss: c.QUIT -> c.QUIT + 8",),
    ),
    (
        "The doorbell only has to be another number.",
        ("check_in.dismiss: _1 -> _1 + 1",),
    ),
    (
        "There are not as many threads.",
        (
            "check_in.dismiss: _EVERYONE -> _EVERYONE + 1",
            "check_in.dismiss: _EVERYONE -> _EVERYONE - 1",
        ),
    ),
)

#: Each with its reason.
HARMLESS: Mapping[str, Mapping[str, str]] = {
    subject: {mutant: reason for reason, those in groups for mutant in those}
    for subject, groups in ((MODEL, _OF_THE_MODEL), (KERNELS, _OF_THE_KERNELS))
}
