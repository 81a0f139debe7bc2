"""Thousands of blocks: the work grows like n log n. Counted, not timed."""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import numpy as np
import pytest

from impl import Block, ColoRam, FlushPool, KernelDirtyLog, LayoutError, StrayDirtyPages
from impl.arrays import address
from impl.kernels import flush as flushing
from impl.kernels.job_table import ROWS
from impl.pool import STRATEGIES
from model import shares
from model.flush import check_no_stray
from model.ram import Block as RamBlock
from model.ram import Layout
from tests.impl.test_flush import Pair
from tests.support.cases import PAGE_SIZE, Epoch
from tests.support.needs import needs_dirty_log

PAGE = 4096
FEW, MANY = 500, 4000
# n log n grows 10.7-fold from few to many, n^2 64-fold.
MOST_GROWTH = 14


def made(number: int) -> ColoRam:
    """``number`` blocks of a page, three to a bitmap word."""
    memory = np.zeros((2, number, PAGE), np.uint8)
    return ColoRam(
        Block(f"b{i}", host=host, cache=cache, offset=(64 * (i // 3) + i % 3) * PAGE)
        for i, (host, cache) in enumerate(zip(*memory, strict=True))
    )


def calls(work: Callable[[], Any]) -> int:
    """How many calls ``work`` makes, of Python functions and of C ones."""
    made = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return made


CHANGES: dict[str, Callable[[ColoRam], Any]] = {
    "build": lambda ram: made(len(ram.layout.blocks)),
    "add": lambda ram: ram.add(Block("new", size=PAGE)),
    "shrink": lambda ram: ram.resize("b7", 0),
    "add what is there": lambda ram: refused(lambda: ram.add(Block("b7", size=PAGE))),
    "add over another": lambda ram: refused(lambda: ram.add(Block("x", size=PAGE, offset=0))),
    "no such block": lambda ram: refused(lambda: ram.block("x")),
    "release": lambda ram: ram.release(),
    "the spec": lambda ram: check_no_stray(ram.layout.used(), ram.layout),
}


def refused(work: Callable[[], Any]) -> None:
    with pytest.raises(LayoutError) as error:
        work()
    assert len(str(error.value)) < 300, "it does not name thousands of blocks"


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_takes_work_that_grows_like_the_square(change: str) -> None:
    def work(number: int) -> int:
        ram = made(number)
        return calls(lambda: CHANGES[change](ram))

    assert work(MANY) <= work(FEW) * MOST_GROWTH


def test_work_that_grows_like_the_square_is_noticed() -> None:
    """Control: a RAM made block by block, each time anew."""

    def one_by_one(number: int) -> None:
        ram = ColoRam([])
        for i in range(number):
            ram.add(Block(f"b{i}", size=0))

    assert calls(lambda: one_by_one(160)) > calls(lambda: one_by_one(20)) * MOST_GROWTH


def with_a_log(ram: ColoRam) -> ColoRam:
    """The same blocks over memory that a log can watch, watched, a page written in each."""
    names = [block.name for block in ram.layout.blocks]
    ram = ColoRam(Block(name, size=PAGE) for name in names)
    ram.dirty_log = KernelDirtyLog()
    for name in names:
        ram.block(name).host[0] = 1
    return ram


@needs_dirty_log
@pytest.mark.parametrize("change", ["sync", "start", "stop", "add", "shrink"])
def test_nor_does_a_dirty_log(change: str) -> None:
    def work(number: int) -> int:
        ram = with_a_log(made(number))
        changes: dict[str, Callable[[], Any]] = {
            "sync": ram.sync,
            "start": lambda: with_a_log(ram),
            "stop": ram.release,
            "add": lambda: ram.add(Block("new", size=PAGE)),
            "shrink": lambda: ram.resize("b7", 0),
        }
        made_calls = calls(changes[change])
        if change == "sync":
            assert np.unpackbits(ram.host_dirty.view(np.uint8)).sum() == number
        ram.release()
        return made_calls

    assert work(MANY // 4) <= work(FEW // 4) * MOST_GROWTH


# --- what the kernels look at --------------------------------------------------------------------


def loads(ram: ColoRam, **changed: Any) -> int:
    """How many words of the job table ``flush_range`` loads to flush word by word, as the queue
    does; run in Python, with names of its module changed."""
    table, start, made = ram._now.job.tolist(), int(address(ram._now.job)), 0

    def load(at: int) -> int:
        nonlocal made
        made += 1
        return int(table[(at - start) // 8])

    names = vars(flushing) | {
        "load": load,
        "_in_reach": shares.in_reach,
        "_clip": shares.clip,
        "flush_window": lambda _job, _row, first, last: (last - first, 0, 0, 0),
    }
    constants = {name: int(value) for name, value in names.items() if isinstance(value, np.uint64)}
    names |= constants
    for name in ("first_row", "rows_end", "flush_range"):
        code = getattr(flushing, name).py_func.__code__
        names[name] = FunctionType(code, names, name)
    names |= changed
    copied = 0
    for word in range(ram.layout.words):
        copied += names["flush_range"](start, 64 * word, 64 * word + 64)[0]
    assert copied == len(ram.layout.used())
    return made


def test_a_flush_does_not_ask_every_block_about_every_word() -> None:
    few, many = (loads(made(n)) for n in (FEW, MANY))
    assert many <= few * MOST_GROWTH


def test_asking_every_block_is_noticed() -> None:
    """Control: the rows from the first one, whatever the word."""
    from_the_first = {"first_row": lambda job, _bit: job + ROWS}
    few, many = (loads(made(n), **from_the_first) for n in (FEW // 4, MANY // 4))
    assert many > few * MOST_GROWTH


# --- and it is right -----------------------------------------------------------------------------


def layout_of_many(seed: int) -> Layout:
    """400 blocks in any order: empty ones, unused tails, holes, several to a word."""
    rng = np.random.default_rng(seed)
    blocks, free = [], 0
    for number in range(400):
        free += int(rng.choice([0, 0, 1, 63, 64]))
        most = int(rng.choice([0, 1, 2, 63, 64, 65]))
        used = int(rng.integers(0, most + 1)) if rng.integers(2) else most
        blocks.append(RamBlock(f"b{number}", *(n * PAGE_SIZE for n in (free, used, most))))
        free += most
    shuffled = [blocks[i] for i in rng.permutation(400)]
    return Layout(tuple(shuffled), PAGE_SIZE, "per-block" if seed % 2 else "global")


@pytest.mark.parametrize("seed", range(4))
def test_a_bit_is_used_if_it_is_a_used_page_s(seed: int) -> None:
    layout = layout_of_many(seed)
    used = layout.used()
    for bit in range(-1, layout.pages + 65):
        assert layout.is_used(bit) == (bit in used)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(4))
def test_many_blocks_are_flushed_as_few_are(
    seed: int, strategy: Any, pools: dict[int, FlushPool]
) -> None:
    layout = layout_of_many(seed)
    used = np.array(sorted(layout.used()))
    rng = np.random.default_rng(seed)
    pair = Pair(layout, aligned=True)
    for number, share in enumerate((1, 0.5, 0.01)):
        chosen = [frozenset(used[rng.random(len(used)) < share].tolist()) for _ in range(2)]
        pair.dirty(Epoch(*chosen), number)
        stats = pools[3].flush(pair.ram, strategy)
        assert stats.copied == len(chosen[0] | chosen[1])
        for page in chosen[0] | chosen[1]:
            pair.model.host[page] = pair.model.cache[page]
        pair.model.cache_dirty, pair.model.host_dirty, pair.model.dirty_pages = set(), set(), 0
        pair.check()


def test_a_stray_bit_between_many_blocks_is_found(pools: dict[int, FlushPool]) -> None:
    """Each word holds three blocks of a page; its fourth bit belongs to nobody."""
    ram = made(FEW)
    for word in (0, 77, ram.layout.words - 1):
        ram.host_dirty[word] = 0b1000
        with pytest.raises(StrayDirtyPages, match=f"bit {64 * word + 3}, outside every block"):
            pools[3].flush(ram)
        ram.host_dirty[word] = 0


def test_a_small_block_takes_no_more_memory_than_it_needs() -> None:
    """A block of a page is not backed by a huge page: ten thousand of them would take 40 GiB."""
    before = resident()
    many = [Block(f"b{i}", size=PAGE) for i in range(64)]
    for block in many:
        block.host[:] = 1
        block.cache[:] = 1
    assert resident() - before < 16 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
