"""Mutants: one-character changes and the like in ``model/``, each of which some claim must refuse.

Mutants that change nothing are left out: ``first <= upper`` in ``shares.in_reach`` adds an empty window.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import NamedTuple

from model import shares, walk, words, worker
from model.protocols import check_in, work_queue

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (words, shares, walk, worker, work_queue, check_in)
}


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
        ("shares.cut_at_word", "~LAST_BIT", "~(LAST_BIT >> ONE)"),
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
        ("shares.batch", "cursor + grain, words", "cursor + grain + ONE, words"),
        ("shares.batch", "cursor + grain < words", "cursor < words"),
        ("words.word_of", "PAGES_PER_WORD", "LAST_BIT"),
        ("words.bit_of", "LAST_BIT", "(LAST_BIT >> ONE)"),
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
        ("worker.memory_after", "cleared(me.cache, mask)", "cleared(me.host, mask)"),
        ("worker.memory_after", "me.step == STORE_HOST", "me.step == COPY"),
        ("worker.memory_after", "~without_next(me.to_copy)", "without_next(me.to_copy)"),
        ("worker.worker_after", "either(cache, host) & mask", "either(cache, host)"),
        ("worker.worker_after", "without_next(me.to_copy)", "me.to_copy"),
        ("worker.worker_after", "me.word + ONE", "me.word + ONE + ONE"),
        ("worker.following", "STORE_CACHE, COPY", "STORE_HOST, COPY"),
        ("worker.following", "LOAD_CACHE, LOAD_HOST", "LOAD_CACHE, copy_or_store"),
        ("work_queue.has_room", "queue.head + ring_slots()", "queue.head + ring_slots() + ONE"),
        ("work_queue.offer", "queue.tail + ONE", "queue.tail + ONE + ONE"),
        ("work_queue.offer", "queue.tail % ring_slots()", "(queue.tail + ONE) % ring_slots()"),
        ("work_queue.takes", "queue.head == me.head", "queue.head >= me.head"),
        ("work_queue.leaves", "me.closed == ONE", "me.closed >= ZERO"),
        ("work_queue.following", "takes(queue, me), FLUSH", "takes(queue, me), READ_HEAD"),
        ("work_queue.following", "queue.tail == me.head", "queue.tail >= me.head"),
    )
)


#: Those that were once proved right: models that lose a page, flush nothing, or never return.
ONCE_MISSED = tuple(
    Mutation(*mutation)
    for mutation in (
        ("worker.worker_after", "first=me.first", "first=me.last"),
        ("worker.worker_after", "last=me.last", "last=me.first"),
        ("worker.starting", "first, last, ZERO", "last, first, ZERO"),
        ("worker.starting", "first, last, ZERO", "first, first, ZERO"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "dirty_pages, ONE, ZERO"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "dirty_pages, ZERO, ONE"),
        ("walk.begin", "dirty_pages, ZERO, ZERO", "ZERO, dirty_pages, ZERO"),
        ("check_in.write_job", "words=words", "words=ZERO"),
        ("check_in.finish", "live=ZERO", "live=ZERO, awaited=OPEN"),
        ("check_in.rewind", "FLUSH_ALONE, OPEN_JOB", "FLUSH_ALONE, REWIND"),
        ("check_in.ring_doorbell", "pc=WAKE_HELPERS", "pc=RING_DOORBELL"),
        ("check_in.read_state", "pc=pc, seen_state", "seen_state"),
        ("check_in.read_state", "END, select", "END + ONE, select"),
        ("check_in.helper_park", "pc=pc, asleep_at", "asleep_at"),
        ("check_in.wake_caller", "pc=LOOK_AT_DOORBELL", "pc=WAKE_CALLER"),
        ("check_in.all_ended", "== ZERO", "!= ZERO"),
        ("check_in.take_batch", "COPY, COMPLETE", "COPY, CHECK_OUT"),
        ("work_queue.close", "closed=ONE", "closed=ZERO"),
        ("work_queue.leaves", "== ONE", "== ONE + ONE"),
        ("work_queue.offer", "tail=queue.tail + ONE", "tail=queue.tail"),
        ("work_queue.offer", "tail=queue.tail + ONE", "tail=queue.head + ONE"),
        ("work_queue.takes", "queue.head == me.head", "queue.head == me.head + ONE"),
        (
            "work_queue.has_room",
            "queue.tail < queue.head + ring_slots()",
            "queue.tail < ring_slots()",
        ),
        ("work_queue.following", "me.step + ONE", "me.step"),
    )
)


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Within the block the function is mutated, for whoever calls or lifts it."""
    module_name, name = mutation.function.split(".")
    function: FunctionType = getattr(MODULES[module_name], name)
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
