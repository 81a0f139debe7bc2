"""Stray bits: dirty, with no page behind them. A flush looks for one before it writes anything.

The blocks, in the order of their bits, part the bitmaps into used pages and *gaps*: below the first
block, between two, above the last one. Ours; the patch does not look.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from model.ram import Layout
from model.words import either, next_page, window_mask, word_of

Natural: TypeAlias = int
Word: TypeAlias = int
Truth: TypeAlias = bool

ZERO = 0
LAST_BIT = 63


def in_gap(bit: Natural, end_below: Natural, first_above: Natural) -> Truth:
    """Does a bit lie in the gap between the block that ends at one bit and the one from another on?"""
    return (end_below <= bit) & (bit < first_above)


def stray_bits(cache: Word, host: Word, word: Word, first: Word, last: Word) -> Word:
    """The bits of word number ``word`` that are dirty and lie in the gap ``[first, last)``."""
    return either(cache, host) & window_mask(word, first, last)


def found_in(strays: Word) -> Truth:
    """Is there a stray bit among these? Then the flush is refused."""
    return strays != ZERO


# In Python only.


def gaps(layout: Layout) -> Iterator[tuple[int, int]]:
    """Every gap ``[first, last)`` up to the end of the bitmaps' last word."""
    in_order = sorted((r.bits for r in layout.regions if r.used_pages), key=lambda bits: bits.start)
    end_below = 0
    for bits in in_order:
        yield end_below, bits.start
        end_below = bits.stop
    yield end_below, layout.words * (LAST_BIT + 1)


def first_stray(cache: Sequence[Word], host: Sequence[Word], layout: Layout) -> int | None:
    """The first stray bit of bitmaps given as words, or None."""
    for first, last in gaps(layout):
        for word in range(word_of(first), word_of(last + LAST_BIT)):
            strays = stray_bits(cache[word], host[word], word, first, last)
            if found_in(strays):
                return word * (LAST_BIT + 1) + next_page(strays)
    return None
