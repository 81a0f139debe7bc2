"""Struck at every point of every call: nothing lost, nothing held, nothing left behind.

Each call of a RAM and of a pool is ended by an exception wherever Python would run a signal's handler
(``tests.support.injector``), and then before every instruction of ours, which is more than can happen.
While the exception with its traceback is still there, the RAM must be consistent and everything must
work.
"""

import collections
import gc
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, get_args

import numba
import numpy as np
import pytest
from numba.core.compiler_lock import global_compiler_lock

from impl import (
    Block,
    ColoRam,
    FlushInProgress,
    FlushPool,
    KernelDirtyLog,
    PoolClosed,
    RamReleased,
    ThreadsUnavailable,
)
from impl.kernels.compile import _compile_whole
from impl.kernels.events import EventLog
from impl.pool import STRATEGIES, Strategy
from model import flush as spec
from tests.support.bits import pages_of
from tests.support.children import in_a_child
from tests.support.injector import (
    Kind,
    Strike,
    paused_everywhere,
    raise_interrupt,
    raise_memory_error,
    struck_everywhere,
)
from tests.support.needs import needs_dirty_log

PAGE = 4096
STRIKES = {"signals": raise_interrupt, "steps": raise_memory_error}
kinds = pytest.mark.parametrize("kind", get_args(Kind))


@dataclass
class World:
    """A RAM at work: some pages differ and are marked, in each bitmap and in both."""

    ram: ColoRam
    pool: FlushPool

    def flush(self, strategy: Strategy = "dynamic") -> None:
        self.pool.flush(self.ram, strategy)


@pytest.fixture(scope="module")
def pool() -> Iterator[FlushPool]:
    with FlushPool(threads=2, serial_below_bytes=0) as pool:
        yield pool


@pytest.fixture(scope="module")
def alone() -> Iterator[FlushPool]:
    """A pool without helpers: its flushes wait for nobody, however busy the machine is."""
    with FlushPool(threads=1) as pool:
        yield pool


@pytest.fixture
def at_most(long_run: bool) -> int | None:
    """How many points of each call are struck."""
    return None if long_run else 60


def new_ram(log: bool = False, attached: bool = False) -> ColoRam:
    bitmaps: dict[str, Any] = {}
    if attached:
        bitmaps = {name: np.zeros(64, np.uint64) for name in ("cache_dirty", "host_dirty")}
    ram = ColoRam(
        [Block("ram", size=130 * PAGE, max_size=200 * PAGE), Block("rom", size=3 * PAGE)], **bitmaps
    )
    if log:
        ram.dirty_log = KernelDirtyLog()
    for page in (0, 1, 63, 64, 100, 129):
        ram.receive("ram", page, bytes([page + 1]) * PAGE)
    ram.receive("rom", 2, b"r" * PAGE)
    for page in (1, 65, 128):
        ram.block("ram").host[page * PAGE] = 77
        if not log:
            ram.mark_host_dirty("ram", page)
    return ram


@dataclass(frozen=True)
class Call:
    """A call of the public API, on a world made for it."""

    act: Callable[[World], object]
    log: bool = False
    attached: bool = False
    uses_pool: bool = False

    def world(self, pool: FlushPool) -> World:
        return World(new_ram(self.log, self.attached), pool)


def words(*pages: int) -> Any:
    bitmap = np.zeros(5, np.uint64)
    for page in pages:
        bitmap[page // 64] |= np.uint64(1 << page % 64)
    return bitmap


def add(world: World) -> None:
    world.ram.add(Block("dimm", size=70 * PAGE))


CALLS = {
    **{name: Call(lambda w, name=name: w.flush(name), uses_pool=True) for name in STRATEGIES},  # type: ignore[misc]
    "backup": Call(lambda w: w.ram.backup(w.pool), uses_pool=True),
    "receive": Call(lambda w: w.ram.receive("ram", 7, b"\7" * PAGE)),
    "mark": Call(lambda w: w.ram.mark_host_dirty("ram", [7, 8, 129])),
    "set_dirty": Call(lambda w: w.ram.set_dirty(w.ram.cache_dirty, w.ram.host_dirty)),
    "recount": Call(lambda w: w.ram.recount()),
    "dirty_pages": Call(lambda w: setattr(w.ram, "dirty_pages", w.ram.dirty_pages)),
    "add": Call(add),
    "add to attached": Call(add, attached=True),
    "grow": Call(lambda w: w.ram.resize("ram", 190 * PAGE)),
    "shrink": Call(lambda w: w.ram.resize("ram", 50 * PAGE)),
    "shrink attached": Call(lambda w: w.ram.resize("ram", 50 * PAGE), attached=True),
    "shrink to nothing": Call(lambda w: w.ram.resize("ram", 0)),
    "remove": Call(lambda w: w.ram.remove("rom")),
    "remove from attached": Call(lambda w: w.ram.remove("rom"), attached=True),
}
CALLS |= {
    "flush, logged": Call(World.flush, log=True, uses_pool=True),
    "backup, logged": Call(lambda w: w.ram.backup(w.pool), uses_pool=True, log=True),
    "sync, logged": Call(lambda w: w.ram.sync(), log=True),
    "add, logged": Call(add, log=True),
    "grow, logged": Call(lambda w: w.ram.resize("ram", 190 * PAGE), log=True),
    "shrink, logged": Call(lambda w: w.ram.resize("ram", 50 * PAGE), log=True),
    "remove, logged": Call(lambda w: w.ram.remove("rom"), log=True),
}
each_call = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_dirty_log if call.log else ()) for name, call in CALLS.items()],
)


def contents(ram: ColoRam) -> tuple[dict[int, object], dict[int, object]]:
    """Host and cache by the bits of their pages, of each page its first word, which all differ in."""
    host: dict[int, object] = {}
    cache: dict[int, object] = {}
    for region in ram.layout.regions:
        block = ram.block(region.block.name)
        assert len(block.host) == len(block.cache) == block.size == region.block.used_length
        for memory, by_bit in ((block.host, host), (block.cache, cache)):
            first_words = memory.view(np.uint64).reshape(-1, PAGE // 8)[:, 0].tolist()
            by_bit.update(zip(region.bits, first_words, strict=True))
    return host, cache


def check(ram: ColoRam, pool: FlushPool, strategy: Strategy = "dynamic") -> None:
    """The RAM is consistent, the next flush gives what the model gives, and every call works."""
    assert ram.dirty_pages == len(pages_of(ram.cache_dirty))
    if ram.dirty_log is not None:
        ram.sync()
    host, cache = contents(ram)
    model = spec.Ram(
        host, cache, pages_of(ram.cache_dirty), pages_of(ram.host_dirty), ram.dirty_pages
    )
    differ = {bit for bit in host if host[bit] != cache[bit]}
    assert differ <= model.cache_dirty | model.host_dirty, "a page that differs is not marked"

    expected = spec.flush(model, ram.layout)
    stats = pool.flush(ram, strategy)
    assert (stats.copied, stats.host_dirty, stats.cache_dirty, stats.both_dirty) == (
        expected.copied,
        expected.host_dirty,
        expected.cache_dirty,
        expected.both_dirty,
    )
    assert contents(ram) == (model.host, cache)
    assert not ram.cache_dirty.any() and not ram.host_dirty.any() and ram.dirty_pages == 0

    ram.resize("ram", 60 * PAGE)
    ram.resize("ram", 200 * PAGE)
    ram.add(Block("last", size=PAGE))
    ram.receive("last", 0, b"l" * PAGE)
    ram.receive("ram", 199, b"l" * PAGE)
    assert pool.flush(ram, "serial").copied == 2
    assert all(np.array_equal(ram.block(one).host, ram.block(one).cache) for one in ("ram", "last"))
    ram.release()


@kinds
@each_call
def test_a_struck_call_loses_nothing_and_holds_nothing(
    name: str, kind: Kind, pool: FlushPool, alone: FlushPool, at_most: int | None
) -> None:
    call, points = CALLS[name], 0
    for world, strike in struck_everywhere(
        lambda: call.world(pool), call.act, STRIKES[kind], kind=kind, at_most=at_most
    ):
        points += 1
        try:
            assert strike.error is not None
            if call.uses_pool:
                check(world.ram, pool, list(STRATEGIES)[points % 4])
            else:
                check(world.ram, alone)
        except Exception as error:
            raise AssertionError(f"struck in {strike}") from error
    assert points >= 5


class HeldByAFrame:
    """The hold as it was: let go by Python code, which an interrupt may keep from doing so."""

    def __init__(self, refusal: str) -> None:
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            raise FlushInProgress

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def run(self, work: Callable[[], Any]) -> Any:
        with self:
            return work()


@pytest.mark.parametrize("where", ["impl.ram.Exclusive", "impl.pool.Exclusive"])
def test_a_hold_that_outlives_its_call_is_noticed(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control for the test above."""
    monkeypatch.setattr(where, HeldByAFrame)
    with FlushPool(threads=1) as pool:
        refused = 0
        for world, _ in struck_everywhere(lambda: World(new_ram(), pool), World.flush):
            try:
                world.flush()
            except FlushInProgress:
                refused += 1
                pool._busy = HeldByAFrame("")  # type: ignore[assignment]
        assert refused >= 2


@kinds
@pytest.mark.parametrize("log", [False, pytest.param(True, marks=needs_dirty_log)])
def test_release_struck_lets_go_when_it_is_called_again(
    kind: Kind, log: bool, pool: FlushPool, at_most: int | None
) -> None:
    for world, strike in struck_everywhere(
        lambda: World(new_ram(log), pool),
        lambda w: w.ram.release(),
        STRIKES[kind],
        kind=kind,
        at_most=at_most,
    ):
        memory = weakref.ref(world.ram.block("ram")._host) if world.ram.layout.blocks else None
        watching = world.ram.watching()
        world.ram.release()
        with pytest.raises(RamReleased):
            world.flush()
        del strike
        assert memory is None or memory() is None, "the memory is free"
        assert watching is None or watching.closed


def test_blocks_of_a_ram_that_could_not_be_made_belong_to_nobody(
    alone: FlushPool, at_most: int | None
) -> None:
    """Also while the exception keeps what there is of that RAM."""

    def blocks() -> list[Block]:
        return [Block("ram", size=130 * PAGE, max_size=200 * PAGE), Block("rom", size=3 * PAGE)]

    for given, strike in struck_everywhere(blocks, ColoRam, at_most=at_most):
        assert strike.error is not None
        ram = ColoRam(given)
        ram.receive("rom", 1, b"1" * PAGE)
        check(ram, alone)


# --- signal handlers --------------------------------------------------------------------------


@each_call
def test_a_handler_may_use_the_ram_that_it_has_interrupted(
    name: str, pool: FlushPool, alone: FlushPool, at_most: int | None
) -> None:
    """It is refused in the midst of the call, and served before and after; it never waits."""
    worlds: list[World] = []
    outcomes = collections.Counter[str]()

    def prepare() -> World:
        worlds.append(CALLS[name].world(pool))
        return worlds[-1]

    def handler() -> None:
        ram = worlds[-1].ram
        for use in (ram.recount, partial(alone.flush, ram), partial(pool.flush, ram, "static")):
            try:
                use()
                outcomes["served"] += 1
            except FlushInProgress:
                outcomes["refused"] += 1

    for world, strike in struck_everywhere(prepare, CALLS[name].act, handler, at_most=at_most):
        assert strike.error is None, strike
        if name == "dirty_pages":
            world.ram.recount()  # the handler's flush came between our reading it and setting it
        check(world.ram, alone)
    assert outcomes["served"] >= 3
    assert outcomes["refused"] >= 3


def test_a_handler_may_close_the_pool_that_it_has_interrupted(at_most: int | None) -> None:
    pools: list[FlushPool] = []
    outcomes = collections.Counter[str]()

    def prepare() -> World:
        pools.append(FlushPool(threads=2, serial_below_bytes=0))
        return World(new_ram(), pools[-1])

    def handler() -> None:
        try:
            pools[-1].close()
            outcomes["closed"] += 1
        except FlushInProgress:
            outcomes["refused"] += 1

    for world, strike in struck_everywhere(
        prepare, lambda w: w.flush("static"), handler, at_most=at_most
    ):
        assert strike.error is None or isinstance(strike.error, PoolClosed), strike
        world.pool.close()
    assert outcomes["closed"] and outcomes["refused"]


# --- pools ------------------------------------------------------------------------------------


def helpers() -> int:
    """How many threads of pools there are."""
    return sum(thread.name.startswith("colo-flush") for thread in threading.enumerate())


@pytest.fixture
def no_helper_is_left(pool: FlushPool) -> Callable[[], bool]:
    """Have all helpers ended that began in this test? Those that are about to are waited for."""
    gc.collect()  # pools that earlier tests have dropped
    before = helpers()

    def none_left() -> bool:
        deadline = time.monotonic() + 20
        while helpers() > before and time.monotonic() < deadline:
            # A pool may be in a circle with the exception that struck it.
            gc.collect()
            time.sleep(0.001)
        return helpers() <= before

    return none_left


def use_a_new_pool(ram: ColoRam) -> None:
    with FlushPool(threads=3, serial_below_bytes=0) as pool:
        pool.flush(ram)


@kinds
def test_a_pool_that_is_struck_in_its_life_leaves_no_thread_and_hides_no_interrupt(
    kind: Kind, pool: FlushPool, at_most: int | None, no_helper_is_left: Callable[[], bool]
) -> None:
    for ram, strike in struck_everywhere(
        new_ram, use_a_new_pool, STRIKES[kind], kind=kind, at_most=at_most
    ):
        # No thread for want of memory is said by name; nothing stands in for an interrupt.
        expected = KeyboardInterrupt if kind == "signals" else (MemoryError, ThreadsUnavailable)
        assert isinstance(strike.error, expected) or is_a_destructor(strike)
        del strike
        assert no_helper_is_left()
        check(ram, pool)


def test_an_event_log_of_a_pool_that_could_not_be_made_is_free_for_another(
    at_most: int | None,
) -> None:
    def make(event_log: EventLog) -> None:
        FlushPool(threads=2, serial_below_bytes=0, event_log=event_log).close()

    for event_log, strike in struck_everywhere(EventLog, make, at_most=at_most):
        if "__init__" in {frame.name for frame in traceback.extract_tb(traced(strike.error))}:
            make(event_log)
            assert [event["event"] for event in event_log.events(1)][-1:] == ["end"]


def traced(error: BaseException | None) -> TracebackType | None:
    return None if error is None else error.__traceback__


def is_a_destructor(strike: Strike) -> bool:
    """Python drops what is raised in a destructor, be it ours or the standard library's."""
    return strike.error is None and strike.code.co_name in DESTRUCTORS


DESTRUCTORS = ("_remove", "__call__", "_dismiss")


@kinds
def test_a_pool_whose_closing_is_struck_works_or_is_closed(
    kind: Kind, pool: FlushPool, at_most: int | None, no_helper_is_left: Callable[[], bool]
) -> None:
    outcomes = set()
    for new, strike in struck_everywhere(
        lambda: FlushPool(threads=3, serial_below_bytes=0),
        FlushPool.close,
        STRIKES[kind],
        kind=kind,
        at_most=at_most,
    ):
        ram = new_ram()
        try:
            # Each helper is awaited, so one that was gone would be awaited for ever.
            new.flush(ram, "static")
            outcomes.add("works")
        except PoolClosed:
            outcomes.add("closed")
        check(ram, pool)
        new.close()
        new.close()
        with pytest.raises(PoolClosed):
            new.flush(ram, "static")
        del strike
        assert no_helper_is_left()
    assert outcomes == {"works", "closed"}


# --- fork -------------------------------------------------------------------------------------


def flushes_in_a_child(ram: ColoRam, pool: FlushPool) -> bool:
    """Fork; does the child flush its copy of the RAM, by its copy of the pool and by one of its own?

    A child that waits for what has stayed with its parent is killed by SIGALRM.
    """

    def flush() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        if ram.dirty_log is not None:
            ram.dirty_log = None
        pool.flush(ram, "static")
        check_marked_pages_are_flushed(ram, pool)
        with FlushPool(threads=2, serial_below_bytes=0) as own:
            check_marked_pages_are_flushed(ram, own)
        pool.close()

    return in_a_child(flush) == 0


def check_marked_pages_are_flushed(ram: ColoRam, pool: FlushPool) -> None:
    for region in ram.layout.regions:
        block = ram.block(region.block.name)
        assert np.array_equal(block.host, block.cache)
    ram.receive("ram", 3, b"3" * PAGE)
    assert pool.flush(ram, "static").copied == 1


# Python 3.12 warns of every fork in a process of several threads.
forks = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@forks
@each_call
def test_a_fork_while_another_thread_is_anywhere_in_a_call(
    name: str, pool: FlushPool, long_run: bool
) -> None:
    call, points = CALLS[name], 0
    for world, strike in paused_everywhere(
        lambda: call.world(pool), call.act, at_most=200 if long_run else 6
    ):
        points += 1
        assert flushes_in_a_child(world.ram, pool), strike
    assert points > 3


@forks
def test_a_fork_while_another_thread_makes_or_closes_a_pool(
    pool: FlushPool, long_run: bool
) -> None:
    for ram, strike in paused_everywhere(new_ram, use_a_new_pool, at_most=200 if long_run else 20):
        assert flushes_in_a_child(ram, pool), strike


@forks
@pytest.mark.parametrize("name", ["static", "shrink", "add"])
def test_a_fork_in_a_signal_handler(name: str, pool: FlushPool, long_run: bool) -> None:
    """Anywhere in a call; the parent goes on with it."""
    worlds: list[World] = []
    outcomes = []

    def prepare() -> World:
        worlds.append(CALLS[name].world(pool))
        return worlds[-1]

    def fork() -> None:
        outcomes.append(flushes_in_a_child(worlds[-1].ram, pool))

    for world, strike in struck_everywhere(
        prepare, CALLS[name].act, fork, at_most=200 if long_run else 12
    ):
        assert outcomes[-1] and strike.error is None, strike
        check(world.ram, pool)


@forks
@pytest.mark.parametrize("compiling", [True, False])
def test_a_fork_waits_until_a_kernel_is_compiled(compiling: bool) -> None:
    """numba's locks, and LLVM, are as if nothing had been going on, in the parent and in the child."""
    inside, over = threading.Event(), threading.Event()
    wait = numba.njit(lambda x: x + 1)
    compile_it = wait.compile

    def compile_slowly(signature: Any) -> Any:
        with global_compiler_lock:
            inside.set()
            over.wait()
            return compile_it(signature)

    thread = threading.Thread(
        target=_compile_whole if compiling else lambda work, one: work(one),
        args=(compile_slowly, (numba.uint64,)),
    )
    thread.start()
    inside.wait()
    end = threading.Timer(0.2, over.set)
    end.start()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 30 if compiling else 0.5)
        try:
            assert numba.njit(lambda x: x + 2)(1) == 3
        finally:
            os._exit(0 if over.is_set() else 1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    thread.join()
    end.join()
    assert ended == (0 if compiling else -signal.SIGALRM), "the second case is the control"


def test_a_child_that_waits_is_noticed(pool: FlushPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control for the tests above: a lock that another thread holds when the process forks."""
    lock = threading.Lock()

    def wait_in_line(work: Callable[[], Any]) -> Any:
        with lock:
            return work()

    ram = new_ram()
    monkeypatch.setattr(ram, "exclusively", wait_in_line)
    monkeypatch.setattr(signal, "alarm", lambda _: signal.setitimer(signal.ITIMER_REAL, 0.5))
    assert flushes_in_a_child(ram, pool)
    lock.acquire()
    assert not flushes_in_a_child(ram, pool)
