"""Run counterexamples on the model and print each step: ``python -m model.replay FILE...``.

A counterexample is what refutes a claim, or a control of one: concrete values, small ones. It is never
believed because a solver said so; it is run here, on the definitions that the solver was shown, and must
fail. Exit 0: it fails as recorded. 1: it does not. 2: not a counterexample.

``--html`` draws them, to be stepped through in a browser; ``--json`` writes what is drawn.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from model.boundary.command import run
from model.boundary.docstring import docstring
from model.boundary.input import read_text
from model.boundary.options import Parser
from model.boundary.output import check_outputs, printable, run_command
from model.errors import ColoError
from model.faults import FAULTS, broken
from model.page.document import Document, Replays, document, save
from model.page.page import write_page
from model.scenarios import FAILS, SCENARIOS

TRAPS = Path(__file__).parent / "TRAPS.md"

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
    lines, failure = lines_of(counterexample)
    return replace(counterexample, steps=[str(line) for line in lines], failure=failure)


def lines_of(counterexample: Counterexample) -> tuple[list[str], str]:
    """Run it: its lines, some with a picture (``model.page.picture``), and its failure."""
    with broken(counterexample.fault):
        lines = list(SCENARIOS[counterexample.scenario].run(**counterexample.values))
    failure = lines[-1].removeprefix(FAILS) if lines and lines[-1].startswith(FAILS) else ""
    return (lines[:-1] if failure else lines), failure


def add_to(
    replays: Replays, name: str, counterexample: Counterexample, lines: Sequence[str], failure: str
) -> str:
    """Add a run of it to a document, under this name."""
    fault, scenario = counterexample.fault, SCENARIOS[counterexample.scenario]
    return replays.add(
        name,
        lines,
        failure,
        claim=counterexample.claim,
        control=counterexample.control,
        broken=FAULTS[fault].what if fault else None,
        scenario=counterexample.scenario,
        about=docstring(scenario.run).splitlines()[0],
        values=counterexample.values,
    )


def traps(text: str) -> list[Document]:
    """The traps of TRAPS.md, each with the names of the counterexamples that its section quotes."""
    rows = re.findall(r"^\| \[(\d+)\]\(#\d+\) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    sections = dict(re.findall(r"^## (\d+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    return [
        {
            "number": int(number),
            "title": title.replace("`", ""),
            "verdict": verdict.replace("*", ""),
            "replays": re.findall(r"tests/counterexamples/(\S+?)\.json", sections[number]),
        }
        for number, title, verdict in rows
    ]


def main(arguments: list[str]) -> int:
    """Replay some files."""
    parser = Parser(prog="python -m model.replay", description=__doc__)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="a counterexample: tests/counterexamples/*.json",
    )
    parser.add_argument("--json", metavar="OUT", type=Path, help="write every step")
    parser.add_argument("--html", metavar="OUT", type=Path, help="draw every step")
    options = parser.parse_args(arguments)
    return run_command(lambda: _show_all(options.files, options.json, options.html))


def _show_all(files: Sequence[Path], json_file: Path | None, html_file: Path | None) -> int:
    check_outputs(json_file, html_file, inputs=files)
    replays = Replays()
    codes = [_show(str(path), replays) for path in files]
    found = document("replays", traps=traps(TRAPS.read_text("utf-8")), **replays.parts())
    if max(codes) < 2 and json_file:
        save(json_file, found)
    if max(codes) < 2 and html_file:
        write_page(html_file, found)
    return max(codes)


def _show(path: str, replays: Replays) -> int:
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
        lines, failure = lines_of(recorded)
    except Exception as error:  # values that no run of this scenario can have
        print(
            f"error: {printable(path)}: not a counterexample: scenario {recorded.scenario!r} cannot "
            f"run these values ({type(error).__name__}: {printable(error)})",
            file=sys.stderr,
        )
        return 2
    for number, line in enumerate(lines, 1):
        print(f"{number:4}  {printable(line)}")
    print(FAILS + printable(failure) if failure else "does not fail")
    add_to(replays, Path(path).stem, recorded, lines, failure)
    return 0 if failure else 1


if __name__ == "__main__":
    run(main)
