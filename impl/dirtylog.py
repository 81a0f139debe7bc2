"""The kernel's own dirty log: which pages of the blocks has anybody written since we last asked?

Linux write-protects the memory and, in *asynchronous* mode, lifts the protection by itself at the
first write to a page (userfaultfd, ``UFFD_FEATURE_WP_ASYNC``). An unprotected page is a dirty page;
one ioctl on ``/proc/self/pagemap`` (``PAGEMAP_SCAN``) reports such pages and protects them again,
each page in one atomic step, so that a write between two syncs is found by one of them. It plays
the part of KVM's dirty log under ``address_space_sync_dirty_bitmap`` in the patch.

What counts as a write: a store by any thread of this process, and the kernel's own stores through
this mapping (``read(2)`` into it). What does not: a store through *another* mapping of the same
memory (another process, which keeps its own log), a device writing to pages pinned before the sync,
and discarding pages (``MADV_DONTNEED``, a hole punched). Whoever does that marks the pages.

The flush writes host memory too and would find its own writes in the log. Hence two ways to ask:

- ``sync`` while the guest runs: report and protect again in one call;
- ``fetch`` before a flush and ``rearm`` after it, while the guest stands still: pages that are
  dirty anyway stay writable, so that the flush takes no page fault for them, and all is protected
  at the end. A flush that fails in between has lost nothing: what was fetched is reported again.
"""

import contextlib
import ctypes
import errno
import fcntl
import io
import mmap
import os
import platform
import struct
import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from impl.bitmap import set_bits
from impl.uncopied import Uncopied
from model.ram import ColoError

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

# linux/userfaultfd.h; WP_ASYNC came with Linux 6.7.
_SYSCALL = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1  # all that an unprivileged process may ask for, and all that is needed
_API_VERSION = 0xAA
_FEATURES = (
    1 << 0  # PAGEFAULT_FLAG_WP
    | 1 << 12  # WP_HUGETLBFS_SHMEM: memfd, /dev/shm and huge pages as well as anonymous memory
    | 1 << 13  # WP_UNPOPULATED: protect pages that have never been touched
    | 1 << 15  # WP_ASYNC: the kernel lifts the protection, nobody has to answer a fault
)
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_UFFDIO_UNREGISTER = 0x8010AA01
_UFFDIO_WRITEPROTECT = 0xC018AA06
_REGISTER_MODE_WP = 2
_WRITEPROTECT_MODE_WP = 1

# linux/fs.h
_PAGEMAP_SCAN = 0xC0606610
_SCAN_ARGUMENT = struct.Struct("12Q")  # size flags start end walk_end vec vec_len max_pages + masks
_WALK_END = 32
_WP_MATCHING = 1
_CHECK_WPASYNC = 2  # refuse memory that is not protected, rather than call it clean
_PAGE_IS_WRITTEN = 2

_HOST_PAGE = mmap.PAGESIZE
_REGIONS = 16384  # room for what one scan returns; a fuller log takes another call


class DirtyLogUnavailable(ColoError, OSError):
    """This kernel, or the sandbox around this process, does not offer the dirty log."""


class DirtyLogError(ColoError, ValueError):
    """The dirty log was asked for something it can't do; the message says what to do instead."""


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
        return self.address + _host_pages(self.memory.nbytes)


class KernelDirtyLog(Uncopied):
    """A dirty log of the memory of RAM blocks, kept by the Linux kernel (6.7 or later).

    ``start`` begins with every page clean, ``sync`` (or ``fetch`` and ``rearm``) collects, ``stop``
    ends. A ColoRam does all that once the log is its ``dirty_log``. Pages of the layout may be
    smaller or larger than the host's: each one that overlaps a written host page is reported.
    """

    _instead = "make a KernelDirtyLog for each RAM"

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self._page_size = _HOST_PAGE
        self._pid = 0
        self._uffd: io.FileIO | None = None
        self._pagemap: io.FileIO | None = None
        self._lock = threading.Lock()
        # What scans found and no bitmap has yet: struct page_region (start, end, categories).
        self._found = np.zeros((_REGIONS, 3), np.uint64)

    def start(self, watched: Iterable[Watched], page_size: int = _HOST_PAGE) -> None:
        """Watch all of this memory from now on; every page begins clean.

        Raises DirtyLogUnavailable if the kernel has no such log or forbids it, DirtyLogError if the
        log is running already or the memory can't be watched. After an error nothing is watched.
        """
        if self._uffd is not None:
            raise DirtyLogError("the dirty log is running: stop it before you start it again")
        try:
            self._uffd = _open_userfaultfd()
            self._pagemap = _open_pagemap()
            self._page_size, self._pid = page_size, os.getpid()
            self._found[:] = 0
            for one in watched:
                self.watch(one)
        except BaseException:
            self.stop()
            raise

    def watch(self, watched: Watched) -> None:
        """Watch more memory (hot-added RAM), clean from now on. On error nothing has changed."""
        uffd, _ = self._running()
        _check_watched(watched, self._watched)
        if watched.address == watched.end:
            self._watched[watched.name] = watched
            return
        extent = watched.address, watched.end - watched.address
        try:
            fcntl.ioctl(uffd, _UFFDIO_REGISTER, _record(*extent, _REGISTER_MODE_WP, 0))
        except OSError as error:
            _refuse_memory(watched.name, error)
        try:
            fcntl.ioctl(uffd, _UFFDIO_WRITEPROTECT, _record(*extent, _WRITEPROTECT_MODE_WP))
            self._protect(watched)
        except BaseException:
            fcntl.ioctl(uffd, _UFFDIO_UNREGISTER, _record(*extent))
            raise
        self._watched[watched.name] = watched

    def resize(self, name: str, used_length: int) -> None:
        """Report the first ``used_length`` bytes of a block from now on.

        What is new in them is clean, but for the host page that they share with the old end.
        """
        self._running()
        before = self._watched[name]
        if not 0 <= used_length <= before.memory.nbytes:
            raise DirtyLogError(
                f"block {name!r} has {before.memory.nbytes} bytes of memory, not {used_length}: "
                "watch a block with all the memory it may grow into"
            )
        if used_length > before.used_length:
            self._protect(before, _host_pages(before.used_length))
        self._watched[name] = before._replace(used_length=used_length)

    def sync(self, host_dirty: Words) -> None:
        """Add every page written since the last time to the bitmap and begin anew, in one step.

        The guest may go on writing meanwhile: a write is found by this sync or by the next.
        ``host_dirty``: uint64 words, enough for every watched page; bits are set, none cleared.
        """
        self._collect(host_dirty, _WP_MATCHING | _CHECK_WPASYNC)

    def fetch(self, host_dirty: Words) -> None:
        """Like ``sync``, but begin nothing anew: the pages are reported again until ``rearm``."""
        self._collect(host_dirty, _CHECK_WPASYNC)

    def rearm(self) -> None:
        """Call every page clean: what has been written up to now is dealt with.

        For the time after a flush, before the guest goes on.
        """
        with self._lock:
            self._running()
            for watched in self._watched.values():
                self._protect(watched)

    def stop(self) -> None:
        """Watch nothing any more. Stopping twice does nothing."""
        with self._lock:
            if self._uffd is not None and self._pid == os.getpid():
                for name in list(self._watched):
                    self._unregister(name)
            for file in (self._uffd, self._pagemap):
                if file is not None:
                    file.close()
            self._uffd = self._pagemap = None
            self._watched.clear()

    def forget(self, name: str) -> None:
        """Watch this block no longer; one that is not watched is no error."""
        with self._lock:
            self._running()
            self._unregister(name)

    def _unregister(self, name: str) -> None:
        uffd, _ = self._running()
        watched = self._watched.pop(name, None)
        if watched is not None:
            # Fails only for memory that has been unmapped, which has taken its watch along.
            with contextlib.suppress(OSError):
                extent = watched.address, watched.end - watched.address
                fcntl.ioctl(uffd, _UFFDIO_UNREGISTER, _record(*extent))

    def __enter__(self) -> "KernelDirtyLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _collect(self, host_dirty: Words, flags: int) -> None:
        with self._lock:
            self._running()
            self._check_bitmap(host_dirty)
            self._drain(host_dirty)
            for watched in self._watched.values():
                at = watched.address
                while at < watched.end:
                    at = self._scan(at, watched.end, flags, _REGIONS)
                    self._drain(host_dirty)

    def _drain(self, host_dirty: Words) -> None:
        """Move what scans have found into the bitmap.

        The pages of a finished scan are protected already, so only these records know of them: they
        are erased after the bits are set. An exception (Ctrl-C) in between leaves them for the next
        call, and setting a bit twice does no harm.
        """
        count = int(np.count_nonzero(self._found[:, 1]))
        found = self._found[:count]
        page_size = np.uint64(self._page_size)
        for watched in self._watched.values():
            base, used_pages = np.uint64(watched.address), watched.used_length // self._page_size
            end = base + np.uint64(used_pages * self._page_size)
            inside = found[(found[:, 0] >= base) & (found[:, 0] < end)]
            if len(inside):
                first = (inside[:, 0] - base) // page_size
                last = (np.minimum(inside[:, 1], end) - base - np.uint64(1)) // page_size
                first_bit = np.uint64(watched.first_bit)
                set_bits(host_dirty, first_bit + first, first_bit + last)
        found[:] = 0

    def _protect(self, watched: Watched, start: int = 0) -> None:
        """Protect the written pages from byte ``start`` on without reporting them."""
        at = watched.address + start
        while at < watched.end:
            at = self._scan(at, watched.end, _WP_MATCHING | _CHECK_WPASYNC, 0)

    def _scan(self, start: int, end: int, flags: int, regions: int) -> int:
        """One PAGEMAP_SCAN into ``_found``; returns the address up to which it got."""
        _, pagemap = self._running()
        vector = self._found.ctypes.data if regions else 0
        masks = (0, _PAGE_IS_WRITTEN, 0, _PAGE_IS_WRITTEN)  # inverted, all of, any of, to return
        argument = bytearray(
            _SCAN_ARGUMENT.pack(
                _SCAN_ARGUMENT.size, flags, start, end, 0, vector, regions, 0, *masks
            )
        )
        try:
            fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                _refuse_kernel("the PAGEMAP_SCAN ioctl", error)
            raise DirtyLogError(
                f"memory under the dirty log can't be scanned ({error.strerror}): it has been "
                "unmapped or mapped anew; stop the log before you unmap, and start it again after"
            ) from error
        (walk_end,) = struct.unpack_from("Q", argument, _WALK_END)
        return int(walk_end)

    def _running(self) -> tuple[io.FileIO, io.FileIO]:
        if self._uffd is None or self._pagemap is None:
            raise DirtyLogError("the dirty log is not running: start it first")
        if self._pid != os.getpid():
            raise DirtyLogError(
                f"this dirty log watches process {self._pid}, which forked this one: "
                "start a new log here"
            )
        return self._uffd, self._pagemap

    def _check_bitmap(self, host_dirty: Words) -> None:
        need = max(
            (w.first_bit + w.used_length // self._page_size for w in self._watched.values()),
            default=0,
        )
        if host_dirty.dtype != np.uint64 or host_dirty.ndim != 1 or host_dirty.size * 64 < need:
            raise DirtyLogError(
                f"the bitmap is {host_dirty.size} items of {host_dirty.dtype}: the dirty log needs "
                f"{-(-need // 64)} words of uint64"
            )


def _host_pages(length: int) -> int:
    """``length`` rounded up to whole host pages, in bytes."""
    return -(-length // _HOST_PAGE) * _HOST_PAGE


def _record(*fields: int) -> bytearray:
    return bytearray(struct.pack(f"{len(fields)}Q", *fields))


def _open_userfaultfd() -> io.FileIO:
    number = _SYSCALL.get(platform.machine())
    if sys.platform != "linux" or number is None:
        raise DirtyLogUnavailable(
            f"no dirty log on {sys.platform} {platform.machine()}: it needs Linux 6.7 or later on "
            f"{' or '.join(_SYSCALL)}"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if descriptor < 0:
        code = ctypes.get_errno()
        _refuse_kernel("the userfaultfd system call", OSError(code, os.strerror(code)))
    uffd = io.FileIO(descriptor, "rb")
    try:
        fcntl.ioctl(uffd, _UFFDIO_API, _record(_API_VERSION, _FEATURES, 0))
    except OSError as error:
        uffd.close()
        _refuse_kernel("asynchronous write-protection (UFFD_FEATURE_WP_ASYNC)", error)
    return uffd


def _open_pagemap() -> io.FileIO:
    try:
        return io.FileIO("/proc/self/pagemap")
    except OSError as error:
        _refuse_kernel("/proc/self/pagemap", error)


def _refuse_kernel(what: str, error: OSError) -> NoReturn:
    raise DirtyLogUnavailable(
        error.errno,
        f"no dirty log: {what} is refused here ({error.strerror}). It needs Linux 6.7 or later, "
        "built with CONFIG_USERFAULTFD, and a sandbox (seccomp, container) that lets it through; "
        f"this is Linux {platform.release()}. Without it, mark pages with mark_host_dirty",
    ) from error


def _refuse_memory(name: str, error: OSError) -> NoReturn:
    remedy = {
        errno.EBUSY: "another dirty log watches it: stop that one first",
        errno.EINVAL: "use anonymous, memfd or /dev/shm memory, huge pages from their start",
        errno.EPERM: "its mapping can't be written: map it PROT_READ | PROT_WRITE",
    }.get(error.errno or 0, "map it anew")
    raise DirtyLogError(f"block {name!r} can't be watched ({error.strerror}): {remedy}") from error


def _check_watched(new: Watched, already: dict[str, Watched]) -> None:
    memory = new.memory
    if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
        raise DirtyLogError(f"block {new.name!r}: memory must be one contiguous array of uint8")
    if not memory.flags.writeable:
        raise DirtyLogError(f"block {new.name!r}: read-only memory is never dirty: don't watch it")
    if memory.nbytes and new.address % _HOST_PAGE:
        raise DirtyLogError(
            f"block {new.name!r}: its memory does not start on a {_HOST_PAGE}-byte host page: "
            "allocate it with mmap"
        )
    if not 0 <= new.used_length <= memory.nbytes or new.first_bit < 0:
        raise DirtyLogError(
            f"block {new.name!r}: {new.used_length} bytes used of {memory.nbytes}, first bit "
            f"{new.first_bit}: use lengths and bits that exist"
        )
    for other in already.values():
        if other.name == new.name:
            raise DirtyLogError(f"block {new.name!r} is watched already: resize it instead")
        if max(new.address, other.address) < min(new.end, other.end):
            raise DirtyLogError(
                f"blocks {new.name!r} and {other.name!r} share host pages: separate them"
            )
