"""Prints what pyproject.toml requires, as requirements for pip.

    python3 .ci/requirements.py [--lowest] GROUP...    GROUP: build, run, or an extra (test, plot, check)

With --lowest each at the lowest version allowed. A floor that is not installed and tested is a guess:
`.ci/run lowest` does both.
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
    groups = [argument for argument in sys.argv[1:] if argument != "--lowest"]
    for requirement in dict.fromkeys(r for group in groups for r in GROUPS[group]):
        print(lowest(requirement) if "--lowest" in sys.argv else requirement)
