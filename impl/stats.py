"""What a flush reports: the patch's trace point, as a whole and for each worker."""

from dataclasses import dataclass, fields
from functools import cached_property

from impl.kernels import control as c
from model.boundary.arguments import whole_number
from model.errors import ColoError


@dataclass(frozen=True)
class WorkerStats:
    """One worker's part of a flush: pages, and when it began and ended (monotonic clock, ns)."""

    worker: int
    copied: int
    host_dirty: int
    cache_dirty: int
    both_dirty: int
    begin_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        for what in fields(self):
            number = whole_number(getattr(self, what.name), what.name, ColoError)
            object.__setattr__(self, what.name, number)

    @property
    def seconds(self) -> float:
        """How long this worker worked."""
        return (self.end_ns - self.begin_ns) / 1e9


class FlushStats:
    """The counts of the patch's trace point ``colo_flush_ram_cache_end``, in pages.

    ``copied`` were dirty in either bitmap, ``host_dirty`` and ``cache_dirty`` in that one,
    ``both_dirty`` in both; ``seconds`` is the whole flush, the scan for strays included.
    """

    def __init__(self, totals: c.Words, lines: c.Words) -> None:
        """From a pool's totals line and its (threads, 8) worker lines, which are copied."""
        try:
            left, copied, host_dirty, cache_dirty, both_dirty, begin, end, _ = totals.tolist()
            _workers, words = lines.shape
            if words != len(totals):
                raise ValueError("a worker's line is as long as the totals")
            self._lines = lines.copy()
        except (AttributeError, TypeError, ValueError) as error:
            raise ColoError(
                "totals and lines are a pool's own: FlushPool.flush returns a FlushStats"
            ) from error
        self.copied: int = copied
        self.host_dirty: int = host_dirty
        self.cache_dirty: int = cache_dirty
        self.both_dirty: int = both_dirty
        self.seconds: float = (end - begin) / 1e9
        #: What is left of the dirty count; not 0 if it was wrong to begin with, and below 0 too low.
        self.dirty_pages_left: int = left - 2**64 if left >> 63 else left

    @cached_property
    def workers(self) -> tuple[WorkerStats, ...]:
        """The part of each worker that took part; worker 0 is the caller."""
        current = self._lines[0, 0]
        return tuple(
            WorkerStats(worker, *line[1:7])
            for worker, line in enumerate(self._lines.tolist())
            if line[0] == current
        )

    def __repr__(self) -> str:
        return (
            f"FlushStats(copied={self.copied}, host_dirty={self.host_dirty}, "
            f"cache_dirty={self.cache_dirty}, both_dirty={self.both_dirty}, "
            f"seconds={self.seconds:.6f}, workers={len(self.workers)})"
        )
