"""Workers that flush words, alone and together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, product

from model import shares, words
from model import worker as kernel
from model.explore.catalogue import lines_of
from model.explore.search import explore
from model.flush import Page, page_after
from model.page.picture import Instruction, Picture, Place, drawn, words_of
from model.protocols.flush_workers import WordWindow, static_flush
from model.scenarios.registry import FAILS, Lines, Rows, scenario
from model.scenarios.words import BITS, TELLING_WORDS, bits_text
from model.transitions import Invariant
from model.worker import Memory, Worker


def _small_words() -> Rows:
    windows = ((0, 64), (0, 1), (1, 63), (2, 64), (63, 64))
    for cache, host, (first, last) in product(TELLING_WORDS, TELLING_WORDS, windows):
        for others in (0, words.ALL_PAGES):
            yield cache, host, first, last, (cache | host) & others


@scenario(_small_words)
def word_flush(cache: int, host: int, first: int, last: int, differs: int) -> Lines:
    """A worker flushes one word; ``differs`` are the pages that differ from the checkpoint.

    At each step every page that differs must be marked; at the end the window's pages are copied
    and clear, and nothing else has changed.
    """
    window = {"the window": (first, last)}
    text = f"cache-dirty {bits_text(cache)}, host-dirty {bits_text(host)}, pages [{first}, {last})"
    yield drawn(text, Picture(64, {"cache-dirty": (cache,), "host-dirty": (host,)}, window))
    before = cache, host
    mask = sum(1 << bit for bit in BITS if first <= bit < last)
    states = kernel.flush_words(Memory((cache,), (host,), (0,)), 0, 1, first, last)
    for _, (memory, me) in zip(range(2 * 64 + 5), states, strict=False):
        (cache,), (host,), (copied,) = memory
        unmarked = differs & ~copied & ~(cache | host)
        shown = _picture(memory, {"worker": me}, {"differs": (differs,)}, window)
        yield drawn(_state(memory, me), shown)
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


def _picture(
    memory: Memory,
    workers: Mapping[str, Worker],
    bitmaps: Mapping[str, Sequence[int]] | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
) -> Picture:
    """Both bitmaps, what has been copied, and where each worker stands in its program."""
    cache, host, copied = memory
    return Picture(
        pages=64 * len(cache),
        bitmaps={"cache-dirty": cache, "host-dirty": host, "copied": copied, **(bitmaps or {})},
        ranges=dict(ranges or {}),
        processes={name: _place(worker) for name, worker in workers.items()},
        program=_PROGRAM,
    )


def _place(me: Worker) -> Place:
    loaded = {name: f"{value:#x}" for name, value in me._asdict().items() if name in _LOADED}
    return Place(str(me.step), {"word": str(me.word), **loaded})


_LOADED = ("cache", "host", "to_copy")
_PROGRAM = tuple(
    Instruction(str(step), text, kernel.step) for step, text in enumerate(kernel.STEPS)
)


def _pages_of_a_block() -> Rows:
    blocks = ((0, 70), (3, 61), (3, 62), (60, 70), (64, 64), (127, 1))
    for (first, used), lower in product(blocks, (0, 64)):
        for page in {0, 60 % used, used - 1}:
            for cache, host in ((True, False), (False, True), (True, True), (False, False)):
                if lower <= first + page:
                    yield lower, 192, first, used, page, cache, host


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
    ranges = {"the worker's range": (lower, upper), "the block": (first, first + used)}
    yield f"a worker has bits [{lower}, {upper}); a block of {used} pages from bit {first}"
    yield f"page {page}: cache-dirty {cache_dirty}, host-dirty {host_dirty}"
    memory = Memory(
        (words.ALL_PAGES * cache_dirty,) * end, (words.ALL_PAGES * host_dirty,) * end, (0,) * end
    )
    if shares.in_reach(first, used, lower, upper):
        start, limit = shares.clip(first, used, lower, upper)
        window = first + start, first + limit
        begin, stop = words.word_of(window[0]), words.word_of(window[1] + 63)
        ranges |= {"the window": window}
        text = f"it flushes pages [{start}, {limit}) of the block, in words [{begin}, {stop})"
        yield drawn(text, _picture(memory, {}, ranges=ranges))
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
            shown = _picture(memory, {}, {"this page": words_of([bit], end)}, ranges)
            yield drawn(f"the page of bit {bit} is {after}", shown)
            yield f"{FAILS}it should be {wanted}"
            return


@scenario()
def flushed_again(cache: int, host: int, copied: int, differs: int) -> Lines:
    """A flush has stopped with these words and pages copied; another one is run from the start."""
    memory: Memory = Memory((cache,), (host,), (copied,))
    unlike = {"differs": (differs,)}
    left = f"left: cache-dirty {bits_text(cache)}, host-dirty {bits_text(host)}"
    yield drawn(left, _picture(memory, {}, unlike))
    yield f"copied {bits_text(copied)} of the pages {bits_text(differs)} that differ"
    *_, (memory, _) = kernel.flush_words(memory, 0, 1, 0, 64)
    text = f"flushed again: copied {bits_text(memory.copied[0])}"
    yield drawn(text, _picture(memory, {}, unlike))
    wrong = differs & ~memory.copied[0]
    if wrong or memory.cache[0] or memory.host[0]:
        yield f"{FAILS}pages {bits_text(wrong)} still differ from the checkpoint"


def _two_words() -> Rows:
    for cache, step, other_step in product((3, words.ALL_PAGES), range(5), range(5)):
        one = [step, 0, 0, 128, cache, 1, cache, 0, 0, 0, 0]
        other = [other_step, 1, 0, 128, cache, 2, cache, 0, 0, 0, 0]
        yield [cache, cache], [1, 2], [0, 0], one, other


@scenario(_two_words)
def two_orders(
    cache: list[int], host: list[int], copied: list[int], one: list[int], other: list[int]
) -> Lines:
    """A step of one worker and a step of another, in both orders: is the outcome the same?

    A worker is [step, word, first, last, cache, host, pages to copy, and its four counts].
    """
    memory = Memory(tuple(cache), tuple(host), tuple(copied))
    first, second = Worker(*one), Worker(*other)
    text = f"one is to {kernel.STEPS[first.step]} of word {first.word}: {_seen(memory)}"
    yield drawn(text, _picture(memory, {"one": first, "the other": second}))
    yield f"the other is to {kernel.STEPS[second.step]} of word {second.word}"
    between, first_after = kernel.step(memory, first)
    one_then_other = (*kernel.step(between, second), first_after)
    ended = {"one": first_after, "the other": one_then_other[1]}
    text = f"one, then the other: {_seen(one_then_other[0])}"
    yield drawn(text, _picture(one_then_other[0], ended))
    between, second_after = kernel.step(memory, second)
    after, first_after = kernel.step(between, first)
    ended = {"one": first_after, "the other": second_after}
    yield drawn(f"the other, then one: {_seen(after)}", _picture(after, ended))
    if one_then_other != (after, second_after, first_after):
        yield f"{FAILS}the outcome depends on the order"


@scenario()
def lost_update(cache: int, host: int, one: list[int], other: list[int]) -> Lines:
    """Two workers on one word, each with its window [first, last): some interleaving loses an update.

    Told is a shortest interleaving that does not end as one worker after the other does.
    """
    windows = WordWindow(0, one[0], one[1]), WordWindow(0, other[0], other[1])
    *_, (after_one, _) = kernel.flush_words(Memory((cache,), (host,), (0,)), 0, 1, *one)
    *_, (serial, _) = kernel.flush_words(after_one, 0, 1, *other)
    as_serial = Invariant(
        "the word is as one worker and then the other leave it",
        lambda at, me: Memory(*at[:3]) == serial,
    )
    flush = static_flush([cache], [host], [[window] for window in windows])
    steps = {pc: step._replace(invariants=()) for pc, step in flush.steps.items()}
    steps["return"] = flush.steps["return"]._replace(invariants=(as_serial,))
    both = replace(flush, steps=steps)
    yield f"windows {one} and {other} of one word; one, then the other: {_seen(serial)}"
    failure = explore(both).failure
    if failure:
        yield from lines_of(both, failure.schedule)


def _seen(memory: Memory) -> str:
    return ", ".join(
        f"{name} {[f'{word:#x}' for word in array]}"
        for name, array in zip(memory._fields, memory, strict=True)
    )
