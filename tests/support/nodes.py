"""A machine with several NUMA nodes, as far as Linux tells impl of it: pretended, here on any machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

from impl import ColoRam
from impl.machine import nodes as machine
from impl.machine.nodes import UNKNOWN
from model.nodes import Run
from model.ram import Layout

#: The node on which the memory at an address lies.
LiesOn = Callable[[int], int]


@contextmanager
def several_nodes(
    lies_on: LiesOn, cpus: Sequence[int] = (0, 1), memory: Sequence[int] = (0, 1)
) -> Iterator[list[int]]:
    """Within the block CPU i is on node ``cpus[i]``; gives how many pages each call has asked about."""
    asked: list[int] = []

    def move_pages(addresses: np.ndarray) -> np.ndarray:
        asked.append(len(addresses))
        return np.array([lies_on(int(address)) for address in addresses], np.int32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "move_pages", move_pages)
        patch.setattr(machine, "nodes_of_cpus", lambda: np.array(cpus, np.int64))
        patch.setattr(machine, "nodes_with_memory", lambda: list(memory))
        yield asked


def by_runs(ram: ColoRam, runs: Sequence[Run]) -> LiesOn:
    """The memory of a RAM lies as these runs of pages say; nothing else is anywhere."""
    page_size = ram.layout.page_size
    places = [
        (ram.block(region.block.name).host.ctypes.data, region) for region in ram.layout.regions
    ]

    def lies_on(address: int) -> int:
        for start, region in places:
            page, inside = divmod(address - start, page_size)
            if 0 <= page < region.used_pages:
                assert inside == 0, "a page is asked for by its beginning"
                bit = region.first_bit + page
                return next(run.node for run in runs if run.lower <= bit < run.upper)
        return UNKNOWN

    return lies_on


@st.composite
def runs_of(draw: st.DrawFn, layout: Layout, nodes: int) -> tuple[Run, ...]:
    """Runs on these nodes, from bit 0 to the end of the bitmaps; borders anywhere in a word."""
    end = 64 * layout.words
    cuts = sorted({0, end, *draw(st.lists(st.integers(0, end), max_size=12))})
    return tuple(Run(draw(st.integers(0, nodes - 1)), *bounds) for bounds in pairwise(cuts))
