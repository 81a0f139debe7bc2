"""The errors of running flushes and dirty logs; those about what is flushed are model.ram's."""

from model.errors import ColoError


class FlushInProgress(ColoError, RuntimeError):
    """A second flush, or a change of the RAM, while a flush is running."""


class RamReleased(ColoError, RuntimeError):
    """The RAM has been released."""


class CannotBeCopied(ColoError, TypeError):
    """A RAM, a block, a pool or a log was to be copied or pickled."""


class UnknownAttribute(ColoError, AttributeError):
    """An attribute was to be set that there is not: misspelt, say."""


class PoolClosed(ColoError, RuntimeError):
    """The pool has been closed."""


class ThreadsUnavailable(ColoError, RuntimeError):
    """The system has not started all the threads of a pool; the message says how many it has."""


class DirtyLogUnavailable(ColoError, OSError):
    """This kernel, or the sandbox around this process, does not offer the dirty log."""


class DirtyLogError(ColoError, ValueError):
    """The dirty log was asked for something it can't do; the message says what to do instead."""


class WatchLost(DirtyLogError):
    """Memory under the dirty log has been mapped anew, moved or unmapped.

    Nobody knows whether its pages were written; writes to all others are noted. ``pages`` says which
    pages must be marked: for each block's name, ranges of its pages.
    """

    def __init__(self, message: str, pages: dict[str, list[range]] | None = None) -> None:
        super().__init__(message)
        self.pages = pages or {}


class TraceError(ColoError, ValueError):
    """A recorded trace that can't be what it says it is."""


class UnsupportedHost(ColoError, ImportError):
    """The kernels cannot run on this machine, or not in this setting of numba."""


class TooLittleMemory(ColoError, MemoryError):
    """What is asked for takes more memory than there is."""


class KernelsDiffer(ColoError, RuntimeError):
    """A compiled kernel on disk is not what its sources compile to, and cannot be replaced."""
