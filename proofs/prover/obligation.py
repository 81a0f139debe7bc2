"""Claims, what they assume, what they prove, and the controls that must fail.

A claim is a function that states one property to a :class:`Proof`: what it assumes, lemmas on the way,
and what it proves. Every step is an *obligation*: z3 must find that no values satisfy the assumptions
and violate the statement. A control is the same claim with one thing broken; it must be refuted, at the
obligation named, by values that also fail when they are run on the model.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import FunctionType
from typing import Any

import z3

from model import domain, shares, walk, words, worker
from model.boundary.docstring import docstring
from model.domain import NONE_INSTEAD, Domain
from model.errors import ColoError
from model.faults import FAULTS, broken
from model.protocols import check_in, work_queue
from proofs.prover import symbolic
from proofs.prover.symbolic import (
    Bitmap,
    MaybeTruth,
    Natural,
    Sequence,
    Term,
    Truth,
    Word,
    Words,
    every,
    forall,
    implies,
    natural,
    truth,
)


class CannotBeStated(ColoError, ValueError):
    """What a claim is about is not known here: the claim is neither proved nor refuted, but unknown."""


@dataclass(frozen=True)
class Control:
    """The claim with one thing broken: a fault of ``model.faults``, or one assumption left out.

    Of a claim about compiled code it may be a mutant of that (``proofs/compiled/mutants.py``).
    ``refutes`` names the obligation that must fail: the reason.
    """

    name: str
    refutes: str
    fault: str | None = None
    without: str | None = None
    mutant: str | None = None


def faulty(fault: str, refutes: str) -> Control:
    """A control that breaks a definition of the model, by the name that counterexamples give it too.

    LookupError if no fault of ``model.faults`` has it.
    """
    if fault not in FAULTS:
        near = ", ".join(map(repr, get_close_matches(fault, FAULTS))) or "see model/faults/"
        raise LookupError(f"there is no fault {fault!r} (near it: {near})")
    return Control(fault, refutes, fault=fault)


def without(assumption: str, refutes: str) -> Control:
    """A control that leaves out an assumption, which shows that it is needed."""
    return Control(f"without: {assumption}", refutes, without=assumption)


@dataclass(frozen=True)
class Claim:
    """A property, by the name of the function that states it; ``slow`` ones are proved on demand."""

    name: str
    sentence: str
    state: Callable[["Proof"], None]
    controls: tuple[Control, ...]
    slow: bool = False


CLAIMS: dict[str, Claim] = {}


def claim(*controls: Control) -> Callable[[Callable[["Proof"], None]], Claim]:
    """Register a claim; its sentence is the first paragraph of the docstring."""

    def register(state: Callable[["Proof"], None]) -> Claim:
        subject = state.__module__.removeprefix("proofs.")
        sentence = " ".join(docstring(state).split("\n\n")[0].replace("``", "").split())
        made = Claim(f"{subject}.{state.__name__}", sentence, state, controls)
        CLAIMS[made.name] = made
        return made

    return register


@dataclass(frozen=True)
class Obligation:
    """One question to z3: do ``assumed``, ``proved`` and the negation of ``statement`` have a solution?

    ``witness`` and ``preferred`` are hints for finding solutions; soundness does not depend on them.
    ``enough`` implies the statement and is easier to prove; if it does not hold, nothing is known.
    ``failure`` is how an enumeration has refuted it.
    """

    name: str
    assumed: tuple[Truth, ...]
    proved: tuple[Truth, ...]
    statement: Truth
    witness: tuple[Truth, ...]
    preferred: tuple[Truth, ...]
    enough: Truth | None = None
    failure: str = ""

    @property
    def question(self) -> tuple[z3.BoolRef, ...]:
        """What z3 is asked; no solution means proved."""
        return self._whether(self.statement)

    @property
    def easier_question(self) -> tuple[z3.BoolRef, ...]:
        """What z3 is asked first; no solution means proved."""
        return self._whether(self.statement if self.enough is None else self.enough)

    def _whether(self, statement: Truth) -> tuple[z3.BoolRef, ...]:
        return (*(t.z for t in (*self.assumed, *self.proved)), z3.Not(statement.z))


@dataclass
class Proof:
    """Collects the obligations of one claim, in order; what has been proved may be used later."""

    dropped: str | None = None
    #: Functions in the place of the model's, wherever those are lifted: faults, mutants.
    instead: Mapping[Callable[..., Any], Callable[..., Any]] = field(
        default_factory=lambda: NONE_INSTEAD
    )
    mutant: str | None = None
    #: Is it about compiled code, not about what stands in ``model/`` alone?
    compiled: bool = False
    #: Is it enumerated, every case of finitely many, and not proved by a solver?
    enumerated: bool = False
    #: The blocks of compiled functions to which some path has come, by symbol and label.
    reached: Collection[tuple[str, str]] = ()
    obligations: list[Obligation] = field(default_factory=list)
    scenario_name: str = ""
    scenario_values: dict[str, Any] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    _domains: list[Domain] = field(default_factory=list)
    _assumed: list[Truth] = field(default_factory=list)
    _proved: list[Truth] = field(default_factory=list)
    _witness: list[Truth] = field(default_factory=list)
    _preferred: list[Truth] = field(default_factory=list)
    _named: int = 0

    def __post_init__(self) -> None:
        primitives: Mapping[Callable[..., Any], Any] = {
            domain.select: symbolic.select,
            walk.clear: symbolic.clear,
            walk.mark: symbolic.mark,
            walk.find: self._find,
            shares.first_word_with: self._first_word_with,
            worker.loaded: symbolic.loaded,
            worker.stored: symbolic.stored,
            check_in.asked: symbolic.asked,
            work_queue.marked: symbolic.marked,
            work_queue.get: symbolic.get,
            work_queue.put: symbolic.put,
            words.trailing_zeros: symbolic.trailing_zeros,
            words.population: symbolic.population,
        }
        # The same code over integers, or over words if its constants are words.
        self.lift = self.domain(int, primitives)
        # There a population is any number: who needs to know which lifts it by ``lift``.
        of_words = dict(primitives)
        of_words[words.population] = symbolic.some_population
        self.lift_words = self.domain(symbolic.word, of_words)

    def domain(
        self, number: Callable[[int], Any], primitives: Mapping[Callable[..., Any], Any]
    ) -> Domain:
        """A domain to lift model functions to; they count among those the claim is about."""
        made = Domain(number, primitives, instead=self.instead)
        self._domains.append(made)
        return made

    @property
    def definitions(self) -> set[FunctionType]:
        """The model functions that the claim is about."""
        return set[FunctionType]().union(*(domain.functions for domain in self._domains))

    @property
    def functions(self) -> set[str]:
        """Their names, as ``shares.chunk``."""
        return {f"{f.__module__.rpartition('.')[2]}.{f.__name__}" for f in self.definitions}

    def naturals(self, names: str) -> list[Natural]:
        """Variables for integers that are not negative."""
        variables = [Natural(z3.Int(name)) for name in names.split()]
        self._assumed += [variable >= 0 for variable in variables]
        return variables

    def words(self, names: str) -> list[Word]:
        """Variables for 64-bit words."""
        return [Word(z3.BitVec(name, 64)) for name in names.split()]

    def bitmaps(self, names: str) -> list[Bitmap]:
        """Variables for sets of pages."""
        return [Bitmap(z3.Const(name, symbolic.BITMAP)) for name in names.split()]

    def word_arrays(self, names: str) -> list[Words]:
        """Variables for arrays of 64-bit words."""
        return [Words(z3.Const(name, symbolic.WORDS)) for name in names.split()]

    def sequences(self, names: str) -> list[Sequence]:
        """Variables for sequences of integers."""
        return [Sequence(z3.Const(name, symbolic.SEQUENCE)) for name in names.split()]

    def truths(self, names: str) -> list[Truth]:
        """Variables for propositions."""
        return [Truth(z3.Bool(name)) for name in names.split()]

    def possible(self, name: str, *truths: MaybeTruth) -> None:
        """Make sure that these can be, beside what is assumed: else a claim about them is vacuous."""
        with self.case():
            self._assumed += [truth(t) for t in truths]
            self.prove(name, True, keep=False)

    def assume(self, name: str, *truths: MaybeTruth) -> None:
        """Assume; a control may leave out what bears ``name``."""
        if name not in self.assumptions:
            self.assumptions.append(name)
        if name != self.dropped:
            self._assumed += [truth(t) for t in truths]

    def witness(self, *truths: MaybeTruth) -> None:
        """Values that satisfy the assumptions: a hint for z3, no part of any proof."""
        self._witness += [truth(t) for t in truths]

    def prefer(self, *truths: MaybeTruth) -> None:
        """Prefer counterexamples like this, which fail on the model too: a hint, no part of any proof."""
        self._preferred += [truth(t) for t in truths]

    def prove(
        self,
        name: str,
        *statements: MaybeTruth,
        enough: Truth | None = None,
        keep: bool = True,
    ) -> None:
        """State an obligation, and, unless told not to ``keep`` it, use it from here on."""
        if not statements:
            raise ValueError(f"{name!r} is about nothing: there is no statement to prove")
        statement = every(*statements)
        self.obligations.append(
            Obligation(
                name,
                tuple(self._assumed),
                tuple(self._proved),
                statement,
                tuple(self._witness),
                tuple(self._preferred),
                enough,
            )
        )
        if keep:
            self._proved.append(statement)

    def found(self, name: str, failure: str) -> None:
        """State that an enumeration of every case has found no ``failure``, "" if it has not."""
        self.prove(name, failure == "", keep=False)
        self.obligations[-1] = replace(self.obligations[-1], failure=failure)

    def prove_frame(
        self, name: str, before: Any, after: Any, *, may_change: Collection[str]
    ) -> None:
        """A step changes none but these fields of a NamedTuple: what it says nothing about, it leaves."""
        unknown = set(may_change) - set(before._fields)
        if unknown:
            raise ValueError(f"{name}: {type(before).__name__} has no {', '.join(unknown)}")
        self.prove(
            name,
            *(
                was == now
                for field, was, now in zip(before._fields, before, after, strict=True)
                if field not in may_change
            ),
        )

    def lemma(self, name: str, holds: Callable[..., Truth], *like: Term) -> Callable[..., None]:
        """Prove ``holds(*values)`` for all values that are ``like`` these, whatever is assumed here.

        Calling the result with values uses it for them.
        """
        with self._on_its_own():
            self.prove(name, holds(*(self._fresh(term) for term in like)))
        return lambda *values: self._proved.append(holds(*values))

    def by_induction(
        self, name: str, holds: Callable[..., Truth], *like: Term
    ) -> Callable[..., None]:
        """Prove ``holds(n, *values)`` for every natural n and all values that are ``like`` these.

        Two obligations, for 0 and from n to n + 1. Calling the result with (n, *values) uses it there.
        """
        values = [self._fresh(term) for term in like]
        with self._on_its_own():
            self.prove(f"{name}: for 0", holds(natural(0), *values))
        with self._on_its_own():
            n = self._fresh(natural(0), "n")
            self._assumed += [n >= 0, holds(n, *values)]
            self.prove(f"{name}: from n to n + 1", holds(n + 1, *values))
        return lambda n, *terms: self._proved.append(implies(n >= 0, holds(n, *terms)))

    @contextmanager
    def case(self) -> Iterator[None]:
        """What is assumed within the block is forgotten after it; what is proved holds in that case."""
        before = self._assumed, self._proved, self._witness, self._preferred
        self._assumed, self._proved, self._witness, self._preferred = (
            list(part) for part in before
        )
        yield
        new = every(*self._assumed[len(before[0]) :])
        found = [implies(new, statement) for statement in self._proved[len(before[1]) :]]
        self._assumed, self._proved, self._witness, self._preferred = before
        self._proved += found

    @contextmanager
    def _on_its_own(self) -> Iterator[None]:
        before = self._assumed, self._proved, self._witness, self._preferred
        self._assumed, self._proved, self._witness, self._preferred = [], [], [], []
        yield
        self._assumed, self._proved, self._witness, self._preferred = before

    def scenario(self, name: str, **values: Any) -> None:
        """How a counterexample is run on the model: a scenario of ``model.scenarios`` and its values.

        A value that takes looking for is given as a function: it is called only if it is wanted.
        """
        self.scenario_name, self.scenario_values = name, values

    def _fresh(self, like: Term, name: str = "any") -> Any:
        """A variable like a term, used nowhere else in this proof.

        Numbered within the proof, not within the process as z3's own: what z3 is asked must not depend
        on what was proved before.
        """
        self._named += 1
        return type(like)(z3.Const(f"{name}!{self._named}", like.z.sort()))

    def _find(self, bitmap: Bitmap, start: Any, limit: Any) -> Natural:
        """``model.walk.find`` by its contract: the first set page in [start, limit), or the end."""
        found: Natural = self._fresh(natural(0), "found")
        end = symbolic.select(natural(start) < limit, limit, start)
        self._assumed += [
            found >= start,
            found <= end,
            forall(lambda k: implies((start <= k) & (k < found), ~bitmap[k])),
            implies(found < end, bitmap[found]),
        ]
        return found

    def _first_word_with(self, before: Sequence, pages: Any) -> Natural:
        """``model.shares.first_word_with`` by its contract."""
        found: Natural = self._fresh(natural(0), "found")
        self._assumed += [
            found >= 0,
            before[found] >= pages,
            forall(lambda k: implies((k >= 0) & (k < found), before[k] < pages)),
        ]
        return found


@dataclass(frozen=True)
class Listed:
    """A bitmap to be shown as the list of its pages below ``pages``."""

    bitmap: Bitmap
    pages: Natural


def stated(
    claim: Claim,
    control: Control | None = None,
    *,
    instead: Mapping[Callable[..., Any], Callable[..., Any]] = NONE_INSTEAD,
) -> Proof:
    """The obligations of a claim, or of its control, as they are put to z3.

    ``instead`` puts functions in the place of the model's, wherever those are lifted.
    """
    control = control or Control("", "")
    proof = Proof(dropped=control.without, instead=instead, mutant=control.mutant)
    with broken(control.fault):
        claim.state(proof)
    return proof
