"""What a pool's workers do, event by event, for the check against the model (``tests/trace.py``).

Each worker writes into a log of its own, so nothing is shared; a worker without a log pays for a
load and a branch an event, and there are two events a batch. Read a log when its pool has closed.
"""

import json
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from impl.arrays import address
from impl.kernels import control as c
from impl.kernels.compile import kernel
from impl.kernels.intrinsics import load, store
from impl.uncopied import Uncopied
from model.boundary.arguments import file_path, shown, whole_number
from model.boundary.output import write_text
from model.errors import ColoError


class Kind(NamedTuple):
    """A kind of event: its name and what its values are."""

    name: str
    values: tuple[str, ...] = ()


KINDS = (
    # The caller's.
    Kind("begin", ("round",)),
    Kind("node", ("node", "begin")),
    Kind("open", ("to_hand_out", "grain")),
    Kind("ring doorbell", ("doorbell",)),
    Kind("wake", ("woken",)),
    Kind("await all"),
    Kind("all completed"),
    Kind("close", ("state",)),
    Kind("caller park", ("state",)),
    Kind("return"),
    Kind("quit", ("state",)),
    # A worker's.
    Kind("take batch", ("cursor",)),
    Kind("take batch of node", ("cursor", "node")),
    Kind("done", ("cursor",)),
    # A helper's.
    Kind("check in", ("doorbell", "state")),
    Kind("job", ("round",)),
    Kind("complete", ("round",)),
    Kind("check out", ("state",)),
    Kind("wake caller"),
    Kind("helper park", ("doorbell",)),
    Kind("end"),
)
BEGIN, NODE, OPEN, DOORBELL, WAKE, AWAIT_ALL, ALL_COMPLETED, CLOSE, CALLER_PARK, RETURN, QUIT = (
    np.uint64(i) for i in range(11)
)
(
    TAKE_BATCH,
    TAKE_OF_NODE,
    DONE,
    CHECK_IN,
    JOB,
    COMPLETE,
    CHECK_OUT,
    WAKE_CALLER,
    HELPER_PARK,
    END,
) = (np.uint64(i) for i in range(11, 21))

#: Stands for no event where one could be.
UNRECORDED = np.uint64(len(KINDS))

#: Events a worker: more than a day of flushes.
LARGEST_CAPACITY = 1 << 32

_0, _1 = np.uint64(0), np.uint64(1)
# The head of a log: where its next event goes, where it ends, how many found no room.
_NEXT, _END, _LOST, _HEAD_BYTES = (np.uint64(8 * i) for i in range(4))
# An event: its kind and two values.
_FIRST, _SECOND, _EVENT_BYTES = (np.uint64(8 * i) for i in range(1, 4))


@kernel
def record(control: Any, worker: Any, kind: Any, first: Any, second: Any) -> None:
    """Add an event to a worker's log, if it keeps one. The event has just happened."""
    log = load(control + c.WORKERS + worker * c.WORKER_BYTES + c.LOG)
    if log != _0:
        event = load(log + _NEXT)
        if event == load(log + _END):
            store(log + _LOST, load(log + _LOST) + _1)
        else:
            store(event, kind)
            store(event + _FIRST, first)
            store(event + _SECOND, second)
            store(log + _NEXT, event + _EVENT_BYTES)


class EventLog(Uncopied):
    """The events of one pool, from its start: ``FlushPool(threads, event_log=EventLog())``.

    ``capacity`` is in events a worker. :meth:`write` once the pool has closed.
    """

    _instead = "make an EventLog for each pool, or copy what its events() returns"

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = whole_number(capacity, "capacity", ColoError)
        if not 0 < self._capacity <= LARGEST_CAPACITY:
            raise ColoError(
                f"a capacity of {self._capacity} events is impossible: use 1 to {LARGEST_CAPACITY}"
            )
        self._lines: c.Words | None = None
        self._logs: list[npt.NDArray[np.uint64]] = []

    def attach(self, lines: c.Words) -> None:
        """Give each worker a log: ``lines`` are the workers' lines of a control block. Once only."""
        if self._logs:
            raise ColoError("this event log belongs to another pool: make one for each pool")
        words = int(c.WORKER_BYTES) // 8
        if (
            not isinstance(lines, np.ndarray)
            or lines.dtype != np.uint64
            or lines.shape[1:] != (words,)
        ):
            raise ColoError(f"lines is {shown(lines)}: a FlushPool gives its workers' lines itself")
        length = (int(_HEAD_BYTES) + self._capacity * int(_EVENT_BYTES)) // 8
        try:
            logs = [np.zeros(length, dtype=np.uint64) for _ in lines]
        except MemoryError as error:
            raise ColoError(
                f"a capacity of {self._capacity} events takes more memory than there is: use less"
            ) from error
        # First: whatever comes in between, the lines point to memory that is there.
        self._lines, self._logs = lines, logs
        for line, log in zip(lines, logs, strict=True):
            start = address(log)
            log[0] = start + _HEAD_BYTES
            log[1] = start + np.uint64(log.nbytes)
            line[int(c.LOG) // 8] = start

    def _detach(self, lines: c.Words) -> None:
        """Undo :meth:`attach` for a pool that could not be made; all its helpers have ended."""
        if self._lines is lines:
            lines[:, int(c.LOG) // 8] = 0
            self._lines, self._logs = None, []

    def events(self, worker: int) -> list[dict[str, int | str]]:
        """A worker's events in order, the caller being worker 0. ColoError if some found no room."""
        worker = whole_number(worker, "worker", ColoError)
        if not 0 <= worker < len(self._logs):
            raise ColoError(
                f"there is no worker {worker}: this log has {len(self._logs)}, from 0 on"
            )
        log = self._logs[worker]
        head = int(_HEAD_BYTES) // 8
        if log[int(_LOST) // 8]:
            raise ColoError(
                f"worker {worker} had {log[int(_LOST) // 8]} events more than its log holds: "
                f"give EventLog a capacity above {self._capacity}"
            )
        used = (int(log[0]) - int(address(log))) // 8
        rows = log[head:used].reshape(-1, int(_EVENT_BYTES) // 8).tolist()
        return [
            {"event": KINDS[kind].name, **dict(zip(KINDS[kind].values, values, strict=False))}
            for kind, *values in rows
        ]

    def write(self, path: str | PathLike[str]) -> None:
        """Write one JSON object a line: first the number of workers, then each worker's events.

        STATE is written in hexadecimal: as a JSON number it would lose bits in many readers.
        """
        file = file_path(path, "path", ColoError)
        lines: list[dict[str, Any]] = [{"log": "pool events", "workers": len(self._logs)}]
        for worker in range(len(self._logs)):
            for event in self.events(worker):
                if "state" in event:
                    event["state"] = hex(int(event["state"]))
                lines.append({"worker": worker, **event})
        write_text(file, "".join(json.dumps(line) + "\n" for line in lines))
