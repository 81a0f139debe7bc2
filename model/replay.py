"""Run a counterexample on the model and print each step: ``python -m model.replay FILE``.

A counterexample is what refutes a claim, or a control of one: concrete values, small ones. It is never
believed because a solver said so; it is run here, on the definitions that the solver was shown, and must
fail. Exit 0: it fails as recorded. 1: it does not. 2: not a counterexample.
"""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model.boundary.command import run
from model.boundary.input import read_text
from model.boundary.options import Parser
from model.boundary.output import printable, run_command
from model.errors import ColoError
from model.faults import FAULTS, broken
from model.scenarios import FAILS, SCENARIOS

#: In bytes. They are small by nature; JSON takes twenty times its size in memory.
LARGEST_COUNTEREXAMPLE = 4 << 20


@dataclass(frozen=True)
class Counterexample:
    """Values that refute a claim, by itself or under a control; the steps and failure seen."""

    claim: str
    control: str | None
    fault: str | None
    scenario: str
    values: dict[str, Any]
    steps: list[str] = field(default_factory=list)
    failure: str = ""

    def to_json(self) -> str:
        """The file format."""
        return json.dumps(asdict(self), indent=2) + "\n"


class NotACounterexample(ColoError, ValueError):
    """A file that this program can't run."""


def load(path: str) -> Counterexample:
    """Read a counterexample; NotACounterexample if it isn't one."""
    try:
        found = Counterexample(**json.loads(read_text(path, LARGEST_COUNTEREXAMPLE)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise NotACounterexample(f"{path}: not a counterexample: {error}") from error
    _check_types(path, found)
    if found.scenario not in SCENARIOS:
        raise NotACounterexample(
            f"{path}: scenario {found.scenario!r} is unknown: have {', '.join(SCENARIOS)}"
        )
    if found.fault is not None and found.fault not in FAULTS:
        raise NotACounterexample(f"{path}: fault {found.fault!r} is unknown: see model/faults/")
    return found


def _check_types(path: str, found: Counterexample) -> None:
    texts = (found.claim, found.control or "", found.fault or "", found.scenario, found.failure)
    if not all(isinstance(text, str) for text in texts) or not isinstance(found.values, dict):
        raise NotACounterexample(
            f"{path}: not a counterexample: claim, control, fault and scenario are texts, "
            "values an object"
        )


def replay(counterexample: Counterexample) -> Counterexample:
    """Run it, under its fault. The result has its steps, and its failure ("" if it does not fail)."""
    with broken(counterexample.fault):
        lines = list(SCENARIOS[counterexample.scenario].run(**counterexample.values))
    failure = lines[-1].removeprefix(FAILS) if lines and lines[-1].startswith(FAILS) else ""
    steps = lines[:-1] if failure else lines
    return replace(counterexample, steps=steps, failure=failure)


def main(arguments: list[str]) -> int:
    """Replay one file."""
    parser = Parser(prog="python -m model.replay", description=__doc__)
    parser.add_argument(
        "file", metavar="FILE", help="a counterexample: tests/counterexamples/*.json"
    )
    path = parser.parse_args(arguments).file
    return run_command(lambda: _show(path))


def _show(path: str) -> int:
    try:
        recorded = load(path)
    except NotACounterexample as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    print(f"claim: {printable(recorded.claim)}")
    if recorded.control:
        print(f"control: {printable(recorded.control)}")
    if recorded.fault:
        print(f"broken: {FAULTS[recorded.fault].what}")
    try:
        seen = replay(recorded)
    except Exception as error:  # values that no run of this scenario can have
        print(
            f"error: {printable(path)}: not a counterexample: scenario {recorded.scenario!r} cannot "
            f"run these values ({type(error).__name__}: {printable(error)})",
            file=sys.stderr,
        )
        return 2
    for number, step in enumerate(seen.steps, 1):
        print(f"{number:4}  {printable(step)}")
    print(FAILS + printable(seen.failure) if seen.failure else "does not fail")
    return 0 if seen.failure else 1


if __name__ == "__main__":
    run(main)
