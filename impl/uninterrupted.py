"""Work in which no signal handler of Python runs.

While a kernel is compiled or loaded, LLVM calls back into Python. A Ctrl-C that is taken there raises
KeyboardInterrupt in the callback, from where it reaches nobody: it is printed and dropped, and the
command goes on. So whatever a handler would do waits until the work is done.
"""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def uninterrupted(work: Callable[[], T]) -> T:
    """The result of ``work()``. The handler of a signal that came meanwhile is called after it.

    Python runs handlers in the main thread alone, so in any other there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    handled = [number for number in signal.valid_signals() if callable(signal.getsignal(number))]
    return _without(handled, work)


def _without(signals: Sequence[int], work: Callable[[], T]) -> T:
    """One signal at a time, each put back by its own ``finally``: the handler of one may raise."""
    if not signals:
        return work()
    first, *others = signals
    came: list[int] = []
    handler = signal.signal(first, lambda number, _: came.append(number))
    try:
        return _without(others, work)
    finally:
        signal.signal(first, handler)
        if came and callable(handler):
            handler(first, sys._getframe())
