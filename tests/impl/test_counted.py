"""What the caller flushes alone: from the first dirty word to behind the last that was counted."""

from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impl import FlushPool
from impl.kernels.flush import _COUNTED_AT_ONCE, count_either
from impl.pool import Strategy
from impl.tuning import Tuning
from model.ram import Block, Layout
from tests.impl.test_flush import Pair
from tests.support.cases import PAGE_SIZE, Epoch
from tests.support.children import in_a_child

#: Words that are counted at once.
AT_ONCE = int(_COUNTED_AT_ONCE)
#: Where there are more pages the number decides nothing, and counting stops.
ENOUGH = 8
#: By whom, and how: without helpers, and with helpers that are not called.
ALONE: list[tuple[int, Strategy]] = [(1, "dynamic"), (1, "queue"), (3, "serial")]


@pytest.fixture(scope="module")
def counting() -> Iterator[dict[int, FlushPool]]:
    """Pools by their threads, to which no number of pages above ENOUGH makes a difference."""
    tuning = Tuning(ordinary_below_bytes=ENOUGH * PAGE_SIZE, serial_below_bytes=0)
    made = {threads: FlushPool(threads, tuning=tuning) for threads in (1, 3)}
    yield made
    for pool in made.values():
        pool.close()


@st.composite
def far_apart(draw: st.DrawFn) -> Layout:
    """Blocks of a few used pages around the words where counting begins, goes on or ends."""
    first = draw(st.sampled_from((0, 1, 31, AT_ONCE - 1, AT_ONCE + 200)))
    behind = (number * AT_ONCE + more for number in (1, 2) for more in (-2, 0, 1, 30))
    places = draw(st.sets(st.sampled_from(sorted(behind)), max_size=4))
    blocks: list[Block] = []
    for word in (first, *(first + place for place in sorted(places))):
        begin = 64 * word + draw(st.sampled_from((0, 1, 62)))
        used, more = draw(st.sampled_from((66, 12, 1))), draw(st.sampled_from((0, 0, 100)))
        if not blocks or 64 * word >= (blocks[-1].offset + blocks[-1].max_length) // PAGE_SIZE:
            sizes = (number * PAGE_SIZE for number in (begin, used, used + more))
            blocks.append(Block(f"b{len(blocks)}", *sizes))
    return Layout(tuple(blocks), PAGE_SIZE, "global")


@st.composite
def epochs(draw: st.DrawFn, layout: Layout) -> Epoch:
    """As many pages as are counted, one less or more, or others: in either bitmap, or one in both."""
    used = sorted(layout.used())
    number = draw(st.sampled_from((0, 1, ENOUGH - 1, ENOUGH, ENOUGH + 1, len(used))))
    ends = {bit for region in layout.regions for bit in (region.bits[0], region.bits[-1])}
    anywhere = Random(draw(st.integers(0, 2**32))).sample(used, min(number, len(used)))
    # Counted first, and the last one of the RAM: it may lie beyond what is counted.
    in_a_row = [*used[:number], used[-1]]
    dirty = draw(st.sampled_from((anywhere, in_a_row, sorted(ends), used[number:])))
    cut = draw(st.integers(0, len(dirty)))
    return Epoch(frozenset(dirty[:cut]), frozenset(dirty[max(0, cut - 1) :]))


def as_counted(union: list[int], n_words: int, enough: int) -> tuple[int, int, int]:
    """What count_either says, in numbers of pages that are left."""
    first = last = union[0] // 64 if union else n_words
    left = list(union)
    while left and len(union) - len(left) <= enough:
        last = min(left[0] // 64 + AT_ONCE, n_words)
        left = [bit for bit in left if bit >= 64 * last]
    return len(union) - len(left), first, n_words if left else last


@given(st.data())
def test_the_words_that_hold_all_dirty_pages_are_named(data: st.DataObject) -> None:
    pair = Pair(layout := data.draw(far_apart()), aligned=True)
    pair.dirty(epoch := data.draw(epochs(layout)), 0)
    union = sorted(epoch.cache_dirty | epoch.host_dirty)
    for enough in (0, 1, ENOUGH - 1, ENOUGH, ENOUGH + 1):
        found = count_either(pair.ram.job, np.uint64(enough))
        assert found == as_counted(union, layout.words, enough)
        pages, first, last = found
        assert pages == len(union) or enough < pages <= len(union)
        assert all(first <= bit // 64 < last <= layout.words for bit in union)


@pytest.mark.parametrize(("threads", "strategy"), ALONE)
@settings(max_examples=40)
@given(data=st.data())
def test_the_caller_alone_flushes_all_of_them(
    counting: dict[int, FlushPool], threads: int, strategy: Strategy, data: st.DataObject
) -> None:
    pair = Pair(layout := data.draw(far_apart()), aligned=True)
    for number in range(2):
        pair.dirty(data.draw(epochs(layout)), number)
        pair.flush(counting[threads], strategy)


@pytest.mark.parametrize("dirty", [1, ENOUGH, ENOUGH + 1, 40])
def test_so_does_a_child_without_helpers(counting: dict[int, FlushPool], dirty: int) -> None:
    """Its pages are spread over several times as many words as are counted at once."""
    pages = [number * AT_ONCE * 8 for number in range(40)]
    blocks = (Block(f"b{page}", page * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE) for page in pages)
    pair = Pair(Layout(tuple(blocks), PAGE_SIZE, "global"), aligned=True)
    pair.dirty(Epoch(frozenset(pages[-dirty:]), frozenset(pages[:1])), 0)

    def child() -> None:
        pair.flush(counting[3])

    assert in_a_child(child) == 0
