"""Every way this project breaks a definition on purpose, in one place.

A claim that cannot fail says nothing. So each claim has a *control*: the same claim with one thing
broken, which must be refuted. The broken things that are code are here, by name; the proofs, the
replay of counterexamples and the tests all take them from this table.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from model.domain import select
from model.faults.check_in import BROKEN, BROKEN_IN_A_CHILD, BROKEN_IN_A_STATIC_ROUND, BrokenSteps
from model.flush import Page
from model.protocols import check_in
from model.protocols.accesses import Access
from model.protocols.work_queue import (
    LOOK_ON,
    QUEUE,
    READ_HEAD,
    READ_SLOT,
    SWAP,
    copier_step,
    offer,
    searcher_step,
)
from model.ram import LARGEST_PAGE, PAGES_PER_WORD
from model.shares import cut_at_word
from model.walk import ONE, ZERO, Walk, copy_next, find, finished, search_host
from model.words import ALL_PAGES, LAST_BIT, pages_between
from model.worker import COPY, LOAD_CACHE, LOAD_HOST, STORE_CACHE, STORE_HOST, counts, worker_after

TWO_WORDS = 2 * PAGES_PER_WORD - 1


@dataclass(frozen=True)
class Fault:
    """One function of ``model/`` replaced by a wrong one. ``what`` says it in a sentence."""

    name: str
    what: str
    module: str
    function: str
    replacement: Callable[..., Any]


def _uncut(pages: Any) -> Any:
    return pages


def _never_last(threads: Any, thread: Any) -> Any:
    return thread + ONE == ZERO


def _bulk_stage(bitmap: Any, start: Any, limit: Any) -> Any:
    unread = select(start < limit, start + ONE, limit)
    return select(start > ZERO, unread, find(bitmap, start, limit))


def _cut_at_two_words(pages: Any) -> Any:
    return pages & ~TWO_WORDS


def _in_bytes(pages: Any, threads: Any) -> Any:
    return cut_at_word(pages * LARGEST_PAGE // threads // LARGEST_PAGE)


def _overlapping(cursor: Any, grain: Any, words: Any) -> tuple[Any, Any]:
    first = select(cursor < words, cursor, words)
    return first, select(cursor + grain < words, cursor + grain + ONE, words)


def _dropped(cursor: Any, grain: Any, words: Any) -> tuple[Any, Any]:
    first = select(cursor < words, cursor, words)
    return first, select(cursor + grain < words, cursor + grain, first)


def _not_cut_at_end(first: Any, used: Any, lower: Any, upper: Any) -> tuple[Any, Any]:
    return select(first <= lower, lower - first, ZERO), upper - first


def _reach_from_above_only(first: Any, used: Any, lower: Any, upper: Any) -> Any:
    return first < upper


def _reach_misses_one(first: Any, used: Any, lower: Any, upper: Any) -> Any:
    return (first + used > lower + ONE) & (first < upper)


def _always_a_mask(count: Any) -> Any:
    return ALL_PAGES >> ((PAGES_PER_WORD - count) & LAST_BIT)


def _whole_shift(count: Any) -> Any:
    return select(count == ZERO, ZERO, ALL_PAGES >> (PAGES_PER_WORD - count))


def _ends_early(word: Any, first_page: Any, last_page: Any) -> Any:
    base = word * PAGES_PER_WORD
    start = select(first_page < base, base, first_page)
    stop = select(base + LAST_BIT < last_page, base + LAST_BIT, last_page)
    return select(start < stop, pages_between(start - base, stop - base), ZERO)


def _a_bit_stays(dirty: Any) -> Any:
    return dirty & (dirty + ONE)


def _cleared_whole(bits: Any, flushed: Any) -> Any:
    return bits & ~bits


def _in_both(cache: Any, host: Any) -> Any:
    return cache & host


def _without_63(page: Any) -> Any:
    return page & (LAST_BIT - ONE)


def _clear_first(step: Any, to_copy: Any) -> Any:
    copy_or_next = select(to_copy == ZERO, LOAD_CACHE, COPY)
    after_load = select(step == LOAD_CACHE, LOAD_HOST, STORE_CACHE)
    after_copy = select(step == STORE_CACHE, STORE_HOST, copy_or_next)
    return select(step < COPY, after_load, after_copy)


def _counted_whole(cache: Any, host: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    return counts(cache, host, mask | ALL_PAGES)


def _window_reversed(memory: Any, me: Any) -> Any:
    after = worker_after(memory, me)
    return after._replace(first=after.last, last=after.first)


def _host_for_both(memory: Any, me: Any) -> Any:
    return worker_after(memory._replace(cache=memory.host), me)


def _search_stays(walk: Any, limit: Any) -> Any:
    return walk._replace(host_next=find(walk.host_dirty, walk.offset, limit))


def _counters_not_reset(
    start: Any, cache_dirty: Any, host_dirty: Any, copied: Any, dirty_pages: Any
) -> Any:
    return Walk(start, start, start, cache_dirty, host_dirty, copied, dirty_pages, ONE, ONE)


def _both_uncounted(walk: Any, limit: Any) -> Any:
    return copy_next(walk, limit)._replace(both_count=walk.both_count)


def _host_counted_if_behind(walk: Any, limit: Any) -> Any:
    if_behind = select(walk.host_next < walk.cache_next, ONE, ZERO)
    host_count = walk.host_count + select(finished(walk, limit), ZERO, if_behind)
    return copy_next(walk, limit)._replace(host_count=host_count)


def _both_kept(page: Any, cache: Any) -> Any:
    return Page(select(page.cache_dirty & page.host_dirty, page.host, cache), False, False)


def _host_counts_too(walk: Any, limit: Any) -> Any:
    after = search_host(walk, limit)
    found = after.host_next != walk.host_next
    return after._replace(dirty_pages=walk.dirty_pages - select(found, ONE, ZERO))


def _close_drops(queue: Any) -> Any:
    return queue._replace(closed=ONE, head=queue.tail)


def _looks_on_late(queue: Any, dirty: Any, end: Any, me: Any) -> Any:
    """It looks on from the word after that, as if it had searched no further before it queued."""
    after, moved = searcher_step(queue, dirty, end, me)
    skips = select(me.step == QUEUE, select(moved.looked < end, ONE, ZERO), ZERO)
    return after, moved._replace(looked=moved.looked + skips)


def _skips_a_word(queue: Any, dirty: Any, end: Any, me: Any) -> Any:
    after, moved = searcher_step(queue, dirty, end, me)
    return after, moved._replace(word=select(moved.step == LOOK_ON, moved.looked, moved.word))


def _tail_stays(queue: Any, word: Any) -> Any:
    return queue._replace(slots=offer(queue, word).slots)


def _never_leaves(me: Any) -> Any:
    return me.step != me.step


def _reads_slot_early(queue: Any, me: Any) -> Any:
    after, moved = copier_step(queue, me)
    _, early = copier_step(queue, me._replace(step=READ_SLOT, head=queue.head))
    return after, moved._replace(word=select(me.step == READ_HEAD, early.word, me.word))


def _takes_blindly(queue: Any, me: Any) -> Any:
    return me.step == SWAP


def _conflict_though_atomic(one: Access, other: Access) -> bool:
    return one.word == other.word and (one.writes or other.writes)


def _leaves_when_empty(me: Any) -> Any:
    return me.step == me.step


def _always_room(queue: Any) -> Any:
    return queue.tail == queue.tail


def _as_at_start(at_start: Any, now: Any) -> Any:
    return at_start


def _as_used_at_first(used: Any, most: Any) -> Any:
    return used


def _always_marked(page: Any, used: Any) -> Any:
    return page < page + ONE


def _outlives_always(bit: Any, first: Any, most: Any) -> Any:
    return bit == bit


def _outlives_outside_its_words(bit: Any, first: Any, most: Any) -> Any:
    return (bit < cut_at_word(first)) | (bit >= cut_at_word(first + most + LAST_BIT))


def _stays(dirty_pages: Any, hit: Any) -> Any:
    return dirty_pages


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "shares not cut at words",
            "chunk_size without `& ~63`: a share may end in the middle of a bitmap word",
            "model.shares",
            "cut_at_word",
            _uncut,
        ),
        Fault(
            "no last thread",
            "the last thread does not take the pages that rounding left over",
            "model.shares",
            "is_last",
            _never_last,
        ),
        Fault(
            "cut at two words",
            "a share is cut at a multiple of 128 pages, though a word has 64",
            "model.shares",
            "cut_at_word",
            _cut_at_two_words,
        ),
        Fault(
            "measured in bytes",
            "chunk_size is computed in bytes of 2 MiB pages: too many for 64 bits from 16 EiB on",
            "model.shares",
            "chunk",
            _in_bytes,
        ),
        Fault(
            "batches overlap",
            "a batch ends one word too late",
            "model.shares",
            "batch",
            _overlapping,
        ),
        Fault(
            "last batch dropped",
            "a batch that would pass the end of the bitmap comes out empty",
            "model.shares",
            "batch",
            _dropped,
        ),
        Fault(
            "window not cut at the block",
            "a window ends where the share does, be it beyond the block",
            "model.shares",
            "clip",
            _not_cut_at_end,
        ),
        Fault(
            "blocks below are in reach",
            "the block search does not look whether a block ends below the share",
            "model.shares",
            "in_reach",
            _reach_from_above_only,
        ),
        Fault(
            "one page is out of reach",
            "the block search misses a block of which one page lies in the share",
            "model.shares",
            "in_reach",
            _reach_misses_one,
        ),
        Fault(
            "bulk stage",
            "in the bulk stage the search returns the page after the one asked for, unread",
            "model.walk",
            "next_to_search",
            _bulk_stage,
        ),
        Fault(
            "no mask for an empty count",
            "the mask of no pages is the mask of all",
            "model.words",
            "pages_below",
            _always_a_mask,
        ),
        Fault(
            "shift by the whole word",
            "the mask of no pages is made by a shift by 64",
            "model.words",
            "pages_below",
            _whole_shift,
        ),
        Fault(
            "window mask ends early",
            "bit 63 is never in a window's mask unless the window ends there",
            "model.words",
            "window_mask",
            _ends_early,
        ),
        Fault(
            "a bit stays",
            "without_next adds one instead of subtracting it",
            "model.words",
            "without_next",
            _a_bit_stays,
        ),
        Fault(
            "clears too much",
            "the whole word is cleared, not only the pages flushed",
            "model.words",
            "cleared",
            _cleared_whole,
        ),
        Fault(
            "copies what is in both",
            "a page is copied only if it is dirty in both bitmaps",
            "model.words",
            "either",
            _in_both,
        ),
        Fault(
            "bit 63 is lost",
            "a page's position in its word is taken modulo 62 bits",
            "model.words",
            "bit_of",
            _without_63,
        ),
        Fault(
            "clear before copy",
            "the bits are cleared when they are found, before the pages are copied (the patch)",
            "model.worker",
            "following",
            _clear_first,
        ),
        Fault(
            "counted beyond the window",
            "a worker counts all dirty pages of a word, not only those of its window",
            "model.worker",
            "counts",
            _counted_whole,
        ),
        Fault(
            "the window turns round",
            "with each step a worker takes the end of its window for the beginning",
            "model.worker",
            "worker_after",
            _window_reversed,
        ),
        Fault(
            "the host bitmap for both",
            "a worker loads the word of the host bitmap in place of that of the cache bitmap",
            "model.worker",
            "worker_after",
            _host_for_both,
        ),
        Fault(
            "search does not move on",
            "the host search clears no bit, so it finds the same page again",
            "model.walk",
            "search_host",
            _search_stays,
        ),
        Fault(
            "counters not reset",
            "the counters of a walk begin at one, not at zero",
            "model.walk",
            "begin",
            _counters_not_reset,
        ),
        Fault(
            "pages in both not counted",
            "a page dirty in both bitmaps is not counted as such",
            "model.walk",
            "copy_next",
            _both_uncounted,
        ),
        Fault(
            "host pages counted when behind",
            "a host-dirty page is counted only if the host cursor is strictly behind",
            "model.walk",
            "copy_next",
            _host_counted_if_behind,
        ),
        Fault(
            "lost decrement",
            "the dirty count is not lowered when a cache bit is cleared",
            "model.walk",
            "count_down",
            _stays,
        ),
        Fault(
            "a page in both keeps its content",
            "the spec itself is wrong: whatever is not dirty in both bitmaps is copied",
            "model.flush",
            "page_after",
            _both_kept,
        ),
        Fault(
            "the host search counts",
            "the host search lowers the dirty count, which is that of the cache bits",
            "model.walk",
            "search_host",
            _host_counts_too,
        ),
        Fault(
            "closing drops what is queued",
            "the end of the search moves HEAD to TAIL",
            "model.protocols.work_queue",
            "close",
            _close_drops,
        ),
        Fault(
            "the searcher looks on too late",
            "having queued a word the searcher goes on one word too far",
            "model.protocols.work_queue",
            "searcher_step",
            _looks_on_late,
        ),
        Fault(
            "the searcher skips a word",
            "the searcher queues the word it looks at, not the one it has found",
            "model.protocols.work_queue",
            "searcher_step",
            _skips_a_word,
        ),
        Fault(
            "queueing moves no TAIL",
            "a word is written to its slot, but TAIL stays",
            "model.protocols.work_queue",
            "offer",
            _tail_stays,
        ),
        Fault(
            "copiers never leave",
            "a copier goes on looking though the search is over and the queue empty",
            "model.protocols.work_queue",
            "leaves",
            _never_leaves,
        ),
        Fault(
            "a slot is read before it is written",
            "a copier reads the slot when it reads HEAD, before it knows of an entry there",
            "model.protocols.work_queue",
            "copier_step",
            _reads_slot_early,
        ),
        Fault(
            "an entry taken without comparing",
            "a copier advances HEAD by fetch-add and takes the word that it had read before",
            "model.protocols.work_queue",
            "takes",
            _takes_blindly,
        ),
        Fault(
            "no access is atomic",
            "every access to shared memory is a plain one, atomic in no language",
            "model.protocols.accesses",
            "conflict",
            _conflict_though_atomic,
        ),
        Fault(
            "a copier leaves too early",
            "a copier leaves when the queue is empty, whether or not the search is over",
            "model.protocols.work_queue",
            "leaves",
            _leaves_when_empty,
        ),
        Fault(
            "a full queue is overwritten",
            "the searcher queues a word whether or not there is room",
            "model.protocols.work_queue",
            "has_room",
            _always_room,
        ),
        Fault(
            "bounds computed once",
            "the shares are cut from the pages there were when the threads started",
            "model.resize",
            "pages_shared_out",
            _as_at_start,
        ),
        Fault(
            "cache sized by used length",
            "the cache is allocated as large as the block is then, not as it may become",
            "model.resize",
            "cache_pages",
            _as_used_at_first,
        ),
        Fault(
            "bits beyond a shrunk block stay",
            "shrinking a block leaves the dirty bits of the pages that go",
            "model.resize",
            "stays_marked",
            _always_marked,
        ),
        Fault(
            "bits of a removed block stay",
            "removing a block leaves its dirty bits",
            "model.resize",
            "outlives",
            _outlives_always,
        ),
        Fault(
            "a removed block takes whole words",
            "removing a block clears every bitmap word that it has a bit in",
            "model.resize",
            "outlives",
            _outlives_outside_its_words,
        ),
    )
}


def _with_steps(name: str, fault: BrokenSteps) -> Fault:
    def program() -> Any:
        return {**check_in.CALLER, **check_in.HELPER, **fault.steps}

    return Fault(name, fault.what, "model.protocols.check_in", "program", program)


FAULTS |= {
    name: _with_steps(name, fault)
    for name, fault in {**BROKEN, **BROKEN_IN_A_STATIC_ROUND, **BROKEN_IN_A_CHILD}.items()
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Within the block the model has the fault ``name`` (None: it is whole)."""
    if name is None:
        yield
        return
    fault = FAULTS[name]
    whole = getattr(importlib.import_module(fault.module), fault.function)
    holders = [
        vars(module)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith("model.")
        and module_name != __name__
        and vars(module).get(fault.function) is whole
    ]
    for holder in holders:
        holder[fault.function] = fault.replacement
    try:
        yield
    finally:
        for holder in holders:
            holder[fault.function] = whole
