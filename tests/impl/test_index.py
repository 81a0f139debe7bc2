"""The index of dirty pages: what a dynamic flush writes, made by one thread or by many."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from impl import FlushPool
from impl.kernels.check_in import _INDEXED_ALONE
from model.ram import Block, Layout
from model.shares import STRETCH, index_of
from tests.impl.test_flush import Pair
from tests.support.cases import PAGE_SIZE, Epoch

#: This number of words the caller indexes alone; of one more, helpers index some.
ALONE = int(_INDEXED_ALONE)
PAGES = 64 * STRETCH
USED = 70


@st.composite
def across_stretches(draw: st.DrawFn) -> Layout:
    """A few used pages where stretches of the index begin or end, with nothing between."""
    last = draw(st.sampled_from((0, STRETCH, ALONE - 1, ALONE, ALONE + 1, ALONE + 2 * STRETCH + 1)))
    stretches = draw(st.sets(st.integers(1, 1 + last // STRETCH), max_size=3))
    begins = {number * PAGES + draw(st.integers(-USED, 3)) for number in stretches}
    begins = {0, *(begin for begin in begins if USED < begin < 64 * last - 2 * USED)}
    if last:
        begins.add(64 * last - 1)  # its last pages are the only ones of the bitmaps' last words
    blocks = (
        Block(f"b{number}", begin * PAGE_SIZE, USED * PAGE_SIZE, USED * PAGE_SIZE)
        for number, begin in enumerate(sorted(begins))
    )
    return Layout(tuple(blocks), PAGE_SIZE, "global")


@settings(max_examples=40)
@given(across_stretches(), st.sampled_from((2, 3, 5)), st.integers(0, 2**32))
def test_helpers_index_a_large_ram_as_the_model_does(
    pools: dict[int, FlushPool], layout: Layout, threads: int, seed: int
) -> None:
    pair, drawn = Pair(layout, aligned=True), np.random.default_rng(seed)
    used = np.array(sorted(layout.used()))
    for number in range(2):
        cache, host = (frozenset(used[drawn.random(len(used)) < p].tolist()) for p in (0.5, 0.1))
        pair.dirty(Epoch(cache, host), number)
        union = (pair.ram.cache_dirty | pair.ram.host_dirty).tolist()
        pair.flush(pools[threads])
        within, below = (words.tolist() for words in pair.ram._now.index)
        assert (within, below) == index_of(union)


def test_what_is_counted_stops_where_it_decides_nothing(pools: dict[int, FlushPool]) -> None:
    """Few pages, or as many as there are: the same pages are copied and counted."""
    layout = Layout(
        (Block("b", 0, 3 * PAGES * PAGE_SIZE // 64, 3 * PAGES * PAGE_SIZE // 64),),
        PAGE_SIZE,
        "global",
    )
    for dirty in (0, 1, 500, 3 * PAGES // 64):
        pair = Pair(layout, aligned=True)
        pair.dirty(Epoch(frozenset(range(dirty)), frozenset()), 0)
        assert pair.flush(pools[3]).copied == dirty
