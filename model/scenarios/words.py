"""The steps on one 64-bit word."""

from itertools import product

from model import words
from model.page.picture import Picture, drawn, of_pages
from model.scenarios.registry import FAILS, Lines, Rows, scenario

BITS = range(64)


TELLING_WORDS = (0, 1, 2, 3, 6, 1 << 63, words.ALL_PAGES, 0xAAAA_AAAA_AAAA_AAAA)


def set_bits(word: int) -> list[int]:
    """The positions of a word's set bits."""
    return [bit for bit in BITS if word >> bit & 1]


def bits_text(word: int) -> str:
    """A word's set bits for the reader: their positions if they are few, else in hexadecimal."""
    bits = set_bits(word)
    return str(bits) if len(bits) <= 8 else f"{word:#x}"


def _counts() -> Rows:
    for count, first in product((0, 1, 2, 62, 63, 64), (0, 1, 32, 63, 64)):
        yield count, first, max(first, count)


@scenario(_counts)
def masks(count: int, first: int, last: int) -> Lines:
    """The mask below a count and that of a range, made by shifts of less than 64."""
    shifts: list[int] = []
    below = words.pages_below(_Shift.of(count, shifts))
    between = words.pages_between(first, last)
    text = (
        f"below {count}: {below:#x}; from {first} to {last - 1}: {between:#x}; shifts by {shifts}"
    )
    yield drawn(text, Picture(64, {f"below {count}": (below,), "between": (between,)}))
    if max(shifts, default=0) > 63:
        yield f"{FAILS}a word is shifted by {max(shifts)}"
    elif count > 64 or set_bits(below) != list(range(count)):
        yield f"{FAILS}the mask below {count} has bits {bits_text(below)}"
    elif set_bits(between) != list(range(first, last)):
        yield f"{FAILS}the mask from {first} to {last - 1} has bits {bits_text(between)}"


class _Shift(int):
    """A number that notes when it is shifted by."""

    seen: list[int]

    @classmethod
    def of(cls, value: int, seen: list[int]) -> "_Shift":
        """``value``, to be noted in ``seen``."""
        made = cls(value)
        made.seen = seen
        return made

    def __rsub__(self, other: int) -> "_Shift":
        return _Shift.of(int(other) - int(self), self.seen)

    def __and__(self, other: int) -> "_Shift":
        return _Shift.of(int(self) & int(other), self.seen)

    def __rrshift__(self, other: int) -> int:
        self.seen.append(int(self))
        return int(other) >> max(int(self), 0)


def _windows() -> Rows:
    return product((0, 1, 2), (0, 1, 63, 64, 65, 128), (0, 1, 63, 64, 65, 127, 128))


@scenario(_windows)
def window_mask(word: int, first: int, last: int) -> Lines:
    """The mask of a window of pages in one word."""
    mask = words.window_mask(word, first, last) & words.ALL_PAGES
    wanted = sum(1 << bit for bit in BITS if first <= word * 64 + bit < last)
    rows = {"mask": (mask,), "should be": (wanted,)}
    window = {"the window": (first - 64 * word, last - 64 * word)}
    text = f"word {word}, pages [{first}, {last}): bits {bits_text(mask)}"
    yield drawn(text, Picture(64, rows, window))
    if mask != wanted:
        yield f"{FAILS}they should be {bits_text(wanted)}"


@scenario(lambda: ((word,) for word in TELLING_WORDS if word))
def one_word(dirty: int) -> Lines:
    """The dirty pages of a word one after the other: each once, the lowest first."""
    yield drawn(f"dirty pages {bits_text(dirty)}", Picture(64, {"dirty": (dirty,)}))
    rest, found = dirty, []
    for _ in BITS:
        if not rest:
            break
        found.append(words.next_page(rest))
        rest = words.without_next(rest) & words.ALL_PAGES
        text = f"page {found[-1]}; left: {bits_text(rest)}"
        yield drawn(text, Picture(64, {"dirty": (rest,)}))
    if not dirty or found != set_bits(dirty):
        found = found or [words.next_page(dirty)]
        yield f"{FAILS}the pages found are {found[:8]}{' ...' if len(found) > 8 else ''}"


@scenario(lambda: product(TELLING_WORDS, TELLING_WORDS, TELLING_WORDS, (0, 1, 63)))
def one_bit(cache: int, host: int, mask: int, at: int) -> Lines:
    """One page: copied if dirty in either, counted as both if in both, cleared if flushed."""
    in_cache, in_host, flushed = (bool(word >> at & 1) for word in (cache, host, mask))
    before = {"cache-dirty": (cache,), "host-dirty": (host,), "mask": (mask,)}
    text = f"page {at}: cache-dirty {in_cache}, host-dirty {in_host}, flushed {flushed}"
    yield drawn(text, Picture(64, before))
    copied = bool(words.either(cache, host) >> at & 1)
    both = bool(words.both(cache, host) >> at & 1)
    left = bool(words.cleared(cache, mask) >> at & 1)
    after = {"cache-dirty": (words.cleared(cache, mask),), "copied": (words.either(cache, host),)}
    text = f"copied {copied}, both {both}, cache-dirty after it {left}"
    yield drawn(text, Picture(64, {**before, **after}))
    if (copied, both, left) != (
        in_cache or in_host,
        in_cache and in_host,
        in_cache and not flushed,
    ):
        yield f"{FAILS}that is wrong"


@scenario(lambda: product(TELLING_WORDS, TELLING_WORDS, TELLING_WORDS))
def counters(cache: int, host: int, mask: int) -> Lines:
    """The counts of a word: a page counts once for each bitmap it is in."""
    ones = words.population
    copied, both = ones(words.either(cache, host) & mask), ones(words.both(cache, host) & mask)
    text = f"copied {copied}, both {both}, cache {ones(cache & mask)}, host {ones(host & mask)}"
    bitmaps = {"cache-dirty": (cache,), "host-dirty": (host,), "mask": (mask,)}
    yield drawn(text, Picture(64, bitmaps))
    rest = words.without_next(cache) & words.ALL_PAGES
    yield f"cache {ones(cache)} before, {ones(rest)} after a page is taken off"
    if copied + both != ones(cache & mask) + ones(host & mask):
        yield f"{FAILS}copied and both do not make cache and host"
    elif cache and ones(rest) != ones(cache) - 1:
        yield f"{FAILS}the count does not go down by one"


@scenario(lambda: ((page,) for page in (0, 1, 62, 63, 64, 65, 127, 128, 1000)))
def one_page(page: int) -> Lines:
    """A page's word and bit."""
    word, bit = words.word_of(page), words.bit_of(page)
    text = f"page {page} is bit {bit} of word {word}"
    yield drawn(text, of_pages(page + 1, page=[page], word_and_bit=[64 * word + bit]))
    if word * 64 + bit != page or not 0 <= bit < 64:
        yield f"{FAILS}that is page {word * 64 + bit}"
