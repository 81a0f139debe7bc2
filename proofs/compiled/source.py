"""Where the IR comes from: a folder that ``python -m impl kernels --ir`` has written.

``proofs`` imports nothing of ``impl``. The command is started as any program is, and its files are read.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from proofs.compiled.ir import UnknownIR
from proofs.compiled.reader import functions

AS_MADE, OPTIMISED = "as_made", "optimised"
#: What is compiled for the claims of the default run.
QUICK = "model.*"


@dataclass(frozen=True)
class Kernels:
    """Compiled functions: the symbols of each by its name in Python, the text of each by symbol."""

    symbols: Mapping[str, tuple[str, ...]]
    texts: Mapping[str, Mapping[str, str]]
    versions: str
    python: str

    def symbol(self, name: str) -> str:
        """The one symbol of a function. Raises UnknownIR."""
        found = self.symbols.get(name, ())
        if len(found) != 1:
            raise UnknownIR(f"{name} is compiled {len(found)} times: its IR is not known here")
        return found[0]

    def module(self, name: str, kind: str) -> Mapping[str, str]:
        """The functions that one may call, by symbol: as made, of all; optimised, of its module."""
        if kind == AS_MADE:
            return {symbol: self.texts[AS_MADE][symbol] for symbol in self.texts[AS_MADE]}
        symbol = self.symbol(name)
        return {symbol: self.texts[OPTIMISED][symbol]}


_in_use: list[Path] = []


def use(folder: Path | None) -> None:
    """Read the IR from a folder that is there, instead of having it written."""
    _in_use[:] = [folder] if folder else []


_instead: dict[str, str] = {}


@contextmanager
def replaced(texts: Mapping[str, str]) -> Iterator[None]:
    """Within the block functions, as made, are others, by symbol: mutants."""
    _instead.update(texts)
    try:
        yield
    finally:
        for symbol in texts:
            del _instead[symbol]


def kernels() -> Kernels:
    """The IR in the folder in use, or what the command writes now. Raises UnknownIR."""
    found = load(_in_use[0]) if _in_use else _written_now()
    if not _instead:
        return found
    return replace(found, texts={**found.texts, AS_MADE: {**found.texts[AS_MADE], **_instead}})


@cache
def _written_now() -> Kernels:
    with provided(None, everything=False) as folder:
        return load(folder)


@contextmanager
def provided(folder: Path | None, *, everything: bool) -> Iterator[Path]:
    """A folder with the IR: the one that is given, or a temporary one that is written now.

    All kernels, compared with what is kept of them on disk, or only what the quick claims are about.
    """
    if folder is not None:
        yield folder
        return
    with TemporaryDirectory() as temporary:
        with suppress(UnknownIR):  # the claims about it will say so
            write(Path(temporary), *([] if everything else [QUICK]))
        yield Path(temporary)


def write(folder: Path, *only: str) -> str:
    """Have the IR written; what the command says. Raises UnknownIR."""
    command = [sys.executable, "-m", "impl", "kernels", "--ir", str(folder)]
    run = subprocess.run(
        [*command, *(["--only", *only] if only else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        said = (run.stderr.strip() or "nothing").splitlines()[-1]
        raise UnknownIR(f"there is no LLVM IR: `python -m impl kernels` said {said!r}")
    return run.stdout


@cache
def load(folder: Path) -> Kernels:
    """Read a folder. Raises UnknownIR."""
    try:
        manifest = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
        symbols: dict[str, tuple[str, ...]] = {}
        texts: dict[str, dict[str, str]] = {AS_MADE: {}, OPTIMISED: {}}
        for entry in manifest["functions"]:
            name, symbol = entry["name"], entry["symbol"]
            symbols[name] = (*symbols.get(name, ()), symbol)
            for kind, found in texts.items():
                module = (folder / entry[kind]).read_text(encoding="utf-8")
                found[symbol] = functions(module)[symbol]
        versions = (
            f"numba {manifest['numba']}, LLVM {manifest['llvm']}, "
            f"{manifest['processor']} ({manifest['machine']}), Python {manifest['python']}"
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownIR(
            f"{folder} is not what `python -m impl kernels` writes: {error!r}"
        ) from error
    return Kernels(symbols, texts, versions, manifest["python"])
