"""``python -m impl record``: the dirty pages of a guest that runs under QEMU, epoch by epoch.

The guest is stopped around each epoch and its RAM, a shared file, compared with a copy of it as of
the epoch before. Pages that differ are read into a cache while the guest stands still; when it runs
again our own flush copies them from there into the copy, and ``flush_seconds`` of the trace are that
flush's.

A guest is let run only if it was we who stopped it. Anything else that stops it (somebody at another
monitor, a migration, its own end) ends the recording: to let a guest run that has migrated away would
be to have two of it.

One guest fills the trace's ``cache_dirty``. Two guests, primary and secondary, fill both bitmaps,
each with its own guest's pages; the two run on apart, since QEMU has no command that puts one where
the other is (``tests/guest`` shows the whole checkpoint).
"""

import argparse
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from impl.bitmap import untouched_zeros
from impl.block import Block
from impl.display.terminal import Table, console
from impl.errors import TraceError
from impl.machine.cpus import usable_cpus
from impl.machine.memory import check_memory
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.recorder import qemu
from impl.recorder.page_diff import differing_pages, to_bitmap, to_words
from impl.recorder.qmp import CommandRefused, GuestGone, Monitor, MonitorError
from impl.stats import FlushStats
from impl.traces import format as trace
from model import ram as model
from model.boundary import options
from model.boundary.output import OutputError, check_outputs, printable
from model.errors import ColoError
from model.ram import PAGES_PER_WORD, Layout

Words = NDArray[np.uint64]
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
#: What asks us to end, or would end us: the guest must not be left standing by any of them.
_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU),
)


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


class Interruption:
    """Ctrl-C and its like as a question, so that none falls between stop and cont. To be closed."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before: dict[int, Any] = {}
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            # Not those that are ignored, as `nohup` has it, or that others handle in C.
            if handler is not None and handler != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        # Ctrl-Z would leave us standing, with the guest.
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    def _note(self, *_: object) -> None:
        # No lock: a handler runs in the middle of whatever the main thread does.
        with suppress(BlockingIOError):
            os.write(self._write, b"!")

    def within(self, seconds: float) -> bool:
        """Wait so long; whether we have been interrupted, now or before."""
        return bool(select.select([self._read], [], [], seconds)[0])

    def close(self) -> None:
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)


def epochs(
    guests: list[WatchedGuest], seconds: float, interruption: Interruption
) -> Iterator[list[Look]]:
    """Let the guests run for so long and look at each, again and again, until interrupted."""
    with standing_still(guests):
        for guest in guests:
            guest.first_look()
    while not interruption.within(seconds):
        with standing_still(guests):
            found = [guest.look() for guest in guests]
        yield [
            Look(changed, sync_seconds, guest.flush(changed))
            for guest, (changed, sync_seconds) in zip(guests, found, strict=True)
        ]


@dataclass
class Recording:
    """A trace that grows: all RAM blocks in QEMU's list order, of which one is observed.

    ``cache_dirty`` and ``host_dirty`` hold, for each epoch, the words that the observed block's bits
    lie in.
    """

    blocks: list[model.Block]
    observed: model.Block
    source: str
    cache_dirty: list[Words] = field(default_factory=list)
    host_dirty: list[Words] = field(default_factory=list)
    flush_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises ColoError if what is to be recorded would not load again."""
        self.layout = Layout(tuple(self.blocks), PAGE_SIZE)
        (self._region,) = (r for r in self.layout.regions if r.block == self.observed)
        self.most_epochs = trace.most_epochs(self.layout)
        if not self.most_epochs:
            raise TraceError(
                f"these RAM blocks reach up to page {self.layout.pages}: a trace holds no epoch of that"
            )
        self._first_word = self._region.first_bit // PAGES_PER_WORD
        nothing = np.zeros(0, np.uint64)
        trace.check(self._trace([nothing], [nothing], [float("nan")]))

    def add(self, cache: NDArray[np.bool_], host: NDArray[np.bool_], flush_seconds: float) -> None:
        """Append an epoch: for each page of the observed block, whether it is dirty.

        Raises TraceError if a trace holds no more.
        """
        if len(self.flush_seconds) == self.most_epochs:
            raise TraceError(f"a trace of this guest holds no more than {self.most_epochs} epochs")
        self.cache_dirty.append(to_words(cache, self._region))
        self.host_dirty.append(to_words(host, self._region))
        self.flush_seconds.append(flush_seconds)

    def _trace(self, cache: list[Words], host: list[Words], seconds: list[float]) -> trace.Trace:
        return trace.Trace(
            self.layout, self._whole(cache), self._whole(host), np.array(seconds), self.source
        )

    def _whole(self, own_words: list[Words]) -> Words:
        """Bitmaps over the whole address space, uint64 (epochs, words)."""
        whole = untouched_zeros(len(own_words), self.layout.words)
        for epoch, own in zip(whole, own_words, strict=True):
            epoch[self._first_word :][: len(own)] = own
        return whole

    def save(self, path: Path) -> None:
        """Write what has been recorded so far. OutputError, which says where it is instead."""
        recorded = self._trace(self.cache_dirty, self.host_dirty, self.flush_seconds)
        try:
            trace.save(recorded, path)
        except OutputError as error:
            raise OutputError(f"{error}; {_saved_elsewhere(recorded)}") from error


def _saved_elsewhere(recorded: trace.Trace) -> str:
    """Keep a recording that its own place has no room for, in memory if need be; where it is."""
    for folder in (tempfile.gettempdir(), "/dev/shm"):
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(".npz", "colo-recording-", folder)
            os.close(descriptor)
            try:
                trace.save(recorded, name)
            except OSError:
                Path(name).unlink()
                raise
            return f"the recording is kept in {name}"
    return "nor anywhere else: the recording is lost"


def add_command(commands: Any) -> None:
    """Register ``record`` with the command line."""
    parser = commands.add_parser("record", help="record the dirty pages of a guest under QEMU")
    parser.add_argument("--qmp", type=Path, required=True, metavar="SOCKET")
    parser.add_argument("--ram", type=Path, required=True, metavar="FILE")
    parser.add_argument("--secondary-qmp", type=Path, metavar="SOCKET", help="a second guest")
    parser.add_argument("--secondary-ram", type=Path, metavar="FILE")
    parser.add_argument(
        "--epoch", type=options.duration, default=0.5, help="500ms, 2s (default: 500ms)"
    )
    parser.add_argument("--epochs", type=options.count, metavar="N", help="default: until Ctrl-C")
    parser.add_argument(
        "--threads", type=options.count, help="default: the CPUs this process may use"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="TRACE.npz")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Record, save, print the table; 0 if it went on to the last epoch asked for, or to Ctrl-C.

    Whatever ends it sooner is an error that comes after what was recorded has been saved.
    """
    sources = [(arguments.qmp, arguments.ram)]
    if (arguments.secondary_qmp is None) != (arguments.secondary_ram is None):
        raise ColoError("a second guest needs both --secondary-qmp and --secondary-ram")
    if arguments.secondary_qmp is not None:
        sources.append((arguments.secondary_qmp, arguments.secondary_ram))
    check_outputs(arguments.output, inputs=[ram_file for _, ram_file in sources])

    with ExitStack() as stack:
        pool = stack.enter_context(FlushPool(arguments.threads))
        monitors = [stack.enter_context(Monitor(socket)) for socket, _ in sources]
        guests = [
            stack.enter_context(WatchedGuest(monitor, ram_file, pool))
            for monitor, (_, ram_file) in zip(monitors, sources, strict=True)
        ]
        blocks = [qemu.ram_blocks(monitor) for monitor in monitors]
        if blocks[0] != blocks[-1] or guests[0].block != guests[-1].block:
            raise ColoError("the two guests differ in their RAM blocks: start both the same way")
        source = _source(qemu.describe(monitors[0]), guests, arguments.epoch)
        recording = Recording(blocks[0], guests[0].block, source)
        if (arguments.epochs or 0) > recording.most_epochs:
            raise TraceError(
                f"a trace of this guest holds {recording.most_epochs} epochs at most: record fewer"
            )
        # Held off until what was recorded is on the disk.
        interruption = stack.enter_context(closing(Interruption()))
        _record_and_save(guests, recording, interruption, arguments)
    return 0


def _record_and_save(
    guests: list[WatchedGuest],
    recording: Recording,
    interruption: Interruption,
    arguments: argparse.Namespace,
) -> None:
    table = _table(len(guests))
    try:
        _record(guests, recording, table, interruption, arguments)
    finally:
        if recording.flush_seconds:
            recording.save(arguments.output)
            console().print(table)
    if not recording.flush_seconds:
        raise ColoError("stopped before the first epoch was over: nothing was recorded")


def _source(what: str, guests: list[WatchedGuest], seconds: float) -> str:
    who = (
        "cache: what the primary wrote, host: what the secondary wrote, each by itself"
        if len(guests) == 2
        else "cache: what the one guest wrote, host: empty; flush_seconds: these pages, read out of "
        "the guest's RAM into a cache, flushed by colo-flush into a copy of the RAM"
    )
    return (
        f"{what}, recorded from outside every {seconds * 1000:g} ms of running as content "
        "difference, a lower bound of a dirty log; "
        f"only block {guests[0].block.name!r} observed; {who}"
    )


def _record(
    guests: list[WatchedGuest],
    recording: Recording,
    table: Table,
    interruption: Interruption,
    arguments: argparse.Namespace,
) -> None:
    with _progress() as say:
        say("copying all RAM for the first time")
        for number, looks in enumerate(epochs(guests, arguments.epoch, interruption), start=1):
            cache, host = looks[0].changed, np.zeros_like(looks[0].changed)
            flush_seconds = looks[0].stats.seconds
            if len(looks) == 2:
                host, flush_seconds = looks[1].changed, float("nan")
            recording.add(cache, host, flush_seconds)
            table.add_row(str(number), *_row(looks))
            say(f"epoch {number}: {np.count_nonzero(cache | host):,} dirty pages")
            if number == arguments.epochs:
                return


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that says how far we are; a pipe gets every such line."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield partial(terminal.print, soft_wrap=True, highlight=False)
        return
    with terminal.status("") as status:
        yield status.update


def _table(guests: int) -> Table:
    pages = ("dirty pages",) if guests == 1 else ("cache-dirty", "host-dirty", "both")
    table = Table()
    for column in ("epoch", *pages, "of RAM", "sync ms", "copy ms", "GB/s"):
        table.add_column(column, justify="right")
    return table


def _row(looks: list[Look]) -> list[str]:
    changed = [look.changed for look in looks]
    pages = [*changed, changed[0] & changed[-1]] if len(looks) == 2 else changed
    copied = sum(look.stats.copied for look in looks)
    seconds = sum(look.stats.seconds for look in looks)
    return [
        *(f"{np.count_nonzero(dirty):,}" for dirty in pages),
        f"{np.count_nonzero(changed[0] | changed[-1]) / len(changed[0]):.1%}",
        f"{sum(look.sync_seconds for look in looks) * 1e3:.1f}",
        f"{seconds * 1e3:.2f}",
        f"{copied * PAGE_SIZE / seconds / 1e9:.1f}",
    ]
