"""Flush a range of pages: scan both bitmaps, copy, clear, count. The inner loop of every strategy.

Who copies what is not decided here: :func:`flush_range` asks the model's own ``in_reach`` and ``clip``,
and :func:`flush_window` the model's word steps, compiled to machine code (``impl.kernels.compile``).

What kernels are given, all uint64: ``job``, the address of a job table (``impl.kernels.job_table``),
and ``row``, that of a region's row in it; ``control``, that of a pool's control block; ``lower``,
``upper``, ``first``, ``last``, ``bit``, ``ahead``: positions of bits in the bitmaps; ``word``, ``end``:
numbers of bitmap words; ``to``, ``source``, ``soon``: addresses of bytes; ``dirty``: pages, or in
:func:`copy_pages` a word of them.

A bit is cleared only after its page has been copied, so a flush that dies anywhere is finished by
flushing again.
"""

from typing import Any

import numpy as np

from impl.kernels import control as c
from impl.kernels import job_table as j
from impl.kernels.compile import compiled, entry, kernel, primitives
from impl.kernels.intrinsics import (
    LINE_BYTES,
    STRIDE_WORDS,
    atomic_and,
    atomic_or,
    copy_bytes,
    dirty_in_stride,
    load,
    population,
    prefetch,
    store,
    stream_line,
    trailing_zeros,
    word_at,
)
from model import shares, words

NO_PAGE = ~np.uint64(0)

# How pages are copied (choose_copy): as memcpy does; past the processor's cache, fetching the beginning
# of the next page before, and a line of its host; the same, but for that line; fetching all of the next
# page meanwhile, and a line of its host.
ORDINARY, STREAMING, STREAMING_CACHE_ONLY, STREAMING_FETCHING = (np.uint64(i) for i in range(4))

_0, _1, _2, _8 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(8)
_LINE = np.uint64(LINE_BYTES)
_IN_LINE = np.uint64(LINE_BYTES - 1)
_LAST_BIT = np.uint64(63)
_PAGES_PER_WORD = np.uint64(64)
# What is fetched of the next page: enough for the hardware prefetcher to follow on.
_FETCHED_BYTES = np.uint64(8 * LINE_BYTES)
# A larger page, fetched whole, would have left the nearest cache before it is copied.
_LARGEST_FETCHED_WHOLE = np.uint64(4096)
_STRIDE = np.uint64(STRIDE_WORDS)
# Words counted from one dirty word on, before the next is searched: 4 KiB of each bitmap.
_COUNTED_AT_ONCE = np.uint64(512)
_LAST_OF_STRETCH = np.uint64(shares.STRETCH - 1)


_in_reach = compiled(shares.in_reach)
_clip = compiled(shares.clip)
_word_of = compiled(words.word_of)
_window_mask = compiled(words.window_mask)
_either = compiled(words.either)
_both = compiled(words.both)
_cleared = compiled(words.cleared)
_next_page = compiled(words.next_page)
_without_next = compiled(words.without_next)
_stretch_of = compiled(shares.stretch_of)
_end_of_stretch = compiled(shares.end_of_stretch)


@kernel
def flush_range(job: Any, lower: Any, upper: Any) -> Any:
    """Flush every block's used pages with bits in ``[lower, upper)``; both are multiples of 64 or
    the end of RAM. Returns (copied, host_dirty, cache_dirty, both_dirty) in pages."""
    copied = host_dirty = cache_dirty = both_dirty = _0
    row, end = first_row(job, lower), rows_end(job)
    # The rows lie in the order of their bits: behind the first that begins too high all do.
    while row < end and load(row + j.FIRST_BIT) < upper:
        first, used = load(row + j.FIRST_BIT), load(row + j.USED_PAGES)
        if _in_reach(first, used, lower, upper):
            start, limit = _clip(first, used, lower, upper)
            if start < limit:
                dirty, host, cache, both = flush_window(job, row, first + start, first + limit)
                copied += dirty
                host_dirty += host
                cache_dirty += cache
                both_dirty += both
        row += j.REGION_BYTES
    return copied, host_dirty, cache_dirty, both_dirty


@kernel
def first_row(job: Any, bit: Any) -> Any:
    """The row of the first region that ends above ``bit``, by halving, or the end of the rows.

    Those before it have no page at or above ``bit``: they could be asked, with ten thousand blocks
    for ten thousand words, only to say so.
    """
    rows, low, high = job + j.ROWS, _0, load(job + j.REGIONS)
    while low < high:
        middle = (low + high) // _2
        row = rows + middle * j.REGION_BYTES
        if load(row + j.FIRST_BIT) + load(row + j.USED_PAGES) <= bit:
            low = middle + _1
        else:
            high = middle
    return rows + low * j.REGION_BYTES


@kernel
def rows_end(job: Any) -> Any:
    """Where the rows of the regions end, and those of the gaps begin."""
    return job + j.ROWS + load(job + j.REGIONS) * j.REGION_BYTES


@kernel
def flush_window(job: Any, row: Any, first: Any, last: Any) -> Any:
    """Flush the pages of one region with bits in ``[first, last)``, counted as in flush_range."""
    copied = host_dirty = cache_dirty = both_dirty = _0
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    end = _word_of(last + _LAST_BIT)
    word = next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), end)
    while word < end:
        # Found before this word is copied, so that its first page is on the way from memory meanwhile.
        following = next_dirty_word(cache_bitmap, host_bitmap, word + _1, end)
        cache_word, host_word = cache_bitmap + word * _8, host_bitmap + word * _8
        mask = _window_mask(word, first, last)
        cache, host = load(cache_word), load(host_word)
        dirty = _either(cache, host) & mask

        ahead = NO_PAGE
        if following < end:
            soon = _either(word_at(cache_bitmap, following), word_at(host_bitmap, following))
            ahead = following * _PAGES_PER_WORD + _next_page(soon)
        # COPY
        copy_pages(job, row, word, dirty, ahead)
        # CLEAR, only now: a flush that dies in between leaves the word marked, and is run again. Plain
        # stores, for no other worker has this word. The bits outside the mask are another block's.
        store(cache_word, _cleared(cache, mask))
        store(host_word, _cleared(host, mask))
        # COUNT
        copied += population(dirty)
        host_dirty += population(host & mask)
        cache_dirty += population(cache & mask)
        both_dirty += population(_both(cache, host) & mask)
        word = following
    return copied, host_dirty, cache_dirty, both_dirty


@kernel
def next_dirty_word(cache_bitmap: Any, host_bitmap: Any, word: Any, end: Any) -> Any:
    """The first word at or after ``word`` with a bit set in either bitmap, or ``end``."""
    while word + _STRIDE <= end:
        # The place is computed, not looked for word by word: where the next dirty word lies is nothing
        # that a processor could foresee, so that would be a branch mispredicted once a word.
        dirty = dirty_in_stride(cache_bitmap, host_bitmap, word)
        if dirty != _0:
            return word + trailing_zeros(dirty)
        word += _STRIDE
    while word < end:
        if _either(word_at(cache_bitmap, word), word_at(host_bitmap, word)) != _0:
            return word
        word += _1
    return end


@kernel
def copy_pages(job: Any, row: Any, word: Any, dirty: Any, ahead: Any) -> None:
    """Copy the pages of one bitmap word from cache to host, fetching each next page ahead.

    ``ahead`` is the bit of the page that will be copied after this word's last one, or NO_PAGE. A
    page that lies right behind is not fetched: the processor sees that coming by itself.
    """
    page_bytes = load(job + j.PAGE_BYTES)
    first_bit, host, cache = load(row + j.FIRST_BIT), load(row + j.HOST), load(row + j.CACHE)
    # A streaming store writes a whole line; attached memory may lie across lines.
    copying = load(job + j.COPYING) if (host & _IN_LINE) == _0 else ORDINARY
    base = word * _PAGES_PER_WORD
    while dirty != _0:
        bit = base + _next_page(dirty)
        dirty = _without_next(dirty)
        following = base + _next_page(dirty) if dirty != _0 else ahead
        jumps = following != bit + _1 and following != NO_PAGE
        at, soon = (bit - first_bit) * page_bytes, (following - first_bit) * page_bytes
        if copying == ORDINARY:
            if jumps:
                fetch(cache + soon)
                # An ordinary store reads a line before it changes it; a streaming one does not.
                fetch(host + soon)
            copy_bytes(host + at, cache + at, page_bytes)
        elif copying == STREAMING_FETCHING and jumps:
            prefetch(host + soon)
            stream_fetching(host + at, cache + at, page_bytes, cache + soon)
        else:
            if jumps:
                if copying == STREAMING:
                    # One line of the host: not to have it, but to know by then where in memory it lies.
                    prefetch(host + soon)
                fetch(cache + soon)
            stream(host + at, cache + at, page_bytes)


@kernel
def fetch(address: Any) -> None:
    """Prefetch the beginning of a page."""
    end = address + _FETCHED_BYTES
    while address < end:
        prefetch(address)
        address += _LINE


@kernel
def stream(to: Any, source: Any, length: Any) -> None:
    """Copy ``length`` bytes, a multiple of 64, past the processor's cache; ``to`` 64-byte aligned."""
    end = to + length
    while to < end:
        stream_line(to, source)
        to += _LINE
        source += _LINE


@kernel
def stream_fetching(to: Any, source: Any, length: Any, soon: Any) -> None:
    """The same, prefetching a line at ``soon`` for each line copied."""
    for line in range(_0, length, _LINE):
        prefetch(soon + line)
        stream_line(to + line, source + line)


@kernel
def back_up_range(job: Any, lower: Any, upper: Any) -> None:
    """Copy every block's used pages with bits in ``[lower, upper)`` from host to cache.

    What Hailiang Zhang suggested for ``colo_init_ram_cache`` (model/TRAPS.md, Sources).
    """
    page_bytes = load(job + j.PAGE_BYTES)
    row, end = first_row(job, lower), rows_end(job)
    while row < end and load(row + j.FIRST_BIT) < upper:
        first, used = load(row + j.FIRST_BIT), load(row + j.USED_PAGES)
        if _in_reach(first, used, lower, upper):
            start, limit = _clip(first, used, lower, upper)
            if start < limit:
                to = load(row + j.CACHE) + start * page_bytes
                source = load(row + j.HOST) + start * page_bytes
                if (to & _IN_LINE) == _0:
                    stream(to, source, (limit - start) * page_bytes)
                else:
                    copy_bytes(to, source, (limit - start) * page_bytes)
        row += j.REGION_BYTES


@entry
def count_dirty(bitmap: Any, n_words: Any) -> Any:
    """How many bits of ``bitmap`` (an address) are set."""
    total = _0
    for word in range(n_words):
        total += population(word_at(bitmap, word))
    return total


@kernel
def choose_copy(control: Any, job: Any, dirty: Any) -> None:
    """Choose how ``dirty`` pages are copied, by the limits of the pool at ``control``.

    A few pages have just been written and lie in the cache: on some processors an ordinary copy finds
    them there. Many do not, and a streaming store saves reading each line of the host before it is
    overwritten. Where the limits lie is a matter of the machine (``impl.tuning``).
    """
    page_bytes = load(job + j.PAGE_BYTES)
    dirty_bytes = dirty * page_bytes
    copying = STREAMING if load(control + c.FETCHING_HOST) != _0 else STREAMING_CACHE_ONLY
    if dirty_bytes <= load(control + c.ORDINARY_BELOW):
        copying = ORDINARY
    elif dirty_bytes <= load(control + c.FETCHING_BELOW) and page_bytes <= _LARGEST_FETCHED_WHOLE:
        copying = STREAMING_FETCHING
    store(job + j.COPYING, copying)


@kernel
def count_either(job: Any, enough: Any) -> Any:
    """How many bits are set in either bitmap, and where: (pages, first, last).

    All words with a bit set lie in ``[first, last)``, which is empty, at the end, where there are none.
    Where more than ``enough`` are set nobody asks how many, before they are indexed: then ``pages`` is
    some number above it, not above all, and ``last`` the end unless all have been counted.
    """
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    total, n_words = _0, load(job + j.WORDS)
    # Clean words are passed over in strides, not counted: most flushes of a sparse RAM are that.
    word = next_dirty_word(cache_bitmap, host_bitmap, _0, n_words)
    first = last = word
    while word < n_words and total <= enough:
        last = word + _COUNTED_AT_ONCE
        if last > n_words:
            last = n_words
        total += count_words(cache_bitmap, host_bitmap, word, last)
        word = next_dirty_word(cache_bitmap, host_bitmap, last, n_words)
    if word < n_words:
        # Counted as far as it matters: what lies beyond has not been looked at.
        last = n_words
    return total, first, last


@kernel
def count_words(cache_bitmap: Any, host_bitmap: Any, first: Any, last: Any) -> Any:
    """How many bits of these words are set in either bitmap."""
    total = _0
    for word in range(first, last):
        total += population(_either(word_at(cache_bitmap, word), word_at(host_bitmap, word)))
    return total


@kernel
def index_words(job: Any, first: Any, last: Any) -> None:
    """Index whole stretches by themselves: what is below each word, and how much in each stretch."""
    stretches, word = load(job + j.STRETCHES), first
    while word < last:
        end = _end_of_stretch(word, last)
        store(stretches + _stretch_of(word) * _8, index_stretch(job, word, end))
        word = end


@kernel
def index_stretch(job: Any, first: Any, last: Any) -> Any:
    """Write ``model.shares.Index.within`` of the words of one stretch; how many pages are dirty in it."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    index, before = load(job + j.INDEX), _0
    for word in range(first, last):
        # Loaded before the store: the arrays may lie alike in their pages, and on some processors a load
        # waits for a store to the same place of another page.
        pages = population(_either(word_at(cache_bitmap, word), word_at(host_bitmap, word)))
        store(index + word * _8, before)
        before += pages
    return before


@kernel
def add_up_stretches(job: Any) -> Any:
    """Turn how much is in each stretch into ``model.shares.Index.below``; how much it is in all."""
    stretches, before = load(job + j.STRETCHES), _0
    for stretch in range(_stretch_of(load(job + j.WORDS) + _LAST_OF_STRETCH)):
        pages = word_at(stretches, stretch)
        store(stretches + stretch * _8, before)
        before += pages
    return before


@kernel
def first_word_with(job: Any, pages: Any) -> Any:
    """``model.shares.first_word_with``, by halving the job's index."""
    index, stretches = load(job + j.INDEX), load(job + j.STRETCHES)
    low, high = _0, load(job + j.WORDS)
    while low < high:
        middle = (low + high) // _2
        if word_at(stretches, _stretch_of(middle)) + word_at(index, middle) < pages:
            low = middle + _1
        else:
            high = middle
    return low


primitives[shares.first_word_with] = first_word_with


@entry
def mark_received(job: Any, bit: Any) -> None:
    """Set a bit of the cache bitmap and keep the dirty count."""
    word, mask = bit // _PAGES_PER_WORD * _8, _1 << bit % _PAGES_PER_WORD
    # Counted only if it was clear: a page received twice is one dirty page.
    if atomic_or(load(job + j.CACHE_BITMAP) + word, mask) & mask == _0:
        store(job + j.DIRTY_PAGES, load(job + j.DIRTY_PAGES) + _1)


@entry
def clear_range(job: Any, first: Any, last: Any) -> None:
    """Clear the bits ``[first, last)`` of both bitmaps and keep the dirty count."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    gone = _0
    for word in range(_word_of(first), _word_of(last + _LAST_BIT)):
        mask = _window_mask(word, first, last)
        gone += population(atomic_and(cache_bitmap + word * _8, ~mask) & mask)
        atomic_and(host_bitmap + word * _8, ~mask)
    store(job + j.DIRTY_PAGES, load(job + j.DIRTY_PAGES) - gone)


@entry
def replace_bitmaps(job: Any, cache_words: Any, host_words: Any) -> None:
    """Copy both bitmaps from these addresses and recount the dirty pages."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    dirty_pages = _0
    for word in range(load(job + j.WORDS)):
        cache, host = load(cache_words + word * _8), load(host_words + word * _8)
        store(cache_bitmap + word * _8, cache)
        store(host_bitmap + word * _8, host)
        dirty_pages += population(cache)
    store(job + j.DIRTY_PAGES, dirty_pages)


@kernel
def clear_bitmaps(job: Any) -> None:
    """Clear both bitmaps and the dirty count."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    for word in range(load(job + j.WORDS)):
        store(cache_bitmap + word * _8, _0)
        store(host_bitmap + word * _8, _0)
    store(job + j.DIRTY_PAGES, _0)


@kernel
def first_stray(job: Any) -> Any:
    """The first dirty bit of the first gap that has one (a bit with no memory), or NO_PAGE."""
    gap = rows_end(job)
    end = gap + load(job + j.GAPS) * j.GAP_BYTES
    while gap < end:
        first, last = load(gap + j.GAP_FIRST), load(gap + j.GAP_END)
        stray = first_dirty(job, first, last)
        if stray < last:
            return stray
        gap += j.GAP_BYTES
    return NO_PAGE


@kernel
def first_dirty(job: Any, first: Any, last: Any) -> Any:
    """The first bit in ``[first, last)`` set in either bitmap, or ``last``."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    end = _word_of(last + _LAST_BIT)
    word = next_dirty_word(cache_bitmap, host_bitmap, _word_of(first), end)
    while word < end:
        dirty = _either(word_at(cache_bitmap, word), word_at(host_bitmap, word))
        dirty &= _window_mask(word, first, last)
        if dirty != _0:
            return word * _PAGES_PER_WORD + _next_page(dirty)
        word = next_dirty_word(cache_bitmap, host_bitmap, word + _1, end)
    return last
