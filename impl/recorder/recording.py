"""What has been recorded of a guest: a trace that grows, and is kept somewhere whatever happens."""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impl.bitmap import untouched_zeros
from impl.errors import TraceError
from impl.recorder.page_diff import to_words
from impl.recorder.watched_guest import PAGE_SIZE
from impl.traces import format as trace
from model import ram as model
from model.boundary.output import OutputError
from model.ram import PAGES_PER_WORD, Layout

Words = NDArray[np.uint64]


@dataclass
class Recording:
    """A trace that grows: all RAM blocks in QEMU's list order, of which one is observed.

    ``cache_dirty`` and ``host_dirty`` hold, for each epoch, the words that the observed block's bits
    lie in.
    """

    blocks: list[model.Block]
    observed: model.Block
    source: str
    cache_dirty: list[Words] = field(default_factory=list)
    host_dirty: list[Words] = field(default_factory=list)
    flush_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises ColoError if what is to be recorded would not load again."""
        self.layout = Layout(tuple(self.blocks), PAGE_SIZE)
        (self._region,) = (r for r in self.layout.regions if r.block == self.observed)
        self.most_epochs = trace.most_epochs(self.layout)
        if not self.most_epochs:
            raise TraceError(
                f"these RAM blocks reach up to page {self.layout.pages}: a trace holds no epoch of that"
            )
        self._first_word = self._region.first_bit // PAGES_PER_WORD
        nothing = np.zeros(0, np.uint64)
        trace.check(self._trace([nothing], [nothing], [float("nan")]))

    def add(self, cache: NDArray[np.bool_], host: NDArray[np.bool_], flush_seconds: float) -> None:
        """Append an epoch: for each page of the observed block, whether it is dirty.

        Raises TraceError if a trace holds no more.
        """
        if len(self.flush_seconds) == self.most_epochs:
            raise TraceError(f"a trace of this guest holds no more than {self.most_epochs} epochs")
        self.cache_dirty.append(to_words(cache, self._region))
        self.host_dirty.append(to_words(host, self._region))
        self.flush_seconds.append(flush_seconds)

    def _trace(self, cache: list[Words], host: list[Words], seconds: list[float]) -> trace.Trace:
        return trace.Trace(
            self.layout, self._whole(cache), self._whole(host), np.array(seconds), self.source
        )

    def _whole(self, own_words: list[Words]) -> Words:
        """Bitmaps over the whole address space, uint64 (epochs, words)."""
        whole = untouched_zeros(len(own_words), self.layout.words)
        for epoch, own in zip(whole, own_words, strict=True):
            epoch[self._first_word :][: len(own)] = own
        return whole

    def save(self, path: Path) -> None:
        """Write what has been recorded so far. OutputError, which says where it is instead."""
        recorded = self._trace(self.cache_dirty, self.host_dirty, self.flush_seconds)
        try:
            trace.save(recorded, path)
        except OutputError as error:
            raise OutputError(f"{error}; {_saved_elsewhere(recorded)}") from error


def _saved_elsewhere(recorded: trace.Trace) -> str:
    """Keep a recording that its own place has no room for, in memory if need be; where it is."""
    for folder in (tempfile.gettempdir(), "/dev/shm"):
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(".npz", "colo-recording-", folder)
            os.close(descriptor)
            try:
                trace.save(recorded, name)
            except OSError:
                Path(name).unlink()
                raise
            return f"the recording is kept in {name}"
    return "nor anywhere else: the recording is lost"
