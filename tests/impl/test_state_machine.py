"""The whole life cycle at random, in lockstep with the spec; a failure prints as a short program.

The guest's writes are real writes into real memory, found by the kernel's dirty log; the process
that is killed in the middle of a flush is a real one. The model is ``model.flush.Ram``.
"""

import mmap
import os
import signal
import time
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from impl import Block, ColoRam, FlushPool, KernelDirtyLog, RamReleased, StrayDirtyPages
from impl.pool import STRATEGIES
from model import flush as spec
from model import ram as model
from model import resize as growth
from tests.impl.changes import call, libc
from tests.support.bits import pages_of
from tests.support.needs import kernel_keeps_a_log

PAGE = 4096
MADV_REMOVE = 9
MOST_PAGES = 400
BITMAP_WORDS = 512
HAS_LOG = kernel_keeps_a_log()
POOLS: dict[int, FlushPool] = {}

strategies = st.sampled_from(sorted(STRATEGIES))
threads = st.sampled_from([1, 2, 3, 8])
stamps = st.integers(1, 255)
sizes = st.sampled_from([0, 1, 2, 63, 64, 65, 130, 300, MOST_PAGES])
blocks = st.integers(0, 3)
tenths = st.integers(0, 9)


def pool(count: int) -> FlushPool:
    if count not in POOLS:
        POOLS[count] = FlushPool(count, serial_below_bytes=0)
    return POOLS[count]


def shared(size: int) -> Any:
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


def places(layout: model.Layout) -> list[tuple[str, int, int, int]]:
    """Where the blocks' bits are, however that was said."""
    return [(r.block.name, r.first_bit, r.used_pages, r.max_pages) for r in layout.regions]


class Secondary(RuleBasedStateMachine):
    """A secondary beside its model, page by page and bit by bit."""

    @initialize(
        layout=st.sampled_from(["global", "per-block"]),
        logged=st.booleans(),
        used=sizes.filter(bool),
        spare=sizes,
    )
    def begin(self, layout: Any, logged: bool, used: int, spare: int) -> None:
        self.kind, self.logged = layout, logged and HAS_LOG
        self.geometry: list[model.Block] = []
        self.memory: list[tuple[Any, Any]] = []
        self.bitmaps = [shared(BITMAP_WORDS * 8).view(np.uint64) for _ in range(2)]
        self.cache: dict[int, object] = {}
        self.model = spec.Ram({}, self.cache, set(), set(), 0)
        self.attach()
        self.add(used, spare, 0)

    def attach(self) -> None:
        """A new ColoRam over the memory there is, as the process after a crash makes it."""
        self.ram = ColoRam(
            list(map(self.block, self.geometry, self.memory)),
            page_size=PAGE,
            layout=self.kind,
            cache_dirty=self.bitmaps[0],
            host_dirty=self.bitmaps[1],
        )
        if self.logged:
            self.ram.dirty_log = KernelDirtyLog()

    def block(self, block: model.Block, memory: tuple[Any, Any]) -> Block:
        host, cache = memory
        name, size, offset = block.name, block.used_length, block.offset
        first_bit = block.first_bit
        return Block(name, size=size, offset=offset, first_bit=first_bit, host=host, cache=cache)

    @property
    def layout(self) -> model.Layout:
        return model.Layout(tuple(self.geometry), PAGE, self.kind)

    @property
    def regions(self) -> tuple[model.Region, ...]:
        return self.layout.regions

    def run(self, which: int, start: int, share: int) -> tuple[str, range, int]:
        """A run of pages of some block: its name, the pages, the bit of its page 0."""
        region = self.regions[which % len(self.geometry)]
        first = region.used_pages * start // 10
        count = 1 + (region.used_pages - first) * share // 10
        end = min(first + count, region.used_pages)
        return region.block.name, range(first, end), region.first_bit

    # What comes from outside.

    @rule(which=blocks, start=tenths, share=tenths, stamp=stamps)
    def receive(self, which: int, start: int, share: int, stamp: int) -> None:
        name, pages, first_bit = self.run(which, start, share)
        for page in pages:
            self.ram.receive(name, page, bytes([stamp]) * PAGE)
            self.cache[first_bit + page] = stamp
            self.model.cache_dirty.add(first_bit + page)

    @rule(which=blocks, start=tenths, share=tenths, stamp=stamps)
    def guest_writes(self, which: int, start: int, share: int, stamp: int) -> None:
        name, pages, first_bit = self.run(which, start, share)
        if not self.logged:
            self.ram.mark_host_dirty(name, pages)
        self.ram.block(name).host[pages.start * PAGE : pages.stop * PAGE] = stamp
        for page in pages:
            self.model.host[first_bit + page] = stamp
            self.model.host_dirty.add(first_bit + page)

    @rule(which=blocks, start=tenths, share=tenths)
    def mark_host_dirty(self, which: int, start: int, share: int) -> None:
        name, pages, first_bit = self.run(which, start, share)
        self.ram.mark_host_dirty(name, pages)
        self.model.host_dirty |= {first_bit + page for page in pages}

    @rule(which=blocks, start=tenths, share=tenths)
    def balloon(self, which: int, start: int, share: int) -> None:
        """Pages are thrown away, a hole punched into the host's memory, and the RAM told so."""
        name, pages, first_bit = self.run(which, start, share)
        at = self.ram.block(name).host.ctypes.data + pages.start * PAGE
        if pages:
            call(libc.madvise, at, len(pages) * PAGE, MADV_REMOVE)
        self.ram.discarded(name, pages)
        for page in pages:
            self.model.host[first_bit + page] = 0
            self.model.host_dirty.add(first_bit + page)

    # Growth.

    @precondition(lambda self: len(self.geometry) < 4)
    @rule(used=sizes, spare=sizes, hole=st.sampled_from([0, 1, 63, 64]))
    def add(self, used: int, spare: int, hole: int) -> None:
        end = max((block.offset + block.max_length for block in self.geometry), default=0)
        taken = {block.name for block in self.geometry}
        name = next(name for name in ("b0", "b1", "b2", "b3") if name not in taken)
        most = (used + spare) * PAGE
        new = model.Block(name, end + hole * PAGE, used * PAGE, most)
        self.memory.append((shared(most), shared(most)))
        self.ram.add(self.block(new, self.memory[-1]))
        self.geometry.append(new)
        self.come_into_use(self.regions[-1], 0)

    @rule(which=blocks, tenth=tenths)
    def resize(self, which: int, tenth: int) -> None:
        which %= len(self.geometry)
        before = self.regions[which]
        used = before.max_pages * tenth // 9
        self.ram.resize(before.block.name, used * PAGE)
        self.geometry[which] = replace(before.block, used_length=used * PAGE)
        gone = set(before.bits[used:])
        self.model.cache_dirty -= gone
        self.model.host_dirty -= gone
        self.come_into_use(self.regions[which], before.used_pages)

    @precondition(lambda self: len(self.geometry) > 1)
    @rule(which=blocks)
    def remove(self, which: int) -> None:
        which %= len(self.geometry)
        gone = self.regions[which]
        self.ram.remove(gone.block.name)
        self.geometry = list(growth.without(self.layout, gone.block.name).blocks)
        del self.memory[which]
        cache, host, _ = growth.remove(
            frozenset(self.model.cache_dirty),
            frozenset(self.model.host_dirty),
            len(self.model.cache_dirty),
            gone.first_bit,
            gone.max_pages,
        )
        self.model.cache_dirty, self.model.host_dirty = set(cache), set(host)

    def come_into_use(self, region: model.Region, start: int) -> None:
        """Pages come into use as a backup leaves them: cache = host, clean."""
        host = self.memory[self.geometry.index(region.block)][0]
        for page in range(start, region.used_pages):
            stamp = int(host[page * PAGE])
            self.model.host[region.first_bit + page] = stamp
            self.cache[region.first_bit + page] = stamp

    # Checkpoints.

    @rule()
    def sync(self) -> None:
        if self.logged:
            self.ram.sync()
            assert pages_of(self.ram.host_dirty) == self.model.host_dirty

    @rule(strategy=strategies, count=threads)
    def flush(self, strategy: Any, count: int) -> None:
        stats = pool(count).flush(self.ram, strategy)
        self.model.dirty_pages = len(self.model.cache_dirty)
        expected = spec.flush(self.model, self.ram.layout)
        assert astuple(expected) == (
            stats.copied,
            stats.host_dirty,
            stats.cache_dirty,
            stats.both_dirty,
        )
        assert not self.ram.host_dirty.any()

    @rule(count=threads)
    def backup(self, count: int) -> None:
        self.ram.backup(pool(count))
        used = self.ram.layout.used()
        self.cache.update({bit: self.model.host[bit] for bit in used})
        self.model.cache_dirty.clear()
        self.model.host_dirty.clear()

    @rule(strategy=strategies, count=threads, in_cache=st.booleans())
    def refused_flush(self, strategy: Any, count: int, in_cache: bool) -> None:
        """A bit outside every block: the invariant says that nothing else has changed."""
        used, end = self.ram.layout.used(), self.ram.layout.words * 64
        stray = next((bit for bit in range(end) if bit not in used), None)
        if stray is not None:
            bitmap = self.ram.cache_dirty if in_cache else self.ram.host_dirty
            bitmap[stray // 64] |= np.uint64(1 << stray % 64)
            with pytest.raises(StrayDirtyPages):
                pool(count).flush(self.ram, strategy)
            bitmap[stray // 64] &= ~np.uint64(1 << stray % 64)

    # Crashes.

    @rule(strategy=strategies, count=threads, microseconds=st.integers(0, 3000))
    def kill_in_the_middle_of_a_flush(self, strategy: Any, count: int, microseconds: int) -> None:
        """Another process flushes and is killed; this one attaches anew and finishes."""
        if self.logged:
            self.ram.sync()
            self.ram.dirty_log = None
        child = os.fork()
        if child == 0:
            try:
                FlushPool(count, serial_below_bytes=0).flush(self.ram, strategy)
                time.sleep(60)
            finally:
                os._exit(1)
        time.sleep(microseconds * 1e-6)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL

        self.ram.release()
        self.attach()
        pool(2).flush(self.ram, "dynamic")
        self.model.dirty_pages = len(self.model.cache_dirty)
        spec.flush(self.model, self.ram.layout)

    @rule()
    def release_and_begin_anew(self) -> None:
        if self.logged:
            self.ram.sync()
        self.ram.release()
        self.ram.release()
        with pytest.raises(RamReleased):
            pool(2).flush(self.ram)
        self.attach()

    @invariant()
    def real_and_model_agree(self) -> None:
        if not hasattr(self, "ram"):
            return
        assert places(self.ram.layout) == places(self.layout)
        assert self.ram.dirty_pages == len(self.model.cache_dirty)
        assert pages_of(self.ram.cache_dirty) == self.model.cache_dirty
        found = pages_of(self.ram.host_dirty)
        assert found <= self.model.host_dirty if self.logged else found == self.model.host_dirty
        for region in self.regions:
            block = self.ram.block(region.block.name)
            for memory, stamps_by_bit in (
                (block.host, self.model.host),
                (block.cache, self.model.cache),
            ):
                expected = np.array([stamps_by_bit[bit] for bit in region.bits], np.uint8)
                assert (memory.reshape(-1, PAGE) == expected[:, None]).all()

    def teardown(self) -> None:
        if hasattr(self, "ram"):
            self.ram.release()


TestSecondary = Secondary.TestCase
TestSecondary.settings = settings(stateful_step_count=30)
