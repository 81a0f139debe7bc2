"""The kernel's own dirty log: which pages of the blocks has anybody written since we last asked?

:mod:`impl.machine.writewatch` says which memory has been written; here that becomes dirty bits. It plays
the part of KVM's dirty log under ``address_space_sync_dirty_bitmap`` in the patch.

What counts as a write: a store by any thread of this process or by a KVM guest that runs in this
memory, and the kernel's own stores through this mapping (``read(2)`` into it). What does not: a store
through *another* mapping of the same memory (another process, which keeps its own log), a device
writing to pages pinned before the sync, and most ways of discarding pages (a hole punched).
``impl/README.md`` has the whole list, as measured. Whoever does that marks the pages
(``ColoRam.discarded``).

The flush writes host memory too and would find its own writes in the log. Hence two ways to ask:

- ``sync`` while the guest runs: report and protect again in one call;
- ``fetch`` before a flush and ``rearm`` after it, while the guest stands still: pages that are
  dirty anyway stay writable, so that the flush takes no page fault for them, and all is protected
  at the end. A flush that fails in between has lost nothing: what was fetched is reported again.
"""

import errno
import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from impl.bitmap import set_bits
from impl.errors import DirtyLogError, DirtyLogUnavailable, WatchLost
from impl.exclusive import Exclusive, alone
from impl.machine.writewatch import HOST_PAGE, WriteWatch, host_pages, room_for
from impl.uncopied import Uncopied
from model.boundary.arguments import block_name, listed, shown, whole_number
from model.errors import ColoError

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
T = TypeVar("T")

_EXTENTS = 16384  # room for what one step of a scan finds; a fuller log takes another step


class Watched(NamedTuple):
    """Memory to watch: page ``p`` of it is bit ``first_bit + p`` of the bitmap.

    ``memory`` starts on a host page (``mmap.PAGESIZE``) and shares its last one with nobody;
    its first ``used_length`` bytes are reported.
    """

    name: str
    memory: Bytes
    first_bit: int
    used_length: int

    @property
    def address(self) -> int:
        return self.memory.ctypes.data

    @property
    def end(self) -> int:
        """Where the memory ends, in whole host pages: the unit the kernel knows."""
        return self.address + host_pages(self.memory.nbytes)


class KernelDirtyLog(Uncopied):
    """A dirty log of the memory of RAM blocks, kept by the Linux kernel (6.7 or later).

    ``start`` begins with every page clean, ``sync`` (or ``fetch`` and ``rearm``) collects, ``stop``
    ends. A ColoRam does all that once the log is its ``dirty_log``, and is then the only one who
    may: what others collect would be missing there. Pages of the layout may be smaller or larger
    than the host's: each one that overlaps a written host page is reported.

    One call at a time: FlushInProgress for a second one.
    """

    _instead = "make a KernelDirtyLog for each RAM"
    # What it watches; of one log after the other: see ``instead_of``.
    blocks: "WatchedBlocks | None" = None

    def __init__(self) -> None:
        self._exclusive = Exclusive("this dirty log is in use: wait until that call has returned")

    @property
    def running(self) -> bool:
        """Does it watch memory of this process? A log from before a ``fork`` does not."""
        return self.blocks is not None and not self.blocks.closed and self.blocks.here

    @alone
    def start(
        self,
        watched: Iterable[Watched],
        page_size: int = HOST_PAGE,
        *,
        instead_of: "KernelDirtyLog | None" = None,
    ) -> None:
        """Watch all of this memory from now on; every page begins clean.

        ``instead_of`` is a running log, whose memory, and all that it has found there, this one
        takes over: no write in between is lost, for there is no in between. Raises
        DirtyLogUnavailable if the kernel has no such log or forbids it, DirtyLogError if this log
        is running already or the memory can't be watched. After an error nothing is watched.
        """
        if instead_of is not None and not isinstance(instead_of, KernelDirtyLog):
            raise DirtyLogError(f"instead_of is {shown(instead_of)}: give a KernelDirtyLog")
        if instead_of is not None and instead_of.blocks is self.blocks:
            return
        if self._ram() is not None:
            raise DirtyLogError(
                "this dirty log is a ColoRam's: set that one's dirty_log to None first, or use "
                "a new one"
            )
        if self.running:
            raise DirtyLogError("the dirty log is running: stop it before you start it again")
        if self.blocks is not None and self.blocks.here:
            self.blocks.close()  # where that was interrupted
        if instead_of is not None:
            self.blocks = instead_of.blocks
            if instead_of._ram() is None:  # else that is the one to exchange them
                instead_of.blocks = None
            return
        blocks = WatchedBlocks(page_size)
        try:
            blocks.open()
            for one in listed(watched, "watched", DirtyLogError):
                blocks.watch(one)
            self.blocks = blocks
        except BaseException:
            blocks.close()
            raise

    @alone
    def watch(self, watched: Watched) -> None:
        """Watch more memory (hot-added RAM), clean from now on. On error nothing has changed."""
        self._own().watch(watched)

    @alone
    def resize(self, name: str, used_length: int) -> None:
        """Report the first ``used_length`` bytes of a block from now on.

        What is new in them is clean, but for the host page that they share with the old end.
        """
        self._own().resize(name, used_length)

    @alone
    def watch_again(self, name: str, pages: range) -> None:
        """After WatchLost: watch these pages of a block again, clean from now on; mark them first.

        With each page comes the whole piece of memory that was lost, so give the error's ranges.
        """
        self._own().watch_again(name, pages)

    @alone
    def forget(self, name: str) -> None:
        """Watch this block no longer; one that is not watched is no error."""
        self._own().forget(name)

    @alone
    def sync(self, host_dirty: Words) -> None:
        """Add every page written since the last time to the bitmap and begin anew, in one step.

        The guest may go on writing meanwhile: a write is found by this sync or by the next.
        ``host_dirty``: uint64 words, enough for every watched page; bits are set, none cleared.
        Raises WatchLost, everything else collected, if memory has been mapped anew.
        """
        self._own().sync(host_dirty)

    @alone
    def fetch(self, host_dirty: Words) -> None:
        """Like ``sync``, but begin nothing anew: the pages are reported again until ``rearm``."""
        self._own().fetch(host_dirty)

    @alone
    def rearm(self) -> None:
        """Call every page clean: what has been written up to now is dealt with.

        For the time after a flush, before the guest goes on.
        """
        self._own().rearm()

    def stop(self) -> None:
        """Watch nothing any more. Stopping twice does nothing.

        The log of a ColoRam is stopped as by ``ram.dirty_log = None``: what it has found is marked.
        Otherwise what has not been collected is dropped.
        """
        ram = self._ram()
        if ram is not None:
            ram.dirty_log = None
        elif self.blocks is not None:
            self.exclusively(self.blocks.close)

    def exclusively(self, work: Callable[[], T]) -> T:
        """``work()``, while no other call uses this log; FlushInProgress if one does."""
        return self._exclusive.run(work)

    def _ram(self) -> "_Ram | None":
        """The ColoRam whose dirty log this is."""
        ram = None if self.blocks is None else self.blocks.ram()
        return ram if ram is not None and ram.watching() is self.blocks else None

    def _own(self) -> "WatchedBlocks":
        """What it watches, to be used by its own methods: it runs, and for no ColoRam."""
        if self._ram() is not None:
            raise DirtyLogError(
                "this dirty log is a ColoRam's: use that one's methods (ram.sync() collects it), "
                "or set its dirty_log to None first"
            )
        if self.blocks is None:
            raise DirtyLogError("the dirty log is not running: start it first")
        return self.blocks

    def __enter__(self) -> "KernelDirtyLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class WatchedBlocks:
    """Blocks whose written pages become bits: what a log that runs has, and nothing else has.

    Methods are as in KernelDirtyLog, which see; one call at a time.
    """

    def __init__(self, page_size: int) -> None:
        self.closed = False
        # The ColoRam that made it, if any: whether it still collects from here, it must say itself.
        self.ram: Callable[[], _Ram | None] = _no_ram
        self._page_size = whole_number(page_size, "page_size", DirtyLogError)
        if self._page_size <= 0:
            raise DirtyLogError(f"page_size {self._page_size} is impossible: give bytes")
        self._pid = os.getpid()
        self._blocks: dict[str, Watched] = {}
        # Those with memory, in order of it: start, end, name. A place that is no block's any more
        # (an exception came before it was removed) is passed over.
        self._in_order: list[tuple[int, int, str]] = []
        self._kernel: WriteWatch | None = None
        # What scans have found and no bitmap has yet.
        self._found = room_for(_EXTENTS)

    @property
    def here(self) -> bool:
        """Is it this process's memory, not that of the one that forked it?"""
        return self._pid == os.getpid()

    def open(self) -> None:
        """Once, before all else. Raises DirtyLogUnavailable."""
        self._kernel = WriteWatch()

    def watch(self, block: Watched) -> None:
        self._running()
        block = _checked(block)
        self._check_apart(block)
        if block.address < block.end:
            insort(self._in_order, _place(block))
        self._blocks[block.name] = block
        try:
            if block.address < block.end:
                self._add(block, block.address, block.end)
        except ColoError:
            self._drop(block)  # only: what is watched there may be another log's
            raise
        except BaseException:
            self.forget(block.name)
            raise

    def _check_apart(self, new: Watched) -> None:
        if new.name in self._blocks:
            raise DirtyLogError(f"block {new.name!r} is watched already: resize it instead")
        other = next(self._between(new.address, new.end), None)
        if other is not None:
            raise DirtyLogError(
                f"blocks {new.name!r} and {other.name!r} share host pages: separate them"
            )

    def _drop(self, block: Watched) -> None:
        del self._blocks[block.name]
        at = bisect_left(self._in_order, _place(block))
        if self._in_order[at : at + 1] == [_place(block)]:
            del self._in_order[at]

    def _between(self, start: int, end: int) -> Iterator[Watched]:
        """The blocks with memory between two addresses, found by halving."""
        order = self._in_order
        at = bisect_right(order, start, key=itemgetter(0))
        while at and self._at(order[at - 1]) is None:
            at -= 1
        at = max(at - 1, 0)
        while at < len(order) and order[at][0] < end:
            block = self._at(order[at])
            if block is not None and start < order[at][1]:
                yield block
            at += 1

    def _at(self, place: tuple[int, int, str]) -> Watched | None:
        start, _, name = place
        block = self._blocks.get(name)
        return block if block is not None and block.address == start else None

    def resize(self, name: str, used_length: int) -> None:
        kernel, before = self._running(), self._named(name)
        used_length = whole_number(
            used_length, f"block {before.name!r}: used_length", DirtyLogError
        )
        if not 0 <= used_length <= before.memory.nbytes:
            raise DirtyLogError(
                f"block {name!r} has {before.memory.nbytes} bytes of memory, not {used_length}: "
                "watch a block with all the memory it may grow into"
            )
        after = before._replace(used_length=used_length)
        start = before.address + host_pages(before.used_length)
        end = after.address + host_pages(used_length)
        if start < end:
            for lost in kernel.unwatched(start, end):
                self._add(before, *lost)
            kernel.protect(start, end)
        self._blocks[after.name] = after

    def lost(self, name: str, pages: range) -> list[range]:
        """The pieces of a block, in pages, that are watched no longer and hold any of these."""
        block = self._named(name)
        return list(self._pages(block, self._lost(block, pages)))

    def watch_again(self, name: str, pages: range) -> None:
        block = self._named(name)
        if not isinstance(pages, range) or pages.step != 1:
            raise DirtyLogError(f"block {block.name!r}: pages is {shown(pages)}: give a range")
        if pages and not 0 <= pages[0] <= pages[-1] < block.used_length // self._page_size:
            raise DirtyLogError(f"block {block.name!r} has no pages {pages[0]} to {pages[-1]}")
        for start, end in self._lost(block, pages):
            self._add(block, start, end)

    def _lost(self, block: Watched, pages: range) -> list[tuple[int, int]]:
        """The same pieces, by address: whole, since huge pages can't be watched by halves."""
        kernel = self._running()
        start = block.address + pages.start * self._page_size // HOST_PAGE * HOST_PAGE
        end = block.address + host_pages(pages.stop * self._page_size)
        if next(kernel.unwatched(start, min(end, block.end)), None) is None:
            return []
        pieces = kernel.unwatched(block.address, block.end)
        return [(low, high) for low, high in pieces if low < end and start < high]

    def _add(self, block: Watched, start: int, end: int) -> None:
        try:
            self._running().add(start, end)
        except DirtyLogUnavailable:
            raise
        except OSError as error:
            _refuse_memory(block.name, error)

    def forget(self, name: str) -> None:
        kernel = self._running()
        block = self._blocks.get(block_name(name, "a block's name", DirtyLogError))
        if block is not None:
            kernel.remove(block.address, block.end)
            self._drop(block)

    def follow(self, used_lengths: Mapping[str, int]) -> None:
        """Watch no more than these blocks, by name, and report no more than these bytes of each.

        Nothing is done to those of the process that forked this one.
        """
        if self.here:
            for name, block in list(self._blocks.items()):
                if name not in used_lengths:
                    self.forget(name)
                elif used_lengths[name] < block.used_length:
                    self.resize(name, used_lengths[name])

    def sync(self, host_dirty: Words) -> None:
        self._collect(host_dirty, protect=True)

    def fetch(self, host_dirty: Words) -> None:
        self._collect(host_dirty, protect=False)

    def rearm(self) -> None:
        self._on_each_block(self._running().protect)

    def close(self) -> None:
        """Watch nothing any more. Closing twice does nothing; interrupted, close again."""
        self.closed = True
        if self._kernel is not None and not self._kernel.closed:
            try:
                if self.here:
                    for block in self._blocks.values():
                        self._kernel.remove(block.address, block.end)
            finally:
                self._kernel.close()
        # Whoever still has the log does not keep the memory with it.
        self._blocks, self._in_order = {}, []

    def _collect(self, host_dirty: Words, *, protect: bool) -> None:
        kernel = self._running()
        self._check_bitmap(host_dirty)
        self._drain(host_dirty)

        def scan(start: int, end: int) -> None:
            while start < end:
                try:
                    start = kernel.scan(start, end, self._found, protect=protect)
                finally:
                    self._drain(host_dirty)

        self._on_each_block(scan)

    def _on_each_block(self, work: Callable[[int, int], None]) -> None:
        """Do some work on all the memory; where some is watched no longer, on all the rest of it.

        Raises WatchLost at the end, for all blocks together.
        """
        kernel = self._running()
        lost = {}
        for block in self._blocks.values():
            try:
                work(block.address, block.end)
            except OSError:
                gone = list(self._work_on_the_rest(kernel, block, work))
                pages = list(self._pages(block, gone))
                if pages:
                    lost[block.name] = pages
        if lost:
            raise _watch_lost(lost)

    def _work_on_the_rest(
        self, kernel: WriteWatch, block: Watched, work: Callable[[int, int], None]
    ) -> Iterator[tuple[int, int]]:
        """Work on what is still watched of a block; yields the extents that are not."""
        at = block.address
        for start, end in [*kernel.unwatched(block.address, block.end), (block.end, block.end)]:
            try:
                if at < start:
                    work(at, start)
            except OSError:  # mapped anew since we looked
                yield at, start
            yield start, end
            at = end

    def _drain(self, host_dirty: Words) -> None:
        """Move what scans have found into the bitmap.

        The pages of a finished scan are protected already, so only these records know of them: they
        are erased after the bits are set. An exception (Ctrl-C) in between leaves them for the next
        call, and setting a bit twice does no harm.
        """
        count = int(np.count_nonzero(self._found[:, 1]))
        if count == 0:
            return
        found = self._found[:count]
        page_size = np.uint64(self._page_size)
        for block in self._between(int(found[:, 0].min()), int(found[:, 1].max())):
            base, used_pages = np.uint64(block.address), block.used_length // self._page_size
            end = base + np.uint64(used_pages * self._page_size)
            inside = found[(found[:, 0] >= base) & (found[:, 0] < end)]
            if len(inside):
                first = (inside[:, 0] - base) // page_size
                last = (np.minimum(inside[:, 1], end) - base - np.uint64(1)) // page_size
                first_bit = np.uint64(block.first_bit)
                set_bits(host_dirty, first_bit + first, first_bit + last)
        found[:] = 0

    def _pages(self, block: Watched, extents: Iterable[tuple[int, int]]) -> Iterator[range]:
        """The used pages of a block that overlap these extents of its memory."""
        used_pages = block.used_length // self._page_size
        for start, end in extents:
            first = (start - block.address) // self._page_size
            last = min(-(-(end - block.address) // self._page_size), used_pages)
            if first < last:
                yield range(first, last)

    def _running(self) -> WriteWatch:
        if self._kernel is None or self.closed:
            raise DirtyLogError("the dirty log is not running: start it first")
        if not self.here:
            raise DirtyLogError(
                f"this dirty log watches process {self._pid}, which forked this one: "
                "start a new log here"
            )
        return self._kernel

    def _named(self, name: str) -> Watched:
        block = self._blocks.get(str.__str__(name)) if isinstance(name, str) else None
        if block is None:
            raise DirtyLogError(f"block {shown(name)} is not watched: watch it first")
        return block

    def _check_bitmap(self, host_dirty: Words) -> None:
        need = max(
            (w.first_bit + w.used_length // self._page_size for w in self._blocks.values()),
            default=0,
        )
        if not isinstance(host_dirty, np.ndarray):
            raise DirtyLogError(f"host_dirty is {shown(host_dirty)}: give an array of uint64")
        if host_dirty.dtype != np.uint64 or host_dirty.ndim != 1 or host_dirty.size * 64 < need:
            raise DirtyLogError(
                f"host_dirty is {host_dirty.dtype} {host_dirty.shape}: the dirty log needs "
                f"{-(-need // 64)} words of uint64"
            )
        if not host_dirty.flags.carray:
            raise DirtyLogError("host_dirty is not contiguous, aligned and writable")


class _Ram(Protocol):
    """What a log knows of the ColoRam that it works for."""

    dirty_log: KernelDirtyLog | None

    def watching(self) -> WatchedBlocks | None: ...


def _no_ram() -> None:
    """The RAM of a log that was started by itself."""


def _watch_lost(lost: dict[str, list[range]]) -> WatchLost:
    where = "; ".join(
        f"block {name!r}: pages {', '.join(f'{one.start} to {one.stop - 1}' for one in pages)}"
        for name, pages in lost.items()
    )
    name, (first, *_) = next(iter(lost.items()))
    return WatchLost(
        f"memory under the dirty log can't be scanned: it has been mapped anew, moved or unmapped "
        f"({where}). What was written elsewhere is marked; mark these pages too: "
        f"ram.discarded({name!r}, {first}) does that and watches them again (without a ColoRam: "
        "set their bits, then log.watch_again(name, pages)). Memory that is gone must be mapped again "
        "first, or its block be removed",
        lost,
    )


def _refuse_memory(name: str, error: OSError) -> NoReturn:
    remedy = {
        errno.EBUSY: "another dirty log watches it: stop that one first",
        errno.EINVAL: "use anonymous, memfd or /dev/shm memory, huge pages from their start, all of "
        "it mapped",
        errno.EPERM: "its mapping can't be written: map it PROT_READ | PROT_WRITE",
        errno.ENOMEM: "use less memory, or fewer pieces of it (sysctl vm.max_map_count)",
    }.get(error.errno or 0, "map it anew")
    raise DirtyLogError(f"block {name!r} can't be watched ({error.strerror}): {remedy}") from error


def _place(block: Watched) -> tuple[int, int, str]:
    """Where a block's memory lies, and whose it is."""
    return block.address, block.end, block.name


def _checked(watched: Watched) -> Watched:
    """What is to be watched, its numbers plain; DirtyLogError if it can't be."""
    if not isinstance(watched, Watched):
        raise DirtyLogError(f"one of the watched is {shown(watched)}: give a Watched")
    name = block_name(watched.name, "the name of a watched block", DirtyLogError)
    new = Watched(
        name,
        watched.memory,
        whole_number(watched.first_bit, f"block {name!r}: first_bit", DirtyLogError),
        whole_number(watched.used_length, f"block {name!r}: used_length", DirtyLogError),
    )
    memory = new.memory
    if not isinstance(memory, np.ndarray):
        raise DirtyLogError(f"block {name!r}: memory is {shown(memory)}: give an array of uint8")
    if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
        raise DirtyLogError(f"block {new.name!r}: memory must be one contiguous array of uint8")
    if not memory.flags.writeable:
        raise DirtyLogError(f"block {new.name!r}: read-only memory is never dirty: don't watch it")
    if memory.nbytes and new.address % HOST_PAGE:
        raise DirtyLogError(
            f"block {new.name!r}: its memory does not start on a {HOST_PAGE}-byte host page: "
            "allocate it with mmap"
        )
    if not 0 <= new.used_length <= memory.nbytes or new.first_bit < 0:
        raise DirtyLogError(
            f"block {new.name!r}: {new.used_length} bytes used of {memory.nbytes}, first bit "
            f"{new.first_bit}: use lengths and bits that exist"
        )
    return new
