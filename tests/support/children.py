"""Forked children."""

import os
import traceback
from collections.abc import Callable


def forked(work: Callable[[], object]) -> int:
    """A forked child that runs ``work`` and ends: its number. Its exit code is 0 if nothing is raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child; its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])
