"""Our own flush behind the C ABI's arguments, so that one suite judges it and every port.

What ``impl`` states otherwise is translated here: memory comes as pointers, blocks are placed by
their bits, errors become -EINVAL and -ERANGE, and clauses about NULL exist only in C.
"""

import ctypes
import errno
from typing import Any, cast

import numpy as np

from impl import Block, ColoError, ColoRam, DirtyCountMismatch, FlushPool
from impl.pool import Strategy
from model.ram import Block as RamBlock
from model.ram import Layout
from tests.conformance.guarded import bytes_at
from tests.conformance.port import Arguments, BlockStruct

MOST_THREADS = 16


class Implementation:
    """``impl.FlushPool`` as the target of a call."""

    only_reads_inputs = False  # a ColoRam's cache is memory that receive() may write

    def __init__(self, strategy: str) -> None:
        self._strategy = cast(Strategy, strategy)
        self._pools: dict[int, FlushPool] = {}
        # The kernels are compiled at the first flush: here, and not in a call that is timed.
        ram = ColoRam([Block("warm-up", size=4096)])
        ram.mark_host_dirty("warm-up", 0)
        self._pool(2).flush(ram, self._strategy)

    def flush(self, arguments: Arguments) -> int:
        """``colo_flush``."""
        try:
            ram = _attach(arguments)
        except (ColoError, ValueError, OverflowError):
            return -errno.EINVAL
        count = ctypes.c_uint64.from_address(arguments.dirty_pages or 0)
        ram.dirty_pages = count.value
        pool = self._pool(min(arguments.threads, MOST_THREADS))
        try:
            stats, status = pool.flush(ram, self._strategy), 0
        except DirtyCountMismatch as wrong:
            stats, status = wrong.stats, -errno.ERANGE
        except ColoError:
            return -errno.EINVAL
        count.value = ram.dirty_pages % 2**64
        if arguments.stats is not None:
            (ctypes.c_uint64 * 4).from_address(arguments.stats)[:] = [
                stats.copied,
                stats.host_dirty,
                stats.cache_dirty,
                stats.both_dirty,
            ]
        return status

    def plan(
        self, pages: int, threads: int, thread: int, null: str = ""
    ) -> tuple[int, int, int] | None:
        """None: the shares are the model's, which is proved and tested elsewhere."""
        return None

    def _pool(self, threads: int) -> FlushPool:
        if threads not in self._pools:
            self._pools[threads] = FlushPool(threads, serial_below_bytes=0)
        return self._pools[threads]


def _attach(a: Arguments) -> ColoRam:
    """The memory of a call as a ColoRam. Raises ColoError or ValueError if it must be refused."""
    if a.threads == 0 or a.dirty_pages is None or (a.blocks is None and a.n_blocks):
        raise ValueError("threads is 0, or an argument is NULL")
    if not a.page_size:
        raise ValueError("page size is 0")
    structs = (BlockStruct * a.n_blocks).from_address(a.blocks) if a.blocks else ()
    blocks = [_block(a, i, struct) for i, struct in enumerate(structs)]
    ram = ColoRam(
        [one for one in blocks if one.size],
        page_size=a.page_size,
        cache_dirty=_words(a.cache_bitmap, a.n_words),
        host_dirty=_words(a.host_bitmap, a.n_words),
    )
    for bitmap in (a.cache_bitmap, a.host_bitmap):
        if _words(bitmap, a.n_words)[ram.layout.words :].any():
            raise ValueError("a bit is set past the last block, where a ColoRam has no bitmap")
    return ram


def _block(a: Arguments, i: int, struct: BlockStruct) -> Block:
    # The offset only has to be aligned: where the block lies is told by first_bit.
    informative = RamBlock(
        str(i), struct.offset % a.page_size, struct.used_length, struct.max_length
    )
    Layout((informative,), a.page_size)
    if struct.used_length and struct.used_length // a.page_size > a.n_words * 64:
        raise ValueError("more pages than bits")
    return Block(
        str(i),
        host=_memory(struct.host, struct.used_length),
        cache=_memory(struct.cache, struct.used_length),
        offset=struct.first_bit * a.page_size,
    )


def _words(address: int | None, number: int) -> Any:
    return _memory(address, 8 * number).view(np.uint64)


def _memory(address: int | None, size: int) -> Any:
    """Writable uint8 memory at an address. Raises ValueError if there is none."""
    if size == 0:
        return np.zeros(0, np.uint8)
    if address is None:
        raise ValueError("NULL where a length is not 0")
    return np.frombuffer(bytes_at(address, size), np.uint8)
