"""Memory with guard pages: a stray access faults at once, and the fault is told as a sentence.

Only the child process that runs a port uses this. Each buffer has an address range of its own, of
which just the bytes of the current call are accessible, flush with one end.
"""

import ctypes
import mmap
import os
import platform
import signal
from collections.abc import Callable
from typing import Any

from tests.conformance.call import MOST_MEMORY, OS_PAGE

#: Memory that is looked at where it lies: no copy. Of bytes, or of 64-bit words (``cast("Q")``).
Bytes = memoryview
Words = memoryview

# Unreachable memory on both sides of a buffer; a stride that jumps it would be a strange bug.
GUARD = 1 << 20
RESERVED = MOST_MEMORY + 2 * OS_PAGE
SLACK_FILL = 0xC5

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_NO_ACCESS = 0
_READ, _WRITE = mmap.PROT_READ, mmap.PROT_WRITE
_MAP_NORESERVE = 0x4000
_MADV_DONTNEED = 4
_KEEP = 1 << 20


class Buffer:
    """A named range of addresses, of which :meth:`open` makes a part accessible."""

    def __init__(self, name: str) -> None:
        self.name = name
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        mapped = _libc.mmap(None, RESERVED + 2 * GUARD, _NO_ACCESS, flags, -1, 0)
        if mapped in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"no address range for {name}")
        self._start = mapped + GUARD
        self._open = (self._start, 0)
        self.size = 0
        self.address = self._start
        self._range = bytes_at(self._start, RESERVED)

    def open(self, size: int, *, high: bool, shift: int = 0) -> Bytes:
        """The buffer's ``size`` bytes, writable: at the end of the range, or ``shift`` bytes after its
        start."""
        pages = -(-(size + shift) // OS_PAGE) * OS_PAGE
        base = self._start + (RESERVED - pages if high else 0)
        if self._open != (base, pages):
            self._close()
            self._open = (base, pages)
        self._protect(base, pages, _READ | _WRITE)
        self.size = size
        self.address = base + (pages - size if high else shift)
        for slack in self._slack():
            slack[:] = _filled(slack)
        return self._between(self.address, self.address + size)

    def forbid_writes(self) -> None:
        """From here on a write to the buffer is a fault."""
        self._protect(self._open[0], self._open[1], _READ)

    def allow_writes(self) -> None:
        """Undoes forbid_writes."""
        self._protect(self._open[0], self._open[1], _READ | _WRITE)

    def slack_is_intact(self) -> bool:
        """Are the bytes that share an OS page with the buffer, but are not its own, unchanged?"""
        return all(slack.tobytes() == _filled(slack) for slack in self._slack())

    def describe(self, address: int) -> str | None:
        """Where ``address`` lies, if it is in or near this buffer."""
        if not self._start - GUARD <= address < self._start + RESERVED + GUARD:
            return None
        end = self.address + self.size
        if address >= end:
            return f"{address - end} bytes past the end of {self.name} ({self.size} bytes)"
        if address < self.address:
            return f"{self.address - address} bytes before the start of {self.name}"
        return f"byte {address - self.address} of {self.name}, which is read-only"

    def _slack(self) -> tuple[Bytes, Bytes]:
        base, pages = self._open
        after = self.address + self.size
        return self._between(base, self.address), self._between(after, base + pages)

    def _between(self, first: int, last: int) -> Bytes:
        return self._range[first - self._start : last - self._start]

    def _protect(self, base: int, size: int, protection: int) -> None:
        if size and _libc.mprotect(base, size, protection):
            raise OSError(ctypes.get_errno(), f"mprotect of {self.name}")

    def _close(self) -> None:
        base, pages = self._open
        self._protect(base, pages, _NO_ACCESS)
        if pages > _KEEP:
            _libc.madvise(base, pages, _MADV_DONTNEED)


def bytes_at(address: int, size: int) -> Bytes:
    """The memory at an address, not a copy; nothing is touched."""
    return memoryview((ctypes.c_uint8 * size).from_address(address)).cast("B")


def _filled(slack: Bytes) -> bytes:
    return bytes([SLACK_FILL]) * len(slack)


class _SigAction(ctypes.Structure):
    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000
_HANDLER_STACK = 1 << 20
_ADDRESS_IN_SIGINFO = 16
_X86_ERROR_IN_CONTEXT = 192
_X86_WRITE = 2

_keep_alive: list[Any] = []


def on_fault(report: Callable[[str, int | None, str], None]) -> None:
    """Call ``report(signal name, address, "read" | "written" | "reached")`` when the port faults.

    ``report`` runs inside the signal handler, and the process ends after it. Python can run there
    because ctypes has given up the interpreter lock for the call of the port. It has a stack of its own:
    a port's language may run on small ones, and demand it (Go).
    """

    def handle(number: int, info: int, context: int) -> None:
        has_address = number in (signal.SIGSEGV, signal.SIGBUS)
        address = _load(info + _ADDRESS_IN_SIGINFO) if has_address else None
        access = "reached"
        if has_address and platform.machine() == "x86_64":
            write = _load(context + _X86_ERROR_IN_CONTEXT) & _X86_WRITE
            access = "written" if write else "read"
        try:
            report(signal.Signals(number).name, address, access)
        finally:
            os._exit(1)

    callback = _HANDLER(handle)
    _keep_alive.append(callback)
    stack = ctypes.create_string_buffer(_HANDLER_STACK)
    _keep_alive.append(stack)
    own = _Stack(ctypes.cast(stack, ctypes.c_void_p), 0, _HANDLER_STACK)
    _libc.sigaltstack(ctypes.byref(own), None)
    action = _SigAction(ctypes.cast(callback, ctypes.c_void_p), flags=_SA_SIGINFO | _SA_ONSTACK)
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT):
        _libc.sigaction(number, ctypes.byref(action), None)


def _load(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value
