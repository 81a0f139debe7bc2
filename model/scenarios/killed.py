"""A flush that dies in the middle, and what is known of the pages it had not copied.

A page that differs from the checkpoint must be marked at every instant: then flushing again finishes
the job. The patch clears a bit when it finds it and copies the page later; we copy, then clear.
"""

from collections.abc import Iterator
from itertools import combinations, product
from typing import NamedTuple

from model import walk
from model.page.picture import Picture, drawn, of_pages
from model.ram import PAGES_PER_WORD
from model.scenarios.registry import FAILS, Lines, Rows, scenario
from model.words import bit_of, word_of
from model.worker import STEPS, Memory, flush_words


class Instant(NamedTuple):
    """What memory holds between two accesses, and the access that came before."""

    access: str
    copied: frozenset[int]
    cache_dirty: frozenset[int]
    host_dirty: frozenset[int]


def _small_deaths() -> Rows:
    """Our order, killed anywhere, on every bitmap pair of three pages."""
    bitmaps = [list(some) for size in range(4) for some in combinations(range(3), size)]
    for cache, host, after in product(bitmaps, bitmaps, range(9)):
        yield 3, cache, host, False, after


@scenario(_small_deaths)
def killed(
    pages: int, cache_dirty: list[int], host_dirty: list[int], clear_first: bool, after: int
) -> Lines:
    """One block is flushed and dies after ``after`` accesses. Is a page lost?"""
    cache, host = frozenset(cache_dirty), frozenset(host_dirty)
    differs = cache | host

    def picture(at: Instant) -> Picture:
        return of_pages(
            pages,
            cache_dirty=at.cache_dirty,
            host_dirty=at.host_dirty,
            copied=at.copied,
            differs=differs,
        )

    text = f"{pages} pages, cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    yield drawn(text, picture(Instant("", frozenset(), cache, host)))
    order = _clear_first if clear_first else _copy_first
    now = Instant("", frozenset(), cache, host)
    for _, now in zip(range(after), order(pages, cache, host), strict=False):
        dirty = f"cache-dirty {sorted(now.cache_dirty)}, host-dirty {sorted(now.host_dirty)}"
        yield drawn(f"{now.access}: {dirty}", picture(now))
    yield "the flush is killed"
    lost = (cache | host) - now.copied - now.cache_dirty - now.host_dirty
    if lost:
        yield f"{FAILS}pages {sorted(lost)} are neither copied nor marked: flushing again misses them"


def _clear_first(pages: int, cache: frozenset[int], host: frozenset[int]) -> Iterator[Instant]:
    """The patch: both searches of an iteration clear what they find, then one page is copied."""
    at = walk.begin(0, cache, host, frozenset(), len(cache))
    while True:
        at = walk.search_cache(at, pages, pages)
        yield Instant("searched the cache bitmap", at.copied, at.cache_dirty, at.host_dirty)
        at = walk.search_host(at, pages)
        yield Instant("searched the host bitmap", at.copied, at.cache_dirty, at.host_dirty)
        if walk.finished(at, pages):
            return
        at = walk.copy_next(at, pages)
        yield Instant(f"copied page {at.offset}", at.copied, at.cache_dirty, at.host_dirty)


def _copy_first(pages: int, cache: frozenset[int], host: frozenset[int]) -> Iterator[Instant]:
    """Ours, the worker that is proved and run: a word's pages, then its bits."""
    words = -(-pages // PAGES_PER_WORD)
    memory = Memory(_bits(cache, words), _bits(host, words), (0,) * words)
    states = flush_words(memory, 0, words, 0, pages)
    _, doing = next(states)
    for memory, me in states:
        seen = (_pages(array) for array in (memory.copied, memory.cache, memory.host))
        yield Instant(f"{STEPS[doing.step]} of word {doing.word}", *seen)
        doing = me


def _bits(pages: frozenset[int], words: int) -> tuple[int, ...]:
    """A set of pages as the words of a bitmap."""
    return tuple(
        sum(1 << bit_of(page) for page in pages if word_of(page) == word) for word in range(words)
    )


def _pages(words: tuple[int, ...]) -> frozenset[int]:
    """The words of a bitmap as a set of pages."""
    every = range(PAGES_PER_WORD * len(words))
    return frozenset(page for page in every if words[word_of(page)] >> bit_of(page) & 1)
