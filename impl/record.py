"""``python -m impl record``: the dirty pages of a guest that runs under QEMU, epoch by epoch.

The guest is stopped around each epoch and its RAM, a shared file, compared with a copy of it as of
the epoch before. The copy is kept up to date by our own flush, from the guest's RAM, of the pages
that differ: the ``flush_seconds`` of the trace are that flush's.

One guest fills the trace's ``cache_dirty``. Two guests, primary and secondary, fill both bitmaps,
each with its own guest's pages; the two run on apart, since QEMU has no command that puts one where
the other is (``tests/guest`` shows the whole checkpoint).
"""

import argparse
import mmap
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impl import trace
from impl.block import Block
from impl.difference import changed_pages, to_bitmap
from impl.pool import FlushPool
from impl.ram import ColoRam
from impl.stats import FlushStats
from impl.terminal import Table, console
from model import options
from model import ram as model
from model.output import check_outputs
from model.ram import ColoError, Layout

if TYPE_CHECKING:
    from impl.qmp import Monitor

Words = NDArray[np.uint64]

#: What x86, and nearly every other target, migrates by (QEMU: ``TARGET_PAGE_SIZE``).
PAGE_SIZE = 4096


@dataclass(frozen=True)
class Look:
    """What a guest wrote in an epoch, bool (pages,) of its block; the time to find and to copy."""

    changed: NDArray[np.bool_]
    sync_seconds: float
    stats: FlushStats


class WatchedGuest:
    """A running guest, and a copy of its RAM as it was when we last looked."""

    def __init__(self, monitor: "Monitor", ram_file: Path, pool: FlushPool) -> None:
        """Find its block. Raises MonitorError, RamFileError; ColoError if it stands still."""
        if not monitor.execute("query-status")["running"]:
            raise ColoError(
                f"the guest at {monitor.socket} stands still: let it run (`cont`) first"
            )
        self.block = monitor.block_in(ram_file)
        self._monitor = monitor
        self._pool = pool
        # A private mapping follows what the guest writes, and nothing here can write the guest.
        live = np.memmap(ram_file, np.uint8, "c")
        copy = np.frombuffer(mmap.mmap(-1, len(live)), np.uint8)
        self._ram = ColoRam([Block(self.block.name, host=copy, cache=live)], page_size=PAGE_SIZE)

    def first_look(self) -> None:
        """Copy all of its RAM. The guest stands still."""
        self._copy(np.ones(self.block.used_length // PAGE_SIZE, np.bool_))

    def look(self) -> Look:
        """Find what has changed since the last look, and copy that. The guest stands still."""
        begin = time.perf_counter()
        block = self._ram.block(self.block.name)
        changed = changed_pages(block.host, block.cache, PAGE_SIZE)
        sync_seconds = time.perf_counter() - begin
        return Look(changed, sync_seconds, self._copy(changed))

    def _copy(self, changed: NDArray[np.bool_]) -> FlushStats:
        (region,) = self._ram.layout.regions
        bitmap = to_bitmap(changed, region, self._ram.layout.words)
        self._ram.set_dirty(bitmap, np.zeros_like(bitmap))
        return self._pool.flush(self._ram)

    def stop(self) -> None:
        """Make the guest stand still."""
        self._monitor.execute("stop")

    def cont(self) -> None:
        """Let the guest run."""
        self._monitor.execute("cont")


@contextmanager
def standing_still(guests: list[WatchedGuest]) -> Iterator[None]:
    """Stop the guests, and whatever happens let every one that is still there run on."""
    try:
        for guest in guests:
            guest.stop()
        yield
    finally:
        for guest in guests:
            with suppress(ColoError):
                guest.cont()


def epochs(
    guests: list[WatchedGuest], seconds: float, interrupted: threading.Event
) -> Iterator[list[Look]]:
    """Let the guests run for so long and look at each, again and again, until interrupted."""
    with standing_still(guests):
        for guest in guests:
            guest.first_look()
    while not interrupted.wait(seconds):
        with standing_still(guests):
            looks = [guest.look() for guest in guests]
        yield looks


@dataclass
class Recording:
    """A trace that grows: all RAM blocks in QEMU's list order, of which one is observed."""

    blocks: list[model.Block]
    observed: model.Block
    source: str
    cache_dirty: list[Words] = field(default_factory=list)
    host_dirty: list[Words] = field(default_factory=list)
    flush_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout(tuple(self.blocks), PAGE_SIZE)
        (self._region,) = (r for r in self.layout.regions if r.block == self.observed)

    def add(self, cache: NDArray[np.bool_], host: NDArray[np.bool_], flush_seconds: float) -> None:
        """Append an epoch: for each page of the observed block, whether it is dirty."""
        self.cache_dirty.append(to_bitmap(cache, self._region, self.layout.words))
        self.host_dirty.append(to_bitmap(host, self._region, self.layout.words))
        self.flush_seconds.append(flush_seconds)

    def save(self, path: Path) -> None:
        """Write what has been recorded so far."""
        trace.save(
            trace.Trace(
                self.layout,
                np.array(self.cache_dirty),
                np.array(self.host_dirty),
                np.array(self.flush_seconds),
                self.source,
            ),
            path,
        )


def describe(monitor: "Monitor") -> str:
    """The QEMU behind a monitor, for a trace's source line."""
    version = monitor.execute("query-version")
    number = ".".join(str(version["qemu"][part]) for part in ("major", "minor", "micro"))
    package = f" ({version['package']})" if version["package"] else ""
    accelerator = "kvm" if monitor.execute("query-kvm")["enabled"] else "tcg"
    return f"QEMU {number}{package}, accel {accelerator}"


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
    """Record, print the table, save. What was recorded is kept on Ctrl-C and if a guest goes."""
    try:
        from impl.qmp import Monitor
    except ImportError as error:
        raise ColoError(
            "recording needs QEMU's library: pip install 'colo-flush[guest]'"
        ) from error

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
            WatchedGuest(monitor, ram_file, pool)
            for monitor, (_, ram_file) in zip(monitors, sources, strict=True)
        ]
        blocks = [monitor.ram_blocks() for monitor in monitors]
        if blocks[0] != blocks[-1] or guests[0].block != guests[-1].block:
            raise ColoError("the two guests differ in their RAM blocks: start both the same way")
        source = _source(describe(monitors[0]), guests, arguments.epoch)
        recording = Recording(blocks[0], guests[0].block, source)
        table = _table(len(guests))
        try:
            _record(guests, recording, table, arguments)
        finally:
            if table.row_count:
                recording.save(arguments.output)
                console().print(table)
        if not table.row_count:
            raise ColoError("stopped before the first epoch was over: nothing was recorded")
    return 0


def _source(qemu: str, guests: list[WatchedGuest], seconds: float) -> str:
    who = (
        "cache: what the primary wrote, host: what the secondary wrote, each by itself"
        if len(guests) == 2
        else "cache: what the one guest wrote, host: empty; flush_seconds: these pages copied by "
        "colo-flush out of the guest's RAM"
    )
    return (
        f"{qemu}, recorded from outside every {seconds * 1000:g} ms of running as content "
        "difference, a lower bound of a dirty log; "
        f"only block {guests[0].block.name!r} observed; {who}"
    )


def _record(
    guests: list[WatchedGuest], recording: Recording, table: Table, arguments: argparse.Namespace
) -> None:
    with _interruption() as interrupted, _progress() as say:
        say("copying all RAM for the first time")
        for number, looks in enumerate(epochs(guests, arguments.epoch, interrupted), start=1):
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
def _interruption() -> Iterator[threading.Event]:
    """Ctrl-C as an event, so that it never falls between stopping a guest and letting it go on."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that says how far we are; a pipe gets every such line."""
    if not sys.stderr.isatty():
        yield partial(print, file=sys.stderr, flush=True)
        return
    with console(stderr=True).status("") as status:
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
