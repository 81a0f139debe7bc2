"""The steps of a flush on one 64-bit word of the two bitmaps.

Bit ``b`` of word ``w`` is page ``64 * w + b``. Each function is read in three domains
(``model.domain``): Python integers in ``0 .. 2^64 - 1``, z3 bit-vectors, numba's uint64. No shift is
ever by 64 or more: Python, z3 and LLVM disagree about those.
"""

from typing import TypeAlias

from model.domain import select
from model.ram import PAGES_PER_WORD

Word: TypeAlias = int

ZERO = 0
ONE = 1
LAST_BIT = 63
ALL_PAGES = 2**64 - 1


def word_of(page: Word) -> Word:
    """Index of the word that holds a page's bit (``BIT_WORD``)."""
    return page // PAGES_PER_WORD


def bit_of(page: Word) -> Word:
    """Position of a page's bit in its word, 0 to 63."""
    return page & LAST_BIT


def pages_below(count: Word) -> Word:
    """The mask of bits ``0 .. count - 1``, for ``count`` from 0 to 64."""
    return select(count == ZERO, ZERO, ALL_PAGES >> ((PAGES_PER_WORD - count) & LAST_BIT))


def pages_between(first: Word, last: Word) -> Word:
    """The mask of bits ``first .. last - 1``, for ``0 <= first <= last <= 64``."""
    return pages_below(last) & ~pages_below(first)


def window_mask(word: Word, first_page: Word, last_page: Word) -> Word:
    """The bits of word number ``word`` that stand for pages in ``[first_page, last_page)``.

    Two blocks may share a word, so a word is flushed under the mask of one block at a time.
    """
    base = word * PAGES_PER_WORD
    start = select(first_page < base, base, first_page)
    stop = select(base + LAST_BIT < last_page, base + PAGES_PER_WORD, last_page)
    return select(start < stop, pages_between(start - base, stop - base), ZERO)


def either(cache: Word, host: Word) -> Word:
    """The pages to copy: dirty in the cache, in the host, or in both."""
    return cache | host


def both(cache: Word, host: Word) -> Word:
    """The pages counted as ``both_dirty``."""
    return cache & host


def cleared(bits: Word, flushed: Word) -> Word:
    """A bitmap word after the pages ``flushed`` have been copied: their bits, and no others, clear."""
    return bits & ~flushed


def next_page(dirty: Word) -> Word:
    """Position of the lowest set bit of a word that is not zero (``find_next_bit`` in a word)."""
    return trailing_zeros(dirty)


def without_next(dirty: Word) -> Word:
    """The word without its lowest set bit."""
    return dirty & (dirty - ONE)


def trailing_zeros(word: Word) -> Word:
    """Zeros below the lowest set bit; a primitive, native in every domain."""
    return (word & -word).bit_length() - 1


def population(word: Word) -> Word:
    """How many bits are set (``hweight64``); a primitive, native in every domain."""
    return word.bit_count()
