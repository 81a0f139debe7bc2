"""Builds a port with one of its bugs and lets the checks that are about it loose on it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impl.ports.build import build
from tests.conformance.finding import Finding
from tests.conformance.process import Subject
from tests.conformance.suite import Check, Effort, Session, all_checks

# Three ports without a bug: a pool that waits by events, one thread, a pool that waits on a condition.
PORT, SERIAL, VECTOR = (
    Path(__file__).parent / f"{name}.c" for name in ("port", "serial", "vector")
)
PORTS = (PORT, SERIAL, VECTOR)

_ENTRY = re.compile(
    r"^ {4}(?:/\* \[(?P<about>[^\]]+)\].*\*/"
    r"|bug_(?P<name>\w+), +/\* (?P<race>race: )?(?P<what>.+?) \*/)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Bug:
    """One bug of a port. A race shows only when threads collide.

    ``about``: how the names of the checks begin that are there for such bugs.
    """

    port: Path
    name: str
    what: str
    race: bool
    about: tuple[str, ...]


@dataclass(frozen=True)
class Catch:
    """The first check that failed, the rule it says is broken, and how long that took."""

    check: str
    rule: str
    seconds: float


def _bugs_of(port: Path) -> Iterator[Bug]:
    about: tuple[str, ...] = ()
    for entry in _ENTRY.finditer(port.read_text()):
        if entry["about"]:
            about = tuple(entry["about"].split())
        else:
            yield Bug(port, entry["name"], entry["what"], bool(entry["race"]), about)


BUGS = tuple(bug for port in PORTS for bug in _bugs_of(port))


def library(bug: Bug | None, port: Path = PORT) -> str:
    """The port of the bug built with it; None: ``port`` without any."""
    if bug is None:
        return str(build(port))
    return str(build(bug.port, defines=[f"BUG={bug.name}"]))


def checks_about(bug: Bug) -> list[Check]:
    """The checks that are there for it, in the order in which they are run."""
    return [check for check in all_checks() if check.name.startswith(bug.about)]


def catch_in_runs(bug: Bug, runs: int, effort: float = 1.0) -> Iterator[Catch | None]:
    """What catches the bug, in each of a number of runs with different seeds."""
    path = library(bug)
    for seed in range(runs):
        yield first_failure(path, Effort(effort, seed, shrink=False), checks_about(bug))


def first_failure(path: str, effort: Effort, checks: list[Check]) -> Catch | None:
    """The first of the checks that fails; None if the port passes them."""
    start = time.monotonic()
    with Session(Subject(path), effort) as session:
        for check in checks:
            found = check.run(session)
            if isinstance(found, Finding):
                return Catch(check.name, found.rule, time.monotonic() - start)
    return None


def passes_without_bug(effort: float = 1.0) -> bool:
    """The control: the ports without a bug, and every check."""
    return not any(
        first_failure(library(None, port), Effort(effort, shrink=False), all_checks())
        for port in PORTS
    )
