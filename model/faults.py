"""Every way this project breaks a definition on purpose, in one place.

A claim that cannot fail says nothing. So each claim has a *control*: the same claim with one thing
broken, which must be refuted. The broken things that are code are here, by name; the proofs, the
replay of counterexamples and the tests all take them from this table.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from model import handshake
from model.handshake_faults import BROKEN, BROKEN_IN_A_CHILD, BrokenSteps
from model.reading import select
from model.walk import ONE, ZERO, find


@dataclass(frozen=True)
class Fault:
    """One function of ``model/`` replaced by a wrong one. ``what`` says it in a sentence."""

    name: str
    what: str
    module: str
    function: str
    replacement: Callable[..., Any]


def _uncut(pages: Any) -> Any:
    return pages


def _never_last(threads: Any, thread: Any) -> Any:
    return thread + ONE == ZERO


def _bulk_stage(bitmap: Any, start: Any, limit: Any) -> Any:
    unread = select(start < limit, start + ONE, limit)
    return select(start > ZERO, unread, find(bitmap, start, limit))


def _as_at_start(at_start: Any, now: Any) -> Any:
    return at_start


def _as_used_at_first(used: Any, most: Any) -> Any:
    return used


def _always_marked(page: Any, used: Any) -> Any:
    return page < page + ONE


def _stays(dirty_pages: Any, hit: Any) -> Any:
    return dirty_pages


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "shares not cut at words",
            "chunk_size without `& ~63`: a share may end in the middle of a bitmap word",
            "model.shares",
            "cut_at_word",
            _uncut,
        ),
        Fault(
            "no last thread",
            "the last thread does not take the pages that rounding left over",
            "model.shares",
            "is_last",
            _never_last,
        ),
        Fault(
            "bulk stage",
            "in the bulk stage the search returns the page after the one asked for, unread",
            "model.walk",
            "next_to_search",
            _bulk_stage,
        ),
        Fault(
            "lost decrement",
            "the dirty count is not lowered when a cache bit is cleared",
            "model.walk",
            "count_down",
            _stays,
        ),
        Fault(
            "bounds computed once",
            "the shares are cut from the pages there were when the threads started",
            "model.growth",
            "pages_shared_out",
            _as_at_start,
        ),
        Fault(
            "cache sized by used length",
            "the cache is allocated as large as the block is then, not as it may become",
            "model.growth",
            "cache_pages",
            _as_used_at_first,
        ),
        Fault(
            "bits beyond a shrunk block stay",
            "shrinking a block leaves the dirty bits of the pages that go",
            "model.growth",
            "stays_marked",
            _always_marked,
        ),
    )
}


def _with_steps(name: str, fault: BrokenSteps) -> Fault:
    def program() -> Any:
        return {**handshake.CALLER, **handshake.HELPER, **fault.steps}

    return Fault(name, fault.what, "model.handshake", "program", program)


FAULTS |= {
    name: _with_steps(name, fault) for name, fault in {**BROKEN, **BROKEN_IN_A_CHILD}.items()
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Within the block the model has the fault ``name`` (None: it is whole)."""
    if name is None:
        yield
        return
    fault = FAULTS[name]
    whole = getattr(importlib.import_module(fault.module), fault.function)
    holders = [
        vars(module)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith("model.") and vars(module).get(fault.function) is whole
    ]
    for holder in holders:
        holder[fault.function] = fault.replacement
    try:
        yield
    finally:
        for holder in holders:
            holder[fault.function] = whole
