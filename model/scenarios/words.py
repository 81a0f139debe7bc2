"""Scenarios about single words and about workers that flush words: see ``model.scenarios``."""

from collections.abc import Iterator
from itertools import islice, product

from model import shares, words
from model import worker as kernel
from model.flush import Page, page_after
from model.scenarios.runs import FAILS, Cases, Lines, scenario
from model.worker import Memory, Worker

BITS = range(64)
TELLING_WORDS = (0, 1, 2, 3, 6, 1 << 63, words.ALL_PAGES, 0xAAAA_AAAA_AAAA_AAAA)


def set_bits(word: int) -> list[int]:
    """The positions of a word's set bits."""
    return [bit for bit in BITS if word >> bit & 1]


def bits_text(word: int) -> str:
    """A word's set bits for the reader: their positions if they are few, else in hexadecimal."""
    bits = set_bits(word)
    return str(bits) if len(bits) <= 8 else f"{word:#x}"


def _counts() -> Cases:
    for count, first in product((0, 1, 2, 62, 63, 64), (0, 1, 32, 63, 64)):
        yield {"count": count, "first": first, "last": max(first, count)}


@scenario(_counts)
def masks(count: int, first: int, last: int) -> Lines:
    """The mask below a count and that of a range, made by shifts of less than 64."""
    shifts: list[int] = []
    below = words.pages_below(_Shift.of(count, shifts))
    between = words.pages_between(first, last)
    yield f"below {count}: {below:#x}; from {first} to {last - 1}: {between:#x}; shifts by {shifts}"
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


def _windows() -> Cases:
    for word, first, last in product(
        (0, 1, 2), (0, 1, 63, 64, 65, 128), (0, 1, 63, 64, 65, 127, 128)
    ):
        yield {"word": word, "first": first, "last": last}


@scenario(_windows)
def window_mask(word: int, first: int, last: int) -> Lines:
    """The mask of a window of pages in one word."""
    mask = words.window_mask(word, first, last) & words.ALL_PAGES
    wanted = sum(1 << bit for bit in BITS if first <= word * 64 + bit < last)
    yield f"word {word}, pages [{first}, {last}): bits {bits_text(mask)}"
    if mask != wanted:
        yield f"{FAILS}they should be {bits_text(wanted)}"


def _telling_words() -> Cases:
    return ({"dirty": word} for word in TELLING_WORDS if word)


@scenario(_telling_words)
def one_word(dirty: int) -> Lines:
    """The dirty pages of a word one after the other: each once, the lowest first."""
    yield f"dirty pages {bits_text(dirty)}"
    rest, found = dirty, []
    for _ in BITS:
        if not rest:
            break
        found.append(words.next_page(rest))
        rest = words.without_next(rest) & words.ALL_PAGES
        yield f"page {found[-1]}; left: {bits_text(rest)}"
    if not dirty or found != set_bits(dirty):
        found = found or [words.next_page(dirty)]
        yield f"{FAILS}the pages found are {found[:8]}{' ...' if len(found) > 8 else ''}"


def _pairs_of_words() -> Iterator[tuple[int, int, int]]:
    return product(TELLING_WORDS, TELLING_WORDS, TELLING_WORDS)


def _bits() -> Cases:
    for cache, host, mask in _pairs_of_words():
        for at in (0, 1, 63):
            yield {"cache": cache, "host": host, "mask": mask, "at": at}


@scenario(_bits)
def one_bit(cache: int, host: int, mask: int, at: int) -> Lines:
    """One page: copied if dirty in either, counted as both if in both, cleared if flushed."""
    in_cache, in_host, flushed = (bool(word >> at & 1) for word in (cache, host, mask))
    yield f"page {at}: cache-dirty {in_cache}, host-dirty {in_host}, flushed {flushed}"
    copied = bool(words.either(cache, host) >> at & 1)
    both = bool(words.both(cache, host) >> at & 1)
    left = bool(words.cleared(cache, mask) >> at & 1)
    yield f"copied {copied}, both {both}, cache-dirty after it {left}"
    if (copied, both, left) != (
        in_cache or in_host,
        in_cache and in_host,
        in_cache and not flushed,
    ):
        yield f"{FAILS}that is wrong"


def _counters() -> Cases:
    return ({"cache": c, "host": h, "mask": m} for c, h, m in _pairs_of_words())


@scenario(_counters)
def counters(cache: int, host: int, mask: int) -> Lines:
    """The counts of a word: a page counts once for each bitmap it is in."""
    ones = words.population
    copied, both = ones(words.either(cache, host) & mask), ones(words.both(cache, host) & mask)
    yield f"copied {copied}, both {both}, cache {ones(cache & mask)}, host {ones(host & mask)}"
    rest = words.without_next(cache) & words.ALL_PAGES
    yield f"cache {ones(cache)} before, {ones(rest)} after a page is taken off"
    if copied + both != ones(cache & mask) + ones(host & mask):
        yield f"{FAILS}copied and both do not make cache and host"
    elif cache and ones(rest) != ones(cache) - 1:
        yield f"{FAILS}the count does not go down by one"


@scenario(lambda: ({"page": page} for page in (0, 1, 62, 63, 64, 65, 127, 128, 1000)))
def one_page(page: int) -> Lines:
    """A page's word and bit."""
    word, bit = words.word_of(page), words.bit_of(page)
    yield f"page {page} is bit {bit} of word {word}"
    if word * 64 + bit != page or not 0 <= bit < 64:
        yield f"{FAILS}that is page {word * 64 + bit}"


def _small_words() -> Cases:
    windows = ((0, 64), (0, 1), (1, 63), (2, 64), (63, 64))
    for cache, host, (first, last) in product(TELLING_WORDS, TELLING_WORDS, windows):
        for others in (0, words.ALL_PAGES):
            yield {
                "cache": cache,
                "host": host,
                "first": first,
                "last": last,
                "differs": (cache | host) & others,
            }


@scenario(_small_words)
def word_flush(cache: int, host: int, first: int, last: int, differs: int) -> Lines:
    """A worker flushes one word; ``differs`` are the pages that differ from the checkpoint.

    At each step every page that differs must be marked; at the end the window's pages are copied
    and clear, and nothing else has changed.
    """
    yield f"cache-dirty {bits_text(cache)}, host-dirty {bits_text(host)}, pages [{first}, {last})"
    before = cache, host
    mask = sum(1 << bit for bit in BITS if first <= bit < last)
    states = kernel.flush_words(Memory((cache,), (host,), (0,)), 0, 1, first, last)
    for _, (memory, me) in zip(range(2 * 64 + 5), states, strict=False):
        (cache,), (host,), (copied,) = memory
        unmarked = differs & ~copied & ~(cache | host)
        yield _state(memory, me)
        if unmarked:
            yield f"{FAILS}pages {bits_text(unmarked)} differ from the checkpoint and are not marked"
            return
    wanted = (before[0] & ~mask, before[1] & ~mask, (before[0] | before[1]) & mask)
    counts = tuple(
        words.population(bits & mask)
        for bits in (before[0] | before[1], before[1], before[0], before[0] & before[1])
    )
    if (cache, host, copied) != wanted or me.word != 1:
        yield f"{FAILS}cache-dirty, host-dirty, copied should be {', '.join(map(bits_text, wanted))}"
    elif me[-4:] != counts:
        yield f"{FAILS}counted as copied, host-dirty, cache-dirty, both: {me[-4:]}, not {counts}"


def _state(memory: Memory, me: Worker) -> str:
    at = kernel.STEPS[me.step] if me.step < len(kernel.STEPS) else f"step {me.step}"
    cache, host, copied = (bits_text(array[0]) for array in memory)
    return f"cache-dirty {cache}, host-dirty {host}, copied {copied}; next: {at} of word {me.word}"


def _pages_of_a_block() -> Cases:
    blocks = ((0, 70), (3, 61), (3, 62), (60, 70), (64, 64), (127, 1))
    for (first, used), lower in product(blocks, (0, 64)):
        for page in {0, 60 % used, used - 1}:
            for cache, host in ((1, 0), (0, 1), (1, 1), (0, 0)):
                if lower <= first + page:
                    yield {
                        **{
                            "lower": lower,
                            "upper": 192,
                            "first": first,
                            "used": used,
                            "page": page,
                        },
                        "cache_dirty": bool(cache),
                        "host_dirty": bool(host),
                    }


@scenario(_pages_of_a_block)
def page_of_a_block(
    lower: int,
    upper: int,
    first: int,
    used: int,
    page: int,
    cache_dirty: bool,
    host_dirty: bool,
) -> Lines:
    """A worker flushes a block in its range of bits; every page about is as dirty as this one.

    Each must be as the spec says if it is the block's and in the range, and as it was if it is not.
    """
    end = words.word_of(first + used + 63)
    yield f"a worker has bits [{lower}, {upper}); a block of {used} pages from bit {first}"
    yield f"page {page}: cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    memory = Memory(
        (words.ALL_PAGES * cache_dirty,) * end, (words.ALL_PAGES * host_dirty,) * end, (0,) * end
    )
    if shares.in_reach(first, used, lower, upper):
        start, limit = shares.clip(first, used, lower, upper)
        window = first + start, first + limit
        begin, stop = words.word_of(window[0]), words.word_of(window[1] + 63)
        yield f"it flushes pages [{start}, {limit}) of the block, in words [{begin}, {stop})"
        states = kernel.flush_words(memory, begin, min(stop, end), *window)
        for memory, _ in islice(states, 70 * (stop - begin + 1)):  # noqa: B007
            pass
    before = Page("its own", cache_dirty, host_dirty)
    flushed = page_after(before, "the primary's")
    for bit in range(64 * end):
        index, place = words.word_of(bit), words.bit_of(bit)
        cache, host, copied = (array[index] >> place & 1 == 1 for array in memory)
        after = Page("the primary's" if copied else "its own", cache, host)
        mine = max(first, lower) <= bit < min(first + used, upper)
        wanted = flushed if mine else before
        if after != wanted:
            yield f"the page of bit {bit} is {after}"
            yield f"{FAILS}it should be {wanted}"
            return


@scenario(lambda: iter(()))
def flushed_again(cache: int, host: int, copied: int, differs: int) -> Lines:
    """A flush has stopped with these words and pages copied; another one is run from the start."""
    yield f"left: cache-dirty {bits_text(cache)}, host-dirty {bits_text(host)}"
    yield f"copied {bits_text(copied)} of the pages {bits_text(differs)} that differ"
    *_, (memory, _) = kernel.flush_words(Memory((cache,), (host,), (copied,)), 0, 1, 0, 64)
    yield f"flushed again: copied {bits_text(memory.copied[0])}"
    wrong = differs & ~memory.copied[0]
    if wrong or memory.cache[0] or memory.host[0]:
        yield f"{FAILS}pages {bits_text(wrong)} still differ from the checkpoint"


def _two_words() -> Cases:
    for cache, step, other_step in product((3, words.ALL_PAGES), range(5), range(5)):
        yield {
            "cache": [cache, cache],
            "host": [1, 2],
            "copied": [0, 0],
            "one": [step, 0, 0, 128, cache, 1, cache],
            "other": [other_step, 1, 0, 128, cache, 2, cache],
        }


@scenario(_two_words)
def two_orders(
    cache: list[int], host: list[int], copied: list[int], one: list[int], other: list[int]
) -> Lines:
    """A step of one worker and a step of another, in both orders: is the outcome the same?

    A worker is [step, word, first, last, cache, host, pages to copy].
    """
    memory = Memory(tuple(cache), tuple(host), tuple(copied))
    first, second = Worker(*one), Worker(*other)
    yield f"one is to {kernel.STEPS[first.step]} of word {first.word}: {_seen(memory)}"
    yield f"the other is to {kernel.STEPS[second.step]} of word {second.word}"
    between, first_after = kernel.turn(memory, first)
    one_then_other = (*kernel.turn(between, second), first_after)
    yield f"one, then the other: {_seen(one_then_other[0])}"
    between, second_after = kernel.turn(memory, second)
    after, first_after = kernel.turn(between, first)
    yield f"the other, then one: {_seen(after)}"
    if one_then_other != (after, second_after, first_after):
        yield f"{FAILS}the outcome depends on the order"


@scenario(lambda: iter(()))
def lost_update(cache: int, host: int, one: list[int], other: list[int]) -> Lines:
    """Two workers on one word, each with its window [first, last): some interleaving loses an update.

    Every interleaving is tried; the first that does not end as one worker after the other does is told.
    """
    yield f"cache-dirty {bits_text(cache)}, host-dirty {bits_text(host)}; windows {one}, {other}"
    memory = Memory((cache,), (host,), (0,))
    workers = kernel.starting(0, *one), kernel.starting(0, *other)
    serial: Memory | None = None
    unfinished = [(memory, workers, "")]
    while unfinished:
        memory, workers, schedule = unfinished.pop()
        moving = [number for number, worker in enumerate(workers) if worker.word == 0]
        if not moving:
            serial = serial or memory
            if memory != serial:
                yield f"one after the other: {_seen(serial)}"
                yield f"in the order {schedule}: {_seen(memory)}"
                yield f"{FAILS}a bit that had been cleared is set again"
                return
        for number in moving:
            after, moved = kernel.turn(memory, workers[number])
            both = (moved, workers[1]) if number == 0 else (workers[0], moved)
            unfinished.append((after, both, schedule + "12"[number]))


def _seen(memory: Memory) -> str:
    return ", ".join(
        f"{name} {[f'{word:#x}' for word in array]}"
        for name, array in zip(memory._fields, memory, strict=True)
    )
