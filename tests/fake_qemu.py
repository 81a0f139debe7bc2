"""As much of QEMU as ``impl.record`` talks to: a monitor, a RAM file, a guest that writes pages.

Unlike a real guest it says exactly which pages it wrote, and fails at a given moment.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
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

    def __init__(self, folder: Path, seed: int = 0, gone_after: int | None = None) -> None:
        """``gone_after`` so many stops the monitor hangs up instead of answering."""
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "qmp"
        self.ram_file = folder / "ram"
        self.ram_file.write_bytes(bytes(RAM_PAGES * PAGE))
        self.ram: NDArray[np.uint8] = np.memmap(self.ram_file, np.uint8, "r+")
        self.written: list[set[int]] = []
        self.running = True
        self.share = True
        self.silent_at = ""
        self.blocks = BLOCKS
        self.commands: list[str] = []
        self._gone_after = gone_after
        self._random = np.random.default_rng(seed)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.socket))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # the client, or we, have hung up
            client, _ = self._server.accept()
            with client:
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        def say(message: dict[str, Any]) -> None:
            client.sendall(json.dumps(message).encode() + b"\r\n")

        say({"QMP": {"version": {"qemu": {}, "package": ""}, "capabilities": []}})
        for request in _requests(client):
            command = request["execute"]
            if command == "stop" and self.commands.count("stop") == self._gone_after:
                return
            self.commands.append(command)
            if command == self.silent_at:
                continue
            try:
                answer = {"return": self._answer(command, request.get("arguments", {}))}
            except KeyError:
                answer = {"error": {"class": "GenericError", "desc": "no such thing"}}
            say({**answer, "id": request["id"]} if "id" in request else answer)

    def _answer(self, command: str, arguments: dict[str, Any]) -> Any:
        match command:
            case "stop":
                self.running = False
            case "cont":
                self.running = True
                self._write_some_pages()
        return {
            "qmp_capabilities": {},
            "stop": {},
            "cont": {},
            "query-status": {"running": self.running},
            "query-version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"},
            "query-kvm": {"enabled": False},
            "query-memdev": [{"id": "pc.ram", "share": self.share}],
            "qom-get": str(self.ram_file),
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
        """Let nobody connect any more."""
        self._server.close()


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
