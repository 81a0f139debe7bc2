"""The order of the kernels' accesses to shared memory: it is the model's, and refused once it is not."""

import re
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path

import pytest

from impl.kernels import control, strategies
from model.protocols import check_in
from model.protocols.accesses import Whose
from proofs.compiled import accesses, order, source
from proofs.compiled.accesses import Access, Sum, Walk
from proofs.compiled.campaign import ORDERS, REFUSED, row_of
from proofs.compiled.ir import UnknownIR
from proofs.compiled.order import Beside, OutOfOrder, protocol
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Proof
from proofs.prover.verdict import check
from tests.support.changed_kernels import ir_of_changed
from tests.support.needs import LONG_RUN, ROOT


def test_words_lie_where_the_kernels_have_them() -> None:
    names = {name: getattr(control, name) for name in accesses.WORD_AT.values()}
    assert {int(at): name for name, at in names.items()} == accesses.WORD_AT
    assert [int(getattr(control, name)) for name in accesses.LINE_WORDS] == list(range(0, 64, 8))
    places = (control.TOTALS, control.SLOTS, control.CURSOR, control.WORKERS)
    assert tuple(map(int, places)) == (
        accesses.TOTALS,
        accesses.SLOTS,
        accesses.CURSORS,
        accesses.WORKERS,
    )
    assert control.WORKER_BYTES == control.CURSOR_BYTES == accesses.LINE_BYTES


def test_kinds_of_rounds_have_the_kernels_numbers() -> None:
    for number, name in order.KINDS.items():
        assert int(getattr(strategies, name.upper())) == number


# What is heard of a kernel.


class Heard:
    """A listener that keeps what it hears, path by path."""

    def __init__(self) -> None:
        self.paths = set[tuple[str, ...]]()

    def heard(self, so_far: Hashable, access: Access) -> Hashable:
        assert isinstance(so_far, tuple)
        return (*so_far, f"{access.row} {access.order}".strip())

    def ended(self, so_far: Hashable) -> None:
        assert isinstance(so_far, tuple)
        self.paths.add(so_far)


def walked(body: str) -> set[tuple[str, ...]]:
    """The paths through a kernel with this body, which is given a control block."""
    text = f"define i32 @k(ptr %retptr, ptr %excinfo, i64 %arg.control) {{\n{body}\n}}"
    texts = {source.AS_MADE: {"k": text}, source.OPTIMISED: {}}
    kernels = source.Kernels({"impl.kernels.check_in.k": ("k",)}, texts, "", "3.11")
    heard = Heard()
    Walk(kernels, heard, Sum(0), {}, queue=False).run("k", [Sum(0, (("control", 1),))], ())
    return heard.paths


DOORBELL = """  %a = add i64 %arg.control, 64
  %p = inttoptr i64 %a to ptr
"""
ASKS = "  %seen = load atomic i64, ptr %p seq_cst, align 8\n  %none = icmp eq i64 %seen, 0\n"


def test_every_path_is_heard() -> None:
    asked = f"{DOORBELL}{ASKS}  br i1 %none, label %x, label %y\n"
    twice = """
x:
  br label %y

y:
  br i1 %none, label %z, label %w

z:
  store atomic i64 1, ptr %p release, align 8
  ret i32 0

w:
  %old = atomicrmw or ptr %p, i64 1 seq_cst, align 8
  ret i32 0"""
    load = "k atomic_load DOORBELL seq_cst"
    # What was decided once stays decided: no path loads 0 and takes it for something else.
    assert walked(asked + twice) == {
        (load, "k atomic_store DOORBELL release"),
        (load, "k atomic_or DOORBELL seq_cst"),
    }


def test_a_loaded_number_is_another_in_the_next_iteration() -> None:
    body = f"""entry:
  %last = alloca i64, align 8
  store i64 0, ptr %last, align 8
{DOORBELL}  br label %loop

loop:
  %before = load i64, ptr %last, align 8
  %now = load i64, ptr %p, align 8
  store i64 %now, ptr %last, align 8
  %same = icmp eq i64 %before, %now
  br i1 %same, label %done, label %more

more:
  %again = icmp eq i64 %now, 7
  br i1 %again, label %loop, label %done

done:
  br i1 %same, label %x, label %y

x:
  store i64 1, ptr %p, align 8
  ret i32 0

y:
  ret i32 0"""
    ends = {path[-1] for path in walked_at_most(body, 4)}
    assert ends == {"k store DOORBELL", "k load DOORBELL"}


def walked_at_most(body: str, length: int) -> set[tuple[str, ...]]:
    """The same of a kernel with loops: of a path no more than the last few are told apart."""
    unbound = Heard.heard

    def forgets(self: Heard, so_far: Hashable, access: Access) -> Hashable:
        found = unbound(self, so_far, access)
        assert isinstance(found, tuple)
        return found[-length:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Heard, "heard", forgets)
        return walked(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"{DOORBELL}  %x = call i64 @elsewhere(i64 %a)\n  ret i32 0", "call of 'elsewhere'"),
        (f"{DOORBELL}  %x = load i64, ptr %p, align 4\n  ret i32 0", "what is not known"),
        (f"{DOORBELL}  %x = load volatile i64, ptr %p, align 8\n  ret i32 0", "'volatile'"),
        (
            "  %a = and i64 %arg.control, 64\n  %p = inttoptr i64 %a to ptr\n"
            "  store i64 0, ptr %p, align 8\n  ret i32 0",
            "no word that is known",
        ),
        (
            "  %a = add i64 %arg.control, 72\n  %p = inttoptr i64 %a to ptr\n"
            "  store i64 0, ptr %p, align 8\n  ret i32 0",
            "no word that is known",
        ),
        (f"{DOORBELL}  %x = atomicrmw xchg ptr %p, i64 0 seq_cst, align 8\n  ret i32 0", "'xchg'"),
        (f"{DOORBELL}  %x = udiv i64 1, 0\n  ret i32 0", "division by 0"),
        (
            "  %x = call i64 (i64, ...) @syscall(i64 60, i64 0, i64 0)\n  ret i32 0",
            "call of the kernel is not known",
        ),
        ("  %v = alloca i64, align 8\n  %x = load i64, ptr %v, align 8\n  ret i32 0", "before"),
    ],
)
def test_what_has_no_meaning_here_is_unknown(body: str, says: str) -> None:
    with pytest.raises(UnknownIR, match=says):
        walked(body)


# Beside the model.


def test_the_model_is_followed_step_by_step_and_otherwise_refused() -> None:
    beside = Beside(protocol(Proof(), "helper", order.DYNAMIC))

    def access(row: str, how: str = "seq_cst") -> Access:
        kernel, name, word = row.split()
        return Access(kernel, name, word, word, Whose.THE, how)

    begun: Hashable = Beside.first
    rows = ("atomic_add ARRIVED", "atomic_load DOORBELL", "atomic_load STATE")
    for row in rows:
        begun = beside.heard(begun, access(f"helper {row}"))
    beside.ended(begun)  # it was told to quit
    beside.heard(begun, access("helper compare_and_swap STATE"))
    with pytest.raises(OutOfOrder, match="after read state comes take_batch"):
        beside.heard(begun, access("take_batch atomic_add CURSOR"))
    with pytest.raises(OutOfOrder, match="is acquire"):
        beside.heard(begun, access("helper compare_and_swap STATE", "acquire"))
    early = Access("helper", "load", "ROUND", "JOB", Whose.THE, "")
    with pytest.raises(OutOfOrder, match="plain load of ROUND"):
        beside.heard(beside.heard(begun, early), access("helper compare_and_swap STATE"))
    assert "never comes" in beside.never()


def test_a_step_that_fails_to_check_in_looks_at_the_state_again() -> None:
    made = protocol(Proof(), "helper", order.STATIC)
    assert {way.to for way in made.ways(check_in.CHECK_IN)} == {
        check_in.READ_STATE,
        check_in.COMPLETE,
        check_in.CHECK_OUT,
    }


# All of it, which takes compiling.

KERNELS = "impl.kernels.*"


def test_the_claims_are_proved_and_what_is_broken_refused(tmp_path: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    folder = ir_of_changed(tmp_path, "check_in.py", "_1 =", "_1 =", KERNELS)
    # The second solver reads what is stated of the IR in that folder, too.
    assert "agrees on 4 of 4" in claimed("copier", folder, "--second", "cvc5").stdout
    source.use(folder)
    try:
        claims = catalogue(["compiled.order.*"], slow=True)
        assert len(claims) == len(ORDERS)
        for claim in claims:
            for outcome in (check(claim), *(check(claim, control) for control in claim.controls)):
                assert outcome.good, outcome.complaint
        rows = [row_of(name, source.AS_MADE) for name in ORDERS]
    finally:
        source.use(None)
    assert all(row.good for row in rows)
    assert all(row.ends[REFUSED] >= 30 for row in rows)


@pytest.mark.parametrize(
    ("file", "old", "new", "claim", "at"),
    [
        (
            "check_in.py",
            "atomic_store(completed, current)",
            "store(completed, current)",
            "helper",
            order.ORDER,
        ),
        ("check_in.py", "    fence_stores()\n", "", "helper", order.ORDER),
        # As it was: who fails to check in has looked at DOORBELL again, too.
        (
            "check_in.py",
            "            checked_in = compare_and_swap(state_word, state, _checked_in(state)) == state\n",
            "            checked_in = compare_and_swap(state_word, state, _checked_in(state)) == state\n"
            "            if not checked_in:\n"
            "                seen = atomic_load(doorbell)\n",
            "helper",
            order.ORDER,
        ),
        ("check_in.py", "    store(control + c.CURSOR, _0)\n", "", "caller", order.LEFT_OUT),
        (
            "check_in.py",
            "    atomic_store(state_word, c.OPEN)\n",
            "    atomic_store(state_word, c.OPEN)\n    store(control + c.GRAIN, _1)\n",
            "caller",
            order.PLAIN,
        ),
        (
            "strategies.py",
            "        end = first_page_of_node(job, node + _1)\n"
            "        cursor = take_batch(control, node, grain)\n",
            "        cursor = take_batch(control, node, grain)\n"
            "        end = first_page_of_node(job, node + _1)\n",
            "helper",
            order.PLAIN,
        ),
        (
            "strategies.py",
            "        elif step == _FINISHED:\n",
            "        else:\n",
            "helper",
            order.LEFT_OUT,
        ),
        (
            "strategies.py",
            "atomic_store(control + c.SLOTS + (tail % _SLOTS) * _8, word)",
            "store(control + c.SLOTS + (tail % _SLOTS) * _8, word)",
            "searcher",
            order.ORDER,
        ),
        (
            "strategies.py",
            "        closed = atomic_load(control + c.CLOSED)\n"
            "        if copy_one(control, worker) == _0:\n",
            "        found = copy_one(control, worker)\n"
            "        closed = atomic_load(control + c.CLOSED)\n"
            "        if found == _0:\n",
            "copier",
            order.ORDER,
        ),
        (
            "strategies.py",
            "    return atomic_add(control + c.CURSOR + node * c.CURSOR_BYTES, grain)\n",
            "    cursor = load(control + c.CURSOR + node * c.CURSOR_BYTES)\n"
            "    store(control + c.CURSOR + node * c.CURSOR_BYTES, cursor + grain)\n"
            "    return cursor\n",
            "helper",
            order.ORDER,
        ),
    ],
)
def test_a_change_in_a_kernel_is_refused_by_name(
    file: str, old: str, new: str, claim: str, at: str, tmp_path: Path, long_run: bool
) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)  # kernels are compiled for each
    run = claimed(claim, ir_of_changed(tmp_path, file, old, new, KERNELS))
    shown = rf"^FAILED compiled\.order\.{claim}: refuted at '{re.escape(at)}': impl\.kernels\.\w+"
    assert re.search(shown, run.stdout, re.MULTILINE), run.stdout
    assert run.returncode == 1


def test_a_kernel_that_cannot_be_followed_is_unknown(tmp_path: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    old, new = "control + c.WORKERS + worker * c.WORKER_BYTES", "(control + c.WORKERS) | worker"
    run = claimed("helper", ir_of_changed(tmp_path, "strategies.py", old, new, KERNELS))
    assert "no word that is known here" in run.stdout, run.stdout
    assert run.returncode == 2


def claimed(claim: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Check one of the claims of the IR in a folder."""
    command = [sys.executable, "-m", "proofs", "--compiled", str(folder)]
    return subprocess.run(
        [*command, "--only", f"compiled.order.{claim}", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
