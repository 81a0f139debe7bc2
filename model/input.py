"""What a command takes in: ordinary files of a bounded size. A device or a pipe may never end."""

import errno
import os
import stat
from os import PathLike
from pathlib import Path

#: No text file that a command reads is larger.
LARGEST_TEXT = 256 << 20


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


def read_bytes(path: str | PathLike[str]) -> bytes:
    """All of an ordinary file. Raises OSError."""
    with os.fdopen(open_descriptor(path), "rb") as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST_TEXT >> 20} MiB")
    return data


def read_text(path: str | PathLike[str]) -> str:
    """All of an ordinary file in UTF-8. Raises OSError, UnicodeDecodeError."""
    return read_bytes(path).decode("utf-8")


def _check_ordinary(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe: give an ordinary file")
