"""A running QEMU seen from outside: how its guest fares, its RAM blocks, the file that holds its RAM.

QEMU has to be started with its RAM in a shared file, and with a monitor socket for us::

    qemu-system-x86_64 -machine memory-backend=pc.ram -m 512M ...
        -object memory-backend-file,id=pc.ram,size=512M,mem-path=/dev/shm/guest,share=on
        -qmp unix:/run/guest.qmp,server=on,wait=off

A memfd or a file without a name (huge pages) is found by what QEMU has open: ``/proc/PID/fd/N``.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impl.recorder.qmp import Answer, CommandRefused, Monitor, MonitorError
from impl.recorder.ram_file import RamFile, RamFileError
from model.boundary.output import printable
from model.errors import ColoError
from model.ram import Block

#: Each costs two questions. QEMU has at most 512 RAM blocks under KVM.
MOST_BACKENDS = 1024
#: A name has 255 characters at most, and the table is no wider than a screen.
LONGEST_LINE = 1024
# From the page size on, a line of `info ramblock`: offset, used and max length; newer QEMUs print more.
_LENGTHS = re.compile(r"\d{1,9} [KMGT]iB" + r" 0x([0-9a-f]{1,16})" * 3 + r"(?: \S+)*")
#: A line of /proc/PID/maps (proc_pid_maps(5)): is it shared, the device, the inode.
_MAPPING = re.compile(r"\S+ ..(?:.)(.) \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)(?: .*)?")

#: Why a guest that stands still does so, and what to do, by QEMU's RunState.
_STANDSTILL = {
    "paused": "somebody has stopped it: let it run (`cont`) first",
    "prelaunch": "it has not been started yet: let it run (`cont`) first",
    "postmigrate": "it has migrated away: record it where it runs now. Letting it run here as well "
    "would be two of it",
    "finish-migrate": "it is migrating away: record it where it will run",
    "inmigrate": "it is still coming in by migration: wait until it runs",
    "colo": "a COLO checkpoint is being taken",
    "save-vm": "a snapshot of it is being taken: wait until it runs",
    "restore-vm": "a snapshot is being loaded into it: wait until it runs",
    "shutdown": "it has shut down",
    "suspended": "it sleeps (suspend to RAM): wake it first",
    "watchdog": "its watchdog has fired",
    "guest-panicked": "its kernel has panicked",
    "internal-error": "QEMU could not go on with it (internal error)",
    "io-error": "its disk failed (I/O error): mend that, then let it run (`cont`)",
    "debug": "a debugger holds it",
}


#: QEMU's MigrationStatus while a guest is under way.
_MIGRATING = {
    *("setup", "active", "pre-switchover", "device", "wait-unplug"),
    *("postcopy-active", "postcopy-device", "postcopy-paused", "postcopy-recover"),
    *("postcopy-recover-setup",),
}


class GuestStandsStill(ColoError):
    """A guest that should run, or should be ours to stop, stands still for a reason of its own."""


class GuestMigrates(ColoError):
    """A guest on its way elsewhere: if we stopped it now, it would arrive stopped."""


@dataclass(frozen=True)
class Status:
    """Whether the guest runs, and QEMU's word for the state that it is in."""

    running: bool
    state: str

    @property
    def reason(self) -> str:
        """Why a guest stands still, and what to do."""
        return f"{_STANDSTILL.get(self.state, 'it does not run')} (QEMU's state: {self.state!r})"


def status(monitor: Monitor) -> Status:
    """How the guest fares. Raises MonitorError."""
    answer = monitor.ask("query-status")
    running = answer.part("running", bool)
    state = answer.optional("status", str) or ("running" if running else "paused")
    return Status(running, printable(state, 40))


def is_migrating(monitor: Monitor) -> bool:
    """Whether the guest is on its way to another QEMU, or into a file. Raises MonitorError."""
    try:
        answer = monitor.ask("query-migrate")
    except CommandRefused:  # a QEMU that cannot
        return False
    return bool(answer.whole(dict)) and answer.optional("status", str) in _MIGRATING


def describe(monitor: Monitor) -> str:
    """The QEMU behind a monitor, for a trace's source line. Raises MonitorError."""
    version = monitor.ask("query-version")
    qemu = Answer(version.part("qemu", dict), f"'qemu' of {version.what}")
    number = ".".join(str(qemu.part(part, int)) for part in ("major", "minor", "micro"))
    package = version.part("package", str)
    accelerator = "kvm" if monitor.ask("query-kvm").part("enabled", bool) else "tcg"
    package = f" ({printable(package, 80)})" if package else ""
    return f"QEMU {number[:40]}{package}, accel {accelerator}"


def ram_blocks(monitor: Monitor) -> list[Block]:
    """QEMU's RAM blocks in its list order, largest first. Raises MonitorError."""
    answer = monitor.ask("human-monitor-command", {"command-line": "info ramblock"})
    head, *lines = answer.whole(str).splitlines() or [""]
    if head.split()[:2] != ["Block", "Name"]:
        raise MonitorError(
            f"{answer.what} (`info ramblock`) does not begin with 'Block Name' but with "
            f"{printable(repr(head), 60)}: is it a QEMU that answers there?"
        )
    return [_block(line, answer.what) for line in lines if line.strip()]


def _block(line: str, what: str) -> Block:
    """A line of the table: the block's name, which may hold blanks, then its numbers."""
    words = line.split() if len(line) <= LONGEST_LINE else []
    for place in range(1, len(words) - 4):
        found = (
            _LENGTHS.fullmatch(" ".join(words[place:])) if words[place + 1][1:] == "iB" else None
        )
        if found:
            return Block(" ".join(words[:place]), *(int(number, 16) for number in found.groups()))
    raise MonitorError(
        f"{what} (`info ramblock`) has the line {printable(repr(line), 120)}, which is no RAM block"
    )


@dataclass(frozen=True)
class _Backend:
    """A memory backend of QEMU: its id, whether it is shared, the path of its file if it has one."""

    name: str
    shared: bool
    path: Path | None


def find_ram(monitor: Monitor, path: Path) -> tuple[Block, RamFile]:
    """The RAM block that lives in this shared file, and the file, open. To be closed.

    Raises RamFileError, which says why, unless the file is known to be this guest's; MonitorError.
    """
    file = RamFile(path)
    try:
        backend = _backend_in(monitor, file)
        names = (backend.name, f"/objects/{backend.name}")
        found = [block for block in ram_blocks(monitor) if block.name in names]
        if not found:
            raise RamFileError(
                f"{file.name} backs {backend.name!r}, which is no RAM block: plug it in first"
            )
        if not found[0].used_length:
            raise RamFileError(f"{file.name} backs {backend.name!r}, of which nothing is in use")
        file.place(_offset(monitor, backend.name), found[0].used_length, found[0].name)
    except BaseException:
        file.close()
        raise
    return found[0], file


def _backend_in(monitor: Monitor, file: RamFile) -> _Backend:
    backends = list(_backends(monitor))
    for backend in backends:
        if backend.path is not None and file.is_at(backend.path):
            if not backend.shared:
                raise RamFileError(
                    f"{file.name} backs {backend.name!r}, but what the guest writes stays in QEMU: "
                    "start QEMU with share=on"
                )
            return backend
    # A file whose name says nothing: no name at all, or one in another mount namespace.
    process = monitor.process
    known = ", ".join(printable(str(backend.path), 80) for backend in backends if backend.path)
    if not _maps(process, file):
        raise RamFileError(
            f"{file.name} is not shared RAM of this guest (the files of its memory backends: "
            f"{known or 'none'}), and is not seen among the files that process {process}, which "
            "answers at the monitor, has mapped: give the mem-path of a memory-backend-file with "
            "share=on, or /proc/PID/fd/N of QEMU, as a user who may read /proc/PID/maps"
        )
    nameless = [backend for backend in backends if backend.shared and not _is_file(backend.path)]
    if len(nameless) != 1:
        names = ", ".join(repr(backend.name) for backend in nameless) or "none"
        raise RamFileError(
            f"{file.name} is mapped by QEMU, but which memory backend it is cannot be told from "
            f"outside (shared and without a file of a name: {names}): use memory-backend-file "
            "with a mem-path of its own for each"
        )
    return nameless[0]


def _is_file(path: Path | None) -> bool:
    try:
        return path is not None and path.is_file()
    except OSError:  # a name that no file can have
        return False


def _backends(monitor: Monitor) -> Iterator[_Backend]:
    listed = monitor.ask("query-memdev")
    if len(listed.whole(list)) > MOST_BACKENDS:
        raise MonitorError(f"{listed.what} has more than {MOST_BACKENDS} entries")
    for entry in listed.items():
        name = entry.optional("id", str)
        if name:
            path = _property(monitor, name, "mem-path")
            text = "" if path is None else path.whole(str)
            yield _Backend(name, entry.part("share", bool), Path(text) if text else None)


def _offset(monitor: Monitor, name: str) -> int:
    """Where in its file a backend begins, in bytes; QEMUs before 8.1 know only the beginning."""
    path = f"/objects/{name}"
    try:
        listed = monitor.ask("qom-list", {"path": path})
    except CommandRefused:
        return 0
    if "offset" not in [entry.part("name", str) for entry in listed.items()]:
        return 0
    return monitor.ask("qom-get", {"path": path, "property": "offset"}).whole(int)


def _property(monitor: Monitor, name: str, which: str) -> Answer | None:
    """A property of a memory backend, or None if its kind has none of this name."""
    try:
        return monitor.ask("qom-get", {"path": f"/objects/{name}", "property": which})
    except CommandRefused:
        return None


def _maps(process: int, file: RamFile) -> bool:
    """Whether a process is seen to have mapped this file shared."""
    try:
        maps = Path(f"/proc/{process}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    for line in maps.splitlines():
        found = _MAPPING.fullmatch(line)
        if found and found[1] == "s":
            device = os.makedev(int(found[2], 16), int(found[3], 16))
            if (device, int(found[4])) == file.identity:
                return True
    return False
