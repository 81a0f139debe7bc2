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
    """One ``with`` block's hold, of all it is given or of none."""

    __slots__ = ("__weakref__", "_of", "process")

    def __init__(self, *of: Exclusive) -> None:
        self._of = of
        self.process = os.getpid()

    def __enter__(self) -> None:
        mine = weakref.ref(self)
        for of in self._of:
            with of.lock:
                holder = of.holder()
                if holder is None or holder.process != self.process:
                    of.holder = mine
                    continue
            self._let_go()
            raise FlushInProgress(of.refusal)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        for of in self._of:
            if of.holder() is self:
                of.holder = nobody


def nobody() -> None:
    """Whoever holds what nobody holds."""
