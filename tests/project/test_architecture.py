"""Who may import whom: tests -> impl, proofs -> model, and which part of a folder stands on which.

model imports only the standard library. Nothing imports in a circle, not even for an annotation.
"""

import ast
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.support.needs import ROOT, needs_git, tracked

OURS = {"model", "impl", "proofs", "tests"}
FORBIDDEN = {
    "model": {"impl", "proofs", "tests"},
    "impl": {"proofs", "tests"},
    "proofs": {"impl", "tests"},
}
#: Each folder in order: a line may import from its own and from those above it. A package is meant with
#: all that is in it, unless another line names a part of it.
LAYERS = {
    "model": """
        model.errors model.domain
        model model.boundary
        model.ram model.flush model.words model.shares model.walk model.worker model.resize model.page
        model.strays model.nodes
        model.transitions
        model.protocols
        model.faults
        model.explore.search model.explore.schedule model.explore.table model.explore.livelock
        model.explore.weak
        model.explore
        model.scenarios
        model.replay
    """,
    # Bits are set by a kernel: bitmap stands on the kernels.
    "impl": """
        impl.errors impl.arrays impl.arguments impl.uncopied impl.exclusive
        impl.machine impl.display
        impl.kernels
        impl.bitmap impl.stats impl.block impl.tuning
        impl.dirtylog impl.by_node impl.job
        impl.ram
        impl.calibration
        impl.pool
        impl
        impl.traces impl.ports
        impl.recorder impl.bench impl.demo impl.llvm_ir impl.calibration.command
        impl.__main__
    """,
    "proofs": """
        proofs.prover
        proofs
        proofs.__main__
    """,
}
TOP_LEVEL = {"README.md", "pyproject.toml", "LICENSE", "model", "impl", "proofs", "tests"}


def modules() -> list[Path]:
    """The project's Python files: what git tracks, or, without a clone, what lies in the folders."""
    found = tracked() or [
        path.relative_to(ROOT) for name in OURS for path in (ROOT / name).rglob("*.py")
    ]
    return sorted(path for path in found if path.suffix == ".py")


@cache
def imports(source: str) -> frozenset[str]:
    """What a module imports, wherever in it: a module or a package, and perhaps a name in it."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who is imported"
            found.update(f"{node.module}.{name.name}" for name in node.names)
    return frozenset(found)


def violations(package: str, source: str) -> set[str]:
    """The top-level packages that a module of ``package`` imports and must not."""
    found = {name.split(".")[0] for name in imports(source)}
    bad = found & FORBIDDEN[package]
    if package == "model":
        bad |= found - set(sys.stdlib_module_names) - {"model"}
    return bad


@pytest.mark.parametrize("package", FORBIDDEN)
def test_the_arrows_point_to_the_model(package: str) -> None:
    files = [path for path in modules() if path.parts[0] == package]
    assert files
    found = {str(path): violations(package, (ROOT / path).read_text()) for path in files}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_the_check_can_fail() -> None:
    assert violations("model", "import numpy") == {"numpy"}
    assert violations("impl", "def f():\n    from proofs.shares import x") == {"proofs"}


def name_of(path: Path) -> str:
    """``impl.kernels.flush``; a package for its ``__init__.py``."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """For each module, by name, the ones of these modules that it imports."""
    found = dict[str, set[str]]()
    for name, source in sources.items():
        within = {one if one in sources else one.rpartition(".")[0] for one in imports(source)}
        found[name] = (within & set(sources)) - {name}
    return found


def circles(edges: Mapping[str, set[str]]) -> set[str]:
    """The modules that import each other round and round, or are imported by such only."""
    left = dict(edges)
    while ends := [name for name, others in left.items() if not others & set(left)]:
        for name in ends:
            del left[name]
    return set(left)


def layer(name: str) -> int:
    """The line of LAYERS that a module belongs to: that of the longest name which it begins with."""
    lines = [line.split() for line in LAYERS[name.split(".")[0]].strip().splitlines()]
    found = [
        (len(part), number)
        for number, line in enumerate(lines)
        for part in line
        if name == part or name.startswith(f"{part}.")
    ]
    return max(found)[1]


def upwards(edges: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """The imports of a folder's own modules that go to a later line."""
    return {
        (one, other)
        for one, others in edges.items()
        for other in others
        if one.split(".")[0] == other.split(".")[0] in LAYERS and layer(other) > layer(one)
    }


def sources() -> dict[str, str]:
    return {name_of(path): (ROOT / path).read_text(encoding="utf-8") for path in modules()}


def test_nothing_is_imported_in_a_circle_or_upwards() -> None:
    edges = imported(sources())
    assert circles(edges) == set()
    assert upwards(edges) == set()


def test_every_line_of_the_order_names_something() -> None:
    names = set(sources())
    listed = {name for text in LAYERS.values() for name in text.split()}
    assert listed <= names
    for folder in ("model", "impl"):
        of_it = {name for name in names if name.startswith(f"{folder}.")}
        unlisted = {
            n for n in of_it if not any(f"{n}.".startswith(f"{x}.") for x in listed - {folder})
        }
        assert unlisted == set()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model.protocols.check_in", "from model.faults.check_in import BROKEN"),
        ("model.protocols.check_in", "from model.explore import search"),
        ("model.explore.weak.search", "from model.explore import catalogue"),
        ("impl.kernels.flush", "from impl.bitmap import set_bits"),
        ("impl.ram", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import impl.pool"),
        ("impl.pool", "def f():\n    from impl import Block"),
        ("impl.ports.build", "from impl.bench.patterns import Epoch"),
        ("proofs.prover.symbolic", "from proofs.words import bit"),
    ],
)
def test_an_import_upwards_is_refused(module: str, line: str) -> None:
    changed = sources()
    changed[module] += f"\n{line}\n"
    assert {one for one, _ in upwards(imported(changed))} == {module}


def test_a_circle_within_one_line_is_refused() -> None:
    changed = sources()
    changed["model.shares"] += "\nfrom model.walk import begin\n"
    edges = imported(changed)
    assert upwards(edges) == set()
    assert {"model.shares", "model.walk"} <= circles(edges)


@needs_git
def test_the_top_level_is_fixed() -> None:
    here = {path.parts[0] for path in tracked()}
    assert {name for name in here if not name.startswith(".")} == TOP_LEVEL


def unnamed(folder: str, text: str) -> list[str]:
    """The modules of a folder that its README names neither by path nor in a line about their folder."""
    lines = text.splitlines()
    missing = []
    for path in modules():
        if path.parts[0] != folder or path.name == "__init__.py":
            continue
        if any((ROOT / above / "README.md").exists() for above in list(path.parents)[:-2]):
            continue  # one of its own, nearer
        below = path.relative_to(folder)
        in_line = [line for line in lines if f"`{below.parent}/`" in line]
        if f"`{below}`" not in text and not any(f"`{path.name}`" in line for line in in_line):
            missing.append(str(below))
    return missing


@pytest.mark.parametrize("folder", ["model", "impl", "proofs", "tests"])
def test_each_folder_says_what_is_in_it(folder: str) -> None:
    """Every module is named in the README of its folder, or has one in a folder below."""
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    assert unnamed(folder, text) == []
    assert unnamed(folder, text.replace(".py`", "`")) != []
