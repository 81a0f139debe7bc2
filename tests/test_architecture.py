"""Who may import whom: tests -> impl, proofs -> model; model imports only the standard library."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"model", "impl", "proofs", "tests"}
FORBIDDEN = {
    "model": {"impl", "proofs", "tests"},
    "impl": {"proofs", "tests"},
    "proofs": {"impl", "tests"},
}
TOP_LEVEL = {"README.md", "pyproject.toml", "LICENSE", "model", "impl", "proofs", "tests"}


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
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert {str(f): v for f in files if (v := violations(package, f.read_text()))} == {}


def test_the_check_can_fail() -> None:
    assert violations("model", "import numpy") == {"numpy"}
    assert violations("impl", "def f():\n    from proofs.shares import x") == {"proofs"}


def test_the_top_level_is_fixed() -> None:
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    built = {name for name in here if name.endswith(".egg-info") or name == "build"}
    assert here - built == TOP_LEVEL


@pytest.mark.parametrize("folder", ["model", "impl", "proofs", "tests"])
def test_each_folder_says_what_is_in_it(folder: str) -> None:
    """Every module of a folder is named in the folder's README."""
    text = (ROOT / folder / "README.md").read_text()
    modules = [p.name for p in (ROOT / folder).glob("*.py") if p.name != "__init__.py"]
    assert [name for name in modules if name not in text] == []
