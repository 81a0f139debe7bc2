"""What a command takes in: ordinary files of a bounded size. A device or a pipe may never end."""

import errno
import os
import stat
from os import PathLike
from pathlib import Path

#: No file that a command reads whole is larger, unless it says otherwise.
LARGEST = 256 << 20


def open_descriptor(path: str | PathLike[str]) -> int:
    """The descriptor of an ordinary file. Raises OSError, for a device or a pipe as well."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name holds a NUL")
    _check_ordinary(Path(path).stat())  # before it is opened: that alone moves some devices
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_ordinary(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: str | PathLike[str], largest: int = LARGEST) -> bytes:
    """All of an ordinary file. Raises OSError."""
    with os.fdopen(open_descriptor(path), "rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB")
    return data


def read_text(path: str | PathLike[str], largest: int = LARGEST) -> str:
    """All of an ordinary file in UTF-8. Raises OSError, UnicodeDecodeError."""
    return read_bytes(path, largest).decode("utf-8")


def _check_ordinary(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe: give an ordinary file")
