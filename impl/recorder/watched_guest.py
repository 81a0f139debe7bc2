"""A guest under QEMU, stopped to be looked at, and let run again.

While it stands still its RAM, a shared file, is compared with a copy of it as of the look before. Pages
that differ are read into a cache; when it runs again our own flush copies them from there into the copy.

A guest is let run only if it was we who stopped it. Anything else that stops it (somebody at another
monitor, a migration, its own end) ends the recording: to let a guest run that has migrated away would
be to have two of it.
"""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from impl.block import Block
from impl.machine.cpus import usable_cpus
from impl.machine.memory import check_memory
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.recorder import qemu
from impl.recorder.page_diff import differing_pages, to_bitmap
from impl.recorder.qmp import CommandRefused, GuestGone, Monitor, MonitorError
from impl.stats import FlushStats
from model.boundary.output import printable
from model.errors import ColoError

Bytes = NDArray[np.uint8]

#: What x86, and nearly every other target, migrates by (QEMU: ``TARGET_PAGE_SIZE``).
PAGE_SIZE = 4096
# Read and compared in one go by each thread; a hole at least as long is not read at all.
_PIECE_BYTES = 4 << 20
#: How long a QEMU that does not answer is waited for while the guest stands still by our hand.
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 0.1
#: QEMU's state of a guest that `stop` has stopped.
OURS = "paused"


class GuestDisturbed(ColoError):
    """Somebody let the guest run, or take other steps, while we had stopped it to look."""


@dataclass(frozen=True)
class Look:
    """What a guest wrote in an epoch, bool (pages,) of its block; the time to find, and the flush."""

    changed: NDArray[np.bool_]
    sync_seconds: float
    stats: FlushStats


class WatchedGuest:
    """A running guest, and a copy of its RAM as it was when we last looked. A context manager."""

    def __init__(self, monitor: Monitor, ram_file: Path, pool: FlushPool) -> None:
        """Find its block. Raises MonitorError, RamFileError, TooLittleMemory, GuestStandsStill."""
        self._monitor = monitor
        self._pool = pool
        self._asked_to_stop = self._stopped = False
        self._check_it_runs()
        self.block, self._file = qemu.find_ram(monitor, ram_file)
        check_memory(2 * self._file.allocated, f"to record {monitor.name}")
        # Only pages that hold something take memory: both begin as zeros, like a hole of the file.
        self._ram = ColoRam(
            [Block(self.block.name, size=self.block.used_length)], page_size=PAGE_SIZE
        )
        self._held = np.zeros(-(-self.block.used_length // _PIECE_BYTES), np.bool_)

    def first_look(self) -> None:
        """Copy all of its RAM. The guest stands still."""
        self._find(self._ram.block(self.block.name).host)

    def look(self) -> tuple[NDArray[np.bool_], float]:
        """Find what has changed since the last look, and how long that took; the guest stands still.

        The pages lie in the cache then, for :meth:`flush`.
        """
        begin = time.perf_counter()
        changed = self._find(self._ram.block(self.block.name).cache)
        return changed, time.perf_counter() - begin

    def flush(self, changed: NDArray[np.bool_]) -> FlushStats:
        """Bring the copy up to date. The guest may run."""
        (region,) = self._ram.layout.regions
        bitmap = to_bitmap(changed, region, self._ram.layout.words)
        self._ram.set_dirty(bitmap, np.zeros_like(bitmap))
        return self._pool.flush(self._ram)

    def _find(self, target: Bytes) -> NDArray[np.bool_]:
        """Which pages differ from the copy: bool (pages,). Those are read into ``target``."""
        copy = self._ram.block(self.block.name).host
        changed = np.zeros(len(copy) // PAGE_SIZE, np.bool_)
        mine = threading.local()

        def compare(piece: int) -> None:
            part = slice(piece * _PIECE_BYTES, (piece + 1) * _PIECE_BYTES)
            if not hasattr(mine, "buffer"):
                mine.buffer = np.empty(_PIECE_BYTES, np.uint8)
            now = mine.buffer[: len(copy[part])]
            self._file.read(part.start, now)
            differs = differing_pages(copy[part], now, PAGE_SIZE)
            changed[part.start // PAGE_SIZE :][: len(differs)] = differs
            target[part].reshape(-1, PAGE_SIZE)[differs] = now.reshape(-1, PAGE_SIZE)[differs]

        # What is a hole now may have held something: a balloon, memory unplugged.
        with_data = self._file.pieces_with_data(_PIECE_BYTES)
        with ThreadPoolExecutor(usable_cpus()) as threads:
            list(threads.map(compare, np.flatnonzero(with_data | self._held).tolist()))
        self._held = with_data
        return changed

    def stop(self) -> None:
        """Make the guest stand still. GuestStandsStill if anything else has done so before us."""
        self._asked_to_stop = self._stopped = False
        if qemu.is_migrating(self._monitor):
            raise qemu.GuestMigrates(
                f"the guest of {self._monitor.name} is migrating, and would arrive stopped if we "
                "stopped it now: record it where it runs then"
            )
        self._looked_at = time.time()
        self._check_it_runs()
        self._before = replace(self._monitor.seen)
        self._asked_at = time.time()
        self._asked_to_stop = True
        self._monitor.ask("stop")
        now = qemu.status(self._monitor)
        if now.running:
            raise MonitorError(f"{self._monitor.name} said that it stopped the guest, which runs")
        self._check_it_is_ours(now)
        self._stopped = True

    def let_go(self) -> None:
        """Let the guest run if it was we who stopped it, and it is still ours.

        A QEMU that hangs is waited for: it forgets commands of who has hung up, and the guest would
        stand still when it comes to itself. Raises GuestStandsStill, or GuestDisturbed, if the guest is
        no longer ours: what we saw is then worth nothing. MonitorError if it is and cannot be let run.
        """
        if not self._asked_to_stop:
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        told_to_run = False
        while True:
            try:
                # Each time anew: whoever cannot see its state does not know that it is still ours.
                now = qemu.status(self._monitor)
                if now.running and (told_to_run or not self._stopped):
                    return
                self._check_it_is_ours(now)
                told_to_run = True
                self._monitor.ask("cont")
                return
            except GuestGone:
                if not self._stopped:  # the error that brought us here says so already
                    return
                raise
            except MonitorError as error:
                if isinstance(error, CommandRefused) or time.monotonic() > deadline:
                    raise type(error)(
                        f"{error}; the guest may stand still: see to it (`cont`)"
                    ) from error
                print(f"{printable(error)}; still trying to let the guest run", file=sys.stderr)
                time.sleep(_PAUSE_SECONDS)

    def _check_it_runs(self) -> None:
        now = qemu.status(self._monitor)
        if not now.running:
            raise self._stands_still(now.reason)

    def _check_it_is_ours(self, now: qemu.Status) -> None:
        """Raise unless the guest stands still because we stopped it, and has done so ever since."""
        seen = self._monitor.seen
        if now.running or seen.resumptions != self._before.resumptions:
            raise GuestDisturbed(
                f"somebody let the guest of {self._monitor.name} run while we looked at its RAM"
            )
        if now.state != OURS:
            arrived = "; it went while we had stopped it: let it run there (`cont`)"
            gone = self._stopped and now.state in ("finish-migrate", "postmigrate")
            raise self._stands_still(now.reason + arrived * gone)
        # Both clocks are this machine's: a stop between our look at its status and our own is not ours.
        if seen.stops != self._before.stops and self._looked_at < seen.stopped_at < self._asked_at:
            raise self._stands_still("somebody stopped it just before we did")

    def _stands_still(self, reason: str) -> qemu.GuestStandsStill:
        return qemu.GuestStandsStill(
            f"the guest of {self._monitor.name} stands still: {reason}; it is left as it is"
        )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def standing_still(guests: list[WatchedGuest]) -> Iterator[None]:
    """Stop the guests, and whatever happens let every one run on that we have stopped."""
    with ExitStack() as stack:
        for guest in guests:
            stack.callback(guest.let_go)
            guest.stop()
        yield
