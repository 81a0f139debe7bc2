"""However a dirty log ends or changes, what it had found is flushed, and nobody's watch is lost.

Each way in which it can end, by itself, after an interrupted sync, and interrupted at any moment.
"""

import ctypes
import gc
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impl import (
    Block,
    ColoRam,
    DirtyLogError,
    DirtyLogUnavailable,
    FlushInProgress,
    FlushPool,
    KernelDirtyLog,
    WatchLost,
)
from impl.dirtylog import Watched, WatchedBlocks
from impl.machine import writewatch
from tests.impl.test_dirtylog import pages_behind, write_each
from tests.support.bits import pages_of
from tests.support.children import forked, in_a_child
from tests.support.injector import Kind, struck_everywhere
from tests.support.needs import needs_dirty_log

pytestmark = needs_dirty_log

PAGE = 4096
PAGES = 64


@pytest.fixture(scope="module")
def pool() -> Iterator[FlushPool]:
    with FlushPool(threads=1) as pool:
        yield pool


def array(pages: int) -> Any:
    return np.frombuffer(mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE), np.uint8)


def ram_with_log(names: str = "ab") -> ColoRam:
    """Blocks of 64 pages with a log on, clean."""
    ram = ColoRam([Block(name, host=array(PAGES)) for name in names])
    ram.dirty_log = KernelDirtyLog()
    return ram


def write(ram: ColoRam, name: str, page: int) -> None:
    """What the guest does."""
    ram.block(name).host[page * PAGE] += 1


def differing(ram: ColoRam) -> set[tuple[str, int]]:
    """The pages whose host is not what the cache is."""
    found = set()
    for name in [block.name for block in ram.layout.blocks]:
        block = ram.block(name)
        differ = (block.host != block.cache).reshape(-1, PAGE).any(axis=1)
        found |= {(name, int(page)) for page in np.flatnonzero(differ)}
    return found


def map_anew(ram: ColoRam, name: str, pages: range) -> None:
    """Other memory in the place of these pages, as ``qemu_ram_remap`` puts it; it reads zero."""
    at = ram.block(name).host.ctypes.data + pages.start * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
    mapped = libc.mmap(
        ctypes.c_void_p(at),
        ctypes.c_size_t(len(pages) * PAGE),
        mmap.PROT_READ | mmap.PROT_WRITE,
        fixed,
        -1,
        ctypes.c_long(0),
    )
    assert mapped == at


def unmap(ram: ColoRam, name: str, pages: range) -> None:
    at = ram.block(name).host.ctypes.data + pages.start * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(len(pages) * PAGE))


# Each way in which a log ends or changes. Some are refused: then it must go on.


def replaced(ram: ColoRam) -> None:
    ram.dirty_log = KernelDirtyLog()


def replaced_and_back(ram: ColoRam) -> None:
    first = ram.dirty_log
    ram.dirty_log = KernelDirtyLog()
    ram.dirty_log = first


def set_to_none(ram: ColoRam) -> None:
    ram.dirty_log = None


def none_then_new(ram: ColoRam) -> None:
    ram.dirty_log = None
    ram.dirty_log = KernelDirtyLog()


def set_again(ram: ColoRam) -> None:
    ram.dirty_log = ram.dirty_log


def stopped(ram: ColoRam) -> None:
    assert ram.dirty_log is not None
    ram.dirty_log.stop()


def stopped_and_set_again(ram: ColoRam) -> None:
    log = ram.dirty_log
    assert log is not None
    log.stop()
    log.stop()
    ram.dirty_log = log


def left_as_a_context(ram: ColoRam) -> None:
    with ram.dirty_log or KernelDirtyLog():
        pass


def dropped_by_the_user(ram: ColoRam) -> None:
    log = ram.dirty_log
    del log
    gc.collect()


def another_rams(ram: ColoRam) -> None:
    other = ram_with_log("c")
    with pytest.raises(DirtyLogError, match="is a ColoRam's"):
        ram.dirty_log = other.dirty_log
    write(other, "c", 1)
    other.sync()
    assert other.host_dirty[0] == 2, "nor has the other RAM lost its own"
    other.release()


def running_by_itself(ram: ColoRam) -> None:
    with KernelDirtyLog() as log:
        log.start([Watched("c", array(1), 0, PAGE)])
        with pytest.raises(DirtyLogError, match="is running"):
            ram.dirty_log = log


def no_log_at_all(ram: ColoRam) -> None:
    for wrong in ("log", 5, object(), KernelDirtyLog):
        with pytest.raises(DirtyLogError, match="is a KernelDirtyLog or None"):
            ram.dirty_log = wrong  # type: ignore[assignment]


class CannotStart(KernelDirtyLog):
    def start(self, *_: Any, **__: Any) -> None:
        raise DirtyLogUnavailable(1, "not today")


def one_that_cannot_start(ram: ColoRam) -> None:
    with pytest.raises(DirtyLogUnavailable):
        ram.dirty_log = CannotStart()


def used_directly(ram: ColoRam) -> None:
    log, words = ram.dirty_log, np.zeros(4, np.uint64)
    assert log is not None
    calls: list[Callable[[], object]] = [
        lambda: log.sync(words),
        lambda: log.fetch(words),
        log.rearm,
        lambda: log.resize("a", 0),
        lambda: log.forget("a"),
        lambda: log.watch_again("a", range(1)),
        lambda: log.watch(Watched("c", array(1), 0, PAGE)),
        lambda: log.start([]),
    ]
    for call in calls:
        with pytest.raises(DirtyLogError, match="is a ColoRam's"):
            call()


def sync(ram: ColoRam) -> None:
    ram.sync()


def add_a_block(ram: ColoRam) -> None:
    ram.add(Block("c", host=array(1)))


WAYS = [
    replaced,
    replaced_and_back,
    set_to_none,
    none_then_new,
    set_again,
    stopped,
    stopped_and_set_again,
    left_as_a_context,
    dropped_by_the_user,
    another_rams,
    running_by_itself,
    no_log_at_all,
    one_that_cannot_start,
    used_directly,
]
ENDS = {set_to_none, stopped, left_as_a_context}
Way = Callable[[ColoRam], None]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_written_before_is_flushed(pool: FlushPool, way: Way) -> None:
    ram = ram_with_log()
    write(ram, "a", 3)
    write(ram, "b", 63)
    way(ram)
    assert pool.flush(ram).copied == 2
    assert differing(ram) == set()
    assert (ram.dirty_log is None) == (way in ENDS)
    write(ram, "b", 5)
    assert pool.flush(ram).copied == (way not in ENDS), "and it goes on, unless it was to end"
    ram.dirty_log = KernelDirtyLog()
    ram.release()


@pytest.mark.parametrize("way", WAYS)
def test_what_an_interrupted_sync_holds_is_flushed(
    pool: FlushPool, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has forgotten these pages; no bitmap has them yet."""
    ram = ram_with_log()
    write(ram, "a", 3)
    watching = ram.watching()
    with monkeypatch.context() as patch:
        patch.setattr("impl.dirtylog.set_bits", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            ram.sync()
    assert watching is not None and not ram.host_dirty.any()
    way(ram)
    assert pool.flush(ram).copied == 1
    ram.release()


def test_without_collecting_the_page_is_lost(
    pool: FlushPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the log's last words are what saves it."""
    ram = ram_with_log()
    write(ram, "a", 3)
    with monkeypatch.context() as patch:
        patch.setattr(WatchedBlocks, "sync", lambda blocks, host_dirty: None)
        ram.dirty_log = None
    assert pool.flush(ram).copied == 0
    assert differing(ram) == {("a", 3)}


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_stopped_log_is_none_and_free_for_others(pool: FlushPool) -> None:
    ram, other = ram_with_log("a"), ColoRam([Block("b", host=array(PAGES))])
    log = ram.dirty_log
    assert log is not None and log.running
    log.stop()
    assert ram.dirty_log is None and not log.running
    with pytest.raises(DirtyLogError, match=r"set ram\.dirty_log first"):
        ram.sync()
    other.dirty_log = log
    ram.dirty_log = None
    ram.dirty_log = KernelDirtyLog()
    for one, name in ((ram, "a"), (other, "b")):
        write(one, name, 7)
        assert pool.flush(one).copied == 1
        one.release()
    assert not log.running


def test_a_log_is_not_stopped_in_the_middle_of_a_flush(pool: FlushPool) -> None:
    ram = ram_with_log()
    write(ram, "a", 3)

    def flush() -> None:
        for way in (stopped, set_to_none, replaced, left_as_a_context):
            with pytest.raises(FlushInProgress):
                way(ram)

    ram.exclusively(flush)
    assert pool.flush(ram).copied == 1
    ram.release()


def test_release_marks_attached_bitmaps(pool: FlushPool) -> None:
    """They outlive the RAM, as those of a process that another one follows."""
    words = [np.zeros(2, np.uint64) for _ in range(2)]
    memory = [(array(PAGES), array(PAGES)) for _ in "ab"]

    def attached() -> ColoRam:
        blocks = [Block(n, host=h, cache=c) for n, (h, c) in zip("ab", memory, strict=True)]
        return ColoRam(blocks, cache_dirty=words[0], host_dirty=words[1])

    for lost in (False, True):
        ram = attached()
        ram.dirty_log = KernelDirtyLog()
        write(ram, "b", 3)
        if lost:
            map_anew(ram, "a", range(8, 16))
        ram.release()
        assert words[1].tolist() == [0xFF00 * lost, 8]
        ram = attached()
        assert pool.flush(ram).copied == 1 + 8 * lost
        assert differing(ram) == set()
        ram.release()


# While the guest runs.


def lost_in_an_exchange(exchange: Callable[[ColoRam], None], rounds: int) -> int:
    """A guest writes each page once while logs are exchanged and synced over and over; what is
    reported is copied to a shadow. Pages in which that lags behind at the end."""
    pages = 1024
    memory = array(pages)
    ram = ColoRam([Block("ram", host=memory)])
    ram.dirty_log = KernelDirtyLog()

    def collect() -> list[int]:
        exchange(ram)
        ram.sync()
        dirty = sorted(pages_of(ram.host_dirty))
        ram.host_dirty[:] = 0
        return dirty

    behind = pages_behind(memory, collect, rounds)
    ram.release()
    return behind


def test_no_write_falls_between_two_logs(long_run: bool) -> None:
    write_each(np.zeros(4096, np.uint8), np.array([0]))  # compile before the race
    assert lost_in_an_exchange(replaced, rounds=1000 if long_run else 20) == 0


def test_between_one_that_stops_and_one_that_starts_they_do() -> None:
    """Control, and why one log takes over from another."""
    write_each(np.zeros(4096, np.uint8), np.array([0]))
    assert lost_in_an_exchange(none_then_new, rounds=1000) > 0


# Memory under the log is exchanged.


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("exchange", [map_anew, unmap])
@pytest.mark.parametrize("pages", [range(PAGES), range(8, 16), range(1), range(63, 64)])
def test_memory_mapped_anew_loses_nothing_else(
    pool: FlushPool, order: str, exchange: Callable[..., None], pages: range
) -> None:
    """The error names what to mark, and its advice works, in whatever order the blocks come."""
    ram = ram_with_log(order)
    write(ram, "b", 3)
    spared = [page for page in (2, 20) if page not in pages]
    for page in spared:
        write(ram, "a", page)
    exchange(ram, "a", pages)
    map_anew(ram, "a", pages)
    for _ in range(2):
        with pytest.raises(WatchLost) as caught:
            pool.flush(ram)
        assert caught.value.pages == {"a": [pages]}
        assert f"'a': pages {pages.start} to {pages.stop - 1}" in str(caught.value)
        assert f"discarded('a', {pages})" in str(caught.value)
    with pytest.raises(WatchLost):
        ram.dirty_log = None
    assert ram.dirty_log is not None, "all as it was"
    replaced(ram)
    with pytest.raises(WatchLost):
        ram.sync()
    assert pages_of(ram.host_dirty) == {
        *(64 * order.index("a") + page for page in spared),
        64 * order.index("b") + 3,
    }

    ram.discarded("a", pages)
    assert pool.flush(ram).copied == len(spared) + 1 + len(pages)
    assert differing(ram) == set()
    write(ram, "a", pages.start)
    write(ram, "b", 4)
    assert pool.flush(ram).copied == 2, "and it is watched again"
    ram.release()


def test_several_pieces_of_several_blocks_in_one_error(pool: FlushPool) -> None:
    ram = ram_with_log("abc")
    pieces = {"a": [range(1, 3), range(60, 64)], "c": [range(10, 11)]}
    for name, ranges in pieces.items():
        for pages in ranges:
            map_anew(ram, name, pages)
    write(ram, "b", 0)
    write(ram, "a", 30)
    with pytest.raises(WatchLost) as caught:
        ram.sync()
    assert caught.value.pages == pieces
    assert "'a': pages 1 to 2, 60 to 63; block 'c': pages 10 to 10" in str(caught.value)
    for name, ranges in caught.value.pages.items():
        for pages in ranges:
            ram.discarded(name, pages)
    assert pool.flush(ram).copied == 2 + 7
    ram.release()


def test_a_page_of_a_lost_piece_stands_for_all_of_it(pool: FlushPool) -> None:
    ram = ram_with_log("a")
    map_anew(ram, "a", range(8, 16))
    ram.discarded("a", 9)
    assert pool.flush(ram).copied == 8
    ram.release()


def test_memory_that_is_gone_is_told_so(pool: FlushPool) -> None:
    ram = ram_with_log("ab")
    unmap(ram, "a", range(8, 16))
    with pytest.raises(DirtyLogError, match=r"'a' can't be watched .* all of it mapped"):
        ram.discarded("a", range(8, 16))
    map_anew(ram, "a", range(8, 16))
    ram.discarded("a", range(8, 16))
    assert pool.flush(ram).copied == 8
    ram.release()


@pytest.mark.parametrize("page_size", [1024, 65536])
def test_lost_memory_in_pages_of_another_size(pool: FlushPool, page_size: int) -> None:
    """Every page that any of the lost host pages belongs to."""
    ram = ColoRam([Block("a", host=array(PAGES))], page_size=page_size)
    ram.dirty_log = KernelDirtyLog()
    map_anew(ram, "a", range(15, 17))
    with pytest.raises(WatchLost) as caught:
        ram.sync()
    assert caught.value.pages == {"a": [range(60, 68) if page_size == 1024 else range(2)]}
    ram.discarded("a", caught.value.pages["a"][0])
    assert pool.flush(ram).copied == len(caught.value.pages["a"][0])
    ram.release()


def test_memory_out_of_use_may_be_exchanged(pool: FlushPool) -> None:
    """It is nobody's page; when it comes into use it is watched again."""
    ram = ColoRam([Block("a", host=array(PAGES), size=32 * PAGE)])
    ram.dirty_log = KernelDirtyLog()
    map_anew(ram, "a", range(40, 50))
    write(ram, "a", 3)
    assert pool.flush(ram).copied == 1
    ram.resize("a", PAGES * PAGE)
    write(ram, "a", 45)
    assert pool.flush(ram).copied == 1
    ram.release()


def test_a_failed_rearm_costs_copies_not_pages(
    pool: FlushPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory exchanged in the middle of a flush: everything else is flushed and rearmed."""
    ram = ram_with_log("ab")
    write(ram, "a", 3)
    write(ram, "b", 4)
    rearm = ram.rearm_dirty_log

    def exchange_and_rearm() -> None:
        map_anew(ram, "a", range(8, 16))
        rearm()

    with monkeypatch.context() as patch:
        patch.setattr(ram, "rearm_dirty_log", exchange_and_rearm)
        with pytest.raises(WatchLost):
            pool.flush(ram)
    ram.discarded("a", range(8, 16))
    assert pool.flush(ram).copied == 8
    assert differing(ram) == set()
    ram.release()


# The log of a process that forks.


@pytest.mark.parametrize("way", [replaced, set_to_none, none_then_new, stopped, left_as_a_context])
def test_a_forked_child_flushes_what_was_written_before(pool: FlushPool, way: Way) -> None:
    """Only the parent's log knows which pages: the child copies all of them."""
    ram = ram_with_log()
    write(ram, "a", 3)

    def child() -> None:
        for refused in (set_again, sync, add_a_block):
            with pytest.raises(DirtyLogError):
                refused(ram)
        with pytest.raises(DirtyLogUnavailable):
            ram.dirty_log = CannotStart()
        with pytest.raises(DirtyLogError, match="start a new log here"):
            pool.flush(ram)
        assert not ram.host_dirty.any(), "all as it was"
        way(ram)
        assert pool.flush(ram).copied == 2 * PAGES
        assert differing(ram) == set()
        write(ram, "a", 5)
        assert pool.flush(ram).copied == (way not in ENDS)
        ram.release()

    assert in_a_child(child) == 0
    assert pool.flush(ram).copied == 1, "the parent's log goes on"
    write(ram, "b", 5)
    assert pool.flush(ram).copied == 1
    ram.release()


def test_a_parents_log_ends_though_a_child_lives_on(pool: FlushPool) -> None:
    """The child holds the same userfaultfd: closing the parent's is not enough."""
    ram = ram_with_log()
    end, go_on = os.pipe()
    child = forked(lambda: os.read(end, 1))
    ram.dirty_log = None
    ram.dirty_log = KernelDirtyLog()
    os.write(go_on, b"x")
    os.waitpid(child, 0)
    write(ram, "a", 3)
    assert pool.flush(ram).copied == 1
    ram.release()


def test_a_child_that_releases_leaves_a_shared_bitmap_alone(pool: FlushPool) -> None:
    shared = np.frombuffer(mmap.mmap(-1, PAGE), np.uint64)[:1]
    ram = ColoRam([Block("a", host=array(PAGES))], host_dirty=shared)
    ram.dirty_log = KernelDirtyLog()
    assert in_a_child(ram.release) == 0
    write(ram, "a", 3)
    assert pool.flush(ram).copied == 1
    ram.release()


# A log by itself.


def test_a_log_takes_over_from_another() -> None:
    memory, words = array(PAGES), np.zeros(1, np.uint64)
    first, second = KernelDirtyLog(), KernelDirtyLog()
    first.start([Watched("a", memory, 0, memory.nbytes)])
    memory[3 * PAGE] = 1
    second.start([], instead_of=first)
    memory[4 * PAGE] = 1
    with pytest.raises(DirtyLogError, match="not running"):
        first.sync(words)
    first.stop()
    second.sync(words)
    assert pages_of(words) == {3, 4}
    second.stop()


# A log that cannot start.


def test_a_second_block_that_cannot_be_watched_lets_go_of_the_first(pool: FlushPool) -> None:
    misplaced = array(PAGES)[64 : 64 + PAGE]
    ram = ColoRam([Block("a", host=array(PAGES)), Block("b", host=misplaced)])
    with pytest.raises(DirtyLogError, match="'b'"):
        ram.dirty_log = KernelDirtyLog()
    assert ram.dirty_log is None
    with KernelDirtyLog() as log:
        memory = ram.block("a").host
        log.start([Watched("a", memory, 0, memory.nbytes)])
    assert pool.flush(ram).copied == 0


def test_a_log_takes_over_where_none_could_start(
    pool: FlushPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second userfaultfd is asked for, so that nothing can be refused half-way."""

    def refused(_: object) -> None:
        raise DirtyLogUnavailable(1, "no more")

    ram = ram_with_log()
    monkeypatch.setattr(writewatch.WriteWatch, "__init__", refused)
    write(ram, "a", 3)
    ram.dirty_log = KernelDirtyLog()
    assert pool.flush(ram).copied == 1
    ram.dirty_log = None
    with pytest.raises(DirtyLogUnavailable):
        ram.dirty_log = KernelDirtyLog()
    assert ram.dirty_log is None
    assert pool.flush(ram).copied == 0


# Ctrl-C, or an error, at every moment.


def exchanged_and_discarded(ram: ColoRam) -> None:
    map_anew(ram, "a", range(8, 16))
    ram.discarded("a", range(8, 16))


def resize(ram: ColoRam) -> None:
    ram.resize("a", 32 * PAGE)
    ram.resize("a", PAGES * PAGE)


def at_most(long_run: bool) -> int | None:
    """How many of the points are struck: a sample, or all 31,000."""
    return None if long_run else 80


STRUCK = [
    replaced,
    none_then_new,
    set_again,
    stopped,
    left_as_a_context,
    sync,
    add_a_block,
    resize,
    exchanged_and_discarded,
]


@pytest.mark.parametrize("kind", ["signals", "steps"])
@pytest.mark.parametrize("way", STRUCK)
def test_ctrl_c_at_any_moment_loses_nothing(
    pool: FlushPool, way: Way, kind: Kind, long_run: bool
) -> None:
    """Afterwards what was written before is flushed; the log watches, or there is none; and whoever
    wants a log can have one. The long run strikes at all 31,000 points, the short one at a sample."""

    def prepare() -> ColoRam:
        ram = ram_with_log()
        write(ram, "a", 3)
        write(ram, "b", 63)
        return ram

    points = gaps = 0
    for ram, strike in struck_everywhere(prepare, way, kind=kind, at_most=at_most(long_run)):
        points += 1
        if way is exchanged_and_discarded:
            ram.discarded("a", range(8, 16))
        pool.flush(ram)
        assert differing(ram) == set(), strike
        if ram.dirty_log is None:
            gaps += 1
        else:
            write(ram, "b", 5)
            assert pool.flush(ram).copied == 1, strike
        replaced(ram)
        write(ram, "a", 5)
        assert pool.flush(ram).copied == 1, strike
        ram.release()
    assert points > 10
    assert (gaps > 0) == (way in {none_then_new, *ENDS}), (
        "no exchange leaves a gap; this would see it"
    )


def ram_with_strays() -> tuple[ColoRam, Any]:
    """Of attached bitmaps, with bits set where the next block will lie: in a word in use, and beyond."""
    cache_dirty = np.zeros(3, np.uint64)
    ram = ColoRam(
        [Block("a", host=array(40))], cache_dirty=cache_dirty, host_dirty=np.zeros(3, np.uint64)
    )
    ram.dirty_log = KernelDirtyLog()
    cache_dirty[:] = [1 << 50, 1 << 5, 0]
    ram.recount()
    return ram, cache_dirty


def test_a_block_that_the_log_refuses_changes_no_bit() -> None:
    ram, cache_dirty = ram_with_strays()
    before, memory = (ram.dirty_pages, cache_dirty.tolist()), array(40)
    with KernelDirtyLog() as another:
        another.start([Watched("b", memory, 0, memory.nbytes)])
        with pytest.raises(DirtyLogError):
            ram.add(Block("b", host=memory, offset=40 * PAGE))
    assert (ram.dirty_pages, cache_dirty.tolist()) == before
    ram.release()


@pytest.mark.parametrize("kind", ["signals", "steps"])
def test_ctrl_c_at_any_moment_of_an_add_over_stray_bits(kind: Kind, long_run: bool) -> None:
    def add(world: tuple[ColoRam, Any]) -> None:
        world[0].add(Block("b", size=64 * PAGE, offset=40 * PAGE))

    for (ram, cache_dirty), strike in struck_everywhere(
        ram_with_strays, add, kind=kind, at_most=at_most(long_run)
    ):
        assert ram.dirty_pages == len(pages_of(ram.cache_dirty)), strike
        if len(ram.layout.blocks) == 2:
            assert not cache_dirty.any(), strike
        ram.release()


@pytest.mark.parametrize("kind", ["signals", "steps"])
def test_ctrl_c_at_any_moment_of_a_release(kind: Kind, long_run: bool) -> None:
    """Released again, attached bitmaps know what was written, and the memory is watched no longer."""

    def prepare() -> tuple[ColoRam, Any, Any]:
        words, memory = np.zeros(1, np.uint64), array(PAGES)
        ram = ColoRam([Block("a", host=memory)], host_dirty=words)
        ram.dirty_log = KernelDirtyLog()
        write(ram, "a", 3)
        return ram, words, memory

    for (ram, words, memory), strike in struck_everywhere(
        prepare, lambda world: world[0].release(), kind=kind, at_most=at_most(long_run)
    ):
        ram.release()
        assert pages_of(words) == {3}, strike
        with KernelDirtyLog() as log:
            log.start([Watched("a", memory, 0, memory.nbytes)])


@pytest.mark.parametrize("kind", ["signals", "steps"])
def test_ctrl_c_at_any_moment_of_a_start(kind: Kind, long_run: bool) -> None:
    """Stopped, it watches nothing and keeps no file open."""
    memory = [array(PAGES) for _ in "ab"]
    watched = [Watched(f"{n}", one, 64 * n, one.nbytes) for n, one in enumerate(memory)]
    open_before = open_files()
    for log, strike in struck_everywhere(
        KernelDirtyLog,
        lambda log: log.start(watched),
        kind=kind,
        at_most=at_most(long_run),
    ):
        log.stop()
        with KernelDirtyLog() as another:
            another.start(watched)
        del log, strike
    assert open_files() == open_before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
