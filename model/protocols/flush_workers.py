"""The workers of a flush as small steps: word loads, page copies, word stores, the dirty count.

For :mod:`model.explore`. A worker flushes *windows*, each the part of one bitmap word that is
its own: those dealt to it (the patch's static shares), then words claimed off a shared cursor while
there are any. Bitmap words are loaded and stored plainly, so no two workers may meet in a word;
here they can be made to.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from model.ram import PAGES_PER_WORD
from model.transitions import ENDED, Claim, System, said
from model.words import cleared, either, next_page, population, window_mask, without_next


class Window(NamedTuple):
    """Bits ``[first, last)`` of the bitmaps, all in bitmap word ``word``."""

    word: int
    first: int
    last: int

    @property
    def mask(self) -> int:
        """The window's bits of its word."""
        mask: int = window_mask(self.word, self.first, self.last)
        return mask


class Ram(NamedTuple):
    """Shared memory: both bitmaps, the pages copied (sorted), the dirty count, the cursor."""

    cache: tuple[int, ...]
    host: tuple[int, ...]
    copied: tuple[int, ...]
    dirty_pages: int
    cursor: int
    working: int


class Worker(NamedTuple):
    """A worker at work on ``windows[0]``: the words it loaded, the pages it has yet to copy.

    ``clean`` is how many bits it has cleared in the cache bitmap.
    """

    pc: Hashable
    windows: tuple[Window, ...] = ()
    cache: int = 0
    host: int = 0
    to_copy: int = 0
    clean: int = 0


After = tuple[Ram, Worker]


def load_cache(at: Ram, me: Worker) -> After:
    """Load the word of the cache bitmap."""
    return at, me._replace(pc="load host", cache=at.cache[me.windows[0].word])


def load_host(at: Ram, me: Worker) -> After:
    """Load the word of the host bitmap."""
    host = at.host[me.windows[0].word]
    to_copy = either(me.cache, host) & me.windows[0].mask
    return at, me._replace(pc="copy" if to_copy else "store cache", host=host, to_copy=to_copy)


def copy(at: Ram, me: Worker) -> After:
    """Copy the next dirty page of the window from cache to host."""
    page = me.windows[0].word * PAGES_PER_WORD + next_page(me.to_copy)
    rest = without_next(me.to_copy)
    after = me._replace(pc="copy" if rest else "store cache", to_copy=rest)
    return at._replace(copied=tuple(sorted((*at.copied, page)))), after


def store_cache(at: Ram, me: Worker) -> After:
    """Store the word of the cache bitmap, the window's bits clear."""
    window = me.windows[0]
    clean = me.clean + population(me.cache & window.mask)
    cache = _stored(at.cache, window.word, cleared(me.cache, window.mask))
    return at._replace(cache=cache), me._replace(pc="store host", clean=clean)


def store_host(at: Ram, me: Worker) -> After:
    """Store the word of the host bitmap, the window's bits clear; go on to the next window."""
    window, *rest = me.windows
    after = at._replace(host=_stored(at.host, window.word, cleared(me.host, window.mask)))
    return after, Worker("load cache" if rest else "claim", tuple(rest), clean=me.clean)


def claim(at: Ram, me: Worker) -> After:
    """Fetch-add on the cursor: a whole word, or none is left."""
    word = at.cursor
    after = at._replace(cursor=word + 1)
    if word < len(at.cache):
        window = Window(word, word * PAGES_PER_WORD, (word + 1) * PAGES_PER_WORD)
        return after, me._replace(pc="load cache", windows=(window,))
    return after, me._replace(pc="lower count")


def lower_count(at: Ram, me: Worker) -> After:
    """Fetch-sub on the dirty count."""
    after = at._replace(dirty_pages=at.dirty_pages - me.clean)
    return after, Worker("finish")


def load_count(at: Ram, me: Worker) -> After:
    """Load the dirty count: the fault of counting with plain accesses."""
    return at, me._replace(pc="store count", clean=at.dirty_pages - me.clean)


def store_count(at: Ram, me: Worker) -> After:
    """Store the dirty count, lowered."""
    return at._replace(dirty_pages=me.clean), Worker("finish")


def finish(at: Ram, me: Worker) -> After:
    """The worker has finished."""
    return at._replace(working=at.working - 1), Worker(ENDED)


def wait_for_all(at: Ram, me: Worker) -> After:
    """Every worker has finished."""
    return at, Worker("return")


def flush_returns(at: Ram, me: Worker) -> After:
    """The flush returns."""
    return at, Worker(ENDED)


def static_flush(
    cache: Sequence[int],
    host: Sequence[int],
    shares: Sequence[Sequence[Window]],
    fault: str | None = None,
) -> System[Ram, Worker]:
    """Workers (``1``, ``2``, ...), each with the windows of its share; ``c`` waits for them all."""
    workers = [Worker("load cache" if share else "claim", tuple(share)) for share in shares]
    return _flush(cache, host, workers, cursor=len(cache), alike=len(workers) + 1, fault=fault)


def dynamic_flush(
    cache: Sequence[int], host: Sequence[int], workers: int, fault: str | None = None
) -> System[Ram, Worker]:
    """Workers that claim whole words off the cursor; ``c`` waits for them all."""
    return _flush(cache, host, [Worker("claim")] * workers, cursor=0, alike=1, fault=fault)


def _flush(
    cache: Sequence[int],
    host: Sequence[int],
    workers: Sequence[Worker],
    cursor: int,
    alike: int,
    fault: str | None,
) -> System[Ram, Worker]:
    union = [either(c, h) for c, h in zip(cache, host, strict=True)]
    dirty = tuple(
        word * PAGES_PER_WORD + bit
        for word, bits in enumerate(union)
        for bit in range(PAGES_PER_WORD)
        if bits >> bit & 1
    )
    claims = (
        Claim("each dirty page is copied exactly once", lambda at, me: at.copied == dirty),
        Claim("no dirty bit is left", lambda at, me: not any((*at.cache, *at.host))),
        Claim("the dirty count reaches zero", lambda at, me: at.dirty_pages == 0),
    )
    count = load_count if fault == "count by load and store" else lower_count
    return System(
        name=f"{len(workers)} flush workers, {len(cache)} words",
        shared=Ram(
            cache=tuple(cache),
            host=tuple(host),
            copied=(),
            dirty_pages=sum(map(population, cache)),
            cursor=cursor,
            working=len(workers),
        ),
        processes=(Worker("wait"), *workers),
        names="c123456789"[: len(workers) + 1],
        steps={
            "wait": said(wait_for_all, ready=lambda at, me: at.working == 0),
            "return": said(flush_returns, claims=claims),
            "load cache": said(load_cache),
            "load host": said(load_host),
            "copy": said(copy),
            "store cache": said(store_cache),
            "store host": said(store_host),
            "claim": said(claim),
            "lower count": said(count),
            "store count": said(store_count),
            "finish": said(finish),
        },
        rest=lambda processes: all(process.pc == ENDED for process in processes),
        alike=alike,
    )


def _stored(words: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*words[:index], value, *words[index + 1 :])
