"""A RAM whose every page tells which page it is and who wrote it last, beside what each should hold."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from impl.bitmap import pages_of
from impl.block import Block
from impl.ram import ColoRam
from impl.traces.format import Trace
from impl.traces.stamps import BLANK, first_wrong_page, write_pages
from model.ram import Region

Words = npt.NDArray[np.uint64]
Side = Literal["host", "cache"]
SIDES: tuple[Side, ...] = get_args(Side)

# Of a stamp: 28 bits for the page, 24 for the author, 12 below for the words within a page.
_AUTHOR_BITS, _WORD_BITS = np.uint64(24), np.uint64(12)


class WrongPage(NamedTuple):
    """A page, counted in its block, that does not hold what it should."""

    side: Side
    page: int
    block: str


def ram_for(trace: Trace) -> ColoRam:
    """Memory like that of the recorded guest."""
    blocks = [
        Block(b.name, size=b.used_length, max_size=b.max_length, offset=b.offset)
        for b in trace.layout.blocks
    ]
    return ColoRam(blocks, page_size=trace.layout.page_size)


class StampedRam:
    """``host`` and ``cache`` are the stamps of what the pages of ``ram`` should hold, by their bits.

    Pages are given by their bits, in order; those that no block uses are passed over. Nothing is written
    at first: every page is BLANK, as new memory is.
    """

    def __init__(self, ram: ColoRam) -> None:
        self.ram = ram
        self.host = np.full(ram.layout.pages, BLANK)
        self.cache = self.host.copy()

    def stamps(self, side: Side) -> Words:
        """Of one side."""
        return self.host if side == "host" else self.cache

    def write(self, side: Side, pages: Words, author: int) -> None:
        """Write the pages anew. Authors are numbered over all writes, so that no two write the same."""
        stamps = self.stamps(side)
        for region, mine in self._by_region(pages):
            stamps[mine] = (mine << _AUTHOR_BITS | np.uint64(author)) << _WORD_BITS
            memory = getattr(self.ram.block(region.block.name), side)
            inside = mine - np.uint64(region.first_bit)
            write_pages(memory, self.ram.layout.page_size, inside, stamps[mine])

    def first_wrong(self, pages: Words | None) -> WrongPage | None:
        """The first of these pages, or of all, that does not hold what it should."""
        if pages is None:
            pages = np.arange(self.ram.layout.pages, dtype=np.uint64)
        for region, mine in self._by_region(pages):
            block, inside = self.ram.block(region.block.name), mine - np.uint64(region.first_bit)
            for side in SIDES:
                memory, stamps = getattr(block, side), self.stamps(side)[mine]
                page = first_wrong_page(memory, self.ram.layout.page_size, inside, stamps)
                if page is not None:
                    return WrongPage(side, page, block.name)
        return None

    def _by_region(self, pages: Words) -> Iterator[tuple[Region, Words]]:
        """Each region with those of the pages that it uses."""
        for region in self.ram.layout.regions:
            first, last = np.searchsorted(pages, [region.bits.start, region.bits.stop])
            yield region, pages[first:last]


def near(words: Words) -> Words:
    """The pages whose bitmap word has a bit set here: a flush that errs by a few pages errs there."""
    return pages_of(np.where(words != 0, ~np.uint64(0), np.uint64(0)))
