"""Where a trace's dirty pages lie, and who would copy which under each strategy: for ``--json``.

Computed, not timed. Addresses are cut into cells of whole bitmap words, so few that a page can draw them.
"""

from typing import Any

import numpy as np

from impl.bench.simulate import DirtyWords, dirty_words
from impl.kernels.check_in import batch_size
from impl.traces.format import Trace
from model import shares
from model.ram import PAGES_PER_WORD

CELLS = 128
THREADS = 4


def dirty_map(name: str, trace: Trace) -> dict[str, Any]:
    """The map of a trace: ``model/page/schema.json`` says what is in it."""
    pages = trace.layout.pages
    words_of_a_cell = -(-pages // (CELLS * PAGES_PER_WORD))
    bounds = [shares.share(pages, THREADS, thread) for thread in range(THREADS)]
    return {
        "trace": name,
        "source": trace.source,
        "pages": pages,
        "page_size": trace.layout.page_size,
        "cells": CELLS,
        "cell_pages": words_of_a_cell * PAGES_PER_WORD,
        "shares": bounds,
        "epochs": [
            {
                "dirty": _by_cell(dirty, words_of_a_cell),
                "by_share": [_between(dirty, *share) for share in bounds],
                "batches": _batches(dirty),
            }
            for dirty in (dirty_words(trace, epoch) for epoch in range(trace.epochs))
        ],
    }


def _by_cell(dirty: DirtyWords, words: int) -> list[int]:
    counts = np.zeros(CELLS, dtype=np.int64)
    np.add.at(counts, dirty.places // max(words, 1), dirty.pages)
    return [int(count) for count in counts]


def _between(dirty: DirtyWords, lower: int, upper: int) -> int:
    """The dirty pages of a share, which begins and ends at whole words."""
    words = lower // PAGES_PER_WORD, -(-upper // PAGES_PER_WORD)
    first, last = np.searchsorted(dirty.places, words)
    return int(dirty.pages[first:last].sum())


def _batches(dirty: DirtyWords) -> list[tuple[int, int, int]]:
    """The batches that workers take off the cursor: first page, page past the last, dirty pages."""
    before: list[int] = [0, *dirty.pages.cumsum().tolist()]
    total = before[-1]
    grain = int(batch_size(np.uint64(total), np.uint64(THREADS)))
    found = []
    for cursor in range(0, total, grain):
        first, last = shares.batch_words(before, *shares.batch(cursor, grain, total))
        if first < last:
            start, end = int(dirty.places[first]), int(dirty.places[last - 1]) + 1
            pages = before[last] - before[first]
            found.append((start * PAGES_PER_WORD, end * PAGES_PER_WORD, pages))
    return found
