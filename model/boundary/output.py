"""What a command gives out: text fit for a terminal, files whole or not there at all, an exit code.

Text from outside (a trace, a port, a QEMU, a file's name) may hold escape codes that repaint the
terminal, or line ends that forge a line; :func:`printable` is what every message passes it through.
A file is written beside its place and renamed, so that a full disk or a Ctrl-C costs neither the
older file of that name nor leaves half a new one. Whether it can be written at all is asked before
the work begins, not after an hour of it.
"""

import errno
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from model.errors import ColoError

#: What a shell says of a command that Ctrl-C has ended, or whose reader has gone: 128 and the signal.
INTERRUPTED, READER_GONE = 130, 141
#: Of sysexits.h. No verdict: to whom 1 means "refuted", a full disk must not.
LACKS_PACKAGE, LACKS_MEMORY, CANNOT_WRITE, CANNOT_READ = 69, 71, 73, 74

#: What brings a package that may be missing, by the name it is imported under.
_BRINGS = {
    **dict.fromkeys(("numpy", "numba", "llvmlite", "z3", "rich"), "."),
    **dict.fromkeys(("pytest", "hypothesis", "cvc5", "jsonschema"), "'.[test]'"),
    "matplotlib": "'.[plot]'",
}

_DESCRIPTOR = re.compile(r"/dev/(?:stdout|stderr|fd/\d+)|/proc/(?:self|\d+)/fd/\d+")
#: Characters of one text that a message shows, unless it says otherwise.
LONGEST_TEXT = 2000


class OutputError(ColoError, OSError):
    """A file that cannot be written where it is wanted. What was there before is still there."""


def printable(text: object, longest: int = LONGEST_TEXT) -> str:
    """``text`` in one line: what is not printable as in a Python literal, what is too long cut."""
    whole = str(text)
    shown = whole[:longest]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
    cut = len(whole) - longest
    return shown if cut <= 0 else f"{shown}... and {cut} characters more"


def run_command(command: Callable[[], int]) -> int:
    """Run a command: its exit code, or one of those above, with a line that says why.

    Another error that the project raises on purpose is 1: what it was given is wrong, or found to be.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe that cannot show every letter
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        with suppress(OSError):
            print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        brings = _BRINGS.get((error.name or "").partition(".")[0])
        if brings is None:
            raise
        return _failed(f"{error}: pip install -e {brings}", LACKS_PACKAGE)
    except BrokenPipeError:
        _give_up_stdout()  # whoever was reading has seen enough
        return READER_GONE
    except OutputError as error:
        return _failed(error, CANNOT_WRITE)
    except ColoError as error:
        return _failed(error, 1)
    except OSError as error:
        _give_up_stdout()
        code = CANNOT_READ if error.filename else CANNOT_WRITE
        return _failed(f"{error.filename or 'what is printed'}: {error.strerror or error}", code)
    except MemoryError:
        return _failed("there is not enough memory", LACKS_MEMORY)
    return code


def _failed(why: object, code: int) -> int:
    """Say it. The line ends are ours, or a compiler's: errors hold text from outside as ``repr``."""
    with suppress(OSError):
        print("\n".join(map(printable, f"error: {why}".split("\n"))), file=sys.stderr)
    return code


def _give_up_stdout() -> None:
    """What is left to print has nowhere to go: Python is not to try it once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_outputs(*paths: Path | None, inputs: Iterable[Path] = ()) -> None:
    """Raise OutputError unless each path, None aside, can be written and is neither input nor twice."""
    wanted = [path for path in paths if path is not None]
    for number, path in enumerate(wanted):
        with _naming(path):
            _check(path)
            for other in (*inputs, *wanted[:number]):
                if _is_stream(path) or not _same(path, other):
                    continue
                raise OutputError(
                    f"{printable(path)} would be written over {printable(other)}: "
                    "give each file its own name"
                )


def check_folder(folder: Path) -> None:
    """Make the folder that files go to. Raises OutputError if there can be none."""
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check(folder / "file")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place when the block ends well. Raises OutputError.

    Any OSError in the block counts as one of this file. A device, a pipe or a terminal is written
    as it is; of a link, what it points to.
    """
    with _naming(path):
        if _is_stream(path):
            with path.open("ab") as file:
                yield file
            return
        place = Path(os.path.realpath(path))
        descriptor, beside = _open_beside(place)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        _sync_folder(place.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8. Raises OutputError."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _check(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder: name a file in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written")
    if not _is_stream(path):
        descriptor, beside = _open_beside(Path(os.path.realpath(path)))
        os.close(descriptor)
        beside.unlink()


def _open_beside(place: Path) -> tuple[int, Path]:
    """A new file in the same folder, with the mode that the file in this place has or would have."""
    if len(os.fsencode(place.name)) > os.pathconf(place.parent, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    beside = place.parent / f".colo-{secrets.token_hex(8)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with suppress(OSError):  # no such file yet; a filesystem without modes
        os.fchmod(descriptor, stat.S_IMODE(place.stat().st_mode))
    return descriptor, beside


def _is_stream(path: Path) -> bool:
    """A device, a pipe, a terminal; or a file by its descriptor, which others write as well."""
    by_descriptor = _DESCRIPTOR.fullmatch(str(path)) is not None
    return path.exists() and (by_descriptor or not path.is_file())


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk as well, where a folder can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of every OSError which file it is about."""
    try:
        if "\0" in str(path):
            raise OSError(errno.EINVAL, "its name holds a NUL")
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{printable(path)} cannot be written ({printable(error.strerror or error)}): "
            "name a file in a folder that is there, may be written and has room"
        ) from error
