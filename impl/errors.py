"""The errors of running flushes; those about what is flushed are the model's (model.ram)."""

from model.ram import ColoError


class FlushInProgress(ColoError, RuntimeError):
    """A second flush, or a change of the RAM, while a flush is running."""


class RamReleased(ColoError, RuntimeError):
    """The RAM has been released."""


class CannotBeCopied(ColoError, TypeError):
    """A RAM, a block, a pool or a log was to be copied or pickled."""


class PoolClosed(ColoError, RuntimeError):
    """The pool has been closed."""


class ThreadsUnavailable(ColoError, RuntimeError):
    """The system has not started all the threads of a pool; the message says how many it has."""


class TraceError(ColoError, ValueError):
    """A recorded trace that can't be what it says it is."""


class UnsupportedHost(ColoError, ImportError):
    """The kernels cannot run on this machine, or not in this setting of numba."""
