"""Our flush, word at a time: what one worker does to each word, for a range of any length.

The invariant is about one arbitrary word, so it holds for all of them. Nothing in it depends on what
happens to other words; ``interleaving`` and ``restart`` rest on that.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

from model import words
from model import worker as kernel
from model.worker import (
    COPY,
    LOAD_CACHE,
    LOAD_HOST,
    STEPS,
    STORE_CACHE,
    STORE_HOST,
    MemoryOf,
    WorkerOf,
)
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Truth, Word, Words, every, implies, one, word
from proofs.words import bit

Memory: TypeAlias = MemoryOf[Words]
Worker: TypeAlias = WorkerOf[Word]

MOST_WORDS = 2**58


class WordBefore(NamedTuple):
    """A word of the bitmaps before the flush, and the pages of it that are to be flushed.

    ``window`` are the first page and the last that its worker was given; ``copied`` the pages of it
    that have been copied before, on visits for other blocks.
    """

    cache: Word
    host: Word
    mask: Word
    window: tuple[Word, Word]
    copied: Word = word(0)

    @property
    def dirty(self) -> Word:
        """The pages to copy."""
        return (self.cache | self.host) & self.mask


class WordNow(NamedTuple):
    """A word of memory now."""

    cache: Word
    host: Word
    copied: Word


def at(memory: Memory, index: Word) -> WordNow:
    """The words at an index."""
    return WordNow(memory.cache[index], memory.host[index], memory.copied[index])


def untouched(now: WordNow, before: WordBefore) -> Truth:
    """Nothing has been done to the word."""
    return every(now.cache == before.cache, now.host == before.host, now.copied == before.copied)


def flushed(now: WordNow, before: WordBefore) -> Truth:
    """The word is as a flush leaves it."""
    return every(
        now.copied == before.copied | before.dirty,
        now.cache == before.cache & ~before.mask,
        now.host == before.host & ~before.mask,
    )


def in_progress(now: WordNow, me: Worker, before: WordBefore) -> Truth:
    """What holds of the word that a worker is at work on, at each of its steps."""
    unstored = (now.cache == before.cache) & (now.host == before.host)
    has_cache = me.cache == before.cache
    has_both = has_cache & (me.host == before.host)
    all_copied = now.copied == before.copied | before.dirty
    return every(
        me.step <= STORE_HOST,
        implies(me.step == LOAD_CACHE, untouched(now, before)),
        implies(me.step == LOAD_HOST, untouched(now, before) & has_cache),
        implies(
            me.step == COPY,
            every(
                unstored,
                has_both,
                me.to_copy != 0,
                now.copied == before.copied | (before.dirty & ~me.to_copy),
                me.to_copy & ~before.dirty == 0,
            ),
        ),
        implies(
            me.step == STORE_CACHE,
            unstored & has_both & all_copied & (me.to_copy == 0),
        ),
        implies(
            me.step == STORE_HOST,
            every(
                now.cache == before.cache & ~before.mask,
                now.host == before.host,
                has_both,
                all_copied,
                me.to_copy == 0,
            ),
        ),
    )


def flushing(memory: Memory, me: Worker, index: Word, begun_at: Word, before: WordBefore) -> Truth:
    """The invariant: words behind the worker are flushed, its own is in progress, the rest untouched.

    And the worker still has the window that it was given, by which all of this is meant.
    """
    now = at(memory, index)
    first, last = before.window
    behind = (begun_at <= index) & (index < me.word)
    return every(
        begun_at <= me.word,
        (me.first == first) & (me.last == last),
        implies(behind, flushed(now, before)),
        implies(index == me.word, in_progress(now, me, before)),
        implies(~behind & (index != me.word), untouched(now, before)),
    )


def a_memory(p: Proof) -> Memory:
    """Any memory."""
    return Memory(*p.word_arrays("cache_bitmap host_bitmap copied"))


def a_worker(p: Proof, name: str) -> Worker:
    """A worker in any state."""
    return Worker(*p.words(" ".join(f"{name}_{field}" for field in Worker._fields)))


def word_before(p: Proof, index: Word) -> WordBefore:
    """A word before the flush, and any window of it."""
    cache, host, first, last, copied = p.words("cache host first last copied_before")
    mask = p.lift_words(words.window_mask)(index, first, last)
    return WordBefore(cache, host, mask, (first, last), copied)


def each_step_preserves_it(
    p: Proof, memory: Memory, me: Worker, index: Word, begun_at: Word, was: WordBefore
) -> None:
    """The invariant holds after each step of the worker if it did before."""
    memory_after, after = p.lift_words(kernel.step)(memory, me)
    kept = flushing(memory_after, after, index, begun_at, was)
    with p.case():
        p.assume("another word", index != me.word)
        p.prove("another word is left alone", kept)
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("its own word", index == me.word, me.step == step)
            p.prove(f"the invariant is preserved by: {name}", kept)
    p.prove("each step preserves the invariant", kept)


@claim(
    faulty("clears too much", refutes="the invariant is preserved by: store cache"),
    faulty("copies what is in both", refutes="the invariant is preserved by: load host"),
    faulty("clear before copy", refutes="the invariant is preserved by: load host"),
    faulty("the window turns round", refutes="another word is left alone"),
)
def a_range_of_words_is_flushed(p: Proof) -> None:
    """Word by word, a worker copies what is dirty in its window in either bitmap and clears both there.

    For any range of words, any window, any bitmaps; page by page it is what the patch's walk leaves
    (``walk.a_window_is_flushed``).
    """
    memory, me = a_memory(p), a_worker(p, "me")
    index, begun_at, end, position = p.words("index begun_at end position")
    was = word_before(p, index)
    first, last = was.window
    p.scenario("word flush", cache=was.cache, host=was.host, first=first, last=last, differs=0)
    starting = p.lift_words(kernel.starting)
    with p.case():
        p.assume("nothing is done", untouched(at(memory, index), was))
        start = Worker(*map(word, starting(begun_at, first, last)))
        p.prove("it holds at the start", flushing(memory, start, index, begun_at, was))
    p.assume("between two steps", flushing(memory, me, index, begun_at, was))
    p.assume("words are left", me.word < end, end <= MOST_WORDS)
    p.prefer(index == 0, me.word == 0, begun_at == 0)
    memory_after, after = p.lift_words(kernel.step)(memory, me)
    each_step_preserves_it(p, memory, me, index, begun_at, was)
    p.prove(
        "each step goes forward",
        (after.word > me.word)
        | every(
            after.word == me.word,
            (after.step > me.step) | ((after.step == COPY) & (after.to_copy < me.to_copy)),
        ),
    )
    p.assume("the end", after.word >= end, begun_at <= index, index < end)
    p.prove("at the end every word is flushed", flushed(at(memory_after, index), was))
    p.lemma(
        "page by page it is what the walk leaves",
        partial(as_the_walk, p),
        *(was.cache, was.host, was.cache, was.host, was.cache),
        *(index, first, last, position),
    )


def as_the_walk(p: Proof, *words_of_it: Word) -> Truth:
    """A flushed word, page by page, is as ``proofs.walk.flushed`` says of a bitmap."""
    cache, host, *there, index, first, last, position = words_of_it
    now = WordNow(*there)
    mask = p.lift_words(words.window_mask)(index, first, last)
    page = index * 64 + position
    inside = (first <= page) & (page < last)
    in_cache, in_host = bit(cache, position), bit(host, position)
    return implies(
        flushed(now, WordBefore(cache, host, mask, (first, last)))
        & (index < MOST_WORDS)
        & (position < 64),
        every(
            bit(now.copied, position) == ((in_cache | in_host) & inside),
            bit(now.cache, position) == (in_cache & ~inside),
            bit(now.host, position) == (in_host & ~inside),
        ),
    )


def sums_so_far(p: Proof) -> dict[str, Words]:
    """For each word, the sums of the four counts over the words before it."""
    names = ("copied", "host_dirty", "cache_dirty", "both_dirty")
    return dict(zip(names, p.word_arrays(" ".join(f"{name}_sums" for name in names)), strict=True))


@claim(
    faulty("counted beyond the window", refutes="a step counts right: store host"),
)
def the_counts_are_of_the_words_done(p: Proof) -> None:
    """A worker's four counts are the sums, over the words behind it, of what each has in the window."""
    memory, me = a_memory(p), a_worker(p, "me")
    was, sums = word_before(p, me.word), sums_so_far(p)
    first, last = was.window
    p.scenario("word flush", cache=was.cache, host=was.host, first=first, last=last, differs=0)
    pages = was.cache | was.host, was.host, was.cache, was.cache & was.host
    for sum_before, counted_here in zip(sums.values(), pages, strict=True):
        of_this = p.lift_words(words.population)(counted_here & was.mask)
        p.assume("sums", sum_before[me.word + 1] == sum_before[me.word] + of_this)

    def counted(worker: Worker) -> Truth:
        return every(*(getattr(worker, name) == sums[name][worker.word] for name in sums))

    with p.case():
        start = Worker(*map(word, p.lift_words(kernel.starting)(me.word, first, last)))
        p.assume("nothing before the first word", *(s[me.word] == 0 for s in sums.values()))
        p.prove("none at the start", counted(start))
    p.assume("at work on a word", in_progress(at(memory, me.word), me, was))
    p.assume("in its window", me.first == first, me.last == last)
    p.assume("counted so far", counted(me))
    _, after = p.lift_words(kernel.step)(memory, me)
    for step, name in enumerate(STEPS):
        p.prove(f"a step counts right: {name}", implies(me.step == step, counted(after)))


@claim(
    faulty("clears too much", refutes="bit by bit: cleared or left"),
)
def the_dirty_count_stays_right(p: Proof) -> None:
    """What a flush takes off the dirty count for a word is what it has cleared of its cache bits.

    So if the count was the number of set cache bits it is that again, whatever the number of words;
    and zero if every word has been flushed whole.
    """
    cache, mask = p.words("cache mask")
    dirty_pages, others = p.naturals("dirty_pages others")
    p.scenario(
        "word flush", cache=cache, host=word(0), first=word(0), last=word(1), differs=word(0)
    )
    p.prefer(mask == 1)
    ones = p.lift(words.population)
    left = p.lift(words.cleared)(cache, mask)
    p.prove(
        "bit by bit: cleared or left",
        *(one(cache & mask, b) + one(left, b) == one(cache, b) for b in range(64)),
    )
    _, _, cleared, _ = p.lift(kernel.counts)(cache, word(0), mask)
    p.assume("right before the word", dirty_pages == others + ones(cache))
    now = p.lift(kernel.left_dirty)(dirty_pages, cleared)
    p.prove("right after it", now == others + ones(left))


@claim(
    faulty("a bit stays", refutes="only pages not yet copied"),
)
def each_page_is_copied_once(p: Proof) -> None:
    """Each step copies at most one page, a dirty one of the window that has not been copied before."""
    memory, me = a_memory(p), a_worker(p, "me")
    was = word_before(p, me.word)
    first, last = was.window
    p.scenario("word flush", cache=was.cache, host=was.host, first=first, last=last, differs=0)
    p.assume("at work on a word", in_progress(at(memory, me.word), me, was))
    p.assume("in its window", me.first == first, me.last == last)
    p.assume("none of it has been copied before", was.copied & was.dirty == 0)
    memory_after, _ = p.lift_words(kernel.step)(memory, me)
    already, now = memory.copied[me.word], memory_after.copied[me.word]
    new = now & ~already
    p.prove("only pages not yet copied", now == already | new, implies(me.step == COPY, new != 0))
    p.prove("at most one", new & (new - 1) == 0)
    p.prove("a dirty page of the window", new & ~was.dirty == 0)


@claim(
    faulty("counted beyond the window", refutes="the sum so far is the size of the set so far"),
)
def the_sums_are_the_sizes_of_the_sets(p: Proof) -> None:
    """Over all words the four counts come out as ``model/flush.py`` says: how many pages each set has.

    ``size[k]`` is how many pages of a set are below page k. From word to word its sum keeps up with it.
    """
    cache, host, mask = p.words("cache host mask")
    (index,) = p.naturals("index")
    p.scenario("word flush", cache=cache, host=host, first=word(0), last=word(1), differs=word(0))
    p.prefer(mask == 1)
    counts = p.lift(kernel.counts)(cache, host, mask)
    sets = cache | host, host, cache, cache & host
    sums = p.sequences("copied_sum host_dirty_sum cache_dirty_sum both_dirty_sum")
    sizes = p.sequences("copied_size host_dirty_size cache_dirty_size both_dirty_size")
    for counted, pages, so_far, size in zip(counts, sets, sums, sizes, strict=True):
        for bit_number in range(64):
            page = 64 * index + bit_number
            p.assume(
                "the size of a set", size[page + 1] == size[page] + one(pages & mask, bit_number)
            )
        p.assume("the sum of the counts", so_far[index + 1] == so_far[index] + counted)
        p.assume("up to this word", so_far[index] == size[64 * index])
    p.prove(
        "the sum so far is the size of the set so far",
        *(
            so_far[index + 1] == size[64 * (index + 1)]
            for so_far, size in zip(sums, sizes, strict=True)
        ),
    )
