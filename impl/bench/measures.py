"""The benchmark's single measurements: dispatch, scan, backup, first touch, a busy core.

Each takes turns with what it is compared to and gives medians; see impl.bench.paired for why.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from impl.bench import copy_limit
from impl.bench.guests import TEBIBYTE, sparse_ram
from impl.bench.paired import Contender, PairedRuns
from impl.bench.patterns import Pattern
from impl.block import Block
from impl.pool import FlushPool, Strategy
from impl.ram import ColoRam

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Measure:
    """One number with what it is of. ``target`` says what it should be, "" if nothing is set."""

    what: str
    value: float
    unit: str
    target: str
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def at_most(what: str, value: float, unit: str, bound: float) -> Measure:
    """A measure that should not exceed a bound."""
    return Measure(what, value, unit, f"at most {bound:g}", value <= bound)


def at_least(what: str, value: float, unit: str, bound: float) -> Measure:
    """A measure that should reach a bound."""
    return Measure(what, value, unit, f"at least {bound:g}", value >= bound)


def plain(what: str, value: float, unit: str) -> Measure:
    """A measure without a target."""
    return Measure(what, value, unit, "", None)


def dispatch(pool: FlushPool, rounds: int = 3000) -> Iterator[Measure]:
    """An empty flush that still goes to every helper and waits for all: the static strategy."""
    ram = ColoRam([Block("ram", size=MEBIBYTE)])
    whole = float(np.median(_timed(lambda: pool.flush(ram), rounds))) / 1e3
    yield plain("pool.flush with nothing dirty, as Python calls it, median", whole, "us")
    for how, pause, count in (("back to back", 0.0, rounds), ("5 ms apart", 0.005, 200)):
        times = _timed(lambda: pool.flush(ram, "static"), count, pause) / 1e3
        median, p99 = np.median(times), np.quantile(times, 0.99)
        yield plain(f"empty flush to {pool.threads} threads, {how}, median", float(median), "us")
        what = f"empty flush to {pool.threads} threads, {how}, p99"
        yield at_most(what, float(p99), "us", 20) if pause == 0 else plain(what, float(p99), "us")


def _timed(work: Callable[[], object], count: int, pause: float = 0.0) -> npt.NDArray[Any]:
    times = np.empty(count)
    for number in range(count):
        if pause:
            time.sleep(pause)
        begin = time.perf_counter_ns()
        work()
        times[number] = time.perf_counter_ns() - begin
    return times


def _turns(rounds: int, one: Callable[[], object], other: Callable[[], object]) -> float:
    """How many times as long ``one`` takes as ``other``, median over rounds."""
    ratios = [_timed(one, 1)[0] / _timed(other, 1)[0] for _ in range(rounds)]
    return float(np.median(ratios))


def scan(pool: FlushPool) -> Iterator[Measure]:
    """The bitmaps of a 1 TiB guest with nothing dirty, against a plain read of both."""
    ram = sparse_ram(TEBIBYTE)
    # Written once, so that its pages are real: a page never written is all one zero page.
    ram.set_dirty(np.zeros(ram.layout.words, np.uint64), np.zeros(ram.layout.words, np.uint64))
    bitmaps = ram.cache_dirty, ram.host_dirty
    ratio = _turns(
        21, lambda: pool.flush(ram), lambda: [copy_limit.read(bitmap) for bitmap in bitmaps]
    )
    yield at_most("scan of a clean 1 TiB guest / plain read of its bitmaps", ratio, "x", 1.15)


def copy_bandwidth(pool: FlushPool, size: int) -> Iterator[Measure]:
    """The best whole-buffer copy in C: what the memory gives to one thread, and to all."""
    block = Block("ram", size=size)
    block.host[::4096] = block.cache[::4096] = 1
    for threads in sorted({1, pool.threads}):
        times: dict[str, list[int]] = {mode: [] for mode in copy_limit.MODES}
        for _ in range(7):
            for mode, taken in times.items():
                taken.append(copy_limit.copy_whole(block, threads, mode))
        best = min(float(np.median(taken)) for taken in times.values())
        yield plain(f"whole-buffer copy in C, threads: {threads}", size / best, "GB/s")


def backup(pool: FlushPool, size: int) -> Iterator[Measure]:
    """host -> cache of a whole RAM in parallel, against one memcpy by one thread."""
    ram = ColoRam([Block("ram", size=size)])
    block = ram.block("ram")
    block.host[::4096] = 1
    ram.backup(pool)
    ratio = _turns(
        11, lambda: copy_limit.copy_bytes(block.cache, block.host), lambda: ram.backup(pool)
    )
    yield at_least("backup / single-threaded memcpy", ratio, "x", 1.3)


def first_flush(pool: FlushPool, size: int) -> Iterator[Measure]:
    """The first flush of never-used pages, half of them dirty; then the next; and populated."""
    for populate in (False, True):
        ram = ColoRam([Block("ram", size=size)])
        ram.backup(pool, populate=populate)
        words = np.full(ram.layout.words, 0x5555_5555_5555_5555, np.uint64)
        how = "with backup(populate=True)" if populate else "of never-used pages"
        for which in ("first", "second"):
            ram.set_dirty(words, words)
            seconds = pool.flush(ram).seconds
            yield plain(f"{which} flush {how}", seconds * 1e3, "ms")


def busy_core(runs: PairedRuns, pattern: Pattern, pool: FlushPool) -> Iterator[Measure]:
    """One core kept busy by another process: all threads against our own single thread."""
    with _busy_neighbour():
        times = runs.run(
            pattern,
            [
                ours("alone", pool, runs.ram, "serial"),
                ours("together", pool, runs.ram, "dynamic"),
            ],
            seconds=4,
        )
    ratio = times.ratio("together", to="alone").median
    what = f"{pattern.name}, one core busy: {pool.threads} threads / one thread"
    yield at_least(what, ratio, "x", 0.9)


@contextmanager
def _busy_neighbour() -> Iterator[None]:
    cpu = max(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", spin])
    try:
        time.sleep(0.3)
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def ours(name: str, pool: FlushPool, ram: ColoRam, strategy: Strategy) -> Contender:
    """Our own flush as a contender."""

    def flush(_epoch: object) -> int:
        return round(pool.flush(ram, strategy).seconds * 1e9)

    return Contender(name, "ours", flush)
