"""RAM that is hot-added, resized or hot-unplugged between two flushes.

The patch computes two things once that growth makes wrong: the shares, when its threads start, and
the size of the cache, when it is allocated; and nobody drops the dirty bits beyond a block that has
shrunk. Here each is computed from what there is at the flush; the patch's way is a fault
(``model.faults``), and refuted.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from model import shares, walk
from model.ram import Layout

Natural = Any
Truth = Any

ONE = 1


def pages_shared_out(at_start: Natural, now: Natural) -> Natural:
    """How many pages the shares are cut from: those there are at this flush.

    ``at_start`` is how many there were when the threads started, which is when the patch's
    ``colo_flush_thread`` computes ``ram_cache_pages``.
    """
    return now


def cache_pages(used: Natural, most: Natural) -> Natural:
    """How many pages a block's cache has, from the start: as many as the block may ever use.

    ``colo_init_ram_cache`` allocates ``used_length``.
    """
    return most


def stays_marked(page: Natural, used: Natural) -> Truth:
    """Does a page's dirty bit survive a resize to ``used`` pages?"""
    return page < used


def resize(
    cache_dirty: frozenset[int], host_dirty: frozenset[int], dirty_pages: int, used: int
) -> tuple[frozenset[int], frozenset[int], int]:
    """Both bitmaps of a block and the dirty count after a resize to ``used`` pages."""
    cache = frozenset(page for page in cache_dirty if stays_marked(page, used))
    host = frozenset(page for page in host_dirty if stays_marked(page, used))
    return cache, host, dirty_pages - len(cache_dirty - cache)


def outlives(bit: Natural, first: Natural, most: Natural) -> Truth:
    """Does a bit survive the removal of the block whose bits are ``[first, first + most)``?

    Ours, as all of removal is. A word may hold bits of a neighbour as well.
    """
    return (bit < first) | (bit >= first + most)


def remove(
    cache_dirty: frozenset[int], host_dirty: frozenset[int], dirty_pages: int, first: int, most: int
) -> tuple[frozenset[int], frozenset[int], int]:
    """Both bitmaps and the dirty count after the block with those bits was removed."""
    cache = frozenset(bit for bit in cache_dirty if outlives(bit, first, most))
    host = frozenset(bit for bit in host_dirty if outlives(bit, first, most))
    return cache, host, dirty_pages - len(cache_dirty - cache)


def without(layout: Layout, name: str) -> Layout:
    """The layout after a block was removed: all others, and their bits, stay where they are."""
    staying = [region for region in layout.regions if region.block.name != name]
    if layout.kind == "global":
        blocks = tuple(region.block for region in staying)
    else:
        blocks = tuple(replace(one.block, first_bit=one.first_bit) for one in staying)
    return Layout(blocks, layout.page_size, layout.kind)


# Scenarios (model.scenarios): each yields its steps, then what fails; and the small values of each.

FAILS = "FAILS: "
Lines = Iterator[str]
Cases = Iterator[dict[str, Any]]


def hot_added(at_start: int, threads: int, now: int, page: int) -> Lines:
    """RAM is hot-added after the threads have started: who flushes a dirty page of it?"""
    yield f"{threads} threads start when there are {at_start} pages; now there are {now}"
    pages = pages_shared_out(at_start, now)
    visited = False
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        visited |= lower <= page < upper
        yield f"thread {thread} flushes pages [{lower}, {upper})"
    if not visited:
        yield f"{FAILS}no thread visits page {page}: it is not copied, the count never reaches 0"


def small_hot_adds() -> Cases:
    """A block is added to a RAM of up to three words; its last page is dirty."""
    for at_start, threads, added in product((0, 1, 64, 128, 192), range(1, 5), (1, 64, 65)):
        now = at_start + added
        yield {"at_start": at_start, "threads": threads, "now": now, "page": now - 1}


def grown(used_at_first: int, most: int, used: int, page: int) -> Lines:
    """A block has grown since its cache was allocated: is there a cache page for each of its own?"""
    cached = cache_pages(used_at_first, most)
    yield f"the cache of a block of {used_at_first} pages, at most {most}, has {cached} pages"
    yield f"the block grows to {used} pages; page {page} is dirty"
    if page >= cached:
        yield f"{FAILS}the flush reads page {page}, past the end of the cache"


def small_growths() -> Cases:
    """Every resize of a block of up to four pages; its last page is dirty."""
    for most in range(1, 5):
        for used_at_first, used in product(range(most + 1), range(1, most + 1)):
            values = {"used_at_first": used_at_first, "most": most, "used": used}
            yield {**values, "page": used - 1}


def shrunk(before: int, used: int, cache_dirty: list[int], host_dirty: list[int]) -> Lines:
    """A block shrinks while pages beyond its new end are dirty; then it is flushed."""
    yield f"{before} pages, cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    cache, host, dirty_pages = resize(
        frozenset(cache_dirty), frozenset(host_dirty), len(cache_dirty), used
    )
    yield f"resized to {used} pages: cache-dirty {sorted(cache)}, host-dirty {sorted(host)}"
    for state in walk.flush_window(cache, host, dirty_pages, 0, used, used):
        yield f"copied {sorted(state.copied)}, dirty count {state.dirty_pages}"
    left = sorted(state.cache_dirty | state.host_dirty)
    if left or state.dirty_pages:
        yield f"{FAILS}pages {left} are never found; the dirty count stays {state.dirty_pages}"


def small_shrinks() -> Cases:
    """One dirty page in a block of up to four that shrinks."""
    for before in range(1, 5):
        for used, page in product(range(before), range(before)):
            values = {"before": before, "used": used}
            yield {**values, "cache_dirty": [page], "host_dirty": []}
            yield {**values, "cache_dirty": [], "host_dirty": [page]}


def removed(first: int, most: int, cache_dirty: list[int], host_dirty: list[int]) -> Lines:
    """A block is removed while pages are dirty, its own and, in the words at its ends, neighbours'."""
    yield f"a block of bits {first} to {first + most - 1} is removed"
    yield f"cache-dirty {cache_dirty}, host-dirty {host_dirty}, dirty count {len(cache_dirty)}"
    cache, host, dirty_pages = remove(
        frozenset(cache_dirty), frozenset(host_dirty), len(cache_dirty), first, most
    )
    yield f"cache-dirty {sorted(cache)}, host-dirty {sorted(host)}, dirty count {dirty_pages}"
    block = set(range(first, first + most))
    left = sorted((cache | host) & block)
    lost = sorted(({*cache_dirty} - cache - block) | ({*host_dirty} - host - block))
    if left:
        yield f"{FAILS}bits {left} stay set, with no memory behind them"
    elif lost:
        yield f"{FAILS}bits {lost} of other blocks are lost: their pages are not flushed"
    elif dirty_pages != len(cache):
        yield f"{FAILS}the dirty count is {dirty_pages}, of {len(cache)} bits"


def small_removals() -> Cases:
    """One dirty page in, before or behind a block that begins and ends anywhere in a word."""
    for first, most in product((0, 1, 3, 63, 64), (1, 2, 61, 64, 65)):
        for bit in sorted({0, first, first + most - 1, first + most} | ({first - 1} - {-1})):
            values = {"first": first, "most": most}
            yield {**values, "cache_dirty": [bit], "host_dirty": []}
            yield {**values, "cache_dirty": [], "host_dirty": [bit]}
