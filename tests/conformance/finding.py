"""From a suspicion to a finding: judge a sequence of calls, confirm it alone, make it small."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.conformance.call import Call, Outcome
from tests.conformance.expected import expect
from tests.conformance.probes import Probe
from tests.conformance.process import PortDiedError, PortProcess, Subject
from tests.conformance.repeating import calls_program
from tests.conformance.rules import Violation, violations
from tests.conformance.shrink import shrink

# An attempt takes some hundredths of a second where nothing else runs; one that hangs all its patience.
SHRINK_ATTEMPTS, SHRINK_ATTEMPTS_OF_A_HANG = 600, 60
SHRINK_PATIENCE = 1.5


@dataclass(frozen=True)
class Finding:
    """Calls of which the last breaks rules; ``outcome`` is None if it never returned.

    ``repeats``: do these calls alone show it again? ``probe``: the C program that found it. ``source``:
    one that repeats it, where that is not just to make the calls.
    """

    violations: tuple[Violation, ...]
    calls: tuple[Call, ...] = ()
    outcome: Outcome | None = None
    note: str = ""
    repeats: bool = True
    probe: Probe | None = None
    source: str = ""

    @property
    def program(self) -> str:
        """The text of a C program that repeats it; "" if the probe is one, or there is none."""
        return self.source or (calls_program(self.calls) if self.calls and self.repeats else "")

    @property
    def rule(self) -> str:
        """The first rule broken."""
        return self.violations[0].rule


@dataclass(frozen=True)
class NotRun:
    """A check that was not made."""

    why: str


def judge(process: PortProcess, calls: Sequence[Call]) -> Finding | None:
    """Make the calls; the first of them that breaks a rule, with those before it."""
    try:
        outcomes = process.run(calls)
    except PortDiedError as death:
        return Finding((death.violation,), tuple(calls[: death.during + 1]))
    for i, (call, outcome) in enumerate(zip(calls, outcomes, strict=True)):
        if broken := violations(call, expect(call), outcome):
            return Finding(tuple(broken), tuple(calls[: i + 1]), outcome)
    return None


def judge_alone(subject: Subject, calls: Sequence[Call], patience: float) -> Finding | None:
    """The same in a process of its own."""
    try:
        with PortProcess(subject, patience) as process:
            return judge(process, calls)
    except PortDiedError as death:
        return Finding((death.violation,))


def settle(
    subject: Subject, finding: Finding, before: Sequence[Call], *, small: bool = False
) -> Finding:
    """The finding confirmed in a fresh process and made small, unless its calls are ``small``.

    ``before`` are the calls that went well earlier in its process: they may have left something.
    """
    alone = judge_alone(subject, finding.calls, SHRINK_PATIENCE)
    if alone and alone.rule == finding.rule:
        return alone if small else _smallest(subject, alone)
    alone = judge_alone(subject, (*before, *finding.calls), SHRINK_PATIENCE)
    if alone and alone.rule == finding.rule:
        return _smallest(subject, alone)
    note = "Seen once, but not when repeated in a fresh process: a race, or memory left over."
    return replace(finding, note=note, repeats=False)


def _smallest(subject: Subject, finding: Finding) -> Finding:
    def fails(calls: tuple[Call, ...]) -> bool:
        again = judge_alone(subject, calls, SHRINK_PATIENCE)
        return again is not None and again.rule == finding.rule

    hangs = finding.rule == "no-hang"
    attempts = SHRINK_ATTEMPTS_OF_A_HANG if hangs else SHRINK_ATTEMPTS
    calls = shrink(finding.calls, fails, attempts)
    return judge_alone(subject, calls, SHRINK_PATIENCE) or finding
