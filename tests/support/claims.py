"""Every claim, stated once for all tests that look at it."""

from functools import cache

from proofs.prover.obligation import Claim, Proof, stated


@cache
def as_it_stands(claim: Claim) -> Proof:
    """A claim, stated of the model as it is: not within the block of a fault or a mutant."""
    return stated(claim)
