"""Who flushes what: shares of the pages, batches off the cursor."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, product

from model import shares, words
from model.page.picture import Picture, drawn, of_pages
from model.scenarios.registry import FAILS, Lines, Rows, scenario
from model.shares import STRETCH
from model.words import ALL_PAGES

SMALL_RAMS = (0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193, 200, 256, 320, 1000)


FEW_THREADS = range(1, 6)


def splits() -> Iterator[tuple[int, int]]:
    """Pages and threads of small RAMs."""
    return ((pages, threads) for pages in SMALL_RAMS for threads in FEW_THREADS)


def _pairs_of_pages() -> Rows:
    for pages, threads in splits():
        for one, other in combinations(range(threads), 2):
            mine = range(*shares.share(pages, threads, one))
            others = range(*shares.share(pages, threads, other))
            for page, other_page in product(mine[-1:], others[:1]):
                yield pages, threads, one, other, page, other_page


@scenario(_pairs_of_pages)
def two_shares(pages: int, threads: int, one: int, other: int, page: int, other_page: int) -> Lines:
    """Two threads, a page of each: do their bits lie in one word?"""
    ranges: dict[str, tuple[int, int]] = {}
    yield drawn(f"{pages} pages, {threads} threads", of_pages(pages))
    for thread, mine in ((one, page), (other, other_page)):
        lower, upper = shares.share(pages, threads, thread)
        word = words.word_of(mine)
        if not lower <= mine < upper:
            yield f"thread {thread} has pages {lower} to {upper - 1}: page {mine} is not among them"
            return
        ranges |= {f"thread {thread}": (lower, upper)}
        text = f"thread {thread} has pages {lower} to {upper - 1}; page {mine} is in word {word}"
        yield drawn(text, of_pages(pages, ranges))
    if words.word_of(page) == words.word_of(other_page):
        yield f"{FAILS}threads {one} and {other} both write word {words.word_of(page)}"


def _pages() -> Rows:
    for pages, threads in splits():
        for page in range(pages):
            yield pages, threads, page


@scenario(_pages)
def owners(pages: int, threads: int, page: int) -> Lines:
    """Which threads' shares hold a page? Exactly one must, and ``owner`` must name it."""
    bounds = [shares.share(pages, threads, thread) for thread in range(threads)]
    yield drawn(f"{pages} pages, {threads} threads", of_pages(pages, _by_thread(bounds)))
    holding = []
    for thread, (lower, upper) in enumerate(bounds):
        if lower <= page < upper:
            holding.append(thread)
            yield f"thread {thread} has pages {lower} to {upper - 1}: page {page} is among them"
    named = shares.owner(pages, threads, page)
    if holding != [named]:
        yield f"{FAILS}page {page} is in the shares of threads {holding}; its owner is said to be {named}"


def _by_thread(bounds: Iterable[tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {f"thread {thread}": pages for thread, pages in enumerate(bounds)}


def _threads() -> Rows:
    for pages, threads in splits():
        for thread in range(threads):
            yield pages, threads, thread


@scenario(_threads)
def end_to_end(pages: int, threads: int, thread: int) -> Lines:
    """A share is ordered, begins at a whole word, and ends where the next begins, or all pages do."""
    lower, upper = shares.share(pages, threads, thread)
    after = pages if thread + 1 == threads else shares.share(pages, threads, thread + 1)[0]
    bounds = [shares.share(pages, threads, each) for each in range(max(threads, thread + 1))]
    text = f"{pages} pages, {threads} threads: thread {thread} has [{lower}, {upper})"
    yield drawn(text, of_pages(pages, _by_thread(bounds)))
    if not 0 <= lower <= upper <= pages:
        yield f"{FAILS}[{lower}, {upper}) is no part of the RAM"
    elif lower % 64 or (thread == 0 and lower):
        yield f"{FAILS}the share begins in the middle of a word, at bit {lower % 64}"
    elif upper != after:
        yield f"{FAILS}the share ends at {upper}, but the next one begins at {after}"


@scenario(splits)
def last_share(pages: int, threads: int) -> Lines:
    """The last share exceeds the others by less than 64 pages a thread."""
    lower, upper = shares.share(pages, threads, threads - 1)
    size = shares.chunk(pages, threads)
    yield f"{pages} pages, {threads} threads: the last has {upper - lower} pages, others {size}"
    if upper - lower - size >= 64 * threads:
        yield f"{FAILS}the excess of {upper - lower - size} is not less than 64 pages a thread"


def _pairs_of_batches() -> Rows:
    for total, grain in product(range(6), range(1, 4)):
        for one, other in combinations(range(4), 2):
            for word in range(total):
                yield total, grain, one, other, word


@scenario(_pairs_of_batches)
def two_batches(words: int, grain: int, one: int, other: int, word: int) -> Lines:
    """Two batches off the cursor: is a bitmap word in both?"""
    ranges: dict[str, tuple[int, int]] = {}
    yield f"{words} words, handed out {grain} at a time"
    holding = []
    for number in (one, other):
        first, last = shares.batch(number * grain, grain, words)
        ranges |= {f"batch {number}": (64 * first, 64 * last)}
        yield drawn(f"batch {number}: words [{first}, {last})", of_pages(64 * words, ranges))
        holding += [number] * (first <= word < last)
    if len(holding) > 1:
        yield f"{FAILS}word {word} is in both batches"


def _words() -> Rows:
    for total, grain in product(range(6), range(1, 4)):
        for word in range(total):
            yield total, grain, word


@scenario(_words)
def all_batches(words: int, grain: int, word: int) -> Lines:
    """All batches off the cursor, up to the first empty one: is the word in one of them?"""
    yield f"{words} words, handed out {grain} at a time"
    ranges: dict[str, tuple[int, int]] = {}
    holding, cursor = 0, 0
    while True:
        first, last = shares.batch(cursor, grain, words)
        ranges |= {f"batch at {cursor}": (64 * first, 64 * last)}
        yield drawn(f"cursor {cursor}: words [{first}, {last})", of_pages(64 * words, ranges))
        if first >= last:
            break
        if last > words:
            yield f"{FAILS}the batch passes the end of the bitmap"
            return
        holding += first <= word < last
        cursor += grain
    if holding != 1:
        yield f"{FAILS}word {word} is in {holding} batches before the first empty one"


def _across_stretches() -> Rows:
    for end in (1, STRETCH, STRETCH + 1, 2 * STRETCH):
        for word in sorted({0, end - 1, min(end - 1, STRETCH)}):
            yield end, word


@scenario(_across_stretches)
def stretches_of_the_index(words: int, word: int) -> Lines:
    """The stretches of the index one after the other: is the word in exactly one, its own?"""
    yield f"{words} words, stretches of {STRETCH}"
    holding: list[int] = []
    for cursor in range(0, words, STRETCH):
        first, last = cursor, shares.end_of_stretch(cursor, words)
        yield f"stretch {shares.stretch_of(first)}: words [{first}, {last})"
        if last > words or shares.batch(cursor, STRETCH, words) != (first, last):
            yield f"{FAILS}it is not the batch [{first}, {min(first + STRETCH, words)})"
            return
        holding += [shares.stretch_of(first)] * (first <= word < last)
    if holding != [shares.stretch_of(word)]:
        yield f"{FAILS}word {word} is in stretches {holding}"


def _unions() -> Rows:
    for length in range(1, 4):
        for union in product((0, 1, 0b111), repeat=length):
            for grain in range(1, 4):
                yield list(union), grain


@scenario(_unions)
def batches_of_dirty_pages(union: list[int], grain: int) -> Lines:
    """All batches of dirty pages, cut at words: is each word with a dirty page in exactly one?"""
    before = shares.dirty_before(union)
    dirty = Picture(64 * len(union), {"dirty": union})
    text = f"dirty pages in the words below each word: {before}; handed out {grain} at a time"
    yield drawn(text, dirty)
    holding = [0] * len(union)
    for cursor in range(0, before[-1], grain):
        first, last = shares.batch(cursor, grain, before[-1])
        low, high = shares.batch_words(before, first, last)
        ranges = {**dirty.ranges, f"batch at {cursor}": (64 * low, 64 * high)}
        dirty = replace(dirty, ranges=ranges)
        text = f"cursor {cursor}: dirty pages [{first}, {last}), words [{low}, {high})"
        yield drawn(text, dirty)
        for word in range(low, min(high, len(union))):
            holding[word] += 1
    wrong = [w for w, bits in enumerate(union) if bits and holding[w] != 1]
    if wrong:
        yield f"{FAILS}word {wrong[0]} is in {holding[wrong[0]]} batches, not in exactly one"


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


def _few_numbers() -> Rows:
    for pages, threads, thread in _threads():
        yield pages, threads, thread, pages // 2, 1 + thread


@scenario(_few_numbers)
def in_64_bits(pages: int, threads: int, thread: int, cursor: int, grain: int) -> Lines:
    """A share and a batch, computed modulo 2^64 and exactly."""
    yield f"{pages} pages, {threads} threads, thread {thread}; cursor {cursor}, grain {grain}"
    split, off = (pages, threads, thread), (cursor, grain, pages)
    for what, function, values in (("share", shares.share, split), ("batch", shares.batch, off)):
        exact, modulo = function(*values), function(*map(_Machine, values))
        yield f"{what}: exactly {list(exact)}, modulo 2^64 {[int(bound) for bound in modulo]}"
        if exact != modulo:
            yield f"{FAILS}in 64 bits the {what} is wrong"
            return
