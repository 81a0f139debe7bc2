"""FlushPool: persistent workers, for flushes and for the backup."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeVar

import numpy as np

from impl.arrays import address
from impl.by_node import ONE_NODE
from impl.calibration.here import tuning_here
from impl.errors import FlushInProgress, PoolClosed, ThreadsUnavailable
from impl.exclusive import Exclusive
from impl.kernels import control as c
from impl.kernels import strategies as s
from impl.kernels.check_in import back_up_once, dismiss, flush_once, helper
from impl.kernels.compile import compile_kernels
from impl.kernels.events import EventLog
from impl.kernels.flush import NO_PAGE
from impl.kernels.uninterrupted import uninterrupted
from impl.machine.cpus import usable_cpus
from impl.ram import ColoRam
from impl.stats import FlushStats
from impl.tuning import Tuning
from impl.uncopied import Uncopied
from model.boundary.arguments import shown, whole_number
from model.errors import ColoError
from model.flush import check_count
from model.ram import PAGES_PER_WORD

log = logging.getLogger(__name__)
T = TypeVar("T")

Strategy = Literal["dynamic", "static", "queue", "serial"]
STRATEGIES: dict[Strategy, np.uint64] = {
    "dynamic": s.DYNAMIC,
    "static": s.STATIC,
    "queue": s.QUEUE,
    "serial": s.SERIAL,
}
MAX_THREADS = 4096
# What a worker copies between two looks at the cursor, in a backup.
BACKUP_BATCH_BYTES = 2 << 20
# Between two looks whether every helper has arrived; a thread takes about as long.
ARRIVAL_SECONDS = 20e-6


class FlushPool(Uncopied):
    """Workers for flushes and backups: ``threads`` of them, the calling thread among them.

    ``threads`` defaults to the CPUs this process may use. The helpers start here and sleep until
    there is work; :meth:`close` ends them; a pool is a context manager. One flush at a time. A child
    after ``fork`` has no helpers: it flushes alone, with the same results, whatever the parent was
    in the midst of. ``tuning`` fixes the limits between one way of working and the next, by default
    those of this machine (:mod:`impl.calibration`); ``serial_below_bytes`` fixes one of them: up to
    this many dirty bytes the caller flushes alone. ``event_log`` records what every worker does, from
    the start. Raises ThreadsUnavailable, with no thread left behind, if the system refuses one.
    """

    _instead = "make a FlushPool of its own for whoever needs another"

    def __init__(
        self,
        threads: int | None = None,
        *,
        serial_below_bytes: int | None = None,
        tuning: Tuning | None = None,
        event_log: EventLog | None = None,
    ) -> None:
        cpus = usable_cpus()
        count = cpus if threads is None else whole_number(threads, "threads", ColoError)
        if not 1 <= count <= MAX_THREADS:
            raise ColoError(f"a pool of {count} threads is impossible: use 1 to {MAX_THREADS}")
        if tuning is not None and not isinstance(tuning, Tuning):
            raise ColoError(f"tuning is {shown(tuning)}: give a Tuning")
        if serial_below_bytes is not None:
            Tuning(serial_below_bytes=serial_below_bytes)  # it is refused before the work begins
        if event_log is not None and not isinstance(event_log, EventLog):
            raise ColoError(f"event_log is {shown(event_log)}: give an EventLog")
        compile_kernels()
        self._tuning = tuning_here(FlushPool) if tuning is None else tuning
        if serial_below_bytes is not None:
            self._tuning = replace(self._tuning, serial_below_bytes=serial_below_bytes)
        self._closed = False
        self._busy = Exclusive("this pool is flushing already: wait for it, or use another pool")
        self._control = c.allocate(count)
        self._address = address(self._control)
        self._totals = self._control[c.row(c.TOTALS)]
        self._lines = self._control[c.row(c.WORKERS) :]
        self._n_threads = np.uint64(count)
        self._set(c.OWNER, os.getpid())
        self._set(c.HELPERS, count - 1)
        self._set(c.ORDINARY_BELOW, self._tuning.ordinary_below_bytes)
        self._set(c.FETCHING_BELOW, self._tuning.fetching_below_bytes)
        self._set(c.FETCHING_HOST, self._tuning.fetching_host)
        self._set(c.SERIAL_BELOW, self._tuning.serial_below_bytes)
        # Where threads outnumber the CPUs, one that looks holds up one that works.
        self._set(c.SPIN, self._tuning.awake_nanoseconds if count <= cpus else 0)
        self._helpers = [
            threading.Thread(
                target=_live,
                args=(self._address, np.uint64(worker), self._control, event_log),
                name=f"colo-flush-{worker}",
                daemon=True,
            )
            for worker in range(1, count)
        ]
        # A pool that is dropped, or still open when the interpreter exits, lets its helpers go.
        self._dropped = weakref.finalize(self, _dismiss, self._control, event_log)
        try:
            if event_log is not None:
                event_log.attach(self._lines)
            # A Ctrl-C inside Thread.start would come out as an error of threading's own locks.
            uninterrupted(self._start_helpers)
            self._await_arrival()
        except BaseException:
            dismiss(self._address)
            self._join_helpers()
            if event_log is not None:
                event_log._detach(self._lines)
            raise

    @property
    def threads(self) -> int:
        """How many workers there are, the calling thread among them."""
        return int(self._n_threads)

    @property
    def tuning(self) -> Tuning:
        """The limits by which this pool works."""
        return self._tuning

    def _set(self, word: np.uint64, value: int) -> None:
        self._control[c.row(word), c.column(word)] = value

    def _start_helpers(self) -> None:
        for started, helper_thread in enumerate(self._helpers):
            try:
                helper_thread.start()
            except (RuntimeError, MemoryError) as error:
                raise self._too_few(started, str(error) or "no memory") from error

    def _await_arrival(self) -> None:
        """Until every helper is where nothing but ``close`` ends it: a static round awaits them all."""
        line, arrived = self._control[c.row(c.ARRIVED)], c.column(c.ARRIVED)
        while line[arrived] < len(self._helpers):
            alive = sum(thread.is_alive() for thread in self._helpers)
            if alive < len(self._helpers):
                raise self._too_few(alive, "one ended at once")
            time.sleep(ARRIVAL_SECONDS)

    def _too_few(self, started: int, reason: str) -> ThreadsUnavailable:
        return ThreadsUnavailable(
            f"of {self.threads - 1} helper threads {started} could be started ({reason}): use "
            f"threads={started + 1}, or raise the limit on threads (ulimit -u, the cgroup's "
            "pids.max) or on memory"
        )

    def flush(self, ram: ColoRam, strategy: Strategy = "dynamic") -> FlushStats:
        """Flush every dirty page of ``ram`` (``colo_flush_ram_cache``). The guest stands still.

        Raises StrayDirtyPages with nothing changed; DirtyCountMismatch with everything flushed;
        FlushInProgress, PoolClosed, or ColoError for an unknown strategy, before anything starts.
        """
        code = STRATEGIES.get(strategy) if isinstance(strategy, str) else None
        if code is None:
            known = ", ".join(STRATEGIES)
            raise ColoError(f"strategy {shown(strategy)} is unknown: use one of {known}")
        return self._alone_with(ram, partial(self._flush, ram, code))

    def _flush(self, ram: ColoRam, strategy: np.uint64) -> FlushStats:
        ram.collect_dirty_log()
        logged = log.isEnabledFor(logging.DEBUG)
        if logged:
            log.debug("flush begin: dirty_pages=%d", ram.dirty_pages)
        now = ram.installed
        if now.by_node is not ONE_NODE and strategy is s.DYNAMIC and self._helpers:
            # Asked once after each change of the blocks, by when their memory may have been touched.
            now = ram.find_nodes() if now.by_node is None else now
            strategy = s.DYNAMIC if now.by_node is ONE_NODE else s.BY_NODE
        stray = flush_once(self._address, now.job_address, strategy, self._n_threads)
        if stray != NO_PAGE:
            raise ram.stray_error(int(stray))
        ram.rearm_dirty_log()
        stats = FlushStats(self._totals, self._lines)
        if logged:
            log.debug("flush end: host_dirty=%d both_dirty=%d", stats.host_dirty, stats.both_dirty)
        check_count(stats.dirty_pages_left, stats)
        return stats

    def back_up(self, ram: ColoRam) -> None:
        """Copy every used page host -> cache in parallel; see :meth:`ColoRam.backup`."""
        self._alone_with(ram, partial(self._back_up, ram))

    def _back_up(self, ram: ColoRam) -> None:
        grain = max(1, BACKUP_BATCH_BYTES // (PAGES_PER_WORD * ram.layout.page_size))
        ram.collect_dirty_log()
        back_up_once(self._address, ram.job, np.uint64(grain), self._n_threads)
        if self._helpers:
            ram.find_nodes()
        ram.rearm_dirty_log()

    def _alone_with(self, ram: ColoRam, work: Callable[[], T]) -> T:
        """``work()``, while nothing else uses this pool or that RAM."""
        if not isinstance(ram, ColoRam):
            raise ColoError(f"ram is {shown(ram)}: give a ColoRam")

        def if_open() -> T:
            if self._closed:
                raise PoolClosed("this pool has been closed: make a new FlushPool")
            return ram.exclusively(work)

        return self._busy.run(if_open)

    def close(self) -> None:
        """End the helpers. Closing twice does nothing; FlushInProgress while a flush is running.

        Interrupted, it has closed the pool for flushes or changed nothing; close again.
        """
        if self._dropped.alive:
            self._busy.run(self._dismiss)
            self._join_helpers()
            self._dropped.detach()

    def _dismiss(self) -> None:
        # In this order: a round that was begun with the helpers gone would wait for them for ever.
        self._closed = True
        dismiss(self._address)

    def _join_helpers(self) -> None:
        for thread in self._helpers:
            if thread.is_alive():
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except FlushInProgress:
            # What ended the block says more. Dropped, the pool lets its helpers go as well.
            if error is None:
                raise


def _live(address: np.uint64, worker: np.uint64, *_alive: object) -> None:
    """A helper thread: the control block and its log live as long as it does."""
    helper(address, worker)


def _dismiss(control: c.Words, event_log: EventLog | None) -> None:
    dismiss(address(control))
