"""Mutants of the model are refused: each by a claim, with a counterexample that fails on the model."""

from functools import cache

import pytest

from proofs.prover import verdict
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Claim, stated
from tests.proofs.mutations import MUTATIONS, ONCE_MISSED, Mutation, mutated
from tests.support.needs import LONG_RUN

# Those of the default run; the long one takes all.
SAMPLE = MUTATIONS[::6]


@cache
def about() -> dict[str, list[Claim]]:
    """The claims about each model function, those with the fewest obligations first."""
    found: dict[str, list[Claim]] = {}
    proofs = [(claim, stated(claim)) for claim in catalogue()]
    for claim, proof in sorted(proofs, key=lambda pair: len(pair[1].obligations)):
        for function in proof.functions:
            found.setdefault(function, []).append(claim)
    return found


@pytest.mark.parametrize("mutation", (*MUTATIONS, *ONCE_MISSED), ids=str)
def test_a_mutant_can_be_made(mutation: Mutation) -> None:
    """Most are proved about in long runs only; that the model still has their text is seen now."""
    with mutated(mutation):
        pass


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_no_mutant_survives(
    mutation: Mutation, long_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not long_run and mutation not in SAMPLE:
        pytest.skip(LONG_RUN)
    monkeypatch.setattr(verdict, "WORK", 20_000_000)
    claims = about()[mutation.function]
    with mutated(mutation):
        for claim in claims:
            outcome = verdict.check(claim)
            if outcome.counterexample:
                assert outcome.counterexample.failure
                print(f"{claim.name}: {outcome.verdict} at {outcome.at!r}")
                print(outcome.counterexample.failure)
                return
    pytest.fail(f"no claim refuses it with values that fail; asked {[c.name for c in claims]}")


@pytest.mark.parametrize("mutation", ONCE_MISSED, ids=str)
def test_what_was_once_missed_is_refused(mutation: Mutation, long_run: bool) -> None:
    """Each by a claim; a mutant that other code makes up for need not fail on the model."""
    if not long_run and mutation not in ONCE_MISSED[::6]:
        pytest.skip("long runs only")
    with mutated(mutation):
        for claim in about()[mutation.function]:
            outcome = verdict.check(claim)
            if outcome.verdict is not verdict.Verdict.PROVED:
                print(f"{claim.name}: {outcome.verdict} at {outcome.at!r}")
                assert outcome.verdict is verdict.Verdict.REFUTED
                return
    pytest.fail("every claim about it is proved")


def test_there_are_enough() -> None:
    assert len(set(MUTATIONS)) == len(MUTATIONS) >= 25
