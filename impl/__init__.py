"""How a flush runs: numba kernels, a pool of workers, and the RAM they flush. See README.md."""

from impl.block import Block
from impl.dirtylog import DirtyLogError, DirtyLogUnavailable, KernelDirtyLog
from impl.errors import FlushInProgress, PoolClosed, RamReleased, TraceError
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.stats import FlushStats, WorkerStats
from model.ram import ColoError, DirtyCountMismatch, LayoutError, StrayDirtyPages

__all__ = [
    "Block",
    "ColoError",
    "ColoRam",
    "DirtyCountMismatch",
    "DirtyLogError",
    "DirtyLogUnavailable",
    "FlushInProgress",
    "FlushPool",
    "FlushStats",
    "KernelDirtyLog",
    "LayoutError",
    "PoolClosed",
    "RamReleased",
    "StrayDirtyPages",
    "TraceError",
    "WorkerStats",
]
