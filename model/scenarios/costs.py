"""What the patch's way of sharing out costs: words searched, and pages for the busiest thread.

Nothing here is wrong; it is why four cores gave 20 ms -> 16 ms.
"""

from itertools import product

from model import shares, walk, words
from model.page.picture import drawn, of_pages
from model.ram import PAGES_PER_WORD
from model.scenarios.registry import FAILS, Lines, Rows, scenario


def _small_searches() -> Rows:
    """Every page is dirty: nobody searches far."""
    for pages, threads in product((1, 63, 64, 65, 200), range(1, 4)):
        yield pages, threads, list(range(pages))


@scenario(_small_searches)
def search_cost(pages: int, threads: int, cache_dirty: list[int]) -> Lines:
    """One block over the whole RAM: how many bitmap words does each thread read?

    ``walk.step`` bounds the cache search by the block, as the patch does, so a thread whose share is
    clean reads on through the shares of the others.
    """
    ranges: dict[str, tuple[int, int]] = {}
    yield f"a block of {pages} pages, cache-dirty {cache_dirty}; {threads} threads"
    beyond = []
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        read = _cache_words_read(frozenset(cache_dirty), lower, upper, pages)
        own = _words_between(lower, upper)
        ranges |= {f"share of thread {thread}": (lower, upper)}
        ranges |= {f"thread {thread} reads": (lower, min(lower + 64 * read, pages))}
        text = f"thread {thread} has {own} words and reads {read} of the cache bitmap"
        yield drawn(text, of_pages(pages, ranges))
        if read > own + len(cache_dirty):
            beyond.append(thread)
    if beyond:
        yield f"{FAILS}threads {beyond} read words of the cache bitmap beyond their share"


def _cache_words_read(cache_dirty: frozenset[int], start: int, limit: int, used: int) -> int:
    """Words that the cache searches of one thread read, a word again if searched again."""
    at, read, over = walk.begin(start, cache_dirty, frozenset(), frozenset(), 0), 0, start >= limit
    while not over:
        after = walk.step(at, used, limit)
        if at.cache_next == at.offset:
            read += _words_between(at.offset, min(after.cache_next + 1, used))
        at, over = after, walk.finished(after, limit)
    return read


def _words_between(first: int, last: int) -> int:
    """Words that hold the bits ``[first, last)``."""
    return words.word_of(last - 1) - words.word_of(first) + 1 if first < last else 0


def _small_balances() -> Rows:
    """All pages dirty and words that divide among the threads."""
    for words_each, threads in product((1, 2, 5), range(1, 5)):
        pages = words_each * threads * PAGES_PER_WORD
        yield pages, threads, [0, pages]


@scenario(_small_balances)
def balance(pages: int, threads: int, dirty: list[int]) -> Lines:
    """How much faster than one thread can static shares be? As busiest and total allow.

    ``dirty``: ``[first, last)`` of the dirty pages.
    """
    ranges = {"dirty": (dirty[0], dirty[1])}
    yield f"{pages} pages, {threads} threads; pages {dirty[0]} to {dirty[1] - 1} are dirty"
    copied = []
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        ranges |= {f"thread {thread}": (lower, upper)}
        copied.append(max(0, min(upper, dirty[1]) - max(lower, dirty[0])))
    busiest, total = max(copied), sum(copied)
    text = f"the least busy thread copies {min(copied)} pages, the busiest {busiest} of {total}"
    yield drawn(text, of_pages(pages, ranges))
    if 2 * total < busiest * threads:
        yield f"{FAILS}{threads} threads are at most {total / busiest:.2f} times as fast as one"
