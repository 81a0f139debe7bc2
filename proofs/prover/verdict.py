"""What becomes of an obligation, and of a claim: z3's answers, and counterexamples that were run.

z3's answers are taken literally. A question that is not answered within a set amount of work
is UNKNOWN, assumptions that nothing meets are VACUOUS, and a counterexample counts only if it fails when
it is run on the model.

A verdict depends on the question and on z3's version alone. Work is counted in z3's own units
(``rlimit``), never in seconds, so a busy machine takes longer and says the same. And each question is put
to a z3 of its own: what was asked before in this process makes no difference.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import z3

from model.faults import broken
from model.replay import Counterexample, replay
from model.scenarios import SCENARIOS
from proofs.prover.obligation import (
    CannotBeStated,
    Claim,
    Control,
    Listed,
    Obligation,
    Proof,
    stated,
)
from proofs.prover.symbolic import Natural, Truth, Word

# Units of z3's work; an idle core does some ten million a second. The hardest obligation takes four.
WORK = 100_000_000
# Most proofs take less; where z3 needs more, a refutation is looked for near the claim's witness.
QUICK_WORK = 5_000_000
# A counterexample is made smaller as long as z3 answers within this.
MINIMISING_WORK = 1_000_000
# To find it in the first place may take this.
VALUES_WORK = 20_000_000
# Pages below this are listed when a bitmap is part of a counterexample.
LISTED_PAGES = 4096


class Verdict(StrEnum):
    """What became of an obligation; only PROVED is good."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"
    VACUOUS = "vacuous"


@dataclass(frozen=True)
class Decided:
    """One obligation: the verdict, and how long it took."""

    obligation: str
    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of a claim, or of a control of it.

    ``decided`` ends with the obligation at which it stopped; ``complaint`` says what is wrong.
    """

    claim: str
    control: str | None
    obligations: int
    decided: tuple[Decided, ...]
    seconds: float
    counterexample: Counterexample | None
    complaint: str

    @property
    def verdict(self) -> Verdict:
        """PROVED if every obligation is, else that of the obligation which is not."""
        return self.decided[-1].verdict

    @property
    def at(self) -> str:
        """The obligation decided last."""
        return self.decided[-1].obligation

    @property
    def good(self) -> bool:
        """A claim proved; a control refuted for its named reason, and its values fail on the model."""
        return not self.complaint


def check(claim: Claim, control: Control | None = None) -> Outcome:
    """Prove every obligation of a claim, or refute its control; stops at the first not proved."""
    begin = time.perf_counter()
    try:
        proof = stated(claim, control)
    except CannotBeStated as error:
        return _not_stated(claim, control, time.perf_counter() - begin, error)
    decided: list[Decided] = []
    found, shown = None, ""
    for obligation in proof.obligations:
        started = time.perf_counter()
        verdict = decide(obligation)
        decided.append(Decided(obligation.name, verdict, time.perf_counter() - started))
        if verdict is not Verdict.PROVED:
            found = _counterexample(claim, control, proof, obligation)
            shown = "" if proof.scenario_name else obligation.failure or _solution_of(obligation)
            break
    return Outcome(
        claim=claim.name,
        control=control.name if control else None,
        obligations=len(proof.obligations),
        decided=tuple(decided),
        seconds=time.perf_counter() - begin,
        counterexample=found,
        complaint=_complaint(control, decided[-1], found, shown),
    )


def _not_stated(
    claim: Claim, control: Control | None, seconds: float, error: CannotBeStated
) -> Outcome:
    return Outcome(
        claim=claim.name,
        control=control.name if control else None,
        obligations=0,
        decided=(Decided("what it is about is known", Verdict.UNKNOWN, seconds),),
        seconds=seconds,
        counterexample=None,
        complaint=str(error),
    )


Question = tuple[z3.BoolRef, ...]


class Attempt(NamedTuple):
    """A way to ask z3: quickly or not, preprocessed or not, near the witness or anywhere."""

    quick: bool
    preprocessed: bool = True
    near_witness: bool = False

    def answer(self, question: Question, witness: Question) -> z3.CheckSatResult:
        """What z3 says. That there is no solution near the witness says nothing."""
        terms = (*question, *witness) if self.near_witness else question
        work = QUICK_WORK if self.quick else WORK
        answer = Asked(terms, work, preprocessed=self.preprocessed).check()
        return z3.unknown if self.near_witness and answer == z3.unsat else answer


#: Made in this order, until one has an answer. With preprocessing or without it, z3 may be the quicker,
#: or not come to an end; near the witness it finds refutations that it does not find elsewhere.
ATTEMPTS = (
    Attempt(quick=True),
    Attempt(quick=True, preprocessed=False),
    Attempt(quick=True, near_witness=True),
    Attempt(quick=False, preprocessed=False),
    Attempt(quick=False),
)


def decide(obligation: Obligation) -> Verdict:
    """Check that the assumptions can be met, then the obligation itself."""
    assumed = tuple(t.z for t in obligation.assumed)
    witness = tuple(t.z for t in obligation.witness)
    met = Asked((*assumed, *witness), WORK).check()
    if met != z3.sat and witness:  # which need not be right
        met = Asked(assumed, WORK).check()
    if met != z3.sat:
        return Verdict.VACUOUS if met == z3.unsat else Verdict.UNKNOWN
    answer = _answer(obligation.easier_question, witness)
    if answer != z3.unsat and obligation.enough is not None:
        answer = _answer(obligation.question, witness)
    if answer == z3.unknown:
        return Verdict.UNKNOWN
    return Verdict.PROVED if answer == z3.unsat else Verdict.REFUTED


def _answer(question: Question, witness: Question) -> z3.CheckSatResult:
    answers = (attempt.answer(question, witness) for attempt in ATTEMPTS)
    return next((answer for answer in answers if answer != z3.unknown), z3.unknown)


class Asked:
    """A question put to a z3 of its own, with its usual preprocessing or without."""

    def __init__(
        self, question: Iterable[z3.BoolRef], work: int, *, preprocessed: bool = True
    ) -> None:
        self._context = z3.Context()
        make = z3.Solver if preprocessed else z3.SimpleSolver
        self._solver: Any = make(ctx=self._context)
        self.limit(work)
        self.add(*question)

    def limit(self, work: int) -> None:
        """Each check from now on may take so much work."""
        self._solver.set("rlimit", work)

    def add(self, *terms: z3.BoolRef) -> None:
        """Ask for solutions that meet these, too."""
        self._solver.add(*(term.translate(self._context) for term in terms))

    def check(self, *terms: z3.BoolRef) -> z3.CheckSatResult:
        """Is there a solution (that meets ``terms``, too)?"""
        return self._solver.check(*(term.translate(self._context) for term in terms))

    def solution(self) -> "Solution":
        """The solution that the last check has found."""
        return Solution(self._solver.model(), self._context)


@dataclass(frozen=True)
class Solution:
    """What each term is in a solution."""

    model: z3.ModelRef
    context: z3.Context

    def value(self, term: z3.ExprRef) -> z3.ExprRef:
        """A term's value; an arbitrary one where any would do."""
        return self.model.eval(term.translate(self.context), model_completion=True)


def _solution_of(obligation: Obligation) -> str:
    """z3's own values for what refutes an obligation that no scenario shows; "" if there are none."""
    asked = Asked(obligation.question, VALUES_WORK)
    if asked.check() != z3.sat:
        return ""
    model = asked.solution().model
    values = (f"{name} = {model[name]}" for name in model.decls() if not name.arity())
    return ", ".join(sorted(values))


def _complaint(
    control: Control | None, last: Decided, found: Counterexample | None, shown: str
) -> str:
    """What is wrong with an outcome, "" if nothing is. A loop's machine code is shown by values only."""
    if control is None:
        if last.verdict is Verdict.PROVED:
            return ""
        return f"{last.verdict} at {last.obligation!r}{': ' if shown else ''}{shown}"
    if last.verdict is not Verdict.REFUTED:
        return f"must be refuted at {control.refutes!r} but is {last.verdict}"
    if last.obligation != control.refutes:
        return f"must be refuted at {control.refutes!r} but is at {last.obligation!r}"
    if not shown and (found is None or not found.failure):
        return "refuted, but the counterexample does not fail on the model"
    return ""


def _counterexample(
    claim: Claim, control: Control | None, proof: Proof, obligation: Obligation
) -> Counterexample | None:
    """Values that fail on the model: z3's if they do, else the first of the scenario's small cases.

    None if there are none: the obligation of a loop may be refuted in a state that the loop does not
    reach. A control that leaves out an assumption has z3's values only.
    """
    if not proof.scenario_name:
        return None
    fault = control.fault if control else None
    name = control.name if control else None
    with broken(fault):
        for values in _candidates(control, proof, obligation):
            seen = replay(Counterexample(claim.name, name, fault, proof.scenario_name, values))
            if seen.failure:
                return seen
    return None


def _candidates(
    control: Control | None, proof: Proof, obligation: Obligation
) -> Iterator[dict[str, Any]]:
    """Values to try: z3's near what the claim asks for, the scenario's small ones, any of z3's."""
    for more in (obligation.preferred, obligation.witness):
        if more:
            yield from _values(obligation, more, proof.scenario_values)
    if control is None or not control.without:
        yield from SCENARIOS[proof.scenario_name].cases()
    yield from _values(obligation, (), proof.scenario_values)


def _values(
    obligation: Obligation, more: tuple[Truth, ...], values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Small values that refute the obligation and agree with ``more``, if z3 finds any."""
    asked = Asked((*obligation.question, *(t.z for t in more)), VALUES_WORK)
    if asked.check() == z3.sat:
        asked.limit(MINIMISING_WORK)
        solution = _smallest(asked, values)
        yield {name: _plain(solution, value) for name, value in values.items()}


def _smallest(asked: Asked, values: dict[str, Any]) -> Solution:
    """A solution whose numbers are as small as possible, one after the other."""
    solution = asked.solution()
    for term in _numbers(list(values.values())):
        low, high = 0, _plain(solution, term)
        while low < high:
            middle = (low + high) // 2
            if asked.check((term <= middle).z) == z3.sat:
                solution = asked.solution()
                high = _plain(solution, term)
            else:
                low = middle + 1
        asked.add((term == high).z)
        if asked.check() != z3.sat:
            break
        solution = asked.solution()
    return solution


def _numbers(values: list[Any]) -> Iterator[Natural | Word]:
    for value in values:
        if isinstance(value, Natural | Word):
            yield value
        elif isinstance(value, list):
            yield from _numbers(value)


def _plain(solution: Solution, value: Any) -> Any:
    """A value in plain Python: numbers, lists, and bitmaps as lists of pages."""
    if callable(value):
        return value()
    if isinstance(value, Natural | Word):
        return solution.value(value.z).as_long()
    if isinstance(value, Truth):
        return z3.is_true(solution.value(value.z))
    if isinstance(value, Listed):
        size = min(_plain(solution, value.pages), LISTED_PAGES)
        return [page for page in range(size) if _plain(solution, value.bitmap[page])]
    if isinstance(value, list):
        return [_plain(solution, item) for item in value]
    return value
