"""Stray bits: the search for one finds what the spec refuses, in the gaps that the kernels are given."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from impl.job import _gaps
from model import strays
from model.page.picture import words_of
from model.ram import Layout
from tests.support.cases import layouts


def in_order(layout: Layout) -> list[tuple[int, int]]:
    return [(first, last) for first, last in strays.gaps(layout) if first < last]


@given(layouts(), st.data())
def test_the_search_finds_what_the_spec_refuses(layout: Layout, data: st.DataObject) -> None:
    bits = 64 * layout.words
    dirty = data.draw(st.frozensets(st.integers(0, max(bits - 1, 0)), max_size=8))
    dirty = frozenset(bit for bit in dirty if bit < bits)
    stray = min((bit for bit in dirty if not layout.is_used(bit)), default=None)
    marked, nothing = list(words_of(dirty, layout.words)), [0] * layout.words
    assert strays.first_stray(marked, nothing, layout) == stray
    assert strays.first_stray(nothing, marked, layout) == stray


@given(layouts())
def test_the_kernels_are_given_these_gaps(layout: Layout) -> None:
    rows = sorted((r.bits.start, r.bits.stop) for r in layout.regions if r.used_pages)
    starts, ends = (np.array([row[at] for row in rows], np.uint64) for at in (0, 1))
    given_gaps = _gaps(starts, ends, 64 * layout.words)
    assert [(int(first), int(last)) for first, last in given_gaps] == in_order(layout)
