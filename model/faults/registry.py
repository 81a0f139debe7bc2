"""Faults: a function of ``model/`` replaced by a wrong one, by name; and the model with one of them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from model.boundary.docstring import docstring

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Fault:
    """``replacement`` in the place of ``target``, wherever that is called. ``what`` says what it does."""

    name: str
    what: str
    target: Callable[..., Any]
    replacement: Callable[..., Any]


FAULTS: dict[str, Fault] = {}


def fault(target: Callable[..., Any]) -> Callable[[F], F]:
    """Register a function as the fault of ``target`` that its name and docstring tell."""

    def add(replacement: F) -> F:
        sentence = " ".join(docstring(replacement).split()).removesuffix(".")
        first, *_ = sentence.split()
        names_a_word = len(first) > 1 and first.isupper()  # HEAD, TAIL, ...
        what = sentence if names_a_word else sentence[:1].lower() + sentence[1:]
        register(Fault(replacement.__name__.replace("_", " "), what, target, replacement))
        return replacement

    return add


def register(made: Fault) -> None:
    """ValueError if there is a fault of that name: counterexamples name theirs."""
    if made.name in FAULTS:
        raise ValueError(f"there is a fault {made.name!r} already: give this one another name")
    FAULTS[made.name] = made


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Within the block the model has the fault ``name`` (None: it is whole).

    For code that calls through modules. What is lifted can have a fault without this
    (``model.domain.Domain``, ``instead``).
    """
    if name is None:
        yield
        return
    fault = FAULTS[name]
    known = fault.target.__name__
    holders = [
        vars(module)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith("model.")
        # There it is what the fault itself calls.
        and module_name != fault.replacement.__module__
        and vars(module).get(known) is fault.target
    ]
    for holder in holders:
        holder[known] = fault.replacement
    try:
        yield
    finally:
        for holder in holders:
            holder[known] = fault.target
