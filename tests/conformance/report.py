"""What the kit says of a port: failures for people, results for programs, lines for TAP."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from model.boundary.output import printable
from tests.conformance import VERSION
from tests.conformance.call import call_to_json, outcome_to_json
from tests.conformance.expected import expect
from tests.conformance.finding import Finding, NotRun
from tests.conformance.process import Subject
from tests.conformance.programs import build_serial, command_for
from tests.conformance.repeating import try_program
from tests.conformance.rules import RULES
from tests.conformance.show import as_rows, picture
from tests.conformance.suite import Check, Effort, Result

MOST_DETAILS = 6


def explain(finding: Finding, subject: Subject, effort: Effort) -> str:
    """A failure in full: the rules, the picture, the program, and how to have it again."""
    lines = [f"  {violation.rule}: {violation.detail}" for violation in finding.violations]
    if len(lines) > MOST_DETAILS:
        lines[MOST_DETAILS:] = [f"  ... and {len(lines) - MOST_DETAILS} more"]
    lines += ["", f"The rule: {RULES[finding.rule]}."]
    if finding.note:
        lines.append(finding.note)
    if finding.calls:
        if len(finding.calls) > 1:
            lines.append(f"The last of these {len(finding.calls)} calls:")
        last = finding.calls[-1]
        lines += ["", picture(last, expect(last), finding.outcome)]
    lines += ["", f"Kit {VERSION}, seed {effort.seed}, effort {effort.factor:g}."]
    if subject.library:
        lines += _to_repeat(finding, subject.library, effort)
    return "\n".join(lines)


def _to_repeat(finding: Finding, port: str, effort: Effort) -> Iterator[str]:
    if finding.probe:
        source, case = finding.probe.source, finding.probe.case
        right = not finding.probe.run(str(build_serial()), effort.patience).violations
        yield f"A program has found it, which fails with this port{_and_passes(right)}. To repeat it:"
        yield ""
        yield f"COLO_KIT_SEED={effort.seed} sh -c {_quoted(command_for(source, port, [case]))}"
    elif text := finding.program:
        tried = try_program(text, port, effort.patience)
        if isinstance(tried, str):
            yield f"The program below was not tried: {tried}"
        elif tried.fails:
            yield f"The program below fails with this port{_and_passes(tried.passes_with_serial)}:"
        else:
            yield "The program below was tried, and did not fail: a race, or what calls before it left."
        yield ""
        yield text


def _and_passes(right: bool) -> str:
    return " and passes with serial_walk.c" if right else "; with serial_walk.c it fails as well"


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def result_of(
    check: Check, found: Result, seconds: float, effort: Effort | None = None
) -> dict[str, Any]:
    """A check's part of the document: how many cases went well, or the failure in full, with what
    ``--replay`` needs."""
    effort = effort or Effort()
    common: dict[str, Any] = {"name": check.name, "seconds": round(seconds, 3)}
    if isinstance(found, int):
        return {**common, "passed": True, "cases": found}
    if isinstance(found, NotRun):
        return {**common, "passed": True, "cases": 0, "not_run": found.why}
    return {
        **common,
        "passed": False,
        "rule": RULES[found.rule],
        "rules": sorted({violation.rule for violation in found.violations}),
        "broken": [asdict(violation) for violation in found.violations],
        "calls": [call_to_json(call) for call in found.calls],
        "expected": [outcome_to_json(expect(call)) for call in found.calls],
        "got": outcome_to_json(found.outcome) if found.outcome else None,
        "note": found.note,
        "repeats": bool(found.calls) and found.repeats,
        "picture": _rows_of(found),
        "program": found.program or None,
        "kit": VERSION,
        "seed": effort.seed,
        "effort": effort.factor,
    }


def _rows_of(finding: Finding) -> dict[str, Any] | None:
    if not finding.calls:
        return None
    last = finding.calls[-1]
    return as_rows(last, expect(last), finding.outcome)


def verdict(subject: Subject, results: Sequence[dict[str, Any]]) -> str:
    """The last lines."""
    name = printable(subject)
    seconds = sum(one["seconds"] for one in results)
    failed = sum(not one["passed"] for one in results)
    if failed:
        return f"{name}: {failed} of {len(results)} checks run failed ({seconds:.1f} s)"
    run = [one for one in results if "not_run" not in one]
    lines = []
    for stage, mine in _by_stage(run).items():
        cases, spent = (sum(one[what] for one in mine) for what in ("cases", "seconds"))
        lines.append(f"{stage:<12}{len(mine):>5} checks {cases:>8} cases {spent:>7.1f} s")
    lines += _not_run(results)
    every = "every check" if run else "no check"
    return "\n".join((*lines, f"{name}: {every} passed ({seconds:.1f} s)"))


def _by_stage(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    stages: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        stages.setdefault(one["name"].split("/")[0], []).append(one)
    return stages


def _not_run(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each reason."""
    left = [one for one in results if "not_run" in one]
    for why in dict.fromkeys(one["not_run"] for one in left):
        names = [one["name"] for one in left if one["not_run"] == why]
        yield f"not run: {', '.join(names)}: {why}"


def tap_line(number: int, one: dict[str, Any]) -> str:
    """One result in the Test Anything Protocol, version 14."""
    if one["passed"]:
        skipped = f" # SKIP {one['not_run']}" if "not_run" in one else ""
        return f"ok {number} - {one['name']}{skipped}"
    details = "\n".join(f"    - {broken['detail']!r}" for broken in one["broken"][:MOST_DETAILS])
    rules = ", ".join(one["rules"])
    return (
        f"not ok {number} - {one['name']}\n  ---\n  rules: [{rules}]\n  details:\n{details}\n  ..."
    )
