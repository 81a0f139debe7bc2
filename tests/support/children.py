"""Forked children."""

import os
import traceback
from collections.abc import Callable


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child; its exit code, 0 if nothing was raised."""
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
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
