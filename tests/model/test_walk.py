"""The patch's walk, in the model, against the spec; and the primitives against their contract."""

import contextlib
import copy
from itertools import accumulate
from random import Random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from model import flush as spec
from model import shares, walk
from model.errors import DirtyCountMismatch
from model.faults import broken
from model.ram import Block, Layout
from model.shares import STRETCH
from model.words import ALL_PAGES
from tests.support.cases import Case, cases


def ram_of(case: Case) -> spec.Ram:
    """The case's first epoch; a page's content tells where it came from."""
    used = case.layout.used()
    epoch = case.epochs[0]
    return spec.Ram(
        {page: ("host", page) for page in used},
        {page: ("cache", page) for page in used},
        set(epoch.cache_dirty),
        set(epoch.host_dirty),
        len(epoch.cache_dirty),
    )


@given(case=cases(epochs=1))
def test_page_by_page_the_spec_is_what_the_proofs_read(case: Case) -> None:
    before, after = ram_of(case), ram_of(case)
    spec.flush(after, case.layout)
    for page, content in before.host.items():
        was = spec.Page(content, page in before.cache_dirty, page in before.host_dirty)
        now = spec.Page(after.host[page], page in after.cache_dirty, page in after.host_dirty)
        assert spec.page_after(was, before.cache[page]) == now


@given(case=cases(epochs=1), threads=st.integers(1, 9))
def test_the_walk_serial_and_by_share_is_the_spec(case: Case, threads: int) -> None:
    note(case.program())
    by_spec, serial, static = (ram_of(case) for _ in range(3))
    wanted = spec.flush(by_spec, case.layout)
    assert walk.flush_serial(serial, case.layout) == wanted
    assert walk.flush_static(static, case.layout, threads) == wanted
    assert serial == by_spec
    assert static == by_spec


def test_the_bulk_stage_loses_page_64() -> None:
    """Defect 9 of the patch: 128 pages, 2 threads, page 64 dirty; the control of the test above."""
    layout = Layout((Block("pc.ram", 0, 128 * 4096, 128 * 4096),), 4096)
    before = spec.Ram(
        dict.fromkeys(range(128), "old"), dict.fromkeys(range(128), "new"), {64}, set(), 1
    )
    whole, bulk = copy.deepcopy(before), copy.deepcopy(before)
    walk.flush_static(whole, layout, 2)
    assert whole.host[64] == "new"
    with broken("bulk stage"), contextlib.suppress(DirtyCountMismatch):
        walk.flush_static(bulk, layout, 2)
    assert bulk.host[64] == "old"
    assert sum(content == "new" for content in bulk.host.values()) == 63


@given(
    bitmap=st.frozensets(st.integers(0, 200)), start=st.integers(0, 200), limit=st.integers(0, 200)
)
def test_find_keeps_its_contract(bitmap: frozenset[int], start: int, limit: int) -> None:
    """What proofs/ assumes of ``find``."""
    found = walk.find(bitmap, start, limit)
    end = limit if start < limit else start
    assert start <= found <= end
    assert not any(page in bitmap for page in range(start, found))
    assert found == end or found in bitmap


@given(case=cases(epochs=1), threads=st.integers(1, 300))
def test_windows_partition_the_used_pages(case: Case, threads: int) -> None:
    visited = [
        window.region.first_bit + page
        for window in shares.windows(case.layout, threads)
        for page in range(window.start, window.limit)
    ]
    assert sorted(visited) == sorted(case.layout.used())


@given(
    union=st.lists(st.one_of(st.just(0), st.integers(0, 2**64 - 1)), max_size=40),
    grain=st.integers(1, 200),
)
def test_claims_of_dirty_pages_partition_the_dirty_words(union: list[int], grain: int) -> None:
    before = shares.dirty_before(union)
    owners: list[int] = []
    for cursor in range(0, before[-1], grain):
        first, last = shares.batch_words(before, *shares.batch(cursor, grain, before[-1]))
        owners += range(first, last)
        assert before[last] - before[first] < grain + 64
    assert owners == sorted(set(owners))
    assert {word for word, bits in enumerate(union) if bits} <= set(owners)


@given(
    length=st.sampled_from((0, 1, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH + 3)),
    seed=st.integers(0, 9),
)
@settings(max_examples=20)
def test_the_index_of_two_levels_adds_up_to_the_one(length: int, seed: int) -> None:
    drawn = Random(seed)
    union = [drawn.choice((0, 1, 2**63, ALL_PAGES)) for _ in range(length)]
    within, below = shares.index_of(union)
    before = shares.dirty_before(union)
    both = [below[shares.stretch_of(word)] + within[word] for word in range(length)]
    assert both == before[:-1]
    assert len(below) == -(-length // STRETCH)


@given(counts=st.lists(st.integers(0, 3), max_size=20), pages=st.integers(0, 60))
def test_first_word_with_keeps_its_contract(counts: list[int], pages: int) -> None:
    """What proofs/ assumes of ``first_word_with``, for as many pages as there are."""
    before = [0, *accumulate(counts)]
    pages = min(pages, before[-1])
    found = shares.first_word_with(before, pages)
    assert before[found] >= pages
    assert all(before[word] < pages for word in range(found))
