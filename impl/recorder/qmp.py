"""QEMU's monitor protocol (QMP): one command at a time, and the events that say who stopped a guest.

Whoever answers at the socket need not be a sound QEMU. What it sends is bounded in size and in time, and
nothing in it is used before its type has been checked; whatever it gets wrong is a MonitorError that
names the command. After any error but a lost connection the next command can be sent.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from model.boundary.output import printable
from model.errors import ColoError

TIMEOUT_SECONDS = 10.0
#: The longest message that is read; QEMU's answers to us are a tenth of it for ten thousand RAM blocks.
LONGEST_MESSAGE = 8 << 20
_PIECE_BYTES = 1 << 16

Kind = TypeVar("Kind", str, int, bool, dict[str, Any], list[Any])
_NAMES = {str: "text", int: "number", bool: "truth value", dict: "object", list: "list"}


class MonitorError(ColoError):
    """QEMU's monitor can't be reached, refused a command, or said what it should not."""


class CommandRefused(MonitorError):
    """QEMU answered that it would not, or could not, do what it was told."""


class GuestGone(MonitorError):
    """QEMU ended while we were talking to it."""


@dataclass(frozen=True)
class Answer:
    """A part of what QEMU said, and in words where it comes from."""

    value: Any
    what: str

    def part(self, key: str, kind: type[Kind]) -> Kind:
        """A member of this object. Raises MonitorError unless it is there and of this type."""
        members = self.whole(dict)
        if key not in members:
            raise MonitorError(f"{self.what} lacks {key!r}: is it a QEMU that answers there?")
        return Answer(members[key], f"{key!r} of {self.what}").whole(kind)

    def optional(self, key: str, kind: type[Kind]) -> Kind | None:
        """A member of this object, or None if it is not there. Raises MonitorError otherwise."""
        return self.part(key, kind) if key in self.whole(dict) else None

    def whole(self, kind: type[Kind]) -> Kind:
        """All of it. Raises MonitorError unless it is of this type; JSON's true is no number."""
        if type(self.value) is not kind:
            raise MonitorError(
                f"{self.what} is {printable(repr(self.value), 60)}, no {_NAMES[kind]}: "
                "is it a QEMU that answers there?"
            )
        return self.value

    def items(self) -> Iterator["Answer"]:
        """Each entry of this list. Raises MonitorError if it is none."""
        for number, value in enumerate(self.whole(list), start=1):
            yield Answer(value, f"entry {number} of {self.what}")


@dataclass
class Transitions:
    """The guest's stops and resumptions, by whomever: how many, and when QEMU says the last were."""

    stops: int = 0
    resumptions: int = 0
    stopped_at: float = 0.0


class Monitor:
    """A connection to QEMU's monitor over its Unix socket. A context manager."""

    def __init__(self, path: Path) -> None:
        """Connect. Raises MonitorError if no QEMU answers there."""
        self.path = path
        self.name = f"QEMU at {printable(path)}"
        self.seen = Transitions()
        self._unread = bytearray()
        self._skipping = False
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(TIMEOUT_SECONDS)
            self._socket.connect(os.fspath(path))
            greeting = self._next("its greeting", time.monotonic() + TIMEOUT_SECONDS)
            Answer(greeting, f"the greeting of {self.name}").part("QMP", dict)
            self.ask("qmp_capabilities")
        except (OSError, ValueError, MonitorError) as error:
            self._socket.close()
            reason = error.strerror if isinstance(error, OSError) else None
            raise MonitorError(
                f"no monitor answers at {printable(path)} ({printable(reason or error)}): start "
                f"QEMU with -qmp unix:{printable(path)},server=on,wait=off, and let no other "
                "client hold the socket"
            ) from error

    @property
    def process(self) -> int:
        """The id of the process at the other end, as the kernel knows it."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        """Run a command and return its answer.

        Raises CommandRefused, GuestGone, or MonitorError for no answer in time or an unsound one.
        """
        self._number += 1
        request: dict[str, Any] = {"execute": command, "id": self._number}
        if arguments:
            request["arguments"] = dict(arguments)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        try:
            self._socket.settimeout(TIMEOUT_SECONDS)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError as error:
            raise self._silent(command) from error
        except OSError as error:
            raise self._gone(command) from error
        while True:
            message = self._next(command, deadline)
            # An answer with another number is to a command that we no longer wait for.
            if message.get("id", self._number) != self._number:
                continue
            if "return" in message:
                return Answer(message["return"], f"the answer of {self.name} to {command!r}")
            if "error" in message:
                why = message["error"]
                why = why.get("desc", why) if isinstance(why, dict) else why
                raise CommandRefused(f"{self.name} refused {command!r}: {printable(why, 300)}")

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The answer of :meth:`ask` as it came."""
        return self.ask(command, arguments).value

    def _next(self, command: str, deadline: float) -> dict[str, Any]:
        """The next message that is no event."""
        while True:
            line = self._line(command, deadline)
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise MonitorError(
                    f"{self.name} said {printable(repr(line[:60]))} after {command!r}, which is no "
                    "JSON in one line: is it a QEMU, and its monitor without pretty=on?"
                ) from error
            if not isinstance(message, dict):
                raise MonitorError(
                    f"{self.name} said {printable(repr(message), 60)} after {command!r}, no object"
                )
            if "event" not in message:
                return message
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"] == "STOP":
            self.seen.stops += 1
            self.seen.stopped_at = _seconds(event.get("timestamp"))
        elif event["event"] == "RESUME":
            self.seen.resumptions += 1

    def _line(self, command: str, deadline: float) -> bytes:
        """The next line, by then. Raises MonitorError if it is longer than any message may be."""
        while True:
            end = self._unread.find(b"\n")
            if end >= 0:
                line = bytes(self._unread[:end])
                del self._unread[: end + 1]
                if not self._skipping:
                    return line
                self._skipping = False  # the rest of one that was too long
                continue
            if self._skipping:
                self._unread.clear()
            elif len(self._unread) > LONGEST_MESSAGE:
                self._unread.clear()
                self._skipping = True
                raise MonitorError(
                    f"{self.name} answered {command!r} with more than {LONGEST_MESSAGE >> 20} MiB: "
                    "is it a QEMU that answers there?"
                )
            self._unread += self._receive(command, deadline)

    def _receive(self, command: str, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._silent(command)
        try:
            self._socket.settimeout(left)
            data = self._socket.recv(_PIECE_BYTES)
        except TimeoutError as error:
            raise self._silent(command) from error
        except OSError as error:
            raise self._gone(command) from error
        if not data:
            raise self._gone(command)
        return data

    def _silent(self, command: str) -> MonitorError:
        return MonitorError(
            f"{self.name} has not answered {command!r} for {TIMEOUT_SECONDS:g} s: "
            "see whether it hangs, and try again"
        )

    def _gone(self, command: str) -> GuestGone:
        return GuestGone(f"{self.name} went away during {command!r}: what was done before stands")

    def close(self) -> None:
        """Hang up; QEMU runs on. Again does nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _seconds(timestamp: Any) -> float:
    """An event's time since 1970; infinity, which is after everything, if it says none."""
    try:
        return float(timestamp["seconds"]) + float(timestamp["microseconds"]) / 1e6
    except (TypeError, LookupError, ValueError, OverflowError):
        return float("inf")
