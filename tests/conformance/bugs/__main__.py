"""Does the suite catch the bugs of port.c, serial.c and vector.c?

    python -m tests.conformance.bugs             builds each, runs the suite, writes CAUGHT.md
    python -m tests.conformance.bugs NAME ...    shows how these fail

Each must be caught by a check that is about it. A race is run ten times, with ten seeds, and must be
caught in all of them. Exit code 1 if a bug gets by, or if a port without a bug fails (the control).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import write_text
from tests.conformance import __main__ as conformance
from tests.conformance.bugs.catch import (
    BUGS,
    Bug,
    Catch,
    catch_in_runs,
    library,
    passes_without_bug,
)

TABLE = Path(__file__).parent / "CAUGHT.md"
RUNS_OF_A_RACE = 10

HEAD = """\
# What the suite catches

Each bug of [port.c](port.c), a pool that waits by events, of [serial.c](serial.c), one thread, and of
[vector.c](vector.c), a pool that waits on a condition, built on its own; and of the checks that are about
such bugs the first that failed. Written by `python -m tests.conformance.bugs`; the same ports without
a bug pass every check.

| bug | what is wrong | caught by | rule broken | seconds | port |
|---|---|---|---|---|---|
"""


def show(names: Sequence[str]) -> int:
    """Show how the suite fails each of these bugs."""
    known = {bug.name: bug for bug in BUGS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no bug {unknown[0]!r}: have {', '.join(known)}", file=sys.stderr)
        return 2
    missed = 0
    for name in names:
        print(f"{name}: {known[name].what}", flush=True)
        missed += conformance.main(["--library", library(known[name])]) == 0
    return 1 if missed else 0


def write_table() -> int:
    """Run all bugs and the control, and write the table."""
    missed = 0
    rows = []
    for bug in BUGS:
        catches = list(catch_in_runs(bug, RUNS_OF_A_RACE if bug.race else 1))
        caught = [catch for catch in catches if catch]
        enough = len(caught) == len(catches)
        missed += not enough
        rows.append(_row(bug, caught, len(catches)))
        print(rows[-1] if enough else f"{rows[-1]}  <-- NOT CAUGHT", flush=True)
    sound = passes_without_bug()
    control = "every check passed" if sound else "FAILS"
    print(f"{len(BUGS) - missed} of {len(BUGS)} bugs caught; without a bug: {control}")
    write_text(TABLE, HEAD + "\n".join(rows) + "\n")
    return 0 if sound and not missed else 1


def _row(bug: Bug, caught: Sequence[Catch], runs: int) -> str:
    checks = ", ".join(sorted({f"`{catch.check}`" for catch in caught}))
    rules = ", ".join(sorted({catch.rule for catch in caught}))
    slowest = max((catch.seconds for catch in caught), default=0.0)
    often = f" ({len(caught)} of {runs} runs)" if bug.race else ""
    return (
        f"| {bug.name} | {bug.what} | {checks}{often} | {rules} | {slowest:.1f} | {bug.port.stem} |"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the table, or show how the suite fails the bugs that are named."""
    parser = Parser(
        prog="python -m tests.conformance.bugs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="default: all, and write CAUGHT.md"
    )
    names = parser.parse_args(arguments).names
    return show(names) if names else write_table()


if __name__ == "__main__":
    run(main)
