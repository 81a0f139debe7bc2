"""The checks, in the order in which they find most for least: what the runner runs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conformance import plan, search
from tests.conformance.accumulated import cases
from tests.conformance.call import Call
from tests.conformance.expected import expect
from tests.conformance.finding import Finding, judge, settle
from tests.conformance.process import PortDiedError, PortProcess, Subject
from tests.conformance.rules import Violation, violations
from tests.conformance.stress import SCENARIOS, Collision, Scenario, stress
from tests.conformance.vectors import all_vectors

SEQUENCES, REFUSALS, PLANS = 2_000, 1_500, 300
ACCUMULATED = 2_000
STRESS_SECONDS = 5.0
HISTORY = 60
GRACE = 30.0


@dataclass(frozen=True)
class Effort:
    """How hard to look: a factor on the number of cases and on the seconds of stress; a seed."""

    factor: float = 1.0
    seed: int = 0

    def cases(self, number: int) -> int:
        return max(int(number * self.factor), 1)


@dataclass(frozen=True)
class Check:
    """One named check. ``run`` says how many cases went well, or what was found."""

    name: str
    run: Callable[[Subject, Effort], int | Finding]


def all_checks() -> list[Check]:
    """Every check: vectors first (fast, one bug each), races last (slow)."""
    vectors = [
        Check(f"vector/{vector.id}", _sequences([vector.calls]))
        for group in all_vectors().values()
        for vector in group
    ]
    return [
        *vectors,
        Check("plan/fixed", _fixed_plans),
        Check("plan/refused", _refused_plans),
        Check("plan/search", _searched_plans),
        Check("search/sequences", _search(search.valid_sequences(), SEQUENCES)),
        Check("search/refusals", _search(search.refusal_sequences(), REFUSALS)),
        Check("accumulated", _accumulated),
        *(Check(f"stress/{scenario.name}", _stress(scenario)) for scenario in SCENARIOS),
    ]


def _sequences(
    sequences: Sequence[tuple[Call, ...]],
) -> Callable[[Subject, Effort], int | Finding]:
    """Make each sequence of calls, one after the other, in one process."""

    def run(subject: Subject, effort: Effort) -> int | Finding:
        watch = _Watch(subject)
        with watch:
            for calls in sequences:
                watch.look(calls)
        return watch.result()

    return run


def _accumulated(subject: Subject, effort: Effort) -> int | Finding:
    calls = [(call,) for call in islice(cases(), effort.cases(ACCUMULATED))]
    return _sequences(calls)(subject, effort)


def _search(
    strategy: st.SearchStrategy[tuple[Call, ...]], number: int
) -> Callable[[Subject, Effort], int | Finding]:
    def run(subject: Subject, effort: Effort) -> int | Finding:
        watch = _Watch(subject)

        @seed(effort.seed)
        @_searching(effort.cases(number))
        @given(strategy)
        def look(calls: tuple[Call, ...]) -> None:
            watch.look(calls)

        with watch:
            look()
        return watch.result()

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


class _Found(BaseException):
    """Ends a search at once; not an Exception, so that hypothesis does not try it again."""


class _Watch:
    """A process that calls are tried in, until one of them breaks a rule."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._process: PortProcess | None = None
        self._before: deque[tuple[Call, ...]] = deque(maxlen=HISTORY)
        self._finding: Finding | None = None
        self._well = 0

    def __enter__(self) -> None:
        try:
            self._process = PortProcess(self._subject)
        except PortDiedError as death:
            self._finding = Finding((death.violation,))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if self._process:
            self._process.__exit__()
        return kind is _Found

    def look(self, calls: tuple[Call, ...]) -> None:
        """Make the calls; ends the ``with`` if one of them breaks a rule."""
        self._finding = self._finding or (judge(self._process, calls) if self._process else None)
        if self._finding:
            raise _Found
        self._before.append(calls)
        self._well += 1

    def result(self) -> int | Finding:
        """How many sequences went well, or the finding, made small."""
        if self._finding and self._finding.calls:
            before = [call for calls in self._before for call in calls]
            return settle(self._subject, self._finding, before)
        return self._finding or self._well


def _in_child(subject: Subject, look: Callable[[PortProcess], int | Finding]) -> int | Finding:
    try:
        with PortProcess(subject) as process:
            return look(process)
    except PortDiedError as death:
        return Finding((death.violation,))


def _look_at_plans(process: PortProcess, plans: Sequence[tuple[int, int]]) -> int | Finding:
    for pages, threads in plans:
        ranges = process.ask(plan.ask_plan, pages, threads, patience=GRACE)
        if ranges is None:
            return 0
        if broken := plan.plan_violations(pages, threads, ranges):
            return Finding(tuple(broken))
    return len(plans)


def _fixed_plans(subject: Subject, effort: Effort) -> int | Finding:
    return _in_child(subject, lambda process: _look_at_plans(process, plan.FIXED))


def _refused_plans(subject: Subject, effort: Effort) -> int | Finding:
    def look(process: PortProcess) -> int | Finding:
        answers = process.ask(plan.ask_refused, patience=GRACE)
        broken = plan.refused_violations(answers)
        return Finding(tuple(broken)) if broken else sum(answer is not None for answer in answers)

    return _in_child(subject, look)


def _searched_plans(subject: Subject, effort: Effort) -> int | Finding:
    return _in_child(
        subject,
        lambda process: _look_at_plans(process, list(_drawn_plans(effort))),
    )


def _drawn_plans(effort: Effort) -> Iterator[tuple[int, int]]:
    drawn: list[tuple[int, int]] = []

    @seed(effort.seed)
    @_searching(effort.cases(PLANS))
    @given(search.plans())
    def draw(one: tuple[int, int]) -> None:
        drawn.append(one)

    draw()
    return iter(drawn)


def _stress(scenario: Scenario) -> Callable[[Subject, Effort], int | Finding]:
    def run(subject: Subject, effort: Effort) -> int | Finding:
        seconds = STRESS_SECONDS * effort.factor

        def look(process: PortProcess) -> int | Finding:
            answer = process.ask(stress, scenario, effort.seed, seconds, patience=seconds + GRACE)
            return _collision(answer) if isinstance(answer, Collision) else int(answer)

        return _in_child(subject, look)

    return run


def _collision(seen: Collision) -> Finding:
    broken = violations(seen.call, expect(seen.call), seen.outcome) or [
        Violation("after-return", "memory was still changing after colo_flush had returned")
    ]
    note = f"A race: round {seen.rounds_before + 1} of stress; the rounds before it were right."
    return Finding(tuple(broken), (seen.call,), seen.outcome, note)
