"""Guests larger than the machine: their bitmaps are real, their memory is there where it is used."""

import mmap

from impl.bench.patterns import Pattern, scattered
from impl.block import Block
from impl.machine.memory import sparse_memory
from impl.ram import ColoRam

PAGE_SIZE = 4096
TEBIBYTE = 1 << 40
#: Guests of these sizes, and the share of their pages that is dirty, anywhere.
LARGE = {"64 GiB": 64 << 30, "1 TiB": TEBIBYTE}
DIRTY = 0.001

# What a page in use takes: host, cache, and in both a page table that no other page in use shares.
_TAKEN_BY_A_PAGE = 2 * (PAGE_SIZE + mmap.PAGESIZE)
# What every page takes, used or not: its stamps, host's and cache's, and a byte while bitmaps are made.
_TAKEN_BY_ITS_STAMPS = 2 * 8 + 1


def sparse_ram(size: int) -> ColoRam:
    """A guest of one block of ``size`` bytes, whose pages are there once they are written."""
    return ColoRam([Block("ram", host=sparse_memory(size), cache=sparse_memory(size))])


def title(name: str) -> str:
    """What the pattern of one of LARGE is called."""
    return f"{name}, {100 * DIRTY:g} %"


def pattern(name: str) -> Pattern:
    """What is dirty of one of LARGE."""
    pages = LARGE[name] // PAGE_SIZE
    return scattered(title(name), pages, round(pages * DIRTY))


def memory(name: str) -> int:
    """Bytes that a contest on one of LARGE takes."""
    pages = LARGE[name] // PAGE_SIZE
    return round(pages * (DIRTY * _TAKEN_BY_A_PAGE + _TAKEN_BY_ITS_STAMPS))
