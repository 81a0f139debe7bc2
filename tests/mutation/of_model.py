"""What becomes of a mutant of the model: which claim refuses it, or which exploration.

A mutant needs only the claims that read its function, and of those only the obligations that it
changes: an obligation that is the same, word for word, as one of the whole model is proved already
(``python -m proofs``). z3 keeps equal terms once, so "the same" is a comparison of numbers.
"""

from collections.abc import Mapping
from functools import cache
from types import FunctionType

import z3

from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Claim, Obligation, Proof, stated
from proofs.prover.verdict import QUICK_WORK, Asked, Verdict, decide
from tests.mutation.by_hand import made_by_hand
from tests.mutation.explored import can_be_changed, made_of, refused_by
from tests.mutation.mutants import SURVIVES, Fate, Mutant, mutants
from tests.support.claims import as_it_stands

PROOF, EXPLORER = "a proof", "the explorer"
COMPILED = "compiled."
#: Most mutants that a claim refuses are refused within this (``proofs.verdict``: units of z3's work).
LITTLE_WORK = 1_000_000


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Every mutant of every function of the model that a claim reads, or that is explored, by name."""
    explored = {function for function in made_of() if can_be_changed(function)}
    in_order = sorted(read_by_claims() | explored, key=lambda f: (f.__module__, f.__qualname__))
    by_rule = (mutant for function in in_order for mutant in mutants(function))
    return (*by_rule, *made_by_hand(in_order))


@cache
def read_by_claims() -> frozenset[FunctionType]:
    """Every function of the model that a claim reads."""
    return frozenset[FunctionType]().union(*(proof.definitions for _, proof in _whole()))


# The claims.

Key = tuple[int, ...]


@cache
def _whole() -> tuple[tuple[Claim, Proof], ...]:
    """Every claim, stated of the model as it is: the quickest to state first.

    But for those that compiled code equals the model's: they would refuse whatever is changed, and so
    hide what the others let pass.
    """
    about_the_model = (c for c in catalogue() if not c.name.startswith(COMPILED))
    proofs = ((claim, as_it_stands(claim)) for claim in about_the_model)
    return tuple(sorted(proofs, key=lambda pair: len(pair[1].obligations)))


@cache
def _known() -> Mapping[Key, tuple[frozenset[int], Obligation]]:
    """The obligations of the whole model, all of them proved, by what they assume and say.

    With what had been proved before, and might have been used.
    """
    return {
        _meaning(o): (frozenset(term.z.get_id() for term in o.proved), o)
        for _, proof in _whole()
        for o in proof.obligations
    }


def _assumption(obligation: Obligation) -> Key:
    return tuple(term.z.get_id() for term in obligation.assumed)


def _meaning(obligation: Obligation) -> Key:
    return (*_assumption(obligation), obligation.statement.z.get_id())


def fate(mutant: Mutant) -> Fate:
    """Who refuses the mutant: a claim, or else an exploration.

    First the claims are asked, with little work, for what the mutant itself has changed; then it is
    explored; and only if that says nothing either the claims are asked for all that it may have changed,
    by making a lemma weaker, with as much work as a proof may take.
    """
    about = [claim for claim, proof in _whole() if mutant.function in proof.functions]
    with mutant.applied():
        proofs: list[tuple[Claim, Proof]] = []
        for claim in about:
            try:
                proof = stated(claim)
            except Exception as error:
                return Fate(PROOF, f"{claim.name}: cannot be stated ({type(error).__name__})")
            if where := _refuted_at(proof):
                return Fate(PROOF, f"{claim.name}: {where}")
            proofs.append((claim, proof))
        if found := _by_an_exploration(mutant):
            return found
        for claim, proof in proofs:
            if where := _not_proved_at(proof):
                return Fate(PROOF, f"{claim.name}: {where}")
    return SURVIVES


def _by_an_exploration(mutant: Mutant) -> Fate | None:
    # No claim says what is explored of a function that none reads: there the faults that fail do.
    controls = mutant.target not in read_by_claims()
    where = refused_by(made_of().get(mutant.target, frozenset()), controls=controls)
    return Fate(EXPLORER, where) if where else None


def _refuted_at(proof: Proof) -> str:
    """The first obligation that the mutant has changed and that is soon refuted, or ""."""
    changed = (o for o in proof.obligations if _meaning(o) not in _known())
    for obligation in changed:
        if any(_asked(obligation, way) == z3.sat for way in (False, True)):
            return obligation.name
    return ""


def _asked(obligation: Obligation, preprocessed: bool) -> z3.CheckSatResult:
    return Asked(obligation.question, LITTLE_WORK, preprocessed=preprocessed).check()


def _not_proved_at(proof: Proof) -> str:
    """The first obligation that is not proved any more, with its verdict; or ""."""
    for obligation in proof.obligations:
        verdict = Verdict.PROVED if _is_proved(obligation) else decide(obligation)
        if verdict is not Verdict.PROVED:
            return f"{obligation.name} ({verdict})"
    return ""


def _is_proved(obligation: Obligation) -> bool:
    """Does the obligation follow from one of the whole model, and from nothing that is changed?"""
    if (meaning := _meaning(obligation)) not in _known():
        return False
    before, _ = _known()[meaning]
    return before <= {term.z.get_id() for term in obligation.proved} or _needs_no_lemma(meaning)


@cache
def _needs_no_lemma(meaning: Key) -> bool:
    """Is an obligation of the whole model proved from its assumptions alone?"""
    _, o = _known()[meaning]
    question = (*(term.z for term in o.assumed), z3.Not(o.statement.z))
    ways = (Asked(question, QUICK_WORK, preprocessed=way) for way in (True, False))
    return any(way.check() == z3.unsat for way in ways)
