"""The memory of RAM blocks and bitmaps: allocated here, or attached where it already lives."""

import ctypes
import logging
import mmap
import os
import weakref
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from impl.arguments import as_bytes
from impl.uncopied import Uncopied
from model.boundary.arguments import block_name, whole_number
from model.errors import LayoutError

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

THP_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MADV_POPULATE_WRITE = 23

log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

# Memory of our own, if it is as large, starts on such a boundary, so that huge pages can back it.
HUGE_PAGE = 2 << 20
LARGEST_ALLOCATION = 1 << 47


class Block(Uncopied):
    """A RAM block with its memory: ``host``, what the guest runs on, and ``cache``.

    ``Block(name, size=n)`` allocates both. ``Block(name, host=buffer, cache=buffer)`` attaches
    writable, contiguous memory (NumPy array, mmap, shared memory), never copied, whatever plain
    items it is made of; ``cache`` may be left out and is then allocated. Sizes are bytes: ``size``
    in use (default: all of ``host``), ``max_size`` what it may grow to (default: ``size``, or all
    of ``host``). ``offset`` in the ``ram_addr_t`` space defaults to the next free multiple of 64
    pages; ``first_bit``, for a per-block layout only, to the next multiple of 64 bits. Raises
    LayoutError.

    A block belongs to one ColoRam at a time, which changes its size; once that one has been released
    it may be given to another.
    """

    _instead = "make another Block, over the same memory if need be"

    def __init__(
        self,
        name: str,
        *,
        size: int | None = None,
        max_size: int | None = None,
        offset: int | None = None,
        first_bit: int | None = None,
        host: Any = None,
        cache: Any = None,
    ) -> None:
        name = block_name(name, "a block's name", LayoutError)
        if host is None and size is None:
            raise LayoutError(f"block {name!r} has neither memory nor size: give host= or size=")
        if host is None and cache is not None:
            raise LayoutError(f"block {name!r} has a cache but no host memory: give host= as well")
        attached = None if host is None else as_bytes(host, f"block {name!r}: host")
        there = 0 if attached is None else len(attached)
        used = _number_of(name, "size", size, there)
        most = _number_of(name, "max_size", max_size, max(used, there))
        if not 0 <= used <= most < LARGEST_ALLOCATION:
            raise LayoutError(
                f"block {name!r}: size {used} and max size {most} are impossible: "
                "use 0 <= size <= max_size < 2^47"
            )
        self._name = name
        self._offset = None if offset is None else _number_of(name, "offset", offset, 0)
        self._first_bit = None if first_bit is None else _number_of(name, "first_bit", first_bit, 0)
        self._size = used
        #: The RAM that it was last given to: its own if that still has it (ColoRam.has).
        self._ram: weakref.ref[Any] | None = None
        self._host = _memory(attached, most, f"block {name!r}: host")
        attached = None if cache is None else as_bytes(cache, f"block {name!r}: cache")
        self._cache = _memory(attached, most, f"block {name!r}: cache")
        #: Where its memory lies, all of ``max_size``.
        self._host_extent = extent(self._host, f"host of block {name!r}")
        self._cache_extent = extent(self._cache, f"cache of block {name!r}")

    @property
    def name(self) -> str:
        """What it is called by; no other block of its RAM has that name."""
        return self._name

    @property
    def offset(self) -> int | None:
        """Where it starts in the ``ram_addr_t`` space, bytes; None: after all blocks before it."""
        return self._offset

    @property
    def first_bit(self) -> int | None:
        """Where its bits begin in a per-block layout; None: after those of all blocks before it."""
        return self._first_bit

    @property
    def size(self) -> int:
        """Bytes in use; ``ColoRam.resize`` changes it."""
        return self._size

    @property
    def max_size(self) -> int:
        """Bytes it may grow to; host memory and cache are that large from the start."""
        return len(self._host)

    @property
    def host(self) -> Bytes:
        """The guest's memory in use, uint8 (size,)."""
        return self._host[: self._size]

    @property
    def cache(self) -> Bytes:
        """The primary's memory as received, uint8 (size,)."""
        return self._cache[: self._size]

    def populate(self) -> None:
        """Have the kernel put memory behind every page in use, host and cache."""
        for memory in (self.host, self.cache):
            _populate(memory, self.name)


def _number_of(name: str, what: str, value: Any, default: int) -> int:
    """An argument of a block, in bytes, or its default."""
    return default if value is None else whole_number(value, f"block {name!r}: {what}", LayoutError)


def zeroed_words(count: int, what: str) -> Words:
    """``count`` words of our own, all clear. Raises LayoutError if there is no memory for them."""
    try:
        return np.zeros(count, np.uint64)
    except (MemoryError, ValueError) as error:
        raise LayoutError(
            f"{what}: cannot allocate {count} words: place the blocks at lower offsets"
        ) from error


class Extent(NamedTuple):
    """Memory from address ``start`` to ``end``, and what it is for, in words for an error."""

    start: int
    end: int
    what: str


def extent(memory: npt.NDArray[Any], what: str) -> Extent:
    """Where an array lies."""
    start = memory.ctypes.data
    return Extent(start, start + memory.nbytes, what)


def check_apart(extents: Iterable[Extent]) -> None:
    """Raise LayoutError if two extents share memory."""
    by_address = sorted(one for one in extents if one.start < one.end)
    for low, high in pairwise(by_address):
        if high.start < low.end:
            raise LayoutError(f"{low.what} and {high.what} share memory: give each its own")


def _memory(attached: Bytes | None, size: int, what: str) -> Bytes:
    """So much of the attached memory, or zeroed memory of our own, asking for huge pages."""
    if attached is not None:
        if len(attached) < size:
            raise LayoutError(
                f"{what} has {len(attached)} bytes, too short for {size}: "
                "attach more memory or lower max_size"
            )
        return attached[:size]
    if size == 0:
        return np.zeros(0, dtype=np.uint8)
    # Where no huge page fits in, none is asked for: it would be memory that nobody uses.
    slack = HUGE_PAGE if size >= HUGE_PAGE else 0
    try:
        region = mmap.mmap(-1, size + slack, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise LayoutError(
            f"{what}: cannot allocate {size} bytes ({error.strerror}): use less"
        ) from error
    whole: Bytes = np.frombuffer(region, dtype=np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE if slack else 0
    if slack:
        _ask_for_huge_pages(region, skip, size // HUGE_PAGE * HUGE_PAGE, what)
    return whole[skip : skip + size]


def _ask_for_huge_pages(region: mmap.mmap, start: int, length: int, what: str) -> None:
    """Scattered pages copy faster from huge pages: fewer TLB misses. Says so if there are none."""
    try:
        region.madvise(mmap.MADV_HUGEPAGE, start, length)
        refused = "[never]" in THP_SETTING.read_text(encoding="ascii")
    except OSError:
        refused = True
    if refused:
        log.warning(
            "%s: no huge pages, so scattered pages will copy slower: set %s to madvise",
            what,
            THP_SETTING,
        )


def _populate(memory: Bytes, name: str) -> None:
    """Whole pages only: those at an unaligned end are left to be touched."""
    start = -(-memory.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (memory.ctypes.data + len(memory) - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0 and _libc.madvise(start, length, MADV_POPULATE_WRITE):
        reason = os.strerror(ctypes.get_errno())
        log.warning("block %r: not populated (%s): Linux 5.14 or later is needed", name, reason)
