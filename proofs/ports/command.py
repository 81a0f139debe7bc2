"""``python -m proofs --port``: what was explored of a port, or which rule it breaks, by which values."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import z3
from rich.console import Console

from model.boundary.input import read_bytes
from model.boundary.output import printable
from proofs.compiled.ir import UnknownIR
from proofs.ports.explorer import Broken
from proofs.ports.flush import SYSTEMS, Call, System
from proofs.ports.text import Module, module

EXPLORED, REFUTED, UNKNOWN, USAGE = 0, 1, 2, 64
#: A path is explored by a chain of generators, some for each of its blocks.
_DEPTH = 20_000


def explore_ports(files: Sequence[Path], console: Console) -> int:
    """Explore each; 0 if no rule is broken, 1 if one is, 2 if one is not known, 64 for no such file."""
    codes = []
    for file in files:
        try:
            text = read_bytes(file).decode(errors="replace")
        except OSError as error:
            print(f"error: {printable(file)} cannot be read: {error.strerror}", file=sys.stderr)
            return USAGE
        console.print(f"{printable(file)}: colo_flush, called by one thread", soft_wrap=True)
        codes.append(_explore(text, console))
    return REFUTED if REFUTED in codes else max(codes)


def _explore(text: str, console: Console) -> int:
    try:
        with _deep():
            found = module(text)
            return max(_explore_system(found, system, console) for system in SYSTEMS)
    except UnknownIR as error:
        console.print(f"unknown: {printable(error)}", style="bold red", soft_wrap=True)
        return UNKNOWN
    except Broken as broken:
        console.print(f"REFUTED {printable(broken)}", style="bold red", soft_wrap=True)
        console.print(f"  {_values(broken.model)}", soft_wrap=True)
        return REFUTED


def _explore_system(found: Module, system: System, console: Console) -> int:
    begin = time.perf_counter()
    try:
        paths = Call(found, system).explore()
    except Broken:
        console.print(f"of {system}:", soft_wrap=True)
        raise
    seconds = time.perf_counter() - begin
    console.print(f"explored {system}: {paths} paths, {seconds:.1f} s", soft_wrap=True)
    return EXPLORED


def _values(model: z3.ModelRef) -> str:
    """The bitmaps and the count, in hexadecimal; whatever is not said may be anything."""
    named = {str(each): model[each] for each in model.decls()}
    shown = ("cache_bitmap", "host_bitmap", "dirty_pages")
    return ", ".join(f"{name} {named[name].as_long():#x}" for name in shown if name in named)


@contextmanager
def _deep() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
