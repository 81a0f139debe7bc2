"""Claims by node: the index, and workers of any nodes in any order of their steps."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import nodes, shares
from model.faults import broken
from model.nodes import Run, index_by_node, node_in_turn
from model.protocols import node_cursors
from model.protocols.node_cursors import FINISHED, FLUSH, TAKE, Taker
from model.words import population

Runs = tuple[Run, ...]
unions = st.lists(st.sampled_from([0, 0, 1, 0b111, 2**63, 2**64 - 1]), min_size=1, max_size=8)


@st.composite
def guests(draw: st.DrawFn) -> tuple[list[int], Runs, int]:
    """The union of a guest's bitmaps, on which nodes its pages lie, and how many nodes there are."""
    union, in_all = draw(unions), draw(st.integers(1, 4))
    end = 64 * len(union)
    cuts = sorted({0, end, *draw(st.lists(st.integers(0, end), max_size=6))})
    return (
        union,
        tuple(Run(draw(st.integers(0, in_all - 1)), *bounds) for bounds in pairwise(cuts)),
        in_all,
    )


@given(guests())
def test_the_index_has_every_word_once_on_the_node_of_its_first_page(
    guest: tuple[list[int], Runs, int],
) -> None:
    union, runs, in_all = guest
    index = index_by_node(union, runs, in_all)
    assert sorted(index.words) == list(range(len(union)))
    lies_on = [next(run.node for run in runs if 64 * w < run.upper) for w in index.words]
    assert lies_on == sorted(lies_on)
    for node in range(in_all):
        dirty = sum(
            population(union[w]) for w, on in zip(index.words, lies_on, strict=True) if on == node
        )
        assert index.begins[node + 1] - index.begins[node] == dirty


@given(unions)
def test_on_one_node_it_is_what_it_was_before(union: list[int]) -> None:
    index = index_by_node(union, [Run(0, 0, 64 * len(union))], 1)
    before = shares.dirty_before(union)
    assert index == (list(range(len(union))), before, (0, before[-1]))


@given(st.integers(1, 9), st.data())
def test_a_worker_asks_every_node_its_own_first(in_all: int, data: st.DataObject) -> None:
    own = data.draw(st.integers(0, in_all - 1))
    asked = [node_in_turn(own, used_up, in_all) for used_up in range(in_all)]
    assert asked[0] == own
    assert sorted(asked) == list(range(in_all))


def words_flushed(
    guest: tuple[list[int], Runs, int],
    own: Sequence[int],
    grain: int,
    choose: Callable[[list[int]], int],
) -> list[int]:
    """The dirty words that workers of these nodes flush, in the order in which they take them."""
    union, runs, in_all = guest
    index = index_by_node(union, runs, in_all)
    cursors = index.begins[:in_all]
    workers = [Taker(TAKE, node, 0, 0, 0) for node in own]
    found: list[int] = []
    while busy := [n for n, worker in enumerate(workers) if worker.step != FINISHED]:
        n = choose(busy)
        cursors, moved = node_cursors.step(cursors, index.begins, in_all, grain, workers[n])
        if moved.step == FLUSH:
            low, high = shares.batch_words(index.before, moved.first, moved.last)
            found += (word for word in index.words[low:high] if union[word])
        workers[n] = moved
    return found


@given(guests(), st.integers(1, 70), st.data())
def test_every_dirty_word_is_flushed_once(
    guest: tuple[list[int], Runs, int], grain: int, data: st.DataObject
) -> None:
    union, _, in_all = guest
    own = data.draw(st.lists(st.integers(0, in_all - 1), min_size=1, max_size=4))
    found = words_flushed(guest, own, grain, lambda busy: data.draw(st.sampled_from(busy)))
    assert sorted(found) == [word for word, bits in enumerate(union) if bits]


@pytest.mark.parametrize(
    ("fault", "flushed"),
    [
        (None, [0, 1, 2]),
        ("a border word on two nodes", [0, 1, 1, 2]),
        ("a worker stops after its own node", [0, 1]),
        ("batches overlap", [0, 1, 1, 2]),
    ],
)
def test_with_a_fault_it_is_not(fault: str | None, flushed: list[int]) -> None:
    """Control."""
    guest = [1, 1, 1], (Run(0, 0, 96), Run(1, 96, 192)), 2
    with broken(fault):
        assert words_flushed(guest, [0], grain=1, choose=min) == flushed


def test_a_border_word_is_its_first_pages() -> None:
    assert nodes.words_of_run(0, 96) == (0, 2)
    assert nodes.words_of_run(96, 192) == (2, 3)
