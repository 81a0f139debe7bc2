"""The file that holds a guest's RAM, read from outside so that nothing of it changes.

It is read by ``pread``, never through a mapping. A hole of a sparse file stays a hole (to read one
through a mapping fills it), no huge page is reserved, and a file cut short is an error instead of a
SIGBUS that would leave the guest stopped.
"""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.boundary.input import open_descriptor
from model.boundary.output import printable
from model.errors import ColoError

Bytes = npt.NDArray[np.uint8]


class RamFileError(ColoError, ValueError):
    """The file is not, or not as it is, the guest's RAM."""


class RamFile:
    """An open file of RAM. Raises RamFileError."""

    def __init__(self, path: Path) -> None:
        self.name = printable(path)
        self._first, self.size = 0, 0
        try:
            self._descriptor = open_descriptor(path)
        except OSError as error:
            raise RamFileError(
                f"{self.name} is not a file that can be read ({error.strerror}): give the mem-path "
                "of QEMU's RAM"
            ) from error
        self._status = os.fstat(self._descriptor)

    def place(self, first: int, size: int, block: str) -> None:
        """Say where in the file the block's bytes in use lie. RamFileError if it is too short."""
        self._first, self.size = first, size
        there = os.fstat(self._descriptor).st_size
        if first < 0 or first + size > there:
            raise RamFileError(
                f"{self.name} holds {there} bytes, but block {block!r} uses {size} from byte "
                f"{first} on: the file has been replaced or cut since QEMU opened it"
            )

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: what tells a file from every other."""
        return self._status.st_dev, self._status.st_ino

    @property
    def allocated(self) -> int:
        """Bytes of the file that take memory or disk now, at most."""
        return min(self.size, os.fstat(self._descriptor).st_blocks * 512)

    def is_at(self, path: Path) -> bool:
        """Whether this very file lies at a path."""
        try:
            found = path.stat()
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) == self.identity

    def pieces_with_data(self, piece: int) -> npt.NDArray[np.bool_]:
        """For each piece of ``piece`` bytes, whether it may hold anything but zeros: bool (pieces,)."""
        found = np.zeros(-(-self.size // piece), np.bool_)
        number = 0
        while number < len(found):
            try:
                data = os.lseek(self._descriptor, self._first + number * piece, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no more data up to the end
                    break
                found[number:] = True  # a filesystem that does not tell
                break
            number = max(number, (data - self._first) // piece)
            found[number : number + 1] = True
            number += 1
        return found

    def read(self, first: int, into: Bytes) -> None:
        """Fill ``into``, uint8 (bytes,), from byte ``first`` of the block on. Raises RamFileError."""
        done, memory = 0, into.data
        while done < len(into):
            try:
                got = os.preadv(self._descriptor, [memory[done:]], self._first + first + done)
            except OSError as error:
                raise RamFileError(
                    f"{self.name} cannot be read at byte {self._first + first + done}: "
                    f"{error.strerror}"
                ) from error
            if not got:
                raise RamFileError(
                    f"{self.name} ends at byte {self._first + first + done}: it has been cut while "
                    "it was read"
                )
            done += got

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
