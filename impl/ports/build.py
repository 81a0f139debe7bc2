"""Builds a port into a shared library with the compiler found here, once per content.

    python -m impl.ports.build impl/ports/serial_walk.c      prints the path of the library

A library is kept in the user's cache directory under the hash of everything that goes into it, and ends
with a digest of itself, which the loader ignores: a damaged one is built again.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from impl.machine.cache_folder import user_cache
from model.boundary.command import run
from model.boundary.input import read_bytes
from model.boundary.options import Parser
from model.boundary.output import printable, run_command
from model.errors import ColoError

HERE = Path(__file__).parent

SERIAL = HERE / "serial_walk.c"
PATCH = HERE / "patch_threads.c"
COALESCING = HERE / "coalescing.c"
#: No port: the upper bounds of the benchmark, and its clock.
CEILING = HERE.parent / "bench" / "copy_limit.c"
CHECK_IN = HERE / "check_in_pool.c"
RUST = HERE / "colo_flush.rs"
CHECK_IN_RUST = HERE / "check_in_pool.rs"
C_PORTS = (SERIAL, PATCH, COALESCING, CHECK_IN)
RUST_PORTS = (RUST, CHECK_IN_RUST)

Memcpy = Literal["called", "inlined"]

C_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread")
RUST_FLAGS = ("--edition=2021", "--crate-type=cdylib", "-O", "-C", "panic=abort")


class NoCompilerError(ColoError, RuntimeError):
    """No compiler for the port's language is installed."""


class BuildError(ColoError, RuntimeError):
    """The compiler refused the port, or there is no place for the library."""


def build(source: Path, *, memcpy: Memcpy = "called", defines: Sequence[str] = ()) -> Path:
    """The shared library of the C or Rust port ``source``, built unless it is already there.

    ``memcpy``: is a page of the usual size copied by the C library, or by code in line? Which is
    faster depends on the machine, so a fair benchmark tries both (C only). ``defines``: macros (C
    only). Raises NoCompilerError or BuildError.
    """
    if not source.is_file() or source.suffix not in (".c", ".rs"):
        raise BuildError(f"{source} is no C or Rust file: name the source of a port, like {SERIAL}")
    command = _command(source, memcpy, defines)
    library = _cache_folder() / f"{source.stem}-{_digest(source, command)}.so"
    if not _is_whole(library):
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile(source, command, library)
        except OSError as error:
            raise BuildError(f"cannot keep {library} ({error.strerror}): {_ELSEWHERE}") from error
    return library


def compiler_for(source: Path) -> str:
    """The compiler for a port: ``$CC`` or cc, gcc, clang for C, ``$RUSTC`` or rustc for Rust.

    Raises NoCompilerError, saying what to install.
    """
    variable = "RUSTC" if _is_rust(source) else "CC"
    candidates = _COMPILERS[variable]
    for candidate in (os.environ.get(variable, ""), *candidates):
        if candidate and shutil.which(candidate):
            return candidate
    raise NoCompilerError(
        f"{source.name} needs a compiler and none of {', '.join(candidates)} is on the path: "
        f"install one (Debian: gcc, rustc) or set {variable}"
    )


_COMPILERS = {"CC": ("cc", "gcc", "clang"), "RUSTC": ("rustc",)}


def _is_rust(source: Path) -> bool:
    return source.suffix == ".rs"


def _command(source: Path, memcpy: Memcpy, defines: Sequence[str]) -> list[str]:
    compiler = compiler_for(source)
    if _is_rust(source):
        return [compiler, *RUST_FLAGS]
    copying = ["-fno-builtin-memcpy"] if memcpy == "called" else []
    return [compiler, *C_FLAGS, *copying, f"-I{HERE}", *(f"-D{name}" for name in defines)]


def _digest(source: Path, command: Sequence[str]) -> str:
    content = hashlib.sha256("\0".join((*command, _version(command[0]))).encode())
    for path in _inputs(source):
        content.update(_read(path))
    return content.hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise BuildError(f"{printable(path)} cannot be read: {error.strerror}") from error


@cache
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


def _inputs(source: Path) -> Iterator[Path]:
    yield source
    for folder in sorted({HERE, source.parent}):
        yield from sorted(folder.glob("*.rs" if _is_rust(source) else "*.h"))


_ELSEWHERE = "set XDG_CACHE_HOME to a folder that can be written"


def _cache_folder() -> Path:
    own = user_cache()
    if own is None:
        raise BuildError(f"no folder to keep a built port in, since there is no home: {_ELSEWHERE}")
    return own / "ports"


def _is_whole(library: Path) -> bool:
    try:
        content = library.read_bytes() if library.is_file() else b""
    except OSError:
        return False
    digest = hashlib.sha256(content[:-_DIGEST_BYTES]).digest()
    return content.endswith(digest)


_DIGEST_BYTES = hashlib.sha256().digest_size


def _compile(source: Path, command: Sequence[str], library: Path) -> None:
    """Compile beside the library and rename, so that no one loads one half written."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        fresh = Path(folder) / library.name
        run = subprocess.run(
            [*command, "-o", str(fresh), str(source)],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if run.returncode:
            raise BuildError(f"{command[0]} could not build {printable(source)}:\n{run.stderr}")
        with fresh.open("ab") as file:
            file.write(hashlib.sha256(fresh.read_bytes()).digest())
        fresh.replace(library)


def main(arguments: Sequence[str]) -> int:
    """Build each source named, or every port; print the libraries' paths."""
    parser = Parser(
        prog="python -m impl.ports.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="*", type=Path, help="default: every port"
    )
    sources = parser.parse_args(arguments).sources or (*C_PORTS, *RUST_PORTS)
    return run_command(lambda: _build_all(sources))


def _build_all(sources: Sequence[Path]) -> int:
    for source in sources:
        print(build(source))
    return 0


if __name__ == "__main__":
    run(main)
