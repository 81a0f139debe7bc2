"""``python -O`` leaves out ``assert``, ``-OO`` docstrings too: neither may change what a program says."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNTEREXAMPLE = "tests/counterexamples/schedule-check-in-never-closes.json"
TRACE = "tests/traces/colo-idle-512m.npz"


def programs() -> list[Path]:
    """Everything but what only pytest runs, and never under -O."""
    folders = ("model", "impl", "proofs", "tests/conformance", "tests/guest")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    alone = [
        path
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if "    run(main)\n" in path.read_text() and path not in files
    ]
    return [path for path in (*files, *alone) if not path.name.startswith("test_")]


def left_out(source: str) -> Iterator[str]:
    """What this source says by ``assert``, ``__debug__`` or a docstring that it reads.

    A help text may be a docstring, and a docstring may be handed on as one.
    """
    tree = ast.parse(source)
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "description":
            allowed.add(node.value)
        elif isinstance(node, ast.Assign) and any(map(_is_docstring, _within(*node.targets))):
            allowed.update(_within(*node.targets, node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"
        elif isinstance(node, ast.Name) and node.id == "__debug__":
            yield f"line {node.lineno}: __debug__"
        elif _is_docstring(node) and node not in allowed:
            yield f"line {node.lineno}: __doc__"  # type: ignore[attr-defined]


def _within(*nodes: ast.AST) -> Iterator[ast.AST]:
    return (inner for node in nodes for inner in ast.walk(node))


def _is_docstring(node: ast.AST) -> bool:
    return "__doc__" in (getattr(node, "id", ""), getattr(node, "attr", ""))


@pytest.mark.parametrize("path", programs(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_verdict_rests_on_what_is_left_out(path: Path) -> None:
    found = list(left_out(path.read_text()))
    assert found == [] or path == ROOT / "model" / "boundary" / "docstring.py"


@pytest.mark.parametrize(
    "source",
    ["assert x", "if __debug__: f()", "f.__doc__.split()", "Step(act.__doc__)", "text = __doc__"],
)
def test_the_check_can_fail(source: str) -> None:
    assert list(left_out(source))


def run(optimised: str, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *optimised.split(), "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_commands_say_the_same_optimised(tmp_path: Path, long_run: bool) -> None:
    assert run("-OO", "model.replay", COUNTEREXAMPLE) == run("", "model.replay", COUNTEREXAMPLE)
    file = tmp_path / "found.json"
    run("-OO", "proofs", "--only", "words.no_shift_by_64", "--json", str(file))
    claim = json.loads(file.read_text())["claims"][0]
    assert claim["verdict"] == "proved"
    assert claim["sentence"].startswith("No shift is ever by 64 or more")
    assert "vector/" in run("-OO", "tests.conformance", "--implementation", "impl", "--list")
    if long_run:
        assert "every byte at the end" in run("-OO", "impl", "flush", TRACE)
        assert "FAILS" not in run("-OO", "model.explore").split("fault=")[0]
