"""A worker's way through a range of bitmap words, one access to memory at a time.

This is the order of our flush (``impl/kernels/flush.py``): load both words, copy every page that is dirty
in either, and only then store both words with the window's bits clear. So at every instant each page that
differs from the checkpoint is marked, and a flush that stops anywhere is finished by flushing again.

:func:`step` is read in Python, where an array of words is a tuple, and in z3.
"""

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from model.domain import select
from model.words import both, cleared, either, population, window_mask, without_next

Word: TypeAlias = int
Truth: TypeAlias = bool
Words: TypeAlias = tuple[int, ...]

# What the records below are made of: words and arrays of words of whichever domain they are lifted to.
W = TypeVar("W")
A = TypeVar("A")

ZERO = 0
ONE = 1

# The steps of a worker, one access to shared memory each. At LOAD_CACHE it is about to begin a word.
LOAD_CACHE, LOAD_HOST, COPY, STORE_CACHE, STORE_HOST = range(5)
STEPS = ("load cache", "load host", "copy", "store cache", "store host")


class MemoryOf(NamedTuple, Generic[A]):
    """What workers share: the two bitmaps, and as a third one which pages have been copied."""

    cache: A
    host: A
    copied: A


class WorkerOf(NamedTuple, Generic[W]):
    """A worker that flushes the pages ``[first, last)``, at work on bitmap word ``word``.

    ``cache`` and ``host`` are the words as it has loaded them, ``to_copy`` the pages it has yet to
    copy of this word. The last four count the pages of the words behind it, as a flush reports them.
    """

    step: W
    word: W
    first: W
    last: W
    cache: W
    host: W
    to_copy: W
    copied: W
    host_dirty: W
    cache_dirty: W
    both_dirty: W


# In Python; over terms of z3 they are others.
Memory: TypeAlias = MemoryOf[Words]
Worker: TypeAlias = WorkerOf[Word]


def starting(word: Word, first: Word, last: Word) -> Worker:
    """A worker about to begin with a word."""
    return WorkerOf(LOAD_CACHE, word, first, last, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)


def step(memory: Memory, me: Worker) -> tuple[Memory, Worker]:
    """One step of a worker: what memory and the worker are after it."""
    return memory_after(memory, me), worker_after(memory, me)


def memory_after(memory: Memory, me: Worker) -> Memory:
    """Memory after the step."""
    mask = window_mask(me.word, me.first, me.last)
    page = me.to_copy & ~without_next(me.to_copy)
    return MemoryOf(
        cache=stored_if(me.step == STORE_CACHE, memory.cache, me.word, cleared(me.cache, mask)),
        host=stored_if(me.step == STORE_HOST, memory.host, me.word, cleared(me.host, mask)),
        copied=stored_if(
            me.step == COPY, memory.copied, me.word, either(loaded(memory.copied, me.word), page)
        ),
    )


def worker_after(memory: Memory, me: Worker) -> Worker:
    """The worker after the step."""
    mask = window_mask(me.word, me.first, me.last)
    cache = select(me.step == LOAD_CACHE, loaded(memory.cache, me.word), me.cache)
    host = select(me.step == LOAD_HOST, loaded(memory.host, me.word), me.host)
    found = select(me.step == LOAD_HOST, either(cache, host) & mask, me.to_copy)
    to_copy = select(me.step == COPY, without_next(me.to_copy), found)
    step = following(me.step, to_copy)
    copied, host_dirty, cache_dirty, both_dirty = counts(me.cache, me.host, mask)
    done = me.step == STORE_HOST
    return WorkerOf(
        step=step,
        word=select(step == LOAD_CACHE, me.word + ONE, me.word),
        first=me.first,
        last=me.last,
        cache=cache,
        host=host,
        to_copy=to_copy,
        copied=me.copied + select(done, copied, ZERO),
        host_dirty=me.host_dirty + select(done, host_dirty, ZERO),
        cache_dirty=me.cache_dirty + select(done, cache_dirty, ZERO),
        both_dirty=me.both_dirty + select(done, both_dirty, ZERO),
    )


def counts(cache: Word, host: Word, mask: Word) -> tuple[Word, Word, Word, Word]:
    """What a word adds to the four counts: the pages copied; host-dirty; cache-dirty; dirty in both."""
    return (
        population(either(cache, host) & mask),
        population(host & mask),
        population(cache & mask),
        population(both(cache, host) & mask),
    )


def left_dirty(dirty_pages: Word, cache_dirty: Word) -> Word:
    """The dirty count after a flush whose workers together have cleared ``cache_dirty`` cache bits."""
    return dirty_pages - cache_dirty


def following(step: Word, to_copy: Word) -> Word:
    """The order of the steps: clear after the copy."""
    copy_or_store = select(to_copy == ZERO, STORE_CACHE, COPY)
    after_load = select(step == LOAD_CACHE, LOAD_HOST, copy_or_store)
    after_store = select(step == STORE_CACHE, STORE_HOST, LOAD_CACHE)
    return select(step < STORE_CACHE, after_load, after_store)


def stored_if(condition: Truth, words: Words, index: Word, value: Word) -> Words:
    """``words`` with ``value`` stored at ``index``, if ``condition``."""
    return select(condition, stored(words, index, value), words)


# The domain's primitives, here on Python's tuples.


def loaded(words: Words, index: Word) -> Word:
    """The word at ``index``."""
    return words[index]


def stored(words: Words, index: Word, value: Word) -> Words:
    """The array with the word at ``index`` replaced."""
    return (*words[:index], value, *words[index + ONE :])


# In Python only.


def flush_words(
    memory: Memory, first_word: int, end_word: int, first: int, last: int
) -> Iterator[tuple[Memory, Worker]]:
    """Every state of one worker's flush of the words ``[first_word, end_word)``, the start included."""
    me = starting(first_word, first, last)
    yield memory, me
    while me.word < end_word:
        memory, me = step(memory, me)
        yield memory, me
