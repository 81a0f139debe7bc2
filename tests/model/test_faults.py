"""The faults: named, told and fitted to what they replace; the model whole again after each."""

import inspect

import pytest

from model import shares
from model.domain import NotLiftableError
from model.faults import FAULTS, broken
from model.faults.registry import fault
from model.protocols import accesses, check_in
from proofs.prover.obligation import Proof

LIFTED = {
    name: made
    for name, made in FAULTS.items()
    if made.target not in (check_in.program, accesses.conflict)
}


@pytest.mark.parametrize("name", LIFTED)
def test_a_fault_takes_what_its_target_takes_and_can_be_lifted(name: str) -> None:
    """So it can be proved about, and put in by ``instead``."""
    made = LIFTED[name]
    parameters = [inspect.signature(f).parameters for f in (made.target, made.replacement)]
    assert len(parameters[0]) == len(parameters[1])
    proof = Proof(instead={made.target: made.replacement})
    proof.lift(made.target)
    assert made.replacement in proof.definitions
    assert made.name and made.what and not made.what.endswith(".")


def test_what_has_a_bare_number_is_no_fault_that_can_be_lifted() -> None:
    """Control."""
    with pytest.raises(NotLiftableError):
        Proof(instead={shares.is_last: lambda threads, thread: thread == 1}).lift(shares.share)


def test_the_model_is_whole_again() -> None:
    whole = {name: made.target for name, made in FAULTS.items()}
    with pytest.raises(RuntimeError), broken("no last thread"):
        assert shares.share(200, 3, 2) == (128, 192)
        raise RuntimeError
    assert shares.share(200, 3, 2) == (128, 200)
    assert whole == {name: made.target for name, made in FAULTS.items()}


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="a fault 'no last thread' already"):

        @fault(shares.is_last)
        def no_last_thread(threads: int, thread: int) -> bool:
            """Another one."""
            return thread == threads
