"""What a KVM guest writes is found by the kernel's dirty log: exactly, and while it runs none is lost."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from impl import Block, ColoRam, FlushPool, KernelDirtyLog
from impl.dirtylog import Watched
from tests.impl.kvm_guest import LONGEST_LIST, PAGE, PAGES, KvmGuest, missing
from tests.impl.test_dirtylog import (
    HUGE_PAGE,
    array,
    memfd,
    private,
    shared,
    transparent_huge,
)
from tests.support.bits import pages_of
from tests.support.needs import needs_dirty_log, skip_unless

pytestmark = [needs_dirty_log, skip_unless(missing() is None, f"needs {missing()}")]


def within_a_huge_page(size: int) -> Any:
    memory = array(transparent_huge(2 * HUGE_PAGE))
    memory[:] = 1
    skip = -memory.ctypes.data % HUGE_PAGE
    return memory[skip : skip + size]


every_memory = pytest.mark.parametrize("allocate", [private, shared, memfd, within_a_huge_page])


@every_memory
@pytest.mark.parametrize("layout", ["global", "per-block"])
def test_exactly_the_pages_the_guest_wrote_are_put_back(
    allocate: Callable[[int], Any], layout: Any, long_run: bool
) -> None:
    """Checkpoint after checkpoint: the guest writes pages drawn at random, the flush undoes them."""
    memory = array(allocate(PAGES * PAGE), PAGES * PAGE)
    rng = np.random.default_rng(3)
    ram = ColoRam([Block("rom", size=PAGE), Block("ram", host=memory)], layout=layout)
    first_bit = ram.layout.regions[1].first_bit
    with FlushPool(threads=2) as pool, KvmGuest(memory) as guest:
        memory[:] = rng.integers(256, size=memory.nbytes, dtype=np.uint8)
        before = memory.copy()
        ram.backup(pool)
        ram.dirty_log = KernelDirtyLog()
        for _ in range(2000 if long_run else 100):
            drawn = rng.integers(PAGES, size=int(rng.choice([0, 1, 5, 100])))
            written = set(drawn.tolist())
            guest.write(sorted(written))
            assert (memory != before).any() == bool(written)
            ram.sync()
            assert {bit - first_bit for bit in pages_of(ram.host_dirty)} == written
            guest.write(sorted(written & {0, 7, PAGES - 1}))
            assert pool.flush(ram).copied == len(written)
            assert np.array_equal(memory, before)
        ram.release()


def lost_writes(
    log: KernelDirtyLog, memory: Any, collect: Callable[[Any], None], rounds: int
) -> int:
    """The guest writes 32,000 times, to pages in random order, while ``collect`` runs over and over;
    every page reported is copied to a shadow. Pages in which the shadow lags behind at the end."""
    pages = memory.reshape(PAGES, PAGE)
    shadow = np.zeros_like(pages)
    host_dirty = np.zeros(-(-PAGES // 64), np.uint64)
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    rng = np.random.default_rng(5)

    def follow() -> None:
        collect(host_dirty)
        dirty = sorted(pages_of(host_dirty))
        host_dirty[:] = 0
        shadow[dirty] = pages[dirty]

    with KvmGuest(memory) as guest:
        for _ in range(rounds):
            order = rng.integers(PAGES, size=LONGEST_LIST)
            expected = pages[:, 0] + np.bincount(order, minlength=PAGES).astype(np.uint8)
            running = threading.Thread(target=guest.write, args=(order.tolist(),))
            running.start()
            while running.is_alive():
                follow()
            follow()
            assert np.array_equal(pages[:, 0], expected), "the guest has run"
            behind = int((shadow != pages).any(axis=1).sum())
            if behind:
                return behind
    return 0


@every_memory
def test_no_write_is_lost_while_syncs_run(allocate: Callable[[int], Any], long_run: bool) -> None:
    memory = array(allocate(PAGES * PAGE), PAGES * PAGE)
    with KernelDirtyLog() as log:
        assert lost_writes(log, memory, log.sync, rounds=100 if long_run else 1) == 0


def test_the_race_is_real() -> None:
    """Control: report first, protect afterwards, and writes in between are lost."""
    with KernelDirtyLog() as log:

        def in_two_steps(host_dirty: Any) -> None:
            log.fetch(host_dirty)
            log.rearm()

        memory = array(private(PAGES * PAGE))
        assert lost_writes(log, memory, in_two_steps, rounds=200) > 0
