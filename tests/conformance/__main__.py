"""python -m tests.conformance (--library PORT.so | --implementation impl): is this flush right?

Exit code 0: every check passed; 1: a rule is broken, shown with the smallest input found; 2: there is
nothing to check, or a check cannot run here; 3: the library does not load; 4: a call hangs; 69 to 74: the
kit lacks a package, memory, or a place for its output.
"""

import argparse
import fnmatch
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from model.boundary.command import run
from model.boundary.options import Parser, factor, refuse_unread, seed
from model.boundary.output import check_outputs, printable, run_command
from model.page.document import document, save
from model.page.page import write_page
from tests.conformance.finding import Finding
from tests.conformance.process import PATIENCE, Subject
from tests.conformance.programs import CannotRunError, NoCompilerError
from tests.conformance.replay import NothingToReplayError, failures_in, replayed
from tests.conformance.report import explain, result_of, tap_line, verdict
from tests.conformance.sanitizers import needs_preloaded
from tests.conformance.suite import Check, Effort, Session, all_checks

PASSED, BROKEN, NOTHING_TO_CHECK, DOES_NOT_LOAD, HANGS = range(5)
#: There in a clone. The kit by itself may stand beside an installed ``impl`` of another version.
OUR_FLUSH = Path(__file__).parents[2] / "impl" / "pool.py"


def arguments(given: Sequence[str] | None, name: str) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog=name, description=__doc__)
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--library", metavar="PORT.so", help="a port behind the C ABI")
    subject.add_argument("--implementation", choices=["impl"], help="our own flush")
    parser.add_argument("--strategy", default="dynamic", help="of our own flush")
    parser.add_argument(
        "--only", metavar="GLOB", action="append", help="checks to run, by name; may be repeated"
    )
    parser.add_argument(
        "--except",
        dest="left_out",
        metavar="GLOB",
        action="append",
        default=[],
        help="checks to leave out; may be repeated",
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
    parser.add_argument("--tap", action="store_true", help="say it in the Test Anything Protocol")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run again what failed in a file of --json"
    )
    options = parser.parse_args(given)
    if not options.list and not options.library and not options.implementation:
        parser.error("one of the arguments --library --implementation is required")
    _refuse_unread(parser, options)
    return options


def _refuse_unread(parser: Parser, options: argparse.Namespace) -> None:
    if options.list:
        how = "strategy", "effort", "seed", "patience", "replay", "keep-going"
        unread = *how, "json", "html", "tap"
        refuse_unread(parser, options, unread, "--list runs nothing")
    if options.library:
        refuse_unread(parser, options, ["strategy"], "is our own flush's, not a port's")
    if options.replay:
        refuse_unread(parser, options, ["effort", "seed"], "is that of the file of --replay")


def main(given: Sequence[str] | None = None, name: str = "python -m tests.conformance") -> int:
    """Run the checks; the exit code. ``name``: what the command is called in its help."""
    options = arguments(given, name)
    return run_command(lambda: _check(options))


def _check(options: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    only = options.only or ["*"]

    def is_chosen(name: str) -> bool:
        matches = partial(fnmatch.fnmatch, name)
        return any(map(matches, only)) and not any(map(matches, options.left_out))

    checks = [check for check in all_checks() if is_chosen(check.name)]
    if not checks:
        console.print(f"no check matches {printable(' '.join(only))}: see --list")
        return NOTHING_TO_CHECK
    if options.list:
        console.print("\n".join(check.name for check in checks))
        return PASSED
    if options.implementation and not OUR_FLUSH.is_file():
        console.print("our own flush is not part of the kit by itself: run this from a clone")
        return NOTHING_TO_CHECK
    if options.library:
        if not Path(options.library).is_file():
            console.print(f"no file {printable(options.library)}: build the port first")
            return NOTHING_TO_CHECK
        if remedy := needs_preloaded(Path(options.library)):
            console.print(f"{printable(options.library)} does not load: {remedy}")
            return DOES_NOT_LOAD
    inputs = [Path(options.library)] if options.library else ()
    check_outputs(options.json, options.html, inputs=inputs)
    library = str(Path(options.library).resolve()) if options.library else None
    subject = Subject(library, options.strategy)
    effort = Effort(options.effort, options.seed, patience=options.patience)
    try:
        todo = [(check, effort) for check in checks]
        if options.replay:
            failed = failures_in(options.replay, is_chosen)
            todo = [replayed(one, subject, options.patience) for one in failed]
        results = _run(subject, todo, options, console)
    except (NothingToReplayError, NoCompilerError, CannotRunError) as error:
        console.print(printable(str(error)))
        return NOTHING_TO_CHECK
    report = document("conformance", subject=str(subject), checks=results)
    if options.json:
        save(options.json, report)
    if options.html:
        write_page(options.html, report)
    if not options.tap:
        console.print(verdict(subject, results))
    return _exit_code(results)


def _run(
    subject: Subject,
    todo: Sequence[tuple[Check, Effort]],
    options: argparse.Namespace,
    console: Console,
) -> list[dict[str, Any]]:
    results = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    quiet = not console.is_terminal or options.tap
    if options.tap:
        console.print(f"TAP version 14\n1..{len(todo)}")
    session = Session(subject, todo[0][1])
    with session, Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=len(todo))
        for number, (check, effort) in enumerate(todo, 1):
            bar.update(task, description=f"{number}/{len(todo)} {check.name}")
            session.effort = effort
            start = time.monotonic()
            found = check.run(session)
            results.append(result_of(check, found, time.monotonic() - start, effort))
            if options.tap:
                console.print(tap_line(number, results[-1]))
            if isinstance(found, Finding):
                if not options.tap:
                    seconds = results[-1]["seconds"]
                    console.print(f"FAIL {check.name} ({seconds:.1f} s)")
                    console.print(explain(found, subject, effort))
                if not options.keep_going and not options.tap:
                    break
    return results


def _exit_code(results: Sequence[dict[str, Any]]) -> int:
    broken = [one["rules"] for one in results if not one["passed"]]
    if not broken:
        return PASSED
    if any(rules == ["abi"] for rules in broken):
        return DOES_NOT_LOAD
    return HANGS if broken[0] == ["no-hang"] else BROKEN


def console() -> NoReturn:
    """The command ``colo-conformance``, where the kit is installed by itself."""
    run(lambda given: main(given, "colo-conformance"))


if __name__ == "__main__":
    run(main)
