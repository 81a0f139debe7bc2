"""The workers of a flush as small steps, those of ``model.worker``: any number of them on one memory.

For :mod:`model.explore`. A worker flushes *windows*, each the part of one bitmap word that is
its own: those dealt to it (the patch's static shares), then words taken off a shared cursor while
there are any. Bitmap words are loaded and stored plainly, so no two workers may meet in a word;
here they can be made to.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from model import worker
from model.ram import PAGES_PER_WORD
from model.transitions import ENDED, Invariant, Step, System, step
from model.words import both, either, next_page, population
from model.worker import COPY, LOAD_CACHE, STEPS, Memory, starting


class WordWindow(NamedTuple):
    """Bits ``[first, last)`` of the bitmaps, all in bitmap word ``word``."""

    word: int
    first: int
    last: int


class Ram(NamedTuple):
    """Shared memory: ``model.worker.Memory``, the dirty count, the cursor, how many are at work.

    ``counted``: the four counts of the workers that have finished, added up; only invariants read it.
    """

    cache: tuple[int, ...]
    host: tuple[int, ...]
    copied: tuple[int, ...]
    dirty_pages: int
    cursor: int
    working: int
    counted: tuple[int, ...] = (0, 0, 0, 0)


class Process(NamedTuple):
    """A worker, at work on ``windows[0]``; or the caller, which waits. ``clean`` is a count loaded."""

    pc: Hashable
    windows: tuple[WordWindow, ...] = ()
    me: worker.Worker = starting(0, 0, 0)
    clean: int = 0


After = tuple[Ram, Process]
ONCE = "each dirty page is copied exactly once"


def take_step(at: Ram, process: Process) -> After:
    """The worker's own step, as it is proved; behind a word it goes on to the next window."""
    memory, me = worker.step(Memory(at.cache, at.host, at.copied), process.me)
    after = at._replace(**memory._asdict())
    if me.word == process.me.word:
        return after, process._replace(pc=("flush", me.step), me=me)
    return after, _sent_to(process.windows[1:], me)


def _sent_to(windows: tuple[WordWindow, ...], me: worker.Worker) -> Process:
    """The worker, its counts kept, about to begin with the first of these windows."""
    begun = starting(*windows[0]) if windows else starting(0, 0, 0)
    counted = begun._replace(
        copied=me.copied,
        host_dirty=me.host_dirty,
        cache_dirty=me.cache_dirty,
        both_dirty=me.both_dirty,
    )
    return Process(("flush", LOAD_CACHE) if windows else "take word", windows, counted)


def not_copied_yet(at: Ram, process: Process) -> bool:
    """Whoever is about to copy a page is the first to do so."""
    page: int = next_page(process.me.to_copy)
    return not at.copied[process.me.word] >> page & 1


def take_word(at: Ram, process: Process) -> After:
    """Fetch-add on the cursor: a whole word, or none is left."""
    word = at.cursor
    after = at._replace(cursor=word + 1)
    if word < len(at.cache):
        window = WordWindow(word, word * PAGES_PER_WORD, (word + 1) * PAGES_PER_WORD)
        return after, _sent_to((window,), process.me)
    return after, process._replace(pc="lower count")


def lower_count(at: Ram, process: Process) -> After:
    """Fetch-sub on the dirty count."""
    left = worker.left_dirty(at.dirty_pages, process.me.cache_dirty)
    return _added_up(at, process)._replace(dirty_pages=left), Process("finish")


def _added_up(at: Ram, process: Process) -> Ram:
    """Shared memory with what the worker has counted added to what the others have."""
    me = process.me
    counts = me.copied, me.host_dirty, me.cache_dirty, me.both_dirty
    return at._replace(counted=tuple(map(sum, zip(at.counted, counts, strict=True))))


def load_count(at: Ram, process: Process) -> After:
    """Load the dirty count: the fault of counting with plain accesses."""
    left = worker.left_dirty(at.dirty_pages, process.me.cache_dirty)
    return _added_up(at, process), Process("store count", clean=left)


def store_count(at: Ram, process: Process) -> After:
    """Store the dirty count, lowered."""
    return at._replace(dirty_pages=process.clean), Process("finish")


def finish(at: Ram, process: Process) -> After:
    """The worker has finished."""
    return at._replace(working=at.working - 1), Process(ENDED)


def wait_for_all(at: Ram, process: Process) -> After:
    """Every worker has finished."""
    return at, Process("return")


def flush_returns(at: Ram, process: Process) -> After:
    """The flush returns."""
    return at, Process(ENDED)


def static_flush(
    cache: Sequence[int],
    host: Sequence[int],
    shares: Sequence[Sequence[WordWindow]],
    fault: str | None = None,
) -> System[Ram, Process]:
    """Workers (``1``, ``2``, ...), each with the windows of its share; ``c`` waits for them all."""
    workers = [_sent_to(tuple(share), starting(0, 0, 0)) for share in shares]
    return _flush(
        cache, host, workers, cursor=len(cache), symmetric_from=len(workers) + 1, fault=fault
    )


def dynamic_flush(
    cache: Sequence[int], host: Sequence[int], workers: int, fault: str | None = None
) -> System[Ram, Process]:
    """Workers that take whole words off the cursor; ``c`` waits for them all."""
    return _flush(
        cache, host, [Process("take word")] * workers, cursor=0, symmetric_from=1, fault=fault
    )


def _flush(
    cache: Sequence[int],
    host: Sequence[int],
    workers: Sequence[Process],
    cursor: int,
    symmetric_from: int,
    fault: str | None,
) -> System[Ram, Process]:
    pairs = list(zip(cache, host, strict=True))
    union = tuple(either(c, h) for c, h in pairs)
    counts = tuple(
        sum(map(population, words))
        for words in (union, host, cache, (both(*pair) for pair in pairs))
    )
    invariants = (
        Invariant(ONCE, lambda at, me: at.copied == union),
        Invariant("no dirty bit is left", lambda at, me: not any((*at.cache, *at.host))),
        Invariant("the dirty count reaches zero", lambda at, me: at.dirty_pages == 0),
        Invariant("the counts are right", lambda at, me: at.counted == counts),
    )
    count = load_count if fault == "count by load and store" else lower_count
    return System(
        name=f"{len(workers)} flush workers, {len(cache)} words",
        shared=Ram(
            cache=tuple(cache),
            host=tuple(host),
            copied=(0,) * len(cache),
            dirty_pages=sum(map(population, cache)),
            cursor=cursor,
            working=len(workers),
        ),
        processes=(Process("wait"), *workers),
        names="c123456789"[: len(workers) + 1],
        steps={
            "wait": step(wait_for_all, ready=lambda at, me: at.working == 0),
            "return": step(flush_returns, invariants=invariants),
            **dict(_flush_steps()),
            "take word": step(take_word),
            "lower count": step(count),
            "store count": step(store_count),
            "finish": step(finish),
        },
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=symmetric_from,
    )


def _flush_steps() -> Iterator[tuple[Hashable, Step]]:
    for number, text in enumerate(STEPS):
        invariants = (Invariant(ONCE, not_copied_yet),) if number == COPY else ()
        yield ("flush", number), Step(text.capitalize() + ".", take_step, invariants=invariants)
