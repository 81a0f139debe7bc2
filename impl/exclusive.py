"""One at a time: whoever comes second is refused, not made to wait."""

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

from impl.errors import FlushInProgress


class Exclusive:
    """Held by one flush or one change at a time.

    Safe against Ctrl-C at any moment, since a holder that is dropped holds nothing, and in a child
    after ``fork``: what another thread held there has stayed with the parent.
    """

    __slots__ = ("holder", "lock", "refusal")

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        self.lock = threading.Lock()
        self.holder: Callable[[], Hold | None] = nobody

    def held(self) -> "Hold":
        """``with`` it: FlushInProgress with the refusal as its message if it is held already."""
        return Hold(self)


class Hold:
    """One ``with`` block's hold."""

    __slots__ = ("__weakref__", "_of", "process")

    def __init__(self, of: Exclusive) -> None:
        self._of = of
        self.process = os.getpid()

    def __enter__(self) -> None:
        of = self._of
        with of.lock:
            holder = of.holder()
            if holder is not None and holder.process == self.process:
                raise FlushInProgress(of.refusal)
            of.holder = weakref.ref(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._of.holder = nobody


def nobody() -> None:
    """Whoever holds what nobody holds."""
