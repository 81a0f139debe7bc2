"""The checks, in the order in which they find most for least: what the runner runs."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conformance import plan, search
from tests.conformance.accumulated import cases
from tests.conformance.call import Call
from tests.conformance.expected import expect
from tests.conformance.finding import Finding, NotRun, judge, settle
from tests.conformance.large import LARGE, Large, large
from tests.conformance.probes import EFFORT_FOR_SLOW, PROBES, SLOW, Probe
from tests.conformance.process import PATIENCE, PortDiedError, PortProcess, Subject
from tests.conformance.repeating import (
    large_program,
    plan_program,
    refused_plans_program,
    rounds_program,
)
from tests.conformance.rules import Violation, violations
from tests.conformance.sanitizers import a_sanitizer_is_loaded
from tests.conformance.stress import SCENARIOS, Collision, Scenario, nth_call, stress
from tests.conformance.vectors import Vector, all_vectors

SEQUENCES, REFUSALS, PLANS = 1_000, 700, 300
ACCUMULATED = 2_000
SOME_STRESS, MORE_STRESS = 1.2, 3.0  # seconds of processor time
HISTORY = 60
MOST_UNDER_A_SANITIZER = 1 << 30  # pages


@dataclass(frozen=True)
class Effort:
    """How hard to look: a factor on the number of cases and of rounds of stress; a seed.

    ``shrink``: is a failure made small before it is shown? ``patience``: the seconds that one call may
    burn, or sleep through with nobody awake, before it counts as hung.
    """

    factor: float = 1.0
    seed: int = 0
    shrink: bool = True
    patience: float = PATIENCE

    def cases(self, number: int) -> int:
        return max(int(number * self.factor), 1)


class Session:
    """A port under test: one process that the checks share, started anew when the port dies."""

    def __init__(self, subject: Subject, effort: Effort) -> None:
        self.subject, self.effort = subject, effort
        self._process: PortProcess | None = None
        self._before: deque[tuple[Call, ...]] = deque(maxlen=HISTORY)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.restart()

    def restart(self) -> None:
        """The next call gets a new process."""
        if self._process:
            self._process.__exit__()
        self._process = None
        self._before.clear()

    def look(self, calls: tuple[Call, ...]) -> Finding | None:
        """Make the calls; what they show, if it breaks a rule."""
        try:
            finding = judge(self._running(), calls)
        except PortDiedError as death:
            finding = Finding((death.violation,))
        if finding is None:
            self._before.append(calls)
        return finding

    def settle(self, finding: Finding, *, small: bool = False) -> Finding:
        """The finding confirmed and made small; the next check gets a new process."""
        before = [call for calls in self._before for call in calls]
        self.restart()
        if not finding.calls or not self.effort.shrink:
            return finding
        return settle(self.subject, finding, before, small=small)

    def ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """``function(bench, *arguments)`` in the process. Raises PortDiedError."""
        try:
            return self._running().ask(function, *arguments)
        except PortDiedError:
            self.restart()
            raise

    def _running(self) -> PortProcess:
        if self._process is None:
            self._process = PortProcess(self.subject, self.effort.patience)
        return self._process


#: How many cases went well, or what was found, or why there was nothing to look at.
Result = int | Finding | NotRun


@dataclass(frozen=True)
class Check:
    """One named check."""

    name: str
    run: Callable[[Session], Result]


def all_checks() -> list[Check]:
    """Every check: vectors first (fast, one bug each), the long searches last."""
    vectors = [
        Check(f"vector/{vector.id}", _vector(vector))
        for group in all_vectors().values()
        for vector in group
    ]
    return [
        *vectors,
        Check("plan/fixed", _in_child(_fixed_plans)),
        Check(
            "plan/refused", _in_child(_refused_plans, source=refused_plans_program(plan.REFUSED))
        ),
        Check("plan/search", _in_child(_searched_plans)),
        *(Check(probe.name, _probe(probe)) for probe in PROBES),
        *(Check(f"large/{case.name}", _large(case)) for case in LARGE),
        Check("accumulated", _accumulated),
        *(Check(f"stress/{one.name}", _stress(one, SOME_STRESS)) for one in SCENARIOS),
        Check("search/refusals", _search(search.refusal_sequences(), REFUSALS)),
        Check("search/sequences", _search(search.valid_sequences(), SEQUENCES)),
        *(Check(f"more-stress/{one.name}", _stress(one, MORE_STRESS)) for one in SCENARIOS),
    ]


def _vector(vector: Vector) -> Callable[[Session], int | Finding]:
    def run(session: Session) -> int | Finding:
        finding = session.look(vector.calls)
        return session.settle(finding, small=True) if finding else 1

    return run


def _sequences(sequences: Iterable[tuple[Call, ...]]) -> Callable[[Session], int | Finding]:
    """Make each sequence of calls, one after the other."""

    def run(session: Session) -> int | Finding:
        went_well = 0
        for calls in sequences:
            if finding := session.look(calls):
                return session.settle(finding)
            went_well += 1
        return went_well

    return run


def _accumulated(session: Session) -> int | Finding:
    first = islice(cases(), session.effort.cases(ACCUMULATED))
    return _sequences((call,) for call in first)(session)


class _FoundError(BaseException):
    """Ends a search at once; not an Exception, so that hypothesis does not try it again."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


def _search(
    strategy: st.SearchStrategy[tuple[Call, ...]], number: int
) -> Callable[[Session], int | Finding]:
    def run(session: Session) -> int | Finding:
        examples = session.effort.cases(number)

        @seed(session.effort.seed)
        @_searching(examples)
        @given(strategy)
        def look(calls: tuple[Call, ...]) -> None:
            if finding := session.look(calls):
                raise _FoundError(finding)

        try:
            look()
        except _FoundError as found:
            return session.settle(found.finding)
        return examples

    return run


def _searching(examples: int) -> settings:
    """Only generation: findings are confirmed and shrunk in fresh processes instead."""
    return settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def _in_child(
    look: Callable[[Session], Result], during: object = "", source: str = ""
) -> Callable[[Session], Result]:
    """A look through ``session.ask``, at which the death of the port is the finding. ``source``: a C
    program that repeats it."""

    def run(session: Session) -> Result:
        try:
            found = look(session)
        except PortDiedError as death:
            found = Finding((death.violation,), note=f"{during}")
        if isinstance(found, Finding) and source:
            return replace(found, source=source)
        return found

    return run


_NO_PLAN = NotRun("colo_plan, which is optional, is not exported")


def _look_at_plans(session: Session, plans: Iterable[tuple[int, int]]) -> Result:
    went_well = 0
    for pages, threads in plans:
        try:
            ranges = session.ask(plan.ask_plan, pages, threads)
        except PortDiedError as death:
            note = f"The call: colo_plan, {pages} pages, {threads} threads."
            return Finding((death.violation,), note=note, source=plan_program(pages, threads))
        if ranges is None:
            return _NO_PLAN
        if broken := plan.plan_violations(pages, threads, ranges):
            return Finding(tuple(broken), source=plan_program(pages, threads))
        went_well += 1
    return went_well


def _fixed_plans(session: Session) -> Result:
    return _look_at_plans(session, plan.FIXED)


def _searched_plans(session: Session) -> Result:
    drawn: list[tuple[int, int]] = []

    @seed(session.effort.seed)
    @_searching(session.effort.cases(PLANS))
    @given(search.plans())
    def draw(one: tuple[int, int]) -> None:
        drawn.append(one)

    draw()
    return _look_at_plans(session, drawn)


def _refused_plans(session: Session) -> Result:
    answers = session.ask(plan.ask_refused)
    if None in answers:
        return _NO_PLAN
    broken = plan.refused_violations(answers)
    return Finding(tuple(broken)) if broken else len(answers)


def _probe(probe: Probe) -> Callable[[Session], Result]:
    def look(session: Session) -> Result:
        effort, library = session.effort, session.subject.library
        if library is None and probe.why_not_to_ours:
            return NotRun(probe.why_not_to_ours)
        if effort.factor < EFFORT_FOR_SLOW and (library is None or probe.name in SLOW):
            return NotRun(f"it takes seconds: done with --effort {EFFORT_FOR_SLOW} and more")
        if probe.program == "missing" and a_sanitizer_is_loaded():
            return NotRun("a sanitizer is loaded, which gives memory and threads by itself")
        if library is None:
            strategy = session.subject.strategy
            result = probe.run_on_ours(strategy, effort.patience, effort.seed, effort.factor)
        else:
            result = probe.run(library, effort.patience, effort.seed, effort.factor)
        if not result.violations:
            return result.calls
        return Finding(result.violations, probe=probe)

    return look


def _large(case: Large) -> Callable[[Session], Result]:
    def look(session: Session) -> Result:
        if case.pages > MOST_UNDER_A_SANITIZER and a_sanitizer_is_loaded():
            return NotRun("a sanitizer is loaded, which leaves no room for terabytes of addresses")
        broken = session.ask(large, case)
        return Finding(tuple(broken)) if broken else 1

    return _in_child(look, during=f"The call: {case}.", source=large_program(case))


def _stress(scenario: Scenario, seconds: float) -> Callable[[Session], int | Finding]:
    def run(session: Session) -> int | Finding:
        stress_seed = (session.effort.seed, int(seconds * 10))
        try:
            seen = session.ask(stress, scenario, stress_seed, seconds * session.effort.factor)
        except PortDiedError as death:
            call = nth_call(scenario, stress_seed, death.calls)
            note = f"In round {death.calls} of {scenario.name} stress: {scenario}."
            source = rounds_program(call)
            return Finding((death.violation,), (call,), None, note, repeats=False, source=source)
        return _collision(seen) if isinstance(seen, Collision) else int(seen)

    return run


def _collision(seen: Collision) -> Finding:
    broken = violations(seen.call, expect(seen.call), seen.outcome) or [
        Violation("after-return", "memory was still changing after colo_flush had returned")
    ]
    note = f"A race: round {seen.rounds_before + 1} of stress; the rounds before it were right."
    source = rounds_program(seen.call)
    return Finding(tuple(broken), (seen.call,), seen.outcome, note, repeats=False, source=source)
