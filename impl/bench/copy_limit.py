"""Upper bounds, in C: copying known pages, reading a bitmap (ceiling.c)."""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from impl.bench.paired import Contender
from impl.bench.patterns import Epoch
from impl.block import Block
from impl.ports.build import CEILING, build
from impl.ram import ColoRam

Words = npt.NDArray[np.uint64]

# What a whole buffer is copied by.
PIECE = 2 << 20

BEST_MODE = "streaming, fetching ahead"
MODES = {"memcpy": 0, "streaming": 1, BEST_MODE: 2}


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(build(CEILING)))
    library.ceiling_copy.restype = ctypes.c_uint64
    library.ceiling_copy.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_uint32,
        ctypes.c_int,
    ]
    library.ceiling_read.restype = ctypes.c_uint64
    library.ceiling_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


class PageList:
    """The pages of an epoch as two lists of addresses."""

    def __init__(self, ram: ColoRam, epoch: Epoch) -> None:
        self.page_size = ram.layout.page_size
        self.to, self.source = np.empty_like(epoch.pages), np.empty_like(epoch.pages)
        for region in ram.layout.regions:
            first, last = np.searchsorted(epoch.pages, [region.bits.start, region.bits.stop])
            inside = (epoch.pages[first:last] - np.uint64(region.first_bit)) * np.uint64(
                self.page_size
            )
            block = ram.block(region.block.name)
            self.to[first:last] = inside + np.uint64(block.host.ctypes.data)
            self.source[first:last] = inside + np.uint64(block.cache.ctypes.data)

    def copy(self, threads: int, mode: str) -> int:
        """Copy them all; nanoseconds from all threads ready to all done."""
        return _copy(self.to, self.source, self.page_size, threads, mode) if len(self.to) else 1


def contender(name: str, ram: ColoRam, threads: int, mode: str) -> Contender:
    """It copies an epoch's pages, listed when the epoch comes for the first time."""
    lists: dict[int, PageList] = {}

    def copy(epoch: Epoch) -> int:
        if id(epoch) not in lists:
            lists[id(epoch)] = PageList(ram, epoch)
        return lists[id(epoch)].copy(threads, mode)

    return Contender(name, "copy limit", copy)


def copy_whole(block: Block, threads: int, mode: str) -> int:
    """Copy a block's cache to its host, whole; nanoseconds from all threads ready to all done."""
    pieces = np.arange(block.size // PIECE, dtype=np.uint64) * np.uint64(PIECE)
    to, source = (pieces + np.uint64(memory.ctypes.data) for memory in (block.host, block.cache))
    return _copy(to, source, PIECE, threads, mode)


def _copy(to: Words, source: Words, size: int, threads: int, mode: str) -> int:
    nanoseconds: int = _library().ceiling_copy(
        to.ctypes.data, source.ctypes.data, len(to), size, threads, MODES[mode]
    )
    return nanoseconds


def read(bitmap: Words) -> int:
    """The OR of a bitmap's words."""
    seen: int = _library().ceiling_read(bitmap.ctypes.data, len(bitmap))
    return seen


def copy_bytes(to: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8]) -> None:
    """One memcpy of the C library."""
    ctypes.memmove(to.ctypes.data, source.ctypes.data, len(source))
