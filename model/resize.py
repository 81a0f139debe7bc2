"""RAM that is hot-added, resized or hot-unplugged between two flushes.

The patch computes two things once that growth makes wrong: the shares, when its threads start, and
the size of the cache, when it is allocated; and nobody drops the dirty bits beyond a block that has
shrunk. Here each is computed from what there is at the flush; the patch's way is a fault
(``model.faults``), and refuted.
"""

from dataclasses import replace
from typing import TypeAlias

from model.ram import Layout

Natural: TypeAlias = int
Truth: TypeAlias = bool

ONE = 1


def pages_shared_out(at_start: Natural, now: Natural) -> Natural:
    """How many pages the shares are cut from: those there are at this flush.

    ``at_start`` is how many there were when the threads started, which is when the patch's
    ``colo_flush_thread`` computes ``ram_cache_pages``.
    """
    return now


def cache_pages(used: Natural, most: Natural) -> Natural:
    """How many pages a block's cache has, from the start: as many as the block may ever use.

    ``colo_init_ram_cache`` allocates ``used_length``.
    """
    return most


def stays_marked(page: Natural, used: Natural) -> Truth:
    """Does a page's dirty bit survive a resize to ``used`` pages?"""
    return page < used


def resize(
    cache_dirty: frozenset[int], host_dirty: frozenset[int], dirty_pages: int, used: int
) -> tuple[frozenset[int], frozenset[int], int]:
    """Both bitmaps of a block and the dirty count after a resize to ``used`` pages."""
    cache = frozenset(page for page in cache_dirty if stays_marked(page, used))
    host = frozenset(page for page in host_dirty if stays_marked(page, used))
    return cache, host, dirty_pages - len(cache_dirty - cache)


def outlives(bit: Natural, first: Natural, most: Natural) -> Truth:
    """Does a bit survive the removal of the block whose bits are ``[first, first + most)``?

    Ours, as all of removal is. A word may hold bits of a neighbour as well.
    """
    return (bit < first) | (bit >= first + most)


def remove(
    cache_dirty: frozenset[int], host_dirty: frozenset[int], dirty_pages: int, first: int, most: int
) -> tuple[frozenset[int], frozenset[int], int]:
    """Both bitmaps and the dirty count after the block with those bits was removed."""
    cache = frozenset(bit for bit in cache_dirty if outlives(bit, first, most))
    host = frozenset(bit for bit in host_dirty if outlives(bit, first, most))
    return cache, host, dirty_pages - len(cache_dirty - cache)


def without(layout: Layout, name: str) -> Layout:
    """The layout after a block was removed: all others, and their bits, stay where they are."""
    staying = [region for region in layout.regions if region.block.name != name]
    if layout.kind == "global":
        blocks = tuple(region.block for region in staying)
    else:
        blocks = tuple(replace(one.block, first_bit=one.first_bit) for one in staying)
    return Layout(blocks, layout.page_size, layout.kind)
