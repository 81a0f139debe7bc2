"""A COLO pair: two guests run apart; at each checkpoint the secondary becomes the primary."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impl import Block, ColoRam, FlushPool, FlushStats
from impl.recorder.page_diff import changed_pages, to_bitmap
from tests.guest.machine import BLOCK, Guest, Snapshot
from tests.guest.workload import PAGE_BYTES, check_history, last_round, reports

ROUNDS = 2
SECONDARY_RUNS_AHEAD = 1


@dataclass(frozen=True)
class Epoch:
    """One checkpoint: pages the primary sent, pages the secondary wrote, and the flush."""

    cache_dirty: NDArray[np.bool_]
    host_dirty: NDArray[np.bool_]
    sync_seconds: float
    stats: FlushStats


class Pair:
    """Primary and secondary, both standing still with the same RAM; the cache lies on our side."""

    def __init__(self, primary: Guest, secondary: Guest, pool: FlushPool, devices: Path) -> None:
        self.primary = primary
        self.secondary = secondary
        self._pool = pool
        self._devices = devices
        self._ram = ColoRam([Block(BLOCK, host=secondary.ram)], page_size=PAGE_BYTES)
        self._ram.backup(pool)

    def run_apart(self) -> None:
        """Let both run some rounds, the secondary one more: so their memories drift apart.

        Raises GuestWrong unless each, by its own checks, is right and has missed nothing.
        """
        goal = last_round(reports(self.primary.said)) + ROUNDS
        self.primary.cont()
        self.secondary.cont()
        self.primary.wait_for(lambda history: last_round(history) >= goal)
        self.primary.stop()
        self.secondary.wait_for(lambda history: last_round(history) >= goal + SECONDARY_RUNS_AHEAD)
        self.secondary.stop()
        for guest in (self.primary, self.secondary):
            check_history(reports(guest.said))

    def checkpoint(self, with_host_dirty: bool = True) -> Epoch:
        """Flush the primary's pages, and the secondary's own, into the secondary's RAM.

        At the last checkpoint both RAMs were equal to the cache, so what differs from it is what
        each guest has written since. ``with_host_dirty`` off is the control.
        """
        cache = self._ram.block(BLOCK).cache
        begin = time.perf_counter()
        received = changed_pages(cache, self.primary.ram, PAGE_BYTES)
        written = changed_pages(cache, self.secondary.ram, PAGE_BYTES)
        if with_host_dirty:
            (region,) = self._ram.layout.regions
            host_dirty = to_bitmap(written, region, self._ram.layout.words)
            self._ram.set_dirty(self._ram.cache_dirty, host_dirty)
        sync_seconds = time.perf_counter() - begin
        for page in np.flatnonzero(received).tolist():
            content = self.primary.ram[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
            self._ram.receive(BLOCK, page, content)
        return Epoch(received, written, sync_seconds, self._pool.flush(self._ram))

    def differences(self) -> int:
        """The pages in which the RAM of secondary and primary differ."""
        changed = changed_pages(self.primary.ram, self.secondary.ram, PAGE_BYTES)
        return int(np.count_nonzero(changed))

    def hand_over(self) -> None:
        """Put the secondary, whose RAM is the primary's by now, into the primary's device state."""
        self.primary.save_devices(self._devices)
        self.secondary.close()
        self.secondary.resume(self._devices, self.primary.said)


@contextmanager
def pair_from(snapshot: Snapshot, folder: Path, pool: FlushPool) -> Iterator[Pair]:
    """Two guests that both stand where the snapshot was taken."""
    with (
        snapshot.guest(folder / "primary") as primary,
        snapshot.guest(folder / "secondary") as secondary,
    ):
        yield Pair(primary, secondary, pool, folder / "checkpoint")
