"""Who flushes what: the patch's static shares, their clipping to blocks, and claims off a cursor.

All quantities are page or word numbers, natural numbers. Each function is read in three domains
(``model.domain``): Python integers, z3 integers, numba's uint64.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from model.domain import select
from model.ram import Layout, Region
from model.words import population

Natural: TypeAlias = int
Truth: TypeAlias = bool

ZERO = 0
ONE = 1
LAST_BIT = 63
#: Words of a stretch of the index of dirty pages: as many as it pays to have one worker count.
STRETCH = 4096


def cut_at_word(pages: Natural) -> Natural:
    """Round down to a whole number of 64-page words (the patch: ``& ~63ul``).

    What keeps two threads out of one 64-bit bitmap word.
    """
    return pages & ~LAST_BIT


def chunk(pages: Natural, threads: Natural) -> Natural:
    """Pages in the share of every thread but the last (``colo_flush_thread``: ``chunk_size``)."""
    return cut_at_word(pages // threads)


def share(pages: Natural, threads: Natural, thread: Natural) -> tuple[Natural, Natural]:
    """``[lower, upper)``: the pages of one thread (``colo_flush_thread``: ``lower``, ``upper``).

    ``pages`` reaches to the end of the last block; the last thread takes the rest that rounding left.
    """
    size = chunk(pages, threads)
    lower = thread * size
    upper = select(is_last(threads, thread), pages, (thread + ONE) * size)
    return lower, upper


def is_last(threads: Natural, thread: Natural) -> Truth:
    """Does this thread deal with the extra pages due to rounding?"""
    return thread + ONE == threads


def owner(pages: Natural, threads: Natural, page: Natural) -> Natural:
    """The thread whose share holds ``page``."""
    size = chunk(pages, threads)
    by_position = page // select(size == ZERO, ONE, size)
    return select((size == ZERO) | (by_position >= threads), threads - ONE, by_position)


def in_reach(first: Natural, used: Natural, lower: Natural, upper: Natural) -> Truth:
    """Does the share ``[lower, upper)`` reach the block with ``used`` pages from bit ``first``?

    The test of ``flush_find_next_block``, with its ``>=``: a block that ends exactly at ``lower``
    passes and gives an empty window.
    """
    return (first + used >= lower) & (first < upper)


def clip(first: Natural, used: Natural, lower: Natural, upper: Natural) -> tuple[Natural, Natural]:
    """``[start, limit)``: a block's pages, counted in the block, that lie in the share.

    Meant for a block that is ``in_reach`` (``flush_find_next_block``: ``offset_out``, ``used_out``).
    """
    start = select(first <= lower, lower - first, ZERO)
    limit = select(first + used >= upper, upper - first, used)
    return start, limit


def batch(cursor: Natural, grain: Natural, words: Natural) -> tuple[Natural, Natural]:
    """``[first, last)``: one batch off a shared cursor, of words or of dirty pages.

    A worker adds ``grain`` to the cursor in one atomic step and owns what it passed over; an empty
    range says that everything has been handed out.
    """
    first = select(cursor < words, cursor, words)
    last = select(cursor + grain < words, cursor + grain, words)
    return first, last


def batch_words(before: Sequence[int], first: Natural, last: Natural) -> tuple[Natural, Natural]:
    """The bitmap words of a batch of the dirty pages ``[first, last)``, counted in address order.

    Where the dirty pages lie then does not matter: every batch is worth the same work, to within a
    word. ``before[w]`` is the number of dirty pages in the words below ``w`` (:func:`dirty_before`);
    a word belongs to the batch that its first dirty page belongs to.
    """
    return first_word_with(before, first), first_word_with(before, last)


def first_word_with(before: Sequence[int], pages: Natural) -> Natural:
    """The first word with at least ``pages`` dirty pages below it; a primitive of each domain."""
    return bisect_left(before, pages)


def dirty_before(union: Sequence[int]) -> list[int]:
    """For each word of the union of both bitmaps, and the end: how many dirty pages lie below it."""
    return [0, *accumulate(population(word) for word in union)]


class Index(NamedTuple):
    """:func:`dirty_before` in two levels, so that each stretch of words can be counted by itself.

    ``within[w]``: the dirty pages below word ``w`` in its own stretch. ``below[s]``: those below stretch
    ``s``. Not as long as the bitmaps' end: how many there are in all is known once they are added up.
    """

    within: list[int]
    below: list[int]


def stretch_of(word: Natural) -> Natural:
    """The stretch of the index that has this word."""
    return word // STRETCH


def end_of_stretch(word: Natural, words: Natural) -> Natural:
    """Where the stretch that begins with this word ends; there are ``words`` in all."""
    return select(word + STRETCH < words, word + STRETCH, words)


def index_of(union: Sequence[int]) -> Index:
    """The index of the union of both bitmaps."""
    within: list[int] = []
    below: list[int] = []
    total = 0
    for first in range(0, len(union), STRETCH):
        *sums, pages = dirty_before(union[first : end_of_stretch(first, len(union))])
        within += sums
        below.append(total)
        total += pages
    return Index(within, below)


class Window(NamedTuple):
    """The part of one block that one thread flushes: pages ``[start, limit)`` of the block."""

    thread: int
    region: Region
    start: int
    limit: int


def windows(layout: Layout, threads: int) -> Iterator[Window]:
    """Every window of every thread of a static flush, empty ones left out.

    What the patch's threads visit between them, block by block in list order.
    """
    for thread in range(threads):
        lower, upper = share(layout.pages, threads, thread)
        for region in layout.regions:
            if in_reach(region.first_bit, region.used_pages, lower, upper):
                start, limit = clip(region.first_bit, region.used_pages, lower, upper)
                if start < limit:
                    yield Window(thread, region, start, limit)
