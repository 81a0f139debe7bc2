"""Claims by node, computed: cases worked out by hand, and the model's own index."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl.__main__ import main
from impl.bench import nodes, simulate
from impl.bench.nodes import Epoch, Flushed
from model.faults import broken
from model.nodes import Run, index_by_node
from model.ram import Block, Layout
from tests.impl.test_bench import TRACE

#: Four words of 32 dirty pages, each a batch; or the first two of them. Half of the memory on each node.
EVERYWHERE = np.concatenate([np.arange(64 * word, 64 * word + 32) for word in range(4)])
HALVES = Run(0, 0, 128), Run(1, 128, 256)


def near_one_node() -> Epoch:
    return nodes.epoch_on(EVERYWHERE[:64], HALVES, 2)


def test_pages_on_both_nodes_by_hand() -> None:
    """Two threads: each has its own two words; off one cursor each has one of them, and one far away."""
    epoch = nodes.epoch_on(EVERYWHERE, HALVES, 2)
    assert nodes.static(epoch, 256, 2, 2, 1.5) == Flushed(64, remote=0)
    # Each takes two batches, and finds both cursors used up.
    assert nodes.by_node(epoch, 2, 2, 1.5) == Flushed(64, remote=0, taken=8, stolen=0)
    assert nodes.off_one_cursor(epoch, 2, 2, 1.5) == Flushed(32 + 48, remote=64, taken=6, stolen=0)


def test_pages_on_one_node_by_hand() -> None:
    """The other node's thread helps: it takes one of the two batches, in half as long again."""
    epoch = near_one_node()
    assert nodes.static(epoch, 256, 2, 2, 1.5) == Flushed(64, remote=0)
    assert nodes.by_node(epoch, 2, 2, 1.5) == Flushed(48, remote=32, taken=6, stolen=1)


def test_who_does_not_help_leaves_it_to_the_others() -> None:
    """Control: the model's own steps are simulated."""
    with broken("a worker stops after its own node"), pytest.raises(AssertionError):
        test_pages_on_one_node_by_hand()


def test_where_every_page_is_near_the_node_makes_no_difference() -> None:
    epoch = nodes.epoch_on(EVERYWHERE, HALVES, 2)
    assert nodes.by_node(epoch, 2, 2, 1).time == nodes.off_one_cursor(epoch, 2, 2, 1).time == 64


@given(st.sets(st.integers(0, 1000), min_size=1), st.integers(1, 40))
def test_on_one_node_it_is_what_is_computed_without(pages: set[int], threads: int) -> None:
    dirty = np.array(sorted(pages))
    epoch = nodes.epoch_on(dirty, [Run(0, 0, 1024)], 1)
    one = nodes.by_node(epoch, threads, 1, 1.6)
    assert one == nodes.off_one_cursor(epoch, threads, 1, 1.6)
    counts = simulate.words_of(dirty.astype(np.uint64)).pages
    assert len(pages) / one.time == pytest.approx(simulate.dynamic(counts, threads))


@given(
    st.sets(st.integers(0, 511), min_size=1),
    st.lists(st.integers(1, 511), max_size=5, unique=True),
    st.data(),
)
def test_words_are_on_the_nodes_of_the_model(
    pages: set[int], cuts: list[int], data: st.DataObject
) -> None:
    bounds = pairwise([0, *sorted(cuts), 512])
    runs = [Run(data.draw(st.integers(0, 2)), *bound) for bound in bounds]
    epoch = nodes.epoch_on(np.array(sorted(pages)), runs, 3)
    union = [sum(1 << page % 64 for page in pages if page // 64 == word) for word in range(8)]
    index = index_by_node(union, runs, 3)
    by_node = epoch.words[np.argsort(epoch.nodes, kind="stable")]
    assert by_node.tolist() == [word for word in index.words if union[word]]
    assert epoch.pages.sum() == len(pages)


def test_memory_in_parts_is_used_memory_in_order() -> None:
    """A hole between two blocks belongs to no part's size; interleaved by 2 MiB, holes or not."""
    low, high = Block("low", 0, 6 << 20, 6 << 20), Block("high", 16 << 20, 2 << 20, 2 << 20)
    layout = Layout((low, high), 4096)
    assert nodes.placed(layout, 2, "in parts") == [Run(0, 0, 1024), Run(1, 1024, 4608)]
    parts = nodes.placed(layout, 4, "in parts")
    assert parts == [Run(0, 0, 512), Run(1, 512, 1024), Run(2, 1024, 4096), Run(3, 4096, 4608)]
    runs = nodes.placed(layout, 2, "interleaved")
    assert runs[:2] == [Run(0, 0, 512), Run(1, 512, 1024)]
    assert len(runs) == 9


def test_it_is_told_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--simulate", "--nodes", "2", "--remote", "1.6", "--traces", TRACE]) == 0
    printed = capsys.readouterr().out
    assert "2 nodes, memory in parts, remote 1.6" in printed
    assert "2 nodes, memory interleaved, remote 1.6" in printed


def test_nodes_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--nodes", "2"])
    assert "add --simulate" in capsys.readouterr().err


def test_more_nodes_than_any_machine_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--simulate", "--nodes", "65"])
    assert "write 1 to 64" in capsys.readouterr().err
