"""Arrays that come in as arguments: page numbers, bitmaps, a page's bytes; checked, and copied.

Copied, since what the caller gives may be memory of the RAM itself, which the call is about to
change.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arguments import shown, whole_number
from model.ram import LayoutError

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


def page_numbers(pages: Any, used_pages: int, name: str) -> Words:
    """A page of block ``name``, or an iterable of pages, as uint64 (n,), each below ``used_pages``.

    An array may be of integers of any width. Raises LayoutError.
    """
    if isinstance(pages, str | bytes | bytearray | memoryview):
        raise LayoutError(f"block {name!r}: pages is {shown(pages)}: give page numbers")
    if isinstance(pages, np.ndarray) and pages.dtype == np.bool_:
        raise LayoutError(f"block {name!r}: pages is a mask: give np.flatnonzero of it")
    if isinstance(pages, np.ndarray) and pages.dtype.kind in "iu" and pages.ndim == 1:
        given = pages.copy()
        outside = given[(given < 0) | (given >= used_pages)]
        if outside.size:
            raise _no_such_page(int(outside[0]), used_pages, name)
        return given.astype(np.uint64)
    several = isinstance(pages, Iterable) and getattr(pages, "ndim", 1) != 0
    numbers = [page_number(page, used_pages, name) for page in (pages if several else [pages])]
    return np.array(numbers, np.uint64)


def page_number(page: Any, used_pages: int, name: str) -> int:
    """A page of block ``name``, below ``used_pages``. Raises LayoutError."""
    number = whole_number(page, f"block {name!r}: page", LayoutError)
    if not 0 <= number < used_pages:
        raise _no_such_page(number, used_pages, name)
    return number


def _no_such_page(number: int, used_pages: int, name: str) -> LayoutError:
    return LayoutError(
        f"block {name!r} has no page {number}: its {used_pages} used pages count from 0"
    )


def page_content(data: Any, page_size: int, what: str) -> Bytes:
    """Exactly one page of bytes out of any contiguous buffer: uint8 (page_size,). LayoutError."""
    try:
        content = np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise LayoutError(f"{what}: the data is no buffer of bytes ({error})") from error
    if len(content) != page_size:
        raise LayoutError(f"{what}: got {len(content)} bytes, a page has {page_size}")
    return content.copy()


def bitmap_words(words: Any, n_words: int, what: str) -> Words:
    """A bitmap of exactly so many words, uint64 in native byte order. Raises LayoutError."""
    try:
        array = np.array(words)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise LayoutError(f"{what} is no array of uint64 ({error})") from error
    if array.dtype != np.uint64 or array.shape != (n_words,):
        raise LayoutError(f"{what} is {array.dtype} {array.shape}: give uint64 ({n_words},)")
    return array
