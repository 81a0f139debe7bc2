"""One at a time: whoever comes second is refused, not made to wait."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from impl.errors import FlushInProgress


class Exclusive:
    """Held by one flush or one change at a time.

    Safe against Ctrl-C at any moment, and in a child after ``fork``: what another thread held there
    has stayed with the parent.
    """

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._lock = threading.Lock()
        self._held_by_process = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it; FlushInProgress with the refusal as its message if it is held already."""
        mine = 0
        try:
            with self._lock:
                if self._held_by_process == os.getpid():
                    raise FlushInProgress(self._refusal)
                # One statement, so that an interrupt comes before or after both.
                self._held_by_process = mine = os.getpid()
            yield
        finally:
            if mine:
                self._held_by_process = 0
