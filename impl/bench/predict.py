"""``python -m impl bench --predict``: what larger guests and more threads gain, by what each part costs.

What a pass over the bitmaps, a copy and a wake-up cost is measured here, and how long a flush would take
is computed from it: if one thread counted all of the union and then indexed it; if it stopped counting
where nobody needs the number; if, as it is now, all helpers indexed it; if helpers woke two more each, or
only as many were woken as bring something. Computed is not measured: copying and scanning are taken to
speed up with every thread until MEMORY_THREADS of them use all that the memory gives, helpers to have a
processor each.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from impl.arrays import address
from impl.bench.guests import DIRTY, LARGE, PAGE_SIZE, TEBIBYTE, sparse_ram
from impl.block import Block
from impl.display.terminal import Table, console
from impl.kernels.compile import compile_kernels
from impl.kernels.flush import count_words, index_words, next_dirty_word
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.tuning import Tuning

#: How many threads it takes to use all of the memory's bandwidth: a server's, on one node.
MEMORY_THREADS = 8
GUESTS = {"4 GiB": 4 << 30, **LARGE}
THREADS = (1, 2, 4, 16, 64, 256)
HELPERS = (1, 2, 4, 8, 16)
ROUNDS = 15
#: A sixteenth of it, host and cache, is twice what a last-level cache of 32 MiB holds.
COPIED_RAM = 512 << 20

Way = Literal["two passes", "one pass", "shared pass", "and a tree", "and few woken"]
#: The third is what a flush does now; the last two are that with helpers woken in another way.
WAYS: tuple[Way, ...] = ("two passes", "one pass", "shared pass", "and a tree", "and few woken")
#: At this number of dirty pages counting stops: what lies beyond decides nothing any more.
COUNTED = max(Tuning().ordinary_below_bytes, Tuning().serial_below_bytes) // PAGE_SIZE


@dataclass(frozen=True)
class Woken:
    """Seconds from the beginning of a round until somebody works, where all helpers were asleep."""

    helpers: int
    caller: float
    """it has woken all of them first"""
    first: float
    last: float
    """of the helpers"""


@dataclass(frozen=True)
class Costs:
    """Seconds on one machine; those of a pass for each byte of the two bitmaps together."""

    scan: float
    """looking for dirty words where there are none"""
    count: float
    """counting dirty pages"""
    index: float
    """writing how many are below each word"""
    copy: float
    """of a dirty page, by one thread"""
    wake: float
    """of the caller's time, for each helper that it wakes"""
    arrive: float
    """from then until the helper works"""
    woken: tuple[Woken, ...]
    """what these two are from"""


def measure_costs() -> Costs:
    """On this machine, as it is now: medians of a few rounds each."""
    woken = tuple(_woken(helpers) for helpers in HELPERS)
    # For each helper more the caller takes a little longer; the rest of what one takes is its own.
    slope = max(float(np.polyfit(HELPERS, [row.caller for row in woken], 1)[0]), 0.0)
    return Costs(*_passes(), _copying(), slope, max(woken[0].first - slope, 0.0), woken)


def _passes() -> tuple[float, float, float]:
    """Of a 1 TiB guest: (scan, count, index)."""
    compile_kernels()
    ram = sparse_ram(TEBIBYTE)
    size = ram.cache_dirty.nbytes + ram.host_dirty.nbytes
    bitmaps = address(ram.cache_dirty), address(ram.host_dirty)
    every_word = np.uint64(0), np.uint64(ram.layout.words)

    def took(kernel: Callable[..., object], *arguments: object) -> float:
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            kernel(*arguments)
            times.append(time.perf_counter() - begin)
        return float(np.median(times)) / size

    return (
        took(next_dirty_word, *bitmaps, *every_word),
        took(count_words, *bitmaps, *every_word),
        took(index_words, ram.job, *every_word),
    )


def _copying() -> float:
    """Of every 16th page of a RAM."""
    ram = ColoRam([Block("ram", size=COPIED_RAM)])
    block = ram.block("ram")
    pages = np.arange(0, ram.layout.pages, 16)
    for memory in (block.host, block.cache):
        memory.reshape(-1, PAGE_SIZE)[pages] = 1  # else all of it is one page of zeros
    words = np.full(ram.layout.words, 0x0001_0001_0001_0001, np.uint64)
    times = []
    with FlushPool(1) as pool:
        for _ in range(ROUNDS):
            ram.set_dirty(words, words)
            times.append(pool.flush(ram).seconds)
    return float(np.median(times[1:])) / len(pages)


def _woken(helpers: int) -> Woken:
    """Of static rounds, to which all helpers come, also where they are more than the processors."""
    ram = ColoRam([Block("ram", size=PAGE_SIZE)])
    times = []
    with FlushPool(helpers + 1, tuning=Tuning(awake_nanoseconds=0)) as pool:
        for _ in range(ROUNDS):
            time.sleep(1e-3)
            begin = time.monotonic_ns()
            caller, *others = (w.begin_ns - begin for w in pool.flush(ram, "static").workers)
            times.append((caller, min(others), max(others)))
    return Woken(helpers, *(float(median) / 1e9 for median in np.median(times, axis=0)))


def seconds(costs: Costs, guest: int, threads: int, way: Way) -> float:
    """How long a flush would take of a guest, in bytes, of which DIRTY is dirty."""
    pages = guest // PAGE_SIZE
    bitmaps = 2 * pages / 8
    work = bitmaps * costs.scan + pages * DIRTY * costs.copy
    index = bitmaps * costs.index
    count = bitmaps * costs.count
    if way != "two passes":
        count *= min(1, COUNTED / (pages * DIRTY))
    if threads == 1:
        return count + work
    if way in ("two passes", "one pass"):
        return count + index + _shared(work, _row(costs, threads))
    # Each begins to index when it comes, and goes on to copy.
    if way == "and a tree":
        return count + _shared(index + work, _tree(costs, threads))
    fewest = 2 if way == "and few woken" else threads
    numbers = range(fewest, threads + 1)
    return count + min(_shared(index + work, _row(costs, number)) for number in numbers)


def _row(costs: Costs, threads: int) -> list[float]:
    """When each thread begins: the caller wakes one helper after the other, then works itself."""
    woken = [number * costs.wake for number in range(1, threads)]
    return [woken[-1], *(at + costs.arrive for at in woken)]


def _tree(costs: Costs, threads: int) -> list[float]:
    """Whoever is woken wakes two more before it works."""
    begins = [2 * costs.wake]
    for number in range(1, threads):
        above = begins[(number - 1) // 2]  # it began after both wake-ups
        late = 0 if number % 2 == 0 else costs.wake
        begins.append(above - late + costs.arrive + 2 * costs.wake)
    return begins


def _shared(work: float, begins: Sequence[float]) -> float:
    """When seconds of one thread's work are done by threads that begin at these moments.

    The first is the caller, which does not return before it has woken whom it wakes.
    """
    caller, done = begins[0], 0.0
    begins = sorted(begins)
    for number, begin in enumerate(begins):
        later = begins[number + 1] if number + 1 < len(begins) else math.inf
        speed = min(number + 1, MEMORY_THREADS)
        if done + (later - begin) * speed >= work:
            return max(begin + (work - done) / speed, caller)
        done += (later - begin) * speed
    raise AssertionError("the last one has for ever")


def table(costs: Costs) -> Iterator[tuple[str, int, list[float]]]:
    """Guest, threads, and seconds by each of WAYS."""
    for name, guest in GUESTS.items():
        for threads in THREADS:
            yield name, threads, [seconds(costs, guest, threads, way) for way in WAYS]


def _who_comes_when(woken: Sequence[Woken]) -> Table:
    shown = Table(title="All asleep: microseconds until one works", title_justify="left")
    for column in ("helpers", "the caller", "the first helper", "the last"):
        shown.add_column(column, justify="right")
    for row in woken:
        times = (f"{1e6 * one:.1f}" for one in (row.caller, row.first, row.last))
        shown.add_row(str(row.helpers), *times)
    return shown


def run(measure: Callable[[], Costs] = measure_costs) -> None:
    """Measure the costs, and print them and what follows."""
    costs = measure()
    bitmap = (f"{1 / getattr(costs, name) / 1e9:.1f} GB/s" for name in ("scan", "count"))
    index = f"{1 / costs.index / 1e9:.1f} GB/s" if costs.index else "not to be measured"
    for what, cost in (
        *zip(("scan", "count"), bitmap, strict=True),
        *(("index", index), ("copy of a page", f"{costs.copy * 1e9:.0f} ns")),
        ("to wake a helper", f"{costs.wake * 1e6:.1f} us"),
        ("until it works", f"{costs.arrive * 1e6:.1f} us"),
    ):
        print(f"measured: {what}: {cost}")
    console().print(_who_comes_when(costs.woken))
    shown = Table(
        title=f"{DIRTY:.1%} dirty: milliseconds of a flush, computed", title_justify="left"
    )
    for column in ("guest", "threads", *WAYS):
        shown.add_column(column, justify="right")
    for name, threads, times in table(costs):
        shown.add_row(name, str(threads), *(f"{1e3 * one:.3f}" for one in times))
    console().print(shown)
