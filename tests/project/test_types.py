"""What the model computes with has types: mypy checks nothing where a field or a parameter is ``Any``."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import ROOT

#: The definitions themselves. What explores or replays them holds states of any system.
CORE = [
    *(ROOT / "model").glob("*.py"),
    *(ROOT / "model" / "protocols").glob("*.py"),
    *(ROOT / "model" / "faults").glob("definitions.py"),
]
#: They are about any function, any error's cause, any step of a system, any counterexample.
ABOUT_ANYTHING = {"domain.py", "errors.py", "transitions.py", "replay.py"}


def untyped(source: str) -> set[str]:
    """The fields, parameters, results and names of types that are, or hold, ``Any``."""
    return {name for name, annotation in _annotated(ast.parse(source)) if _is_any(annotation)}


def _annotated(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
            yield from ((f"{node.name}.{ast.unparse(f.target)}", f.annotation) for f in fields)
        elif isinstance(node, ast.FunctionDef):
            yield from ((f"{node.name}({a.arg})", a.annotation) for a in _arguments(node.args))
            yield f"{node.name}()", node.returns
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign):
            yield ast.unparse(statement.target), statement.value


def _arguments(of: ast.arguments) -> list[ast.arg]:
    return [*of.posonlyargs, *of.args, *of.kwonlyargs, *filter(None, (of.vararg, of.kwarg))]


def _is_any(annotation: ast.expr | None) -> bool:
    named = ast.walk(annotation) if annotation else ()
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in named)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_definitions_are_typed(path: Path) -> None:
    if path.name not in ABOUT_ANYTHING:
        assert untyped(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class Walk(NamedTuple):\n    offset: Any", "Walk.offset"),
        ("class Walk(NamedTuple):\n    seen: tuple[Any, ...]", "Walk.seen"),
        ("Field: TypeAlias = Any", "Field"),
        ("def count_down(dirty_pages: int, hit: Any) -> int: ...", "count_down(hit)"),
        ("def finished(walk: Walk) -> Any: ...", "finished()"),
    ],
)
def test_any_is_found_where_it_stands(source: str, found: str) -> None:
    assert untyped(source) == {found}
