"""The compiled functions of ``model/``: the claims about them, and the translator those stand on.

The translator is run on numbers beside the machine code. What it does not know must make a claim
unknown, and a function with something broken in it must be refused.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st

from impl import pool  # noqa: F401  # every kernel is defined, and what it reads of the model
from impl.kernels.compile import compiled
from model import shares
from proofs.compiled import source
from proofs.compiled.campaign import REFUSED, row_of, rows
from proofs.compiled.functions import (
    DIVISORS,
    KINDS,
    Summary,
    arguments_of,
    full_name,
    kinds,
    model_results,
    summary,
)
from proofs.compiled.ir import UnknownIR
from proofs.compiled.machine import width
from proofs.compiled.reader import instruction, read
from proofs.compiled.values import Bits, as_one_number
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Proof
from proofs.prover.report import exit_code
from proofs.prover.symbolic import Word
from proofs.prover.verdict import Outcome, Verdict, check
from tests.support.needs import LONG_RUN, ROOT

Function = Callable[..., object]

EDGES = [0, 1, 31, 32, 62, 63, 64, 65, 127, 128, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63]
WORDS = st.one_of(
    st.integers(0, 2**64 - 1), st.integers(0, 300), st.sampled_from([*EDGES, 2**64 - 64, 2**64 - 1])
)
#: The search of a table is a kernel of its own; here it has no table to search.
OF_NUMBERS = [function for function in DIVISORS if function is not shares.batch_words]


def test_every_compiled_function_has_a_claim() -> None:
    assert DIVISORS.keys() == compiled.functions


def name_of(function: Function) -> str:
    return full_name(function).removeprefix("model.")


@pytest.fixture(scope="module")
def summaries() -> dict[tuple[Function, str], tuple[list[Word], Summary]]:
    """Every compiled function on terms."""
    found = {}
    for function in OF_NUMBERS:
        arguments = [Word(z3.BitVec(name, 64)) for name in arguments_of(function)]
        want = model_results(Proof(), function, arguments)
        for kind in kinds(function):
            found[function, kind] = arguments, summary(function, kind, arguments, want)
    return found


@pytest.mark.parametrize("function", OF_NUMBERS, ids=name_of)
@given(data=st.data())
def test_the_translator_computes_what_the_machine_code_does(
    function: Function,
    summaries: dict[tuple[Function, str], tuple[list[Word], Summary]],
    data: st.DataObject,
) -> None:
    numbers = [data.draw(WORDS) for _ in arguments_of(function)]
    by_name = dict(zip(arguments_of(function), numbers, strict=True))
    defined = all(by_name[divisor] for divisor in DIVISORS[function])
    for kind in kinds(function):
        arguments, found = summaries[function, kind]
        values = [
            (argument.z, z3.BitVecVal(value, 64))
            for argument, value in zip(arguments, numbers, strict=True)
        ]
        assert z3.is_true(z3.simplify(z3.substitute(found.defined, *values))) == defined
        if defined:
            result = compiled(function)(*map(np.uint64, numbers))
            results = result if isinstance(result, tuple) else (result,)
            terms = [z3.simplify(z3.substitute(r.z, *values)) for r in found.results]
            assert [term.as_long() for term in terms] == [int(value) for value in results]


# What is not known.


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("%a = fadd double %b, %c", "'fadd'"),
        ("%a = add nuw fast i64 %b, %c", "'fast'"),
        ("%a = shl nusw i64 %b, %c", "'nusw'"),
        ("%a = icmp fast ult i64 %b, %c", "'fast'"),
        ("%a = load volatile i64, ptr %b, align 8", "'volatile'"),
        ("%a = load i64, ptr %b, align 8, !range !4", "'!range'"),
        ("%a = load i64, ptr %b, align 8, !noalias !0", "'!noalias'"),
        ("%a = load i64, ptr addrspace(1) %b, align 8", "'addrspace'"),
        ("%a = call fast i64 @f(i64 %b)", "'fast'"),
        ("%a = call i64 @f(i64 signext %b)", "'signext'"),
        ("%a = call i64 %f(i64 %b)", "'%f'"),
        ("%a = fneg double %b", "'fneg'"),
        ("%a = getelementptr inrange i8, ptr %b, i64 8", "'inrange'"),
        ("store i64 %a, ptr %b, align 8, !nonsense !1", "'!nonsense'"),
        ("invoke void @f() to label %a unwind label %b", "'invoke'"),
        ("fence syncscope seq_cst", "'syncscope'"),
        ("%a = atomicrmw xchg ptr %b, i64 1 seq_cst, align 8", "'xchg'"),
        ("%a = add i64 %b, %c ; a comment", "';'"),
    ],
)
def test_what_is_not_known_is_refused_by_name(line: str, names: str) -> None:
    with pytest.raises(UnknownIR, match=re.escape(names)) as refused:
        instruction(line)
    assert line in str(refused.value)


def test_a_function_with_an_unknown_attribute_is_refused() -> None:
    text = source.kernels().texts[source.AS_MADE][source.kernels().symbol("model.words.either")]
    read(text)
    with pytest.raises(UnknownIR, match="'sret'"):
        read(text.replace("ptr noalias", "ptr sret noalias", 1))
    with pytest.raises(UnknownIR, match="'gc'"):
        read(text.replace(") {", ") gc {", 1))


@pytest.mark.parametrize("line", ["<2 x i32> %b to i64", "<8 x i1> %b to i16", "<8 x i1> %b to i4"])
def test_only_bits_are_taken_for_a_number_of_as_many(line: str) -> None:
    bits = [Bits(z3.BitVecVal(bit, 1)) for bit in (0, 1, 1, 0, 0, 0, 0, 1)]
    number = as_one_number(tuple(bits), 8, "a bitcast")
    assert z3.simplify(number.z).as_long() == 0b1000_0110
    assert z3.is_false(number.poison)
    what = instruction(f"%a = bitcast {line}")
    lanes = bits if "i1>" in line else [Bits(z3.BitVecVal(0, 32))] * 2
    with pytest.raises(UnknownIR, match="a bitcast"):
        as_one_number(tuple(lanes), width(what.type), what.text)


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[Callable[[str, str, str, str], Outcome]]:
    """Check a claim about IR of which some is replaced; afterwards the IR is what it was."""
    folder = tmp_path / "ir"

    def outcome(function: str, kind: str, old: str, new: str) -> Outcome:
        kernels = source.kernels()
        symbol = kernels.symbol(f"model.{function}")
        functions = []
        for number, (name, symbols) in enumerate(kernels.symbols.items()):
            for each, this in enumerate(symbols):
                entry = {"name": name, "symbol": this}
                for level, texts in kernels.texts.items():
                    text = texts[this]
                    if this == symbol and level == kind:
                        assert old in text
                        text = text.replace(old, new, 1)
                    entry[level] = f"{number}.{each}.{level}.ll"
                    folder.mkdir(exist_ok=True)
                    (folder / entry[level]).write_text(text + "\n")
                functions.append(entry)
        versions = dict.fromkeys(("python", "numba", "llvm", "processor", "machine"), "a test's")
        (folder / "kernels.json").write_text(json.dumps({"functions": functions, **versions}))
        source.use(folder)
        (claim,) = catalogue([f"compiled.{'.'.join(function.split('.')[-2:])}"])
        return check(claim)

    yield outcome
    source.use(None)


def test_ir_that_is_not_known_makes_a_claim_unknown(
    edited: Callable[[str, str, str, str], Outcome],
) -> None:
    found = edited("words.cleared", source.AS_MADE, " = xor i64", " = xor fast i64")
    assert found.verdict is Verdict.UNKNOWN
    assert "'fast' is not known here" in found.complaint
    assert exit_code([found]) == 2


def test_an_intrinsic_that_is_not_known_makes_a_claim_unknown(
    edited: Callable[[str, str, str, str], Outcome],
) -> None:
    found = edited("words.next_page", source.AS_MADE, "@llvm.cttz.i64", "@llvm.ctlz.i64")
    assert found.verdict is Verdict.UNKNOWN
    assert "llvm.ctlz.i64" in found.complaint


def test_a_loop_makes_a_claim_unknown(edited: Callable[[str, str, str, str], Outcome]) -> None:
    found = edited("words.both", source.AS_MADE, "  ret i32 0", "  br label %B0")
    assert found.verdict is Verdict.UNKNOWN
    assert "loop" in found.complaint


def test_a_folder_without_ir_makes_a_claim_unknown(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "proofs", "--only", "compiled.words.*", "--compiled", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 2
    assert "FAILED compiled.words.word_of" in run.stdout


# What is broken.


@pytest.mark.parametrize(
    ("function", "kind", "old", "new"),
    [
        ("shares.cut_at_word", source.AS_MADE, "63", "31"),
        ("shares.batch", source.AS_MADE, "icmp ult i64", "icmp slt i64"),
        ("words.pages_below", source.AS_MADE, "lshr i64", "ashr exact i64"),
        ("shares.in_reach", source.AS_MADE, "add i64", "add nuw i64"),
        ("words.either", source.OPTIMISED, "or i64", "or disjoint i64"),
        ("protocols.check_in.checked_out", source.OPTIMISED, "add i64", "add nsw i64"),
    ],
)
def test_a_miscompiled_function_is_refuted_with_values(
    edited: Callable[[str, str, str, str], Outcome], function: str, kind: str, old: str, new: str
) -> None:
    found = edited(function, kind, old, new)
    assert found.verdict is Verdict.REFUTED
    assert found.at == KINDS[kind]
    assert found.counterexample is not None
    assert found.counterexample.failure


@pytest.mark.parametrize(
    ("function", "kind"), [("cleared", source.AS_MADE), ("in_reach", source.OPTIMISED)]
)
def test_every_mutant_is_refused_or_equivalent_for_a_reason(function: str, kind: str) -> None:
    (name,) = (name for name, each in rows() if name.endswith(f".{function}") and each == kind)
    found = row_of(name, kind)
    assert found.unexplained == ()
    assert found.ends[REFUSED] >= 5


def test_every_mutant_of_all(long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    found = [row_of(name, kind) for name, kind in rows()]
    assert [row for row in found if not row.good] == []
    assert all(row.ends[REFUSED] >= 2 for row in found)


def test_a_mutant_that_is_accepted_for_no_reason_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofs.compiled.campaign.EQUIVALENT", ())
    (name,) = (
        name for name, kind in rows() if name.endswith(".is_open") and kind == source.AS_MADE
    )
    found = row_of(name, source.AS_MADE)
    assert not found.good
    assert "icmp ne" in found.unexplained[0]


def test_the_mutants_of_a_function_that_is_not_known_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "kernels.json").write_text(
        '{"functions": [], "numba": "0", "llvm": "0", "processor": "p", "machine": "m", "python": "3"}'
    )
    source.use(tmp_path)
    try:
        found = [row_of(name, kind) for name, kind in rows(loops=True)]
    finally:
        source.use(None)
    assert all("its IR is not known here" in row.unknown for row in found)
    assert not any(row.good for row in found)
