"""One-character slips and the like in ``model/``, each of which some claim must refuse.

Slips that change nothing are left out: ``first <= upper`` in ``shares.in_reach`` adds an empty window.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FunctionType
from typing import NamedTuple


class Mutation(NamedTuple):
    """In a function (``shares.chunk``) the text ``old`` is replaced by ``new``, once."""

    function: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.function}: {self.old} -> {self.new}"


MUTATIONS = tuple(
    Mutation(*mutation)
    for mutation in (
        ("shares.cut_at_word", "~LAST_BIT", "~(LAST_BIT // 2)"),
        ("shares.cut_at_word", "~LAST_BIT", "LAST_BIT"),
        ("shares.cut_at_word", "& ~LAST_BIT", "| LAST_BIT"),
        ("shares.chunk", "pages // threads", "pages // (threads + ONE)"),
        ("shares.chunk", "cut_at_word(pages // threads)", "pages // threads"),
        ("shares.share", "thread * size", "(thread + ONE) * size"),
        ("shares.share", "(thread + ONE) * size", "thread * size"),
        ("shares.share", "pages, (thread", "pages - ONE, (thread"),
        ("shares.is_last", "thread + ONE == threads", "thread == threads"),
        ("shares.is_last", "== threads", ">= threads - ONE"),
        ("shares.owner", ">= threads", "> threads"),
        ("shares.owner", "threads - ONE", "threads"),
        ("shares.in_reach", ">= lower", "> lower + ONE"),
        ("shares.in_reach", "first < upper", "first + ONE < upper"),
        ("shares.clip", "lower - first", "lower"),
        ("shares.clip", "first <= lower", "first >= lower"),
        ("shares.clip", "upper - first", "upper - first + ONE"),
        ("shares.clip", ">= upper", "<= upper"),
        ("shares.claim", "cursor + grain, words", "cursor + grain + ONE, words"),
        ("shares.claim", "cursor + grain < words", "cursor < words"),
        ("words.word_of", "PAGES_PER_WORD", "LAST_BIT"),
        ("words.bit_of", "LAST_BIT", "(LAST_BIT // 2)"),
        ("words.pages_below", "count == ZERO, ZERO", "count == ZERO, ONE"),
        ("words.pages_below", "PAGES_PER_WORD - count", "LAST_BIT - count"),
        ("words.pages_below", ">> (", "<< ("),
        ("words.pages_between", "~pages_below(first)", "pages_below(first)"),
        ("words.window_mask", "first_page < base", "first_page <= base + ONE"),
        ("words.window_mask", "base + LAST_BIT < last_page", "base + LAST_BIT <= last_page"),
        ("words.window_mask", "start < stop", "start <= stop + ONE"),
        ("words.either", "|", "&"),
        ("words.either", "|", "^"),
        ("words.both", "&", "|"),
        ("words.cleared", "~flushed", "flushed"),
        ("words.without_next", "- ONE", "+ ONE"),
        ("words.without_next", "dirty - ONE", "ZERO"),
        ("walk.finished", "walk.cache_next >= limit", "walk.cache_next > limit"),
        ("walk.finished", "&", "|"),
        ("walk.search_cache", "found < limit", "found <= limit"),
        (
            "walk.search_cache",
            "walk.cache_next == walk.offset",
            "walk.cache_next <= walk.offset + ONE",
        ),
        ("walk.count_down", "hit, ONE, ZERO", "hit, ZERO, ONE"),
        ("walk.search_host", "found < limit", "found < limit - ONE"),
        (
            "walk.search_host",
            "clear(walk.host_dirty, found)",
            "clear(walk.host_dirty, found + ONE)",
        ),
        ("walk.copy_next", "walk.host_next <= walk.cache_next", "walk.host_next < walk.cache_next"),
        (
            "walk.copy_next",
            "walk.host_next <= walk.cache_next",
            "walk.host_next >= walk.cache_next",
        ),
        ("walk.copy_next", "in_both, ONE, ZERO", "from_host, ONE, ZERO"),
        ("walk.copy_next", "mark(walk.copied, page)", "mark(walk.copied, page + ONE)"),
        ("kernel.after_step", "cleared(me.cache, mask)", "cleared(me.host, mask)"),
        ("kernel.after_step", "me.step == STORE_HOST", "me.step == COPY"),
        ("kernel.after_step", "~without_next(me.to_copy)", "without_next(me.to_copy)"),
        ("kernel.after_turn", "either(cache, host) & mask", "either(cache, host)"),
        ("kernel.after_turn", "without_next(me.to_copy)", "me.to_copy"),
        ("kernel.after_turn", "me.word + ONE", "me.word + ONE + ONE"),
        ("kernel.following", "STORE_CACHE, COPY", "STORE_HOST, COPY"),
        ("kernel.following", "LOAD_CACHE, LOAD_HOST", "LOAD_CACHE, copy_or_store"),
        ("queue.has_room", "queue.head + SLOTS", "queue.head + SLOTS + ONE"),
        ("queue.offer", "queue.tail + ONE", "queue.tail + ONE + ONE"),
        ("queue.offer", "queue.tail % SLOTS", "(queue.tail + ONE) % SLOTS"),
        ("queue.takes", "queue.head == me.head", "queue.head >= me.head"),
        ("queue.leaves", "me.closed == ONE", "me.closed >= ZERO"),
        ("queue.following", "takes(queue, me), FLUSH", "takes(queue, me), READ_HEAD"),
        ("queue.following", "queue.tail == me.head", "queue.tail >= me.head"),
    )
)


#: Those that were once proved right: models that lose a page, flush nothing, or never return.
ONCE_MISSED = tuple(
    Mutation(*mutation)
    for mutation in (
        ("kernel.after_turn", "first=me.first", "first=me.last"),
        ("kernel.after_turn", "last=me.last", "last=me.first"),
        ("kernel.starting", "first, last, ZERO", "last, first, ZERO"),
        ("kernel.starting", "first, last, ZERO", "first, first, ZERO"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "dirty_pages, ONE, ZERO"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "dirty_pages, ZERO, ONE"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "ZERO, dirty_pages, ZERO"),
        ("handshake.write_job", "words=words", "words=ZERO"),
        ("handshake.finish", "live=ZERO", "live=ZERO, awaited=OPEN"),
        ("handshake.rewind", "FLUSH_ALONE, OPEN_JOB", "FLUSH_ALONE, REWIND"),
        ("handshake.ring_bell", "pc=WAKE_HELPERS", "pc=RING_BELL"),
        ("handshake.read_state", "pc=pc, saw", "saw"),
        ("handshake.read_state", "END, select", "END + ONE, select"),
        ("handshake.go_to_bed", "pc=pc, asleep_at", "asleep_at"),
        ("handshake.wake_caller", "pc=LOOK_AT_RING", "pc=WAKE_CALLER"),
        ("handshake.all_ended", "== ZERO", "!= ZERO"),
        ("handshake.claim", "COPY, COMPLETE", "COPY, CHECK_OUT"),
        ("queue.close", "closed=ONE", "closed=ZERO"),
        ("queue.leaves", "== ONE", "== ONE + ONE"),
        ("queue.offer", "tail=queue.tail + ONE", "tail=queue.tail"),
        ("queue.offer", "tail=queue.tail + ONE", "tail=queue.head + ONE"),
        ("queue.takes", "queue.head == me.head", "queue.head == me.head + ONE"),
        ("queue.has_room", "queue.tail < queue.head + SLOTS", "queue.tail < SLOTS"),
        ("queue.following", "me.step + ONE", "me.step"),
    )
)


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Within the block the function has the slip, for whoever calls it or reads it."""
    module_name, name = mutation.function.split(".")
    module = import_module(f"model.{module_name}")
    function: FunctionType = getattr(module, name)
    source = inspect.getsource(function)
    body = source.index('"""', source.index('"""') + 3)
    if mutation.old not in source[body:]:
        raise ValueError(f"{mutation}: there is no such text; update the list")
    changed = source[:body] + source[body:].replace(mutation.old, mutation.new, 1)
    whole = function.__code__
    function.__code__ = _compiled(changed, name, whole.co_filename)
    try:
        yield
    finally:
        function.__code__ = whole


def _compiled(source: str, name: str, file: str) -> CodeType:
    namespace: dict[str, FunctionType] = {}
    exec(compile(f"from __future__ import annotations\n{source}", file, "exec"), namespace)
    return namespace[name].__code__
