"""What the explorer says of a mutant; and which functions of the model its systems are made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from model.explore import catalogue
from model.explore.catalogue import (
    REFUTED,
    SYSTEMS,
    by_node,
    check_in,
    dynamic,
    fork_anywhere,
    patch,
    queued,
    static,
)
from model.explore.search import explore
from model.protocols.check_in import OPEN, check_in_protocol, forked_child
from model.protocols.marking import marking
from model.transitions import System

#: An exploration is given up after this number of states; none of the whole model has as many.
MOST_STATES = 60_000

Make = Callable[[], System[Any, Any]]

#: How each is made; a child that is forked in the midst of a flush is one more.
MADE: Mapping[str, Callable[..., Any]] = {**SYSTEMS, "fork": fork_anywhere}


def child_forked_in_a_round() -> System[Any, Any]:
    """A child whose parent had a round open and a helper inside."""
    parent = check_in_protocol(1, 2, 2).shared
    return forked_child(parent._replace(state=OPEN + 1, job=1, cursor=1, working=1, took_part=1))


#: Small ones of each of the systems that are explored, the smaller first.
SMALL: Mapping[str, Mapping[str, Make]] = {
    "check-in": {
        "check-in, 1 helper": lambda: check_in(1, rounds=2, words=2),
        "check-in, 1 helper, static": lambda: check_in(1, rounds=2, static=True),
        "check-in, 1 helper, mixed": lambda: check_in(1, mixed=True),
        "check-in, 2 helpers, static": lambda: check_in(2, rounds=2, static=True),
        "check-in, 2 helpers": lambda: check_in(2, rounds=2, words=1),
    },
    "queue": {
        "queue, 1 copier": lambda: queued(3, [0, 1, 2], 1, 1),
        "queue, 2 slots": lambda: queued(4, [1, 2, 3], 1, 2),
        "queue, 2 copiers": lambda: queued(3, [1, 2], 2, 2),
    },
    "static": {"static shares": lambda: static(64)},
    "dynamic": {"dynamic, 2 workers": lambda: dynamic(2, 2)},
    "nodes": {
        "2 nodes, 1 worker": lambda: by_node([1], 96, words=3),
        "2 nodes, 2 workers": lambda: by_node([0, 1], 96, words=3),
        "2 nodes, 2 workers, large batches": lambda: by_node([0, 1], 96, grain=4),
        "3 nodes, 2 workers": lambda: by_node([1, 2], 96, words=3, nodes=3),
    },
    "patch": {
        "the patch, 1 thread": lambda: patch(1, 2),
        "the patch, 2 threads": lambda: patch(2, 2),
        "the patch, 3 threads": lambda: patch(3, 1),
    },
    "marking": {
        "marking, 2 markers": lambda: marking(2, 1),
        "marking, 2 markers of 3 pages": lambda: marking(2, 3),
    },
    "fork": {"a forked child": child_forked_in_a_round},
}


# Of what the systems are made.

#: Parts of the explorer, and of what is read in every domain, are no part of a system.
_NOT_OF_A_SYSTEM = ("model.explore", "model.boundary", "model.page", "model.faults", "model.domain")
_ELSEWHERE = ("model.transitions", "model.errors", "model.flush", "model.ram", "model.shares")


@cache
def made_of() -> Mapping[FunctionType, frozenset[str]]:
    """Every function that the explorer's systems are made of, with the names of those systems.

    Found by following names from where the catalogue makes each: to functions, through tables of steps,
    partial applications and classes to their methods.
    """
    found: dict[FunctionType, frozenset[str]] = {}
    for name, make in MADE.items():
        for function in _reached(make):
            found[function] = found.get(function, frozenset()) | {name}
    return found


def _reached(start: object) -> Iterator[FunctionType]:
    seen, to_see = set[int](), [start]
    while to_see:
        thing = to_see.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, FunctionType):
            if _is_of_a_system(thing.__module__):
                yield thing
            elif thing.__module__ != catalogue.__name__:
                continue
        to_see += _within(thing)


def _is_of_a_system(module: str) -> bool:
    return module.startswith("model.") and not module.startswith((*_NOT_OF_A_SYSTEM, *_ELSEWHERE))


def _within(thing: Any) -> Iterator[object]:
    """What a thing is made of, or speaks of."""
    if isinstance(thing, FunctionType):
        names = set(_names(thing.__code__))
        known = [thing.__globals__[name] for name in names if name in thing.__globals__]
        yield from known
        for module in known:
            if isinstance(module, ModuleType) and _is_of_a_system(module.__name__):
                yield from (vars(module)[name] for name in names if name in vars(module))
    elif isinstance(thing, partial):
        yield thing.func
        yield from thing.args
    elif isinstance(thing, type):
        if _is_of_a_system(thing.__module__):
            yield from (m.fget if isinstance(m, property) else m for m in vars(thing).values())
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, tuple):
        yield type(thing)
        yield from thing


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def can_be_changed(function: FunctionType) -> bool:
    """Has it a place of its own in a module or a class, and source of its own?"""
    return (
        "<" not in function.__qualname__
        and not function.__qualname__.split(".")[-1].startswith("__")
        and function.__code__.co_filename.endswith(".py")
    )


# What an exploration says.


def refused_by(systems: frozenset[str], *, controls: bool) -> str:
    """The first exploration of these systems in which something is not as it must be, or "".

    With ``controls``: also if one of the faults that must fail no longer does as it must.
    """
    for system in SMALL:
        for name, make in SMALL[system].items() if system in systems else ():
            if failure := _fails(make):
                return f"{name}: {failure}"
    if controls and "check-in" in systems and not may_stop(check_in(1)):
        return "no helper stops for ever, so nothing is said of a flush that must not wait for it"
    if controls and "check-in" in systems and (where := merged_wrongly(check_in(1, rounds=2))):
        return f"states are taken for one that are not: {where}"
    for exploration in REFUTED if controls else ():
        if exploration.system in systems and _fails(exploration.make) != exploration.refutes:
            return f"must fail and does not: {exploration.title}"
    return ""


def may_stop(system: System[Any, Any]) -> bool:
    """May the scheduler drop a process for ever?"""
    return any(step.stops for step in system.steps.values())


def merged_wrongly(system: System[Any, Any]) -> str:
    """A step that goes on differently from two states that the system's views take for one; or ""."""
    whole = replace(system, view_shared=lambda at: at, view_local=None)
    seen = set[tuple[Any, Any]]()
    explore(whole, visited=lambda at, processes: seen.update((at, me) for me in processes))

    def viewed(at: Any, me: Any) -> tuple[Any, Any]:
        return system.view_shared(at), system.view_local(at, me) if system.view_local else me

    for at, me in seen:
        step = system.steps.get(me.pc)
        if step is None:
            continue
        at_as_seen, me_as_seen = viewed(at, me)
        if step.ready and step.ready(at, me) != step.ready(at_as_seen, me_as_seen):
            return step.text
        if viewed(*step.act(at, me)) != viewed(*step.act(at_as_seen, me_as_seen)):
            return step.text
        for invariant in step.invariants:
            if bool(invariant.holds(at, me)) != bool(invariant.holds(at_as_seen, me_as_seen)):
                return invariant.name
    return ""


def _fails(make: Make) -> str:
    """What fails in a system, as the model stands now; "" if nothing does as far as is looked."""
    try:
        failure = explore(make(), limit=MOST_STATES).failure
    except MemoryError:
        return ""
    except Exception as error:
        return f"cannot run ({type(error).__name__})"
    return failure.invariant if failure else ""
