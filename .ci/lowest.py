"""Prints the lowest version of each dependency that pyproject.toml allows, as requirements for pip.

    python3 .ci/lowest.py GROUP...      GROUP: build, run, or an extra (test, plot, check)

A floor that is not installed and tested is a guess: `.ci/run lowest` does both.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = tomllib.loads(Path(__file__).parent.parent.joinpath("pyproject.toml").read_text())
GROUPS = {
    "build": PYPROJECT["build-system"]["requires"],
    "run": PYPROJECT["project"]["dependencies"],
    **PYPROJECT["project"]["optional-dependencies"],
}


def lowest(requirement: str) -> str:
    """``name>=floor`` as ``name==floor``; nothing else is a requirement here."""
    match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
    if not match:
        sys.exit(f"{requirement!r} in pyproject.toml has no floor: write NAME>=VERSION")
    return f"{match[1]}=={match[2]}"


if __name__ == "__main__":
    for group in sys.argv[1:]:
        print(*map(lowest, GROUPS[group]), sep="\n")
