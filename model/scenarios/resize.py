"""RAM that is added, grown, shrunk or removed between flushes."""

from itertools import product

from model import resize, shares, walk
from model.page.picture import drawn, of_pages
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
    ranges = {"added since": (at_start, now)}
    visited = False
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        visited |= lower <= page < upper
        ranges |= {f"thread {thread}": (lower, upper)}
        yield drawn(f"thread {thread} flushes pages [{lower}, {upper})", of_pages(now, ranges))
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
    ranges = {"the block": (0, used_at_first), "its cache": (0, cached)}
    text = f"the cache of a block of {used_at_first} pages, at most {most}, has {cached} pages"
    yield drawn(text, of_pages(used_at_first, ranges))
    grown_to = of_pages(used, {**ranges, "the block": (0, used)}, cache_dirty=[page])
    yield drawn(f"the block grows to {used} pages; page {page} is dirty", grown_to)
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
    text = f"{before} pages, cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    yield drawn(text, of_pages(before, cache_dirty=cache_dirty, host_dirty=host_dirty))
    cache, host, dirty_pages = resize.resize(
        frozenset(cache_dirty), frozenset(host_dirty), len(cache_dirty), used
    )
    text = f"resized to {used} pages: cache-dirty {sorted(cache)}, host-dirty {sorted(host)}"
    yield drawn(text, of_pages(used, cache_dirty=cache, host_dirty=host, copied=()))
    for state in walk.flush_window(cache, host, dirty_pages, 0, used, used):
        yield drawn(
            f"copied {sorted(state.copied)}, dirty count {state.dirty_pages}",
            of_pages(
                used,
                cache_dirty=state.cache_dirty,
                host_dirty=state.host_dirty,
                copied=state.copied,
            ),
        )
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
    block_of = {"the block": (first, first + most)}
    pages = 1 + max((first + most - 1, *cache_dirty, *host_dirty))
    yield drawn(
        f"cache-dirty {cache_dirty}, host-dirty {host_dirty}, dirty count {len(cache_dirty)}",
        of_pages(pages, block_of, cache_dirty=cache_dirty, host_dirty=host_dirty),
    )
    cache, host, dirty_pages = resize.remove(
        frozenset(cache_dirty), frozenset(host_dirty), len(cache_dirty), first, most
    )
    text = f"cache-dirty {sorted(cache)}, host-dirty {sorted(host)}, dirty count {dirty_pages}"
    yield drawn(text, of_pages(pages, block_of, cache_dirty=cache, host_dirty=host))
    block = set(range(first, first + most))
    left = sorted((cache | host) & block)
    lost = sorted(({*cache_dirty} - cache - block) | ({*host_dirty} - host - block))
    if left:
        yield f"{FAILS}bits {left} stay set, with no memory behind them"
    elif lost:
        yield f"{FAILS}bits {lost} of other blocks are lost: their pages are not flushed"
    elif dirty_pages != len(cache):
        yield f"{FAILS}the dirty count is {dirty_pages}, of {len(cache)} bits"
