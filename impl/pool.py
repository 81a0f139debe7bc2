"""FlushPool: persistent workers, for flushes and for the backup."""

import logging
import os
import threading
import weakref
from types import TracebackType
from typing import Literal, Self

import numpy as np

from impl import control as c
from impl import strategies as s
from impl.compile import compile_kernels
from impl.cpus import usable_cpus
from impl.errors import PoolClosed
from impl.events import EventLog
from impl.exclusive import Exclusive, Hold
from impl.join import back_up_once, dismiss, flush_once, helper
from impl.kernel import NO_PAGE
from impl.ram import ColoRam
from impl.stats import FlushStats
from model.arguments import whole_number
from model.flush import check_count
from model.ram import PAGES_PER_WORD, ColoError

log = logging.getLogger(__name__)

Strategy = Literal["dynamic", "static", "queue", "serial"]
STRATEGIES: dict[Strategy, np.uint64] = {
    "dynamic": s.DYNAMIC,
    "static": s.STATIC,
    "queue": s.QUEUE,
    "serial": s.SERIAL,
}
MAX_THREADS = 4096
ALONE_BYTES = 1 << 20
# Longer than it takes to wake a thread, so that flushes in quick succession find everyone awake.
SPIN_NANOSECONDS = 100_000
# What a worker copies between two looks at the cursor, in a backup.
BACKUP_CLAIM_BYTES = 2 << 20


class FlushPool:
    """Workers for flushes and backups: ``threads`` of them, the calling thread among them.

    ``threads`` defaults to the CPUs this process may use. The helpers start here and sleep until
    there is work; :meth:`close` ends them; a pool is a context manager. One flush at a time. A child
    after ``fork`` has no helpers: it flushes alone, with the same results. Up to ``alone_bytes`` of
    dirty pages the caller flushes alone, since waking a thread costs more than such a copy.
    ``event_log`` records what every worker does, from the start.
    """

    def __init__(
        self,
        threads: int | None = None,
        *,
        alone_bytes: int = ALONE_BYTES,
        event_log: EventLog | None = None,
    ) -> None:
        cpus = usable_cpus()
        count = cpus if threads is None else whole_number(threads, "threads", ColoError)
        if not 1 <= count <= MAX_THREADS:
            raise ColoError(f"a pool of {count} threads is impossible: use 1 to {MAX_THREADS}")
        compile_kernels()
        self.threads = count
        self._alone_bytes = whole_number(alone_bytes, "alone_bytes", ColoError)
        if not 0 <= self._alone_bytes < 2**64:
            raise ColoError(f"alone_bytes {self._alone_bytes} is impossible: use 0 to 2^64 - 1")
        # Where threads outnumber the CPUs, one that looks holds up one that works.
        self._spin = SPIN_NANOSECONDS if count <= cpus else 0
        self._closed = False
        self._busy = Exclusive("this pool is flushing already: wait for it, or use another pool")
        self._become_owner(helpers=count - 1, event_log=event_log)
        # A pool that is dropped, or still open when the interpreter exits, lets its helpers go.
        self._dropped = weakref.finalize(self, _dismiss, self._control, event_log)

    def _become_owner(self, helpers: int, event_log: EventLog | None = None) -> None:
        self._process = os.getpid()
        self._control = c.allocate(self.threads)
        self._address = c.address(self._control)
        self._control[c.row(c.ALONE), c.column(c.ALONE)] = self._alone_bytes
        self._control[c.row(c.SPIN), c.column(c.SPIN)] = self._spin
        self._totals = self._control[c.row(c.TOTALS)]
        self._lines = self._control[c.row(c.WORKERS) :]
        if event_log is not None:
            event_log.attach(self._lines)
        self._n_threads, self._n_helpers = np.uint64(self.threads), np.uint64(helpers)
        self._helpers = [self._start(worker, event_log) for worker in range(1, helpers + 1)]

    def _start(self, worker: int, event_log: EventLog | None) -> threading.Thread:
        thread = threading.Thread(
            target=_live,
            args=(self._control, worker, event_log),
            name=f"colo-flush-{worker}",
            daemon=True,
        )
        thread.start()
        return thread

    def flush(self, ram: ColoRam, strategy: Strategy = "dynamic") -> FlushStats:
        """Flush every dirty page of ``ram`` (``colo_flush_ram_cache``). The guest stands still.

        Raises StrayDirtyPages with nothing changed; DirtyCountMismatch with everything flushed;
        FlushInProgress, PoolClosed, or ColoError for an unknown strategy, before anything starts.
        """
        code = STRATEGIES.get(strategy)
        if code is None:
            raise ColoError(f"strategy {strategy!r} is unknown: use one of {', '.join(STRATEGIES)}")
        with Hold(self._ready(), ram.ready()):
            ram.collect_dirty_log()
            logged = log.isEnabledFor(logging.DEBUG)
            if logged:
                log.debug("flush begin: dirty_pages=%d", ram.dirty_pages)
            stray = flush_once(self._address, ram.job, code, self._n_threads, self._n_helpers)
            if stray != NO_PAGE:
                raise ram.stray_error(int(stray))
            ram.rearm_dirty_log()
            stats = FlushStats(self._totals, self._lines)
            if logged:
                log.debug(
                    "flush end: host_dirty=%d both_dirty=%d", stats.host_dirty, stats.both_dirty
                )
        check_count(stats.dirty_pages_left)
        return stats

    def back_up(self, ram: ColoRam) -> None:
        """Copy every used page host -> cache in parallel; see :meth:`ColoRam.backup`."""
        grain = max(1, BACKUP_CLAIM_BYTES // (PAGES_PER_WORD * ram.layout.page_size))
        with Hold(self._ready(), ram.ready()):
            ram.collect_dirty_log()
            back_up_once(self._address, ram.job, np.uint64(grain), self._n_threads, self._n_helpers)
            ram.rearm_dirty_log()

    def _ready(self) -> Exclusive:
        """What a round must hold, once it is known that there can be one."""
        if self._closed:
            raise PoolClosed("this pool has been closed: make a new FlushPool")
        if self._process != os.getpid():
            # After fork: the helpers, and a flush that was running, stayed with the parent.
            self._become_owner(helpers=0)
        return self._busy

    def close(self) -> None:
        """End the helpers. Closing twice does nothing; FlushInProgress while a flush is running."""
        if self._closed:
            return
        with self._ready().held():
            dismiss(self._address)
            for thread in self._helpers:
                thread.join()
            self._dropped.detach()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _live(control: c.Words, worker: int, event_log: EventLog | None) -> None:
    """A helper thread: the control block and its log live as long as it does."""
    helper(c.address(control), np.uint64(worker))


def _dismiss(control: c.Words, event_log: EventLog | None) -> None:
    dismiss(c.address(control))
