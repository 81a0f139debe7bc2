"""Marking pages in a bitmap in whose words others set bits meanwhile, as small steps.

For :mod:`model.explore`. Bits are set while the guest runs: by the sync of the dirty log, by the
threads that receive pages, by a device. One atomic OR a bit (QEMU: ``bitmap_set_atomic``) keeps the
bits of all of them; a load and a store (``bitmap_set``) undo what comes in between.
"""

from collections.abc import Hashable
from typing import NamedTuple

from model.ram import PAGES_PER_WORD
from model.transitions import ENDED, Invariant, System, step
from model.words import either, window_mask, word_of


class Bitmap(NamedTuple):
    """Shared memory: the bitmap's words, and how many markers are at work."""

    words: tuple[int, ...]
    working: int


class Marker(NamedTuple):
    """A thread that marks ``pages``, one after the other; the word that it has loaded."""

    pc: Hashable
    pages: tuple[int, ...] = ()
    word: int = 0


After = tuple[Bitmap, Marker]


def mark(at: Bitmap, me: Marker) -> After:
    """Atomic OR: the bit of the next page."""
    page, *rest = me.pages
    return _stored(at, page, at.words[word_of(page)]), _next(me, rest)


def load_word(at: Bitmap, me: Marker) -> After:
    """Load the word of the next page: the fault of marking with plain accesses."""
    return at, me._replace(pc="store", word=at.words[word_of(me.pages[0])])


def store_word(at: Bitmap, me: Marker) -> After:
    """Store the word, the page's bit set."""
    page, *rest = me.pages
    return _stored(at, page, me.word), _next(me, rest)


def finish(at: Bitmap, me: Marker) -> After:
    """All its pages are marked."""
    return at._replace(working=at.working - 1), Marker(ENDED)


def wait_for_all(at: Bitmap, me: Marker) -> After:
    """The guest stands still, and nobody marks any more: the flush may begin."""
    return at, Marker("flush")


def flush(at: Bitmap, me: Marker) -> After:
    """The flush finds what is marked."""
    return at, Marker(ENDED)


def marking(markers: int, pages: int, fault: str | None = None) -> System[Bitmap, Marker]:
    """Markers (``1``, ``2``, ...) of ``pages`` pages each, all in the same two words; ``c`` flushes."""
    all_pages = [
        tuple(page % 2 * PAGES_PER_WORD + page * markers + marker for page in range(pages))
        for marker in range(markers)
    ]
    marked = {page for of_one in all_pages for page in of_one}
    invariants = (Invariant("no mark is undone", lambda at, me: _pages(at.words) == marked),)
    plain = fault == "mark by load and store"
    return System(
        name=f"{markers} markers of {pages} pages each",
        shared=Bitmap((0, 0), markers),
        processes=(Marker("wait"), *(Marker("mark", of_one) for of_one in all_pages)),
        names="c123456789"[: markers + 1],
        steps={
            "wait": step(wait_for_all, ready=lambda at, me: at.working == 0),
            "flush": step(flush, invariants=invariants),
            "mark": step(load_word if plain else mark),
            "store": step(store_word),
            "finish": step(finish),
        },
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=markers + 1,
    )


def _pages(words: tuple[int, ...]) -> set[int]:
    """The pages whose bits are set."""
    bits = range(PAGES_PER_WORD)
    return {PAGES_PER_WORD * w + b for w, word in enumerate(words) for b in bits if word >> b & 1}


def _stored(at: Bitmap, page: int, word: int) -> Bitmap:
    """The bitmap with ``word``, the page's bit set in it, in the place of that page's word."""
    index = word_of(page)
    marked = either(word, window_mask(index, page, page + 1))
    return at._replace(words=(*at.words[:index], marked, *at.words[index + 1 :]))


def _next(me: Marker, rest: list[int]) -> Marker:
    return Marker("mark" if rest else "finish", tuple(rest))
