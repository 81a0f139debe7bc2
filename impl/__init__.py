"""How a flush runs: numba kernels, a pool of workers, and the RAM they flush. See README.md."""

import importlib.util
from pathlib import Path

# "model" is an everyday name. What else is called so, in the current folder or on the path, is not run.
_found = importlib.util.find_spec("model")
_place = _found.origin if _found else None
if Path(_place or "").resolve() != Path(__file__).resolve().parents[1] / "model" / "__init__.py":
    raise ImportError(
        f"colo-flush needs its own package `model`, but what Python finds first is {_place}: run in "
        "another folder or with `python -P`, and give colo-flush a venv of its own"
    )

import model.boundary.command  # noqa: F401  (Ctrl-C in what follows ends a command as it does later)
from impl.block import Block
from impl.dirtylog import KernelDirtyLog
from impl.errors import (
    CannotBeCopied,
    DirtyLogError,
    DirtyLogUnavailable,
    FlushInProgress,
    PoolClosed,
    RamReleased,
    ThreadsUnavailable,
    TraceError,
    UnknownAttribute,
    WatchLost,
)
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.stats import FlushStats, WorkerStats
from impl.tuning import Tuning
from model.errors import ColoError, DirtyCountMismatch, LayoutError, StrayDirtyPages

__all__ = [
    "Block",
    "CannotBeCopied",
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
    "ThreadsUnavailable",
    "TraceError",
    "Tuning",
    "UnknownAttribute",
    "WatchLost",
    "WorkerStats",
]
