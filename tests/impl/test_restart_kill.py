"""A flush that is killed, anywhere, is finished by flushing again.

A process flushes over shared memory, blocks and bitmaps both; SIGKILL ends it at a moment of our
choice; this process attaches to what is left, and flushes. 48 kills, 300 in the long profile.
"""

import faulthandler
import mmap
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from impl import Block, ColoRam, FlushPool
from impl.pool import STRATEGIES
from tests.support.children import forked
from tests.support.endings import Tell

PAGE = 4096
# The border between the blocks lies in the middle of a bitmap word.
RAM_PAGES, VGA_PAGES = 5000, 300
PAGES = RAM_PAGES + VGA_PAGES
WORDS = -(-PAGES // 64)
PATIENCE = 60.0


class SharedRam:
    """Two blocks with host, cache and both bitmaps in shared memory, and what the child is doing.

    ``cache`` is the checkpoint and never changes, so that this process knows every byte to expect.
    """

    def __init__(self) -> None:
        self.host, self.cache = (shared(PAGES * PAGE).reshape(PAGES, PAGE) for _ in range(2))
        self.cache_dirty, self.host_dirty = (shared(WORDS * 8).view(np.uint64) for _ in range(2))
        self.flushing = shared(PAGE)  # byte 0: is the child within a flush?
        self.checkpoint = np.random.default_rng(1).bytes(PAGES * PAGE)
        self.cache[:] = np.frombuffer(self.checkpoint, np.uint8).reshape(PAGES, PAGE)
        self.host[:] = self.cache

    def attach(self) -> ColoRam:
        ram, vga = slice(0, RAM_PAGES), slice(RAM_PAGES, PAGES)
        return ColoRam(
            [
                Block(
                    name,
                    host=self.host[part],
                    cache=self.cache[part],
                    offset=part.start * PAGE,
                )
                for name, part in (("vga", vga), ("ram", ram))
            ],
            cache_dirty=self.cache_dirty,
            host_dirty=self.host_dirty,
        )

    def marked(self) -> Any:
        """Which pages are dirty in either bitmap, bool (pages,)."""
        words = self.cache_dirty | self.host_dirty
        return np.unpackbits(words.view(np.uint8), bitorder="little")[:PAGES].astype(bool)

    def differing(self) -> Any:
        """Which pages differ from the checkpoint, bool (pages,)."""
        return (self.host != self.cache).any(axis=1)

    def words_left(self) -> int:
        return int(np.count_nonzero(self.cache_dirty | self.host_dirty))


def shared(size: int) -> Any:
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


Flush = Callable[[ColoRam], None]


def guest_and_flush(ram: SharedRam, flush: Flush, seed: int, parent: int) -> None:
    """The child's life: dirty many pages or few, flush, over and over, until killed.

    Marks come before writes, as ``receive`` has it; the writes touch both ends of a page and some
    place in between, so that a page copied in part counts as different.
    """
    rng = np.random.default_rng(seed)
    attached = ram.attach()
    while os.getppid() == parent:
        share = rng.choice((0.02, 0.3, 1.0))
        chosen = np.zeros((2, WORDS * 64), bool)
        chosen[:, :PAGES] = rng.random((2, PAGES)) < share
        cache_words, host_words = np.packbits(chosen, axis=1, bitorder="little").view(np.uint64)
        attached.set_dirty(cache_words, host_words)
        pages = np.flatnonzero(chosen.any(axis=0))
        for at in (0, int(rng.integers(PAGE)), PAGE - 1):
            ram.host[pages, at] ^= 0xFF
        ram.flushing[0] = 1
        flush(attached)
        ram.flushing[0] = 0


@contextmanager
def process(work: Callable[[], None]) -> Iterator[int]:
    """A forked process that runs ``work``; gone afterwards, whatever happens."""
    child = forked(work)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def wait_until(condition: Callable[[], bool]) -> bool:
    """Spin, since the moments waited for last microseconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
    return True


# When to kill: each waits for its moment, aimed by what the shared memory shows.


def at_any_time(ram: SharedRam, dice: random.Random) -> None:
    wait_until(lambda: ram.flushing[0] == 1)
    time.sleep(dice.uniform(0, 0.02))


def as_the_round_opens(ram: SharedRam, dice: random.Random) -> None:
    """The helpers are being woken and check in; the first words are taken."""
    wait_until(lambda: ram.flushing[0] == 0)
    wait_until(lambda: ram.flushing[0] == 1)


def in_the_middle(ram: SharedRam, dice: random.Random) -> None:
    """Some of the words of a large flush are done."""
    left = dice.randrange(2, WORDS - 1)
    wait_until(lambda: ram.flushing[0] == 1 and ram.words_left() == WORDS)
    wait_until(lambda: ram.words_left() <= left)


def as_the_round_closes(ram: SharedRam, dice: random.Random) -> None:
    """Few words are left; the caller waits for the helpers inside."""
    wait_until(lambda: ram.flushing[0] == 1 and ram.words_left() == WORDS)
    wait_until(lambda: ram.words_left() <= 2)


MOMENTS = (at_any_time, as_the_round_opens, in_the_middle, as_the_round_closes)


@dataclass
class Tally:
    kills: int = 0
    in_the_middle: int = 0
    pages_left: int = 0


def kill(ram: SharedRam, make_flush: Callable[[], Flush], moment: Any, dice: random.Random) -> None:
    """Run the child, kill it at the moment."""
    parent, seed = os.getpid(), dice.getrandbits(32)
    ram.flushing[0] = 0
    with process(lambda: guest_and_flush(ram, make_flush(), seed, parent)) as child:
        moment(ram, dice)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it failed by itself"


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, FlushPool]]:
    pools = {threads: FlushPool(threads, serial_below_bytes=0) for threads in (1, 2, 5)}
    yield pools
    for pool in pools.values():
        pool.close()


def flush_by(threads: int, strategy: Any) -> Callable[[], Flush]:
    """What a child calls to get its flush: its pool starts there."""

    def make() -> Flush:
        pool = FlushPool(threads, serial_below_bytes=0)

        def flush(ram: ColoRam) -> None:
            pool.flush(ram, strategy)

        return flush

    return make


def test_killed_anywhere_and_finished_by_another_process(
    pools: dict[int, FlushPool], long_run: bool, tell: Tell
) -> None:
    ram, dice, tally = SharedRam(), random.Random(3), Tally()
    for number in range(300 if long_run else 48):
        strategy: Any = list(STRATEGIES)[number % 4]
        threads = dice.choice((1, 2, 3, 8))

        kill(ram, flush_by(threads, strategy), MOMENTS[number // 4 % 4], dice)

        marked, differing = ram.marked(), ram.differing()
        lost = np.flatnonzero(differing & ~marked)
        assert not lost.size, f"pages {lost[:8]} differ and are not marked ({strategy})"
        tally.kills += 1
        tally.pages_left += int(marked.sum())
        tally.in_the_middle += bool(ram.flushing[0] and (marked & ~differing).any())

        attached = ram.attach()
        assert attached.dirty_pages == int(np.unpackbits(ram.cache_dirty.view(np.uint8)).sum())
        another: Any = dice.choice(list(STRATEGIES))
        stats = dice.choice(list(pools.values())).flush(attached, another)
        assert stats.copied == marked.sum()
        assert attached.dirty_pages == 0
        assert not ram.cache_dirty.any()
        assert not ram.host_dirty.any()
        assert ram.cache.tobytes() == ram.checkpoint
        assert ram.host.tobytes() == ram.checkpoint
    assert tally.in_the_middle > 0, "no kill has hit a flush: nothing was tested"
    tell(
        f"{tally.kills} kills, {tally.in_the_middle} within a flush that had copied pages, "
        f"{tally.pages_left:,} pages left dirty: all finished by another process"
    )


def flush_in_python(clear_first: bool) -> Flush:
    """A flush word by word whose order can be chosen; the patch clears a bit when it finds it."""

    def flush(ram: ColoRam) -> None:
        for region in ram.layout.regions:
            block, first = ram.block(region.block.name), region.first_bit
            host, cache = (side.reshape(-1, PAGE) for side in (block.host, block.cache))
            for word in range(first // 64, -(-region.bits.stop // 64)):
                bits = np.arange(max(first, word * 64), min(region.bits.stop, word * 64 + 64))
                mask = np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64) % np.uint64(64))
                either = (ram.cache_dirty[word] | ram.host_dirty[word]) & mask
                pages = bits[(either >> bits.astype(np.uint64) % np.uint64(64)) & np.uint64(1) == 1]
                for clear in (clear_first, not clear_first):
                    if clear:
                        ram.cache_dirty[word] &= ~mask
                        ram.host_dirty[word] &= ~mask
                    else:
                        host[pages - first] = cache[pages - first]

    return flush


@pytest.mark.parametrize("clear_first", [True, False])
def test_only_the_patchs_order_loses_pages(clear_first: bool) -> None:
    """Control: the harness finds the pages lost by a flush that clears a bit first, then copies."""
    ram, dice = SharedRam(), random.Random(5)
    lost = 0
    for _ in range(6):
        kill(ram, lambda: flush_in_python(clear_first), in_the_middle, dice)
        lost += int((ram.differing() & ~ram.marked()).sum())
        ram.host[:] = ram.cache
        ram.cache_dirty[:] = ram.host_dirty[:] = 0
    assert (lost > 0) == clear_first


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_a_worker_that_dies_of_an_exception(pools: dict[int, FlushPool], strategy: Any) -> None:
    """Half of the host memory is gone when it is flushed (SIGBUS): the process dies. With the
    memory back another one finishes: no bit of a page that could not be written was cleared."""
    descriptor = os.memfd_create("host")
    os.ftruncate(descriptor, PAGES * PAGE)
    ram = SharedRam()
    ram.host = np.frombuffer(mmap.mmap(descriptor, PAGES * PAGE), np.uint8).reshape(PAGES, PAGE)
    everything = np.zeros(WORDS * 64, bool)
    everything[:PAGES] = True
    ram.host_dirty[:] = np.packbits(everything, bitorder="little").view(np.uint64)

    os.ftruncate(descriptor, PAGES // 2 * PAGE)

    def flush() -> None:
        faulthandler.disable()
        FlushPool(3, serial_below_bytes=0).flush(ram.attach(), strategy)

    with process(flush) as child:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGBUS

    os.ftruncate(descriptor, PAGES * PAGE)
    os.close(descriptor)
    assert not (ram.differing() & ~ram.marked()).any()
    pools[2].flush(ram.attach())
    assert ram.host.tobytes() == ram.checkpoint
