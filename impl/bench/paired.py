"""Contenders flushing the same pages in turn: times, ratios, and a check of every result.

Rounds are interleaved, each in another order, so that a machine whose speed drifts slows all alike and
nobody always follows the same contender; only ratios within a round are compared. Before each flush the
dirty pages are written again, as the primary and the guest do, and other memory is read, as the rest of
a machine does between checkpoints: otherwise a contender would be timed on what the one before it left
in the processor's cache.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from impl.bench.figures import in_full
from impl.bench.patterns import Epoch, Pattern
from impl.ram import ColoRam
from impl.traces.stamped_ram import SIDES, StampedRam, near
from model.errors import ColoError

Words = npt.NDArray[np.uint64]

FEWEST_ROUNDS, MOST_ROUNDS = 7, 101
# More than this can't stay in any cache, so it needn't be written again.
LARGEST_REWRITE = 1 << 30
_other_memory = np.ones(16 << 20, dtype=np.uint8)


@dataclass(frozen=True)
class Contender:
    """Something that flushes a RAM. ``group`` is "ours", "C" or "copy limit"."""

    name: str
    group: str
    flush: Callable[[Epoch], int]
    """Flushes; returns how many nanoseconds that took, timed in native code."""


class WrongResult(ColoError):
    """A contender did not flush what it was given."""


class PairedRuns:
    """One RAM, whose pages tell who wrote them.

    ``there`` are the pages that exist, of a guest larger than the machine: no other is looked at.
    """

    def __init__(self, ram: ColoRam, there: Words | None = None) -> None:
        self.ram, self._there = ram, there
        self.page_size = ram.layout.page_size
        self._pages = StampedRam(ram)
        self._authors = 0
        for side in SIDES:
            every = np.arange(ram.layout.pages, dtype=np.uint64) if there is None else there
            self._pages.write(side, every, author=0)

    def prepare(self, epoch: Epoch) -> None:
        """The time between two checkpoints: pages are written, other memory is used, bits set."""
        if len(epoch.pages) * self.page_size <= LARGEST_REWRITE:
            self._write(epoch.pages)
            _other_memory.sum()
        self.ram.set_dirty(epoch.cache_words, epoch.host_words)

    def _write(self, pages: Words) -> None:
        for side in SIDES:
            self._authors += 1
            self._pages.write(side, pages, self._authors)

    def _flushed(self, epoch: Epoch) -> None:
        """What the pages should hold after a flush."""
        self._pages.host[epoch.pages] = self._pages.cache[epoch.pages]

    def check(self, contender: Contender, epoch: Epoch) -> None:
        """Flush once; WrongResult if memory around dirty pages, a bitmap or the count is wrong."""
        self._write(epoch.pages)
        self.ram.set_dirty(epoch.cache_words, epoch.host_words)
        contender.flush(epoch)
        self._flushed(epoch)
        around = near(epoch.cache_words | epoch.host_words) if self._there is None else self._there
        self._compare(contender.name, around)
        left = self.ram.cache_dirty.any() or self.ram.host_dirty.any() or self.ram.dirty_pages
        if contender.group != "copy limit" and left:
            raise WrongResult(f"{contender.name}: dirty bits or a dirty count are left")

    def check_everything(self) -> None:
        """Compare all memory: WrongResult if a contender so far has written what it should not."""
        self._compare("one of the contenders", self._there)

    def _compare(self, who: str, pages: Words | None) -> None:
        if wrong := self._pages.first_wrong(pages):
            raise WrongResult(f"{who}: page {wrong.page} of block {wrong.block!r} is wrong")

    def run(self, pattern: Pattern, contenders: list[Contender], seconds: float) -> "Times":
        """Check every contender once, then time them in turn for about ``seconds`` seconds."""
        for contender in contenders:
            self.check(contender, pattern.epochs[0])
        self.check_everything()
        times: dict[str, list[int]] = {contender.name: [] for contender in contenders}
        order = random.Random(2016)
        begin = time.monotonic()
        number = 0
        while number < FEWEST_ROUNDS or (
            number < MOST_ROUNDS and time.monotonic() - begin < seconds
        ):
            epoch = pattern.epochs[number % len(pattern.epochs)]
            for contender in order.sample(contenders, len(contenders)):
                self.prepare(epoch)
                times[contender.name].append(contender.flush(epoch))
                self._flushed(epoch)
            number += 1
        return Times(pattern, {name: np.array(ns) for name, ns in times.items()})


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another: the median of the rounds' ratios, and their quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return in_full(vars(self))


@dataclass(frozen=True)
class Times:
    """Nanoseconds of each contender, by round."""

    pattern: Pattern
    by_name: dict[str, npt.NDArray[np.int64]]

    def median(self, name: str) -> float:
        """Median nanoseconds."""
        return float(np.median(self.by_name[name]))

    def fastest(self, names: list[str]) -> str:
        """The one with the lowest median."""
        return min(names, key=self.median)

    def ratio(self, name: str, to: str) -> Ratio:
        """How many times as fast ``name`` is as ``to``."""
        rounds = self.by_name[to] / self.by_name[name]
        low, median, high = np.quantile(rounds, (0.25, 0.5, 0.75))
        return Ratio(float(median), float(low), float(high))
