"""THE SPEC: what a flush of COLO's RAM cache is, on sets of pages. No words, no threads, no order.

Everything else in this project is measured against the ten lines of :func:`flush`.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import NamedTuple

from model.domain import select
from model.errors import DirtyCountMismatch, StrayDirtyPages
from model.ram import Layout


@dataclass
class Ram:
    """A secondary's RAM at a checkpoint. A page is named by its bit (see model.ram).

    ``host`` is what the secondary's guest ran on, ``cache`` what the primary has; both map a page to
    its content. ``dirty_pages`` is the count kept of the bits set in ``cache_dirty``.
    """

    host: MutableMapping[int, object]
    cache: Mapping[int, object]
    cache_dirty: set[int]
    host_dirty: set[int]
    dirty_pages: int


@dataclass(frozen=True)
class Flushed:
    """What a flush reports, in pages (the patch: trace point ``colo_flush_ram_cache_end``)."""

    copied: int
    host_dirty: int
    cache_dirty: int
    both_dirty: int


def flush(ram: Ram, layout: Layout) -> Flushed:
    """Make the secondary the primary (the patch: ``colo_flush_ram_cache``).

    Raises StrayDirtyPages, with nothing changed, if a bit is set outside every block's used pages;
    DirtyCountMismatch, with everything flushed, if the dirty count was wrong to begin with.
    """
    union, both = ram.cache_dirty | ram.host_dirty, ram.cache_dirty & ram.host_dirty

    # REFUSE
    check_no_stray(union, layout)
    # COPY
    for page in union:
        ram.host[page] = ram.cache[page]
    # COUNT
    done = Flushed(len(union), len(ram.host_dirty), len(ram.cache_dirty), len(both))
    ram.dirty_pages -= done.cache_dirty
    # CLEAR
    ram.cache_dirty.clear()
    ram.host_dirty.clear()

    check_count(ram.dirty_pages, done)
    return done


class Page(NamedTuple):
    """A page: its content in the secondary's RAM, and its bits."""

    host: object
    cache_dirty: bool
    host_dirty: bool


def page_after(page: Page, cache: object) -> Page:
    """What :func:`flush` makes of one page that ``cache`` holds of the primary's: read by the proofs."""
    return Page(select(page.cache_dirty | page.host_dirty, cache, page.host), False, False)


def check_no_stray(dirty: set[int], layout: Layout) -> None:
    """Raise StrayDirtyPages if a dirty page lies outside every block's used pages."""
    stray = {page for page in dirty if not layout.is_used(page)}
    if stray:
        raise stray_error(min(stray), layout)


def stray_error(page: int, layout: Layout) -> StrayDirtyPages:
    """The error for a stray bit, the first of them at ``page``."""
    return StrayDirtyPages(
        f"a dirty bit has no memory behind it: {layout.locate(page)}; nothing was flushed: "
        "clear the bit, or raise the block's used length, and flush again"
    )


def check_count(dirty_pages: int, stats: object) -> None:
    """Raise DirtyCountMismatch, with what the flush reports, unless the count has reached zero."""
    if dirty_pages:
        raise DirtyCountMismatch(
            f"all dirty pages were flushed but the dirty count is {dirty_pages}, not 0: it disagreed "
            "with the cache bitmap before the flush, and every flush will say so until recount()",
            stats,
        )
