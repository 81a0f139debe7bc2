"""The life of a pool: threads that do not come, closing while others flush, a count that was wrong."""

import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from impl import (
    Block,
    ColoError,
    ColoRam,
    DirtyCountMismatch,
    FlushInProgress,
    FlushPool,
    PoolClosed,
    ThreadsUnavailable,
)
from impl.pool import STRATEGIES, Strategy
from tests.support.children import in_a_child

PAGE = 4096
every_strategy = pytest.mark.parametrize("strategy", list(STRATEGIES))


@pytest.fixture
def ram() -> ColoRam:
    """Three pages received, one of them written by the guest as well."""
    ram = ColoRam([Block("ram", size=100 * PAGE, max_size=200 * PAGE)])
    for page in (3, 64, 99):
        ram.receive("ram", page, b"x" * PAGE)
    ram.mark_host_dirty("ram", 64)
    return ram


def living_helpers() -> int:
    return sum(thread.name.startswith("colo-flush") for thread in threading.enumerate())


# --- threads that do not come -----------------------------------------------------------------


@pytest.mark.parametrize("started", [0, 1, 6])
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started(
    started: int, error: Exception, ram: ColoRam, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, calls, before = threading.Thread.start, [], living_helpers()

    def start_so_many(thread: threading.Thread) -> None:
        calls.append(thread)
        if len(calls) > started:
            raise error
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_so_many)
        with pytest.raises(
            ThreadsUnavailable,
            match=rf"of 7 helper threads {started} could be started .*use threads={started + 1},",
        ):
            FlushPool(threads=8)
    assert living_helpers() == before, "those that were started have been let go"
    with FlushPool(threads=2, serial_below_bytes=0) as pool:
        assert pool.flush(ram, "static").copied == 3


def test_the_systems_limit_is_said_by_name_and_the_next_small_pool_works(ram: ColoRam) -> None:
    """A real one: no address space for the stacks of 300 threads."""

    def child() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = size + (200 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for _ in range(3):
            with pytest.raises(ThreadsUnavailable, match=r"of 299 helper threads \d+ could be"):
                FlushPool(threads=300)
        assert living_helpers() == 0
        with FlushPool(threads=3, serial_below_bytes=0) as pool:
            assert pool.flush(ram, "static").copied == 3

    assert in_a_child(child) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_helper_that_ends_before_it_arrives(
    ram: ColoRam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A static round would wait for it for ever."""
    live, before = FlushPool.__init__.__globals__["_live"], living_helpers()

    def second_one_dies(address: Any, worker: Any, *rest: Any) -> None:
        if worker == 2:
            raise MemoryError
        live(address, worker, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("impl.pool._live", second_one_dies)
        with pytest.raises(ThreadsUnavailable, match="one ended at once"):
            FlushPool(threads=4)
    assert living_helpers() == before


def test_threads_unavailable_is_a_colo_error() -> None:
    assert issubclass(ThreadsUnavailable, ColoError)


# --- closing ----------------------------------------------------------------------------------


@pytest.fixture
def busy(ram: ColoRam) -> Iterator[FlushPool]:
    """A pool in which another thread is in the midst of a flush, until the test is over."""
    inside, over = threading.Event(), threading.Event()
    pool = FlushPool(threads=2)

    def flush() -> bool:
        inside.set()
        return over.wait()

    thread = threading.Thread(target=lambda: pool._busy.run(flush))
    thread.start()
    inside.wait()
    yield pool
    over.set()
    thread.join()
    pool.close()


def test_close_while_another_thread_flushes_is_refused_and_changes_nothing(
    busy: FlushPool, ram: ColoRam
) -> None:
    for use in (busy.close, lambda: busy.flush(ram), lambda: ram.backup(busy)):
        with pytest.raises(FlushInProgress, match="this pool is flushing already"):
            use()


def test_a_with_block_does_not_hide_what_ended_it(busy: FlushPool) -> None:
    with pytest.raises(KeyboardInterrupt), busy:
        raise KeyboardInterrupt
    with pytest.raises(FlushInProgress), busy:
        pass


def test_flushes_while_others_close(ram: ColoRam) -> None:
    """Each flush is done, refused, or told that the pool is closed; close is refused or closes."""
    outcomes: set[str] = set()

    def flush_until_closed(pool: FlushPool, ram: ColoRam, strategy: Strategy) -> None:
        while True:
            try:
                pool.flush(ram, strategy)
                outcomes.add("done")
            except FlushInProgress:
                outcomes.add("refused")
            except PoolClosed:
                return
            time.sleep(0.0005)  # or nobody else ever finds it free

    strategies: list[Strategy] = ["static", "dynamic"]
    for strategy in strategies * 15:
        pool = FlushPool(threads=2, serial_below_bytes=0)
        threads = [
            threading.Thread(target=flush_until_closed, args=(pool, one, strategy))
            for one in (ram, ColoRam([]))
        ]
        for thread in threads:
            thread.start()
        while True:
            try:
                pool.close()
                break
            except FlushInProgress:
                time.sleep(0.0001)
        for thread in threads:
            thread.join()
    assert "done" in outcomes


def test_with_blocks_of_one_pool_inside_each_other(ram: ColoRam) -> None:
    with FlushPool(threads=2) as pool, pool:
        assert pool.flush(ram).copied == 3
    with pytest.raises(PoolClosed, match="make a new FlushPool"), pool:
        pool.flush(ram)


# --- a count that was wrong -------------------------------------------------------------------


@every_strategy
@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_wrong_count_comes_with_what_was_flushed_and_the_remedy(
    strategy: Strategy, count: int, ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    ram.dirty_pages = count
    for flushed in (3, 0):  # it says so until recount(), so that nobody misses it
        left = count - 3
        with pytest.raises(
            DirtyCountMismatch, match=rf"dirty count is {left}, not 0.*recount\(\)"
        ) as wrong:
            pools[3].flush(ram, strategy)
        assert wrong.value.stats.copied == flushed
        assert wrong.value.stats.dirty_pages_left == ram.dirty_pages == left
    ram.recount()
    assert pools[3].flush(ram, strategy).dirty_pages_left == 0


CHANGES: dict[str, Callable[[ColoRam], object]] = {
    "add": lambda ram: ram.add(Block("dimm", size=70 * PAGE)),
    "grow": lambda ram: ram.resize("ram", 150 * PAGE),
    "shrink": lambda ram: ram.resize("ram", 90 * PAGE),
    "remove": lambda ram: ram.remove("ram"),
    "receive": lambda ram: ram.receive("ram", 5, b"y" * PAGE),
    "mark": lambda ram: ram.mark_host_dirty("ram", 5),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("wrong_by", [-2, 4])
def test_no_change_of_the_ram_hides_a_wrong_count(
    change: str, wrong_by: int, ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    ram.dirty_pages += wrong_by
    CHANGES[change](ram)
    with pytest.raises(DirtyCountMismatch, match=re.escape(f"dirty count is {wrong_by}, not 0")):
        pools[1].flush(ram)
    ram.recount()
    pools[1].flush(ram)


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_the_ram_makes_the_count_wrong(
    change: str, ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    """Control for the test above."""
    CHANGES[change](ram)
    pools[1].flush(ram)
