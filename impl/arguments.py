"""Arrays and buffers that come in as arguments: page numbers, bitmaps, a page's bytes; memory to attach.

What is not attached is copied, since it may be memory of the RAM itself, which the call is about to
change.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.boundary.arguments import shown, whole_number
from model.errors import LayoutError

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

# Items of a buffer, as the struct module and PEP 3118 write them.
RAW_BYTES, UNSIGNED = {"B", "b", "c"}, {"Q", "L", "N"}
POINTERS = set("OP&X")
FIELD_NAME = re.compile(":[^:]*:")


def page_numbers(pages: Any, used_pages: int, name: str) -> Words:
    """A page of block ``name``, or an iterable of pages, as uint64 (n,), each below ``used_pages``.

    An array may be of integers of any width. Raises LayoutError.
    """
    if isinstance(pages, str | bytes | bytearray | memoryview):
        raise LayoutError(f"block {name!r}: pages is {shown(pages)}: give page numbers")
    if isinstance(pages, np.ndarray) and pages.dtype == np.bool_:
        raise LayoutError(f"block {name!r}: pages is a mask: give np.flatnonzero of it")
    if isinstance(pages, np.ndarray) and pages.dtype.kind in "iu" and pages.ndim == 1:
        given = np.array(pages)  # without a mask, or whatever else a subclass adds
        outside = given[(given < 0) | (given >= used_pages)]
        if outside.size:
            raise _no_such_page(int(outside[0]), used_pages, name)
        return given.astype(np.uint64)
    if isinstance(pages, range) and pages:
        for end in (pages[0], pages[-1]):
            page_number(end, used_pages, name)
        return np.arange(pages.start, pages.stop, pages.step).astype(np.uint64)
    several = isinstance(pages, Iterable) and getattr(pages, "ndim", 1) != 0
    numbers = [page_number(page, used_pages, name) for page in (pages if several else [pages])]
    return np.array(numbers, np.uint64)


def page_number(page: Any, used_pages: int, name: str) -> int:
    """A page of block ``name``, below ``used_pages``. Raises LayoutError."""
    if type(page) is int and 0 <= page < used_pages:
        return page  # as nearly always: no words for an error are made then
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
    content = _flat(_view(data, f"{what}: data"))
    if len(content) != page_size:
        raise LayoutError(f"{what}: got {len(content)} bytes of data, a page has {page_size}")
    return content.copy()


def bitmap_words(words: Any, n_words: int, what: str) -> Words:
    """A bitmap of exactly ``n_words`` words, uint64 in native byte order. Raises LayoutError."""
    try:
        array = np.array(words)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise LayoutError(f"{what} is no array of uint64 ({error})") from error
    if array.dtype != np.uint64 or array.shape != (n_words,):
        raise LayoutError(f"{what} is {array.dtype} {array.shape}: give uint64 ({n_words},)")
    return array


def as_bytes(buffer: Any, what: str) -> Bytes:
    """A flat uint8 view of writable, contiguous memory of whatever items, never a copy.

    Raises LayoutError.
    """
    return _flat(_writable_view(buffer, what))


def as_words(buffer: Any, what: str) -> Words:
    """As many uint64 as the attached memory holds: words already, or raw bytes.

    Other items would be other bits than their owner means: bools are a byte each, big-endian words
    hold them in another order. Raises LayoutError.
    """
    view = _writable_view(buffer, what)
    kind = view.format.lstrip("@=<")
    if not (kind in RAW_BYTES or (kind in UNSIGNED and view.itemsize == 8)):
        raise LayoutError(
            f"{what} has items of format {view.format!r}, {view.itemsize} bytes each: "
            "attach uint64 in this machine's byte order, or raw bytes (uint8)"
        )
    memory = _flat(view)
    if len(memory) and memory.ctypes.data % 8:
        raise LayoutError(f"{what} does not start at a multiple of 8 bytes: align it")
    return memory[: len(memory) // 8 * 8].view(np.uint64)


def _writable_view(buffer: Any, what: str) -> memoryview:
    view = _view(buffer, what)
    if view.readonly:
        raise LayoutError(f"{what} is read-only: a flush writes the host, receive the cache")
    return view


def _view(buffer: Any, what: str) -> memoryview:
    try:
        view = memoryview(buffer)
    except (TypeError, ValueError, BufferError) as error:
        raise LayoutError(f"{what} is not a usable buffer: {error}") from error
    if view.format not in RAW_BYTES and POINTERS & set(FIELD_NAME.sub("", view.format)):
        raise LayoutError(f"{what} holds Python objects or pointers: give plain memory, uint8 say")
    if not view.c_contiguous:
        raise LayoutError(f"{what} is not contiguous: give one piece of memory")
    return view


def _flat(view: memoryview) -> Bytes:
    return np.frombuffer(view, dtype=np.uint8) if view.nbytes else np.zeros(0, dtype=np.uint8)
