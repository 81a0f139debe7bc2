"""The loops of ``impl/kernels/flush.py`` in LLVM IR: proved, and refuted once one is changed."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from impl.kernels import control, job_table
from proofs.compiled import ranges, reader, source, strays, whole_ram
from proofs.compiled.campaign import BROKEN_LOOPS, REFUSED, row_of
from proofs.compiled.ir import UnknownIR
from proofs.compiled.loops import CHANGES, CLAIM_OF
from proofs.compiled.machine import Machine, State
from proofs.compiled.mutants import mutants
from proofs.compiled.order import CLAIMED
from proofs.compiled.values import Opaque
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Proof, stated
from proofs.prover.report import exit_code
from proofs.prover.verdict import Verdict, check
from tests.support.changed_kernels import ir_of_changed
from tests.support.needs import LONG_RUN, ROOT

Edit = Callable[[str, str], Path]
#: Arrays that a job table leads to.
ARRAYS = {
    "cache": "CACHE_BITMAP",
    "host": "HOST_BITMAP",
    "index": "INDEX",
    "stretches": "STRETCHES",
}


@pytest.fixture
def written(tmp_path: Path) -> Edit:
    """The IR of the kernels, compiled with a line of ``impl/kernels/flush.py`` changed."""

    def write(old: str, new: str) -> Path:
        only = "impl.kernels.flush.*", "impl.kernels.strategies.flush_part"
        return ir_of_changed(tmp_path, "flush.py", old, new, *only)

    return write


@pytest.mark.parametrize(
    ("old", "new", "claim"),
    [
        ("np.uint64(LINE_BYTES - 1)", "np.uint64(LINE_BYTES // 2 - 1)", "copy_pages"),
        ("_PAGES_PER_WORD = np.uint64(64)", "_PAGES_PER_WORD = np.uint64(32)", "copy_pages"),
        (
            "dirty = _without_next(dirty)",
            "dirty = _without_next(_without_next(dirty))",
            "copy_pages",
        ),
        ("_LINE = np.uint64(LINE_BYTES)", "_LINE = np.uint64(32)", "stream"),
        ("word + _STRIDE <= end", "word + _1 <= end", "next_dirty_word"),
        (
            "word_at(host_bitmap, word)) != _0",
            "word_at(cache_bitmap, word)) != _0",
            "next_dirty_word",
        ),
        (
            "_2, _8 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(8)",
            "_2, _8 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)",
            "flush_window",
        ),
        ("dirty = _either(cache, host) & mask", "dirty = _either(cache, host)", "flush_window"),
        ("host_dirty += population(host & mask)", "host_dirty += population(host)", "flush_window"),
        (
            "store(cache_word, _cleared(cache, mask))",
            "store(cache_word, cache & mask)",
            "flush_window",
        ),
        (
            "        store(cache_word, _cleared(cache, mask))\n"
            "        store(host_word, _cleared(host, mask))\n",
            "        store(host_word, _cleared(host, mask))\n"
            "        store(cache_word, _cleared(cache, mask))\n",
            "flush_window",
        ),
        (
            "        copy_pages(job, row, word, dirty, ahead)\n",
            "        store(cache_word, _cleared(cache, mask))\n"
            "        copy_pages(job, row, word, dirty, ahead)\n",
            "flush_window",
        ),
        ("_LAST_BIT = np.uint64(63)", "_LAST_BIT = np.uint64(62)", "flush_window"),
        ("load(row + j.USED_PAGES) <= bit", "load(row + j.USED_PAGES) < bit", "first_row"),
        ("row, first + start, first + limit)", "row, first, first + limit)", "flush_range"),
        (
            "        store(host_bitmap + word * _8, _0)\n    store(job + j.DIRTY_PAGES, _0)\n",
            "    store(job + j.DIRTY_PAGES, _0)\n",
            "clear_bitmaps",
        ),
        (
            "+ word_at(index, middle) < pages",
            "+ word_at(index, middle) <= pages",
            "first_word_with",
        ),
        (
            "store(index + word * _8, before)",
            "store(index + word * _8, before + _1)",
            "index_stretch",
        ),
        ("index_stretch(job, word, end))", "index_stretch(job, first, end))", "index_words"),
        ("        before += pages\n", "        before = pages\n", "add_up_stretches"),
        (
            "next_dirty_word(cache_bitmap, host_bitmap, _0, n_words)",
            "next_dirty_word(cache_bitmap, host_bitmap, _1, n_words)",
            "count_either",
        ),
        (
            "next_dirty_word(cache_bitmap, host_bitmap, last, n_words)",
            "next_dirty_word(cache_bitmap, host_bitmap, last + _1, n_words)",
            "count_either",
        ),
        ("        last = n_words\n    return", "        last = word\n    return", "count_either"),
        ("return total, first, last", "return total, last, first", "count_either"),
        (
            "    for word in range(first, last):\n        total",
            "    for word in range(first + _1, last):\n        total",
            "count_words",
        ),
        (
            "dirty &= _window_mask(word, first, last)",
            "dirty &= _window_mask(word, first, last + _1)",
            "first_dirty",
        ),
        (
            "word * _PAGES_PER_WORD + _next_page(dirty)",
            "word * _8 + _next_page(dirty)",
            "first_dirty",
        ),
        ("first_dirty(job, first, last)", "first_dirty(job, first, last + _1)", "first_stray"),
        ("gap += j.GAP_BYTES", "gap += j.GAP_BYTES + j.GAP_BYTES", "first_stray"),
        ("_LAST_BIT = np.uint64(63)", "_LAST_BIT = np.uint64(62)", "first_dirty"),
        (
            "to = load(row + j.CACHE) + start * page_bytes",
            "to = load(row + j.HOST) + start * page_bytes",
            "back_up_range",
        ),
        (
            "to = load(row + j.CACHE) + start * page_bytes",
            "to = load(row + j.CACHE) + (start + _1) * page_bytes",
            "back_up_range",
        ),
        (
            "(limit - start) * page_bytes",
            "(limit - start + _1) * page_bytes",
            "back_up_range",
        ),
        ("if (to & _IN_LINE) == _0:", "if (to & _1) == _0:", "back_up_range"),
        (
            "    page_bytes = load(job + j.PAGE_BYTES)\n    row, end",
            "    page_bytes = load(job + j.PAGE_BYTES)\n"
            "    store(load(job + j.CACHE_BITMAP), _0)\n    row, end",
            "back_up_range",
        ),
        (
            "        if _in_reach(first, used, lower, upper):\n"
            "            start, limit = _clip(first, used, lower, upper)\n"
            "            if start < limit:\n"
            "                to =",
            "        if True:\n"
            "            start, limit = _0, used\n"
            "            if start < limit:\n"
            "                to =",
            "back_up_range",
        ),
    ],
)
def test_a_change_in_a_kernel_is_refuted_with_values(
    old: str, new: str, claim: str, written: Edit, long_run: bool
) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)  # half a minute each: kernels are compiled
    run = proved(claim, written(old, new))
    shown = rf"^FAILED compiled\.flush\.{claim}: refuted at (['\"]).+\1: \w.* = \d"
    assert re.search(shown, run.stdout, re.MULTILINE), run.stdout
    assert run.returncode == 1


@pytest.mark.parametrize(
    ("old", "new", "claim", "says"),
    [
        (
            "(bit - first_bit) * page_bytes",
            "(bit - first_bit) * _LINE",
            "copy_pages",
            "no page's place",
        ),
        ("        source += _LINE\n", "", "stream", "no variable 'source.2'"),
        ("gap += j.GAP_BYTES", "gap += 16", "first_stray", "double"),
    ],
)
def test_a_kernel_of_another_form_is_unknown(
    old: str, new: str, claim: str, says: str, written: Edit, long_run: bool
) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    run = proved(claim, written(old, new))
    assert f"FAILED compiled.flush.{claim}: " in run.stdout, run.stdout
    assert says in run.stdout
    assert run.returncode == 2


def proved(claim: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Try to prove one of the slow claims of the IR in a folder."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "proofs",
            "--only",
            f"compiled.flush.{claim}",
            "--compiled",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_slow_claims_are_proved(written: Edit, long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    source.use(written("_LINE =", "_LINE ="))
    try:
        claims = catalogue(list(CLAIM_OF.values()), slow=True)
        assert len(claims) == len(CLAIM_OF)
        for claim in claims:
            for outcome in (check(claim), *(check(claim, control) for control in claim.controls)):
                assert outcome.good, outcome.complaint
                assert exit_code([outcome]) == 0
    finally:
        source.use(None)


def test_every_broken_instruction_of_a_loop_is_refused_or_equivalent_for_a_reason(
    written: Edit, long_run: bool
) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    source.use(written("_LINE =", "_LINE ="))
    try:
        found = [row_of(name, source.AS_MADE, whole=True) for name in BROKEN_LOOPS]
    finally:
        source.use(None)
    assert [row for row in found if not row.good] == []
    # Of a kernel of a few instructions there are not as many.
    assert all(row.ends[REFUSED] >= min(10, sum(row.ends.values()) / 2) for row in found)


def test_fields_lie_where_the_claims_say() -> None:
    """The claims know a job table by numbers: where its fields are, and its rows."""
    there = {name: int(value) for name, value in vars(job_table).items() if name.isupper()}
    assert {name: there[field] for name, field in ARRAYS.items()} == whole_ram.FIELDS
    claimed = {"WORDS": whole_ram.WORDS, "DIRTY_PAGES": whole_ram.DIRTY_PAGES}
    claimed |= {"REGIONS": ranges.REGIONS, "ROWS": ranges.ROWS, "REGION_BYTES": ranges.ROW_BYTES}
    claimed |= {"GAPS": strays._GAPS, "GAP_BYTES": strays._GAP_BYTES}
    assert claimed.items() <= there.items()
    assert int(control.JOB) == ranges._JOB


def test_slow_claims_are_left_out_unless_they_are_asked_for() -> None:
    assert catalogue(["compiled.flush.*", "compiled.strategies.*", "compiled.order.*"]) == []
    claims = [claim for claim in catalogue(["compiled.*"], slow=True) if claim.slow]
    orders = {f"compiled.order.{name}" for name in CLAIMED}
    assert {claim.name for claim in claims} == {*CLAIM_OF.values(), *orders}
    claims = [claim for claim in claims if claim.name not in orders]
    assert [len(claim.controls) for claim in claims] == [len(CHANGES[name]) for name in CLAIM_OF]
    assert all(claim.controls for claim in claims)


def test_an_invariant_that_nothing_meets_is_vacuous() -> None:
    def state(p: Proof) -> None:
        (word,) = p.words("word")
        p.possible("there are words", word < 1, word > 1)

    (some,) = catalogue(["shares.no_word_shared"])
    claim = type(some)("test.made", "A claim made for a test.", state, ())
    assert stated(claim).obligations
    assert check(claim).verdict is Verdict.VACUOUS


THREE_MEMBERS = """define i32 @f(ptr %retptr, ptr %excinfo, i64 %arg.word) {
entry:
  %a = insertvalue [3 x i64] undef, i64 %arg.word, 0
  %b = insertvalue [3 x i64] %a, i64 %arg.word, 1
  %c = insertvalue [3 x i64] %b, i64 %arg.word, 2
  %d = extractvalue [3 x i64] %c, 2
  store [3 x i64] %c, ptr %retptr, align 8
  ret i32 0
}"""


def test_another_member_is_one_that_there_is() -> None:
    found = [mutant for mutant in mutants(THREE_MEMBERS) if mutant.change == "another member"]
    members = [
        reader.read(mutant.text).blocks[mutant.label][mutant.index].numbers for mutant in found
    ]
    assert members == [(1,), (0,), (1,), (1,)]


THROUGH_A_POINTER = """define i32 @f(ptr %retptr, ptr %excinfo) {
entry:
  %a = alloca i64, align 8
  store i64 0, ptr %a, align 8
  %p = alloca ptr, align 8
  store ptr %a, ptr %p, align 8
  br label %loop

loop:
  %q = load ptr, ptr %p, align 8
  store i64 1, ptr %q, align 8
  br label %loop
}"""


class NothingKnown:
    """Of a loop of which nothing is said."""

    def arrive(self, machine: Machine, state: State, again: bool) -> None:
        pass

    def enter(self, machine: Machine, state: State) -> None:
        pass


def test_a_variable_that_changes_through_a_pointer_is_not_taken_for_unchanged() -> None:
    machine = Machine({"f": THROUGH_A_POINTER}, loops={("f", "loop"): NothingKnown()})
    with pytest.raises(UnknownIR, match="changes in a loop"):
        list(machine.run("f", [Opaque(), Opaque()], State()))
