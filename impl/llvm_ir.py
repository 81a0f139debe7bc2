"""``python -m impl kernels --ir DIR``: what the compiler makes of the kernels, as LLVM IR.

Each function in two texts: *as made*, which numba hands to LLVM, and *optimised*, the last one before
instructions are selected. ``python -m proofs --compiled`` reads them; it imports nothing from here.

On disk a kernel is machine code only, without its IR. So every kernel is compiled again here, in the
order of definition, and its machine code compared with what is kept. Where that differs it is replaced:
what is proved of these texts is about what runs from now on.
"""

import argparse
import json
import pickle
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core.caching import NullCache
from numba.core.codegen import CPUCodeLibrary

from impl import pool  # noqa: F401  # every kernel is defined, and what it reads of the model
from impl.errors import KernelsDiffer
from impl.kernels.compile import compiled, kernels, primitives
from impl.machine.host import MACHINE
from model.boundary.arguments import shown
from model.boundary.output import check_folder, write_text
from model.domain import select
from model.errors import ColoError

MANIFEST = "kernels.json"
AS_MADE, OPTIMISED = "as-made", "optimised"


@dataclass(frozen=True)
class Lowered:
    """One compiled function: its name in Python and in LLVM, and where its texts lie."""

    name: str
    symbol: str
    as_made: str
    optimised: str


@dataclass
class Kept:
    """Kernels by what was found of them on disk: the same machine code, other, or none."""

    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def add_command(commands: Any) -> None:
    """Register ``kernels`` with the command line."""
    parser = commands.add_parser("kernels", help="write the LLVM IR of the kernels")
    parser.add_argument("--ir", type=Path, required=True, metavar="DIR", help="where to")
    parser.add_argument(
        "--only",
        metavar="GLOB",
        nargs="+",
        default=[],
        help="functions by name, e.g. 'model.*'; the kernels on disk are then left alone",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """The command: exit code 0, or 1 with a line if a kernel on disk is another and stays so."""
    check_folder(arguments.ir)
    with _texts_as_made() as texts:
        made = dict(_compile_afresh(arguments.only))
    functions = [
        _write(arguments.ir, number, name, result, texts)
        for number, (name, result) in enumerate(_all_compiled())
    ]
    kept = Kept() if arguments.only else _compare_with_kept(made)
    manifest = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "llvm": ".".join(map(str, llvmlite.binding.llvm_version_info)),
        "machine": MACHINE,
        "processor": llvmlite.binding.get_host_cpu_name(),
        "kept": asdict(kept),
        "functions": [asdict(function) for function in functions],
    }
    write_text(arguments.ir / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    print(f"{len(functions)} functions, as made and optimised, in {arguments.ir}")
    if not arguments.only:
        print(
            f"machine code on disk: {len(kept.same)} kernels the same, "
            f"{len(kept.replaced)} others replaced, {len(kept.added)} added"
        )
    return 0


@contextmanager
def _texts_as_made() -> Iterator[dict[Any, str]]:
    """The first module of each library that is handed to LLVM within the block.

    It holds the function; the others hold what calls it from Python and from C. numba itself keeps
    the optimised module only.
    """
    texts: dict[Any, str] = {}
    add = CPUCodeLibrary.add_llvm_module

    def add_and_note(library: Any, module: Any) -> None:
        texts.setdefault(library, str(module))
        add(library, module)

    CPUCodeLibrary.add_llvm_module = add_and_note
    try:
        yield texts
    finally:
        CPUCodeLibrary.add_llvm_module = add


class _Made(NullCache):  # type: ignore[misc]
    """In the place of a kernel's cache: holds nothing, and takes what was compiled."""

    result: Any = None

    def save_overload(self, signature: Any, made: Any) -> None:
        self.result = made


def _compile_afresh(only: list[str]) -> Iterator[tuple[str, Any]]:
    """Each kernel, or each function whose name matches, compiled now: its name, what was made."""
    if any(kernel.overloads for kernel in kernels):
        raise RuntimeError("kernels have been compiled in this process: their IR was not noted")
    own = {kernel: kernel._cache for kernel in kernels}
    try:
        for kernel in kernels:
            kernel._cache = _Made()
        for dispatcher in _asked_for(only):
            dispatcher.compile((numba.uint64,) * dispatcher.py_func.__code__.co_argcount)
            (result,) = dispatcher.overloads.values()
            yield _name(dispatcher), result
    finally:
        for kernel in kernels:
            kernel._cache = own[kernel]


def _asked_for(only: list[str]) -> list[Any]:
    if not only:
        return kernels
    everything = [*(compiled(function) for function in compiled.functions), *kernels]
    asked = [d for d in everything if any(fnmatchcase(_name(d), glob) for glob in only)]
    if not asked:
        globs = " ".join(map(shown, only))
        raise ColoError(f"no function is called {globs}: they have names as {_name(kernels[0])}")
    return sorted(asked, key=_name)


def _name(dispatcher: Any) -> str:
    return f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__name__}"


def _all_compiled() -> Iterator[tuple[str, Any]]:
    """Names and results of all that has been compiled, the model's functions first.

    A function has one result for each tuple of types that it was called with (``select`` has more).
    """
    model = sorted(
        (primitives[select], *(compiled(function) for function in compiled.functions)), key=_name
    )
    for dispatcher in (*model, *kernels):
        for result in dispatcher.overloads.values():
            yield _name(dispatcher), result


def _write(folder: Path, number: int, name: str, result: Any, texts: dict[Any, str]) -> Lowered:
    places = {}
    for kind, text in (
        (AS_MADE, texts[result.library]),
        (OPTIMISED, result.library.get_llvm_str()),
    ):
        check_folder(folder / kind)
        places[kind] = f"{kind}/{number:03}.{name}.ll"
        write_text(folder / places[kind], text)
    return Lowered(name, result.fndesc.mangled_name, places[AS_MADE], places[OPTIMISED])


def _compare_with_kept(made: dict[str, Any]) -> Kept:
    """Compare machine code, byte for byte, with what is on disk, and put it there if that is other.

    It may be other for a harmless reason: names in it number the functions of the process that has
    compiled it. That cannot be told from a harmful one, so it is replaced.
    """
    found = Kept()
    for kernel in kernels:
        name, cache = _name(kernel), kernel._cache
        result = made[name]
        new, old = _machine_code(result._reduce()), _kept(cache, result)
        if old == new:
            found.same.append(name)
            continue
        cache.save_overload(result.signature.args, result)
        (found.added if old is None else found.replaced).append(name)
        left = _kept(cache, result)
        if left is not None and left != new:
            raise KernelsDiffer(
                f"{name}: the machine code that is kept is not what its sources compile to, and "
                "cannot be replaced: delete its .nbc file, or set NUMBA_CACHE_DIR to a folder of yours"
            )
    return found


def _kept(cache: Any, result: Any) -> bytes | None:
    content = cache.content(result.signature.args, result.codegen)
    return None if content is None else _machine_code(pickle.loads(content))


def _machine_code(reduced: Any) -> bytes:
    """The object code in a compiled function as numba reduces it."""
    (_, kind, (code, _)), *_ = reduced
    if kind != "object":
        raise RuntimeError(f"numba keeps a function as {kind}: it has no object code")
    return bytes(code)
