"""ColoRam: a secondary's RAM, its cache and its two dirty bitmaps, through their life.

``colo_init_ram_cache`` allocates the cache and copies the RAM into it (:meth:`ColoRam.backup`) and
starts the dirty log (:attr:`ColoRam.dirty_log`); pages arrive from the primary
(:meth:`ColoRam.receive`); a :class:`~impl.pool.FlushPool` flushes at each checkpoint; RAM is added,
resized and removed in between; ``colo_release_ram_cache`` lets go (:meth:`ColoRam.release`).

What a flush reads lies behind one attribute that is replaced as a whole, and bits and count change
together inside a kernel: an error or a Ctrl-C leaves nothing half done. Whatever may fail comes before
that replacement; what must follow it, the next call does if this one was kept from it (``_settle``).
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from impl.arguments import as_words, bitmap_words, page_content, page_number, page_numbers
from impl.arrays import address
from impl.bitmap import set_bits
from impl.block import Block, Words, zeroed_words
from impl.dirtylog import KernelDirtyLog, Watched, WatchedBlocks
from impl.errors import DirtyLogError, FlushInProgress, RamReleased, WatchLost
from impl.exclusive import Exclusive, alone, generation
from impl.job import Installed, count, install, place, placed_on_nodes
from impl.kernels import job_table
from impl.kernels.compile import compile_kernels
from impl.kernels.flush import clear_range, mark_received, replace_bitmaps
from impl.uncopied import Uncopied
from model import ram as model
from model import resize as growth
from model.boundary.arguments import flag, listed, shown, whole_number
from model.errors import ColoError, LayoutError, StrayDirtyPages
from model.flush import stray_error
from model.ram import PAGES_PER_WORD, BitmapKind, Region

T = TypeVar("T")

_DIRTY_PAGES = job_table.place(job_table.DIRTY_PAGES)


@runtime_checkable
class BacksUp(Protocol):
    """What a backup is done by: a FlushPool."""

    def back_up(self, ram: "ColoRam") -> None:
        """Copy every used page host -> cache, and clear both bitmaps."""


class ColoRam(Uncopied):
    """Blocks, their caches, and the two dirty bitmaps over them.

    ``layout`` is "global" (the patch's bitmap: two blocks may share a word) or "per-block" (as QEMU
    has it now). ``cache_dirty`` and ``host_dirty`` may be writable memory that lives elsewhere,
    uint64 in this machine's byte order or raw bytes; the dirty count is then recounted from it. The
    contents of attached memory are taken as they stand: a page whose host and cache differ must be
    marked in one of the bitmaps, or be made alike by :meth:`backup`. Raises LayoutError if the
    blocks cannot be flushed.
    """

    _instead = "attach the same memory, where another process can reach it, in a ColoRam there"
    _now: Installed

    def __init__(
        self,
        blocks: Iterable[Block],
        *,
        page_size: int = 4096,
        layout: BitmapKind = "global",
        cache_dirty: Any = None,
        host_dirty: Any = None,
    ) -> None:
        compile_kernels()
        self._exclusive = Exclusive("this RAM is being flushed: wait until the flush has returned")
        self._released = False
        self._unsettled = False
        self._generation = generation()
        self._dirty_log: KernelDirtyLog | None = None
        valid = model.Layout((), page_size, layout)
        self._page_size, self._kind = valid.page_size, valid.kind
        self._attached_cache = None if cache_dirty is None else as_words(cache_dirty, "cache_dirty")
        self._attached_host = None if host_dirty is None else as_words(host_dirty, "host_dirty")
        nothing = np.zeros(0, np.uint64)
        given = self._blocks_given(blocks)
        sizes = {block.name: block.size for block in given}
        now = self._built(given, sizes, {}, nothing, nothing)
        for block in given:
            block._ram = weakref.ref(self)
        # Last, since blocks of a RAM that could not be made are nobody's; and past __setattr__, in
        # which Python looks for signals.
        self.__dict__["_now"] = now

    def _blocks_given(self, blocks: Any) -> list[Block]:
        """The blocks given, read once: they may come from a generator. Raises LayoutError."""
        given: list[Block] = listed(blocks, "blocks", LayoutError)
        for block in given:
            self._check_block(block)
        return given

    def _check_block(self, block: Any) -> None:
        """Raise LayoutError unless this is a block that no other RAM has."""
        if not isinstance(block, Block):
            raise LayoutError(f"block is {shown(block)}: give a Block")
        owner = None if block._ram is None else block._ram()
        if owner is not None and owner is not self and owner._has(block):
            raise LayoutError(
                f"block {block.name!r} belongs to another ColoRam: release that one first, or make "
                "another Block"
            )

    def _has(self, block: Block) -> bool:
        return "_now" in vars(self) and self._now.blocks.get(block.name) is block

    def _built(
        self,
        blocks: Iterable[Block],
        sizes: dict[str, int],
        there: dict[str, Region],
        cache_bitmap: Words,
        host_bitmap: Words,
    ) -> Installed:
        """What to install for these blocks, checked; those that are there stay where they are.

        The bits of the old bitmaps are taken over.
        """
        blocks = list(blocks)
        placed = tuple(place(blocks, sizes, self._page_size, there))
        layout = model.Layout(placed, self._page_size, self._kind)
        cache = _enough(self._attached_cache, cache_bitmap, layout.words, "cache_dirty")
        host = _enough(self._attached_host, host_bitmap, layout.words, "host_dirty")
        return install(layout, blocks, cache, host)

    def _rebuilt(self, blocks: Iterable[Block], sizes: dict[str, int]) -> Installed:
        """What to install instead of what is there now: places, bits and count are taken over."""
        now = self._now
        new = self._built(blocks, sizes, now.regions, now.cache_bitmap, now.host_bitmap)
        # A count that was wrong stays wrong, for the next flush to say so.
        wrong_by = int(now.job[_DIRTY_PAGES]) - int(count(now.cache_bitmap))
        new.job[_DIRTY_PAGES] = (int(new.job[_DIRTY_PAGES]) + wrong_by) % 2**64
        return new

    @property
    def layout(self) -> model.Layout:
        """Where the blocks and their bits lie now."""
        return self._now.layout

    @property
    def installed(self) -> Installed:
        """What a flush reads, as it is now."""
        return self._now

    @property
    def job(self) -> np.uint64:
        """The address of the job table (impl.kernels.flush): for kernels, valid until the RAM changes."""
        return self._now.job_address

    def block(self, name: str) -> Block:
        """The block of that name; LayoutError if there is none."""
        blocks = self._now.blocks
        found = blocks.get(str.__str__(name)) if isinstance(name, str) else None
        if found is None:
            some = ", ".join(map(repr, islice(blocks, 8))) + (", ..." if len(blocks) > 8 else "")
            raise LayoutError(f"there is no block {shown(name)}: have {some or 'none'}")
        return found

    @property
    def cache_dirty(self) -> Words:
        """Pages received from the primary: uint64 (words,), a view; bit b of word w is bit 64w + b.

        Take the view anew after :meth:`add`.
        """
        return self._settled().cache_bitmap

    @property
    def host_dirty(self) -> Words:
        """Pages written by the secondary's guest: uint64 (words,), a view like ``cache_dirty``."""
        return self._settled().host_bitmap

    @property
    def dirty_pages(self) -> int:
        """The count kept of the bits set in ``cache_dirty`` (QEMU: ``migration_dirty_pages``).

        Kept modulo 2^64 by the kernels, shown with a sign: below zero it was wrong to begin with.
        """
        now = self._settled()
        if self._generation != generation():
            return int(count(now.cache_bitmap))
        return int(now.job.view(np.int64)[_DIRTY_PAGES])

    @dirty_pages.setter
    @alone
    def dirty_pages(self, number: int) -> None:
        number = whole_number(number, "dirty_pages", LayoutError)
        if not -(2**63) <= number < 2**64:
            raise LayoutError(f"dirty_pages {number} is impossible: it is kept in 64 bits")
        self._now.job[_DIRTY_PAGES] = number % 2**64

    @alone
    def recount(self) -> None:
        """Set the dirty count to the number of cache bits that are set."""
        self._now.job[_DIRTY_PAGES] = count(self._now.cache_bitmap)

    def backup(self, pool: BacksUp, *, populate: bool = False) -> None:
        """Copy host -> cache in parallel and clear both bitmaps (``colo_init_ram_cache``).

        All of it: sparse memory does not stay sparse. The cache takes memory for every page, and a
        hole of a file that ``host`` maps is filled by being read.

        ``populate`` also touches every page of host and cache ahead (MADV_POPULATE_WRITE), so that
        the first flush does not wait for memory that has never been used.
        """
        if not isinstance(pool, BacksUp):
            raise ColoError(f"pool is {shown(pool)}: give a FlushPool")
        if flag(populate, "populate", ColoError):
            for block in self._now.blocks.values():
                block.populate()
        pool.back_up(self)

    @alone
    def receive(self, name: str, page: int, data: Any) -> None:
        """Take a page from the primary: cache written, bit set, count kept (``ram_load``).

        ``data``, any buffer, is exactly one page of bytes. Raises LayoutError with nothing changed.
        """
        block, size = self.block(name), self._page_size
        region = self._now.regions[block.name]
        number = page_number(page, region.used_pages, block.name)
        content = page_content(data, size, f"block {block.name!r}, page {number}")
        # The bit first: whatever happens in between, a page that differs is marked.
        mark_received(self.job, np.uint64(region.first_bit + number))
        block._cache[number * size : (number + 1) * size] = content

    @alone
    def mark_host_dirty(self, name: str, pages: int | Iterable[int]) -> None:
        """Note pages that the secondary's guest wrote: a number, or numbers, of pages of a block.

        Others may set bits of an attached bitmap meanwhile (README.md: who may set bits, and when).
        Raises LayoutError with nothing changed.
        """
        region = self._now.regions[self.block(name).name]
        numbers = page_numbers(pages, region.used_pages, region.block.name)
        bits = np.uint64(region.first_bit) + numbers
        set_bits(self.host_dirty, bits, bits)

    @alone
    def discarded(self, name: str, pages: int | Iterable[int]) -> None:
        """Note that the memory behind these pages of a block was thrown away or mapped anew.

        A balloon, a hole punched, ``mmap`` over it: the host page reads zero now, or something else,
        which for COLO is a write like any other, but one that the dirty log may not see (the table
        in ``impl/README.md``). So the pages are marked host-dirty, and the next flush puts back what
        the cache holds; a page that is cache-dirty stays so. Where the log had lost the memory it
        watches it again, and marks all of the piece that it had lost. Call it afterwards, with no
        flush in between. Never throw away memory of a *cache*: the primary's page would be gone,
        and only the primary can send it again.

        Raises LayoutError with nothing changed; DirtyLogError, the pages marked, if the memory can't
        be watched.
        """
        region = self._now.regions[self.block(name).name]
        numbers = page_numbers(pages, region.used_pages, region.block.name)
        bits = np.uint64(region.first_bit) + numbers
        set_bits(self.host_dirty, bits, bits)
        watching = self.watching()
        if watching is not None and watching.here and len(numbers):
            around = range(int(numbers.min()), int(numbers.max()) + 1)
            for piece in watching.lost(region.block.name, around):
                self._mark(region, piece)
            watching.watch_again(region.block.name, around)

    @alone
    def set_dirty(self, cache_words: npt.ArrayLike, host_words: npt.ArrayLike) -> None:
        """Replace both bitmaps, uint64 (words,), and recount.

        How a trace's epoch or a VMM's own bitmaps come in; the RAM's own bitmaps may be among them.
        Raises LayoutError for another shape or dtype, with nothing changed; a stray bit is refused
        by the next flush.
        """
        cache = bitmap_words(cache_words, self.layout.words, "cache_words")
        host = bitmap_words(host_words, self.layout.words, "host_words")
        replace_bitmaps(self.job, address(cache), address(host))

    def stray_error(self, page: int) -> StrayDirtyPages:
        """The error for a stray bit found by a flush."""
        return stray_error(page, self.layout)

    @property
    def dirty_log(self) -> KernelDirtyLog | None:
        """The log that finds what the guest writes; setting it starts it, None stops it.

        Each flush collects it first and rearms it afterwards, so the flush's own writes are not
        reported. Starting begins with every page clean: mark what was written before. However it
        ends, what it has found is marked first. A log in place of another takes over from it, and
        there is no moment between. In a child that ``fork`` made, where its log does not watch, a
        new log (or None) marks every page, since nobody knows which were written before. Raises
        DirtyLogUnavailable, DirtyLogError (also for a log that watches something else) or WatchLost
        (see :meth:`discarded`), with everything as it was.
        """
        return self._dirty_log if self.watching() is not None else None

    @dirty_log.setter
    @alone
    def dirty_log(self, log: KernelDirtyLog | None) -> None:
        if log is None:
            self._stop_dirty_log()
        elif not isinstance(log, KernelDirtyLog):
            raise DirtyLogError(f"a dirty log is a KernelDirtyLog or None, not {shown(log)}")
        elif self._dirty_log is not None and self._dirty_log.running:
            before = self._dirty_log
            log.start((), self._page_size, instead_of=before)
            self._dirty_log = log
            if before is not log:
                before.blocks = None
        else:
            self._start_dirty_log(log)

    def _start_dirty_log(self, log: KernelDirtyLog) -> None:
        """Start a log where none is running in this process."""
        if self.watching() is None:
            self._close_dirty_log()  # where that was interrupted
        before = log.blocks
        try:
            log.start(map(self._watched, self._now.regions.values()), self._page_size)
            if log.blocks is not None:
                log.blocks.ram = weakref.ref(self)
            if self.watching() is not None:  # the parent's, after a fork
                self._mark_every_page()
            self._dirty_log = log
        except BaseException:
            if self._dirty_log is not log and log.blocks is not before and log.blocks is not None:
                log.blocks.close()
            raise

    def _stop_dirty_log(self) -> None:
        """Stop the log, if there is one, what it has found marked. Interrupted, stop again."""
        watching = self.watching()
        if watching is not None and watching.here:
            watching.sync(self.host_dirty)
        elif watching is not None:
            self._mark_every_page()
        self._close_dirty_log()

    def _close_dirty_log(self) -> None:
        if self._dirty_log is not None and self._dirty_log.blocks is not None:
            self._dirty_log.blocks.close()
        self._dirty_log = None

    def _mark_every_page(self) -> None:
        """A page that is marked for nothing is copied for nothing, no more."""
        for region in self._now.regions.values():
            self._mark(region, range(region.used_pages))

    def _mark(self, region: Region, pages: range) -> None:
        if pages:
            first, last = region.first_bit + pages.start, region.first_bit + pages.stop - 1
            set_bits(self.host_dirty, np.array([first], np.uint64), np.array([last], np.uint64))

    def _watched(self, region: Region) -> Watched:
        block = region.block
        memory = self.block(block.name)._host
        return Watched(block.name, memory, region.first_bit, block.used_length)

    @alone
    def sync(self) -> None:
        """Collect the dirty log into ``host_dirty``; the guest may run meanwhile.

        Not needed before a flush. Spread over the time between checkpoints it keeps the log's own
        memory small. Raises DirtyLogError if there is none, WatchLost as a flush does.
        """
        watching = self.watching()
        if watching is None:
            raise DirtyLogError("this RAM has no dirty log: set ram.dirty_log first")
        watching.sync(self.host_dirty)

    @alone
    def add(self, block: Block) -> None:
        """Hot-add a block between checkpoints; its pages begin clean, as its memory stands.

        The next flush shares the RAM out anew. Attached bitmaps must have room for the new block's
        bits. Raises LayoutError, or DirtyLogError if the log can't watch it, with nothing changed.
        """
        now = self._now
        self._check_block(block)
        if block.name in now.blocks:
            raise LayoutError(f"block {block.name!r} is there already: use another name")
        sizes = {one.name: one.size for one in (*now.blocks.values(), block)}
        blocks, watching = [*now.blocks.values(), block], self.watching()
        region = self._rebuilt(blocks, sizes).regions[block.name]
        bits = range(region.first_bit, region.first_bit + region.max_pages)
        self._unsettled = True
        if watching is not None:
            watching.watch(Watched(block.name, block._host, region.first_bit, block.size))
        # Bits that were nobody's: first here, so that the count is right if this goes no further.
        _clear(now, range(bits.start, min(bits.stop, PAGES_PER_WORD * len(now.cache_bitmap))))
        new = self._rebuilt(blocks, sizes)
        _clear(new, bits)
        block._ram = weakref.ref(self)
        self._now = new

    @alone
    def resize(self, name: str, size: int) -> None:
        """Change how many bytes of a block are in use, within its max size, between checkpoints.

        What comes into use begins as ``backup`` leaves it: cache = host, clean. The dirty bits of
        what goes out of use are dropped and the count with them. Raises LayoutError with nothing
        changed; interrupted, it is done or it is not.
        """
        block = self.block(name)
        name, size = block.name, whole_number(size, f"block {block.name!r}: size", LayoutError)
        now, watching, before = self._now, self.watching(), block.size
        sizes = {one.name: one.size for one in now.blocks.values()} | {name: size}
        new = self._rebuilt(now.blocks.values(), sizes)
        region = new.regions[name]
        gone = range(region.bits.stop, region.first_bit + region.max_pages)
        new = replace(new, gone=gone)
        self._unsettled = True
        if size > before:
            if watching is not None:
                watching.resize(name, size)
            block._cache[before:size] = block._host[before:size]
        # Past __setattr__: no signal is looked for between these two.
        self.__dict__["_now"], block.__dict__["_size"] = new, size

    @alone
    def remove(self, name: str) -> None:
        """Hot-unplug a block between checkpoints: its memory is let go, its name is free again.

        Its dirty bits are dropped, the count with them, and what the dirty log has found in it. The
        other blocks, and their bits, stay where they are: whoever attaches the bitmaps anew gives
        each its ``offset``, or in a per-block layout its ``first_bit``. Raises LayoutError with
        nothing changed; interrupted, it is done or it is not.
        """
        now = self._now
        region = now.regions[self.block(name).name]
        layout = growth.without(now.layout, region.block.name)
        blocks = [now.blocks[block.name] for block in layout.blocks]
        cache = _enough(self._attached_cache, now.cache_bitmap, layout.words, "cache_dirty")
        host = _enough(self._attached_host, now.host_bitmap, layout.words, "host_dirty")
        new = install(layout, blocks, cache, host)
        new.job[_DIRTY_PAGES] = now.job[_DIRTY_PAGES]
        gone = range(region.first_bit, region.first_bit + region.max_pages)
        self._unsettled = True
        self._now = replace(new, gone=gone)

    def release(self) -> None:
        """Let go of blocks, caches, bitmaps and dirty log (``colo_release_ram_cache``).

        Attached bitmaps live on, and what the log has found is marked in them; in a child that
        ``fork`` made they are left as they are, since the parent's log goes on. Again does nothing,
        or what was left to do when it was interrupted; FlushInProgress while a flush is running. To
        flush or change it afterwards raises RamReleased.
        """
        if not self._released:
            self._exclusive.run(self._let_go)

    def _let_go(self) -> None:
        if self._unsettled:
            self._settle()
        watching = self.watching()
        if watching is not None and watching.here:
            try:
                watching.sync(self.host_dirty)
            except WatchLost as lost:
                for name, ranges in lost.pages.items():
                    for pages in ranges:
                        self._mark(self._now.regions[name], pages)
        self._close_dirty_log()
        no_words = np.zeros(0, np.uint64)
        self._now = install(model.Layout((), self._page_size, self._kind), (), no_words, no_words)
        self._attached_cache = self._attached_host = None
        self._released = True

    def exclusively(self, work: Callable[[], T]) -> T:
        """``work()``, without arguments, while nothing else flushes or changes this RAM.

        Raises FlushInProgress if something does, RamReleased if there is nothing any more.
        """

        if not callable(work):
            raise ColoError(f"work is {shown(work)}: give something to call")

        def if_there() -> T:
            if self._released:
                raise RamReleased("this RAM has been released: make a new ColoRam")
            if self._unsettled:
                self._settle()
            if self._generation != generation():
                self._become_owner()
            try:
                return work()
            finally:
                if self._unsettled:
                    self._settle()

        return self._exclusive.run(if_there)

    def _settled(self) -> Installed:
        """What is installed, with nothing left to be done unless a change is going on."""
        if self._unsettled:
            with suppress(FlushInProgress):
                self._exclusive.run(self._settle)
        return self._now

    def _settle(self) -> None:
        """Bring log and bits into line with the blocks that are installed, after a change of them.

        A change that failed before it installed its blocks leaves a log that watches more than
        them; one that has installed them, bits of pages that are not in use any more.
        """
        now, watching = self._now, self.watching()
        for one in now.layout.blocks:
            now.blocks[one.name]._size = one.used_length
        if watching is not None:
            watching.follow({one.name: one.used_length for one in now.layout.blocks})
        _clear(now, now.gone)
        self._unsettled = False

    def _become_owner(self) -> None:
        """After ``fork``: another thread of the parent may have been in the midst of a flush there.

        Its pages are copied before their bits are cleared, so the bits of the copy are true; the
        count is lowered at the end, and is not.
        """
        self._now.job[_DIRTY_PAGES] = count(self._now.cache_bitmap)
        self._generation = generation()

    def watching(self) -> WatchedBlocks | None:
        """What its dirty log watches, or None. After ``fork`` that is the parent's memory."""
        blocks = None if self._dirty_log is None else self._dirty_log.blocks
        return None if blocks is None or blocks.closed else blocks

    def find_nodes(self) -> Installed:
        """Held: ask Linux on which NUMA nodes the memory lies now; what is installed then."""
        self._now = placed_on_nodes(self._now)
        return self._now

    def collect_dirty_log(self) -> None:
        """Before a flush, held: mark what the dirty log has found."""
        watching = self.watching()
        if watching is not None:
            watching.fetch(self.host_dirty)

    def rearm_dirty_log(self) -> None:
        """After a flush, held: forget the flush's own writes.

        Not done after an error: the log then reports the same pages again, and none is lost.
        """
        watching = self.watching()
        if watching is not None:
            watching.rearm()


def _clear(installed: Installed, bits: range) -> None:
    """Clear these bits of both bitmaps and keep the count."""
    if bits:
        clear_range(installed.job_address, np.uint64(bits.start), np.uint64(bits.stop))


def _enough(attached: Words | None, before: Words, n_words: int, what: str) -> Words:
    """The bitmap of ``n_words`` words: the attached memory, or our own with the old bits."""
    if attached is None:
        if len(before) >= n_words:
            return before[:n_words]
        bitmap = zeroed_words(n_words, what)
        bitmap[: len(before)] = before
        return bitmap
    if len(attached) < n_words:
        raise LayoutError(
            f"{what} has {attached.nbytes} bytes, too short: {n_words} words of 8 bytes are needed"
        )
    return attached[:n_words]
