"""Every definition that is broken on purpose: the function is named for the fault, its docstring says it.

A claim that cannot fail says nothing. So each claim has a *control*: the same claim with one thing
broken, which must be refuted. The proofs, the replay of counterexamples and the tests all take them from
``model.faults.FAULTS``. A fault is lifted as the whole definition is, so it keeps to the same discipline
(``model.domain``). Faults of the check-in protocol are steps: ``model.faults.check_in``.
"""

from model import flush, nodes, resize, shares, strays, walk, words, worker
from model.domain import select
from model.faults.registry import fault
from model.flush import Page
from model.nodes import first_word_from, node_in_turn
from model.protocols import accesses, node_cursors, work_queue
from model.protocols.accesses import Access
from model.protocols.node_cursors import FLUSH, TAKE, Cursors, Taker
from model.protocols.node_cursors import step as taker_step
from model.protocols.work_queue import (
    LOOK_ON,
    QUEUE,
    READ_HEAD,
    READ_SLOT,
    SWAP,
    Copier,
    Queue,
    Searcher,
    copier_step,
    get,
    offer,
    put,
    searcher_step,
)
from model.ram import LARGEST_PAGE, PAGES_PER_WORD
from model.shares import STRETCH, cut_at_word
from model.walk import ONE, ZERO, Walk, copy_next, find, finished, search_host
from model.words import ALL_PAGES, LAST_BIT, pages_between, window_mask
from model.worker import (
    COPY,
    LOAD_CACHE,
    LOAD_HOST,
    STORE_CACHE,
    STORE_HOST,
    Memory,
    Worker,
    counts,
    worker_after,
)

TWO_WORDS = 2 * PAGES_PER_WORD - 1


@fault(shares.cut_at_word)
def shares_not_cut_at_words(pages: int) -> int:
    """chunk_size without `& ~63`: a share may end in the middle of a bitmap word."""
    return pages


@fault(shares.is_last)
def no_last_thread(threads: int, thread: int) -> bool:
    """The last thread does not take the pages that rounding left over."""
    return thread + ONE == ZERO


@fault(shares.cut_at_word)
def cut_at_two_words(pages: int) -> int:
    """A share is cut at a multiple of 128 pages, though a word has 64."""
    return pages & ~TWO_WORDS


@fault(shares.chunk)
def measured_in_bytes(pages: int, threads: int) -> int:
    """chunk_size is computed in bytes of 2 MiB pages: too many for 64 bits from 16 EiB on."""
    return cut_at_word(pages * LARGEST_PAGE // threads // LARGEST_PAGE)


@fault(shares.batch)
def batches_overlap(cursor: int, grain: int, words: int) -> tuple[int, int]:
    """A batch ends one word too late."""
    first = select(cursor < words, cursor, words)
    return first, select(cursor + grain < words, cursor + grain + ONE, words)


@fault(shares.batch)
def last_batch_dropped(cursor: int, grain: int, words: int) -> tuple[int, int]:
    """A batch that would pass the end of the bitmap comes out empty."""
    first = select(cursor < words, cursor, words)
    return first, select(cursor + grain < words, cursor + grain, first)


@fault(shares.end_of_stretch)
def a_stretch_ends_one_word_late(word: int, words: int) -> int:
    """The first word of the next stretch of the index belongs to this one too."""
    return select(word + STRETCH < words, word + STRETCH + ONE, words)


@fault(shares.clip)
def window_not_cut_at_the_block(first: int, used: int, lower: int, upper: int) -> tuple[int, int]:
    """A window ends where the share does, be it beyond the block."""
    return select(first <= lower, lower - first, ZERO), upper - first


@fault(shares.in_reach)
def blocks_below_are_in_reach(first: int, used: int, lower: int, upper: int) -> bool:
    """The block search does not look whether a block ends below the share."""
    return first < upper


@fault(shares.in_reach)
def one_page_is_out_of_reach(first: int, used: int, lower: int, upper: int) -> bool:
    """The block search misses a block of which one page lies in the share."""
    return (first + used > lower + ONE) & (first < upper)


@fault(walk.next_to_search)
def bulk_stage(bitmap: frozenset[int], start: int, limit: int) -> int:
    """In the bulk stage the search returns the page after the one asked for, unread."""
    unread = select(start < limit, start + ONE, limit)
    return select(start > ZERO, unread, find(bitmap, start, limit))


@fault(words.pages_below)
def no_mask_for_an_empty_count(count: int) -> int:
    """The mask of no pages is the mask of all."""
    return ALL_PAGES >> ((PAGES_PER_WORD - count) & LAST_BIT)


@fault(words.pages_below)
def shift_by_the_whole_word(count: int) -> int:
    """The mask of no pages is made by a shift by 64."""
    return select(count == ZERO, ZERO, ALL_PAGES >> (PAGES_PER_WORD - count))


@fault(words.window_mask)
def window_mask_ends_early(word: int, first_page: int, last_page: int) -> int:
    """Bit 63 is never in a window's mask unless the window ends there."""
    base = word * PAGES_PER_WORD
    start = select(first_page < base, base, first_page)
    stop = select(base + LAST_BIT < last_page, base + LAST_BIT, last_page)
    return select(start < stop, pages_between(start - base, stop - base), ZERO)


@fault(words.without_next)
def a_bit_stays(dirty: int) -> int:
    """without_next adds one instead of subtracting it."""
    return dirty & (dirty + ONE)


@fault(words.cleared)
def clears_too_much(bits: int, flushed: int) -> int:
    """The whole word is cleared, not only the pages flushed."""
    return bits & ~bits


@fault(words.either)
def copies_what_is_in_both(cache: int, host: int) -> int:
    """A page is copied only if it is dirty in both bitmaps."""
    return cache & host


@fault(words.bit_of)
def bit_63_is_lost(page: int) -> int:
    """A page's position in its word is taken modulo 62 bits."""
    return page & (LAST_BIT - ONE)


@fault(worker.following)
def clear_before_copy(step: int, to_copy: int) -> int:
    """The bits are cleared when they are found, before the pages are copied (the patch)."""
    copy_or_next = select(to_copy == ZERO, LOAD_CACHE, COPY)
    after_load = select(step == LOAD_CACHE, LOAD_HOST, STORE_CACHE)
    after_copy = select(step == STORE_CACHE, STORE_HOST, copy_or_next)
    return select(step < COPY, after_load, after_copy)


@fault(worker.counts)
def counted_beyond_the_window(cache: int, host: int, mask: int) -> tuple[int, int, int, int]:
    """A worker counts all dirty pages of a word, not only those of its window."""
    return counts(cache, host, mask | ALL_PAGES)


@fault(worker.worker_after)
def the_window_turns_round(memory: Memory, me: Worker) -> Worker:
    """With each step a worker takes the end of its window for the beginning."""
    after = worker_after(memory, me)
    return after._replace(first=after.last, last=after.first)


@fault(worker.worker_after)
def the_host_bitmap_for_both(memory: Memory, me: Worker) -> Worker:
    """A worker loads the word of the host bitmap in place of that of the cache bitmap."""
    return worker_after(memory._replace(cache=memory.host), me)


@fault(walk.search_host)
def search_does_not_move_on(walk: Walk, limit: int) -> Walk:
    """The host search clears no bit, so it finds the same page again."""
    return walk._replace(host_next=find(walk.host_dirty, walk.offset, limit))


@fault(walk.begin)
def counters_not_reset(
    start: int,
    cache_dirty: frozenset[int],
    host_dirty: frozenset[int],
    copied: frozenset[int],
    dirty_pages: int,
) -> Walk:
    """The counters of a walk begin at one, not at zero."""
    return Walk(start, start, start, cache_dirty, host_dirty, copied, dirty_pages, ONE, ONE)


@fault(walk.copy_next)
def pages_in_both_not_counted(walk: Walk, limit: int) -> Walk:
    """A page dirty in both bitmaps is not counted as such."""
    return copy_next(walk, limit)._replace(both_count=walk.both_count)


@fault(walk.copy_next)
def host_pages_counted_when_behind(walk: Walk, limit: int) -> Walk:
    """A host-dirty page is counted only if the host cursor is strictly behind."""
    if_behind = select(walk.host_next < walk.cache_next, ONE, ZERO)
    host_count = walk.host_count + select(finished(walk, limit), ZERO, if_behind)
    return copy_next(walk, limit)._replace(host_count=host_count)


@fault(walk.count_down)
def lost_decrement(dirty_pages: int, hit: bool) -> int:
    """The dirty count is not lowered when a cache bit is cleared."""
    return dirty_pages


@fault(flush.page_after)
def a_page_in_both_keeps_its_content(page: Page, cache: object) -> Page:
    """The spec itself is wrong: whatever is not dirty in both bitmaps is copied."""
    return Page(select(page.cache_dirty & page.host_dirty, page.host, cache), False, False)


@fault(walk.search_host)
def the_host_search_counts(walk: Walk, limit: int) -> Walk:
    """The host search lowers the dirty count, which is that of the cache bits."""
    after = search_host(walk, limit)
    found = after.host_next != walk.host_next
    return after._replace(dirty_pages=walk.dirty_pages - select(found, ONE, ZERO))


@fault(strays.in_gap)
def a_gap_begins_late(bit: int, end_below: int, first_above: int) -> bool:
    """The first bit above a block is not looked at."""
    return (end_below < bit) & (bit < first_above)


@fault(strays.in_gap)
def a_gap_ends_late(bit: int, end_below: int, first_above: int) -> bool:
    """A block's first page is taken for a stray bit."""
    return (end_below <= bit) & (bit <= first_above)


@fault(strays.stray_bits)
def only_cache_bits_are_strays(cache: int, host: int, word: int, first: int, last: int) -> int:
    """A stray bit in the host bitmap is not seen."""
    return cache & window_mask(word, first, last)


@fault(work_queue.close)
def closing_drops_what_is_queued(queue: Queue) -> Queue:
    """The end of the search moves HEAD to TAIL."""
    return queue._replace(closed=ONE, head=queue.tail)


@fault(work_queue.searcher_step)
def the_searcher_looks_on_too_late(
    queue: Queue, dirty: frozenset[int], end: int, me: Searcher
) -> tuple[Queue, Searcher]:
    """Having queued a word the searcher goes on one word too far."""
    after, moved = searcher_step(queue, dirty, end, me)
    skips = select(me.step == QUEUE, select(moved.looked < end, ONE, ZERO), ZERO)
    return after, moved._replace(looked=moved.looked + skips)


@fault(work_queue.searcher_step)
def the_searcher_skips_a_word(
    queue: Queue, dirty: frozenset[int], end: int, me: Searcher
) -> tuple[Queue, Searcher]:
    """The searcher queues the word it looks at, not the one it has found."""
    after, moved = searcher_step(queue, dirty, end, me)
    return after, moved._replace(word=select(moved.step == LOOK_ON, moved.looked, moved.word))


@fault(work_queue.offer)
def queueing_moves_no_tail(queue: Queue, word: int) -> Queue:
    """A word is written to its slot, but TAIL stays."""
    return queue._replace(slots=offer(queue, word).slots)


@fault(work_queue.leaves)
def copiers_never_leave(me: Copier) -> bool:
    """A copier goes on looking though the search is over and the queue empty."""
    return me.step != me.step


@fault(work_queue.copier_step)
def a_slot_is_read_before_it_is_written(queue: Queue, me: Copier) -> tuple[Queue, Copier]:
    """A copier reads the slot when it reads HEAD, before it knows of an entry there."""
    after, moved = copier_step(queue, me)
    _, early = copier_step(queue, me._replace(step=READ_SLOT, head=queue.head))
    return after, moved._replace(word=select(me.step == READ_HEAD, early.word, me.word))


@fault(work_queue.takes)
def an_entry_taken_without_comparing(queue: Queue, me: Copier) -> bool:
    """A copier advances HEAD by fetch-add and takes the word that it had read before."""
    return me.step == SWAP


@fault(accesses.conflict)
def no_access_is_atomic(one: Access, other: Access) -> bool:
    """Every access to shared memory is a plain one, atomic in no language."""
    return one.word == other.word and (one.writes or other.writes)


@fault(work_queue.leaves)
def a_copier_leaves_too_early(me: Copier) -> bool:
    """A copier leaves when the queue is empty, whether or not the search is over."""
    return me.step == me.step


@fault(work_queue.has_room)
def a_full_queue_is_overwritten(queue: Queue) -> bool:
    """The searcher queues a word whether or not there is room."""
    return queue.tail == queue.tail


@fault(resize.pages_shared_out)
def bounds_computed_once(at_start: int, now: int) -> int:
    """The shares are cut from the pages there were when the threads started."""
    return at_start


@fault(resize.cache_pages)
def cache_sized_by_used_length(used: int, most: int) -> int:
    """The cache is allocated as large as the block is then, not as it may become."""
    return used


@fault(resize.stays_marked)
def bits_beyond_a_shrunk_block_stay(page: int, used: int) -> bool:
    """Shrinking a block leaves the dirty bits of the pages that go."""
    return page < page + ONE


@fault(resize.outlives)
def bits_of_a_removed_block_stay(bit: int, first: int, most: int) -> bool:
    """Removing a block leaves its dirty bits."""
    return bit == bit


@fault(resize.outlives)
def a_removed_block_takes_whole_words(bit: int, first: int, most: int) -> bool:
    """Removing a block clears every bitmap word that it has a bit in."""
    return (bit < cut_at_word(first)) | (bit >= cut_at_word(first + most + LAST_BIT))


@fault(nodes.words_of_run)
def a_border_word_on_two_nodes(lower: int, upper: int) -> tuple[int, int]:
    """A word belongs to every node that one of its pages lies on."""
    return lower // PAGES_PER_WORD, first_word_from(upper)


@fault(node_cursors.step)
def a_thief_takes_by_load_and_store(
    cursors: Cursors, begins: Cursors, nodes: int, grain: int, me: Taker
) -> tuple[Cursors, Taker]:
    """A worker loads another node's cursor, and stores it, a batch further, in a later step."""
    node = node_in_turn(me.own, me.used_up, nodes)
    after, moved = taker_step(cursors, begins, nodes, grain, me)
    stores = select(me.step == FLUSH, me.first + grain, get(cursors, node))
    late = put(cursors, node, stores)
    return select(me.used_up == ZERO, after, late), moved


@fault(node_cursors.is_over)
def a_worker_stops_after_its_own_node(used_up: int, nodes: int) -> bool:
    """A worker helps no other node."""
    return used_up == ONE


@fault(node_cursors.step)
def a_worker_asks_the_same_node_again(
    cursors: Cursors, begins: Cursors, nodes: int, grain: int, me: Taker
) -> tuple[Cursors, Taker]:
    """A worker that finds a node used up does not go on to the next."""
    after, moved = taker_step(cursors, begins, nodes, grain, me)
    in_vain = (me.step == TAKE) & (moved.first >= moved.last)
    return after, moved._replace(
        step=select(in_vain, TAKE, moved.step),
        used_up=select(in_vain, me.used_up, moved.used_up),
    )
