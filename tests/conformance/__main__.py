"""python -m tests.conformance (--library PORT.so | --implementation impl): is this flush right?

Exit code 0: every check passed; 1: a rule is broken, shown with the smallest input found; 2: there
is nothing to check (no such file, no such check).
"""

import argparse
import fnmatch
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from model.boundary.command import run
from model.boundary.options import Parser, factor, seed
from model.boundary.output import check_outputs, printable, run_command
from model.page.document import document, save
from model.page.page import write_page
from tests.conformance.call import call_to_json, outcome_to_json
from tests.conformance.expected import expect
from tests.conformance.finding import Finding
from tests.conformance.process import PATIENCE, Subject
from tests.conformance.rules import RULES
from tests.conformance.show import as_rows, c_program, picture
from tests.conformance.suite import Check, Effort, Session, all_checks


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="python -m tests.conformance", description=__doc__)
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--library", metavar="PORT.so", help="a port behind the C ABI")
    subject.add_argument("--implementation", choices=["impl"], help="our own flush")
    parser.add_argument("--strategy", default="dynamic", help="of our own flush")
    parser.add_argument("--only", metavar="GLOB", default="*", help="checks to run, by name")
    parser.add_argument(
        "--except", dest="left_out", metavar="GLOB", default="", help="checks to leave out"
    )
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--effort", type=factor, default=1.0, help="factor on search and stress")
    parser.add_argument("--seed", type=seed, default=0, help="of the searches and of stress")
    parser.add_argument(
        "--patience",
        type=factor,
        default=PATIENCE,
        metavar="SECONDS",
        help="how long a call may burn processor time, or sleep with nobody awake; more for "
        "valgrind, sanitizers and emulators",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, for programs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="draw the results, to look at")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the checks; the exit code."""
    options = arguments(given)
    return run_command(lambda: _check(options))


def _check(options: argparse.Namespace) -> int:
    checks = [
        check
        for check in all_checks()
        if (not check.by_library or options.library or options.list)
        and fnmatch.fnmatch(check.name, options.only)
        and not fnmatch.fnmatch(check.name, options.left_out)
    ]
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if options.list:
        console.print("\n".join(check.name for check in checks))
        return 0
    if options.library and not Path(options.library).is_file():
        console.print(f"no file {printable(options.library)}: build the port first")
        return 2
    if not checks:
        console.print(f"no check matches {printable(options.only)}: see --list")
        return 2
    inputs = [Path(options.library)] if options.library else ()
    check_outputs(options.json, options.html, inputs=inputs)
    library = str(Path(options.library).resolve()) if options.library else None
    subject = Subject(library, options.strategy)
    results = _run(subject, checks, options, console)
    found = document("conformance", subject=str(subject), checks=results)
    if options.json:
        save(options.json, found)
    if options.html:
        write_page(options.html, found)
    failed = [result["name"] for result in results if not result["passed"]]
    console.print(_verdict(subject, results, failed))
    return 1 if failed else 0


def _run(
    subject: Subject, checks: Sequence[Check], options: argparse.Namespace, console: Console
) -> list[dict[str, Any]]:
    results = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = not console.is_terminal
    session = Session(subject, Effort(options.effort, options.seed, patience=options.patience))
    with session, Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=len(checks))
        for number, check in enumerate(checks, 1):
            bar.update(task, description=f"{number}/{len(checks)} {check.name}")
            start = time.monotonic()
            found = check.run(session)
            seconds = time.monotonic() - start
            results.append(result_of(check, found, seconds))
            if isinstance(found, Finding):
                console.print(
                    f"FAIL {check.name} ({seconds:.1f} s)\n{explain(found)}", markup=False
                )
                if not options.keep_going:
                    break
    return results


def result_of(check: Check, found: int | Finding, seconds: float) -> dict[str, Any]:
    """A check's part of the document: how many cases went well, or the failure in full."""
    result: dict[str, Any] = {"name": check.name, "seconds": round(seconds, 3)}
    if isinstance(found, int):
        return {**result, "passed": True, "cases": found}
    return {
        **result,
        "passed": False,
        "rule": RULES[found.rule],
        "rules": sorted({violation.rule for violation in found.violations}),
        "broken": [asdict(violation) for violation in found.violations],
        "calls": [call_to_json(call) for call in found.calls],
        "expected": [outcome_to_json(expect(call)) for call in found.calls],
        "got": outcome_to_json(found.outcome) if found.outcome else None,
        "note": found.note,
        "picture": _picture(found),
        "program": _program(found),
    }


def _picture(finding: Finding) -> dict[str, Any] | None:
    if not finding.calls:
        return None
    last = finding.calls[-1]
    return as_rows(last, expect(last), finding.outcome)


def _program(finding: Finding) -> str | None:
    if not (finding.calls and finding.repeats):
        return None
    return c_program(finding.calls, [expect(call) for call in finding.calls])


MOST_DETAILS = 6


def explain(finding: Finding) -> str:
    """A failure in full: the rules, the picture, the program."""
    lines = []
    for violation in finding.violations[:MOST_DETAILS]:
        lines.append(f"  {violation.rule}: {violation.detail}")
    if len(finding.violations) > MOST_DETAILS:
        lines.append(f"  ... and {len(finding.violations) - MOST_DETAILS} more")
    lines += ["", f"The rule: {RULES[finding.rule]}.", finding.note]
    if finding.calls:
        last = finding.calls[-1]
        if len(finding.calls) > 1:
            lines.append(f"The last of these {len(finding.calls)} calls:")
        lines.append(picture(last, expect(last), finding.outcome))
        if program := _program(finding):
            lines += ["", "To repeat it:", "", program]
    return "\n".join(lines)


def _verdict(subject: Subject, results: list[dict[str, Any]], failed: list[str]) -> str:
    name = printable(subject)
    seconds = sum(result["seconds"] for result in results)
    if failed:
        return f"{name}: {len(failed)} of {len(results)} checks run failed ({seconds:.1f} s)"
    lines = []
    for stage in dict.fromkeys(result["name"].split("/")[0] for result in results):
        mine = [r for r in results if r["name"].split("/")[0] == stage]
        cases, spent = (sum(r[what] for r in mine) for what in ("cases", "seconds"))
        lines.append(f"{stage:<12}{len(mine):>5} checks {cases:>8} cases {spent:>7.1f} s")
    return "\n".join((*lines, f"{name}: every check passed ({seconds:.1f} s)"))


if __name__ == "__main__":
    run(main)
