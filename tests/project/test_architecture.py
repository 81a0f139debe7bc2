"""Who may import whom: tests -> impl, proofs -> model; model imports only the standard library."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import ROOT, needs_git, tracked

OURS = {"model", "impl", "proofs", "tests"}
FORBIDDEN = {
    "model": {"impl", "proofs", "tests"},
    "impl": {"proofs", "tests"},
    "proofs": {"impl", "tests"},
}
TOP_LEVEL = {"README.md", "pyproject.toml", "LICENSE", "model", "impl", "proofs", "tests"}


def modules() -> list[Path]:
    """The project's Python files: what git tracks, or, without a clone, what lies in the folders."""
    found = tracked() or [
        path.relative_to(ROOT) for name in OURS for path in (ROOT / name).rglob("*.py")
    ]
    return sorted(path for path in found if path.suffix == ".py")


def imports(source: str) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who is imported"
            yield (node.module or "").split(".")[0]


def violations(package: str, source: str) -> set[str]:
    """What a module of ``package`` imports and must not."""
    found = set(imports(source))
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


@needs_git
def test_the_top_level_is_fixed() -> None:
    here = {path.parts[0] for path in tracked()}
    assert {name for name in here if not name.startswith(".")} == TOP_LEVEL


@pytest.mark.parametrize("folder", ["model", "impl", "proofs", "tests"])
def test_each_folder_says_what_is_in_it(folder: str) -> None:
    """Every module of a folder is named in the folder's README."""
    text = (ROOT / folder / "README.md").read_text()
    names = [path.name for path in modules() if path.parent == Path(folder)]
    assert [name for name in names if name != "__init__.py" and name not in text] == []
