"""Setting bits: exactly those asked for, and none undone that others set meanwhile."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl import Block, ColoRam, KernelDirtyLog, LayoutError
from impl.arrays import address
from impl.bitmap import set_bits
from impl.kernels.intrinsics import atomic_or
from tests.support.bits import pages_of
from tests.support.needs import needs_dirty_log

PAGE = 4096
# Word edges, and nothing beside the bits of a run: proofs/words.py has the masks themselves.
runs_of_bits = st.lists(
    st.tuples(st.integers(0, 319), st.integers(0, 319)).map(sorted), max_size=12
)


@given(runs=runs_of_bits, before=st.integers(0, 2**64 - 1))
def test_set_bits_sets_runs(runs: list[list[int]], before: int) -> None:
    words = np.full(5, before, np.uint64)
    wanted = pages_of(words) | {bit for a, b in runs for bit in range(a, b + 1)}
    first = np.array([run[0] for run in runs], np.uint64)
    last = np.array([run[1] for run in runs], np.uint64)
    set_bits(words, first, last)
    assert pages_of(words) == wanted


def read_only() -> Any:
    words = np.zeros(4, np.uint64)
    words.flags.writeable = False
    return words


NO_BITMAPS: dict[str, Callable[[], Any]] = {
    "read-only": read_only,
    "every other word": lambda: np.zeros(8, np.uint64)[::2],
    "rows": lambda: np.zeros((2, 2), np.uint64),
    "bytes": lambda: np.zeros(32, np.uint8),
    "big-endian": lambda: np.zeros(4, ">u8"),
    "not aligned": lambda: np.zeros(33, np.uint8)[1:].view(np.uint64),
    "too short": lambda: np.zeros(3, np.uint64),
    "none": lambda: np.zeros(0, np.uint64),
}


@pytest.mark.parametrize("what", NO_BITMAPS)
def test_no_bit_is_set_outside_a_bitmap(what: str) -> None:
    bitmap, bits = NO_BITMAPS[what](), np.array([0, 192], np.uint64)
    with pytest.raises(LayoutError):
        set_bits(bitmap, bits, bits)
    assert not bitmap.any()


# --- others set bits meanwhile -------------------------------------------------------------------

WORDS = 1 << 12
PAGES = 64 * WORDS
ODD = np.arange(1, PAGES, 2)
EVEN_BITS, ODD_BITS = (np.uint64(0x5555_5555_5555_5555 << odd) for odd in (0, 1))

_0, _1, _2, _8, _64 = (np.uint64(i) for i in (0, 1, 2, 8, 64))


def _set_even_bits(bitmap: Any, n_words: Any) -> None:
    """Somebody else, another VMM thread say: one bit after the other, each once, without the GIL."""
    for bit in range(_0, _64, _2):
        for word in range(n_words):
            atomic_or(bitmap + word * _8, _1 << bit)


set_even_bits = numba.njit(nogil=True)(_set_even_bits)
set_even_bits.compile((numba.uint64, numba.uint64))


def lost_meanwhile(bitmap: Any, change: Callable[[], None]) -> int:
    """How many of the bits that somebody else sets, while ``change`` runs again and again, are lost."""
    bitmap[:WORDS] = 0
    meddler = threading.Thread(target=set_even_bits, args=(address(bitmap), np.uint64(WORDS)))
    meddler.start()
    while meddler.is_alive():
        change()
    change()
    return len(pages_of(EVEN_BITS & ~bitmap[:WORDS]))


def attached(**more: Any) -> tuple[ColoRam, Any]:
    host_dirty = np.zeros(WORDS + 64, np.uint64)
    host = np.zeros(PAGES * 1024, np.uint8)
    blocks = [Block("ram", host=host, cache=np.zeros_like(host)), Block("dimm", **more)]
    return ColoRam(blocks, page_size=1024, host_dirty=host_dirty), host_dirty


def test_marking_undoes_no_bit() -> None:
    ram, host_dirty = attached(size=0)
    for _ in range(8):
        assert lost_meanwhile(host_dirty, lambda: ram.mark_host_dirty("ram", ODD)) == 0
        assert (host_dirty[:WORDS] == EVEN_BITS | ODD_BITS).all()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs at work at once")
def test_a_plain_or_would_undo_some() -> None:
    """Control: the same bits, by NumPy's load, OR and store."""
    _, host_dirty = attached(size=0)

    def mark() -> None:
        host_dirty[:WORDS] |= ODD_BITS

    assert any(lost_meanwhile(host_dirty, mark) for _ in range(2000))


@needs_dirty_log
def test_collecting_the_dirty_log_undoes_no_bit() -> None:
    host_dirty = np.zeros(WORDS, np.uint64)
    ram = ColoRam([Block("ram", size=PAGES * 1024)], page_size=1024, host_dirty=host_dirty)
    ram.dirty_log = KernelDirtyLog()
    host = ram.block("ram").host

    def sync() -> None:
        host[:: 2 * PAGE] += 1  # every other page of the machine's, which is four of the guest's
        ram.sync()

    for _ in range(8):
        assert lost_meanwhile(host_dirty, sync) == 0
        assert not (0x0F0F_0F0F_0F0F_0F0F & ~host_dirty).any()
    ram.release()


def test_growing_and_shrinking_undo_no_bit_of_another_block() -> None:
    """The blocks share a word, in which one comes and goes."""
    host_dirty = np.zeros(WORDS + 64, np.uint64)
    memory = np.zeros(PAGES * 1024, np.uint8)
    blocks = [
        Block("ram", host=memory[: -32 * 1024], size=(PAGES - 32) * 1024, offset=0),
        Block("dimm", size=0, max_size=64 * 1024, offset=(PAGES - 32) * 1024),
    ]
    ram = ColoRam(blocks, page_size=1024, host_dirty=host_dirty)
    number = iter(range(10**9))

    def grow_and_shrink() -> None:
        ram.resize("dimm", 64 * 1024)
        ram.resize("dimm", 0)
        if next(number) < 32:
            ram.add(Block(f"b{len(ram.layout.blocks)}", size=0, max_size=1024))

    for _ in range(8):
        bitmap = host_dirty[:WORDS]
        lost = lost_meanwhile(bitmap, grow_and_shrink)
        assert lost == len(pages_of(EVEN_BITS & ~bitmap[-1:])), "only in the last word"
        assert bitmap[-1] == EVEN_BITS & 0xFFFF_FFFF, "of which the first half is another block's"


def test_the_count_follows_what_a_resize_drops() -> None:
    """Both halves of a border word are dirty; a block goes out of use and comes back clean."""
    ram = ColoRam(
        [Block("a", size=32 * PAGE, offset=0), Block("b", size=224 * PAGE, offset=32 * PAGE)]
    )
    every = np.full(4, 2**64 - 1, np.uint64)
    ram.set_dirty(every, every)
    ram.resize("b", 0)
    assert ram.dirty_pages == 32
    ram.resize("b", 224 * PAGE)
    for bitmap in (ram.cache_dirty, ram.host_dirty):
        assert bitmap.tolist() == [2**32 - 1, 0, 0, 0]
    ram.resize("a", PAGE)
    assert (ram.dirty_pages, ram.cache_dirty.tolist()) == (1, [1, 0, 0, 0])
