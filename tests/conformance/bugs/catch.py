"""Builds the port with one of its bugs and lets the suite loose on it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impl.ports.build import build
from tests.conformance.finding import Finding
from tests.conformance.process import Subject
from tests.conformance.suite import Effort, Session, all_checks

PORT = Path(__file__).parent / "port.c"
_LINE = re.compile(r"^ {4}bug_(\w+), +/\* (race: )?(.+?) \*/$", re.MULTILINE)


@dataclass(frozen=True)
class Bug:
    """One bug of port.c. A race shows only when threads collide."""

    name: str
    what: str
    race: bool


@dataclass(frozen=True)
class Catch:
    """The first check that failed, the rule it says is broken, and how long that took."""

    check: str
    rule: str
    seconds: float


BUGS = tuple(Bug(name, what, bool(race)) for name, race, what in _LINE.findall(PORT.read_text()))


def library(bug: Bug | None) -> str:
    """The port built with this bug; None: without any."""
    return str(build(PORT, defines=[f"BUG={bug.name}"] if bug else []))


def catch_in_runs(bug: Bug, runs: int, effort: float = 1.0) -> Iterator[Catch | None]:
    """What catches the bug, in each of a number of runs with different seeds."""
    path = library(bug)
    for seed in range(runs):
        yield first_failure(path, Effort(effort, seed, shrink=False))


def first_failure(path: str, effort: Effort) -> Catch | None:
    """The first failing check of a port; None if it passes."""
    start = time.monotonic()
    with Session(Subject(path), effort) as session:
        for check in all_checks():
            found = check.run(session)
            if isinstance(found, Finding):
                return Catch(check.name, found.rule, time.monotonic() - start)
    return None


def passes_without_bug(effort: float = 1.0) -> bool:
    """The control: the port without a bug."""
    return first_failure(library(None), Effort(effort, shrink=False)) is None
