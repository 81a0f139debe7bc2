"""Roll a guest back to a checkpoint by flushing the pages it has dirtied since, and no others."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impl import Block, ColoRam, FlushPool, FlushStats
from impl.recorder.page_diff import changed_pages, to_bitmap
from tests.guest.machine import BLOCK, Guest
from tests.guest.workload import PAGE_BYTES, Report, last_round, pages_in, reports, rewritten

ROUNDS_BETWEEN = 3


@dataclass(frozen=True)
class Rollback:
    """One rollback: how far the guest had come, what was flushed, where it went on."""

    sync_seconds: float
    stats: FlushStats
    round_before: int
    pages_left: int
    history: list[Report]
    news: list[Report]


class Checkpoint:
    """A guest as it stood: RAM in the cache, device state in a file, and what it had said."""

    def __init__(self, guest: Guest, pool: FlushPool, devices: Path) -> None:
        """Take it of a guest that stands still."""
        self.guest = guest
        self.devices = devices
        self.said = guest.said
        self._pool = pool
        self._ram = ColoRam([Block(BLOCK, host=guest.ram)], page_size=PAGE_BYTES)
        guest.save_devices(devices)
        self._ram.backup(pool)

    @property
    def round(self) -> int:
        """The round that the guest had finished last."""
        return last_round(reports(self.said))

    def run_on(self) -> None:
        """Let the guest run, and dirty its memory, for some rounds."""
        goal = last_round(reports(self.guest.said)) + ROUNDS_BETWEEN
        self.guest.run_until(lambda history: last_round(history) >= goal)

    def changed(self) -> NDArray[np.bool_]:
        """For each page of RAM, whether it differs from the checkpoint."""
        block = self._ram.block(BLOCK)
        return changed_pages(block.cache, block.host, PAGE_BYTES)

    def roll_back(self, leave_out: int | None = None) -> Rollback:
        """Make the guest, which stands still, what it was, and let it show that it is.

        ``leave_out`` is a page of RAM that is not flushed: the control.
        """
        round_before = last_round(reports(self.guest.said))
        begin = time.perf_counter()
        changed = self.changed()
        if leave_out is not None:
            changed[leave_out] = False
        (region,) = self._ram.layout.regions
        host_dirty = to_bitmap(changed, region, self._ram.layout.words)
        self._ram.set_dirty(np.zeros_like(host_dirty), host_dirty)
        sync_seconds = time.perf_counter() - begin
        stats = self._pool.flush(self._ram)

        self.guest.close()
        self.guest.resume(self.devices, self.said)
        pages_left = int(self.changed().sum())
        said = len(reports(self.said))
        history = self.guest.run_until(lambda history: self._shown(history[said:]))
        return Rollback(sync_seconds, stats, round_before, pages_left, history, history[said:])

    def _shown(self, news: list[Report]) -> bool:
        """Two rounds and one set of files: the first round may have begun before the checkpoint."""
        kinds = [report.kind for report in news]
        return kinds.count("round") >= 2 and "files" in kinds

    def page_the_guest_would_miss(self) -> tuple[int, int]:
        """A changed page of RAM that holds a page of the workload, and which one.

        None that the workload rewrites before it next checks every page: that would heal it.
        """
        block = self._ram.block(BLOCK)
        (then, old), (now, new) = pages_in(block.cache), pages_in(block.host)
        soon = [page for ahead in (1, 2) for page in rewritten(self.round + ahead)]
        missed = (then >= 0) & (then == now) & (old != new) & ~np.isin(then, soon)
        page = int(np.flatnonzero(missed)[0])
        return page, int(then[page])
