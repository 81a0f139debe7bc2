"""``python -m impl bench --simulate --nodes N --remote R``: would a cursor for each NUMA node pay?

Computed, not timed: to copy a page takes 1 on its own node, and R from another. A worker takes its next
batch when it is free, by the steps of the model; a flush takes as long as its busiest worker. The
speed-up is over one thread to which every page is near. The page in the cache is taken to lie where the
host's does; threads are bound to nodes, in equal groups in order; neither cursors nor the bandwidth of a
node's memory cost anything.
"""

import argparse
import heapq
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from impl.bench.simulate import THREADS, Counts
from impl.bitmap import pages_of
from impl.display.terminal import Table, console
from impl.kernels.check_in import batch_size
from impl.traces.format import Trace
from model import shares
from model.boundary import options
from model.nodes import Run
from model.protocols import node_cursors
from model.protocols.node_cursors import FINISHED, FLUSH, TAKE, Taker
from model.ram import PAGES_PER_WORD, Layout

#: Linux has up to 1024; more than a machine has today.
MOST_NODES = 64
#: A huge page: the finest that the kernel interleaves a guest's memory by, if it gives it huge pages.
INTERLEAVED_BY = 2 << 20

Placement = Literal["in parts", "interleaved"]
PLACEMENTS: tuple[Placement, ...] = ("in parts", "interleaved")


def node_count(text: str) -> int:
    """A number of nodes, for argparse."""
    nodes = options.count(text)
    if nodes > MOST_NODES:
        raise argparse.ArgumentTypeError(f"{nodes} is no number of nodes: write 1 to {MOST_NODES}")
    return nodes


class Flushed(NamedTuple):
    """What a flush came to: its time, in copies of a near page; pages copied from another node.

    ``taken``: fetch-adds, those in vain included; ``stolen``: batches off another node's cursor.
    """

    time: float
    remote: int
    taken: int = 0
    stolen: int = 0


class Epoch(NamedTuple):
    """The dirty words of an epoch in order, with how many of their dirty pages lie on which node.

    ``words`` and ``nodes``, to which node each word belongs, are int64 (dirty words,), and ``pages`` is
    int64 (dirty words, nodes).
    """

    words: Counts
    nodes: Counts
    pages: Counts


def placed(layout: Layout, nodes: int, placement: Placement) -> list[Run]:
    """On which nodes a guest's pages lie, by their bits from 0 end to end.

    ``in parts``: its memory in order, in as many equal parts as nodes, as QEMU's ``-numa node`` has it.
    """
    end = layout.words * PAGES_PER_WORD
    if placement == "interleaved":
        step = max(1, INTERLEAVED_BY // layout.page_size)
        return [
            Run(number % nodes, lower, min(lower + step, end))
            for number, lower in enumerate(range(0, end, step))
        ]
    used = sorted((region.first_bit, region.used_pages) for region in layout.regions)
    total = sum(pages for _, pages in used)
    borders, below = [0], 0
    for first, pages in used:
        while len(borders) < nodes and total * len(borders) // nodes < below + pages:
            borders.append(first + total * len(borders) // nodes - below)
        below += pages
    borders += [end] * (nodes + 1 - len(borders))
    return [Run(node, *borders[node : node + 2]) for node in range(nodes)]


def epoch_on(dirty: npt.NDArray[np.int64], runs: Sequence[Run], nodes: int) -> Epoch:
    """The epoch whose dirty pages, in order, are these."""
    uppers = np.array([run.upper for run in runs])
    on = np.array([run.node for run in runs])

    def lies_on(pages: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = on[np.searchsorted(uppers, pages, side="right")]
        return found

    words, of_page = np.unique(dirty // PAGES_PER_WORD, return_inverse=True)
    pages = np.zeros((len(words), nodes), np.int64)
    np.add.at(pages, (of_page, lies_on(dirty)), 1)
    return Epoch(words, lies_on(words * PAGES_PER_WORD), pages)


def nodes_of(threads: int, nodes: int) -> list[int]:
    """The node of each thread."""
    return [thread * nodes // threads for thread in range(threads)]


def by_node(epoch: Epoch, threads: int, nodes: int, remote: float) -> Flushed:
    """A cursor a node."""
    return _off_cursors(epoch, nodes_of(threads, nodes), remote, epoch.nodes, nodes)


def off_one_cursor(epoch: Epoch, threads: int, nodes: int, remote: float) -> Flushed:
    """One cursor, as in a pool where memory lies on one node."""
    own = nodes_of(threads, nodes)
    return _off_cursors(epoch, own, remote, np.zeros_like(epoch.nodes), 1)


def _off_cursors(
    epoch: Epoch, own: Sequence[int], remote: float, cursor_of: Counts, cursors_in_all: int
) -> Flushed:
    order = np.argsort(cursor_of, kind="stable")
    pages = epoch.pages[order]
    near = np.vstack([np.zeros((1, pages.shape[1]), np.int64), pages.cumsum(axis=0)])
    before: list[int] = near.sum(axis=1).tolist()
    places = np.searchsorted(cursor_of[order], range(cursors_in_all + 1))
    begins = tuple(before[place] for place in places)
    grain = int(batch_size(np.uint64(before[-1]), np.uint64(len(own))))
    cursors, time, far, taken, stolen = begins[:-1], 0.0, 0, 0, 0
    # Of those who are free at one moment, whoever has asked fewer cursors in vain comes first.
    free = [
        (0.0, 0, thread, Taker(TAKE, node % cursors_in_all, 0, 0, 0))
        for thread, node in enumerate(own)
    ]
    while free:
        now, _, thread, taker = heapq.heappop(free)
        cursors, taker = node_cursors.step(cursors, begins, cursors_in_all, grain, taker)
        taken += 1
        if taker.step == FLUSH:
            first, last = shares.batch_words(before, taker.first, taker.last)
            here = int(near[last, own[thread]] - near[first, own[thread]])
            elsewhere = before[last] - before[first] - here
            far += elsewhere
            stolen += taker.used_up > 0
            now += here + remote * elsewhere
            time = max(time, now)
            cursors, taker = node_cursors.step(cursors, begins, cursors_in_all, grain, taker)
        if taker.step != FINISHED:
            heapq.heappush(free, (now, taker.used_up, thread, taker))
    return Flushed(time, far, taken, stolen)


def static(epoch: Epoch, pages: int, threads: int, nodes: int, remote: float) -> Flushed:
    """The patch's shares of the address space."""
    near = np.vstack([np.zeros((1, nodes), np.int64), epoch.pages.cumsum(axis=0)])
    time, far = 0.0, 0
    for thread, node in enumerate(nodes_of(threads, nodes)):
        lower, upper = shares.share(pages, threads, thread)
        ends = [lower // PAGES_PER_WORD, -(-upper // PAGES_PER_WORD)]
        first, last = np.searchsorted(epoch.words, ends)
        mine = near[last] - near[first]
        elsewhere = int(mine.sum() - mine[node])
        far += elsewhere
        time = max(time, float(mine[node] + remote * elsewhere))
    return Flushed(time, far)


def figures(
    trace: Trace, placement: Placement, nodes: int, remote: float
) -> Iterator[tuple[int, list[float]]]:
    """For each number of threads medians over the epochs after the first, if any.

    The speed-ups of static shares, one cursor and a cursor a node; what part of the pages is remote with
    each of the two; fetch-adds in all with each, and batches stolen, a flush.
    """
    runs = placed(trace.layout, nodes, placement)
    epochs = []
    for number in range(min(1, trace.epochs - 1), trace.epochs):
        dirty = np.union1d(
            pages_of(trace.cache_dirty[number]), pages_of(trace.host_dirty[number])
        ).astype(np.int64)
        if len(dirty):
            epochs.append(epoch_on(dirty, runs, nodes))
    for threads in THREADS[1:] if epochs else ():
        rows = []
        for epoch in epochs:
            total = int(epoch.pages.sum())
            shared = static(epoch, trace.layout.pages, threads, nodes, remote)
            one = off_one_cursor(epoch, threads, nodes, remote)
            many = by_node(epoch, threads, nodes, remote)
            speed_ups = [total / flushed.time for flushed in (shared, one, many)]
            far = [flushed.remote / total for flushed in (one, many)]
            rows.append([*speed_ups, *far, one.taken, many.taken, many.stolen])
        yield threads, [float(median) for median in np.median(rows, axis=0)]


def run(recorded: dict[str, Trace], nodes: int, remote: float) -> None:
    """Print a table for each trace and placement."""
    screen = console()
    for name, trace in recorded.items():
        for placement in PLACEMENTS:
            table = Table(
                title=f"{name}: speed-up on {nodes} nodes, memory {placement}, remote {remote:g}",
                title_justify="left",
            )
            for column in (
                *("threads", "static shares", "one cursor", "a cursor a node"),
                *("remote: one", "a node", "fetch-adds: one", "a node", "stolen"),
            ):
                table.add_column(column, justify="right")
            for threads, found in figures(trace, placement, nodes, remote):
                table.add_row(
                    str(threads),
                    *(f"{speed_up:.2f}" for speed_up in found[:3]),
                    *(f"{part:.0%}" for part in found[3:5]),
                    *(f"{number:.0f}" for number in found[5:]),
                )
            screen.print(table)
