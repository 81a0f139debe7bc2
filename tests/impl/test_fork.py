"""A process forks while another of its threads is in the midst of a flush.

It is kept there by a page that nobody has touched: a userfaultfd blocks whoever writes to it first, until
that is closed.
"""

import ctypes
import fcntl
import mmap
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from impl import Block, ColoRam, DirtyCountMismatch, FlushPool
from impl.errors import TooLittleMemory
from impl.kernels import control
from impl.pool import STRATEGIES, Strategy
from tests.support.bits import pages_of
from tests.support.children import in_a_child
from tests.support.needs import needs_dirty_log

pytestmark = needs_dirty_log

PAGE = 4096
PAGES = 640
HELD = 400
FULL = np.full(PAGES // 64, 2**64 - 1, np.uint64)
# linux/userfaultfd.h
USERFAULTFD = {"x86_64": 323, "aarch64": 282}.get(os.uname().machine)
API, REGISTER, MISSING = 0xC018AA3F, 0xC020AA00, 1


@contextmanager
def held_at(memory: Any, work: Callable[[], object]) -> Iterator[None]:
    """``work`` runs in a thread and has come to page HELD of this memory; afterwards it goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.syscall(USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | 1)
    assert watch >= 0
    fcntl.ioctl(watch, API, bytearray(struct.pack("3Q", 0xAA, 0, 0)))
    page = struct.pack("4Q", memory.ctypes.data + HELD * PAGE, PAGE, MISSING, 0)
    fcntl.ioctl(watch, REGISTER, bytearray(page))
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert select.select([watch], [], [], 60)[0], "it has got there"
        yield
    finally:
        os.close(watch)
        thread.join()


def untouched() -> Any:
    return np.frombuffer(mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE), np.uint8)


def dirty_ram() -> ColoRam:
    """Every page has come from the primary."""
    ram = ColoRam([Block("ram", host=untouched())])
    ram.block("ram").cache[:] = np.arange(PAGES * PAGE, dtype=np.uint32) // 97 % 251
    ram.set_dirty(FULL, FULL)
    return ram


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_childs_copy_is_flushed_to_the_end(strategy: Strategy, threads: int) -> None:
    """Some pages are copied and their bits cleared, the count is not lowered yet."""
    ram = dirty_ram()
    host, cache = ram.block("ram").host, ram.block("ram").cache
    with FlushPool(threads, serial_below_bytes=0) as pool:

        def child() -> None:
            counted = len(pages_of(ram.cache_dirty))
            # A helper may stand between the two bitmaps: its pages' bits are clear in one of them.
            left = len(pages_of(ram.cache_dirty | ram.host_dirty))
            # With helpers it may be that the one who is held came first.
            assert ram.dirty_pages == counted and (left < PAGES or threads > 1)
            assert pool.flush(ram, strategy).copied == left
            assert np.array_equal(host, cache)
            ram.receive("ram", 5, bytes(PAGE))
            assert pool.flush(ram, strategy).copied == 1
            assert np.array_equal(host, cache) and not host[5 * PAGE]

        with held_at(host, lambda: pool.flush(ram, strategy)):
            assert in_a_child(child) == 0
        assert np.array_equal(host, cache)
        assert host[5 * PAGE] or host[5 * PAGE + 1]
        assert ram.dirty_pages == 0


def test_without_recounting_the_count_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    ram = dirty_ram()
    monkeypatch.setattr(ColoRam, "_become_owner", lambda ram: None)
    with FlushPool(threads=1) as pool:

        def child() -> None:
            with pytest.raises(DirtyCountMismatch):
                pool.flush(ram)

        with held_at(ram.block("ram").host, lambda: pool.flush(ram)):
            assert in_a_child(child) == 0


def test_a_backup_is_begun_again() -> None:
    """What another thread was in the midst of is half done in the child."""
    ram = ColoRam([Block("ram", host=untouched(), cache=untouched())])
    host, cache = ram.block("ram").host, ram.block("ram").cache
    host[:] = 3
    with FlushPool(threads=2) as pool:

        def child() -> None:
            assert not np.array_equal(host, cache)
            ram.backup(pool)
            assert np.array_equal(host, cache)

        with held_at(cache, lambda: ram.backup(pool)):
            assert in_a_child(child) == 0


def test_memory_that_is_shared_is_flushed_by_one_of_the_two() -> None:
    """Host, cache and bitmaps are one memory, the counts are two: the other one recounts."""

    def shared(size: int) -> Any:
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)

    words = shared(2 * PAGE).view(np.uint64).reshape(2, -1)[:, : PAGES // 64]
    blocks = [Block("ram", host=shared(PAGES * PAGE), cache=shared(PAGES * PAGE))]
    ram = ColoRam(blocks, cache_dirty=words[0], host_dirty=words[1])
    with FlushPool(threads=2) as pool:

        def child() -> None:
            ram.receive("ram", 5, bytes([7]) * PAGE)

        assert in_a_child(child) == 0
        assert (int(words[0].sum()), ram.dirty_pages) == (32, 0)
        with pytest.raises(DirtyCountMismatch):
            pool.flush(ram)
        assert ram.block("ram").host[5 * PAGE] == 7
        ram.recount()
        assert in_a_child(child) == 0
        ram.recount()
        assert pool.flush(ram).copied == 1


# --- how a child knows that it is one ---------------------------------------------------------


def words(pool: FlushPool, *names: np.uint64) -> list[int]:
    """Words of a pool's control block."""
    return [int(pool._control[control.row(name), control.column(name)]) for name in names]


def test_linux_zeroes_the_page_that_says_whose_helpers_these_are() -> None:
    """And nothing behind it: the limits, and what the last flush counted, are the child's, too."""
    ram = dirty_ram()
    with FlushPool(3, serial_below_bytes=0) as pool:
        copied = pool.flush(ram).copied
        kept = pool._control[control.row(control.ROUND) :].copy()

        def child() -> None:
            zeroed = control.STATE, control.DOORBELL, control.UNFORKED, control.OWNER
            assert not any(words(pool, *zeroed, control.HELPERS))
            assert np.array_equal(pool._control[control.row(control.ROUND) :], kept)

        assert in_a_child(child) == 0
        assert words(pool, control.UNFORKED, control.HELPERS) == [1, 2]
        assert copied == PAGES


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tells", [True, False])
def test_a_fork_that_python_hears_nothing_of(
    strategy: Strategy, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a Linux that does not zero pages: there the number of the process is asked for."""
    if not tells:
        monkeypatch.setattr(control, "MADV_WIPEONFORK", 2**30)
    ram = dirty_ram()
    host, cache = ram.block("ram").host, ram.block("ram").cache
    with FlushPool(3, serial_below_bytes=0) as pool:
        assert words(pool, control.UNFORKED) == [int(tells)]
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            try:
                whole = pool.flush(ram, strategy).copied == PAGES
                os._exit(0 if whole and np.array_equal(host, cache) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert ram.dirty_pages == PAGES
        assert pool.flush(ram, strategy).copied == PAGES
        assert words(pool, control.HELPERS) == [2]


def test_no_memory_for_a_pool_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> mmap.mmap:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", none_left)
    with pytest.raises(TooLittleMemory, match=r"of 1[0-9]{4} bytes could not be had .*ulimit -v"):
        FlushPool(2)
