"""A live secondary: ``python -m impl demo``.

Three real processes. The *primary* writes its RAM and sends every page it wrote over a Unix socket.
The *guest* is the secondary's: it writes the same kind of pages, in memory shared with this one,
and keeps the kernel's dirty log of its own writes. This process is the secondary's hypervisor: it
receives pages into the cache, and at every checkpoint stops the guest, has it sync its log,
flushes, compares every byte of the guest's RAM with the primary's, and lets both go on.

Control: ``--without-dirty-log`` leaves the guest's writes out; the comparison must fail.
"""

import argparse
import itertools
import mmap
import multiprocessing
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any

import numpy as np
from rich.live import Live

from impl.block import Block, Bytes, Words
from impl.dirtylog import KernelDirtyLog, Watched
from impl.display.terminal import Table, console
from impl.machine.memory import check_memory
from impl.pool import STRATEGIES, FlushPool, Strategy
from impl.ram import ColoRam
from model.boundary import options
from model.boundary.output import printable
from model.errors import ColoError

PAGE = 4096
VGA_BYTES = 16 << 20

# What goes over the primary's socket: a page (block number, page number, then its bytes), until ...
_PAGE_HEADER = struct.Struct("<IQ")
_CHECKPOINT = _PAGE_HEADER.pack(0xFFFF_FFFF, 0)
# What this process answers when it has flushed: go on.
# One byte each, never read ahead: whoever looks whether there is word must find it in the socket.
_GO, _STOP = b"g", b"s"


class DemoFailed(ColoError, RuntimeError):
    """The secondary differs from its primary, or one of the processes ended early."""


@dataclass(frozen=True)
class Machine:
    """What the three processes share: RAM by block, and the host-dirty bitmap."""

    names: tuple[str, ...]
    first_bits: tuple[int, ...]
    primary: tuple[Bytes, ...]
    secondary: tuple[Bytes, ...]
    host_dirty: Words


@dataclass(frozen=True)
class Checkpoint:
    """One row of the table: pages, seconds."""

    received: int
    written: int
    both: int
    flushed: int
    sync_seconds: float
    flush_seconds: float


def make_machine(ram_bytes: int) -> Machine:
    """Shared memory for both guests' RAM, the primary's filled with bytes nobody could guess."""
    sizes = {"pc.ram": ram_bytes, "vga.vram": VGA_BYTES}
    pages = sum(sizes.values()) // PAGE
    primary = tuple(_shared(size) for size in sizes.values())
    rng = np.random.default_rng()
    for memory in primary:
        memory[:] = np.frombuffer(rng.bytes(memory.nbytes), np.uint8)
    return Machine(
        names=tuple(sizes),
        first_bits=(0, ram_bytes // PAGE),
        primary=primary,
        secondary=tuple(_shared(size) for size in sizes.values()),
        host_dirty=_shared(-(-pages // 64) * 8).view(np.uint64),
    )


def _shared(size: int) -> Bytes:
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


def workload(machine: Machine, epoch: int) -> Iterator[tuple[int, int, int]]:
    """Runs of pages that a guest writes in one epoch: (block number, first page, pages), endless.

    Nine of ten are the same for both guests, which is COLO's premise; the tenth is its own.
    """
    common, own = np.random.default_rng(epoch), np.random.default_rng()
    hot = int(common.integers(machine.primary[0].nbytes // PAGE))
    for turn in itertools.count():
        rng = own if turn % 10 == 9 else common
        number = int(rng.random() < 0.1)
        pages = machine.primary[number].nbytes // PAGE
        length = int(rng.choice((1, 1, 1, 2, 8, 64)))
        near = hot + int(rng.normal(0, pages / 16)) if rng.random() < 0.8 else rng.integers(pages)
        yield number, int(near % (pages - length)), length


def run_primary(wire: socket.socket, machine: Machine, interval: float) -> None:
    """The primary: write pages and send them for ``interval`` seconds, then checkpoint, forever."""
    rng = np.random.default_rng()
    with wire.makefile("rwb", buffering=1 << 20) as stream:
        epoch = 0
        while stream.read(1) == _GO:
            end = time.monotonic() + interval
            for number, first, pages in workload(machine, epoch):
                for page in range(first, first + pages):
                    content = rng.bytes(PAGE)
                    _page(machine.primary[number], page)[:] = np.frombuffer(content, np.uint8)
                    stream.write(_PAGE_HEADER.pack(number, page) + content)
                if time.monotonic() > end:
                    break
            stream.write(_CHECKPOINT)
            stream.flush()
            epoch += 1


def run_guest(wire: socket.socket, machine: Machine, with_log: bool) -> None:
    """The secondary's guest: write until told to stop, sync the log, answer how long that took."""
    rng = np.random.default_rng()
    with wire.makefile("w") as stream, KernelDirtyLog() as log:
        try:
            if with_log:
                log.start(
                    Watched(name, memory, first_bit, memory.nbytes)
                    for name, memory, first_bit in zip(
                        machine.names, machine.secondary, machine.first_bits, strict=True
                    )
                )
        except ColoError as error:
            _say(stream, f"error {error}")
            return
        _say(stream, "ready")
        epoch = 0
        while wire.recv(1) == _GO:
            for number, first, pages in workload(machine, epoch):
                for page in range(first, first + pages):
                    at = int(rng.integers(PAGE - 8))
                    _page(machine.secondary[number], page)[at : at + 8] = rng.integers(256, size=8)
                if _has_word(wire):
                    break
            wire.recv(1)
            begin = time.perf_counter()
            if with_log:
                log.sync(machine.host_dirty)
            _say(stream, f"stopped {time.perf_counter() - begin}")
            epoch += 1


def _page(memory: Bytes, page: int) -> Bytes:
    return memory[page * PAGE : (page + 1) * PAGE]


def _has_word(wire: socket.socket) -> bool:
    return bool(select.select([wire], [], [], 0)[0])


def _say(stream: IO[str], line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


def take_pages(ram: ColoRam, names: tuple[str, ...], stream: BufferedReader) -> None:
    """Receive pages into the cache until the primary says checkpoint.

    The primary is not trusted: ``receive`` checks each page number, and nothing it sends is a path,
    a length or an address.
    """
    while True:
        header = _exactly(stream, _PAGE_HEADER.size)
        if header == _CHECKPOINT:
            return
        number, page = _PAGE_HEADER.unpack(header)
        if number >= len(names):
            raise DemoFailed(f"the primary sent a page of block {number}: have {len(names)}")
        ram.receive(names[number], page, _exactly(stream, PAGE))


def _exactly(stream: BufferedReader, size: int) -> bytes:
    try:
        data = stream.read(size)
    except ConnectionResetError:
        data = b""
    if len(data) < size:
        raise DemoFailed("the primary has gone: its socket closed in the middle of a checkpoint")
    return data


def _tell(wire: socket.socket, what: bytes, who: str) -> None:
    try:
        wire.sendall(what)
    except OSError as error:
        raise DemoFailed(f"the {who} has gone: its socket closed") from error


def _hear(stream: IO[str], word: str) -> str:
    """The rest of the guest's next line, which must begin with ``word``."""
    try:
        said, _, rest = stream.readline().rstrip("\n").partition(" ")
    except ConnectionResetError:
        said, rest = "", ""
    if said != word:
        raise DemoFailed(rest if said == "error" else "the guest has gone: its socket closed")
    return rest


def compare(machine: Machine) -> None:
    """Raise DemoFailed unless every byte of the secondary's RAM is the primary's."""
    for name, ours, theirs in zip(machine.names, machine.secondary, machine.primary, strict=True):
        if not np.array_equal(ours, theirs):
            differ = (ours != theirs).reshape(-1, PAGE).any(axis=1)
            raise DemoFailed(
                f"{int(differ.sum())} pages of block {name!r} differ from the primary after the "
                f"flush, the first is page {int(differ.argmax())}"
            )


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[socket.socket]:
    """A forked process that runs ``target(its socket, *arguments)``; yields the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def run() -> None:
        ours.close()
        # Ctrl-C goes to the whole terminal group; these end when our socket closes.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(BrokenPipeError, ConnectionResetError):
            target(theirs, *arguments)

    child = multiprocessing.get_context("fork").Process(
        target=run, name=target.__name__, daemon=True
    )
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        child.join(timeout=5)
        child.kill()


def checkpoints(
    machine: Machine,
    count: int,
    *,
    interval: float,
    threads: int | None = None,
    strategy: Strategy = "dynamic",
    with_log: bool = True,
) -> Iterator[Checkpoint]:
    """Run a COLO pair for a number of checkpoints; DemoFailed once one leaves a byte different."""
    with (
        process(run_primary, machine, interval) as to_primary,
        process(run_guest, machine, with_log) as to_guest,
        to_primary.makefile("rb") as from_primary,
        to_guest.makefile("r") as from_guest,
        FlushPool(threads) as pool,
    ):
        ram = ColoRam(
            [
                Block(name, host=memory)
                for name, memory in zip(machine.names, machine.secondary, strict=True)
            ],
            page_size=PAGE,
            host_dirty=machine.host_dirty,
        )
        # The first migration, with both guests still: then the cache starts as a copy of the RAM.
        for ours, theirs in zip(machine.secondary, machine.primary, strict=True):
            ours[:] = theirs
        ram.backup(pool)
        _hear(from_guest, "ready")
        for _ in range(count):
            _tell(to_primary, _GO, "primary")
            _tell(to_guest, _GO, "guest")
            take_pages(ram, machine.names, from_primary)
            _tell(to_guest, _STOP, "guest")
            sync_seconds = float(_hear(from_guest, "stopped"))
            stats = pool.flush(ram, strategy)
            compare(machine)
            yield Checkpoint(
                stats.cache_dirty,
                stats.host_dirty,
                stats.both_dirty,
                stats.copied,
                sync_seconds,
                stats.seconds,
            )


def run(arguments: argparse.Namespace) -> int:
    """``python -m impl demo``: the table; 0 if every byte was right at every checkpoint."""
    check_memory(4 * (arguments.ram + VGA_BYTES), f"a demo with {arguments.ram >> 20} MiB of RAM")
    machine = make_machine(arguments.ram)
    rows = checkpoints(
        machine,
        arguments.checkpoints,
        interval=arguments.interval,
        threads=arguments.threads,
        strategy=arguments.strategy,
        with_log=not arguments.without_dirty_log,
    )
    table = Table(
        title=f"A live secondary, {arguments.ram >> 20} MiB (pages)", title_justify="left"
    )
    for heading in ("#", "cache", "host", "both", "flushed", "sync ms", "flush ms", "GB/s"):
        table.add_column(heading, justify="right")
    screen = console()
    try:
        with Live(table, console=screen, auto_refresh=False, transient=True) as live:
            for number, row in enumerate(rows, 1):
                table.add_row(str(number), *_cells(row))
                live.refresh()
    except DemoFailed as failure:
        print(f"checkpoint {table.row_count + 1}: {printable(failure)}", file=sys.stderr)
        return 1
    screen.print(table)
    screen.print(f"every byte of the secondary equal to the primary's, {table.row_count} times")
    return 0


def _cells(row: Checkpoint) -> Iterator[str]:
    for pages in (row.received, row.written, row.both, row.flushed):
        yield f"{pages:,}"
    yield f"{row.sync_seconds * 1e3:.2f}"
    yield f"{row.flush_seconds * 1e3:.2f}"
    yield f"{row.flushed * PAGE / row.flush_seconds / 1e9:.1f}"


def add_command(subparsers: Any) -> None:
    """Register ``demo`` with the command line of ``python -m impl``."""
    parser = subparsers.add_parser("demo", help="a live COLO secondary, every byte compared")
    parser.add_argument("--checkpoints", metavar="N", type=options.count, default=10)
    parser.add_argument(
        "--ram", metavar="SIZE", type=options.size, default="256M", help="default: 256M"
    )
    parser.add_argument("--interval", metavar="SECONDS", type=options.seconds, default=0.25)
    parser.add_argument("--threads", metavar="N", type=options.count, help="default: all CPUs")
    parser.add_argument("--strategy", choices=sorted(STRATEGIES), default="dynamic")
    parser.add_argument(
        "--without-dirty-log",
        action="store_true",
        help="control: leave the guest's own writes out; the comparison must fail",
    )
    parser.set_defaults(run=run)
