"""Integers and 64-bit words: a function that claims read as both must come to the same in both."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from model import shares
from model.domain import Domain
from proofs.prover.catalogue import catalogue
from proofs.prover.machine import Number
from proofs.prover.obligation import stated
from proofs.prover.symbolic import Natural, Word

KINDS = {Natural: "integers", Word: "words", Number: "integers that must fit"}
COMPILED = "compiled."
#: These take long to state. STATE is a word there, what counts is an integer, and none is both.
OF_THE_PROTOCOL = (
    "check_in.",
    "progress.",
    "static_rounds.",
    "race_free.",
    "frames.",
    "whole_flush.",
)


def terms(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from terms(value)
        else:
            yield value


@cache
def read_as() -> dict[str, set[str]]:
    """Of each function, as what the claims about the model read its arguments."""
    found = defaultdict[str, set[str]](set)
    whole = Domain.lift

    def lift(self: Domain, function: Callable[..., Any]) -> Any:
        lifted = whole(self, function)
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

        def noted(*arguments: Any) -> Any:
            found[name] |= {KINDS[type(t)] for t in terms(arguments) if type(t) in KINDS}
            return lifted(*arguments)

        return noted if function not in self._primitives else lifted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("lift", "__call__"):
            patch.setattr(Domain, name, lift)
        for claim in catalogue():
            if not claim.name.startswith((COMPILED, *OF_THE_PROTOCOL)):
                stated(claim)
    return found


def compiled() -> set[str]:
    """The functions of the model that numba compiles."""
    return {
        claim.name.removeprefix(COMPILED)
        for claim in catalogue()
        if claim.name.startswith(COMPILED)
    }


def test_what_is_read_as_integers_and_as_words_must_fit() -> None:
    for name, kinds in read_as().items():
        both = kinds >= {"integers", "words"} or ("integers" in kinds and name in compiled())
        assert not both or "integers that must fit" in kinds, name


def test_what_is_read_as_what_is_noted() -> None:
    """The control: of these it is known."""
    assert read_as()["shares.clip"] == set(KINDS.values())
    assert read_as()["words.either"] == {"words"}
    assert read_as()["shares.owner"] == {"integers", "integers that must fit"}
    assert "shares.batch_words" in compiled()
    assert shares.batch_words.__name__ == "batch_words"
