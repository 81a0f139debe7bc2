"""``python -m impl flush TRACE.npz``: replay a recorded trace, epoch by epoch, checked by the model.

Memory as large as the guest's is allocated, the pages of each epoch are rewritten as the primary and the
guest would, then flushed. After each epoch both bitmaps, the counts, the dirty count and every page whose
bitmap word had a dirty bit must be what the model says; after the last, every byte of every block. So a
replay takes time and memory for the pages that its trace is about: those near one that is ever dirty are
told from each other by stamps, all others are zero, and stay so. Address space that no page uses takes
no memory either: long holes in it are left out (impl.traces.holes).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from impl.bitmap import pages_of
from impl.display.terminal import Table, console
from impl.kernels.events import EventLog
from impl.machine.memory import check_memory
from impl.pool import STRATEGIES, FlushPool, Strategy
from impl.stats import FlushStats
from impl.traces import format as traces
from impl.traces.holes import without_holes
from impl.traces.stamped_ram import SIDES, StampedRam, near, ram_for
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
        # What the model holds is the stamps. Host and cache are as after a backup.
        self.pages = StampedRam(ram_for(self.trace))
        self.ram = self.pages.ram
        for side in SIDES:
            self.pages.write(side, near(_ever_dirty(self.trace)), author=0)

    def flush(self, epoch: int, *, every_byte: bool = False) -> FlushStats:
        """Flush one epoch; Difference if memory near a dirty page, bitmaps or counts are not the model's.

        ``every_byte``: or any other memory. It takes as long as reading all of it.
        """
        cache_words, host_words = self.trace.cache_dirty[epoch], self.trace.host_dirty[epoch]
        self.pages.write("cache", pages_of(cache_words), 2 * epoch + 1)
        self.pages.write("host", pages_of(host_words), 2 * epoch + 2)
        self.ram.set_dirty(cache_words, host_words)
        expected = self._expect(cache_words, host_words)
        stats = self.pool.flush(self.ram, self.strategy)
        self._compare(f"epoch {epoch}", stats, expected)
        self._check_memory(f"epoch {epoch}", None if every_byte else near(cache_words | host_words))
        return stats

    def finish(self) -> None:
        """After the last epoch: Difference if any byte is not the model's."""
        self._check_memory("after the last epoch (--every-byte finds the first)", None)

    def _expect(self, cache_words: Words, host_words: Words) -> spec.Flushed:
        cache_dirty, host_dirty = pages_of(cache_words).tolist(), pages_of(host_words).tolist()
        host = dict(zip(host_dirty, self.pages.host[host_dirty].tolist(), strict=True))
        cache = {page: int(self.pages.cache[page]) for page in {*cache_dirty, *host_dirty}}
        ram = spec.Ram(host, cache, set(cache_dirty), set(host_dirty), len(cache_dirty))
        done = spec.flush(ram, self.layout)
        changed = np.fromiter(ram.host.keys(), dtype=np.int64, count=len(ram.host))
        self.pages.host[changed] = np.array(list(ram.host.values()), dtype=np.uint64)
        return done

    def _compare(self, when: str, stats: FlushStats, expected: spec.Flushed) -> None:
        found = spec.Flushed(stats.copied, stats.host_dirty, stats.cache_dirty, stats.both_dirty)
        if found != expected:
            raise Difference(f"{when}: counted {found}, the model {expected}")
        if self.ram.cache_dirty.any() or self.ram.host_dirty.any():
            raise Difference(f"{when}: a dirty bit is left after the flush")

    def _check_memory(self, when: str, pages: Words | None) -> None:
        """Compare these pages, by their bits, or all: Difference if one is not the model's."""
        if wrong := self.pages.first_wrong(pages):
            raise Difference(
                f"{when}: {wrong.side} page {wrong.page} of block {wrong.block!r} "
                "is not what the model says"
            )


def _ever_dirty(trace: traces.Trace) -> Words:
    """The union of all its bitmaps."""
    ever = np.zeros(trace.layout.words, np.uint64)
    for bitmap in (*trace.cache_dirty, *trace.host_dirty):
        ever |= bitmap
    return ever


def add_command(commands: Any) -> None:
    """Register ``flush`` with the command line."""
    parser = commands.add_parser("flush", help="replay a recorded trace, checked by the model")
    parser.add_argument("trace", type=Path, metavar="TRACE.npz")
    parser.add_argument(
        "--threads", type=options.count, help="default: the CPUs this process may use"
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="dynamic")
    parser.add_argument(
        "--every-byte",
        action="store_true",
        help="compare all memory after each epoch, not after the last one only",
    )
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
                stats = replay.flush(epoch, every_byte=arguments.every_byte)
                table.add_row(*_row(epoch, stats, trace))
            replay.finish()
    except Difference as difference:
        screen.print(table)
        print(f"DIFFERENT: {printable(difference)}", file=sys.stderr)
        return 1
    screen.print(table)
    if events:
        events.write(arguments.events)
    print(
        f"{trace.epochs} epochs flushed by {pool.threads} threads ({arguments.strategy}): "
        "bitmaps, counts and memory around dirty pages equal the model's after each, "
        "every byte at the end"
    )
    return 0


def _row(epoch: int, stats: FlushStats, trace: traces.Trace) -> list[str]:
    rate = stats.copied * trace.layout.page_size / stats.seconds / 1e9
    recorded = trace.flush_seconds[epoch] * 1e3
    counts = (epoch, stats.cache_dirty, stats.host_dirty, stats.both_dirty, stats.copied)
    return [*map(str, counts), f"{stats.seconds * 1e3:.3f}", f"{rate:.1f}", f"{recorded:.3f}"]
