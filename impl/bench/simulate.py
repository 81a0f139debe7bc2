"""Scaling past this machine: how well could a trace's pages be shared out among many threads?

Computed, not timed: a flush takes as long as its busiest worker, and a worker as long as its pages. The
best possible speed-up of a split is then all pages over the pages of the busiest worker.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from impl.bench import charts
from impl.bitmap import pages_of
from impl.display.terminal import Table, console
from impl.kernels.check_in import batch_size
from impl.traces.format import Trace
from model import shares
from model.ram import PAGES_PER_WORD

THREADS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Counts = npt.NDArray[np.int64]
#: By trace, what :func:`speed_ups` yields.
SpeedUps = dict[str, list[tuple[int, float, float, float]]]


class DirtyWords(NamedTuple):
    """The words of an epoch with a dirty page in either bitmap, in order: int64 (dirty words,)."""

    places: Counts
    pages: Counts


def dirty_words(trace: Trace, epoch: int) -> DirtyWords:
    """The dirty words of an epoch, and how many pages are dirty in each."""
    return words_of(
        np.union1d(pages_of(trace.cache_dirty[epoch]), pages_of(trace.host_dirty[epoch]))
    )


def words_of(pages: npt.NDArray[np.uint64]) -> DirtyWords:
    """The words of these pages, and how many of them are in each."""
    return DirtyWords(*np.unique(pages.astype(np.int64) // PAGES_PER_WORD, return_counts=True))


def static(dirty: DirtyWords, pages: int, threads: int) -> float:
    """The patch's shares of the address space."""
    before = np.concatenate([[0], dirty.pages.cumsum()])
    busiest = 0
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        first, last = np.searchsorted(
            dirty.places, [lower // PAGES_PER_WORD, -(-upper // PAGES_PER_WORD)]
        )
        busiest = max(busiest, int(before[last] - before[first]))
    return _speed_up(dirty.pages, busiest)


def dynamic(counts: Counts, threads: int) -> float:
    """Batches of dirty pages off a shared cursor, as in a pool; the next goes to who is free."""
    before: list[int] = [0, *counts.cumsum().tolist()]
    dirty = before[-1]
    grain = int(batch_size(np.uint64(dirty), np.uint64(threads)))
    busy = [0] * threads
    for cursor in range(0, dirty, grain):
        first, last = shares.batch(cursor, grain, dirty)
        words = shares.batch_words(before, first, last)
        heapq.heapreplace(busy, busy[0] + before[words[1]] - before[words[0]])
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
    """As :func:`of_epochs`, of the epochs after the first, if any."""
    epochs = [dirty_words(trace, epoch) for epoch in range(min(1, trace.epochs - 1), trace.epochs)]
    return of_epochs(epochs, trace.layout.pages, THREADS)


def of_epochs(
    epochs: Sequence[DirtyWords], pages: int, numbers: Iterable[int]
) -> Iterator[tuple[int, float, float, float]]:
    """(threads, static, dynamic, by dirty pages) for each number of threads: medians over the epochs."""
    for threads in numbers:
        yield (
            threads,
            float(np.median([static(dirty, pages, threads) for dirty in epochs])),
            float(np.median([dynamic(dirty.pages, threads) for dirty in epochs])),
            float(np.median([by_dirty_pages(dirty.pages, threads) for dirty in epochs])),
        )


def run(recorded: dict[str, Trace], plot_file: Path | None) -> SpeedUps:
    """``python -m impl bench --simulate``: one table a trace."""
    screen = console()
    found = {name: list(speed_ups(trace)) for name, trace in recorded.items()}
    for name, rows in found.items():
        table = Table(title=f"{name}: best possible speed-up", title_justify="left")
        for column in ("threads", "static shares", "dynamic batches", "equal dirty pages"):
            table.add_column(column, justify="right")
        for threads, *figures in rows:
            table.add_row(str(threads), *(f"{figure:.2f}" for figure in figures))
        screen.print(table)
    if plot_file:
        charts.draw_scaling(found, plot_file)
    return found
