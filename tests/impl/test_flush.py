"""Every strategy against the model: memory, bitmaps, counts, dirty count, two epochs in a row."""

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from impl import Block, ColoRam, DirtyCountMismatch, FlushPool, StrayDirtyPages
from impl.calibration.measure import COPYING, COPYING_APART
from impl.kernels import flush as kernels
from impl.kernels import job_table
from impl.pool import STRATEGIES, Strategy
from impl.stats import FlushStats
from model import flush as spec
from model.ram import Layout
from tests.support.cases import PAGE_SIZE, Case, Epoch, cases, layouts


class Pair:
    """A ColoRam and the model's Ram, kept side by side; a page's content is one byte repeated."""

    def __init__(self, layout: Layout, aligned: bool) -> None:
        self.layout = layout
        blocks = []
        for b in layout.blocks:
            host, cache = (_memory(b.max_length, aligned) for _ in range(2))
            blocks.append(
                Block(b.name, host=host, cache=cache, offset=b.offset, size=b.used_length)
            )
        self.ram = ColoRam(blocks, page_size=layout.page_size, layout=layout.kind)
        assert self.ram.layout == layout
        used = sorted(layout.used())
        self.model = spec.Ram(dict.fromkeys(used, 0), dict.fromkeys(used, 0), set(), set(), 0)

    def dirty(self, epoch: Epoch, number: int) -> None:
        """Write new contents to the dirty pages on both sides and mark them."""
        sent = {page: (page * 7 + number * 3 + 1) % 251 for page in epoch.cache_dirty}
        self.model.cache = {**self.model.cache, **sent}
        for page in epoch.host_dirty:
            self.model.host[page] = (page * 5 + number * 11 + 2) % 251
        for region in self.layout.regions:
            block = self.ram.block(region.block.name)
            for memory, content in ((block.host, self.model.host), (block.cache, self.model.cache)):
                memory.reshape(-1, PAGE_SIZE)[:] = column(content, region.bits)
        self.model.cache_dirty |= epoch.cache_dirty
        self.model.host_dirty |= epoch.host_dirty
        self.model.dirty_pages = len(self.model.cache_dirty)
        self.ram.set_dirty(
            bitmap(self.model.cache_dirty, self.layout), bitmap(self.model.host_dirty, self.layout)
        )

    def flush(self, pool: FlushPool, strategy: Strategy = "dynamic") -> FlushStats:
        """Flush both; the counts and everything else are the model's."""
        wanted = spec.flush(self.model, self.layout)
        stats = pool.flush(self.ram, strategy)
        found = spec.Flushed(stats.copied, stats.host_dirty, stats.cache_dirty, stats.both_dirty)
        assert found == wanted
        assert sum(worker.copied for worker in stats.workers) == stats.copied
        self.check()
        return stats

    def check(self) -> None:
        """Both sides hold the same bytes, bits and count."""
        for region in self.layout.regions:
            block = self.ram.block(region.block.name)
            for memory, content in ((block.host, self.model.host), (block.cache, self.model.cache)):
                assert (memory.reshape(-1, PAGE_SIZE) == column(content, region.bits)).all()
        assert (self.ram.cache_dirty == bitmap(self.model.cache_dirty, self.layout)).all()
        assert (self.ram.host_dirty == bitmap(self.model.host_dirty, self.layout)).all()
        assert self.ram.dirty_pages == self.model.dirty_pages


def _memory(size: int, aligned: bool) -> np.ndarray:
    raw = np.zeros(size + 128, dtype=np.uint8)
    skip = -raw.ctypes.data % 64 + (0 if aligned else 24)
    return raw[skip : skip + size]


def column(content: Mapping[int, object], bits: range) -> np.ndarray:
    """The contents of pages, one below the other."""
    return np.array([content[bit] for bit in bits], dtype=np.uint8)[:, None]


def bitmap(pages: Iterable[int], layout: Layout) -> np.ndarray:
    """Words with the bits of ``pages`` set."""
    bits = np.zeros(layout.words * 64, dtype=np.uint8)
    bits[sorted(pages)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint64)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=cases(), threads=st.integers(1, 9), aligned=st.booleans())
def test_a_flush_does_what_the_model_does(
    strategy: Strategy, pools: dict[int, FlushPool], case: Case, threads: int, aligned: bool
) -> None:
    note(case.program())
    pair = Pair(case.layout, aligned)
    for number, epoch in enumerate(case.epochs):
        pair.dirty(epoch, number)
        pair.flush(pools[threads], strategy)


#: Every way that a calibration compares, and so every way that a pool can be told to copy.
WAYS = {**COPYING, **COPYING_APART}


@pytest.fixture(scope="module")
def copiers() -> Iterator[dict[str, FlushPool]]:
    """Pools that copy in one way each; the others copy pages that are so few as memcpy does."""
    made = {
        way: FlushPool(2, tuning=replace(tuning, serial_below_bytes=0))
        for way, tuning in WAYS.items()
    }
    yield made
    for pool in made.values():
        pool.close()


def test_every_way_of_copying_that_the_kernels_have_is_one_of_them(
    copiers: dict[str, FlushPool],
) -> None:
    ram = ColoRam([Block("ram", size=PAGE_SIZE)], page_size=PAGE_SIZE)
    found = set()
    for pool in copiers.values():
        ram.receive("ram", 0, bytes(PAGE_SIZE))
        pool.flush(ram)
        found.add(int(ram._now.job[job_table.place(job_table.COPYING)]))
    names = ("ORDINARY", "STREAMING", "STREAMING_CACHE_ONLY", "STREAMING_FETCHING")
    assert found == {int(getattr(kernels, name)) for name in names} == set(range(len(WAYS)))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(case=cases(), strategy=st.sampled_from(["dynamic", "serial"]), aligned=st.booleans())
def test_in_whichever_way_pages_are_copied_a_flush_does_what_the_model_does(
    way: str, copiers: dict[str, FlushPool], case: Case, strategy: Strategy, aligned: bool
) -> None:
    note(case.program())
    pair = Pair(case.layout, aligned)
    for number, epoch in enumerate(case.epochs):
        pair.dirty(epoch, number)
        pair.flush(copiers[way], strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(layout=layouts(), data=st.data(), threads=st.integers(1, 9))
def test_a_stray_bit_is_refused_and_nothing_changes(
    strategy: Strategy,
    pools: dict[int, FlushPool],
    layout: Layout,
    data: st.DataObject,
    threads: int,
) -> None:
    unused = sorted(set(range(layout.words * 64)) - layout.used())
    if not unused:
        return
    pair = Pair(layout, aligned=True)
    stray = data.draw(st.sampled_from(unused))
    dirty = frozenset(layout.used()) | {stray}
    pair.model.cache_dirty, pair.model.host_dirty = set(dirty), {stray}
    pair.model.dirty_pages = len(dirty)
    pair.ram.set_dirty(bitmap(dirty, layout), bitmap({stray}, layout))
    before = copy.deepcopy(pair.model)
    with pytest.raises(StrayDirtyPages) as wanted:
        spec.flush(pair.model, layout)
    with pytest.raises(StrayDirtyPages) as found:
        pools[threads].flush(pair.ram, strategy)
    assert str(found.value) == str(wanted.value)
    assert pair.model == before
    pair.check()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_wrong_count_is_reported_after_the_flush(
    strategy: Strategy, pools: dict[int, FlushPool]
) -> None:
    ram = ColoRam([Block("pc.ram", size=400 * PAGE_SIZE)], page_size=PAGE_SIZE)
    ram.block("pc.ram").cache[:] = 9
    every = np.full(ram.layout.words, ~np.uint64(0))
    every[-1] = 2**16 - 1
    ram.set_dirty(every, every)
    ram.cache_dirty[0] = 0  # behind the count's back
    with pytest.raises(DirtyCountMismatch, match="64"):
        pools[3].flush(ram, strategy)
    assert (ram.block("pc.ram").host == 9).all()
    assert not ram.cache_dirty.any() and not ram.host_dirty.any()


@pytest.mark.parametrize("strategy", ["static", "dynamic"])
def test_two_workers_overlap_in_time(strategy: Strategy) -> None:
    """Real parallelism: in some flush out of many, two workers copied pages at the same time."""
    pages = 1 << 15
    ram = ColoRam([Block("pc.ram", size=pages * 4096)])
    every = np.full(ram.layout.words, ~np.uint64(0))
    with FlushPool(threads=2) as pool:
        for _ in range(200):
            ram.set_dirty(every, every)
            workers = [w for w in pool.flush(ram, strategy).workers if w.copied]
            begin, end = (max(w.begin_ns for w in workers), min(w.end_ns for w in workers))
            if len(workers) == 2 and begin < end:
                return
    pytest.fail("in 200 flushes of 32768 pages no two workers were at work at the same time")


def test_the_backup_copies_every_page_and_clears_both_bitmaps(pools: dict[int, FlushPool]) -> None:
    for threads, pool in pools.items():
        ram = ColoRam(
            [Block("a", size=777 * 4096), Block("b", size=3 * 4096), Block("none", size=0)]
        )
        for name in ("a", "b"):
            host = ram.block(name).host
            host[:] = np.random.default_rng(threads).integers(0, 256, len(host), dtype=np.uint8)
        ram.mark_host_dirty("a", [0, 776])
        ram.receive("b", 2, b"x" * 4096)
        ram.backup(pool)
        for name in ("a", "b"):
            assert (ram.block(name).host == ram.block(name).cache).all()
        assert not ram.cache_dirty.any() and not ram.host_dirty.any() and ram.dirty_pages == 0


def test_begin_and_end_are_logged(
    pools: dict[int, FlushPool], caplog: pytest.LogCaptureFixture
) -> None:
    ram = ColoRam([Block("pc.ram", size=128 * 4096)])
    ram.receive("pc.ram", 5, bytes(4096))
    ram.mark_host_dirty("pc.ram", [5, 6])
    with caplog.at_level(logging.DEBUG, logger="impl.pool"):
        pools[2].flush(ram)
    assert [record.getMessage() for record in caplog.records] == [
        "flush begin: dirty_pages=1",
        "flush end: host_dirty=2 both_dirty=1",
    ]
