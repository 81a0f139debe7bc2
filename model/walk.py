"""The patch's dual-bitmap walk, one iteration of its loop at a time.

Two cursors move over a block, one on the cache bitmap and one on the host bitmap; each finds its next
dirty page, clears it, and waits there until the copy has caught up. The walk copies the page of the
cursor that is behind, so a page dirty in both bitmaps is copied once.

The patch clears a bit when it *finds* it and copies the page later. (Ours clears after the copy; the
difference shows only to somebody who looks in between: ``proofs/restart.py``.)

:func:`step` is read in two domains (``model.domain``): Python, where a bitmap is a frozenset of the
pages that are set, and z3, where it is an array; the bitmap operations are the domain's primitives.
"""

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from model.domain import select
from model.flush import Flushed, Ram, check_count, check_no_stray
from model.ram import Layout, Region
from model.shares import windows

Natural: TypeAlias = int
Truth: TypeAlias = bool
Bitmap: TypeAlias = frozenset[int]

# What the record below is made of: numbers and bitmaps of whichever domain its functions are lifted to.
N = TypeVar("N")
B = TypeVar("B")

ZERO = 0
ONE = 1


class WalkOf(NamedTuple, Generic[N, B]):
    """Where a walk over one block stands. Pages are counted in the block.

    ``offset`` is the page copied last (at first: the start of the window); ``cache_next`` and
    ``host_next`` are the two cursors. Names in the patch: ``offset``, ``cache_off``, ``host_off``,
    ``migration_dirty_pages``, ``host_dirty``, ``both_dirty``.
    """

    offset: N
    cache_next: N
    host_next: N
    cache_dirty: B
    host_dirty: B
    copied: B
    dirty_pages: N
    host_count: N
    both_count: N


# In Python; over terms of z3 it is another.
Walk: TypeAlias = WalkOf[Natural, Bitmap]


def begin(
    start: Natural, cache_dirty: Bitmap, host_dirty: Bitmap, copied: Bitmap, dirty_pages: Natural
) -> Walk:
    """A walk about to enter a window at page ``start`` of its block.

    ``copied`` holds the pages copied before, ``dirty_pages`` is the count kept of cache bits.
    """
    return WalkOf(start, start, start, cache_dirty, host_dirty, copied, dirty_pages, ZERO, ZERO)


def finished(walk: Walk, limit: Natural) -> Truth:
    """Have both cursors, once searched, left the window ``[start, limit)``?"""
    return (walk.cache_next >= limit) & (walk.host_next >= limit)


def step(walk: Walk, used: Natural, limit: Natural) -> Walk:
    """One iteration of the loop in ``colo_flush_thread``: search, clear, copy one page.

    ``used`` is the block's length, ``limit`` the end of the window. As in the patch the cache search
    (``migration_bitmap_find_dirty``) is bounded by the block, the host search
    (``ramlist_bitmap_find_and_reset_dirty``) by the window.
    """
    walk = search_cache(walk, used, limit)
    walk = search_host(walk, limit)
    return copy_next(walk, limit)


def search_cache(walk: Walk, used: Natural, limit: Natural) -> Walk:
    """Find the next cache-dirty page, clear its bit, lower the dirty count.

    Stands for ``migration_bitmap_find_dirty`` and ``migration_bitmap_clear_dirty``.
    """
    due = walk.cache_next == walk.offset
    found = next_to_search(walk.cache_dirty, walk.offset, used)
    hit = due & (found < limit)
    return walk._replace(
        cache_next=select(due, found, walk.cache_next),
        cache_dirty=select(hit, clear(walk.cache_dirty, found), walk.cache_dirty),
        dirty_pages=count_down(walk.dirty_pages, hit),
    )


def count_down(dirty_pages: Natural, hit: Truth) -> Natural:
    """The dirty count after a search that has, or has not, cleared a bit."""
    return dirty_pages - select(hit, ONE, ZERO)


def next_to_search(bitmap: Bitmap, start: Natural, limit: Natural) -> Natural:
    """Where the cache search starts looking: at ``start`` itself, outside the bulk stage."""
    return find(bitmap, start, limit)


def search_host(walk: Walk, limit: Natural) -> Walk:
    """Find the next host-dirty page and clear its bit (``ramlist_bitmap_find_and_reset_dirty``)."""
    due = walk.host_next == walk.offset
    found = find(walk.host_dirty, walk.offset, limit)
    hit = due & (found < limit)
    return walk._replace(
        host_next=select(due, found, walk.host_next),
        host_dirty=select(hit, clear(walk.host_dirty, found), walk.host_dirty),
    )


def copy_next(walk: Walk, limit: Natural) -> Walk:
    """Copy the page of the cursor that is behind, and count it; nothing if the walk has finished."""
    over = finished(walk, limit)
    from_host = walk.host_next <= walk.cache_next
    page = select(from_host, walk.host_next, walk.cache_next)
    in_both = walk.host_next == walk.cache_next
    return walk._replace(
        offset=select(over, walk.offset, page),
        copied=select(over, walk.copied, mark(walk.copied, page)),
        host_count=walk.host_count + select(over, ZERO, select(from_host, ONE, ZERO)),
        both_count=walk.both_count + select(over, ZERO, select(in_both, ONE, ZERO)),
    )


# The domain's primitives, here on Python's frozensets.


def find(bitmap: Bitmap, start: Natural, limit: Natural) -> Natural:
    """The first set page in ``[start, limit)``, or ``limit`` if there is none (``find_next_bit``)."""
    return min((page for page in bitmap if start <= page < limit), default=max(start, limit))


def clear(bitmap: Bitmap, page: Natural) -> Bitmap:
    """The bitmap without ``page`` (``clear_bit``)."""
    return bitmap - {page}


def mark(bitmap: Bitmap, page: Natural) -> Bitmap:
    """The bitmap with ``page``."""
    return bitmap | {page}


# The walk over a whole RAM, in Python only.


def flush_window(
    cache_dirty: frozenset[int],
    host_dirty: frozenset[int],
    dirty_pages: int,
    start: int,
    limit: int,
    used: int,
) -> Iterator[Walk]:
    """Every state of the walk over one window, the last one finished. Pages counted in the block."""
    walk = step(begin(start, cache_dirty, host_dirty, frozenset(), dirty_pages), used, limit)
    yield walk
    while not finished(walk, limit):
        walk = step(walk, used, limit)
        yield walk


def flush_serial(ram: Ram, layout: Layout) -> Flushed:
    """The walk as it was before the patch: one thread, every block whole (``colo_flush_ram_cache``)."""
    check_no_stray(ram.cache_dirty | ram.host_dirty, layout)
    parts = [flush_into(ram, region, 0, region.used_pages) for region in layout.regions]
    done = _total(parts)
    check_count(ram.dirty_pages, done)
    return done


def flush_static(ram: Ram, layout: Layout, threads: int) -> Flushed:
    """The patch: each thread walks its windows; here one thread after the other."""
    check_no_stray(ram.cache_dirty | ram.host_dirty, layout)
    parts = [flush_into(ram, w.region, w.start, w.limit) for w in windows(layout, threads)]
    done = _total(parts)
    check_count(ram.dirty_pages, done)
    return done


def flush_into(ram: Ram, region: Region, start: int, limit: int) -> Flushed:
    """The walk over the pages ``[start, limit)`` of a block, and what it does to the RAM; no checks."""
    base = region.first_bit
    cache = frozenset(bit - base for bit in ram.cache_dirty if bit in region.bits)
    host = frozenset(bit - base for bit in ram.host_dirty if bit in region.bits)
    *_, end = flush_window(cache, host, ram.dirty_pages, start, limit, region.used_pages)

    for page in end.copied:
        ram.host[base + page] = ram.cache[base + page]
    ram.cache_dirty -= {base + page for page in cache - end.cache_dirty}
    ram.host_dirty -= {base + page for page in host - end.host_dirty}
    cleared = ram.dirty_pages - end.dirty_pages
    ram.dirty_pages = end.dirty_pages
    return Flushed(len(end.copied), end.host_count, cleared, end.both_count)


def _total(parts: list[Flushed]) -> Flushed:
    return Flushed(
        sum(part.copied for part in parts),
        sum(part.host_dirty for part in parts),
        sum(part.cache_dirty for part in parts),
        sum(part.both_dirty for part in parts),
    )
