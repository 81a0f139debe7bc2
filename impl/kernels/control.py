"""The memory that a pool's workers share: where each word lies, as byte offsets from its address.

Every word that two threads write has a cache line of its own; each worker's line is written by that
worker alone and read by the caller after the round. Cursors are as many as a RAM's memory may have nodes.
"""

import numpy as np
import numpy.typing as npt

from impl.kernels.intrinsics import LINE_BYTES
from impl.kernels.job_table import MOST_NODES
from model.protocols import check_in, work_queue

_WORDS_PER_LINE = LINE_BYTES // 8
QUEUE_SLOTS = work_queue.SLOTS


def _line(number: int) -> np.uint64:
    return np.uint64(number * LINE_BYTES)


# The check-in protocol: OPEN and QUIT bits with the number of helpers inside; the round, a futex.
STATE, DOORBELL = _line(0), _line(1)
# The round's parameters, written before it opens, read by helpers that have checked in.
ROUND, STRATEGY, JOB, THREADS, GRAIN, TO_HAND_OUT = (_line(2) + np.uint64(8 * i) for i in range(6))
# Set once: dirty bytes up to which the caller flushes alone; nanoseconds for which a waiting thread
# polls before it sleeps.
SERIAL_BELOW, SPIN = (_line(2) + np.uint64(8 * i) for i in range(6, 8))
# The queue: head taken by copiers, tail written by the searcher, closed when the search is over.
HEAD, TAIL, CLOSED = _line(3), _line(4), _line(5)
# Whose helpers these are: the process that made the pool, and how many; how many have arrived. Set once:
# dirty bytes up to which pages are copied as memcpy does, and up to which the next one is fetched whole.
OWNER, HELPERS, ARRIVED, ORDINARY_BELOW, FETCHING_BELOW = (
    _line(6) + np.uint64(8 * i) for i in range(5)
)
# The round's totals, written by the caller when it is over; laid out like a worker's line, with the
# dirty count that is left in the place of COMPLETED.
TOTALS = _line(7)
SLOTS = _line(8)
# Batches off a cursor: how much has been handed out, of TO_HAND_OUT, GRAIN at a time. Where memory lies
# on several nodes each has one, which begins with the number of the first dirty page there.
CURSOR = _line(8 + QUEUE_SLOTS // _WORDS_PER_LINE)
CURSOR_BYTES = np.uint64(LINE_BYTES)
WORKERS = CURSOR + np.uint64(MOST_NODES) * CURSOR_BYTES

# A worker's line.
COMPLETED, COPIED, HOST_DIRTY, CACHE_DIRTY, BOTH_DIRTY, BEGIN, END, LOG = (
    np.uint64(8 * i) for i in range(8)
)
LEFT = COMPLETED
WORKER_BYTES = np.uint64(LINE_BYTES)

OPEN, QUIT = np.uint64(check_in.OPEN), np.uint64(check_in.QUIT)

Words = npt.NDArray[np.uint64]


def allocate(threads: int) -> Words:
    """A zeroed control block for ``threads`` workers, as (lines, 8) words on cache line boundaries."""
    lines = int(WORKERS) // LINE_BYTES + threads
    raw: Words = np.zeros((lines + 1) * _WORDS_PER_LINE, dtype=np.uint64)
    skip = -raw.ctypes.data % LINE_BYTES // 8
    return raw[skip : skip + lines * _WORDS_PER_LINE].reshape(lines, _WORDS_PER_LINE)


def row(offset: np.uint64) -> int:
    """The row of a control block that lies at a byte offset."""
    return int(offset) // LINE_BYTES


def column(offset: np.uint64) -> int:
    """The word of its row that lies at a byte offset."""
    return int(offset) % LINE_BYTES // 8
