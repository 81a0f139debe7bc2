"""A fifth of a second of flushes, or more: which way takes how long, by size, on this machine.

As between two checkpoints, pages all over a RAM are written, other memory is read, the pages are flushed.
The ways take turns, so that a machine whose speed drifts slows all alike; more rounds are added until the
time is over. Everything is measured from outside, with pools whose tuning says which way to go.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np

from impl.bitmap import bitmap_of
from impl.block import Block
from impl.calibration.decide import copying_limits
from impl.calibration.figures import Figures, Times
from impl.machine.cpus import usable_cpus
from impl.machine.memory import check_memory, sparse_memory
from impl.ram import ColoRam
from impl.stats import FlushStats
from impl.tuning import Tuning

PAGE_SIZE = 4096
KIBIBYTE, MEBIBYTE, GIBIBYTE = 1 << 10, 1 << 20, 1 << 30
ALL = 2**64 - 1
#: Half of its pages are dirty at most.
RAM_BYTES = 32 * MEBIBYTE
#: So far up it lies: bits for a guest of 2 GiB are counted and indexed, which is dearer for helpers.
OFFSET_BYTES = 2 * GIBIBYTE - RAM_BYTES
#: Read before each flush, as the rest of a machine uses memory between two checkpoints.
OTHER_BYTES = 16 * MEBIBYTE
#: Dirty bytes at which the ways of copying are compared.
COPYING_SIZES = (*(n * KIBIBYTE for n in (16, 64, 256)), *(n * MEBIBYTE for n in (1, 4, 16)))
#: And a caller alone with all threads: close together where a thread wakes about as soon as it ends.
HELPING_SIZES = (*(n * KIBIBYTE for n in (256, 384, 512, 768)), *(n * MEBIBYTE for n in (1, 2, 4)))
#: Sizes up to this take turns twice as often: they vary more, and cost less.
OFTEN_UP_TO = MEBIBYTE
#: How long it takes, and when each part is over, as shares of that.
SECONDS = 0.18
COPYING_SHARE, HELPING_SHARE, ASLEEP_SHARE, AWAKE_SHARE = 0.6, 0.88, 0.96, 1
#: Where there is at least so much time, this share of it is kept for pages far apart. There and on both
#: sides they are more than most caches hold, and a page of page tables has no more than a line for each.
APART_FROM_SECONDS, APART_SHARE = 1, 0.25
APART_PAGES, APART_PARTS = 32768, 8
APART_STRIDE = 8 * PAGE_SIZE
#: A pool of more threads takes too long to make for that.
MOST_THREADS = 16
# Longer than a helper takes to go to sleep, and its processor.
ASLEEP_SECONDS = 1e-3
EMPTY_ROUNDS = 12
# Longer than all of them take.
AWAKE = 10**9


class Flushes(Protocol):
    """What is measured: a FlushPool."""

    def flush(self, ram: ColoRam, strategy: Literal["dynamic", "static", "serial"]) -> FlushStats:
        """Flush every dirty page."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class MakesPools(Protocol):
    """The class FlushPool, which stands above this module."""

    def __call__(self, threads: int, *, tuning: Tuning) -> Flushes:
        """A pool."""


#: The pool that copies in one way, whatever the size.
COPYING = {
    "ordinary": Tuning(ordinary_below_bytes=ALL),
    "fetching": Tuning(ordinary_below_bytes=0, fetching_below_bytes=ALL),
    "streaming": Tuning(ordinary_below_bytes=0, fetching_below_bytes=0),
}
#: And those that are compared where pages lie far apart.
COPYING_APART = {
    "streaming": COPYING["streaming"],
    "a line of the host": replace(COPYING["streaming"], fetching_host=True),
}


def measure(
    make_pool: MakesPools, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Figures:
    """Measure for so long by ``clock``. Raises ColoError if there are no memory or threads for it."""
    begin = clock()
    at_length = seconds >= APART_FROM_SECONDS
    usually = seconds * (1 - APART_SHARE if at_length else 1)

    def until(end: float) -> Callable[[], bool]:
        return lambda: clock() - begin < end

    apart_bytes = 2 * APART_PAGES * PAGE_SIZE if at_length else 0
    check_memory(2 * RAM_BYTES + OTHER_BYTES + apart_bytes, "a calibration")
    threads = min(usable_cpus(), MOST_THREADS)
    ran = time.thread_time()
    guest = _Guest()
    copying = _copying(make_pool, guest, until(usually * COPYING_SHARE))
    running = (time.thread_time() - ran) / (clock() - begin)
    helping, sleeping = dict[int, Times](), Times()
    if threads > 1:
        copies = copying_limits(copying)
        helping = _helping(make_pool, guest, threads, copies, until(usually * HELPING_SHARE))
        sleeping = {
            "asleep": _empty_rounds(make_pool, guest, threads, 0, until(usually * ASLEEP_SHARE)),
            "awake": _empty_rounds(make_pool, guest, threads, AWAKE, until(usually * AWAKE_SHARE)),
        }
    apart = _apart(make_pool, threads, until(seconds)) if at_length else Times()
    return Figures(copying, helping, sleeping, apart, running)


class _Guest:
    """A RAM of which some pages are written before each flush."""

    def __init__(self) -> None:
        block = Block("calibration", size=RAM_BYTES, offset=OFFSET_BYTES)
        self.ram = ColoRam([block], page_size=PAGE_SIZE)
        self._memories = [
            m.view(np.uint64).reshape(-1, PAGE_SIZE // 8) for m in (block.host, block.cache)
        ]
        self._other = np.ones(OTHER_BYTES // 8, np.uint64)
        self._random = np.random.default_rng(2016)
        self._written = 0

    def dirty(self, dirty_bytes: int) -> None:
        """Between two checkpoints: pages written on both sides, other memory read, bits set."""
        n_pages, n_dirty = RAM_BYTES // PAGE_SIZE, dirty_bytes // PAGE_SIZE
        pages = np.sort(self._random.choice(n_pages, n_dirty, replace=False))
        self._written += 1
        for memory in self._memories:
            memory[pages] = self._written
        self._other.max()
        words = bitmap_of(OFFSET_BYTES // PAGE_SIZE + pages, self.ram.layout.words)
        self.ram.set_dirty(words, words)


def _copying(make_pool: MakesPools, guest: _Guest, in_time: Callable[[], bool]) -> dict[int, Times]:
    with ExitStack() as open_pools:
        pools = {
            way: open_pools.enter_context(make_pool(1, tuning=tuning))
            for way, tuning in COPYING.items()
        }

        def flush(way: str, dirty_bytes: int) -> int:
            guest.dirty(dirty_bytes)
            return _took(pools[way].flush(guest.ram, "serial"))

        return _in_turn(COPYING_SIZES, tuple(COPYING), flush, in_time)


def _helping(
    make_pool: MakesPools,
    guest: _Guest,
    threads: int,
    copies: Tuning,
    in_time: Callable[[], bool],
) -> dict[int, Times]:
    """Both copy as a pool here will: what helpers bring hangs on how fast the caller is alone."""
    tuning = replace(copies, serial_below_bytes=0, awake_nanoseconds=0)
    with make_pool(threads, tuning=tuning) as pool:

        def flush(way: str, dirty_bytes: int) -> int:
            guest.dirty(dirty_bytes)
            return _took(pool.flush(guest.ram, "serial" if way == "alone" else "dynamic"))

        return _in_turn(HELPING_SIZES, ("alone", "together"), flush, in_time)


def _empty_rounds(
    make_pool: MakesPools, guest: _Guest, threads: int, awake: int, in_time: Callable[[], bool]
) -> list[int]:
    """Rounds that go to every helper and wait for all, with nothing to do: the static strategy."""
    times: list[int] = []
    guest.dirty(0)
    with make_pool(threads, tuning=Tuning(awake_nanoseconds=awake)) as pool:
        pool.flush(guest.ram, "static")
        while in_time() and len(times) < EMPTY_ROUNDS:
            time.sleep(0 if awake else ASLEEP_SECONDS)
            times.append(_took(pool.flush(guest.ram, "static")))
    return times


def _apart(make_pool: MakesPools, threads: int, in_time: Callable[[], bool]) -> Times:
    """Of pages that neither the cache nor, by its page tables, the processor has at hand.

    Nothing where their addresses are refused.
    """
    try:
        host, cache = (sparse_memory(APART_PAGES * APART_STRIDE) for _ in range(2))
    except OSError:
        return {}
    ram = ColoRam([Block("calibration", host=host, cache=cache)], page_size=PAGE_SIZE)
    pages = np.arange(0, ram.layout.pages, APART_STRIDE // PAGE_SIZE)
    for memory in (ram.block("calibration").host, ram.block("calibration").cache):
        memory[pages * PAGE_SIZE] = 1
    parts = cycle([bitmap_of(pages[i::APART_PARTS], ram.layout.words) for i in range(APART_PARTS)])
    with ExitStack() as open_pools:
        pools = {
            way: open_pools.enter_context(
                make_pool(
                    threads, tuning=replace(tuning, serial_below_bytes=0, awake_nanoseconds=0)
                )
            )
            for way, tuning in COPYING_APART.items()
        }

        def flush(way: str, _: int) -> int:
            words = next(parts)
            ram.set_dirty(words, words)
            return _took(pools[way].flush(ram, "dynamic"))

        size = APART_PAGES // APART_PARTS * PAGE_SIZE
        return _in_turn((size,), tuple(pools), flush, in_time)[size]


def _in_turn(
    sizes: tuple[int, ...],
    ways: tuple[str, ...],
    flush: Callable[[str, int], int],
    in_time: Callable[[], bool],
) -> dict[int, Times]:
    """Rounds over all sizes and ways, these in another order each time, while there is time."""
    times: dict[int, Times] = {size: {way: [] for way in ways} for size in sizes}
    order = random.Random(2016)
    for size in _again(sizes):
        for way in order.sample(ways, len(ways)):
            if not in_time():
                return times
            times[size][way].append(flush(way, size))
    return times


def _again(sizes: tuple[int, ...]) -> Iterator[int]:
    """The sizes over and over, the small ones twice as often."""
    while True:
        yield from sizes
        yield from (size for size in sizes if size <= OFTEN_UP_TO)


def _took(stats: FlushStats) -> int:
    return round(stats.seconds * 1e9)
