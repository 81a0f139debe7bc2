"""The memory that a pool's workers share: where each word lies, as byte offsets from its address.

Every word that two threads write has a cache line of its own; each worker's line is written by that
worker alone and read by the caller after the round. Cursors are as many as a RAM's memory may have nodes.
"""

import mmap
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from impl.errors import TooLittleMemory
from impl.kernels.intrinsics import LINE_BYTES
from impl.kernels.job_table import MOST_NODES, fields, place
from model.protocols import check_in, work_queue

_WORDS_PER_LINE = LINE_BYTES // 8
QUEUE_SLOTS = work_queue.SLOTS
# linux/mman.h, since 4.14
MADV_WIPEONFORK = 18


def _line(number: int) -> np.uint64:
    return np.uint64(number * LINE_BYTES)


def _on_line(line: int, words: int) -> list[np.uint64]:
    return fields(words, line * LINE_BYTES)


# The check-in protocol: OPEN and QUIT bits with the number of helpers inside; the round, a futex.
STATE, DOORBELL = _line(0), _line(1)
# Whose helpers these are: 1 in the process that made the pool, 0 in a child of it, and everywhere if
# Linux cannot tell; the number of that process; how many helpers there are; how many have arrived.
UNFORKED, OWNER, HELPERS, ARRIVED = _on_line(2, 4)
# Up to here a page ends that a child of fork finds zeroed: there are no helpers, and no round is open.
_OF_THE_PARENT = 3
SLOTS = _line(_OF_THE_PARENT)
# Batches off a cursor: how much has been handed out, of TO_HAND_OUT, GRAIN at a time. Where memory lies
# on several nodes each has one, which begins with the number of the first dirty page there.
CURSOR = SLOTS + np.uint64(8 * QUEUE_SLOTS)
CURSOR_BYTES = np.uint64(LINE_BYTES)
_CURSORS_END = int(CURSOR) // LINE_BYTES + MOST_NODES
# From here on what every flush looks at, on one page where that can be: it has not been used for long.
# The round's parameters, written before it opens, read by helpers that have checked in.
ROUND, STRATEGY, JOB, THREADS, GRAIN, TO_HAND_OUT = _on_line(_CURSORS_END, 6)
# Set once: dirty bytes up to which the caller flushes alone, up to which pages are copied as memcpy does,
# and up to which the next one is fetched whole; nanoseconds for which a waiting thread polls before it
# sleeps; 1 if beyond those limits a line of the next page's host is fetched.
SERIAL_BELOW, ORDINARY_BELOW, FETCHING_BELOW, SPIN, FETCHING_HOST = _on_line(_CURSORS_END + 1, 5)
# The queue: head taken by copiers, tail written by the searcher, closed when the search is over.
HEAD, TAIL, CLOSED = (_line(_CURSORS_END + i) for i in (2, 3, 4))
# The round's totals, written by the caller when it is over; laid out like a worker's line, with the
# dirty count that is left in the place of COMPLETED.
TOTALS = _line(_CURSORS_END + 5)
WORKERS = _line(_CURSORS_END + 6)

# A worker's line.
COMPLETED, COPIED, HOST_DIRTY, CACHE_DIRTY, BOTH_DIRTY, BEGIN, END, LOG = fields(8)
LEFT = COMPLETED
WORKER_BYTES = np.uint64(LINE_BYTES)

OPEN, QUIT = np.uint64(check_in.OPEN), np.uint64(check_in.QUIT)

Words = npt.NDArray[np.uint64]


def allocate(threads: int) -> Words:
    """A zeroed control block for ``threads`` workers, as (lines, 8) words on cache line boundaries.

    Its first lines end a page, which Linux is asked to zero in every child after ``fork``; UNFORKED is 1
    if it will. Raises TooLittleMemory.
    """
    lines = int(WORKERS) // LINE_BYTES + threads
    begin = mmap.PAGESIZE - _OF_THE_PARENT * LINE_BYTES
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    size = begin + lines * LINE_BYTES
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except OSError as error:
        raise TooLittleMemory(
            f"a pool's control block of {size} bytes could not be had ({error}): raise this process's "
            "limit on memory or on mappings (ulimit -v, vm.max_map_count)"
        ) from error
    control: Words = np.frombuffer(memory, np.uint64, lines * _WORDS_PER_LINE, begin)
    with suppress(OSError):  # an older kernel, or one that is not Linux's own
        memory.madvise(MADV_WIPEONFORK, 0, mmap.PAGESIZE)
        control[place(UNFORKED)] = 1
    return control.reshape(lines, _WORDS_PER_LINE)


def row(offset: np.uint64) -> int:
    """The row of a control block that lies at a byte offset."""
    return int(offset) // LINE_BYTES


def column(offset: np.uint64) -> int:
    """The word of its row that lies at a byte offset."""
    return int(offset) % LINE_BYTES // 8
