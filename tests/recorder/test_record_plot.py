"""The plot of where dirty pages lie."""

from pathlib import Path

import numpy as np
import pytest

from impl.traces import plot
from impl.traces.format import Trace
from model.ram import Block, Layout

PAGE = 4096
PAGES = 64 * 400


@pytest.fixture
def recorded() -> Trace:
    """Two epochs of 400 words: all dirty in the cache; then one host page, the last."""
    words = np.zeros((2, 2, 400), np.uint64)
    words[0, 0] = np.uint64(2**64 - 1)
    words[1, 1, -1] = np.uint64(1 << 63)
    layout = Layout((Block("pc.ram", 0, PAGES * PAGE, PAGES * PAGE),), PAGE)
    return Trace(layout, words[0], words[1], np.array([0.1, np.nan]), "made here")


def test_each_cell_is_the_share_of_its_pages_dirty_in_either_bitmap(recorded: Trace) -> None:
    share = plot.dirty_share(recorded)
    assert share.shape == (plot.ROWS, 2)
    assert (share[:, 0] == 1).all()
    assert share[-1, 1] == 1 / (PAGES / plot.ROWS) and not share[:-1, 1].any()


def test_the_last_cell_may_hold_fewer_pages(recorded: Trace) -> None:
    layout = Layout((Block("pc.ram", 0, (PAGES - 1) * PAGE, (PAGES - 1) * PAGE),), PAGE)
    words = recorded.cache_dirty[:1].copy()
    words[0, -1] >>= np.uint64(1)
    shorter = Trace(layout, words, np.zeros_like(words), np.array([0.1]), "made here")
    assert (plot.dirty_share(shorter) == 1).all()


def test_the_same_trace_gives_the_same_file(recorded: Trace, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot.draw({"made here": recorded}, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "made here" in (tmp_path / "a.svg").read_text()
