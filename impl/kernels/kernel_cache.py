"""Compiled kernels on disk, so that only the first start compiles them.

A file is used only if it was made from exactly what is to run now, and is whole: it begins with a digest
of all that the kernel was compiled from, then has one of its own content. Whatever else lies in its
place is compiled anew and replaced. A machine without a place for such files says so once, and runs.

numba's own cache does not do: it looks at the file that holds a kernel and not at the model that the
kernel was compiled from, fails at every start once a file is damaged, and without a folder to write in
does not even let the kernel be defined.
"""

import hashlib
import inspect
import logging
import os
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from impl.machine.cache_folder import user_cache

log = logging.getLogger(__name__)

#: Everything that a kernel may be compiled from lies in these packages, or in numba.
PACKAGES = ("impl", "model")
HERE = Path(__file__).parent
DIGEST_BYTES = hashlib.sha256().digest_size


class KernelCache(NullCache):  # type: ignore[misc]
    """What numba's dispatcher asks for a kernel, by signature, and gives once it is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled kernel, or None if it must be compiled."""
        target.refresh()
        content = self.content(signature, target.codegen())
        return content and CompileResult._rebuild(target, *pickle.loads(content))

    def content(self, signature: Any, codegen: Any) -> bytes | None:
        """The compiled kernel as it is kept, pickled, or None."""
        name = _file_name(self._function, signature, codegen)
        key = made_from(self._function)
        found = (read(folder / name, key) for folder in places())
        return next((content for content in found if content is not None), None)

    def save_overload(self, signature: Any, made: Any) -> None:
        """Keep a kernel that was just compiled, in the first place that takes it."""
        if made.lifted or made.library.has_dynamic_globals:
            return  # It holds an address of this process.
        name = _file_name(self._function, signature, made.codegen)
        content = dumps(made._reduce())
        refusals = []
        for folder in places():
            try:
                write(folder / name, made_from(self._function), content)
                return
            except OSError as error:
                refusals.append(f"{folder / name} ({error.strerror})")
        _say_that_nothing_is_kept(refusals)


def places() -> list[Path]:
    """The folders for compiled kernels: looked through in this order, and written in the first possible.

    ``NUMBA_CACHE_DIR`` if it is set; otherwise where Python keeps this package's bytecode, which may
    have been filled at installation by somebody who could write there, then the user's own cache.
    """
    tree = hashlib.sha256(os.fsencode(HERE)).hexdigest()[:16]
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR) / f"colo-flush-{tree}"]
    own = user_cache()
    beside = Path(cache_from_source(__file__)).parent
    return [beside, own / "kernels" / tree] if own else [beside]


def read(path: Path, key: bytes) -> bytes | None:
    """What :func:`write` wrote under the same key; None if that is not there, or not whole."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(DIGEST_BYTES) != key:
                return None
            digest, content = file.read(DIGEST_BYTES), file.read()
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == digest else None


def write(path: Path, key: bytes, content: bytes) -> None:
    """Put a file in place whole, or raise OSError and leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(key + hashlib.sha256(content).digest() + content)
        with suppress(OSError):
            path.rmdir()  # an empty folder in its place
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _file_name(function: Callable[..., Any], signature: Any, codegen: Any) -> str:
    """One for each kernel, interpreter, kind of processor and signature: these live side by side."""
    distinct = repr((codegen.magic_tuple(), str(signature), sys.flags.optimize))
    short = hashlib.sha256(distinct.encode()).hexdigest()[:12]
    tag = sys.implementation.cache_tag
    return f"{function.__module__}.{function.__qualname__}.{tag}-{short}.nbc"


def made_from(function: Callable[..., Any]) -> bytes:
    """A digest of all that a kernel is compiled from.

    That is the compiler; every source in PACKAGES, since what an intrinsic emits can be told from
    nothing else; and the definitions as they stand in memory, since one may have been replaced there
    (``model.faults.broken``), and must then neither run nor be kept as the one in the file.
    """
    digest = hashlib.sha256(version())
    for text in _definition(function, set()):
        digest.update(text.encode())
    return digest.digest()


@cache
def version() -> bytes:
    """A digest of the compiler, and of every source in PACKAGES."""
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__)).encode())
    for package in PACKAGES:
        for name, content in _files(files(package), package):
            digest.update(repr((name, hashlib.sha256(content).digest())).encode())
    return digest.digest()


def _files(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Every source below a folder, or inside an archive, or compiled ones where there are no others."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{name}/{entry.name}"
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _files(entry, path)
        elif entry.name.endswith((".py", ".pyc")):
            yield path, entry.read_bytes()


def _definition(value: Any, seen: set[int]) -> Iterator[str]:
    """A function's code and that of every function it calls, with the values of all names in them."""
    function = getattr(value, "py_func", value)
    if not isinstance(function, FunctionType):
        yield repr(value)
    elif id(function) not in seen:
        seen.add(id(function))
        names: set[str] = set()
        for code in _codes(function.__code__):
            yield repr((code.co_code, [c for c in code.co_consts if not isinstance(c, CodeType)]))
            names.update(code.co_names, code.co_freevars)
        closed_over = inspect.getclosurevars(function).nonlocals
        known = {n: v for n, v in {**function.__globals__, **closed_over}.items() if n in names}
        modules = [value for _, value in sorted(known.items()) if isinstance(value, ModuleType)]
        for name in sorted(names):
            for scope in (known, *map(vars, modules)):
                if name in scope and not isinstance(scope[name], ModuleType):
                    yield name
                    yield from _definition(scope[name], seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the comprehensions and lambdas in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


_said = False


def _say_that_nothing_is_kept(refusals: list[str]) -> None:
    global _said
    if not _said:
        _said = True
        log.warning(
            "compiled kernels cannot be kept, so every start compiles them again: %s; "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            ", ".join(refusals),
        )
