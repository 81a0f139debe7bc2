"""What the benchmark flushes: synthetic dirty patterns, and the recorded traces' own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from impl.bitmap import bitmap_of, pages_of
from impl.traces.format import Trace
from model.ram import PAGES_PER_WORD

Words = npt.NDArray[np.uint64]
Pages = npt.NDArray[np.int64]

# Of the pages dirty in a recorded COLO pair, the percentage that is dirty in both bitmaps.
BOTH_PERCENT = 90


@dataclass(frozen=True)
class Epoch:
    """Both bitmaps just before a flush, uint64 (words,), and the union's pages in order."""

    cache_words: Words
    host_words: Words
    pages: Words


@dataclass(frozen=True)
class Pattern:
    """A name and the epochs that are flushed in turn."""

    name: str
    epochs: tuple[Epoch, ...]

    @property
    def pages(self) -> int:
        """Dirty pages of an epoch, the median."""
        return int(np.median([len(epoch.pages) for epoch in self.epochs]))


#: Dirty pages that lie anywhere, and what such a pattern is called; in every RAM that has as many.
FEW = {
    **{1: "1 page", 4: "4 pages", 16: "16 pages", 64: "64 pages", 100: "100 pages"},
    **{256: "1 MiB", 1024: "4 MiB", 4096: "16 MiB"},
}


def synthetic(n_pages: int) -> Iterator[Pattern]:
    """The patterns of a RAM of ``n_pages`` of 4 KiB in one block, from nothing dirty to everything."""
    rng = np.random.default_rng(2016)
    every = np.arange(n_pages)
    yield _pattern("nothing", n_pages, every[:0], rng)
    for count, name in FEW.items():
        if count <= n_pages:
            yield _pattern(name, n_pages, rng.choice(n_pages, count, replace=False), rng)
    for percent in (1, 10, 50):
        some = rng.choice(n_pages, n_pages * percent // 100, replace=False)
        yield _pattern(f"{percent} % random", n_pages, some, rng)
    yield _pattern("100 %", n_pages, every, rng)
    eighth = n_pages // 8
    yield _pattern("one eighth", n_pages, every[3 * eighth : 4 * eighth], rng)
    starts = rng.choice(n_pages // 32, n_pages // 320, replace=False) * 32
    yield _pattern("runs of 32", n_pages, (starts[:, None] + np.arange(32)).ravel(), rng)


def scattered(name: str, n_pages: int, count: int) -> Pattern:
    """About ``count`` pages that lie anywhere, among too many for a permutation of all."""
    rng = np.random.default_rng(2016)
    return _pattern(name, n_pages, np.unique(rng.integers(0, n_pages, count)), rng)


def recorded(name: str, trace: Trace) -> Pattern:
    """A trace's epochs, the first only if it is the only one: it is the first touch of much memory."""
    first = min(1, trace.epochs - 1)
    epochs = zip(trace.cache_dirty[first:], trace.host_dirty[first:], strict=True)
    return Pattern(name, tuple(_epoch(cache, host) for cache, host in epochs))


def _pattern(name: str, n_pages: int, pages: Pages, rng: np.random.Generator) -> Pattern:
    """Each page dirty in both bitmaps or, as often, in only one or only the other."""
    draw = rng.integers(0, 200, len(pages))
    only_cache = draw < 100 - BOTH_PERCENT
    only_host = draw >= 100 + BOTH_PERCENT
    n_words = -(-n_pages // PAGES_PER_WORD)
    cache = bitmap_of(pages[~only_host], n_words)
    host = bitmap_of(pages[~only_cache], n_words)
    return Pattern(name, (_epoch(cache, host),))


def _epoch(cache_words: Words, host_words: Words) -> Epoch:
    return Epoch(cache_words.copy(), host_words.copy(), pages_of(cache_words | host_words))
