"""The smallest KVM guest: x86-64, 22 bytes of real-mode code that write to the pages they are given.

It needs /dev/kvm and nothing else; linux/kvm.h by hand.
"""

import fcntl
import mmap
import os
import platform
import struct
from functools import cache
from typing import Any, Self

import numpy as np

PAGE = 4096
# Real mode reaches 1 MiB. What the guest writes to lies below, its code and its list of pages above.
CODE = 0xF0000
PAGES = CODE // PAGE
LONGEST_LIST = 32_000
_LIST = 0x100
_END_OF_LIST = 0xFFFF
_PROGRAM = bytes.fromhex(
    "be 00 01"  # again: mov si, LIST
    "ad"  #         next: lodsw                  the page's segment
    "3d ff ff"  #         cmp ax, END_OF_LIST
    "74 09"  #            je done
    "8e c0"  #            mov es, ax
    "26 fe 06 00 00"  #   inc byte [es:0]
    "eb f1"  #            jmp next
    "e6 10"  #      done: out 0x10, al           ends KVM_RUN
    "eb ea"  #            jmp again
)

_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU = 0xAE00, 0xAE01, 0xAE04, 0xAE41
_SET_USER_MEMORY_REGION, _SET_TSS_ADDR, _RUN = 0x4020AE46, 0xAE47, 0xAE80
_SET_REGS, _GET_SREGS, _SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
_API_VERSION = 12
_UNUSED = 0x7FFB_D000  # three pages of guest addresses that older Intel CPUs need for real mode
_EXIT_REASON, _EXIT_IO = 8, 2


class KvmUnavailable(Exception):
    """No guest can be run here; the message says why."""


class KvmGuest:
    """A guest whose RAM is ``memory``: uint8, page-aligned, up to 240 pages of 4 KiB."""

    def __init__(self, memory: Any) -> None:
        assert memory.nbytes <= CODE and memory.ctypes.data % PAGE == 0
        self._memory = memory
        self._code = np.frombuffer(mmap.mmap(-1, 0x10000), np.uint8)
        self._code[: len(_PROGRAM)] = np.frombuffer(_PROGRAM, np.uint8)
        self._open: list[int] = []
        try:
            kvm = self._opened(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
            if fcntl.ioctl(kvm, _GET_API_VERSION, 0) != _API_VERSION:
                raise KvmUnavailable("another version of KVM")
            vm = self._opened(fcntl.ioctl(kvm, _CREATE_VM, 0))
            fcntl.ioctl(vm, _SET_TSS_ADDR, _UNUSED)
            for slot, at, part in ((0, 0, memory), (1, CODE, self._code)):
                region = struct.pack("IIQQQ", slot, 0, at, part.nbytes, part.ctypes.data)
                fcntl.ioctl(vm, _SET_USER_MEMORY_REGION, region)
            self._vcpu = self._opened(fcntl.ioctl(vm, _CREATE_VCPU, 0))
            self._state = mmap.mmap(self._vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0))
            self._begin()
        except OSError as error:
            self.close()
            raise KvmUnavailable(f"/dev/kvm: {error.strerror}") from error

    def _opened(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def _begin(self) -> None:
        """Point cs and ds (the first two of 24 bytes each in struct kvm_sregs) to the code."""
        segments = bytearray(312)
        fcntl.ioctl(self._vcpu, _GET_SREGS, segments)
        for segment in range(2):
            struct.pack_into("QIH", segments, 24 * segment, CODE, 0xFFFF, CODE >> 4)
        fcntl.ioctl(self._vcpu, _SET_SREGS, bytes(segments))
        fcntl.ioctl(self._vcpu, _SET_REGS, struct.pack("18Q", *[0] * 17, 2))

    def write(self, pages: list[int]) -> None:
        """Run: the guest adds one to the first byte of each of these pages, in this order."""
        assert len(pages) <= LONGEST_LIST
        segments = np.array([*(page * PAGE >> 4 for page in pages), _END_OF_LIST], np.uint16)
        self._code[_LIST : _LIST + segments.nbytes] = segments.view(np.uint8)
        fcntl.ioctl(self._vcpu, _RUN, 0)
        (reason,) = struct.unpack_from("I", self._state, _EXIT_REASON)
        if reason != _EXIT_IO:
            raise KvmUnavailable(f"the guest ended with KVM exit {reason}")

    def close(self) -> None:
        """End it; its memory stays."""
        while self._open:
            os.close(self._open.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def missing() -> str | None:
    """Why no such guest can be run here, or None."""
    if platform.machine() != "x86_64":
        return "x86-64"
    memory = np.frombuffer(mmap.mmap(-1, PAGE), np.uint8)
    try:
        with KvmGuest(memory) as guest:
            guest.write([0])
    except KvmUnavailable as error:
        return f"KVM ({error})"
    return None
