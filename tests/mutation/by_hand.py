"""Mutants that no rule of ``mutants.py`` makes: larger changes, and models once proved right."""

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from types import FunctionType

from tests.mutation.mutants import Mutant, code_of, name_of

#: In a function the text on the left, where it first stands, reads as on the right.
BY_HAND: tuple[tuple[str, str, str], ...] = (
    ("shares.cut_at_word", "~LAST_BIT", "~(LAST_BIT // 2)"),
    ("shares.cut_at_word", "& ~LAST_BIT", "| LAST_BIT"),
    ("shares.chunk", "pages // threads", "pages // (threads + ONE)"),
    ("shares.share", "thread * size", "(thread + ONE) * size"),
    ("shares.share", "pages, (thread", "pages - ONE, (thread"),
    ("shares.is_last", "== threads", ">= threads - ONE"),
    ("shares.in_reach", ">= lower", "> lower + ONE"),
    ("shares.in_reach", "first < upper", "first + ONE < upper"),
    ("shares.clip", "first <= lower", "first >= lower"),
    ("shares.clip", "upper - first", "upper - first + ONE"),
    ("shares.clip", ">= upper", "<= upper"),
    ("words.bit_of", "LAST_BIT", "(LAST_BIT // 2)"),
    ("words.window_mask", "first_page < base", "first_page <= base + ONE"),
    ("words.window_mask", "start < stop", "start <= stop + ONE"),
    ("words.without_next", "dirty - ONE", "ZERO"),
    (
        "walk.search_cache",
        "walk.cache_next == walk.offset",
        "walk.cache_next <= walk.offset + ONE",
    ),
    ("walk.search_host", "found < limit", "found < limit - ONE"),
    ("walk.search_host", "clear(walk.host_dirty, found)", "clear(walk.host_dirty, found + ONE)"),
    (
        "walk.copy_next",
        "walk.host_next <= walk.cache_next",
        "walk.host_next >= walk.cache_next",
    ),
    ("walk.copy_next", "in_both, ONE, ZERO", "from_host, ONE, ZERO"),
    ("walk.copy_next", "mark(walk.copied, page)", "mark(walk.copied, page + ONE)"),
    ("worker.memory_after", "me.step == STORE_HOST", "me.step == COPY"),
    ("worker.worker_after", "last=me.last", "last=me.first"),
    ("worker.starting", "first, last, ZERO", "first, first, ZERO"),
    ("worker.following", "STORE_CACHE, COPY", "STORE_HOST, COPY"),
    ("worker.following", "LOAD_CACHE, LOAD_HOST", "LOAD_CACHE, copy_or_store"),
    ("work_queue.offer", "queue.tail % ring_slots()", "(queue.tail + ONE) % ring_slots()"),
    ("work_queue.offer", "tail=queue.tail + ONE", "tail=queue.head + ONE"),
    ("work_queue.takes", "queue.head == me.head", "queue.head >= me.head"),
    ("work_queue.leaves", "me.closed == ONE", "me.closed >= ZERO"),
    ("work_queue.following", "takes(queue, me), FLUSH", "takes(queue, me), READ_HEAD"),
    ("work_queue.following", "queue.tail == me.head", "queue.tail >= me.head"),
    ("check_in.finish", "live=ZERO", "live=ZERO, awaited=OPEN"),
    ("check_in.rewind", "FLUSH_ALONE, OPEN_JOB", "FLUSH_ALONE, REWIND"),
)


def made_by_hand(functions: Iterable[FunctionType]) -> Iterator[Mutant]:
    """The mutants of this list. ValueError where a function, or its text, is another one by now."""
    known = {name_of(function): function for function in functions}
    for name, old, new in BY_HAND:
        source = textwrap.dedent(inspect.getsource(known[name]))
        body = source.index('"""', source.index('"""') + 3)
        if old not in source[body:]:
            raise ValueError(f"{name} has no {old}: bring the list up to date")
        changed = source[:body] + source[body:].replace(old, new, 1)
        yield Mutant(name, old, new, 0, known[name], code_of(changed, known[name]))
