"""The RAM cache's life: dirty log, growth, refusals, Ctrl-C, fork, interpreter exit."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from impl import (
    Block,
    ColoRam,
    DirtyLogError,
    FlushInProgress,
    FlushPool,
    KernelDirtyLog,
    LayoutError,
    PoolClosed,
    RamReleased,
    StrayDirtyPages,
)
from impl.dirtylog import WatchedBlocks
from impl.pool import STRATEGIES, Strategy
from tests.support.bits import pages_of
from tests.support.children import in_a_child
from tests.support.needs import needs_dirty_log

PAGE = 4096


@pytest.fixture(scope="module")
def pool() -> Iterator[FlushPool]:
    with FlushPool(threads=3, serial_below_bytes=0) as pool:
        yield pool


def page(value: int) -> bytes:
    return bytes([value]) * PAGE


# --- the dirty log in the life cycle ----------------------------------------------------------


@needs_dirty_log
@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
def test_the_flush_finds_the_guests_writes_and_not_its_own(pool: FlushPool, page_size: int) -> None:
    """Over several checkpoints: exactly the pages written since, none of those the flush wrote."""
    ram = ColoRam(
        [Block("ram", size=64 * 65536), Block("rom", size=4 * 65536)], page_size=page_size
    )
    ram.block("ram").host[:] = 7
    ram.backup(pool)
    ram.dirty_log = KernelDirtyLog()
    smallest = max(page_size, PAGE)
    for checkpoint in range(4):
        ram.block("ram").host[checkpoint * 3 * 65536 + 17] = 1
        ram.receive("rom", checkpoint, bytes([checkpoint + 1]) * page_size)
        stats = pool.flush(ram)
        assert stats.host_dirty == smallest // page_size, "the guest's one write, in host pages"
        assert stats.copied == smallest // page_size + 1
        assert (ram.block("ram").host == 7).all()
        assert pool.flush(ram).copied == 0, "the flush's own writes are not reported"
    ram.release()


@needs_dirty_log
def test_without_rearm_the_flush_would_find_its_own_writes(
    pool: FlushPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control for the test above."""
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    log = KernelDirtyLog()
    ram.dirty_log = log
    monkeypatch.setattr(WatchedBlocks, "rearm", lambda blocks: None)
    ram.receive("ram", 9, page(1))
    assert pool.flush(ram).host_dirty == 0
    assert pool.flush(ram).host_dirty == 1, "page 9 again"
    ram.release()


@needs_dirty_log
def test_a_failed_flush_keeps_what_the_log_found(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=60 * PAGE)])
    ram.dirty_log = KernelDirtyLog()
    ram.block("ram").host[5 * PAGE] = 1
    ram.host_dirty[0] |= np.uint64(1 << 63)
    with pytest.raises(StrayDirtyPages):
        pool.flush(ram)
    ram.host_dirty[0] = 0  # whoever repairs the bitmap may wipe it: the log still knows
    assert pool.flush(ram).host_dirty == 1
    assert ram.block("ram").host[5 * PAGE] == 0
    ram.release()


@needs_dirty_log
def test_sync_while_the_guest_runs(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    with pytest.raises(DirtyLogError, match=r"set ram\.dirty_log first"):
        ram.sync()
    ram.dirty_log = KernelDirtyLog()
    for number in (3, 4):
        ram.block("ram").host[number * PAGE] = 1
        ram.sync()
    assert pages_of(ram.host_dirty) == {3, 4}
    ram.block("ram").host[5 * PAGE] = 1
    assert pool.flush(ram).copied == 3
    ram.dirty_log = None
    ram.block("ram").host[6 * PAGE] = 1
    assert pool.flush(ram).copied == 0, "nobody watches any more"


@needs_dirty_log
def test_the_log_follows_growth(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=64 * PAGE, max_size=128 * PAGE)])
    ram.dirty_log = KernelDirtyLog()
    ram.block("ram").host[3 * PAGE] = 1
    ram.resize("ram", 100 * PAGE)
    ram.add(Block("dimm", size=64 * PAGE))
    ram.block("ram").host[99 * PAGE] = 1
    ram.block("dimm").host[63 * PAGE] = 1
    assert pool.flush(ram).host_dirty == 3
    assert not ram.block("ram").host.any()
    assert not ram.block("dimm").host.any()
    ram.block("ram").host[99 * PAGE] = 1
    ram.resize("ram", 64 * PAGE)
    assert pool.flush(ram).copied == 0, "the written page is out of use"
    ram.release()


# --- growth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["global", "per-block"])
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_hot_added_ram_is_flushed(pool: FlushPool, layout: Any, strategy: Any) -> None:
    """The patch's first defect: bounds computed once, so added RAM belonged to no thread."""
    ram = ColoRam([Block("ram", size=1000 * PAGE)], layout=layout)
    ram.receive("ram", 999, page(1))
    ram.add(Block("dimm", size=3000 * PAGE))
    assert ram.dirty_pages == 1
    for number in range(0, 3000, 7):
        ram.receive("dimm", number, page(2))
    ram.mark_host_dirty("dimm", [2999])
    stats = pool.flush(ram, strategy)
    assert stats.cache_dirty == 1 + len(range(0, 3000, 7))
    assert ram.dirty_pages == 0
    for name in ("ram", "dimm"):
        assert np.array_equal(ram.block(name).host, ram.block(name).cache)


def test_hot_add_with_the_patchs_numbers() -> None:
    """1,048,576 pages and 4 threads, then 262,144 pages hot-added above: all of it is flushed.

    The same numbers fail in the model's version of the patch (tests/counterexamples).
    """
    page_size, pages, more = 1024, 1_048_576, 262_144
    ram = ColoRam([Block("ram", size=pages * page_size)], page_size=page_size)
    with FlushPool(threads=4, serial_below_bytes=0) as pool:
        assert pool.flush(ram, "static").copied == 0
        ram.add(Block("dimm", size=more * page_size))
        for number in (0, more // 2, more - 1):
            ram.receive("dimm", number, b"\1" * page_size)
        assert ram.dirty_pages == 3
        assert pool.flush(ram, "static").copied == 3
        assert ram.dirty_pages == 0
    assert ram.block("dimm").host[-1] == 1


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_resized_ram_is_flushed(pool: FlushPool, strategy: Any) -> None:
    """The patch's second defect, its numbers: 32 -> 64 pages read past the cache; 64 -> 32 with
    page 40 dirty left a bit that nobody found and a count of 1."""
    ram = ColoRam([Block("vga", size=32 * PAGE, max_size=64 * PAGE), Block("ram", size=64 * PAGE)])
    ram.resize("vga", 64 * PAGE)
    ram.receive("vga", 63, page(5))
    ram.receive("ram", 0, page(6))
    assert pool.flush(ram, strategy).copied == 2
    assert (ram.block("vga").host[-PAGE:] == 5).all()

    ram.receive("vga", 40, page(7))
    ram.receive("vga", 31, page(8))
    ram.mark_host_dirty("vga", [41])
    ram.resize("vga", 32 * PAGE)
    assert ram.dirty_pages == 1
    assert pool.flush(ram, strategy).copied == 1
    assert ram.dirty_pages == 0

    ram.resize("vga", 64 * PAGE)
    block = ram.block("vga")
    assert np.array_equal(block.host, block.cache), "what comes into use is backed up: host = cache"
    assert pool.flush(ram, strategy).copied == 0


def test_added_block_takes_the_next_free_place() -> None:
    """After every block, not after the one before, and in a word of its own."""
    high = Block("high", size=64 * PAGE, offset=1 << 30)
    ram = ColoRam([high, Block("low", size=3 * PAGE, offset=0)])
    ram.add(Block("next", size=PAGE))
    assert ram.layout.blocks[2].offset == (1 << 30) + 64 * PAGE


def test_add_to_attached_bitmaps_needs_room() -> None:
    cache_dirty, host_dirty = np.zeros(3, np.uint64), np.full(3, 1 << 5, np.uint64)
    ram = ColoRam([Block("ram", size=64 * PAGE)], cache_dirty=cache_dirty, host_dirty=host_dirty)
    ram.add(Block("dimm", size=128 * PAGE))
    assert ram.cache_dirty.base is not None and np.shares_memory(ram.cache_dirty, cache_dirty)
    assert host_dirty.tolist() == [32, 0, 0], "old bits stay; a new block begins clean"
    with pytest.raises(LayoutError, match="cache_dirty has 24 bytes, too short: 4 words"):
        ram.add(Block("more", size=PAGE))
    assert [block.name for block in ram.layout.blocks] == ["ram", "dimm"]


@pytest.mark.parametrize("size", [-PAGE, 1, 65 * PAGE, 2**63, 2**64, 1.5, None])
def test_a_size_that_cannot_be_is_refused_and_nothing_changed(size: Any) -> None:
    ram = ColoRam([Block("ram", size=32 * PAGE, max_size=64 * PAGE)])
    ram.receive("ram", 31, page(1))
    with pytest.raises(LayoutError, match="ram"):
        ram.resize("ram", size)
    assert (ram.block("ram").size, ram.dirty_pages) == (32 * PAGE, 1)


# --- refusals ---------------------------------------------------------------------------------


def test_everything_is_refused_while_a_flush_runs(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    words = np.zeros(1, np.uint64)
    actions: list[Callable[[], Any]] = [
        lambda: pool.flush(ram),
        lambda: ram.backup(pool),
        lambda: ram.receive("ram", 0, page(1)),
        lambda: ram.mark_host_dirty("ram", [0]),
        lambda: ram.set_dirty(words, words),
        lambda: ram.add(Block("dimm", size=PAGE)),
        lambda: ram.resize("ram", PAGE),
        lambda: setattr(ram, "dirty_log", None),
        ram.sync,
        ram.release,
    ]

    def refused(action: Callable[[], Any]) -> None:
        with pytest.raises(FlushInProgress, match="wait until"):
            action()

    for action in actions:
        ram.exclusively(partial(refused, action))
    assert pool.flush(ram).copied == 0, "refused, and nothing left held"


def test_a_second_flush_at_the_same_time_is_refused() -> None:
    """Two pools and threads on one RAM, one pool on two RAMs: each flushes or is refused."""
    rams = [ColoRam([Block("ram", size=4096 * PAGE)]) for _ in range(2)]
    full = np.full(64, 2**64 - 1, np.uint64)
    outcomes: list[str] = []

    def flush(pool: FlushPool, ram: ColoRam) -> None:
        for _ in range(200):
            try:
                outcomes.append("flushed" if pool.flush(ram).copied in (0, 4096) else "wrong")
                ram.set_dirty(full, full)
            except FlushInProgress:
                outcomes.append("refused")

    with FlushPool(threads=2) as one, FlushPool(threads=2) as two:
        for pairs in ([(one, rams[0]), (two, rams[0])], [(one, rams[0]), (one, rams[1])]):
            outcomes.clear()
            threads = [threading.Thread(target=flush, args=pair) for pair in pairs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(outcomes) == {"flushed", "refused"}


def test_release_and_close_twice_and_use_after() -> None:
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    pool = FlushPool(threads=2)
    pool.flush(ram)
    ram.release()
    ram.release()
    for action in (
        lambda: pool.flush(ram),
        lambda: ram.backup(pool),
        lambda: ram.add(Block("dimm", size=PAGE)),
        lambda: ram.receive("ram", 0, page(1)),
    ):
        with pytest.raises(RamReleased, match="make a new ColoRam"):
            action()
    pool.close()
    pool.close()
    with pytest.raises(PoolClosed, match="make a new FlushPool"):
        pool.flush(ColoRam([Block("ram", size=PAGE)]))


# --- Ctrl-C, fork, exit -----------------------------------------------------------------------


class InterruptedByAlarm(Exception):
    pass


# An exception that is raised within a destructor is only printed by Python, not passed on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_nothing_half_done() -> None:
    """An exception out of a signal handler, as Ctrl-C raises it, at random moments of receive,
    flush, backup and growth: count and bits agree then, and every page that differs is marked."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise InterruptedByAlarm

    rng = np.random.default_rng(11)
    ram = ColoRam([Block("ram", size=512 * PAGE, max_size=1024 * PAGE)])
    interrupted = 0

    def work(pool: FlushPool, strategy: Strategy) -> None:
        for number in rng.integers(0, 512, 40).tolist():
            ram.receive("ram", number, page(int(rng.integers(256))))
        ram.mark_host_dirty("ram", [0, 511])
        ram.resize("ram", 1024 * PAGE)
        pool.flush(ram, strategy)
        ram.receive("ram", 1023, page(1))
        ram.resize("ram", 512 * PAGE)
        ram.backup(pool)

    with FlushPool(threads=3, serial_below_bytes=0) as pool:
        for _ in range(2):  # the first time takes longer
            begin = time.monotonic()
            for strategy in STRATEGIES:
                work(pool, strategy)
            one_turn = (time.monotonic() - begin) / len(STRATEGIES)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for turn in range(600):
                try:
                    signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-6, one_turn)))
                    work(pool, list(STRATEGIES)[turn % 4])
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except InterruptedByAlarm:
                    interrupted += 1
                ram.resize("ram", 512 * PAGE)  # also heals a resize that was interrupted
                dirty = pages_of(ram.cache_dirty) | pages_of(ram.host_dirty)
                assert ram.dirty_pages == len(pages_of(ram.cache_dirty))
                block = ram.block("ram")
                differ = (block.host != block.cache).reshape(-1, PAGE).any(axis=1)
                assert set(np.flatnonzero(differ).tolist()) <= dirty
            pool.flush(ram)
            assert np.array_equal(block.host, block.cache)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert interrupted > 100


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_a_forked_child_flushes_alone(pool: FlushPool, strategy: Any) -> None:
    ram = ColoRam([Block("ram", size=2000 * PAGE)])
    full = np.full(ram.layout.words, 2**64 - 1, np.uint64)
    full[-1] = 2**16 - 1
    ram.block("ram").cache[:] = 9
    ram.set_dirty(full, full)

    def child() -> None:
        stats = pool.flush(ram, strategy)
        assert (stats.copied, len(stats.workers)) == (2000, 1)
        assert (ram.block("ram").host == 9).all()
        assert ram.dirty_pages == 0
        pool.close()

    assert in_a_child(child) == 0
    assert ram.dirty_pages == 2000, "private memory: the parent's RAM is as it was"
    assert pool.flush(ram, strategy).copied == 2000


def test_fork_in_the_middle_of_a_flush() -> None:
    """The child's copy of the RAM is not held by what went on in the parent only."""
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    with FlushPool(threads=2, serial_below_bytes=0) as pool:

        def child() -> None:
            ram.receive("ram", 3, page(1))
            assert pool.flush(ram).copied == 1

        assert ram.exclusively(lambda: in_a_child(child)) == 0


@needs_dirty_log
def test_a_forked_child_is_told_to_start_its_own_log(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=64 * PAGE)])
    ram.dirty_log = KernelDirtyLog()

    def child() -> None:
        with pytest.raises(DirtyLogError, match="start a new log here"):
            pool.flush(ram)
        ram.dirty_log = KernelDirtyLog()
        assert pool.flush(ram).host_dirty == 64, "any page may have been written before the fork"
        ram.block("ram").host[PAGE] = 1
        assert pool.flush(ram).host_dirty == 1

    assert in_a_child(child) == 0
    ram.block("ram").host[0] = 1
    assert pool.flush(ram).host_dirty == 1, "the parent's log goes on"
    ram.release()


@pytest.mark.parametrize(
    "ending", ["", "sys.exit(0)", "raise SystemExit(0)", "del pool; gc.collect()"]
)
def test_the_interpreter_exits_with_an_open_pool(ending: str) -> None:
    program = textwrap.dedent(f"""
        import gc, sys
        import numpy as np
        from impl import Block, ColoRam, FlushPool
        pool = FlushPool(threads=4)
        ram = ColoRam([Block("ram", size=4 << 20)])
        full = np.full(16, 2**64 - 1, np.uint64)
        ram.set_dirty(full, full)
        assert pool.flush(ram).copied == 1024
        {ending}
    """)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_pool_that_is_dropped_lets_its_helpers_go() -> None:
    pool = FlushPool(threads=5)
    helpers = [thread for thread in threading.enumerate() if thread.name.startswith("colo-flush")]
    mine = helpers[-4:]
    del pool, helpers
    deadline = time.monotonic() + 30
    while any(thread.is_alive() for thread in mine) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in mine)


def test_an_error_out_of_a_flush_leaves_the_pool_usable(pool: FlushPool) -> None:
    ram = ColoRam([Block("ram", size=60 * PAGE)])
    ram.receive("ram", 0, page(1))
    ram.cache_dirty[0] |= np.uint64(1 << 60)
    with pytest.raises(StrayDirtyPages):
        pool.flush(ram)
    assert pages_of(ram.cache_dirty) == {0, 60}
    assert not ram.block("ram").host.any(), "nothing has been copied"
    ram.cache_dirty[0] = 1
    assert pool.flush(ram).copied == 1
