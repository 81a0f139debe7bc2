"""Checks that are C programs: what no call from Python can show. See c/."""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.inside import run_inside
from tests.conformance.programs import HERE, build_program, run_program
from tests.conformance.programs import Result as Result

# In the order in which they are run: what most often finds something first.
PROGRAMS = (
    "contents",
    "clean_pages",
    "page_sizes",
    "caller",
    "repeat",
    "afterwards",
    "many_calls",
    "delays",
    "missing",
    "scale",
)
# Seconds each: left out where little effort is asked for.
SLOW = (
    "delays/long",
    "delays/large",
    "many-calls/asleep-65536",
    "scale/waits-long",
    "scale/run-2GiB",
    "scale/run-4GiB",
    "scale/blocks-400000",
)
EFFORT_FOR_SLOW = 0.3

# What is not done to our own flush, whose calls go by way of Python.
NOT_TO_OURS = {
    "delays/*": "threads are held up in the locks of the C library, and our own flush has none",
    "missing/*": "functions are replaced that Python needs: see tests/impl/test_pool.py",
    **dict.fromkeys(
        (*SLOW, "many-calls/piles-up", "scale/blocks-*"), "by way of Python it takes minutes"
    ),
}

_CASE = re.compile(r'\{"([\w-]+)", \w+\}')


@dataclass(frozen=True)
class Probe:
    """One case of one program."""

    program: str
    case: str

    @property
    def name(self) -> str:
        """The check's name."""
        return f"{self.program.replace('_', '-')}/{self.case}"

    @property
    def source(self) -> Path:
        """Its C file."""
        return HERE / f"{self.program}.c"

    def run(self, port: str, patience: float, seed: int = 0, effort: float = 1.0) -> Result:
        """What it finds in a port."""
        program = build_program(self.source)
        return run_program([str(program), self.case], port, patience, seed, effort)

    def run_on_ours(self, strategy: str, patience: float, seed: int, effort: float) -> Result:
        """What it finds in our own flush."""
        return run_inside(self.source, self.case, strategy, patience, seed, effort)

    @property
    def why_not_to_ours(self) -> str | None:
        """Why it is not run on our own flush, if so."""
        return next(
            (why for names, why in NOT_TO_OURS.items() if fnmatch.fnmatch(self.name, names)), None
        )


def _cases(program: str) -> list[str]:
    return _CASE.findall((HERE / f"{program}.c").read_text())


PROBES = tuple(Probe(program, case) for program in PROGRAMS for case in _cases(program))
