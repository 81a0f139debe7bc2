"""One at a time: whoever comes second is refused, not made to wait."""

import os
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from impl.errors import FlushInProgress
from model.boundary.arguments import shown
from model.errors import ColoError

P = ParamSpec("P")
T = TypeVar("T")


# One entry for each fork that has led to this process. Appended in C, where no signal comes in between.
_forks: list[None] = []
os.register_at_fork(after_in_child=partial(_forks.append, None))


def generation() -> int:
    """How many forks have led to this process. Takes a tenth of the time of ``os.getpid``."""
    return len(_forks)


class Exclusive:
    """Runs one piece of work at a time.

    What is held is a context of :mod:`contextvars`. ``Context.run`` refuses one that is entered already,
    by another thread or further up on this thread's stack, where a signal handler has interrupted the
    work; and it leaves the context in C, however the work ends. So at no moment can an exception get in
    between, a traceback keeps nothing held, and nobody ever waits. A child after ``fork`` has a context
    of its own: what another thread was doing has stayed with the parent.
    """

    __slots__ = ("_contexts", "_refusal")

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._contexts = {generation(): Context()}

    def run(self, work: Callable[[], T]) -> T:
        """``work()``; FlushInProgress, with the refusal as its message, if other work is running."""
        if not callable(work):
            raise ColoError(f"work is {shown(work)}: give something to call")
        admitted = False

        def admit() -> T:
            nonlocal admitted
            admitted = True
            return work()

        context = self._contexts.get(generation())
        if context is None:
            context = self._contexts.setdefault(generation(), Context())
        try:
            # The work sees its caller's variables (NumPy's errstate is one), in a copy.
            return context.run(copy_context().run, admit)
        except RuntimeError as error:
            if admitted or type(error) is not RuntimeError:
                raise
            raise FlushInProgress(self._refusal) from None


class RunsExclusively(Protocol):
    """An object of whose methods one runs at a time."""

    def exclusively(self, work: Callable[[], T], /) -> T:
        """``work()``, or FlushInProgress."""


Owner = TypeVar("Owner", bound=RunsExclusively)


def alone(method: Callable[Concatenate[Owner, P], T]) -> Callable[Concatenate[Owner, P], T]:
    """A method that is run by its object's ``exclusively``."""

    @wraps(method)
    def run(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.exclusively(partial(method, self, *args, **kwargs))

    return run
