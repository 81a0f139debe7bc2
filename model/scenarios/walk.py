"""The patch's walk, over one window and over a whole RAM."""

from itertools import combinations, groupby, product

from model import shares, walk
from model.flush import Ram
from model.page.picture import drawn, of_pages
from model.ram import SMALLEST_PAGE, Block, Layout
from model.scenarios.registry import FAILS, Lines, Rows, scenario


def _subsets(pages: range) -> list[list[int]]:
    return [list(some) for size in range(len(pages) + 1) for some in combinations(pages, size)]


def _small_windows() -> Rows:
    for used in range(4):
        bitmaps = _subsets(range(used))
        for limit in range(used + 1):
            for start, cache, host in product(range(limit + 1), bitmaps, bitmaps):
                yield start, limit, used, cache, host


@scenario(_small_windows)
def one_window(
    start: int, limit: int, used: int, cache_dirty: list[int], host_dirty: list[int]
) -> Lines:
    """The walk over one window: copies the union, clears both bitmaps, counts right."""
    cache, host = frozenset(cache_dirty), frozenset(host_dirty)
    window_of = {"the window": (start, limit)}
    yield f"window [{start}, {limit}) of a block of {used} pages"
    yield drawn(
        f"cache-dirty {sorted(cache)}, host-dirty {sorted(host)}, dirty count {len(cache)}",
        of_pages(used, window_of, cache_dirty=cache, host_dirty=host, copied=()),
    )
    most_iterations = len(cache | host) + 1
    iterations = walk.flush_window(cache, host, len(cache), start, limit, used)
    for _, state in zip(range(most_iterations), iterations, strict=False):
        dirty = {"cache_dirty": state.cache_dirty, "host_dirty": state.host_dirty}
        yield drawn(
            f"copied {sorted(state.copied)}; cache-dirty {sorted(state.cache_dirty)}, "
            f"host-dirty {sorted(state.host_dirty)}, dirty count {state.dirty_pages}",
            of_pages(used, window_of, **dirty, copied=state.copied),
        )
    window = set(range(start, limit))
    expected = {
        "finished": (True, walk.finished(state, limit)),
        "pages copied": (sorted((cache | host) & window), sorted(state.copied)),
        "cache-dirty pages left": (sorted(cache - window), sorted(state.cache_dirty)),
        "host-dirty pages left": (sorted(host - window), sorted(state.host_dirty)),
        "host_dirty": (len(host & window), state.host_count),
        "both_dirty": (len(cache & host & window), state.both_count),
        "dirty count": (len(cache - window), state.dirty_pages),
    }
    wrong = [f"{what} {got}, not {want}" for what, (want, got) in expected.items() if want != got]
    if wrong:
        yield FAILS + "; ".join(wrong)


def _small_rams() -> Rows:
    for pages, threads in product((2, 3), (1, 2)):
        bitmaps = _subsets(range(pages))
        for cache, host in product(bitmaps, bitmaps):
            yield pages, threads, list(range(pages)), cache, host, len(cache)


@scenario(_small_rams)
def whole_flush(
    pages: int,
    threads: int,
    in_use: list[int],
    cache_dirty: list[int],
    host_dirty: list[int],
    dirty_pages: int,
) -> Lines:
    """A static flush of a whole RAM; each run of pages in use is a block. Must end with dirty count 0.

    It runs on whatever it is given: bits that no block owns, a count that is wrong to begin with.
    """
    ram = Ram(
        host=dict.fromkeys(range(pages), "the secondary's"),
        cache=dict.fromkeys(range(pages), "the primary's"),
        cache_dirty=set(cache_dirty),
        host_dirty=set(host_dirty),
        dirty_pages=dirty_pages,
    )
    layout = _layout(in_use, pages)
    blocks = [(region.first_bit, region.used_pages) for region in layout.regions]
    yield f"{pages} pages, {threads} threads; blocks of (first bit, used pages): {blocks}"
    yield drawn(
        f"cache-dirty {sorted(ram.cache_dirty)}, host-dirty {sorted(ram.host_dirty)}, "
        f"dirty count {ram.dirty_pages}",
        of_pages(pages, cache_dirty=ram.cache_dirty, host_dirty=ram.host_dirty),
    )
    for thread, region, start, limit in shares.windows(layout, threads):
        walk.flush_into(ram, region, start, limit)
        first = region.first_bit
        yield drawn(
            f"thread {thread} flushes pages {start} to {limit - 1} of the block at bit {first}: "
            f"cache-dirty {sorted(ram.cache_dirty)}, dirty count {ram.dirty_pages}",
            of_pages(
                pages,
                {f"thread {thread}": (first + start, first + limit)},
                cache_dirty=ram.cache_dirty,
                host_dirty=ram.host_dirty,
            ),
        )
    if ram.dirty_pages or ram.cache_dirty:
        left = sorted(ram.cache_dirty)
        yield f"{FAILS}the dirty count is {ram.dirty_pages}, not 0; cache-dirty pages left: {left}"


def _layout(in_use: list[int], pages: int) -> Layout:
    """Each run of pages in use is a block; the last may grow to the end, as far as shares reach."""
    runs = groupby(enumerate(in_use), key=lambda pair: pair[1] - pair[0])
    starts_and_lengths = [(run[0][1], len(run)) for run in (list(pairs) for _, pairs in runs)]
    blocks = []
    for number, (first, length) in enumerate(starts_and_lengths):
        most = pages - first if number == len(starts_and_lengths) - 1 else length
        sizes = (n * SMALLEST_PAGE for n in (first, length, most))
        blocks.append(Block(f"block {number}", *sizes))
    return Layout(tuple(blocks), SMALLEST_PAGE)


def _two_windows() -> Rows:
    for windows in ([0, 1, 1, 3], [1, 2, 2, 3], [2, 3, 0, 2], [0, 3, 3, 3]):
        for cache, host in product(_subsets(range(3)), _subsets(range(3))):
            yield 3, windows, cache, host


@scenario(_two_windows)
def two_walks(
    used: int, windows: list[int], cache_dirty: list[int], host_dirty: list[int]
) -> Lines:
    """Two threads walk a block, each a window of its own: does it matter which of them goes first?

    Whichever does, each copies the same pages and the same bits are left.
    """
    mine, other = (windows[0], windows[1]), (windows[2], windows[3])
    dirty = {"cache_dirty": cache_dirty, "host_dirty": host_dirty}
    shown = of_pages(used, {"one": mine, "the other": other}, **dirty)
    yield drawn(
        f"a block of {used} pages; one has [{mine[0]}, {mine[1]}), the other {other}", shown
    )
    ends = []
    both = {"one": mine, "the other": other}
    for order in (list(both), list(both)[::-1]):
        cache, host = frozenset(cache_dirty), frozenset(host_dirty)
        copied = {}
        for name in order:
            start, limit = both[name]
            *_, end = walk.flush_window(cache, host, len(cache), start, limit, used)
            cache, host = end.cache_dirty, end.host_dirty
            copied[name] = sorted(end.copied)
            yield f"{name} copies {copied[name]}"
        ends.append((cache, host, copied))
    if ends[0] != ends[1]:
        yield f"{FAILS}it matters which of them goes first"
