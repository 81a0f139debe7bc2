"""Which pages differ between two copies of memory: what there is where there is no dirty log.

QEMU writes its guest's RAM from another process, so our kernel's dirty log (impl.dirtylog) does not
see it. A page that was written with what it held before looks clean: a content difference is a
lower bound of a dirty log, and enough for a flush, which leaves equal pages equal.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impl.arrays import address
from impl.bitmap import bitmap_of
from impl.kernels.compile import entry
from impl.kernels.intrinsics import load, store
from impl.machine.cpus import usable_cpus
from model.ram import PAGES_PER_WORD, Region

# All CPUs share the work, in pieces of this size: it goes as fast as memory can be read.
_PIECE_BYTES = 8 << 20

_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)


def changed_pages(
    before: NDArray[np.uint8], now: NDArray[np.uint8], page_size: int
) -> NDArray[np.bool_]:
    """:func:`differing_pages`, by as many threads as may run at once."""
    changed = np.empty(len(now) // page_size, np.bool_)
    piece = max(1, _PIECE_BYTES // page_size)

    def compare(first: int) -> None:
        part = slice(first * page_size, (first + piece) * page_size)
        changed[first : first + piece] = differing_pages(before[part], now[part], page_size)

    with ThreadPoolExecutor(usable_cpus()) as threads:
        list(threads.map(compare, range(0, len(changed), piece)))
    return changed


def differing_pages(
    before: NDArray[np.uint8], now: NDArray[np.uint8], page_size: int
) -> NDArray[np.bool_]:
    """For each page, whether ``before`` and ``now`` differ there: bool (pages,).

    Both are contiguous and hold the same whole number of pages.
    """
    differs = np.empty(len(now) // page_size, np.uint64)
    pages = np.uint64(len(differs))
    _compare(address(before), address(now), np.uint64(page_size), address(differs), pages)
    changed: NDArray[np.bool_] = differs != _0
    return changed


@entry
def _compare(before: Any, now: Any, page_bytes: Any, differs: Any, pages: Any) -> None:
    for page in range(pages):
        base = page * page_bytes
        difference = _0
        for word in range(page_bytes // _8):
            at = base + word * _8
            difference |= load(before + at) ^ load(now + at)
        store(differs + page * _8, difference)


def to_bitmap(changed: NDArray[np.bool_], region: Region, words: int) -> NDArray[np.uint64]:
    """A block's changed pages as a bitmap over the whole address space: uint64 (words,)."""
    bitmap = np.zeros(words, np.uint64)
    own = to_words(changed, region)
    bitmap[region.first_bit // PAGES_PER_WORD :][: len(own)] = own
    return bitmap


def to_words(changed: NDArray[np.bool_], region: Region) -> NDArray[np.uint64]:
    """A block's changed pages as the words that its bits lie in: uint64 (words of the block,)."""
    before = region.first_bit % PAGES_PER_WORD
    n_words = -(-(before + len(changed)) // PAGES_PER_WORD)
    return bitmap_of(np.flatnonzero(changed) + before, n_words)
