"""``python -m impl record``: the dirty pages of a guest that runs under QEMU, epoch by epoch.

The guest is stopped around each epoch and looked at (``impl.recorder.watched_guest``); the pages that it
wrote go into a trace (``impl.recorder.recording``), whose ``flush_seconds`` are those of our own flush,
which brings the copy of its RAM up to date.

One guest fills the trace's ``cache_dirty``. Two guests, primary and secondary, fill both bitmaps,
each with its own guest's pages; the two run on apart, since QEMU has no command that puts one where
the other is (``tests/guest`` shows the whole checkpoint).
"""

import argparse
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from impl.display.terminal import Table, console
from impl.errors import TraceError
from impl.pool import FlushPool
from impl.recorder import qemu
from impl.recorder.qmp import Monitor
from impl.recorder.recording import Recording
from impl.recorder.watched_guest import PAGE_SIZE, Look, WatchedGuest, standing_still
from model.boundary import options
from model.boundary.output import check_outputs
from model.errors import ColoError

#: What asks us to end, or would end us: the guest must not be left standing by any of them.
_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU),
)


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
