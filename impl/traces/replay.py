"""``python -m impl flush TRACE.npz``: replay a recorded trace, epoch by epoch, checked by the model.

Memory as large as the guest's is allocated and stamped, the pages of each epoch are rewritten as the
primary and the guest would, then flushed; afterwards every byte of every block, both bitmaps, the
counts and the dirty count must be what the model says. Address space that no page uses takes no
memory: long holes in it are left out (impl.traces.holes).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from impl.bitmap import pages_of
from impl.block import Block
from impl.display.terminal import Table, console
from impl.kernels.events import EventLog
from impl.machine.memory import check_memory
from impl.pool import STRATEGIES, FlushPool, Strategy
from impl.ram import ColoRam
from impl.stats import FlushStats
from impl.traces import format as traces
from impl.traces.holes import without_holes
from impl.traces.stamps import first_wrong_page, write_pages
from model import flush as spec
from model.boundary import options
from model.boundary.output import check_outputs, printable
from model.errors import ColoError

Words = npt.NDArray[np.uint64]

#: What the model's side of a replay takes for a page: stamps, and a dirty page as Python objects.
BYTES_OF_THE_MODEL = 400


class Difference(ColoError):
    """The flush did something else than the model."""


class Replay:
    """One secondary, flushed at every checkpoint of a trace next to the model."""

    def __init__(self, trace: traces.Trace, pool: FlushPool, strategy: Strategy) -> None:
        """Allocate and stamp. Raises TooLittleMemory before it takes any."""
        self.trace, self.pool, self.strategy = without_holes(trace), pool, strategy
        self.layout = self.trace.layout
        used_pages = sum(region.used_pages for region in self.layout.regions)
        each = 2 * self.layout.page_size + BYTES_OF_THE_MODEL
        check_memory(used_pages * each, f"a replay of this guest of {used_pages} pages")
        self.ram = ColoRam(
            [
                Block(b.name, size=b.used_length, max_size=b.max_length, offset=b.offset)
                for b in self.layout.blocks
            ],
            page_size=self.layout.page_size,
        )
        # What the model holds: the stamp of every page, by its bit.
        self.host_stamps = _stamps(0, np.arange(self.layout.pages, dtype=np.uint64))
        for region in self.layout.regions:
            stamps = self._of(region, self.host_stamps)
            every = np.arange(len(stamps), dtype=np.uint64)
            memory = self.ram.block(region.block.name).host
            write_pages(memory, self.layout.page_size, every, stamps)
        self.cache_stamps = self.host_stamps.copy()
        self.ram.backup(pool)

    def _of(self, region: Any, stamps: Words) -> Words:
        return stamps[region.bits.start : region.bits.stop]

    def flush(self, epoch: int) -> FlushStats:
        """Flush one epoch; Difference if memory, bitmaps or counts are not the model's."""
        cache_words, host_words = self.trace.cache_dirty[epoch], self.trace.host_dirty[epoch]
        self._write("cache", self.cache_stamps, pages_of(cache_words), 2 * epoch + 1)
        self._write("host", self.host_stamps, pages_of(host_words), 2 * epoch + 2)
        self.ram.set_dirty(cache_words, host_words)
        expected = self._expect(cache_words, host_words)
        stats = self.pool.flush(self.ram, self.strategy)
        self._compare(epoch, stats, expected)
        return stats

    def _write(self, side: str, stamps: Words, pages: Words, author: int) -> None:
        stamps[pages] = _stamps(author, pages)
        for region in self.layout.regions:
            first, last = np.searchsorted(pages, [region.bits.start, region.bits.stop])
            mine = pages[first:last]
            memory = getattr(self.ram.block(region.block.name), side)
            inside = mine - np.uint64(region.first_bit)
            write_pages(memory, self.layout.page_size, inside, stamps[mine])

    def _expect(self, cache_words: Words, host_words: Words) -> spec.Flushed:
        cache_dirty, host_dirty = pages_of(cache_words).tolist(), pages_of(host_words).tolist()
        host = dict(zip(host_dirty, self.host_stamps[host_dirty].tolist(), strict=True))
        cache = {page: int(self.cache_stamps[page]) for page in {*cache_dirty, *host_dirty}}
        ram = spec.Ram(host, cache, set(cache_dirty), set(host_dirty), len(cache_dirty))
        done = spec.flush(ram, self.layout)
        changed = np.fromiter(ram.host.keys(), dtype=np.int64, count=len(ram.host))
        self.host_stamps[changed] = np.array(list(ram.host.values()), dtype=np.uint64)
        return done

    def _compare(self, epoch: int, stats: FlushStats, expected: spec.Flushed) -> None:
        found = spec.Flushed(stats.copied, stats.host_dirty, stats.cache_dirty, stats.both_dirty)
        if found != expected:
            raise Difference(f"epoch {epoch}: counted {found}, the model {expected}")
        if self.ram.cache_dirty.any() or self.ram.host_dirty.any():
            raise Difference(f"epoch {epoch}: a dirty bit is left after the flush")
        for region in self.layout.regions:
            block = self.ram.block(region.block.name)
            for side, stamps in (("host", self.host_stamps), ("cache", self.cache_stamps)):
                memory = getattr(block, side)
                page = first_wrong_page(memory, self.layout.page_size, self._of(region, stamps))
                if page is not None:
                    raise Difference(
                        f"epoch {epoch}: {side} page {page} of block {block.name!r} "
                        "is not what the model says"
                    )


def _stamps(author: int, pages: Words) -> Words:
    """Stamps that differ between pages and authors; authors are numbered over the whole replay."""
    return (pages << np.uint64(24) | np.uint64(author)) << np.uint64(12)


def add_command(commands: Any) -> None:
    """Register ``flush`` with the command line."""
    parser = commands.add_parser("flush", help="replay a recorded trace, checked by the model")
    parser.add_argument("trace", type=Path, metavar="TRACE.npz")
    parser.add_argument(
        "--threads", type=options.count, help="default: the CPUs this process may use"
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="dynamic")
    parser.add_argument(
        "--events",
        type=Path,
        metavar="FILE.ndjson",
        help="what each worker did: python -m tests.trace",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay, print the table, return 0; 1 at the first difference."""
    check_outputs(arguments.events, inputs=[arguments.trace])
    trace = traces.load(arguments.trace)
    screen = console()
    table = Table(title=f"{printable(arguments.trace)}: {trace.source}", title_justify="left")
    for column in ("epoch", "cache", "host", "both", "copied", "ms", "GB/s", "recorded ms"):
        table.add_column(column, justify="right")
    events = EventLog() if arguments.events else None
    try:
        with FlushPool(arguments.threads, event_log=events) as pool:
            replay = Replay(trace, pool, arguments.strategy)
            terminal = console(stderr=True)
            steps = track(
                range(trace.epochs),
                "flushing",
                transient=True,
                console=terminal,
                disable=not terminal.is_terminal,
            )
            for epoch in steps:
                stats = replay.flush(epoch)
                table.add_row(*_row(epoch, stats, trace))
    except Difference as difference:
        screen.print(table)
        print(f"DIFFERENT: {printable(difference)}", file=sys.stderr)
        return 1
    screen.print(table)
    if events:
        events.write(arguments.events)
    print(
        f"{trace.epochs} epochs flushed by {pool.threads} threads ({arguments.strategy}): "
        "memory, bitmaps and counts equal the model's after each"
    )
    return 0


def _row(epoch: int, stats: FlushStats, trace: traces.Trace) -> list[str]:
    rate = stats.copied * trace.layout.page_size / stats.seconds / 1e9
    recorded = trace.flush_seconds[epoch] * 1e3
    counts = (epoch, stats.cache_dirty, stats.host_dirty, stats.both_dirty, stats.copied)
    return [*map(str, counts), f"{stats.seconds * 1e3:.3f}", f"{rate:.1f}", f"{recorded:.3f}"]
