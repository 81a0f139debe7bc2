"""Every way this project breaks a definition on purpose, in one place.

A claim that cannot fail says nothing. So each claim has a *control*: the same claim with one thing
broken, which must be refuted. The broken things that are code are here, by name; the proofs, the
replay of counterexamples and the tests all take them from this table.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from model import handshake, shares, walk
from model.handshake_faults import BROKEN, BROKEN_IN_A_CHILD, BrokenSteps
from model.reading import select


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
    return thread + shares.ONE == shares.ZERO


def _bulk_stage(bitmap: Any, start: Any, limit: Any) -> Any:
    unread = select(start < limit, start + walk.ONE, limit)
    return select(start > walk.ZERO, unread, walk.find(bitmap, start, limit))


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
    module = importlib.import_module(fault.module)
    whole = getattr(module, fault.function)
    setattr(module, fault.function, fault.replacement)
    try:
        yield
    finally:
        setattr(module, fault.function, whole)
