"""Scaling past this machine: how well could a trace's pages be shared out among many threads?

Computed, not timed: a flush takes as long as its busiest worker, and a worker as long as its pages. The
best possible speed-up of a split is then all pages over the pages of the busiest worker.
"""

import heapq
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from impl import charts
from impl.join import claim_size
from impl.terminal import console
from impl.trace import Trace
from model import shares
from model.output import write_text

THREADS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Counts = npt.NDArray[np.int64]


def pages_by_word(trace: Trace, epoch: int) -> Counts:
    """Dirty pages (either bitmap) of each 64-page word, int64 (words,)."""
    union = trace.cache_dirty[epoch] | trace.host_dirty[epoch]
    counts: Counts = np.bitwise_count(union).astype(np.int64)
    return counts


def static(counts: Counts, pages: int, threads: int) -> float:
    """The patch's shares of the address space."""
    busiest = 0
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        busiest = max(busiest, int(counts[lower // 64 : -(-upper // 64)].sum()))
    return _speed_up(counts, busiest)


def dynamic(counts: Counts, threads: int) -> float:
    """Claims of dirty pages off a shared cursor, as impl.join; the next goes to who is free."""
    before = np.concatenate([[0], counts.cumsum()])
    dirty = int(before[-1])
    grain = int(claim_size(np.uint64(dirty), np.uint64(threads)))
    busy = [0] * threads
    for cursor in range(0, dirty, grain):
        first, last = shares.claim(cursor, grain, dirty)
        words = shares.claimed_words(before, first, last)
        heapq.heapreplace(busy, busy[0] + int(before[words[1]] - before[words[0]]))
    return _speed_up(counts, max(busy))


def by_dirty_pages(counts: Counts, threads: int) -> float:
    """Contiguous shares of equal dirty pages, cut at words."""
    total = np.concatenate([[0], counts.cumsum()])
    ideal = total[-1] * np.arange(1, threads) / threads
    cuts = total[np.searchsorted(total, ideal)]
    return _speed_up(counts, int(np.diff([0, *cuts, total[-1]]).max()))


def _speed_up(counts: Counts, busiest: int) -> float:
    return float(counts.sum() / busiest) if busiest else 1.0


def speed_ups(trace: Trace) -> Iterator[tuple[int, float, float, float]]:
    """(threads, static, dynamic, by dirty pages): medians over the epochs from the second on."""
    epochs = [pages_by_word(trace, epoch) for epoch in range(1, trace.epochs)]
    for threads in THREADS:
        yield (
            threads,
            float(np.median([static(counts, trace.layout.pages, threads) for counts in epochs])),
            float(np.median([dynamic(counts, threads) for counts in epochs])),
            float(np.median([by_dirty_pages(counts, threads) for counts in epochs])),
        )


def run(recorded: dict[str, Trace], json_file: Path | None, plot_file: Path | None) -> int:
    """``python -m impl bench --simulate``: one table a trace; 0."""
    screen = console()
    found = {name: list(speed_ups(trace)) for name, trace in recorded.items()}
    for name, rows in found.items():
        table = Table(title=f"{name}: best possible speed-up", title_justify="left")
        for column in ("threads", "static shares", "dynamic claims", "equal dirty pages"):
            table.add_column(column, justify="right")
        for threads, *figures in rows:
            table.add_row(str(threads), *(f"{figure:.2f}" for figure in figures))
        screen.print(table)
    if json_file:
        write_text(json_file, json.dumps(found, indent=2) + "\n")
    if plot_file:
        charts.draw_scaling(found, plot_file)
    return 0
