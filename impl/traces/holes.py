"""A trace's address space without its long holes: what a replay needs memory for.

Bitmaps reach to the end of the last block, however far up that lies. Where no page is in use for long,
a flush has nothing to do but to look at clear words; a guest of one page at the other end of the
address space needs no more memory than one page at its beginning.
"""

from dataclasses import replace

import numpy as np

from impl.bitmap import untouched_zeros
from impl.traces.format import Trace
from model.ram import PAGES_PER_WORD, Layout

#: Holes up to this length stay as they are; longer ones are cut to it. QEMU's are as long at most: a
#: ROM's used length, and the 2 MiB that it may grow to.
HOLE_PAGES = 8 * PAGES_PER_WORD


def without_holes(trace: Trace) -> Trace:
    """The same pages, each at the same bit of its word, words shared as before, in fewer words.

    A trace without long holes comes back as it is, as QEMU's do.
    """
    page_size = trace.layout.page_size
    places = sorted(trace.layout.regions, key=lambda region: region.first_bit)
    blocks, starts, shifts = {}, [0], [0]
    end = new_end = 0
    for region in places:
        if not region.max_pages:  # it is nowhere
            blocks[region.block.name] = replace(region.block, offset=0)
            continue
        first = new_end + _cut(region.first_bit - end)
        most = region.used_pages + _cut(region.max_pages - region.used_pages)
        blocks[region.block.name] = replace(
            region.block, offset=first * page_size, max_length=most * page_size
        )
        starts.append(region.first_bit // PAGES_PER_WORD)
        shifts.append((region.first_bit - first) // PAGES_PER_WORD)
        end, new_end = region.first_bit + region.max_pages, first + most
    layout = Layout(tuple(blocks[block.name] for block in trace.layout.blocks), page_size)
    if layout == trace.layout:
        return trace

    bitmaps = []
    for before in (trace.cache_dirty, trace.host_dirty):
        after = untouched_zeros(trace.epochs, layout.words)
        for old, new in zip(before, after, strict=True):
            dirty = np.flatnonzero(old)
            # Blocks with a word in common have no hole between them, and move together.
            moved = np.array(shifts)[np.searchsorted(starts, dirty, "right") - 1]
            new[dirty - moved] = old[dirty]
        bitmaps.append(after)
    return replace(trace, layout=layout, cache_dirty=bitmaps[0], host_dirty=bitmaps[1])


def _cut(pages: int) -> int:
    """The length of a hole, less a whole number of words if it is long."""
    return pages if pages <= HOLE_PAGES else HOLE_PAGES + pages % PAGES_PER_WORD
