"""A command as a terminal starts it: it hears Ctrl-C, and is gone in the end with all it started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def started(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """``python *command``, in the project's root and in a process group of its own.

    ``environment`` is set beside what there is.
    """
    # What ignores Ctrl-C hands that on to all it starts: `nohup pytest &`.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ctrl_c(process: subprocess.Popen[str]) -> tuple[int, str]:
    """What Ctrl-C in its terminal makes of a command and all it has started: exit status, stderr."""
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=120)
    return process.returncode, printed


def is_gone(group: int) -> bool:
    """Has every process of a group ended?"""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def children(process: int) -> set[int]:
    """The child processes of a process."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return {int(number) for number in found.split()}
