"""What can go wrong in a flush, as small runs of the model that say each step and whether it fails.

A scenario takes plain values (a counterexample's) and yields lines; the last begins with FAILS if the
property it is about does not hold. ``cases`` lists all small values that a right model survives,
smallest first: where a proof fails, the first of them that fails on the model is shown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby, product
from typing import Any

from model import resize, shares, walk, words
from model.explore import catalogue as explored
from model.explore.weak import catalogue as weakened
from model.scenarios import costs, dirty_log, killed
from model.words import ALL_PAGES

FAILS = "FAILS: "
Lines = Iterator[str]
Cases = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Scenario:
    """A run of the model on values, and the small values it should survive."""

    run: Callable[..., Lines]
    cases: Callable[[], Cases]


SCENARIOS: dict[str, Scenario] = {}


def scenario(cases: Callable[[], Cases]) -> Callable[[Callable[..., Lines]], Callable[..., Lines]]:
    """Register a scenario under the name of its function, spaces for underscores."""

    def register(run: Callable[..., Lines]) -> Callable[..., Lines]:
        SCENARIOS[run.__name__.replace("_", " ")] = Scenario(run, cases)
        return run

    return register


SMALL_RAMS = (0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193, 200, 256, 320, 1000)
FEW_THREADS = range(1, 6)


def _splits() -> Iterator[tuple[int, int]]:
    return ((pages, threads) for pages in SMALL_RAMS for threads in FEW_THREADS)


def _pairs_of_pages() -> Cases:
    for pages, threads in _splits():
        for one, other in combinations(range(threads), 2):
            mine = range(*shares.share(pages, threads, one))
            others = range(*shares.share(pages, threads, other))
            for page, other_page in product(mine[-1:], others[:1]):
                yield {
                    "pages": pages,
                    "threads": threads,
                    "one": one,
                    "other": other,
                    "page": page,
                    "other_page": other_page,
                }


@scenario(_pairs_of_pages)
def two_shares(pages: int, threads: int, one: int, other: int, page: int, other_page: int) -> Lines:
    """Two threads, a page of each: do their bits lie in one word?"""
    yield f"{pages} pages, {threads} threads"
    for thread, mine in ((one, page), (other, other_page)):
        lower, upper = shares.share(pages, threads, thread)
        word = words.word_of(mine)
        if not lower <= mine < upper:
            yield f"thread {thread} has pages {lower} to {upper - 1}: page {mine} is not among them"
            return
        yield f"thread {thread} has pages {lower} to {upper - 1}; page {mine} is in word {word}"
    if words.word_of(page) == words.word_of(other_page):
        yield f"{FAILS}threads {one} and {other} both write word {words.word_of(page)}"


def _pages() -> Cases:
    for pages, threads in _splits():
        for page in range(pages):
            yield {"pages": pages, "threads": threads, "page": page}


@scenario(_pages)
def owners(pages: int, threads: int, page: int) -> Lines:
    """Which threads' shares hold a page? Exactly one must, and ``owner`` must name it."""
    yield f"{pages} pages, {threads} threads"
    holding = []
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        if lower <= page < upper:
            holding.append(thread)
            yield f"thread {thread} has pages {lower} to {upper - 1}: page {page} is among them"
    named = shares.owner(pages, threads, page)
    if holding != [named]:
        yield f"{FAILS}page {page} is in the shares of threads {holding}; its owner is said to be {named}"


def _threads() -> Cases:
    for pages, threads in _splits():
        for thread in range(threads):
            yield {"pages": pages, "threads": threads, "thread": thread}


@scenario(_threads)
def end_to_end(pages: int, threads: int, thread: int) -> Lines:
    """A share is ordered, begins at a whole word, and ends where the next begins, or all pages do."""
    lower, upper = shares.share(pages, threads, thread)
    after = pages if thread + 1 == threads else shares.share(pages, threads, thread + 1)[0]
    yield f"{pages} pages, {threads} threads: thread {thread} has [{lower}, {upper})"
    if not 0 <= lower <= upper <= pages:
        yield f"{FAILS}[{lower}, {upper}) is no part of the RAM"
    elif lower % 64 or (thread == 0 and lower):
        yield f"{FAILS}the share begins in the middle of a word, at bit {lower % 64}"
    elif upper != after:
        yield f"{FAILS}the share ends at {upper}, but the next one begins at {after}"


def _rams() -> Cases:
    for pages, threads in _splits():
        yield {"pages": pages, "threads": threads}


@scenario(_rams)
def last_share(pages: int, threads: int) -> Lines:
    """The last share exceeds the others by less than 64 pages a thread."""
    lower, upper = shares.share(pages, threads, threads - 1)
    size = shares.chunk(pages, threads)
    yield f"{pages} pages, {threads} threads: the last has {upper - lower} pages, others {size}"
    if upper - lower - size >= 64 * threads:
        yield f"{FAILS}the excess of {upper - lower - size} is not less than 64 pages a thread"


def _pairs_of_claims() -> Cases:
    for total, grain in product(range(6), range(1, 4)):
        for one, other in combinations(range(4), 2):
            for word in range(total):
                yield {"words": total, "grain": grain, "one": one, "other": other, "word": word}


@scenario(_pairs_of_claims)
def two_claims(words: int, grain: int, one: int, other: int, word: int) -> Lines:
    """Two claims off the cursor: is a bitmap word in both?"""
    yield f"{words} words, claimed {grain} at a time"
    holding = []
    for number in (one, other):
        first, last = shares.claim(number * grain, grain, words)
        yield f"claim {number}: words [{first}, {last})"
        holding += [number] * (first <= word < last)
    if len(holding) > 1:
        yield f"{FAILS}word {word} is in both claims"


def _words() -> Cases:
    for total, grain in product(range(6), range(1, 4)):
        for word in range(total):
            yield {"words": total, "grain": grain, "word": word}


@scenario(_words)
def claimed(words: int, grain: int, word: int) -> Lines:
    """All claims off the cursor, up to the first empty one: is the word in one of them?"""
    yield f"{words} words, claimed {grain} at a time"
    holding, cursor = 0, 0
    while True:
        first, last = shares.claim(cursor, grain, words)
        yield f"cursor {cursor}: words [{first}, {last})"
        if first >= last:
            break
        if last > words:
            yield f"{FAILS}the claim passes the end of the bitmap"
            return
        holding += first <= word < last
        cursor += grain
    if holding != 1:
        yield f"{FAILS}word {word} is in {holding} claims before the first empty one"


def _unions() -> Cases:
    for length in range(1, 4):
        for union in product((0, 1, 0b111), repeat=length):
            for grain in range(1, 4):
                yield {"union": list(union), "grain": grain}


@scenario(_unions)
def claims_of_dirty_pages(union: list[int], grain: int) -> Lines:
    """All claims of dirty pages, cut at words: is each word with a dirty page in exactly one?"""
    before = shares.dirty_before(union)
    yield f"dirty pages in the words below each word: {before}; claimed {grain} at a time"
    holding = [0] * len(union)
    for cursor in range(0, before[-1], grain):
        first, last = shares.claim(cursor, grain, before[-1])
        low, high = shares.claimed_words(before, first, last)
        yield f"cursor {cursor}: dirty pages [{first}, {last}), words [{low}, {high})"
        for word in range(low, min(high, len(union))):
            holding[word] += 1
    wrong = [w for w, bits in enumerate(union) if bits and holding[w] != 1]
    if wrong:
        yield f"{FAILS}word {wrong[0]} is in {holding[wrong[0]]} claims, not in exactly one"


class _Machine(int):
    """A number modulo 2^64."""

    def __add__(self, other: int) -> "_Machine":
        return _Machine(int(self) + int(other) & ALL_PAGES)

    def __sub__(self, other: int) -> "_Machine":
        return _Machine(int(self) - int(other) & ALL_PAGES)

    def __mul__(self, other: int) -> "_Machine":
        return _Machine(int(self) * int(other) & ALL_PAGES)

    def __floordiv__(self, other: int) -> "_Machine":
        return _Machine(int(self) // int(other))

    def __and__(self, other: int) -> "_Machine":
        return _Machine(int(self) & int(other))


def _few_numbers() -> Cases:
    for case in _threads():
        yield {**case, "cursor": case["pages"] // 2, "grain": 1 + case["thread"]}


@scenario(_few_numbers)
def in_64_bits(pages: int, threads: int, thread: int, cursor: int, grain: int) -> Lines:
    """A share and a claim, computed modulo 2^64 and exactly."""
    yield f"{pages} pages, {threads} threads, thread {thread}; cursor {cursor}, grain {grain}"
    split, off = (pages, threads, thread), (cursor, grain, pages)
    for what, function, values in (("share", shares.share, split), ("claim", shares.claim, off)):
        exact, modulo = function(*values), function(*map(_Machine, values))
        yield f"{what}: exactly {list(exact)}, modulo 2^64 {[int(bound) for bound in modulo]}"
        if exact != modulo:
            yield f"{FAILS}in 64 bits the {what} is wrong"
            return


def _pages_of_blocks() -> Cases:
    for pages, threads in _splits():
        for first in range(0, pages, 21):
            for used in {1, pages - first}:
                for page in {0, used // 2, used - 1}:
                    yield {
                        "pages": pages,
                        "threads": threads,
                        "first": first,
                        "used": used,
                        "page": page,
                    }


@scenario(_pages_of_blocks)
def visitors(pages: int, threads: int, first: int, used: int, page: int) -> Lines:
    """Which threads' windows hold page ``page`` of a block at bit ``first``? Exactly one must."""
    yield f"{pages} pages, {threads} threads; a block of {used} pages from bit {first}"
    holding = []
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        if not shares.in_reach(first, used, lower, upper):
            continue
        start, limit = shares.clip(first, used, lower, upper)
        if start <= page < limit:
            holding.append(thread)
            yield f"thread {thread} visits pages {start} to {limit - 1} of the block"
    if len(holding) != 1:
        yield f"{FAILS}page {page} of the block is visited by threads {holding}, not by exactly one"


def _blocks_and_threads() -> Cases:
    for pages, threads in _splits():
        for first in range(0, pages, 21):
            for used in {0, 1, pages - first}:
                for thread in range(threads):
                    yield {
                        "pages": pages,
                        "threads": threads,
                        "first": first,
                        "used": used,
                        "thread": thread,
                    }


@scenario(_blocks_and_threads)
def window(pages: int, threads: int, first: int, used: int, thread: int) -> Lines:
    """One thread's window of a block: a part of the block, and all of it that is in the share."""
    lower, upper = shares.share(pages, threads, thread)
    yield f"thread {thread} of {threads} has bits [{lower}, {upper}); a block of {used} from {first}"
    start, limit = shares.clip(first, used, lower, upper)
    reached = shares.in_reach(first, used, lower, upper)
    yield f"the window is pages [{start}, {limit})" if reached else "the block is out of reach"
    wanted = range(max(first, lower) - first, min(first + used, upper) - first)
    if reached and not 0 <= start <= limit <= used:
        yield f"{FAILS}[{start}, {limit}) is no part of a block of {used} pages"
    elif list(wanted) != list(range(start, limit) if reached else ()):
        yield f"{FAILS}pages [{wanted.start}, {wanted.stop}) of the block are in the share"


@scenario(lambda: iter(()))
def border_word(
    pages: int,
    threads: int,
    one: int,
    other: int,
    first: int,
    used: int,
    page: int,
    other_first: int,
    other_used: int,
    other_page: int,
) -> Lines:
    """Two blocks, a page of each whose bits lie in one word: one thread must visit both."""
    yield f"{pages} pages, {threads} threads"
    for thread, base, size, at in (
        (one, first, used, page),
        (other, other_first, other_used, other_page),
    ):
        lower, upper = shares.share(pages, threads, thread)
        start, limit = shares.clip(base, size, lower, upper)
        if not (shares.in_reach(base, size, lower, upper) and start <= at < limit):
            yield f"thread {thread} does not visit page {at} of the block at {base}"
            return
        word = words.word_of(base + at)
        yield f"thread {thread} visits page {at} of the block at bit {base}: word {word}"
    if one != other and words.word_of(first + page) == words.word_of(other_first + other_page):
        yield f"{FAILS}threads {one} and {other} both write word {words.word_of(first + page)}"


@scenario(lambda: iter(()))
def bitmap_of_its_own(
    pages: int,
    threads: int,
    first: int,
    used: int,
    one: int,
    other: int,
    page: int,
    other_page: int,
) -> Lines:
    """Two threads in one block whose bitmap begins with the block; each clears a page's bit.

    Both load the word before either stores it: the bit cleared first comes back.
    """
    yield f"{pages} pages, {threads} threads; a block of {used} pages from page {first}"
    for thread, mine in ((one, page), (other, other_page)):
        lower, upper = shares.share(pages, threads, thread)
        start, limit = shares.clip(first, used, lower, upper)
        if not (shares.in_reach(first, used, lower, upper) and start <= mine < limit):
            yield f"thread {thread} does not visit page {mine}"
            return
        word, bit = words.word_of(mine), words.bit_of(mine)
        yield f"thread {thread} has pages [{start}, {limit}); page {mine} is bit {bit} of word {word}"
    if words.word_of(page) != words.word_of(other_page):
        return
    mask, other_mask = 1 << words.bit_of(page), 1 << words.bit_of(other_page)
    dirty = mask | other_mask
    yield f"epoch 1: both pages are dirty, dirty count 2; both threads load {dirty:#x}"
    yield f"thread {one} stores {words.cleared(dirty, mask):#x}, dirty count 1"
    left = words.cleared(dirty, other_mask)
    yield f"thread {other} stores {left:#x}, dirty count 0"
    yield f"epoch 2: nothing is dirty, dirty count 0; the walk finds page {page}, dirty count -1"
    if left:
        yield f"{FAILS}a stale bit: page {page} is flushed again in the second epoch"


def _subsets(pages: range) -> list[list[int]]:
    return [list(some) for size in range(len(pages) + 1) for some in combinations(pages, size)]


def _small_windows() -> Cases:
    for used in range(4):
        bitmaps = _subsets(range(used))
        for limit in range(used + 1):
            for start, cache, host in product(range(limit + 1), bitmaps, bitmaps):
                yield {
                    "start": start,
                    "limit": limit,
                    "used": used,
                    "cache_dirty": cache,
                    "host_dirty": host,
                }


@scenario(_small_windows)
def one_window(
    start: int, limit: int, used: int, cache_dirty: list[int], host_dirty: list[int]
) -> Lines:
    """The walk over one window: copies the union, clears both bitmaps, counts right."""
    cache, host = frozenset(cache_dirty), frozenset(host_dirty)
    yield f"window [{start}, {limit}) of a block of {used} pages"
    yield f"cache-dirty {sorted(cache)}, host-dirty {sorted(host)}, dirty count {len(cache)}"
    most_turns = len(cache | host) + 1
    turns = walk.flush_window(cache, host, len(cache), start, limit, used)
    for _, state in zip(range(most_turns), turns, strict=False):
        yield (
            f"copied {sorted(state.copied)}; cache-dirty {sorted(state.cache_dirty)}, "
            f"host-dirty {sorted(state.host_dirty)}, dirty count {state.dirty_pages}"
        )
    window = set(range(start, limit))
    expected = {
        "finished": (True, walk.finished(state, limit)),
        "pages copied": ((cache | host) & window, set(state.copied)),
        "cache-dirty pages left": (cache - window, set(state.cache_dirty)),
        "host-dirty pages left": (host - window, set(state.host_dirty)),
        "host_dirty": (len(host & window), state.host_count),
        "both_dirty": (len(cache & host & window), state.both_count),
        "dirty count": (len(cache - window), state.dirty_pages),
    }
    wrong = [f"{what} {got}, not {want}" for what, (want, got) in expected.items() if want != got]
    if wrong:
        yield FAILS + "; ".join(wrong)


def _small_rams() -> Cases:
    for pages, threads in product((2, 3), (1, 2)):
        bitmaps = _subsets(range(pages))
        for cache, host in product(bitmaps, bitmaps):
            yield {
                "pages": pages,
                "threads": threads,
                "in_use": list(range(pages)),
                "cache_dirty": cache,
                "host_dirty": host,
                "dirty_pages": len(cache),
            }


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
    cache, host = frozenset(cache_dirty), frozenset(host_dirty)
    blocks = list(_runs(in_use))
    yield f"{pages} pages, {threads} threads; blocks of (first bit, used pages): {blocks}"
    yield f"cache-dirty {sorted(cache)}, host-dirty {sorted(host)}, dirty count {dirty_pages}"
    for thread, (first, used) in product(range(threads), blocks):
        lower, upper = shares.share(pages, threads, thread)
        start, limit = shares.clip(first, used, lower, upper)
        if not shares.in_reach(first, used, lower, upper) or start >= limit:
            continue
        mine = frozenset(bit - first for bit in cache if first <= bit < first + used)
        others = frozenset(bit - first for bit in host if first <= bit < first + used)
        *_, end = walk.flush_window(mine, others, dirty_pages, start, limit, used)
        cache = cache - {first + page for page in mine - end.cache_dirty}
        host = host - {first + page for page in others - end.host_dirty}
        dirty_pages = end.dirty_pages
        yield (
            f"thread {thread} flushes pages {start} to {limit - 1} of the block at bit {first}: "
            f"cache-dirty {sorted(cache)}, dirty count {dirty_pages}"
        )
    if dirty_pages or cache:
        yield f"{FAILS}the dirty count is {dirty_pages}, not 0; cache-dirty pages left: {sorted(cache)}"


def _runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    """(first, length) of each run of consecutive numbers."""
    for _, run in groupby(enumerate(pages), key=lambda pair: pair[1] - pair[0]):
        numbers = [page for _, page in run]
        yield numbers[0], len(numbers)


# A schedule of one of the systems of model.explore; the exploration finds the small ones itself.
SCENARIOS["schedule"] = Scenario(explored.lines, lambda: iter(()))
SCENARIOS["schedule over a memory"] = Scenario(weakened.lines, lambda: iter(()))
SCENARIOS["hot added"] = Scenario(resize.hot_added, resize.small_hot_adds)
SCENARIOS["grown"] = Scenario(resize.grown, resize.small_growths)
SCENARIOS["shrunk"] = Scenario(resize.shrunk, resize.small_shrinks)
SCENARIOS["removed"] = Scenario(resize.removed, resize.small_removals)
SCENARIOS["search cost"] = Scenario(costs.search_cost, costs.small_searches)
SCENARIOS["balance"] = Scenario(costs.balance, costs.small_balances)
SCENARIOS["log ended"] = Scenario(dirty_log.log_ended, dirty_log.small_logs)
SCENARIOS["thrown away"] = Scenario(dirty_log.thrown_away, dirty_log.small_holes)
SCENARIOS["killed"] = Scenario(killed.killed, killed.small_deaths)
