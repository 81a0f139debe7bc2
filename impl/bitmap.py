"""Dirty bitmaps: bit b of word w is bit 64w + b. Others may set bits of one while we do."""

import mmap
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from impl.arrays import address
from impl.kernels.compile import compiled, entry
from impl.kernels.intrinsics import atomic_or, load
from model import words
from model.errors import LayoutError
from model.ram import PAGES_PER_WORD

Words = npt.NDArray[np.uint64]

_1, _8 = np.uint64(1), np.uint64(8)

_word_of = compiled(words.word_of)
_window_mask = compiled(words.window_mask)


def pages_of(bitmap: Words) -> Words:
    """The bits that are set, uint64 in order. Takes memory for them, not for the whole bitmap."""
    dirty = np.flatnonzero(bitmap)
    bits = np.unpackbits(bitmap[dirty].view(np.uint8), bitorder="little")
    word, bit = np.divmod(np.flatnonzero(bits), PAGES_PER_WORD)
    pages: Words = (dirty[word] * PAGES_PER_WORD + bit).astype(np.uint64)
    return pages


def bitmap_of(pages: npt.NDArray[Any], n_words: int) -> Words:
    """A bitmap, uint64 (n_words,), with the bits of these pages set, and no others."""
    bits = np.zeros(n_words * PAGES_PER_WORD, np.bool_)
    bits[pages] = True
    return np.packbits(bits, bitorder="little").view(np.uint64)


def untouched_zeros(rows: int, words: int) -> Words:
    """Clear bitmaps, uint64 (rows, words), that take memory only where they are written.

    In pieces of a page: the huge pages that NumPy asks for would be two MiB for one bit. Raises
    MemoryError.
    """
    size = rows * words * 8
    if not size:
        return np.zeros((rows, words), np.uint64)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes for bitmaps") from error
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    zeros: Words = np.frombuffer(memory, np.uint64).reshape(rows, words)
    return zeros


def set_bits(bitmap: Words, first: Words, last: Words) -> None:
    """Set the bits ``first[i] .. last[i]``, ends included, of a bitmap for every i.

    ``bitmap`` uint64 (words,), contiguous and writable; the bits lie inside it: LayoutError if not.
    Bits that others set meanwhile, by an atomic OR like this one, are kept.
    """
    first, last = (np.ascontiguousarray(bits, np.uint64) for bits in (first, last))
    if bitmap.dtype != np.uint64 or bitmap.ndim != 1 or not bitmap.flags.carray:
        raise LayoutError("a bitmap is one contiguous, writable array of uint64")
    if len(last) and int(last.max()) // PAGES_PER_WORD >= len(bitmap):
        raise LayoutError(f"bit {last.max()} lies outside a bitmap of {len(bitmap)} words")
    set_runs(address(bitmap), address(first), address(last), np.uint64(len(first)))


@entry
def set_runs(bitmap: Any, first: Any, last: Any, count: Any) -> None:
    """``set_bits`` on addresses."""
    for run in range(count):
        lower, upper = load(first + run * _8), load(last + run * _8) + _1
        for word in range(_word_of(lower), _word_of(upper - _1) + _1):
            atomic_or(bitmap + word * _8, _window_mask(word, lower, upper))
