"""Calls a port through the C ABI of colo_flush.h, on the memory of a ColoRam."""

import ctypes
from pathlib import Path

from impl.bench.paired import Contender
from impl.kernels.job_table import DIRTY_PAGES
from impl.ports.build import CEILING, build
from impl.ram import ColoRam
from model.errors import ColoError


class _Block(ctypes.Structure):
    """``colo_block``."""

    _fields_ = [
        ("offset", ctypes.c_uint64),
        ("used_length", ctypes.c_uint64),
        ("max_length", ctypes.c_uint64),
        ("first_bit", ctypes.c_uint64),
        ("host", ctypes.c_void_p),
        ("cache", ctypes.c_void_p),
    ]


class Stats(ctypes.Structure):
    """``colo_stats``."""

    _fields_ = [
        ("copied", ctypes.c_uint64),
        ("host_dirty", ctypes.c_uint64),
        ("cache_dirty", ctypes.c_uint64),
        ("both_dirty", ctypes.c_uint64),
    ]


class PortFailed(ColoError, RuntimeError):
    """A port refused what it must flush."""


class BoundPort:
    """A port's ``colo_flush`` with its arguments converted once, so that a call costs little."""

    def __init__(self, library: Path, ram: ColoRam, threads: int) -> None:
        regions = ram.layout.regions
        self._ram = ram  # kept alive, with all its memory
        self._blocks = (_Block * len(regions))(
            *(
                _Block(
                    r.block.offset,
                    r.block.used_length,
                    r.block.max_length,
                    r.first_bit,
                    ram.block(r.block.name).host.ctypes.data,
                    ram.block(r.block.name).cache.ctypes.data,
                )
                for r in regions
            )
        )
        self.stats = Stats()
        self._took = ctypes.c_uint64()
        self._library = ctypes.CDLL(str(library))
        self._timed = ctypes.CDLL(str(build(CEILING))).timed_flush
        self._timed.restype = ctypes.c_int
        self._arguments = (
            ctypes.cast(self._library.colo_flush, ctypes.c_void_p),
            self._blocks,
            ctypes.c_size_t(len(regions)),
            ctypes.c_uint64(ram.layout.page_size),
            ctypes.c_void_p(ram.cache_dirty.ctypes.data),
            ctypes.c_void_p(ram.host_dirty.ctypes.data),
            ctypes.c_size_t(ram.layout.words),
            ctypes.c_void_p(int(ram.job + DIRTY_PAGES)),
            ctypes.c_uint32(threads),
            ctypes.byref(self.stats),
            ctypes.byref(self._took),
        )

    def contender(self, name: str, group: str) -> Contender:
        """It flushes whatever is dirty, and so each epoch."""
        return Contender(name, group, lambda _: self.flush())

    def flush(self) -> int:
        """One flush of the RAM, its dirty count included; nanoseconds, timed in C. Or PortFailed."""
        status = self._timed(*self._arguments)
        if status != 0:
            raise PortFailed(
                f"{self._library._name}: colo_flush returned {status} where a flush must succeed: "
                "run python -m tests.conformance --library on it"
            )
        return self._took.value
