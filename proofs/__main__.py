"""Prove every claim and refute every control: ``python -m proofs``.

Exit 0: every claim is proved and every control refuted for its named reason. 1: something is refuted, or
a control is not as it must be, or the second solver disagrees. 2: a claim is unknown, the second solver
has no answer, or a process was killed. 3: a claim is vacuous. 64: the command line makes no sense. 69 to
74: it lacks a package, memory, or a place for its output. 130: interrupted.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import NoReturn

from rich.console import Console

from model.boundary.command import run, started_processes_hear_no_ctrl_c
from model.boundary.options import count, refuse_unread
from model.boundary.output import (
    INTERRUPTED,
    check_folder,
    check_outputs,
    printable,
    run_command,
    write_text,
)
from model.page.document import save, slug
from model.page.page import write_page
from proofs.compiled.campaign import REFUSED, row_of, rows
from proofs.compiled.source import provided, use
from proofs.prover.catalogue import catalogue
from proofs.prover.document import as_document
from proofs.prover.obligation import Claim, stated
from proofs.prover.parallel import ProcessKilled, outcomes, processes, second_answers
from proofs.prover.report import (
    Report,
    as_markdown,
    complaints,
    exit_code,
    parts,
    second_exit_code,
    summary,
)
from proofs.prover.smtlib import export
from proofs.prover.verdict import Outcome

COMPILED = "compiled."
NO_ANSWER = 2
USAGE = 64


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    options = _options(arguments)
    claims = catalogue(options.only, slow=options.compiled is not None)
    if options.compiled is not None or options.mutants:
        claims = [claim for claim in claims if claim.name.startswith(COMPILED)]
    if not claims:
        print(f"error: no claim matches {printable(' '.join(options.only))}", file=sys.stderr)
        return USAGE
    if options.catalogue:
        print(as_markdown({claim: stated(claim) for claim in claims}))
        return 0
    return run_command(lambda: _prove(claims, options))


def _prove(claims: Sequence[Claim], options: argparse.Namespace) -> int:
    for folder in (options.export, options.record):
        if folder:
            check_folder(folder)
    check_outputs(options.json, options.html)
    console = Console(highlight=False, markup=False, emoji=False)
    begin = time.perf_counter()
    try:
        with (
            _compiled(claims, options.compiled) as prepare,
            processes(options.jobs, prepare) as pool,
        ):
            with Report(claims, console) as report:
                for outcome in outcomes(pool, claims):
                    report.add(outcome)
            if prepare:
                prepare()  # obligations are stated here, too
            try:
                second = _export_and_ask(pool, claims, options.export, options.second, console)
            finally:
                use(None)
            broken = 0
            if options.mutants:
                broken = _break_compiled(pool, console, loops=options.compiled is not None)
            if options.json or options.html:
                _write_document(claims, report, time.perf_counter() - begin, prepare, options)
    except KeyboardInterrupt:
        print("interrupted: nothing is concluded", file=sys.stderr)
        return INTERRUPTED
    except ProcessKilled as error:
        print(f"error: {error}; nothing is concluded", file=sys.stderr)
        return NO_ANSWER

    found = [
        report.outcomes[claim.name, part.name if part else None] for claim, part in parts(claims)
    ]
    if options.record:
        _write((outcome for outcome in found if outcome.control), options.record)
    for complaint in complaints(found):
        console.print(f"FAILED {complaint}", style="bold red", soft_wrap=True)
    _write_failures(found, options.export, console)
    console.print(summary(found, time.perf_counter() - begin), soft_wrap=True)
    return exit_code(found) or second_exit_code(second) or broken


def _break_compiled(pool: ProcessPoolExecutor, console: Console, *, loops: bool) -> int:
    """Break every instruction of every compiled function.

    1 if one is accepted for no known reason; 2 if a function is not known.
    """
    with started_processes_hear_no_ctrl_c():
        waiting = [pool.submit(row_of, name, kind) for name, kind in rows(loops=loops)]
    done = [row.result() for row in waiting]
    for row in done:
        refused = row.ends.get(REFUSED, 0)
        sample = f" (of one in {row.one_of} instructions)" if row.one_of > 1 else ""
        equal = "; ".join(f"{n}: {why}" for why, n in row.ends.items() if why != REFUSED)
        console.print(
            f"mutants  {row.function}, {row.kind.replace('_', ' ')}{sample}: {refused} refused"
            f"{f'; equivalent {equal}' if equal else ''}",
            soft_wrap=True,
        )
        for mutant in () if row.good else row.unexplained:
            console.print(f"FAILED {row.function}: accepted: {mutant}", style="bold red")
        if row.unknown:
            console.print(f"FAILED {row.function}: {row.unknown}", style="bold red")
    every = sum(sum(row.ends.values()) for row in done)
    refused = sum(row.ends.get(REFUSED, 0) for row in done)
    console.print(f"{every} mutants: {refused} refused, {every - refused} equivalent")
    if any(row.unknown for row in done):
        return 2
    return 0 if all(row.good for row in done) else 1


def _write_document(
    claims: Sequence[Claim],
    report: Report,
    seconds: float,
    prepare: Callable[[], None] | None,
    options: argparse.Namespace,
) -> None:
    if prepare:
        prepare()
    try:
        made = as_document(claims, report.outcomes, seconds)
    finally:
        use(None)
    if options.json:
        save(options.json, made)
    if options.html:
        write_page(options.html, made)


@contextmanager
def _compiled(claims: Sequence[Claim], folder: Path | None) -> Iterator[Callable[[], None] | None]:
    """What each process does first, so that it finds the IR of the kernels if a claim is about that."""
    if not any(claim.name.startswith(COMPILED) for claim in claims):
        yield None
        return
    given = folder if folder != Path() else None
    with provided(given, everything=folder is not None) as found:
        yield partial(use, found)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m proofs", description=__doc__)
    parser.add_argument(
        "--only", metavar="GLOB", nargs="+", default=["*"], help="claims by name, e.g. 'walk.*'"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all outcomes")
    parser.add_argument("--html", metavar="FILE", type=Path, help="draw all outcomes, to look at")
    parser.add_argument(
        "--export", metavar="DIR", type=Path, help="write each obligation as an SMT-LIB file"
    )
    parser.add_argument("--second", choices=["cvc5"], help="ask a second solver as well")
    parser.add_argument(
        "--record", metavar="DIR", type=Path, help="write each control's counterexample"
    )
    parser.add_argument(
        "--catalogue", action="store_true", help="print CATALOGUE.md; prove nothing"
    )
    parser.add_argument(
        "--compiled",
        metavar="DIR",
        type=Path,
        nargs="?",
        const=Path(),
        help="the claims about the compiled kernels, the slow ones too; "
        "of the IR in DIR if `python -m impl kernels --ir DIR` has written it",
    )
    parser.add_argument(
        "--mutants",
        action="store_true",
        help="break every instruction of the compiled functions as well; about a minute, "
        "with --compiled three, and one in four of the backup of a range",
    )
    parser.add_argument("--jobs", metavar="N", type=count, default=os.cpu_count(), help="processes")
    options = parser.parse_args(arguments)
    if options.catalogue:
        unread = ("json", "html", "export", "second", "record", "mutants", "jobs")
        refuse_unread(parser, options, unread, "--catalogue proves nothing")
    return options


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2, which means "unknown" here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"error: {printable(message)}", file=sys.stderr)
        sys.exit(USAGE)


def _export_and_ask(
    pool: ProcessPoolExecutor,
    claims: Sequence[Claim],
    folder: Path | None,
    second: str | None,
    console: Console,
) -> Collection[str]:
    """Export the obligations and ask the second solver; its answers, none if it is not asked."""
    if not folder and not second:
        return ()
    with TemporaryDirectory() as temporary:
        paths = [path for c in claims for path in export(c, folder or Path(temporary))]
        if folder:
            console.print(f"{len(paths)} obligations written to {printable(folder)}")
        if not second:
            return ()
        answers = second_answers(pool, paths)
    for path, answer in answers.items():
        if answer != "unsat":
            what = "DISAGREES" if answer == "sat" else "has no answer"
            console.print(f"{second} {what}: {path.parent.name}/{path.name}", soft_wrap=True)
    agreeing = sum(answer == "unsat" for answer in answers.values())
    console.print(
        f"{second} {version(second)} agrees on {agreeing} of {len(answers)} obligations",
        soft_wrap=True,
    )
    return answers.values()


def _write_failures(outcomes: Sequence[Outcome], exported: Path | None, console: Console) -> None:
    """What refutes a claim goes where the obligations went, or to a folder that is named here."""
    failed = [outcome for outcome in outcomes if outcome.counterexample and not outcome.good]
    if failed:
        folder = exported or Path(mkdtemp(prefix="colo-flush-"))
        for path in _write(failed, folder):
            console.print(f"see it fail: python -m model.replay {path}", soft_wrap=True)


def _write(outcomes: Iterable[Outcome], folder: Path) -> list[Path]:
    """Write the counterexample of each outcome that has one; the files."""
    paths = []
    for outcome in outcomes:
        if outcome.counterexample:
            path = folder / f"{slug(outcome.claim, outcome.control)}.json"
            write_text(path, outcome.counterexample.to_json())
            paths.append(path)
    return paths


if __name__ == "__main__":
    run(main)
