"""Memory of this process whose writes the Linux kernel notes (6.7 or later), by address.

Linux write-protects the memory and, in *asynchronous* mode, lifts the protection by itself at the
first write to a page (userfaultfd, ``UFFD_FEATURE_WP_ASYNC``). An unprotected page is a written page;
one ioctl on ``/proc/self/pagemap`` (``PAGEMAP_SCAN``) reports such pages and protects them again,
each page in one atomic step, so that a write between two scans is found by one of them.

Only one userfaultfd at a time can watch memory. Memory that is mapped anew, moved or unmapped is
watched no longer; a scan over it is refused.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import io
import mmap
import os
import platform
import struct
import sys
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from impl.errors import DirtyLogUnavailable

Extents = NDArray[np.uint64]

HOST_PAGE = mmap.PAGESIZE

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
_PAGE_IS_WPALLOWED = 1
_PAGE_IS_WRITTEN = 2
# struct page_region: start, end, categories.
_EXTENT_WORDS = 3


class WriteWatch:
    """What one userfaultfd watches, from the start to :meth:`close`.

    Addresses are whole host pages (``HOST_PAGE``). Raises DirtyLogUnavailable if this kernel or a
    sandbox does not offer it.
    """

    def __init__(self) -> None:
        self._uffd = _open_userfaultfd()
        self._pagemap = _open_pagemap()

    def add(self, start: int, end: int) -> None:
        """Watch this memory too; all of it counts as not written.

        Raises OSError with nothing changed: EBUSY if another userfaultfd watches it, EINVAL for a
        kind of memory that cannot be watched or is not there, EPERM for memory that nobody may
        write. Interrupted, it may be watched or not: :meth:`remove` it.
        """
        extent = start, end - start
        fcntl.ioctl(self._uffd, _UFFDIO_REGISTER, _record(*extent, _REGISTER_MODE_WP, 0))
        try:
            fcntl.ioctl(self._uffd, _UFFDIO_WRITEPROTECT, _record(*extent, _WRITEPROTECT_MODE_WP))
            self.protect(start, end)
        except OSError:
            self.remove(start, end)
            raise

    def remove(self, start: int, end: int) -> None:
        """Watch this memory no longer. Memory that is not watched is no error."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._uffd, _UFFDIO_UNREGISTER, _record(start, end - start))

    def scan(self, start: int, end: int, written: Extents, *, protect: bool) -> int:
        """One step of a scan: the written pages as extents; returns the address up to which it got.

        ``written``: uint64 (n, 3), zeros; filled with (start, end, ...) of up to n runs of pages.
        With ``protect`` they count as not written from now on. Raises PermissionError at memory
        that is not watched, what lies before it scanned.
        """
        flags = _CHECK_WPASYNC | (_WP_MATCHING if protect else 0)
        return self._step(start, end, flags, _PAGE_IS_WRITTEN, written)

    def protect(self, start: int, end: int) -> None:
        """Let every page count as not written. Raises PermissionError at memory not watched."""
        nothing = room_for(0)
        while start < end:
            start = self._step(start, end, _WP_MATCHING | _CHECK_WPASYNC, _PAGE_IS_WRITTEN, nothing)

    def unwatched(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The extents (start, end) of this memory that are not watched. Walks over all of it."""
        free, at = start, start
        while at < end:
            watched = room_for(64)
            at = self._step(at, end, 0, _PAGE_IS_WPALLOWED, watched)
            for low, high, _ in watched[watched[:, 1] != 0].tolist():
                if free < low:
                    yield free, low
                free = high
        if free < end:
            yield free, end

    def close(self) -> None:
        """Watch nothing any more. Closing twice does nothing.

        A child that ``fork`` made holds a copy of the userfaultfd, which keeps watching alive:
        :meth:`remove` everything first.
        """
        self._pagemap.close()
        self._uffd.close()

    @property
    def closed(self) -> bool:
        """Has it been closed?"""
        return self._uffd.closed

    def _step(self, start: int, end: int, flags: int, category: int, found: Extents) -> int:
        """One PAGEMAP_SCAN for the pages of a category; returns the address up to which it got."""
        vector = found.ctypes.data if len(found) else 0
        masks = 0, category, 0, category  # inverted, all of, any of, to return
        argument = bytearray(
            _SCAN_ARGUMENT.pack(
                _SCAN_ARGUMENT.size, flags, start, end, 0, vector, len(found), 0, *masks
            )
        )
        try:
            fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                _refuse("the PAGEMAP_SCAN ioctl", error)
            raise
        (walk_end,) = struct.unpack_from("Q", argument, _WALK_END)
        return int(walk_end)


def room_for(extents: int) -> Extents:
    """An empty table for up to ``extents`` extents that a scan finds."""
    return np.zeros((extents, _EXTENT_WORDS), np.uint64)


def host_pages(length: int) -> int:
    """``length`` rounded up to whole host pages, in bytes."""
    return -(-length // HOST_PAGE) * HOST_PAGE


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
    flags = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
    # The file owns the descriptor from the first moment: no Ctrl-C comes in between. It hands the
    # system call two arguments more, which that ignores.
    opener = functools.partial(libc.syscall, number, flags)
    try:
        uffd = io.FileIO("userfaultfd", "rb", opener=opener)
    except ValueError:  # FileIO, of a negative descriptor
        code = ctypes.get_errno()
        _refuse("the userfaultfd system call", OSError(code, os.strerror(code)))
    try:
        fcntl.ioctl(uffd, _UFFDIO_API, _record(_API_VERSION, _FEATURES, 0))
    except OSError as error:
        uffd.close()
        _refuse("asynchronous write-protection (UFFD_FEATURE_WP_ASYNC)", error)
    return uffd


def _open_pagemap() -> io.FileIO:
    try:
        return io.FileIO("/proc/self/pagemap")
    except OSError as error:
        _refuse("/proc/self/pagemap", error)


def _refuse(what: str, error: OSError) -> NoReturn:
    raise DirtyLogUnavailable(
        error.errno,
        f"no dirty log: {what} is refused here ({error.strerror}). It needs Linux 6.7 or later, "
        "built with CONFIG_USERFAULTFD, and a sandbox (seccomp, container) that lets it through; "
        f"this is Linux {platform.release()}. Without it, mark pages with mark_host_dirty",
    ) from error
