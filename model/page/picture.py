"""What is to be drawn beside a line of a replay: memory, where processes stand, bitmaps, ranges of pages.

A scenario's line is a text. :func:`drawn` hangs a picture on it that the page draws (``stepping.js``);
everybody else goes on seeing the text.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from model.ram import PAGES_PER_WORD
from model.words import bit_of, word_of


class Place(NamedTuple):
    """Where a process stands: the step that it takes next, and its locals in words."""

    step: str
    locals: Mapping[str, str] = {}


class Instruction(NamedTuple):
    """A step of a program, by the name that a :class:`Place` has for it.

    ``act`` is the function that the step is; ``of`` are the processes that may come here, None: all.
    """

    step: str
    text: str
    act: Callable[..., Any] | None = None
    of: Sequence[str] | None = None


@dataclass(frozen=True)
class Picture:
    """What there is to see at one step.

    ``bitmaps``: 64-bit words by the bitmap's name, bit b of word w is page 64 * w + b. Pages are coloured
    by the bitmaps ``cache-dirty``, ``host-dirty``, ``copied`` and ``differs`` (from the checkpoint).
    ``pages``: how many there are; what lies beyond in the last word is no page. ``ranges``: pages
    ``[first, last)`` by who has them. ``moved``: the process whose step this was. ``program``: the steps
    of the processes, which stays as the first picture has it.
    """

    pages: int = 0
    bitmaps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    memory: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, Place] = field(default_factory=dict)
    moved: str = ""
    program: Sequence[Instruction] = ()


class Line(str):
    """A text with a picture."""

    picture: Picture


def drawn(text: str, picture: Picture) -> Line:
    """The line ``text`` with ``picture`` beside it."""
    line = Line(text)
    line.picture = picture
    return line


NOTHING = Picture()
#: Of a larger RAM the ranges are drawn, and no bits.
MOST_PAGES = 64 * 64


def of_pages(
    pages: int, ranges: Mapping[str, tuple[int, int]] | None = None, **bitmaps: Collection[int]
) -> Picture:
    """Bitmaps given as the pages in them, by their names (``cache_dirty`` is ``cache-dirty``).

    Without bitmaps if there are more pages than anybody looks at one by one.
    """
    shown = Picture(pages=pages, ranges=dict(ranges or {}))
    if max(pages, *(max(some, default=0) for some in bitmaps.values()), 0) > MOST_PAGES:
        return shown
    length = -(-pages // PAGES_PER_WORD)
    words = {name.replace("_", "-"): words_of(some, length) for name, some in bitmaps.items()}
    return replace(shown, bitmaps=words)


def words_of(pages: Collection[int], length: int = 0) -> tuple[int, ...]:
    """The words of a bitmap in which these pages are set, at least ``length`` of them."""
    words = [0] * max(length, *(word_of(page) + 1 for page in pages), 0)
    for page in pages:
        words[word_of(page)] |= 1 << bit_of(page)
    return tuple(words)


def picture_of(line: str) -> Picture:
    """The picture beside a line; an empty one if there is none."""
    return line.picture if isinstance(line, Line) else NOTHING
