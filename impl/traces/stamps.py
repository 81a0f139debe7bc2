"""Page contents that can be checked: every page says which page it is and who wrote it when.

Memory that nobody has written is BLANK: zero, as it came, and takes no memory until it is.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from impl.arrays import address
from impl.kernels.compile import entry
from impl.kernels.flush import NO_PAGE
from impl.kernels.intrinsics import load, store

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

#: The stamp of a page that was never written.
BLANK = ~np.uint64(0)

_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)


def write_pages(memory: Bytes, page_size: int, pages: Words, stamps: Words) -> None:
    """Fill each page of ``pages`` with its stamp, a uint64 that tells it from every other."""
    _write(address(memory), np.uint64(page_size), address(pages), address(stamps), _count(pages))


def first_wrong_page(memory: Bytes, page_size: int, pages: Words, stamps: Words) -> int | None:
    """The first of ``pages`` that is not filled with its stamp, or not zero if that is BLANK."""
    where = address(memory), np.uint64(page_size), address(pages), address(stamps)
    page = _first_wrong(*where, _count(pages))
    return None if page == NO_PAGE else int(page)


def _count(array: Words) -> np.uint64:
    return np.uint64(len(array))


@entry
def _write(memory: Any, page_bytes: Any, pages: Any, stamps: Any, count: Any) -> None:
    for number in range(count):
        at = memory + load(pages + number * _8) * page_bytes
        stamp = load(stamps + number * _8)
        for word in range(page_bytes // _8):
            store(at + word * _8, stamp + word)


@entry
def _first_wrong(memory: Any, page_bytes: Any, pages: Any, stamps: Any, count: Any) -> Any:
    for number in range(count):
        page, stamp = load(pages + number * _8), load(stamps + number * _8)
        at = memory + page * page_bytes
        first, step = (_0, _0) if stamp == BLANK else (stamp, _1)
        wrong = _0
        for word in range(page_bytes // _8):
            wrong |= load(at + word * _8) ^ (first + word * step)
        if wrong != _0:
            return page
    return NO_PAGE
