"""One definition, three domains: Python, z3 and numba compute the same."""

from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

import numba
import numpy as np
import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st

from impl import pool  # noqa: F401  # every kernel is defined, and what it reads of the model
from impl.kernels.compile import compiled, primitives
from model import nodes, shares, words
from model.domain import Domain, NotLiftableError
from model.protocols import check_in, node_cursors
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Proof
from proofs.prover.report import runs
from proofs.prover.symbolic import Natural, Word
from tests.support.claims import as_it_stands

word = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 200)
)
count = st.integers(0, 64)
number = st.one_of(st.integers(0, 2**55 - 1), st.integers(0, 300))
lengths = st.integers(0, 300)
a_node = st.integers(0, 64)
threads = st.integers(1, 2**12)
#: STATE: its two flags, any number inside.
state = st.builds(
    lambda flags, count: sum(flags) + count,
    st.sets(st.sampled_from([check_in.OPEN, check_in.QUIT])),
    st.integers(0, 2**12),
)

#: Function: how its arguments are drawn, what they are in z3.
FUNCTIONS: dict[Callable[..., object], tuple[st.SearchStrategy[tuple[int, ...]], type]] = {
    words.pages_below: (st.tuples(count), Word),
    words.pages_between: (st.tuples(count, count).map(lambda p: tuple(sorted(p))), Word),
    words.window_mask: (
        st.tuples(st.integers(0, 5) | st.integers(0, 2**49), st.integers(-200, 200), lengths).map(
            lambda t: (t[0], max(64 * t[0] + t[1], 0), max(64 * t[0] + t[1] + t[2], 0))
        ),
        Word,
    ),
    words.either: (st.tuples(word, word), Word),
    words.both: (st.tuples(word, word), Word),
    words.cleared: (st.tuples(word, word), Word),
    words.without_next: (st.tuples(word.filter(bool)), Word),
    words.next_page: (st.tuples(word.filter(bool)), Word),
    words.word_of: (st.tuples(word), Word),
    words.bit_of: (st.tuples(word), Word),
    shares.cut_at_word: (st.tuples(number), Natural),
    shares.chunk: (st.tuples(number, threads), Natural),
    shares.share: (
        st.tuples(number, threads, st.integers(0, 2**12)).map(lambda t: (t[0], t[1], t[2] % t[1])),
        Natural,
    ),
    shares.owner: (st.tuples(number, threads, number), Natural),
    shares.is_last: (st.tuples(threads, st.integers(0, 2**12)), Natural),
    shares.in_reach: (st.tuples(number, number, number, number), Natural),
    shares.clip: (
        st.tuples(number, number, number, lengths)
        .map(lambda t: (t[0], t[1], t[2], t[2] + t[3]))
        .filter(lambda t: shares.in_reach(*t)),
        Natural,
    ),
    shares.batch: (st.tuples(number, st.integers(1, 4096), number), Natural),
    shares.stretch_of: (st.tuples(number), Natural),
    shares.end_of_stretch: (
        st.tuples(number, st.integers(-5000, 5000)).map(lambda t: (t[0], max(t[0] + t[1], 0))),
        Natural,
    ),
    nodes.node_in_turn: (
        st.tuples(a_node, a_node, st.integers(1, 64)).map(
            lambda t: (t[0] % t[2], t[1] % t[2], t[2])
        ),
        Natural,
    ),
    node_cursors.after_taking: (st.tuples(number, number, a_node, a_node), Natural),
    node_cursors.is_over: (st.tuples(a_node, a_node), Natural),
    check_in.is_open: (st.tuples(state), Word),
    check_in.has_quit: (st.tuples(state), Word),
    check_in.inside: (st.tuples(state), Word),
    check_in.checked_in: (st.tuples(state), Word),
    check_in.checked_out: (st.tuples(state.filter(bool)), Word),
    check_in.caller_must_be_woken: (st.tuples(state), Word),
}
#: What a recount of the patch would use, and nothing of ours.
PROVED_ONLY: set[Callable[..., object]] = {shares.owner, words.bit_of}
#: Reads a sequence, which is a table in memory for numba: tests/impl/test_flush.py compares what it leads
#: to.
NOT_OF_NUMBERS = {shares.batch_words}


def test_the_catalogue_says_rightly_which_functions_run() -> None:
    """A claim that "runs" is about compiled functions, and what a proof alone needs; others "mirror"."""
    every: set[Callable[..., object]] = {*compiled.functions, *FUNCTIONS}
    compiled_or_not = {name_of(f): f in compiled.functions for f in every}
    for claim in catalogue():
        proof = as_it_stands(claim)
        here = {name for name in proof.functions if compiled_or_not.get(name, False)}
        rest = proof.functions - here - {name_of(f) for f in PROVED_ONLY}
        assert runs(proof) == (bool(proof.functions) and not rest), claim.name


def name_of(function: Callable[..., object]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def test_every_function_that_is_compiled_is_compared() -> None:
    assert compiled.functions.difference(NOT_OF_NUMBERS) == FUNCTIONS.keys() & compiled.functions
    assert FUNCTIONS.keys() - compiled.functions <= PROVED_ONLY


#: Not the one that the kernels are made with: some functions here are in no kernel.
numba_words = Domain(np.uint64, primitives, finish=numba.njit)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.__module__}.{f.__name__}")
@given(data=st.data())
def test_three_readings_agree(function: Callable[..., object], data: st.DataObject) -> None:
    draw, kind = FUNCTIONS[function]
    arguments = data.draw(draw)
    in_python = function(*arguments)
    in_numba = numba_words.lift(function)(*(np.uint64(a) for a in arguments))
    into = z3.IntVal if kind is Natural else lambda a: z3.BitVecVal(a, 64)
    in_z3 = Proof().lift(function)(*(kind(into(a)) for a in arguments))
    assert _plain(in_numba) == _plain(in_python)
    assert _plain(in_z3) == _plain(in_python)


class Place(NamedTuple):
    """Where a walk stands."""

    successor: int


def successor(place: Place) -> int:
    """A function of the name of an attribute that it reads, which is no function."""
    return place.successor


def test_an_attribute_is_not_a_function_of_the_same_name() -> None:
    """Taken for one it would be lifted, and lifted again, for ever."""
    assert Proof().lift(successor)(Place(5)) == 5


STRIDE = 64
ENABLED = True


def rounded(pages: int) -> int:
    return pages // STRIDE * STRIDE


def twice_rounded(pages: int) -> int:
    return rounded(rounded(pages)) + rounded(pages)


def half(pages: int) -> int:
    return rounded(pages) // TWO


TWO = 2


def test_a_function_is_put_in_the_place_of_another_wherever_it_is_called() -> None:
    """And may call the one that it replaces. Nothing is patched: the module's own stays whole."""
    faulty = Domain(int, {}, instead={rounded: half})
    assert faulty.lift(rounded)(200) == 96
    assert faulty.lift(twice_rounded)(200) == 32 + 96
    assert twice_rounded(200) == 384
    assert faulty.functions == {half, rounded, twice_rounded}


def test_a_primitive_is_known_by_the_function_and_not_by_its_name() -> None:
    namesake = FunctionType(rounded.__code__, {"STRIDE": 1}, "rounded")
    assert Domain(int, {namesake: str}).lift(rounded)(200) == 192
    assert Domain(int, {rounded: str}).lift(rounded)(200) == "200"


def with_a_bare_number(pages: int) -> int:
    return pages + 1


def with_a_bare_pair(pages: int) -> tuple[int, int]:
    return (63, 64)


def with_a_default(pages: int, stride: int = STRIDE) -> int:
    return pages // stride


def with_a_keyword(*, stride: int = STRIDE) -> int:
    return stride


def with_a_function_in_it(pages: int) -> int:
    return (lambda: pages)()


def with_a_truth(pages: int) -> bool:
    return ENABLED


def by_a_call(pages: int) -> int:
    return rounded(with_a_bare_number(pages))


def with_a_closure() -> Callable[[int], int]:
    stride = STRIDE
    return lambda pages: pages // stride


@pytest.mark.parametrize(
    "function, reason",
    [
        (with_a_bare_number, "with_a_bare_number holds the bare number 1"),
        (with_a_bare_pair, "the bare number 63"),
        (by_a_call, "with_a_bare_number holds the bare number 1"),
        (with_a_default, "has defaults"),
        (with_a_keyword, "has defaults"),
        (with_a_closure(), "closes over stride"),
        (with_a_function_in_it, "holds a function of its own|closes over"),
        (with_a_truth, "reads True, a constant that is no number"),
        (len, "is not a plain function"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_would_mean_something_else_is_not_lifted(
    function: Callable[..., object], reason: str
) -> None:
    for instead in ({}, {rounded: function}):
        domain = Domain(int, {}, instead=instead)
        with pytest.raises(NotLiftableError, match=reason):
            domain.lift(rounded if instead else function)


def test_a_mutant_of_what_has_been_lifted_is_looked_through_too() -> None:
    """It is the same function with other code."""
    mutant = FunctionType(rounded.__code__, rounded.__globals__, "rounded")
    Domain(int, {}).lift(mutant)
    mutant.__code__ = with_a_bare_number.__code__
    with pytest.raises(NotLiftableError, match="bare number"):
        Domain(int, {}).lift(mutant)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, Natural | Word):
        return z3.simplify(value.z).as_long()
    if hasattr(value, "z"):
        return z3.is_true(z3.simplify(value.z))
    return value if isinstance(value, bool) else int(value)  # type: ignore[call-overload]
