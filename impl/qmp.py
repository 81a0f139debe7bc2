"""A running QEMU seen from outside: its monitor, its RAM blocks, and the file that holds its RAM.

QEMU has to be started with its RAM in a shared file, and with a monitor socket for us::

    qemu-system-x86_64 -machine memory-backend=pc.ram -m 512M ...
        -object memory-backend-file,id=pc.ram,size=512M,mem-path=/dev/shm/guest,share=on
        -qmp unix:/run/guest.qmp,server=on,wait=off
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, StateError

from model.ram import Block, ColoError

_TIMEOUT_SECONDS = 10
# Name, page size, then offset, used and max length in hexadecimal; newer QEMUs print more columns.
_RAM_BLOCK = re.compile(r"^\s*(\S.*?)\s+\d+ [KMGT]iB" + r"\s+0x([0-9a-f]+)" * 3, re.MULTILINE)

# The library logs each lost connection; we raise an error for it.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class MonitorError(ColoError):
    """QEMU's monitor can't be reached, or refused a command."""


class GuestGone(MonitorError):
    """QEMU ended while we were talking to it."""


class RamFileError(ColoError, ValueError):
    """The file is not, or not as it is, the guest's RAM."""


class Monitor:
    """A connection to QEMU's monitor (QMP) over its Unix socket. A context manager."""

    def __init__(self, socket: Path) -> None:
        """Connect. Raises MonitorError if nobody answers there."""
        self.socket = socket
        self._closed = False
        self._loop = asyncio.Runner()
        self._client = QMPClient()
        try:
            self._wait(self._client.connect(str(socket)))
        except (ConnectError, TimeoutError, OSError) as error:
            self._loop.close()
            raise MonitorError(
                f"no monitor answers at {socket} ({_reason(error)}): start QEMU with "
                f"-qmp unix:{socket},server=on,wait=off, and let no other client hold the socket"
            ) from error

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a command and return its answer. Raises MonitorError if it is refused, GuestGone."""
        try:
            return self._wait(self._client.execute(command, dict(arguments or {})))
        except ExecuteError as error:
            raise MonitorError(f"QEMU at {self.socket} refused {command!r}: {error}") from error
        except TimeoutError as error:
            raise MonitorError(
                f"QEMU at {self.socket} has not answered {command!r} for {_TIMEOUT_SECONDS} s: "
                "see whether it hangs, and try again"
            ) from error
        except (ExecInterruptedError, StateError, EOFError) as error:
            raise GuestGone(
                f"QEMU at {self.socket} went away during {command!r}: what was done before stands"
            ) from error

    def ram_blocks(self) -> list[Block]:
        """QEMU's RAM blocks in its list order, largest first."""
        table = self.execute("human-monitor-command", {"command-line": "info ramblock"})
        return [
            Block(name, int(offset, 16), int(used, 16), int(most, 16))
            for name, offset, used, most in _RAM_BLOCK.findall(table)
        ]

    def block_in(self, ram_file: Path) -> Block:
        """The RAM block that lives in this shared file. Raises RamFileError if there is none."""
        name = self._backend_in(ram_file)
        found = [b for b in self.ram_blocks() if b.name in (name, f"/objects/{name}")]
        if not found:
            raise RamFileError(
                f"{ram_file} backs {name!r}, which is no RAM block: plug it in first"
            )
        length = ram_file.stat().st_size
        if length != found[0].used_length:
            raise RamFileError(
                f"{ram_file} holds {length} bytes, but block {found[0].name!r} uses "
                f"{found[0].used_length}: the file has been replaced or cut since QEMU opened it"
            )
        return found[0]

    def _backend_in(self, ram_file: Path) -> str:
        shared: dict[str, Path] = {}
        for backend in self.execute("query-memdev"):
            name = backend.get("id")
            if name and backend["share"]:
                question = {"path": f"/objects/{name}", "property": "mem-path"}
                with contextlib.suppress(MonitorError):  # a backend without a file
                    shared[name] = Path(self.execute("qom-get", question))
        if not ram_file.is_file():
            raise RamFileError(f"{ram_file} is not a file: give the mem-path of QEMU's RAM")
        for name, path in shared.items():
            if path.exists() and path.samefile(ram_file):
                return name
        known = ", ".join(str(path) for path in shared.values()) or "none"
        raise RamFileError(
            f"{ram_file} is not shared RAM of this guest (its shared files: {known}): start QEMU "
            "with -object memory-backend-file,mem-path=FILE,share=on"
        )

    def close(self) -> None:
        """Hang up; QEMU runs on. Again does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(EOFError, OSError):
            self._wait(self._client.disconnect())
        self._loop.close()

    def _wait(self, work: Any) -> Any:
        return self._loop.run(asyncio.wait_for(work, _TIMEOUT_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _reason(error: BaseException) -> str:
    return str(error.__cause__ or error) or type(error).__name__
