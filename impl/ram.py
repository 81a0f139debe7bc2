"""ColoRam: a secondary's RAM, its cache and its two dirty bitmaps, through their life.

``colo_init_ram_cache`` allocates the cache and copies the RAM into it (:meth:`ColoRam.backup`); pages
arrive from the primary (:meth:`ColoRam.receive`); a :class:`~impl.pool.FlushPool` flushes at each
checkpoint; ``colo_release_ram_cache`` lets go (:meth:`ColoRam.release`).
"""

import mmap
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from impl.compile import compile_kernels
from impl.control import address
from impl.errors import FlushInProgress
from impl.kernel import GAP_FIELDS, JOB_FIELDS, REGION_FIELDS, count_dirty
from model import ram as model
from model.flush import stray_error
from model.ram import PAGES_PER_WORD, BitmapKind, LayoutError, StrayDirtyPages

if TYPE_CHECKING:
    from impl.pool import FlushPool

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

# Memory of our own starts on such a boundary, so that it can be backed by huge pages.
HUGE_PAGE = 2 << 20
LARGEST_ALLOCATION = 1 << 47


class Block:
    """A RAM block with its memory: ``host``, what the guest runs on, and ``cache``.

    ``Block(name, size=n)`` allocates both. ``Block(name, host=buffer, cache=buffer)`` attaches
    writable, contiguous memory (NumPy array, mmap, shared memory), never copied; ``cache`` may be
    left out and is then allocated. Sizes are bytes: ``size`` in use (default: all of ``host``),
    ``max_size`` what it may grow to (default: ``size``, or all of ``host``). ``offset`` in the
    ``ram_addr_t`` space defaults to the next free multiple of 64 pages.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int | None = None,
        max_size: int | None = None,
        offset: int | None = None,
        host: Any = None,
        cache: Any = None,
    ) -> None:
        if host is None and size is None:
            raise LayoutError(f"block {name!r} has neither memory nor size: give host= or size=")
        if host is None and cache is not None:
            raise LayoutError(f"block {name!r} has a cache but no host memory: give host= as well")
        attached = None if host is None else _as_bytes(host, f"block {name!r}: host")
        used = size if size is not None else len(attached) if attached is not None else 0
        whole = max_size if max_size is not None else max(used, 0 if attached is None else len(attached))
        if not 0 <= used <= whole < LARGEST_ALLOCATION:
            raise LayoutError(
                f"block {name!r}: size {used} and max size {whole} are impossible: "
                "use 0 <= size <= max_size < 2^47"
            )
        self.name = name
        self.offset = offset
        self.size = used
        self.max_size = whole
        self._host = _allocate(whole) if attached is None else _cut(attached, whole, name, "host")
        self._cache = (
            _allocate(whole)
            if cache is None
            else _cut(_as_bytes(cache, f"block {name!r}: cache"), whole, name, "cache")
        )
        if whole and np.shares_memory(self._host, self._cache):
            raise LayoutError(f"block {name!r}: host and cache share memory: give each its own")

    @property
    def host(self) -> Bytes:
        """The guest's memory in use, uint8 (size,)."""
        return self._host[: self.size]

    @property
    def cache(self) -> Bytes:
        """The primary's memory as received, uint8 (size,)."""
        return self._cache[: self.size]


class ColoRam:
    """Blocks, their caches, and the two dirty bitmaps over them.

    ``layout`` is "global" (the patch's bitmap, two blocks may share a word) or "per-block" (today's).
    ``cache_dirty`` and ``host_dirty`` may be writable uint64 memory that lives elsewhere; the dirty
    count is then recounted from it. Raises LayoutError if the blocks cannot be flushed.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        page_size: int = 4096,
        layout: BitmapKind = "global",
        cache_dirty: Any = None,
        host_dirty: Any = None,
    ) -> None:
        compile_kernels()
        self._exclusive = threading.Lock()
        self._install(blocks, page_size, layout, cache_dirty, host_dirty)

    def _install(
        self,
        blocks: Sequence[Block],
        page_size: int,
        kind: BitmapKind,
        cache_dirty: Any = None,
        host_dirty: Any = None,
    ) -> None:
        layout = model.Layout(tuple(_place(blocks, page_size)), page_size, kind)
        cache_bitmap = _bitmap(cache_dirty, layout.words, "cache_dirty")
        host_bitmap = _bitmap(host_dirty, layout.words, "host_dirty")
        if layout.words and np.shares_memory(cache_bitmap, host_bitmap):
            raise LayoutError("cache_dirty and host_dirty share memory: give each its own")

        self.layout = layout
        self._blocks = {block.name: block for block in blocks}
        self._cache_bitmap, self._host_bitmap = cache_bitmap, host_bitmap
        self._first_bit = {r.block.name: r.first_bit for r in layout.regions}
        self._table = self._make_job()
        self.job = address(self._table)
        self.recount()

    def _make_job(self) -> Words:
        regions, gaps = self.layout.regions, list(_gaps(self.layout))
        head = [
            self.layout.page_size,
            address(self._cache_bitmap),
            address(self._host_bitmap),
            self.layout.pages,
            self.layout.words,
            len(regions),
            len(gaps),
        ]
        assert len(head) == JOB_FIELDS
        rows = [
            [r.first_bit, r.used_pages, address(block._host), address(block._cache)]
            for r, block in zip(regions, self._blocks.values(), strict=True)
        ]
        assert all(len(row) == REGION_FIELDS for row in rows)
        assert all(len(gap) == GAP_FIELDS for gap in gaps)
        return np.array([*head, *sum(rows, []), *sum(map(list, gaps), [])], dtype=np.uint64)

    def block(self, name: str) -> Block:
        """The block of that name; LayoutError if there is none."""
        if name not in self._blocks:
            raise LayoutError(f"there is no block {name!r}: have {', '.join(self._blocks) or 'none'}")
        return self._blocks[name]

    @property
    def cache_dirty(self) -> Words:
        """Pages received from the primary: uint64 (words,), a view; bit b of word w is bit 64w + b."""
        return self._cache_bitmap

    @property
    def host_dirty(self) -> Words:
        """Pages written by the secondary's guest: uint64 (words,), a view."""
        return self._host_bitmap

    def backup(self, pool: "FlushPool") -> None:
        """Copy host -> cache in parallel and clear both bitmaps (``colo_init_ram_cache``)."""
        pool.back_up(self)
        self._cache_bitmap[:] = 0
        self._host_bitmap[:] = 0
        self.dirty_pages = 0

    def receive(self, name: str, page: int, data: Any) -> None:
        """Take a page from the primary: cache written, bit set, count kept (``ram_load``).

        ``data`` is exactly one page of bytes. Raises LayoutError with nothing changed.
        """
        block = self.block(name)
        bit = self._bit(block, page)
        content = np.frombuffer(data, dtype=np.uint8)
        size = self.layout.page_size
        if len(content) != size:
            raise LayoutError(
                f"block {name!r}, page {page}: got {len(content)} bytes, a page has {size}"
            )
        with self.exclusive():
            block._cache[page * size : (page + 1) * size] = content
            word, mask = bit // PAGES_PER_WORD, np.uint64(1 << bit % PAGES_PER_WORD)
            if not self._cache_bitmap[word] & mask:
                self._cache_bitmap[word] |= mask
                self.dirty_pages += 1

    def mark_host_dirty(self, name: str, pages: int | Iterable[int]) -> None:
        """Note pages that the secondary's guest wrote. Raises LayoutError with nothing changed."""
        block = self.block(name)
        wanted = [pages] if isinstance(pages, int) else list(pages)
        bits = np.array([self._bit(block, page) for page in wanted], dtype=np.uint64)
        with self.exclusive():
            masks = np.uint64(1) << bits % np.uint64(PAGES_PER_WORD)
            np.bitwise_or.at(self._host_bitmap, bits // np.uint64(PAGES_PER_WORD), masks)

    def _bit(self, block: Block, page: int) -> int:
        pages = block.size // self.layout.page_size
        if not 0 <= page < pages:
            raise LayoutError(
                f"block {block.name!r} has no page {page}: its {pages} used pages count from 0"
            )
        return self._first_bit[block.name] + int(page)

    def set_dirty(self, cache_words: npt.ArrayLike, host_words: npt.ArrayLike) -> None:
        """Replace both bitmaps, uint64 (words,), and recount.

        How a trace's epoch or a VMM's own bitmaps come in. Raises LayoutError for another shape or
        dtype, with nothing changed; a stray bit is refused by the next flush.
        """
        cache = self._checked_words(cache_words, "cache_words")
        host = self._checked_words(host_words, "host_words")
        with self.exclusive():
            self._cache_bitmap[:] = cache
            self._host_bitmap[:] = host
            self.recount()

    def _checked_words(self, words: npt.ArrayLike, what: str) -> Words:
        array = np.asarray(words)
        if array.dtype != np.uint64 or array.shape != (self.layout.words,):
            raise LayoutError(
                f"{what} is {array.dtype} {array.shape}: give uint64 ({self.layout.words},)"
            )
        return array

    def recount(self) -> None:
        """Set the dirty count to the number of cache bits that are set."""
        n_words = np.uint64(self.layout.words)
        self.dirty_pages: int = int(count_dirty(address(self._cache_bitmap), n_words))

    def stray_error(self, page: int) -> StrayDirtyPages:
        """The error for a stray bit found by a flush."""
        return stray_error(page, self.layout)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the RAM for one flush or one change; FlushInProgress if it is held already."""
        if not self._exclusive.acquire(blocking=False):
            raise FlushInProgress("this RAM is being flushed: wait until the flush has returned")
        try:
            yield
        finally:
            self._exclusive.release()

    def release(self) -> None:
        """Let go of blocks, caches and bitmaps (``colo_release_ram_cache``); again does nothing.

        FlushInProgress while a flush is running. A released RAM has no blocks; flushing it flushes
        nothing.
        """
        with self.exclusive():
            self._install((), self.layout.page_size, self.layout.kind)


def _place(blocks: Iterable[Block], page_size: int) -> Iterator[model.Block]:
    """The geometry of the blocks, those without an offset put after the one before."""
    word_bytes = PAGES_PER_WORD * page_size
    free = 0
    for block in blocks:
        offset = free if block.offset is None else block.offset
        yield model.Block(block.name, offset, block.size, block.max_size)
        free = -(-(offset + block.max_size) // word_bytes) * word_bytes


def _gaps(layout: model.Layout) -> Iterator[tuple[int, int]]:
    """The ranges of bits, up to the end of the bitmap's last word, that no used page owns."""
    covered = 0
    for region in sorted(layout.regions, key=lambda region: region.first_bit):
        if covered < region.first_bit:
            yield covered, region.first_bit
        covered = max(covered, region.bits.stop)
    if covered < layout.words * PAGES_PER_WORD:
        yield covered, layout.words * PAGES_PER_WORD


def _as_bytes(buffer: Any, what: str) -> Bytes:
    """A flat uint8 view of writable, contiguous memory, never a copy."""
    try:
        view = memoryview(buffer)
    except (TypeError, ValueError, BufferError) as error:
        raise LayoutError(f"{what} is not a usable buffer: {error}") from error
    if view.readonly:
        raise LayoutError(f"{what} is read-only: a flush writes the host, receive the cache")
    if not view.c_contiguous:
        raise LayoutError(f"{what} is not contiguous: attach one piece of memory")
    return np.frombuffer(view, dtype=np.uint8) if view.nbytes else np.zeros(0, dtype=np.uint8)


def _cut(memory: Bytes, size: int, name: str, what: str) -> Bytes:
    if len(memory) < size:
        raise LayoutError(
            f"block {name!r}: {what} has {len(memory)} bytes, too short for {size}: "
            "attach more memory or lower max_size"
        )
    return memory[:size]


def _allocate(size: int) -> Bytes:
    """Zeroed memory of our own, asking for huge pages."""
    if size == 0:
        return np.zeros(0, dtype=np.uint8)
    region = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_HUGEPAGE)
    whole: Bytes = np.frombuffer(region, dtype=np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE
    return whole[skip : skip + size]


def _bitmap(buffer: Any, n_words: int, what: str) -> Words:
    """Our own zeroed bitmap, or a view of the attached one."""
    if buffer is None:
        return np.zeros(n_words, dtype=np.uint64)
    memory = _as_bytes(buffer, what)
    if len(memory) < n_words * 8:
        raise LayoutError(
            f"{what} has {len(memory)} bytes, too short: {n_words} words of 8 bytes are needed"
        )
    if len(memory) and memory.ctypes.data % 8:
        raise LayoutError(f"{what} does not start at a multiple of 8 bytes: align it")
    return memory[: n_words * 8].view(np.uint64)
