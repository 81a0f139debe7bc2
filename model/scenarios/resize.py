"""RAM that is added, grown, shrunk or removed between flushes."""

from itertools import product

from model import resize, shares, walk
from model.scenarios.registry import FAILS, Lines, Rows, scenario


def _small_hot_adds() -> Rows:
    """A block is added to a RAM of up to three words; its last page is dirty."""
    for at_start, threads, added in product((0, 1, 64, 128, 192), range(1, 5), (1, 64, 65)):
        now = at_start + added
        yield at_start, threads, now, now - 1


@scenario(_small_hot_adds)
def hot_added(at_start: int, threads: int, now: int, page: int) -> Lines:
    """RAM is hot-added after the threads have started: who flushes a dirty page of it?"""
    yield f"{threads} threads start when there are {at_start} pages; now there are {now}"
    pages = resize.pages_shared_out(at_start, now)
    visited = False
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        visited |= lower <= page < upper
        yield f"thread {thread} flushes pages [{lower}, {upper})"
    if not visited:
        yield f"{FAILS}no thread visits page {page}: it is not copied, the count never reaches 0"


def _small_growths() -> Rows:
    """Every resize of a block of up to four pages; its last page is dirty."""
    for most in range(1, 5):
        for used_at_first, used in product(range(most + 1), range(1, most + 1)):
            yield used_at_first, most, used, used - 1


@scenario(_small_growths)
def grown(used_at_first: int, most: int, used: int, page: int) -> Lines:
    """A block has grown since its cache was allocated: is there a cache page for each of its own?"""
    cached = resize.cache_pages(used_at_first, most)
    yield f"the cache of a block of {used_at_first} pages, at most {most}, has {cached} pages"
    yield f"the block grows to {used} pages; page {page} is dirty"
    if page >= cached:
        yield f"{FAILS}the flush reads page {page}, past the end of the cache"


def _small_shrinks() -> Rows:
    """One dirty page in a block of up to four that shrinks."""
    for before in range(1, 5):
        for used, page in product(range(before), range(before)):
            yield before, used, [page], []
            yield before, used, [], [page]


@scenario(_small_shrinks)
def shrunk(before: int, used: int, cache_dirty: list[int], host_dirty: list[int]) -> Lines:
    """A block shrinks while pages beyond its new end are dirty; then it is flushed."""
    yield f"{before} pages, cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    cache, host, dirty_pages = resize.resize(
        frozenset(cache_dirty), frozenset(host_dirty), len(cache_dirty), used
    )
    yield f"resized to {used} pages: cache-dirty {sorted(cache)}, host-dirty {sorted(host)}"
    for state in walk.flush_window(cache, host, dirty_pages, 0, used, used):
        yield f"copied {sorted(state.copied)}, dirty count {state.dirty_pages}"
    left = sorted(state.cache_dirty | state.host_dirty)
    if left or state.dirty_pages:
        yield f"{FAILS}pages {left} are never found; the dirty count stays {state.dirty_pages}"


def _small_removals() -> Rows:
    """One dirty page in, before or behind a block that begins and ends anywhere in a word."""
    for first, most in product((0, 1, 3, 63, 64), (1, 2, 61, 64, 65)):
        for bit in sorted({0, first, first + most - 1, first + most} | ({first - 1} - {-1})):
            yield first, most, [bit], []
            yield first, most, [], [bit]


@scenario(_small_removals)
def removed(first: int, most: int, cache_dirty: list[int], host_dirty: list[int]) -> Lines:
    """A block is removed while pages are dirty, its own and, in the words at its ends, neighbours'."""
    yield f"a block of bits {first} to {first + most - 1} is removed"
    yield f"cache-dirty {cache_dirty}, host-dirty {host_dirty}, dirty count {len(cache_dirty)}"
    cache, host, dirty_pages = resize.remove(
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
