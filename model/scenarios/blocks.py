"""Shares clipped to blocks: each page of a block has one thread, and so has a word of two blocks."""

from dataclasses import replace

from model import shares, words
from model.page.picture import Picture, drawn, of_pages
from model.scenarios.registry import FAILS, Lines, Rows, scenario
from model.scenarios.shares import splits


def _pages_of_blocks() -> Rows:
    for pages, threads in splits():
        for first in range(0, pages, 21):
            for used in {1, pages - first}:
                for page in {0, used // 2, used - 1}:
                    yield pages, threads, first, used, page


@scenario(_pages_of_blocks)
def visitors(pages: int, threads: int, first: int, used: int, page: int) -> Lines:
    """Which threads' windows hold page ``page`` of a block at bit ``first``? Exactly one must."""
    ranges = {"the block": (first, first + used)}
    text = f"{pages} pages, {threads} threads; a block of {used} pages from bit {first}"
    yield drawn(text, of_pages(pages, ranges))
    holding = []
    for thread in range(threads):
        lower, upper = shares.share(pages, threads, thread)
        if not shares.in_reach(first, used, lower, upper):
            continue
        start, limit = shares.clip(first, used, lower, upper)
        if start <= page < limit:
            holding.append(thread)
            ranges |= {f"thread {thread}": (first + start, first + limit)}
            text = f"thread {thread} visits pages {start} to {limit - 1} of the block"
            yield drawn(text, of_pages(pages, ranges))
    if len(holding) != 1:
        yield f"{FAILS}page {page} of the block is visited by threads {holding}, not by exactly one"


def _blocks_and_threads() -> Rows:
    for pages, threads in splits():
        for first in range(0, pages, 21):
            for used in {0, 1, pages - first}:
                for thread in range(threads):
                    yield pages, threads, first, used, thread


@scenario(_blocks_and_threads)
def window(pages: int, threads: int, first: int, used: int, thread: int) -> Lines:
    """One thread's window of a block: a part of the block, and all of it that is in the share."""
    lower, upper = shares.share(pages, threads, thread)
    ranges = {"the block": (first, first + used), f"share of thread {thread}": (lower, upper)}
    text = (
        f"thread {thread} of {threads} has bits [{lower}, {upper}); a block of {used} from {first}"
    )
    yield drawn(text, of_pages(pages, ranges))
    start, limit = shares.clip(first, used, lower, upper)
    reached = shares.in_reach(first, used, lower, upper)
    text = f"the window is pages [{start}, {limit})" if reached else "the block is out of reach"
    ranges |= {"the window": (first + start, first + limit)} if reached else {}
    yield drawn(text, of_pages(pages, ranges))
    wanted = range(max(first, lower) - first, min(first + used, upper) - first)
    if reached and not 0 <= start <= limit <= used:
        yield f"{FAILS}[{start}, {limit}) is no part of a block of {used} pages"
    elif list(wanted) != list(range(start, limit) if reached else ()):
        yield f"{FAILS}pages [{wanted.start}, {wanted.stop}) of the block are in the share"


@scenario()
def border_word(
    pages: int,
    threads: int,
    one: int,
    other: int,
    first: int,
    used: int,
    page: int,
    other_first: int,
    other_used: int,
    other_page: int,
) -> Lines:
    """Two blocks, a page of each whose bits lie in one word: one thread must visit both."""
    ranges = {
        "a block": (first, first + used),
        "another block": (other_first, other_first + other_used),
    }
    yield drawn(f"{pages} pages, {threads} threads", of_pages(pages, ranges))
    for thread, base, size, at in (
        (one, first, used, page),
        (other, other_first, other_used, other_page),
    ):
        lower, upper = shares.share(pages, threads, thread)
        start, limit = shares.clip(base, size, lower, upper)
        if not (shares.in_reach(base, size, lower, upper) and start <= at < limit):
            yield f"thread {thread} does not visit page {at} of the block at {base}"
            return
        word = words.word_of(base + at)
        ranges |= {f"window of thread {thread}": (base + start, base + limit)}
        text = f"thread {thread} visits page {at} of the block at bit {base}: word {word}"
        yield drawn(text, of_pages(pages, ranges))
    if one != other and words.word_of(first + page) == words.word_of(other_first + other_page):
        yield f"{FAILS}threads {one} and {other} both write word {words.word_of(first + page)}"


@scenario()
def bitmap_of_its_own(
    pages: int,
    threads: int,
    first: int,
    used: int,
    one: int,
    other: int,
    page: int,
    other_page: int,
) -> Lines:
    """Two threads in one block whose bitmap begins with the block; each clears a page's bit.

    Both load the word before either stores it: the bit cleared first comes back.
    """
    ranges: dict[str, tuple[int, int]] = {}
    yield f"{pages} pages, {threads} threads; a block of {used} pages from page {first}"
    for thread, mine in ((one, page), (other, other_page)):
        lower, upper = shares.share(pages, threads, thread)
        start, limit = shares.clip(first, used, lower, upper)
        if not (shares.in_reach(first, used, lower, upper) and start <= mine < limit):
            yield f"thread {thread} does not visit page {mine}"
            return
        word, bit = words.word_of(mine), words.bit_of(mine)
        ranges |= {f"thread {thread}": (start, limit)}
        text = (
            f"thread {thread} has pages [{start}, {limit}); page {mine} is bit {bit} of word {word}"
        )
        yield drawn(text, of_pages(used, ranges))
    if words.word_of(page) != words.word_of(other_page):
        return
    mask, other_mask = 1 << words.bit_of(page), 1 << words.bit_of(other_page)
    dirty = mask | other_mask
    word = words.word_of(page)

    def bitmap(bits: int, *copied: int) -> Picture:
        shown = of_pages(used, ranges, copied=copied)
        return replace(shown, bitmaps={"cache-dirty": (0,) * word + (bits,), **shown.bitmaps})

    text = f"epoch 1: both pages are dirty, dirty count 2; both threads load {dirty:#x}"
    yield drawn(text, bitmap(dirty))
    after = words.cleared(dirty, mask)
    yield drawn(f"thread {one} stores {after:#x}, dirty count 1", bitmap(after, page))
    left = words.cleared(dirty, other_mask)
    text = f"thread {other} stores {left:#x}, dirty count 0"
    yield drawn(text, bitmap(left, page, other_page))
    text = f"epoch 2: nothing is dirty, dirty count 0; the walk finds page {page}, dirty count -1"
    yield drawn(text, bitmap(left))
    if left:
        yield f"{FAILS}a stale bit: page {page} is flushed again in the second epoch"
