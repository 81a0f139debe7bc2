"""As much of QEMU as ``impl.recorder`` talks to: a monitor, a RAM file, a guest that writes pages.

Unlike a real guest it says exactly which pages it wrote. Somebody else may stop it or let it run at any
moment, and it may fail, or lie, at any command.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

PAGE = 4096
# Two blocks share bitmap word 3: the first ends, and the observed one begins, in mid-word.
BLOCKS = """\
              Block Name    PSize              Offset               Used              Total
                vga.vram    4 KiB  0x0000000000000000 0x00000000000c8000 0x00000000000c8000
                  pc.ram    4 KiB  0x00000000000c8000 0x0000000000200000 0x0000000000200000
   /rom@etc/table-loader    4 KiB  0x0000000000400000 0x0000000000001000 0x0000000000010000
"""
RAM_PAGES = 512


class FakeQemu:
    """A monitor that answers one client, and a guest that writes when it is let run."""

    def __init__(
        self, folder: Path, seed: int = 0, gone_after: int | None = None, memfd: bool = False
    ) -> None:
        """After ``gone_after`` stops the monitor hangs up instead of answering.

        ``memfd``: the RAM has no path but ``/proc/PID/fd/N``, and is of sparse shared memory.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "qmp"
        if memfd:
            self._descriptor = os.memfd_create("memory-backend-memfd")
            self.ram_file = Path(f"/proc/{os.getpid()}/fd/{self._descriptor}")
        else:
            self.ram_file = folder / "ram"
            self.ram_file.touch()
        os.truncate(self.ram_file, RAM_PAGES * PAGE)
        self.ram: NDArray[np.uint8] = np.memmap(self.ram_file, np.uint8, "r+")
        self.written: list[set[int]] = []
        self.state = "running"
        self.backends: list[dict[str, Any]] = [{"id": "pc.ram", "share": True}]
        self.properties: dict[tuple[str, str], Any] = {}
        if not memfd:
            self.properties["pc.ram", "mem-path"] = str(self.ram_file)
        self.migration = ""
        self.blocks = BLOCKS
        self.commands: list[str] = []
        #: Called with each command before it is carried out, and before its answer is sent.
        self.before: Callable[[str], None] = lambda command: None
        self.after: Callable[[str], None] = lambda command: None
        #: What is sent instead of an answer (or of the "greeting"), one piece after the other.
        self.lie: Callable[[str, bytes], Iterable[bytes]] = lambda command, line: [line]
        #: What the guest does when it is let run.
        self.guest: Callable[[], object] = self._write_some_pages
        self._gone_after = gone_after
        self._random = np.random.default_rng(seed)
        self._client: socket.socket | None = None
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.socket))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the guest runs."""
        return self.state == "running"

    def become(self, state: str) -> None:
        """The guest's state changes, by whomever; who listens hears of stops and resumptions."""
        was, self.state = self.state, state
        if (was == "running") != (state == "running") and self._client is not None:
            now = time.time()
            event = {
                "event": "RESUME" if state == "running" else "STOP",
                "timestamp": {"seconds": int(now), "microseconds": int(now % 1 * 1e6)},
            }
            self._client.sendall(json.dumps(event).encode() + b"\r\n")

    def _serve(self) -> None:
        with suppress(OSError):  # the client, or we, have hung up
            self._client, _ = self._server.accept()
            with self._client:
                self._talk(self._client)

    def _talk(self, client: socket.socket) -> None:
        def say(command: str, message: dict[str, Any]) -> None:
            for piece in self.lie(command, json.dumps(message).encode() + b"\r\n"):
                client.sendall(piece)

        say("greeting", {"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}})
        for request in _requests(client):
            command = request["execute"]
            if command == "stop" and self.commands.count("stop") == self._gone_after:
                return
            self.commands.append(command)
            self.before(command)
            try:
                answer = {"return": self._answer(command, request.get("arguments", {}))}
            except KeyError:
                answer = {"error": {"class": "GenericError", "desc": "no such thing"}}
            self.after(command)
            say(command, {**answer, "id": request["id"]} if "id" in request else answer)

    def _answer(self, command: str, arguments: dict[str, Any]) -> Any:
        match command:
            case "stop":
                if self.running:
                    self.become("paused")
            case "cont":
                if not self.running:
                    self.become("running")
                self.guest()
            case "qom-list":
                name = arguments["path"].removeprefix("/objects/")
                return [{"name": which, "type": "x"} for of, which in self.properties if of == name]
            case "qom-get":
                name = arguments["path"].removeprefix("/objects/")
                return self.properties[name, arguments["property"]]
        return {
            "qmp_capabilities": {},
            "stop": {},
            "cont": {},
            "query-status": {"running": self.running, "status": self.state},
            "query-version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"},
            "query-migrate": {"status": self.migration} if self.migration else {},
            "query-kvm": {"enabled": False, "present": True},
            "query-memdev": self.backends,
            "human-monitor-command": self.blocks,
        }[command]

    def _write_some_pages(self) -> None:
        count = int(self._random.integers(1, 40))
        pages = self._random.choice(RAM_PAGES, count, replace=False)
        for page in pages:
            byte = page * PAGE + int(self._random.integers(PAGE))
            self.ram[byte] ^= np.uint8(self._random.integers(1, 256))
        self.written.append(set(pages.tolist()))

    def close(self) -> None:
        """Let nobody connect any more, and the guest's memory go."""
        self._server.close()
        if not self.ram_file.is_symlink():
            return
        with suppress(OSError):
            os.close(self._descriptor)


#: What makes a FakeQemu by name: the fixture below.
Make = Callable[..., FakeQemu]


@pytest.fixture
def fake_qemus(tmp_path: Path) -> Iterator[Make]:
    """Make a FakeQemu by name; a module takes this fixture as ``make = fake_qemus``."""
    made = []

    def fake(name: str = "qemu", **keywords: Any) -> FakeQemu:
        made.append(FakeQemu(tmp_path / name, **keywords))
        return made[-1]

    yield fake
    for qemu in made:
        qemu.close()


def _requests(client: socket.socket) -> Iterator[dict[str, Any]]:
    """The JSON objects that come in; QMP puts no line ends between them."""
    text = ""
    while data := client.recv(4096):
        text += data.decode()
        with suppress(json.JSONDecodeError):
            while text := text.lstrip():
                request, end = json.JSONDecoder().raw_decode(text)
                text = text[end:]
                yield request
