"""How a command begins, and how it ends when it cannot go on: with one line, not a traceback.

Every package of the project imports this first, and Python imports a package before it runs a command in
it. So each ``python -m`` command ends in the same way from its first moment, while numba or z3 are still
being imported. Tracebacks are left for bugs.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """Ctrl-C while packages are imported: some would drop the exception, and nothing is to be undone."""
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


# So while Python looks for the command that it is to run; at no other time, so in no other program.
_IS_COMMAND = sys.argv[:1] == ["-m"]
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_at_once)

from model.boundary.output import run_command  # noqa: E402  (Ctrl-C may come by now)


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """In place of a traceback: what a command lacks that could not even begin."""

    def fail() -> int:
        raise error

    try:
        status = run_command(fail)
    except BaseException:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.exit(status)


if _IS_COMMAND:
    sys.excepthook = _end


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """All is imported: run the command. From here on Ctrl-C is a KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run_command(lambda: main(sys.argv[1:])))


@contextmanager
def started_processes_hear_no_ctrl_c() -> Iterator[None]:
    """Ctrl-C goes to every process of a terminal; the command alone acts on it, and ends the others.

    A process takes its mask of signals along from who starts it.
    """
    from multiprocessing import resource_tracker  # most commands start none

    # It starts a process of its own, once, and then takes every signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
