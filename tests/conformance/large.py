"""Pages and bits so far out that 32 bits do not reach them. Memory is reserved, not used.

An ``int`` for a page's bit (the patch: ``int nr``, wrong from 8 TiB) or for a byte offset in a
block is right in every small test. Here are gigabytes of address space, of which a few pages are
touched. Runs in the child.
"""

import ctypes
import errno
import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.call import STATS_BEFORE, WORD
from tests.conformance.guarded import Bytes, Words
from tests.conformance.port import BYTES_PER_WORD, Arguments, Bench, BlockStruct
from tests.conformance.rules import Violation

_MAP_NORESERVE = 0x4000
THREADS = 3


@dataclass(frozen=True)
class Large:
    """One block of ``pages`` pages from bit ``first_bit`` on; these pages of it are dirty.

    A bit ``stray`` is set in the host bitmap: the call must be refused.
    """

    name: str
    page_size: int
    first_bit: int
    pages: int
    dirty: tuple[int, ...]
    stray: int | None = None

    @property
    def words(self) -> int:
        """Length of the bitmaps."""
        return max(self.first_bit + self.pages - 1, self.stray or 0) // WORD + 1

    def __str__(self) -> str:
        return (
            f"one block, {self.pages} pages of {self.page_size} bytes from bit {self.first_bit}, "
            f"dirty in both bitmaps: pages {', '.join(map(str, self.dirty))}"
            + (f"; bit {self.stray} is stray" if self.stray else "")
        )


LARGE = (
    Large("byte-2GiB", 4096, 0, (1 << 19) + 4, (0, (1 << 19) - 1, 1 << 19, (1 << 19) + 3)),
    Large("byte-4GiB", 4096, 0, (1 << 20) + 4, (1, (1 << 20) - 1, 1 << 20, (1 << 20) + 3)),
    Large("pages-2^31", 1024, 0, (1 << 31) + 4, (1, (1 << 31) - 1, 1 << 31, (1 << 31) + 3)),
    Large("pages-past-2^32", 1024, 0, 3 << 31, (1, (1 << 32) - 1, 1 << 32, (3 << 31) - 1)),
    Large("bit-2^31", 1024, (1 << 31) - 3, 6, (0, 2, 3, 4)),
    Large("bit-2^32", 1024, (1 << 32) - 3, 6, (0, 2, 3, 5)),
    Large("bit-past-2^32", 1024, (1 << 32) + 61, 6, (0, 2, 3, 5)),
    Large("stray-past-2^31", 1024, 0, 6, (0, 5), stray=(1 << 31) + 2),
    Large("stray-past-2^32", 1024, 0, 6, (0, 5), stray=(1 << 32) + 2),
)


def large(bench: Bench, case: Large) -> list[Violation]:
    """Make the call; every rule it breaks."""
    size = case.pages * case.page_size
    host, cache = _reserve(size), _reserve(size)
    for page in case.dirty:
        cache[_there(case, page)] = bytes([page % 251 + 1]) * case.page_size
    bitmaps = [_reserve(BYTES_PER_WORD * case.words).cast("Q") for _ in range(2)]
    for bitmap in bitmaps:
        for page in case.dirty:
            bit = case.first_bit + page
            bitmap[bit // WORD] |= 1 << bit % WORD
    if case.stray is not None:
        bitmaps[1][case.stray // WORD] |= 1 << case.stray % WORD
    count, stats = array("Q", [len(case.dirty)]), array("Q", STATS_BEFORE)
    struct = BlockStruct(
        case.first_bit * case.page_size,
        size,
        size,
        case.first_bit,
        _address(host),
        _address(cache),
    )
    arguments = Arguments(
        blocks=ctypes.addressof(struct),
        n_blocks=1,
        page_size=case.page_size,
        cache_bitmap=_address(bitmaps[0]),
        host_bitmap=_address(bitmaps[1]),
        n_words=case.words,
        dirty_pages=_address(memoryview(count)),
        threads=THREADS,
        stats=_address(memoryview(stats)),
    )
    status = bench.flush(arguments)
    if case.stray is None:
        found = _broken(case, status, host, cache, bitmaps)
        counts = [0, *[len(case.dirty)] * 4]
    else:
        found = _broken_refusal(case, status, host, bitmaps)
        counts = [len(case.dirty), *STATS_BEFORE]
    if [*count, *stats] != counts:
        found.append(("count", f"dirty_pages and stats are {[*count, *stats]}, not {counts}"))
    return [Violation(rule, f"{detail} ({case})") for rule, detail in found]


Broken = list[tuple[str, str]]


def _broken(case: Large, status: int, host: Bytes, cache: Bytes, bitmaps: list[Words]) -> Broken:
    found = [("accepts", f"returned {status}, not 0")] if status else []
    found += _wrong_pages(case, host, cache)
    return found + [
        ("clears", f"{name} bitmap: bit {bit} is left set")
        for name, bitmap in zip(("cache", "host"), bitmaps, strict=True)
        for bit in _set(case, bitmap)
    ]


def _broken_refusal(case: Large, status: int, host: Bytes, bitmaps: list[Words]) -> Broken:
    found = [("refuses", f"returned {status}, not -EINVAL")] if status != -errno.EINVAL else []
    changed = any(host) or any(len(_set(case, b)) < len(case.dirty) for b in bitmaps)
    return found + ([("refusal-changes-nothing", "pages or bits changed")] if changed else [])


def _set(case: Large, bitmap: Words) -> list[int]:
    """The bits of the dirty pages that are set."""
    bits = [case.first_bit + page for page in case.dirty]
    return [bit for bit in bits if bitmap[bit // WORD] >> bit % WORD & 1]


def _reserve(size: int) -> Bytes:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    return memoryview(mmap.mmap(-1, size, flags=flags))


def _address(memory: memoryview) -> int:
    return ctypes.addressof(ctypes.c_uint8.from_buffer(memory))


def _there(case: Large, page: int) -> slice:
    return slice(page * case.page_size, (page + 1) * case.page_size)


def _wrong_pages(case: Large, host: Bytes, cache: Bytes) -> Iterator[tuple[str, str]]:
    """Of the dirty pages, and of those that a number cut to 20 bits or less would hit instead."""
    near = {
        (page + by) & mask for page in case.dirty for by in (0, 1) for mask in (~0, (1 << 19) - 1)
    }
    for page in sorted(page for page in near if page < case.pages):
        there = _there(case, page)
        if page in case.dirty and host[there].tobytes() != cache[there].tobytes():
            yield "copies-dirty", f"page {page} is dirty and was not copied, whole"
        if page not in case.dirty and any(host[there]):
            yield "clean-pages-untouched", f"page {page} is clean and was written"
