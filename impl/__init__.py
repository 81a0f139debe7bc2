"""How a flush runs: numba kernels, a pool of workers, and the RAM they flush. See README.md."""

from impl.errors import FlushInProgress, PoolClosed, TraceError
from impl.pool import FlushPool
from impl.ram import Block, ColoRam
from impl.stats import FlushStats, WorkerStats
from model.ram import ColoError, DirtyCountMismatch, LayoutError, StrayDirtyPages

__all__ = [
    "Block",
    "ColoError",
    "ColoRam",
    "DirtyCountMismatch",
    "FlushInProgress",
    "FlushPool",
    "FlushStats",
    "LayoutError",
    "PoolClosed",
    "StrayDirtyPages",
    "TraceError",
    "WorkerStats",
]
