"""--replay FILE.json: what failed, and was written by --json, is run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.page.document import NotADocument, load
from tests.conformance.call import call_from_json
from tests.conformance.finding import Finding, judge_alone
from tests.conformance.process import Subject
from tests.conformance.suite import Check, Effort, Session, all_checks


class NothingToReplayError(Exception):
    """The file is no report of this kit, or no check in it has failed."""


def failures_in(file: Path, is_chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The checks that failed, of those whose names are chosen. Raises NothingToReplayError."""
    try:
        report = load(file)
        failed = [one for one in report["checks"] if not one["passed"]]
        for one in failed:
            one["name"], one["seed"], one["effort"], one["calls"], one["repeats"]
        chosen = [one for one in failed if is_chosen(one["name"])]
    except NotADocument as error:
        raise NothingToReplayError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise NothingToReplayError(f"{file} is no report of this kit") from error
    if not failed:
        raise NothingToReplayError(f"no check in {file} has failed")
    if not chosen:
        names = ", ".join(one["name"] for one in failed)
        raise NothingToReplayError(f"nothing chosen has failed in {file}, but {names}")
    return chosen


def replayed(one: dict[str, Any], subject: Subject, patience: float) -> tuple[Check, Effort]:
    """A check that does again what failed, and the effort with which it was done."""
    effort = Effort(one["effort"], one["seed"], patience=patience)
    if one["repeats"]:
        calls = tuple(call_from_json(call) for call in one["calls"])

        def run(_: Session) -> int | Finding:
            return judge_alone(subject, calls, patience) or len(calls)

        return Check(one["name"], run), effort
    for check in all_checks():
        if check.name == one["name"]:
            return check, effort
    raise NothingToReplayError(f"this kit has no check {one['name']}")
