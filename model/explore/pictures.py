"""What a state of a system looks like: shared memory word by word, where each process stands, bitmaps."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from model.page.picture import Instruction, Picture, Place
from model.protocols import check_in, flush_workers, marking, node_cursors
from model.transitions import ENDED, STOPPED, System

_OF_A_FLUSH = {"cache": "cache-dirty", "host": "host-dirty", "copied": "copied"}
#: Fields that are 64-bit words of a bitmap, and what the page calls them.
BITMAPS: Mapping[type, Mapping[str, str]] = {
    flush_workers.Ram: _OF_A_FLUSH,
    node_cursors.Shared: _OF_A_FLUSH,
    marking.Bitmap: {"words": "marked"},
}
_NOBODY_READS = ("plan",)


def picture(
    system: System[Any, Any],
    shared: Any,
    processes: tuple[Any, ...],
    moved: str = "",
    names: Sequence[str] = "",
) -> Picture:
    """A state, after the step of the process ``moved``; the programs are those of the system.

    ``names``: of the processes, if there are more than schedules have names for.
    """
    names = names or system.names
    bitmaps = dict(_bitmaps(shared))
    return Picture(
        pages=64 * max(map(len, bitmaps.values()), default=0),
        bitmaps=bitmaps,
        memory=dict(fields(shared, without=(*BITMAPS.get(type(shared), ()), *_NOBODY_READS))),
        processes={
            process(name): Place(step_name(me.pc), dict(_locals(me)))
            for name, me in zip(names, processes, strict=True)
        },
        moved=process(moved) if moved else "",
        program=tuple(_program(system, shared, names)),
    )


def step_name(pc: Hashable) -> str:
    """Where a process stands, as the page's programs have it."""
    if pc == STOPPED:
        return "is never scheduled again"
    return "has ended" if pc == ENDED else str(pc)


def process(name: str) -> str:
    """What the page calls the process that has this name in schedules."""
    return f"process {name}"


def fields(
    value: Any, prefix: str = "", without: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Each field of a NamedTuple in words; of one within it, or of several, by both names."""
    for name, part in zip(value._fields, value, strict=True):
        if name in without:
            continue
        if hasattr(part, "_fields"):
            yield from fields(part, f"{prefix}{name}.")
        elif isinstance(part, tuple) and part and hasattr(part[0], "_fields"):
            for number, one in enumerate(part):
                yield from fields(one, f"{prefix}{name}[{number}].")
        else:
            yield prefix + name, in_words(name, part)


def in_words(field: str, value: Any) -> str:
    """A value for people: STATE by its bits, a set in order, a large number in hexadecimal."""
    if field in ("state", "saw") and isinstance(value, int):
        return check_in.state_in_words(value)
    if isinstance(value, frozenset):
        return f"{sorted(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 16:
        return f"{value:#x}"
    return str(value)


def _locals(me: Any) -> Iterator[tuple[str, str]]:
    """What a process has in hand; 0 and nothing are not told."""
    for name, value in zip(me._fields, me, strict=True):
        if hasattr(value, "_fields"):
            yield from _locals(value)
        elif value and name not in ("pc", "step"):
            yield name, in_words(name, value)


def _bitmaps(shared: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shown in BITMAPS.get(type(shared), {}).items():
        yield shown, getattr(shared, name)


def _program(system: System[Any, Any], shared: Any, names: Sequence[str]) -> Iterator[Instruction]:
    for pc, step in system.steps.items():
        of = None
        if isinstance(shared, check_in.ControlBlock):
            of = [process(name) for name in (names[:1] if pc in check_in.CALLER else names[1:])]
        yield Instruction(str(pc), step.text, step.act, of)
