"""Hot-unplug: a block's bits and memory go, the others stay where they are; done whole or not at all."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from impl import (
    Block,
    ColoRam,
    DirtyCountMismatch,
    DirtyLogError,
    FlushInProgress,
    FlushPool,
    KernelDirtyLog,
    LayoutError,
    RamReleased,
    StrayDirtyPages,
    WatchLost,
)
from impl.dirtylog import Watched
from impl.pool import STRATEGIES, Strategy
from tests.impl.test_dirtylog_ends import array, differing, map_anew, unmap, write
from tests.impl.test_lifecycle import page
from tests.support.bits import pages_of
from tests.support.children import in_a_child
from tests.support.injector import Kind, struck_everywhere
from tests.support.needs import kernel_keeps_a_log, needs_dirty_log

PAGE = 4096
every_layout = pytest.mark.parametrize("layout", ["global", "per-block"])
# Three blocks that, in a global layout, share both border words of the middle one.
PAGES = {"low": 3, "middle": 130, "high": 62}


@pytest.fixture(scope="module")
def pool() -> Iterator[FlushPool]:
    with FlushPool(threads=2, serial_below_bytes=0) as pool:
        yield pool


def three_blocks(layout: Any, **bitmaps: Any) -> ColoRam:
    blocks, at = [], 0
    for name, pages in PAGES.items():
        offset = at * PAGE if layout == "global" else None
        blocks.append(Block(name, host=array(pages), offset=offset))
        at += pages
    return ColoRam(blocks, layout=layout, **bitmaps)


def all_dirty(ram: ColoRam) -> None:
    for block in ram.layout.blocks:
        ram.mark_host_dirty(block.name, range(block.used_length // PAGE))
        for number in range(block.used_length // PAGE):
            ram.receive(block.name, number, page(number % 251 + 1))


def expected_bits(ram: ColoRam) -> set[int]:
    return {bit for region in ram.layout.regions for bit in region.bits}


@every_layout
@pytest.mark.parametrize("gone", PAGES)
@pytest.mark.parametrize("attached", [False, True])
def test_its_bits_go_and_the_neighbours_stay(
    pool: FlushPool, layout: Any, gone: str, attached: bool
) -> None:
    words = [np.zeros(6, np.uint64) for _ in range(2)]
    bitmaps = dict(zip(("cache_dirty", "host_dirty"), words, strict=True)) if attached else {}
    ram = three_blocks(layout, **bitmaps)
    all_dirty(ram)
    before = {region.block.name: region for region in ram.layout.regions}
    ram.remove(gone)

    left = {region.block.name: region for region in ram.layout.regions}
    assert list(left) == [name for name in PAGES if name != gone]
    assert all(region.bits == before[name].bits for name, region in left.items())
    assert pages_of(ram.cache_dirty) == pages_of(ram.host_dirty) == expected_bits(ram)
    if attached:
        assert pages_of(words[0]) == pages_of(words[1]) == expected_bits(ram), "past the end, too"
    assert ram.dirty_pages == sum(PAGES.values()) - PAGES[gone]
    assert pool.flush(ram).copied == len(expected_bits(ram))
    assert differing(ram) == set()


@every_layout
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_name_comes_back_behind_all_others(
    pool: FlushPool, layout: Any, strategy: Strategy
) -> None:
    """Another block of that name, another size; flushed by every strategy."""
    ram = three_blocks(layout)
    places = {region.block.name: region.bits for region in ram.layout.regions}
    for pages in (1, 64, 200):
        ram.remove("middle")
        ram.add(Block("middle", size=pages * PAGE))
        region = ram.layout.regions[-1]
        assert (region.block.name, region.used_pages) == ("middle", pages)
        for one in ram.layout.regions[:-1]:
            assert one.bits == places[one.block.name]
            assert one.bits.stop <= region.first_bit
        all_dirty(ram)
        assert pool.flush(ram, strategy).copied == 3 + pages + 62
        assert differing(ram) == set()
        assert pool.flush(ram, strategy).copied == 0


def test_per_block_bitmaps_with_a_hole_can_be_attached_anew(pool: FlushPool) -> None:
    words = [np.zeros(6, np.uint64) for _ in range(2)]
    ram = three_blocks("per-block", cache_dirty=words[0], host_dirty=words[1])
    ram.remove("middle")
    all_dirty(ram)
    blocks = []
    for region in ram.layout.regions:
        old = ram.block(region.block.name)
        blocks.append(Block(old.name, host=old.host, cache=old.cache, first_bit=region.first_bit))
    ram.release()
    again = ColoRam(blocks, layout="per-block", cache_dirty=words[0], host_dirty=words[1])
    assert again.dirty_pages == 65
    assert pool.flush(again).copied == 65
    assert differing(again) == set()


def test_its_memory_is_let_go(pool: FlushPool) -> None:
    """Nothing keeps it: with a log, after flushes, and when a block of its name has come."""
    memory = array(64)
    freed = weakref.ref(memory)
    ram = ColoRam([Block("a", host=memory), Block("b", size=PAGE)])
    ram.backup(pool)
    if kernel_keeps_a_log():
        ram.dirty_log = KernelDirtyLog()
    pool.flush(ram)
    del memory
    assert freed() is not None
    ram.remove("a")
    assert freed() is None
    ram.add(Block("a", size=PAGE))
    assert pool.flush(ram).copied == 0


def test_the_block_may_be_given_to_another_ram(pool: FlushPool) -> None:
    ram, other = three_blocks("global"), ColoRam([])
    block = ram.block("middle")
    with pytest.raises(LayoutError, match="belongs to another"):
        other.add(block)
    ram.remove("middle")
    other.add(block)
    other.receive("middle", 7, page(1))
    assert pool.flush(other).copied == 1
    with pytest.raises(LayoutError, match="there is no block 'middle': have 'low', 'high'"):
        ram.receive("middle", 7, page(1))


@every_layout
def test_until_there_is_none_and_on(pool: FlushPool, layout: Any) -> None:
    ram = three_blocks(layout)
    all_dirty(ram)
    for name in PAGES:
        ram.remove(name)
    assert (ram.layout.blocks, ram.dirty_pages, len(ram.cache_dirty)) == ((), 0, 0)
    assert pool.flush(ram).copied == 0
    ram.add(Block("new", size=65 * PAGE))
    assert ram.layout.regions[0].first_bit == 0
    assert not ram.cache_dirty.any()
    all_dirty(ram)
    assert pool.flush(ram).copied == 65


def test_a_bit_that_comes_to_it_afterwards_is_stray(pool: FlushPool) -> None:
    ram = three_blocks("global")
    ram.remove("middle")
    ram.host_dirty[1] |= np.uint64(1)
    with pytest.raises(StrayDirtyPages, match="bit 64, outside every block"):
        pool.flush(ram)


def test_a_count_that_was_wrong_stays_wrong(pool: FlushPool) -> None:
    ram = three_blocks("global")
    all_dirty(ram)
    ram.dirty_pages += 5
    ram.remove("middle")
    assert ram.dirty_pages == 65 + 5
    with pytest.raises(DirtyCountMismatch):
        pool.flush(ram)


@pytest.mark.parametrize("name", ["nobody", "", None, 5, b"low", ["low"]])
def test_what_cannot_be_removed_is_refused_and_nothing_changed(pool: FlushPool, name: Any) -> None:
    ram = three_blocks("global")
    all_dirty(ram)
    with pytest.raises(LayoutError, match="there is no block"):
        ram.remove(name)
    assert pool.flush(ram).copied == sum(PAGES.values())


def test_refused_while_a_flush_runs_and_after_release() -> None:
    ram = three_blocks("global")

    def flush() -> None:
        with pytest.raises(FlushInProgress):
            ram.remove("low")

    ram.exclusively(flush)
    ram.release()
    with pytest.raises(RamReleased):
        ram.remove("low")


# With a dirty log.


@needs_dirty_log
@every_layout
@pytest.mark.parametrize("gone", PAGES)
def test_the_log_forgets_it_and_no_other(pool: FlushPool, layout: Any, gone: str) -> None:
    """What was written to it is dropped, also what a sync had found; its memory is free for others."""
    ram = three_blocks(layout)
    memory = ram.block(gone).host
    ram.dirty_log = KernelDirtyLog()
    for name in PAGES:
        write(ram, name, 0)
    ram.sync()
    for name in PAGES:
        write(ram, name, 2)
    ram.remove(gone)
    with KernelDirtyLog() as another:
        another.start([Watched("gone", memory, 0, memory.nbytes)])
    assert pool.flush(ram).copied == 4
    assert differing(ram) == set()
    for name in PAGES:
        if name != gone:
            write(ram, name, 1)
    assert pool.flush(ram).copied == 2
    ram.add(Block(gone, host=memory))
    write(ram, gone, 1)
    assert pool.flush(ram).copied == 1
    ram.release()


@needs_dirty_log
@pytest.mark.parametrize("exchange", [map_anew, unmap])
def test_a_block_whose_memory_is_lost_can_go(
    pool: FlushPool, exchange: Callable[..., None]
) -> None:
    """What the error of a lost watch says: or its block be removed."""
    ram = three_blocks("global")
    ram.dirty_log = KernelDirtyLog()
    write(ram, "high", 5)
    map_anew(ram, "middle", range(8, 16))
    with pytest.raises(WatchLost):
        pool.flush(ram)
    exchange(ram, "middle", range(8, 16))
    ram.remove("middle")
    assert pool.flush(ram).copied == 1
    ram.dirty_log = None
    ram.release()


@needs_dirty_log
def test_in_a_forked_child(pool: FlushPool) -> None:
    ram = three_blocks("global")
    ram.dirty_log = KernelDirtyLog()

    def child() -> None:
        ram.remove("middle")
        with pytest.raises(DirtyLogError, match="start a new log here"):
            pool.flush(ram)
        ram.dirty_log = KernelDirtyLog()
        assert pool.flush(ram).copied == 65

    assert in_a_child(child) == 0
    write(ram, "middle", 7)
    assert pool.flush(ram).copied == 1, "the parent's log goes on"
    ram.release()


# Ctrl-C, or an error, at every moment.


@pytest.mark.parametrize("kind", ["signals", "steps"])
@pytest.mark.parametrize("logged", [False, pytest.param(True, marks=needs_dirty_log)])
@every_layout
def test_struck_anywhere_it_is_done_or_it_is_not(
    pool: FlushPool, layout: Any, logged: bool, kind: Kind, long_run: bool
) -> None:
    def prepare() -> ColoRam:
        ram = three_blocks(layout)
        for name in PAGES:
            ram.receive(name, 1, page(1))
        if logged:
            ram.dirty_log = KernelDirtyLog()
        for name in PAGES:
            write(ram, name, 2)
            if not logged:
                ram.mark_host_dirty(name, 2)
        return ram

    outcomes = set()
    at_most = None if long_run else 100
    for ram, strike in struck_everywhere(
        prepare, lambda ram: ram.remove("middle"), kind=kind, at_most=at_most
    ):
        there = {block.name for block in ram.layout.blocks}
        outcomes.add("middle" in there)
        assert ram.dirty_pages == len(there) == len(pages_of(ram.cache_dirty)), strike
        assert pages_of(ram.cache_dirty) <= expected_bits(ram), strike
        assert pool.flush(ram).copied == 2 * len(there), strike
        assert differing(ram) == set(), strike
        if "middle" in there:
            ram.remove("middle")
        ram.add(Block("middle", size=PAGE))
        for name in PAGES if logged else ():
            write(ram, name, 0)
        assert pool.flush(ram).copied == (3 if logged else 0), strike
        ram.release()
    assert outcomes == {False, True}
