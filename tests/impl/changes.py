"""Ways in which memory can change, besides a plain store: by the kernel, by others, by being thrown away.

Each is a function of a :class:`Memory` and a range of its pages; OSError where that kind of memory does
not have it. What the kernel's dirty log sees of each is in ``impl/README.md``, and measured by
``test_changes.py``.
"""

import ctypes
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from tests.support.children import in_a_child

PAGE = mmap.PAGESIZE
HUGE_PAGE = 2 << 20
SIZE = 2 * HUGE_PAGE
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_HUGETLB, _FIXED = 0x40000, 0x10
_MFD_HUGETLB = 4
_NONE, _READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
_DONTNEED, _FREE, _REMOVE, _HUGEPAGE, _NOHUGEPAGE, _COLD, _PAGEOUT, _COLLAPSE = (
    4,
    8,
    9,
    14,
    15,
    20,
    21,
    25,
)
_KEEP_SIZE_AND_PUNCH_HOLE = 3
_MREMAP_MAYMOVE_FIXED = 3

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long


def call(function: Any, *arguments: int) -> int:
    """A C function on words; OSError if it says -1."""
    found = function(*(ctypes.c_long(one) for one in arguments))
    if found in (-1, ctypes.c_void_p(-1).value):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found)


class Memory:
    """Two huge pages' worth of memory of some kind, on a huge page's boundary, full of sevens."""

    def __init__(self, flags: int, file: int = -1, advice: int | None = None) -> None:
        self.file, self._flags = file, flags
        # Room that nobody gives back: whatever is mapped over it, nothing else ever comes to lie there.
        room = call(libc.mmap, 0, SIZE + HUGE_PAGE, _NONE, ANONYMOUS, -1, 0)
        self.address = -(-room // HUGE_PAGE) * HUGE_PAGE
        self.map_over(range(SIZE // PAGE))
        if advice is not None:
            call(libc.madvise, self.address, SIZE, advice)
        memory = memoryview((ctypes.c_char * SIZE).from_address(self.address))
        self.bytes = np.frombuffer(memory, np.uint8)
        self.bytes[:] = 7

    def map_over(self, pages: range) -> None:
        """Map it (anew), at the place where it is."""
        at, length = self.extent(pages)
        offset = pages.start * PAGE if self.file >= 0 else 0
        call(libc.mmap, at, length, _READ_WRITE, self._flags | _FIXED, self.file, offset)

    def extent(self, pages: range) -> tuple[int, int]:
        return self.address + pages.start * PAGE, len(pages) * PAGE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        call(libc.mmap, self.address, SIZE, _NONE, ANONYMOUS | _FIXED, -1, 0)
        if self.file >= 0:
            os.close(self.file)


def _file(flags: int = 0) -> int:
    file = os.memfd_create("memory", flags)
    os.ftruncate(file, SIZE)
    return file


#: By their column in the table.
KINDS: dict[str, Callable[[], Memory]] = {
    "anonymous": lambda: Memory(ANONYMOUS, advice=_NOHUGEPAGE),
    "transparent huge pages": lambda: Memory(ANONYMOUS, advice=_HUGEPAGE),
    "memfd, shared": lambda: Memory(mmap.MAP_SHARED, _file()),
    "memfd, private": lambda: Memory(mmap.MAP_PRIVATE, _file()),
    "hugetlb, anonymous": lambda: Memory(ANONYMOUS | _HUGETLB),
    "hugetlb, memfd": lambda: Memory(mmap.MAP_SHARED, _file(_MFD_HUGETLB)),
}

Change = Callable[[Memory, range], None]


# Writes.


def store(memory: Memory, pages: range) -> None:
    memory.bytes[pages.start * PAGE : pages.stop * PAGE : PAGE] = 1


def read_into(memory: Memory, pages: range) -> None:
    with Path("/dev/zero").open("rb", buffering=0) as zeros:
        zeros.readinto(memory.bytes[pages.start * PAGE : pages.stop * PAGE].data)


def from_another_process(memory: Memory, pages: range) -> None:
    """``process_vm_writev`` into this one's mapping."""
    at, length = memory.extent(pages)
    poke = f"""if True:
        import ctypes, struct, sys
        zeros = ctypes.create_string_buffer({length})
        here = struct.pack("QQ", ctypes.addressof(zeros), {length})
        there = struct.pack("QQ", {at}, {length})
        libc = ctypes.CDLL(None)
        sys.exit(libc.process_vm_writev({os.getpid()}, here, 1, there, 1, 0) != {length})
    """
    if subprocess.run([sys.executable, "-c", poke], check=False).returncode:
        raise OSError("a kernel that forbids ptrace between siblings")


def read_directly(memory: Memory, pages: range) -> None:
    """``O_DIRECT``: the disk writes to the memory."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(len(pages) * PAGE))
        file.flush()
        direct = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(direct, [memory.bytes[pages.start * PAGE : pages.stop * PAGE].data], 0)
        finally:
            os.close(direct)


def through_another_mapping(memory: Memory, pages: range) -> None:
    if memory.file < 0:
        raise OSError("it has no name by which to map it again")
    with mmap.mmap(memory.file, SIZE) as other:
        for page in pages:
            other[page * PAGE] = 1


def by_a_child(memory: Memory, pages: range) -> None:
    """After ``fork``: in memory that is shared with it, its own mapping."""
    assert in_a_child(lambda: store(memory, pages)) == 0


def write_to_the_file(memory: Memory, pages: range) -> None:
    if memory.file < 0:
        raise OSError("it is no file")
    os.pwrite(memory.file, bytes(len(pages) * PAGE), pages.start * PAGE)


class Pinned:
    """Buffers that io_uring has registered, as a device has memory that VFIO has mapped for it."""

    def __init__(self, memory: Memory, pages: range) -> None:
        self._at, self._length = memory.extent(pages)
        parameters = ctypes.create_string_buffer(120)
        self._ring = libc.syscall(425, 8, parameters)
        if self._ring < 0:
            raise OSError(ctypes.get_errno(), "io_uring")
        buffer = struct.pack("QQ", self._at, self._length)
        if libc.syscall(427, self._ring, 0, buffer, 1) < 0:
            raise OSError(ctypes.get_errno(), "io_uring")
        entries, completed = struct.unpack_from("2I", parameters.raw)
        self._submit, self._complete = (
            struct.unpack_from("7I", parameters.raw, at) for at in (40, 80)
        )
        # Both queues lie in one piece.
        size = max(self._submit[6] + 4 * entries, self._complete[5] + 16 * completed)
        self._queue = mmap.mmap(self._ring, size)
        self._entries = mmap.mmap(self._ring, 64 * entries, offset=0x1000_0000)

    def read_zeros(self) -> None:
        """IORING_OP_READ_FIXED: the kernel writes to the pages as they were registered.

        Where it has something else to do, as on a busy machine, it ends a read of zeros early.
        """
        done = 0
        with Path("/dev/zero").open("rb") as zeros:
            while done < self._length:
                entry = (4, 0, 0, zeros.fileno(), 0, self._at + done, self._length - done, 0, 1, 0)
                done += self._submitted(entry)

    def _submitted(self, entry: tuple[int, ...]) -> int:
        """What comes of an operation."""
        struct.pack_into("BBHiQQIIQH", self._entries, 0, *entry)
        struct.pack_into("I", self._queue, self._submit[6], 0)
        (tail,) = struct.unpack_from("I", self._queue, self._submit[1])
        struct.pack_into("I", self._queue, self._submit[1], tail + 1)
        libc.syscall(426, self._ring, 1, 1, 1, None, 0)
        head, mask = (struct.unpack_from("I", self._queue, self._complete[i])[0] for i in (0, 2))
        (result,) = struct.unpack_from("i", self._queue, self._complete[5] + 16 * (head & mask) + 8)
        struct.pack_into("I", self._queue, self._complete[0], head + 1)
        if result < 0:
            raise OSError(-result, "io_uring")
        return int(result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.close()
        self._entries.close()
        os.close(self._ring)


# Thrown away, or exchanged.


def advise(advice: int) -> Change:
    def change(memory: Memory, pages: range) -> None:
        call(libc.madvise, *memory.extent(pages), advice)

    return change


def free_and_reclaim(memory: Memory, pages: range) -> None:
    """``MADV_FREE``, and then the kernel does need it."""
    advise(_FREE)(memory, pages)
    advise(_PAGEOUT)(memory, pages)


def punch_a_hole(memory: Memory, pages: range) -> None:
    at, length = pages.start * PAGE, len(pages) * PAGE
    call(libc.fallocate, memory.file, _KEEP_SIZE_AND_PUNCH_HOLE, at, length)


def truncate(memory: Memory, pages: range) -> None:
    """And make it as long again as it was: all that lay behind is gone."""
    if memory.file < 0:
        raise OSError("it is no file")
    os.ftruncate(memory.file, pages.start * PAGE)
    os.ftruncate(memory.file, SIZE)


def map_anew(memory: Memory, pages: range) -> None:
    memory.map_over(pages)


def unmap_and_map(memory: Memory, pages: range) -> None:
    call(libc.munmap, *memory.extent(pages))
    memory.map_over(pages)


def move_away_and_back(memory: Memory, pages: range) -> None:
    at, length = memory.extent(pages)
    room = call(libc.mmap, 0, length + HUGE_PAGE, _NONE, ANONYMOUS, -1, 0)
    elsewhere = -(-room // HUGE_PAGE) * HUGE_PAGE
    call(libc.mremap, at, length, length, _MREMAP_MAYMOVE_FIXED, elsewhere)
    call(libc.mremap, elsewhere, length, length, _MREMAP_MAYMOVE_FIXED, at)


# Handled by the kernel, the content as it was.


def protect_and_unprotect(memory: Memory, pages: range) -> None:
    for protection in (mmap.PROT_READ, _READ_WRITE):
        call(libc.mprotect, *memory.extent(pages), protection)


def copy_on_write(memory: Memory, pages: range) -> None:
    """A child after ``fork`` writes to its own copy while this process still shares the pages."""
    if memory._flags & mmap.MAP_SHARED:
        raise OSError("it is shared")
    by_a_child(memory, pages)


#: By their row in the table.
CHANGES: dict[str, Change] = {
    "a store": store,
    "`read(2)` into it": read_into,
    "`O_DIRECT` read into it": read_directly,
    "`process_vm_writev` of another process": from_another_process,
    "a store through another mapping": through_another_mapping,
    "a store of a forked child": by_a_child,
    "`pwrite(2)` to its file": write_to_the_file,
    "`MADV_DONTNEED`": advise(_DONTNEED),
    "`MADV_FREE`, once reclaimed": free_and_reclaim,
    "`MADV_REMOVE`": advise(_REMOVE),
    "`fallocate`, hole punched": punch_a_hole,
    "`ftruncate`, down and up": truncate,
    "`mmap` over it": map_anew,
    "`munmap`, then `mmap`": unmap_and_map,
    "`mremap`, away and back": move_away_and_back,
    "`MADV_COLD`": advise(_COLD),
    "`MADV_PAGEOUT`": advise(_PAGEOUT),
    "`MADV_COLLAPSE`": advise(_COLLAPSE),
    "`mprotect`, read-only and back": protect_and_unprotect,
    "copy on write after `fork`": copy_on_write,
}
