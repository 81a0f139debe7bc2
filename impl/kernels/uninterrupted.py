"""Work in which no signal handler of Python runs.

While a kernel is compiled or loaded, LLVM calls back into Python. A Ctrl-C that is taken there raises
KeyboardInterrupt in the callback, from where it reaches nobody: it is printed and dropped, and the
command goes on. So whatever a handler would do waits until the work is done.

The handler of another signal may raise at any moment before and after. Python looks for signals after a
call and at the start of each Python function, hence the C functions below, which the ones of the module
``signal`` wrap: once a ``finally`` is reached they are called before Python looks again.
"""

import _signal  # type: ignore[import-not-found]
import _thread
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def uninterrupted(work: Callable[[], T]) -> T:
    """The result of ``work()``. The handler of a signal that came meanwhile is called after it.

    Python runs handlers in the main thread alone, so in any other there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    handlers = [(number, _signal.getsignal(number)) for number in range(1, signal.NSIG)]
    return _without([(number, handler) for number, handler in handlers if callable(handler)], work)


def _without(handlers: Sequence[tuple[int, Any]], work: Callable[[], T]) -> T:
    """One signal at a time, each put back by its own ``finally``: the handler of one may raise."""
    if not handlers:
        return work()
    (number, handler), *others = handlers
    came: list[int] = []
    try:
        _signal.signal(number, lambda number, _: came.append(number))
        result = _without(others, work)
    finally:
        try:
            try:
                # Runs the handlers of what is pending, and does nothing more if one of them raises.
                _signal.signal(number, handler)
            finally:
                _signal.signal(number, handler)
        finally:
            if came:
                _thread.interrupt_main(number)  # type: ignore[arg-type]
    return result
