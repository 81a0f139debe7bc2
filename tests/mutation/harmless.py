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
        "A sum and an equality are the same from both sides.",
        (
            "node_cursors.step: node_in_turn(me.own, me.used_up, nodes) -> "
            "node_in_turn(me.used_up, me.own, nodes)",
            "node_cursors.after_taking: is_over(found, nodes) -> is_over(nodes, found)",
        ),
    ),
    (
        "Flushes a batch of no pages, and goes on.",
        (
            "node_cursors.node_round: TAKE -> TAKE + 1",
            "node_cursors.after_taking: TAKE -> TAKE + 1",
        ),
    ),
    (
        "Pages of a word are copied from below: none above this one is copied before it.",
        (
            "node_cursors._not_copied_yet: at.copied[me.me.word] >> page & 1 -> "
            "at.copied[me.me.word] >> page",
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
            "node_cursors.step: select(takes, first, ZERO) -> first",
            "node_cursors.step: ZERO -> ZERO + 1 (2)",
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
            "strays.stray_bits: either(cache, host) -> either(host, cache)",
        ),
    ),
    # Of what is explored only.
    (
        "A name, or a text, for people.",
        (
            "check_in.check_in_protocol: kind_of(plan) -> plan",
            "check_in.check_in_protocol: len(plan) -> plan (2)",
            "check_in.kind_of: 'static' if asked.awaited else 'dynamic' -> 'dynamic'",
            "check_in.kind_of: 'static' if asked.awaited else 'dynamic' -> 'static'",
            "check_in.kind_of: 1 -> 1 + 1",
            "check_in.kind_of: 1 -> 1 - 1",
            "check_in.kind_of: any((asked.alone for asked in plan)) -> (asked.alone for asked in "
            "plan)",
            "check_in.kind_of: kinds.pop() if len(kinds) == 1 and (not any((asked.alone for asked in "
            "plan))) else 'mixed' -> 'mixed'",
            "check_in.kind_of: kinds.pop() if len(kinds) == 1 and (not any((asked.alone for asked in "
            "plan))) else 'mixed' -> kinds.pop()",
            "check_in.kind_of: len(kinds) -> kinds",
            "check_in.kind_of: len(kinds) == 1 -> len(kinds) != 1",
            "check_in.kind_of: len(kinds) == 1 and (not any((asked.alone for asked in plan))) -> "
            "len(kinds) == 1",
            "check_in.kind_of: len(kinds) == 1 and (not any((asked.alone for asked in plan))) -> "
            "len(kinds) == 1 or not any((asked.alone for asked in plan))",
            "check_in.kind_of: len(kinds) == 1 and (not any((asked.alone for asked in plan))) -> not "
            "any((asked.alone for asked in plan))",
            "check_in.kind_of: not any((asked.alone for asked in plan)) -> any((asked.alone for "
            "asked in plan))",
            "flush_workers._flush: 1 -> 1 + 1",
            "flush_workers._flush: len(cache) -> cache",
            "flush_workers._flush: len(workers) -> workers",
            "flush_workers._flush_steps: text.capitalize() + '.' -> '.'",
            "flush_workers._flush_steps: text.capitalize() + '.' -> text.capitalize()",
            "node_cursors._steps: FINISHED -> FINISHED - 1 (2)",
            "node_cursors._steps: TAKE -> TAKE + 1 (2)",
            "node_cursors.node_round: 1 -> 1 + 1",
            "node_cursors.node_round: len(cache) -> cache",
            "node_cursors.node_round: len(workers) -> workers",
            "patch_events._access: use.event -> use.pc (2)",
            "patch_events.waiting: use.event -> use.pc",
        ),
    ),
    (
        "Of states that are one to every step it keeps more apart, or names them otherwise.",
        (
            "check_in.forget_stale_numbers: 0 -> 0 + 1",
            "check_in.forget_stale_numbers: 0 -> 0 + 1 (2)",
            "check_in.forget_stale_numbers: me._replace(asleep_at=me.asleep_at if me.asleep_at == "
            "at.wakeups else 0) -> asleep_at stays",
            "check_in.forget_stale_numbers: me._replace(job=me.job if me.job == at.job or me.pc in "
            "CALLER else 0) -> job stays",
            "check_in.forget_stale_numbers: me._replace(seen_doorbell=me.seen_doorbell if "
            "me.seen_doorbell == at.doorbell else 0) -> seen_doorbell stays",
            "check_in.forget_stale_numbers: me.asleep_at if me.asleep_at == at.wakeups else 0 -> "
            "me.asleep_at",
            "check_in.forget_stale_numbers: me.job == at.job or me.pc in CALLER -> me.job == at.job",
            "check_in.forget_stale_numbers: me.job if me.job == at.job or me.pc in CALLER else 0 -> "
            "me.job",
            "check_in.forget_stale_numbers: me.pc -> me.job",
            "check_in.forget_stale_numbers: me.pc in CALLER -> me.pc not in CALLER",
            "check_in.forget_stale_numbers: me.seen_doorbell if me.seen_doorbell == at.doorbell else "
            "0 -> me.seen_doorbell",
            "check_in.forget_unread: 0 if at.awaited else min(at.completed, at.took_part) -> 0",
            "check_in.forget_unread: 2 + max((asked.awaited for asked in at.plan)) -> 2",
            "check_in.forget_unread: 2 -> 2 + 1",
            "check_in.forget_unread: 2 -> 2 - 1",
            "check_in.forget_unread: at._replace(times=min(at.times, too_often)) -> times stays",
            "check_in.forget_unread: at.completed -> at.wakeups",
            "check_in.forget_unread: min(at.completed, at.took_part) -> min(at.took_part, "
            "at.completed)",
            "check_in.forget_unread: min(at.cursor, most) -> min(most, at.cursor)",
            "check_in.forget_unread: min(at.times, too_often) -> min(too_often, at.times)",
        ),
    ),
    (
        "Whatever may be asked of a round, it is right: the explored plans have rounds of every "
        "kind.",
        (
            "check_in.asked: ONE -> ONE + 1",
            "check_in.asked: job - ONE -> ONE",
            "check_in.check_in_protocol: tuple(plan) -> plan",
            "check_in.check_in_protocol: tuple(plan) or (alike,) * rounds -> (alike,) * rounds",
        ),
    ),
    (
        "Of a round that awaits all, batch 0 is watched, and all rounds of a pool are alike.",
        (
            "check_in.every_share_is_flushed: (awaited == ZERO) | (at.watched != ZERO) -> (awaited "
            "== ZERO) ^ (at.watched != ZERO)",
            "check_in.every_share_is_flushed: (awaited == ZERO) | (at.watched != ZERO) -> awaited == "
            "ZERO",
            "check_in.every_share_is_flushed: (awaited == ZERO) | (at.watched != ZERO) | (at.times "
            "== awaited) -> ((awaited == ZERO) | (at.watched != ZERO)) ^ (at.times == awaited)",
            "check_in.every_share_is_flushed: me.job -> me.batch",
        ),
    ),
    (
        "A helper that has stopped hides none that sleeps for ever: the others are explored "
        "without it.",
        (
            "check_in.all_have_ended: all((h.pc in (STOPPED, ENDED) for h in helpers)) -> (h.pc in "
            "(STOPPED, ENDED) for h in helpers)",
            "check_in.all_have_ended: any((h.pc == STOPPED for h in helpers)) and all((h.pc in "
            "(STOPPED, ENDED) for h in helpers)) -> any((h.pc == STOPPED for h in helpers))",
        ),
    ),
    (
        "The first round, or the child's, writes it before it is read; DOORBELL begins anywhere.",
        (
            "check_in.check_in_protocol: 0 -> 0 + 1 (10)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (11)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (12)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (13)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (15)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (4)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (5)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (6)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (7)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (8)",
            "check_in.check_in_protocol: 0 -> 0 + 1 (9)",
            "check_in.check_in_protocol: 1 -> 1 + 1",
            "check_in.check_in_protocol: 1 -> 1 + 1 (2)",
            "check_in.check_in_protocol: 1 -> 1 + 1 (3)",
            "check_in.check_in_protocol: 1 -> 1 + 1 (4)",
            "check_in.check_in_protocol: 1 -> 1 - 1",
            "check_in.check_in_protocol: 1 -> 1 - 1 (2)",
            "check_in.check_in_protocol: ControlBlock(alone=0, watched=watched) -> alone=watched, "
            "watched=0",
            "check_in.check_in_protocol: ControlBlock(completed=0, wakeups=1) -> completed=1, "
            "wakeups=0",
            "check_in.check_in_protocol: ControlBlock(doorbell=1, cursor=0) -> doorbell=0, cursor=1",
            "check_in.check_in_protocol: ControlBlock(state=0, doorbell=1) -> state=1, doorbell=0",
            "check_in.check_in_protocol: ControlBlock(wakeups=1, caller_asleep=0) -> wakeups=0, "
            "caller_asleep=1",
            "check_in.check_in_protocol: ControlBlock(watched=watched, live=0) -> watched=0, "
            "live=watched",
            "check_in.check_in_protocol: READ_DOORBELL -> READ_DOORBELL + 1",
            "check_in.forked_child: 0 -> 0 + 1 (2)",
            "check_in.forked_child: 0 -> 0 + 1 (4)",
            "check_in.forked_child: 0 -> 0 + 1 (5)",
            "check_in.forked_child: 0 -> 0 + 1 (6)",
            "check_in.forked_child: 0 -> 0 + 1 (7)",
            "check_in.forked_child: 1 -> 1 + 1",
            "check_in.forked_child: 1 -> 1 + 1 (2)",
            "check_in.forked_child: 1 -> 1 - 1",
            "check_in.forked_child: 1 -> 1 - 1 (2)",
            "check_in.forked_child: WRITE_JOB -> WRITE_JOB - 1",
            "check_in.forked_child: parent._replace(awaited=0) -> awaited stays",
            "check_in.forked_child: parent._replace(caller_asleep=0) -> caller_asleep stays",
            "check_in.forked_child: parent._replace(caller_asleep=0, rounds=1) -> caller_asleep=1, "
            "rounds=0",
            "check_in.forked_child: parent._replace(live=0) -> live stays",
            "check_in.forked_child: parent._replace(rounds=1) -> rounds stays",
            "check_in.forked_child: parent._replace(times=0) -> times stays",
            "check_in.forked_child: parent._replace(took_part=0) -> took_part stays",
        ),
    ),
    (
        "Which of two that are treated alike comes first.",
        (
            "flush_workers._added_up: zip(at.counted, counts, strict=True) -> zip(counts, "
            "at.counted, strict=True)",
            "flush_workers._flush: either(c, h) -> either(h, c)",
            "flush_workers._flush: zip(cache, host, strict=True) -> zip(host, cache, strict=True)",
            "flush_workers.dynamic_flush: _flush(cache, host, [Process('take word')] * workers, "
            "cursor=0, symmetric_from=1, fault=fault) -> _flush(host, cache, [Process('take word')] "
            "* workers, cursor=0, symmetric_from=1, fault=fault)",
            "flush_workers.static_flush: _flush(cache, host, workers, cursor=len(cache), "
            "symmetric_from=len(workers) + 1, fault=fault) -> _flush(host, cache, workers, "
            "cursor=len(cache), symmetric_from=len(workers) + 1, fault=fault)",
            "node_cursors.node_round: Shared(cache, host, copied=(0,) * len(cache), "
            "cursors=index.begins[:nodes], working=len(workers)) -> Shared(host, cache, "
            "copied=(0,) * len(cache), cursors=index.begins[:nodes], working=len(workers))",
            "node_cursors.node_round: map(either, cache, host) -> map(either, host, cache)",
            "node_cursors.node_round: map(min, at.cursors, index.begins[1:]) -> map(min, "
            "index.begins[1:], at.cursors)",
            "marking._stored: either(word, window_mask(index, page, page + 1)) -> "
            "either(window_mask(index, page, page + 1), word)",
        ),
    ),
    (
        "A tuple already; or all have ended where nobody can move.",
        (
            "flush_workers._flush: all((process.pc == ENDED for process in processes)) -> "
            "(process.pc == ENDED for process in processes)",
            "flush_workers._flush: tuple(cache) -> cache",
            "flush_workers._flush: tuple(host) -> host",
            "marking.marking: all((process.pc == ENDED for process in processes)) -> (process.pc == "
            "ENDED for process in processes)",
            "node_cursors.node_round: all((process.pc == ENDED for process in processes)) -> "
            "(process.pc == ENDED for process in processes)",
            "work_queue_round.queue_round: all((process.pc == ENDED for process in processes)) -> "
            "(process.pc == ENDED for process in processes)",
        ),
    ),
    (
        "Nobody reads it: no window is left, or the steps go by the worker's own.",
        (
            "flush_workers._sent_to: 0 -> 0 + 1 (2)",
            "flush_workers._sent_to: 0 -> 0 + 1 (3)",
            "flush_workers._sent_to: 0 -> 0 + 1 (4)",
            "flush_workers._sent_to: LOAD_CACHE -> LOAD_CACHE + 1",
            "node_cursors._sent_to: LOAD_CACHE -> LOAD_CACHE + 1",
            "node_cursors.node_round: 0 -> 0 + 1 (3)",
            "node_cursors.node_round: 0 -> 0 + 1 (4)",
            "flush_workers.static_flush: 0 -> 0 + 1",
            "flush_workers.static_flush: 0 -> 0 + 1 (2)",
            "flush_workers.static_flush: 0 -> 0 + 1 (3)",
        ),
    ),
    (
        "Processes that differ are told apart by what they are; the fewer are taken for alike "
        "the more states.",
        (
            "flush_workers.dynamic_flush: 1 -> 1 + 1",
            "flush_workers.dynamic_flush: 1 -> 1 - 1",
            "flush_workers.static_flush: 1 -> 1 + 1",
            "flush_workers.static_flush: 1 -> 1 - 1",
            "flush_workers.static_flush: len(workers) + 1 -> 1",
            "flush_workers.static_flush: len(workers) + 1 -> len(workers)",
            "flush_workers.static_flush: len(workers) + 1 -> len(workers) - 1",
            "marking.marking: 1 -> 1 + 1 (2)",
            "marking.marking: 1 -> 1 - 1 (2)",
            "marking.marking: markers + 1 -> 1 (2)",
            "marking.marking: markers + 1 -> markers (2)",
            "marking.marking: markers + 1 -> markers - 1 (2)",
            "node_cursors.node_round: len(workers) + 1 -> 1 (2)",
            "node_cursors.node_round: len(workers) + 1 -> len(workers) (2)",
            "node_cursors.node_round: len(workers) + 1 -> len(workers) - 1 (2)",
            "node_cursors.node_round: 1 -> 1 + 1 (2)",
            "node_cursors.node_round: 1 -> 1 - 1 (2)",
            "patch_events.patch_protocol: 1 -> 1 + 1 (2)",
            "patch_events.patch_protocol: 1 -> 1 - 1 (2)",
            "patch_events.patch_protocol: made + 1 -> 1 (2)",
            "patch_events.patch_protocol: made + 1 -> made (2)",
            "patch_events.patch_protocol: made + 1 -> made - 1 (2)",
            "work_queue_round.queue_round: 1 -> 1 + 1 (2)",
            "work_queue_round.queue_round: 1 -> 1 + 1 (3)",
            "work_queue_round.queue_round: 1 -> 1 - 1 (3)",
        ),
    ),
    (
        "The cursor is past the end either way.",
        (
            "flush_workers.static_flush: _flush(cursor=len(cache), symmetric_from=len(workers) + 1) "
            "-> cursor=len(workers) + 1, symmetric_from=len(cache)",
        ),
    ),
    (
        "The fault, and it fails this way, too.",
        (
            "flush_workers.load_count: at.dirty_pages -> at.cursor",
            "flush_workers.load_count: worker.left_dirty(at.dirty_pages, process.me.cache_dirty) -> "
            "worker.left_dirty(process.me.cache_dirty, at.dirty_pages)",
            "flush_workers.store_count: at._replace(dirty_pages=process.clean) -> dirty_pages stays",
            "marking.load_word: me._replace(word=at.words[word_of(me.pages[0])]) -> word stays",
            "marking.load_word: word_of(me.pages[0]) -> me.pages[0]",
            "marking.store_word: _stored(at, page, me.word) -> _stored(at, me.word, page)",
            "patch_events.patch_protocol: 'flush' if made else 'release' -> 'flush'",
        ),
    ),
    (
        "A window that reaches beyond its word is flushed in its word; both bitmaps are as long.",
        (
            "flush_workers.take_word: 1 -> 1 + 1 (2)",
            "flush_workers.take_word: PAGES_PER_WORD -> PAGES_PER_WORD + 1 (2)",
            "flush_workers.take_word: PAGES_PER_WORD -> PAGES_PER_WORD - 1",
            "node_cursors._sent_to: PAGES_PER_WORD -> PAGES_PER_WORD + 1 (2)",
            "flush_workers.take_word: at.cache -> at.host",
            "flush_workers.take_word: word * PAGES_PER_WORD -> word",
            "flush_workers.take_word: word * PAGES_PER_WORD -> word // PAGES_PER_WORD",
        ),
    ),
    (
        "Other pages to mark; or both sides count pages that way.",
        (
            "marking._pages: PAGES_PER_WORD -> PAGES_PER_WORD + 1",
            "marking._pages: PAGES_PER_WORD -> PAGES_PER_WORD - 1",
            "marking.marking: 0 -> 0 + 1",
            "marking.marking: 1 -> 1 + 1",
            "marking.marking: 2 -> 2 - 1",
            "marking.marking: PAGES_PER_WORD -> PAGES_PER_WORD + 1",
            "marking.marking: PAGES_PER_WORD -> PAGES_PER_WORD - 1",
            "marking.marking: page % 2 * PAGES_PER_WORD + page * markers + marker -> marker",
            "marking.marking: page % 2 * PAGES_PER_WORD + page * markers -> page % 2 * "
            "PAGES_PER_WORD",
            "marking.marking: page % 2 * PAGES_PER_WORD + page * markers -> page * markers",
            "marking.marking: page % 2 * PAGES_PER_WORD -> PAGES_PER_WORD",
            "marking.marking: page % 2 * PAGES_PER_WORD -> page % 2",
            "marking.marking: page % 2 * PAGES_PER_WORD -> page % 2 // PAGES_PER_WORD",
            "marking.marking: page % 2 -> page // 2",
            "marking.marking: page * markers -> markers",
            "marking.marking: page * markers -> page",
            "marking.marking: page * markers -> page // markers",
        ),
    ),
    (
        "Wakes nobody, or looks at the event once more.",
        (
            "patch_events.compare_and_swap: if event.value == FREE -> always if event.value == FREE",
            "patch_events.compare_and_swap: if event.value == SET -> never if event.value == SET",
            "patch_events.exchange: me._replace(pc=use.on('wake')) if event.value == BUSY else "
            "use.done(at, me) -> me._replace(pc=use.on('wake'))",
            "patch_events.load_to_reset: if use.get(at, me).value == SET -> always if use.get(at, "
            "me).value == SET",
            "patch_events.load_to_set: if use.get(at, me).value == SET -> never if use.get(at, "
            "me).value == SET",
            "patch_events.load_to_wait: 'compare-and-swap' if value == FREE else 'futex' -> "
            "'compare-and-swap'",
            "patch_events.wake_up: use.get(at, me)._replace(asleep=False) -> asleep stays",
        ),
    ),
    (
        "It is SET there.",
        (
            "patch_events.fetch_or: event.value | FREE -> FREE",
            "patch_events.fetch_or: event.value | FREE -> event.value ^ FREE",
        ),
    ),
    (
        "True is 1, and any other number than 0; rounds may be numbered otherwise.",
        (
            "patch_events.all_rounds_are_flushed: at.triggers -> at.completes",
            "patch_events.end: 1 -> 1 + 1",
            "patch_events.flush: 1 -> 1 + 1",
            "patch_events.has_ended: bool(at.ended[me.thread]) -> at.ended[me.thread]",
            "patch_events.patch_protocol: 0 -> 0 + 1 (2)",
            "patch_events.patch_protocol: 1 -> 1 + 1",
        ),
    ),
    (
        "It takes up its copying a step earlier or later, and reads what it goes by before it "
        "does.",
        (
            "work_queue_round._steps: FINISHED -> FINISHED + 1 (2)",
            "work_queue_round._steps: QUEUE -> QUEUE + 1 (2)",
            "work_queue_round._steps: QUEUE -> QUEUE - 1 (2)",
            "work_queue_round._steps: READ_CLOSED -> READ_CLOSED + 1",
            "work_queue_round._steps: READ_CLOSED -> READ_CLOSED + 1 (2)",
            "work_queue_round._steps: READ_HEAD -> READ_HEAD + 1",
            "work_queue_round._steps: READ_HEAD -> READ_HEAD + 1 (2)",
            "work_queue_round._steps: READ_HEAD -> READ_HEAD - 1",
            "work_queue_round._steps: READ_HEAD -> READ_HEAD - 1 (2)",
            "work_queue_round._steps: TypeError('a copier cannot search') -> 'a copier cannot "
            "search'",
            "work_queue_round._steps: WAIT if me.searcher else ENDED -> WAIT",
            "work_queue_round._steps: if me.searcher is None -> never if me.searcher is None",
            "work_queue_round._steps: me._replace(copier=me.copier._replace(step=READ_HEAD)) -> "
            "copier stays",
            "work_queue_round._steps: me.copier._replace(step=READ_HEAD) -> step stays",
            "work_queue_round._steps: me.searcher -> me.copier",
            "work_queue_round._steps: me.searcher -> me.copier (4)",
            "work_queue_round._steps: moved.step == QUEUE == me.searcher.step and after == at.queue "
            "-> moved.step == QUEUE == me.searcher.step",
            "work_queue_round.queue_round: 0 -> 0 + 1",
            "work_queue_round.queue_round: 0 -> 0 + 1 (2)",
            "work_queue_round.queue_round: 0 -> 0 + 1 (3)",
            "work_queue_round.queue_round: 0 -> 0 + 1 (4)",
            "work_queue_round.queue_round: 0 -> 0 + 1 (8)",
            "work_queue_round.queue_round: 0 -> 0 + 1 (9)",
            "work_queue_round.queue_round: Copier(READ_CLOSED, 0, 0, 0) -> Copier(0, READ_CLOSED, 0, "
            "0)",
            "work_queue_round.queue_round: LOOK_FIRST -> LOOK_FIRST + 1",
            "work_queue_round.queue_round: READ_CLOSED -> READ_CLOSED + 1",
            "work_queue_round.queue_round: READ_CLOSED -> READ_CLOSED + 1 (2)",
            "work_queue_round.queue_round: Searcher(LOOK_FIRST, 0, 0) -> Searcher(0, LOOK_FIRST, 0)",
            "work_queue_round.queue_round: sorted(dirty) -> dirty",
        ),
    ),
    (
        "A word that is flushed is taken off those that are dirty: the one says the other.",
        (
            "work_queue_round.queue_round: at.flushed == everything and (not at.dirty) -> not "
            "at.dirty",
            "work_queue_round.queue_round: at.flushed == everything and (not at.dirty) -> at.flushed "
            "== everything or not at.dirty",
            "work_queue_round.queue_round: at.flushed == everything and (not at.dirty) -> at.flushed "
            "== everything",
        ),
    ),
    (
        "Another page of the word, and that has not been copied either; "
        "tests/model/test_domain.py has its value.",
        (
            "words.trailing_zeros: word & -word -> word | -word",
            "words.trailing_zeros: word & -word -> -word",
            "words.trailing_zeros: word & -word -> word",
            "words.trailing_zeros: -word -> word",
        ),
    ),
)

_OF_THE_KERNELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "The caller looks at the lines of helpers who took no part in its round: time lost.",
        ("check_in.flush_once: took_part = _1 -> nothing",),
    ),
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
            "flush.next_dirty_word: dirty_in_stride(cache_bitmap, host_bitmap, word) -> "
            "dirty_in_stride(host_bitmap, cache_bitmap, word)",
            "flush.count_either: next_dirty_word(cache_bitmap, host_bitmap, _0, n_words) -> "
            "next_dirty_word(host_bitmap, cache_bitmap, _0, n_words)",
            "flush.count_either: next_dirty_word(cache_bitmap, host_bitmap, last, n_words) -> "
            "next_dirty_word(host_bitmap, cache_bitmap, last, n_words)",
            "flush.count_either: count_words(cache_bitmap, host_bitmap, word, last) -> "
            "count_words(host_bitmap, cache_bitmap, word, last)",
            "flush.index_stretch: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
            "word)) -> _either(word_at(host_bitmap, word), word_at(cache_bitmap, word))",
            "flush.count_words: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
            "word)) -> _either(word_at(host_bitmap, word), word_at(cache_bitmap, word))",
            "nodes.index_stretch_of_places: _either(word_at(cache_bitmap, word), word_at(host_bitmap, "
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
            "check_in.most_that_matters: max(load(control + c.ORDINARY_BELOW), load(control + "
            "c.FETCHING_BELOW)) -> max(load(control + c.FETCHING_BELOW), load(control + "
            "c.ORDINARY_BELOW))",
            "check_in.most_that_matters: max(most, load(control + c.SERIAL_BELOW)) -> "
            "max(load(control + c.SERIAL_BELOW), most)",
            "check_in.batch_size: max(dirty // (threads * _BATCHES_PER_THREAD), "
            "_SMALLEST_BATCH) -> max(_SMALLEST_BATCH, dirty // (threads * "
            "_BATCHES_PER_THREAD))",
        ),
    ),
    (
        "Where the two are equal, either is right.",
        ("flush.count_either: last > n_words -> last >= n_words",),
    ),
    (
        "Looks at one place more, and takes nothing there.",
        ("nodes.next_dirty_words: place < end -> place <= end",),
    ),
    (
        "A sum is the same from both sides.",
        (
            "strategies.work_off_nodes: _node_in_turn(own, used_up, nodes) -> _node_in_turn(used_up, "
            "own, nodes)",
        ),
    ),
    (
        "Begins at a word that may be clean, and finds nothing in it.",
        (
            "flush.flush_window: next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), "
            "end) -> next_dirty_word(cache_bitmap, host_bitmap, end, _word_of(first))",
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
            "check_in.dismiss: e.record(control, _CALLER, e.QUIT, atomic_or(control + "
            "c.STATE, c.QUIT), _0) -> e.record(control, _CALLER, e.QUIT, _0, "
            "atomic_or(control + c.STATE, c.QUIT))",
        ),
    ),
    (
        "Where nothing is dirty nothing is found.",
        (
            "check_in.flush_alone: if first < last -> always if first < last",
            "check_in.flush_alone: first < last -> first <= last",
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
        "To wake more than there are wakes all of them; an index is made for no number of threads.",
        (
            "check_in.flush_once: index_dirty(control, job, strategy, helpers, threads) -> "
            "index_dirty(control, job, strategy, threads, helpers)",
        ),
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
