"""A guest under stock QEMU: its RAM a shared file, its device state another, QEMU replaceable.

A rollback needs the device state loaded into a machine that already has its RAM. In QEMU 7.2
``xen-load-devices-state`` dies on an assertion, so a fresh QEMU takes over the RAM file instead:
``-incoming`` with the capability ``x-ignore-shared`` loads everything but shared RAM. Under ``tcg``
this has a second virtue: translated code of the old content goes with the old process.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impl.recorder.qmp import Monitor, MonitorError
from model.boundary.output import printable
from model.errors import ColoError
from tests.guest.image import QEMU, Image
from tests.guest.workload import KINDS, MEBIBYTES, Report, check_history, last_round, reports

RAM_BYTES = 512 << 20
BLOCK = "pc.ram"
WARM_UP_ROUNDS = 3
ACCELERATOR = os.environ.get("COLO_GUEST_ACCEL", "tcg")
# Far longer than anything takes on an idle machine: only a guest that hangs meets it.
PATIENCE_SECONDS = 120


class GuestStuck(ColoError):
    """The guest, or QEMU, did not do in time what was waited for."""


class Guest:
    """A guest, and the QEMU process that runs it just now. To be closed."""

    def __init__(self, image: Image, folder: Path) -> None:
        """A guest whose files lie in ``folder``; it has RAM but does not run yet."""
        self.image = image
        self.folder = folder
        self.ram_file = folder / "ram"
        self.socket = folder / "qmp"
        self._serial = folder / "serial"
        self._said_before = ""
        self._process: subprocess.Popen[bytes] | None = None
        with self.ram_file.open("ab") as file:
            file.truncate(RAM_BYTES)
        self.ram: NDArray[np.uint8] = np.memmap(self.ram_file, np.uint8, "r+")

    def boot(self) -> None:
        """Start QEMU from the kernel on."""
        self._start()

    def resume(self, devices: Path, said: str) -> None:
        """Start QEMU on the RAM as it is, and load the device state; the guest stands still.

        ``said`` is what this guest, by its own memory, has said so far.
        """
        self._start("-incoming", "defer")
        self._said_before = said
        self._ignore_shared_ram()
        self.monitor.execute("migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(devices))}"})
        self._migrated("loading the device state")

    def _start(self, *more: str) -> None:
        self.socket.unlink(missing_ok=True)
        self._serial.write_bytes(b"")
        memory = f"memory-backend-file,id={BLOCK},size={RAM_BYTES},share=on"
        command = [
            *(QEMU, "-accel", ACCELERATOR, "-machine", f"pc,memory-backend={BLOCK}"),
            *("-m", f"{RAM_BYTES >> 20}M", "-object", f"{memory},mem-path={self.ram_file}"),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-chardev", f"file,id=serial,path={self._serial}", "-serial", "chardev:serial"),
            *("-qmp", f"unix:{self.socket},server=on,wait=off"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs)),
            *("-append", f"console=ttyS0 quiet panic=-1 -- {MEBIBYTES}"),
            *more,
        ]
        self._errors = (self.folder / "stderr").open("w+b")
        self._process = subprocess.Popen(command, stderr=self._errors)
        self.connect()

    def connect(self) -> None:
        """Take hold of QEMU's monitor, which serves one client at a time."""
        self._until(self._connected, "opening its monitor")

    def _connected(self) -> bool:
        try:
            self.monitor = Monitor(self.socket)
        except MonitorError:
            return False
        return True

    def stop(self) -> None:
        """Make the guest stand still."""
        self.monitor.execute("stop")

    def cont(self) -> None:
        """Let the guest run."""
        self.monitor.execute("cont")

    def save_devices(self, target: Path) -> None:
        """Write the device state, without the RAM; the guest stands still."""
        self._ignore_shared_ram()
        self.monitor.execute("migrate", {"uri": f"exec:cat > {shlex.quote(str(target))}"})
        self._migrated("saving the device state")

    def _ignore_shared_ram(self) -> None:
        capability = {"capability": "x-ignore-shared", "state": True}
        self.monitor.execute("migrate-set-capabilities", {"capabilities": [capability]})

    def _migrated(self, what: str) -> None:
        def done() -> bool:
            status = self.monitor.execute("query-migrate").get("status")
            if status == "failed":
                raise GuestStuck(f"{what} failed: {self._last_words()}")
            return bool(status == "completed")

        self._until(done, what)

    @property
    def said(self) -> str:
        """All that the guest, by its own memory, has said on its serial line."""
        return self._said_before + self._serial.read_text(errors="replace")

    def wait_for(self, enough: Callable[[list[Report]], bool]) -> None:
        """Wait until the reports are ``enough``. Raises GuestStuck."""
        self._until(lambda: enough(reports(self.said)), "waiting for the guest's reports")

    def run_until(self, enough: Callable[[list[Report]], bool]) -> list[Report]:
        """Let the guest run until its reports are ``enough``; stop it and return them all."""
        self.cont()
        self.wait_for(enough)
        self.stop()
        return reports(self.said)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if self._process is None or self._process.poll() is not None:
                raise GuestStuck(f"QEMU ended while {what}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise GuestStuck(f"{PATIENCE_SECONDS} s of {what}: {self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> str:
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        return printable(f"{errors[-500:]} {self.said[-500:]}".strip())

    def kill(self) -> None:
        """End QEMU at once; the RAM file stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Hang up and end QEMU; the RAM file stays."""
        if self._process is not None:
            self.monitor.close()
            self.kill()
            self._errors.close()
            self._process = None


@dataclass(frozen=True)
class Snapshot:
    """A guest as it stood: RAM and device state in files. Any number of guests start from it."""

    image: Image
    ram_file: Path
    devices: Path
    said: str

    @contextmanager
    def guest(self, folder: Path) -> Iterator[Guest]:
        """A guest that stands where the snapshot was taken; QEMU is ended on the way out."""
        folder.mkdir()
        shutil.copy(self.ram_file, folder / self.ram_file.name)
        with closing(Guest(self.image, folder)) as guest:
            guest.resume(self.devices, self.said)
            yield guest


def boot(image: Image, folder: Path) -> Snapshot:
    """A guest that has booted and finished its first rounds and files."""
    with closing(Guest(image, folder)) as guest:
        guest.boot()
        history = guest.run_until(
            lambda history: (
                last_round(history) >= WARM_UP_ROUNDS and {r.kind for r in history} == KINDS
            )
        )
        check_history(history)
        devices = folder / "devices"
        guest.save_devices(devices)
        return Snapshot(image, guest.ram_file, devices, guest.said)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for RAM files: in memory if there is room for three, else on disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * RAM_BYTES
    with tempfile.TemporaryDirectory(prefix="colo-guest-", dir=memory if roomy else None) as name:
        yield Path(name)
