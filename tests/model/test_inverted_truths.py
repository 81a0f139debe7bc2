"""``~`` is for words: of a ``bool`` it is -1 or -2, deprecated since Python 3.12, an error in 3.16."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPLAY_ALL = """
import builtins
import sys
from pathlib import Path

# A builtin: what is lifted may hold no number and no function of its own.
builtins.strictly_inverted = lambda x: ~x if not isinstance(x, bool) else 1 // 0

from model.replay import load, replay

for path in sorted(Path(sys.argv[1]).glob("*.json")):
    replay(load(str(path)))
"""


class Strict(ast.NodeTransformer):
    """Each ``~x`` fails if ``x`` is a truth, on every Python."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Invert):
            return node
        return ast.Call(ast.Name("strictly_inverted", ast.Load()), [node.operand], [])


def replayed(folder: Path, to_the_walk: str = "") -> str:
    """What goes wrong when every counterexample is replayed on a strict copy of the model."""
    (folder / "model").mkdir(parents=True)
    for path in sorted((ROOT / "model").rglob("*.py")):
        source = path.read_text()
        if path == ROOT / "model" / "walk.py":
            source += to_the_walk
        strict = ast.fix_missing_locations(Strict().visit(ast.parse(source)))
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(ast.unparse(strict))
    done = subprocess.run(
        [sys.executable, "-c", REPLAY_ALL, str(ROOT / "tests" / "counterexamples")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_no_truth_is_inverted_as_a_word(tmp_path: Path) -> None:
    assert replayed(tmp_path / "as it is") == ""
    wrong = "\nunbroken = finished\ndef finished(walk, limit): return ~~unbroken(walk, limit)\n"
    assert "ZeroDivisionError" in replayed(tmp_path / "the control", wrong)
