"""The machine instructions that atomic accesses become, on x86-64 and on Arm; and the weak order of
streaming stores, seen on this processor.

llvmlite emits both from the module that numba has made for this machine. So of Arm this shows how LLVM
lowers each access, not the very code that an Arm host would compile.
"""

import os
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import llvmlite.binding as llvm
import pytest

from impl.kernels import check_in, intrinsics
from impl.machine.host import MACHINE
from impl.ports.build import SERIAL, compiler_for
from tests.impl.test_compiled import compile_afresh
from tests.impl.test_memory_order import (
    COMPILED,
    FENCE,
    KERNELS,
    NOTHING,
    REPORTS,
    WEAKER,
    WORK,
    documented,
    join_with,
    own_function,
    reaches,
)
from tests.support.needs import needs_cc, skip_unless


class Target(NamedTuple):
    """A machine: how LLVM calls it, what each access looks like there, and what is too weak."""

    name: str
    triple: str
    features: str
    instructions: dict[str, str]
    streaming: str
    weaker: str


_LL_SC = r"\bldaxr\b[^\0]*?\bstlxr\b"
TARGETS = (
    Target(
        "x86-64",
        "x86_64-unknown-linux-gnu",
        "",
        {
            "atomic_load": r"\bmovq\b",  # any load will do
            "atomic_store": r"\bxchgq\b",
            "atomic_add": r"\block\s+(xadd|add|inc|dec|sub)q\b",
            "atomic_and": r"\block\s+(cmpxchg|and|btr)q\b",
            "atomic_or": r"\block\s+(cmpxchg|or|bts)q\b",
            "compare_and_swap": r"\block\s+cmpxchgq\b",
            "fence_stores": r"\bsfence\b",
        },
        r"\bv?movnt",
        r"(?!)",
    ),
    Target(
        "AArch64 with LSE",
        "aarch64-unknown-linux-gnu",
        "+lse",
        {
            "atomic_load": r"\bldar\b",
            "atomic_store": r"\bstlr\b",
            "atomic_add": r"\bldaddal\b",
            "atomic_and": r"\b(ldclral|casal)\b",
            "atomic_or": r"\b(ldsetal|casal)\b",
            "compare_and_swap": r"\bcasal\b",
            "fence_stores": r"\bdmb\s+ish\b",
        },
        r"\bstnp\b",
        r"\b(ldapr|(ldadd|cas|swp|ldclr|ldset)[al]?|ldxr|stxr)\b",
    ),
    Target(
        "AArch64 without",
        "aarch64-unknown-linux-gnu",
        "",
        {
            "atomic_load": r"\bldar\b",
            "atomic_store": r"\bstlr\b",
            "atomic_add": _LL_SC,
            "atomic_and": _LL_SC,
            "atomic_or": _LL_SC,
            "compare_and_swap": _LL_SC,
            "fence_stores": r"\bdmb\s+ish\b",
        },
        r"\bstnp\b",
        r"\b(ldapr|ldxr|stxr)\b",
    ),
)
# A module with x86's own fence in it can be made on x86 only.
on_x86 = skip_unless(MACHINE == "x86_64", "needs an x86-64 processor")
each_target = pytest.mark.parametrize(
    "target",
    [pytest.param(t, id=t.name, marks=on_x86 if t.name == "x86-64" else ()) for t in TARGETS],
)

#: Its OR of one bit is an instruction of x86 (``lock bts``) before the module is to be had.
NOT_ON_ARM = {"mark_received"}


@cache
def module(kernel: str, x86: bool, completes: str = "atomic_store(completed, current)") -> str:
    """The LLVM IR of a kernel and what it calls, with the fence that there is on x86 or elsewhere.

    ``completes`` is put where ``join.complete`` stores.
    """
    is_x86, intrinsics.IS_X86 = intrinsics.IS_X86, x86
    try:
        # What numba has compiled already has this machine's fence in it: all of join anew.
        in_join = KERNELS[kernel].__module__ == check_in.__name__
        anew = getattr(_join(x86, completes), kernel).py_func if in_join else KERNELS[kernel]
        return compile_afresh(anew)[1]
    finally:
        intrinsics.IS_X86 = is_x86


@cache
def _join(x86: bool, completes: str) -> ModuleType:
    """All of join, to be compiled where ``x86`` is what this machine is taken for."""
    return join_with("atomic_store(completed, current)", completes)


def assembly(kernel: str, target: Target) -> str:
    """A kernel's own instructions, without those of the functions it calls."""
    # Only join's kernels have a fence in them: all others are the same module for each machine.
    fenced = KERNELS[kernel].__module__ == check_in.__name__
    return emitted(module(kernel, fenced and target.name == "x86-64"), target)


def emitted(code: str, target: Target) -> str:
    """The instructions of a module's first function."""
    return lowered(code, target)[1]


def lowered(code: str, target: Target) -> tuple[str, str]:
    """A module's first function once it is lowered to the target: in LLVM IR, and its instructions."""
    # LLVM ends the process where it meets an instruction of another machine.
    assert target.name == "x86-64" or "@llvm.x86." not in code
    return _lowered(code, target.triple, target.features)


@cache
def _lowered(code: str, triple: str, features: str) -> tuple[str, str]:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    made = llvm.parse_assembly(code)
    made.triple = triple
    machine = llvm.Target.from_triple(triple).create_target_machine(features=features, opt=3)
    made.data_layout = str(machine.target_data)
    name = re.match(r'define [^@]*@"?([^"(]+)', own_function(code))
    assert name
    text: str = machine.emit_assembly(made)
    start = text.index(f"\n{name.group(1)}:")
    return own_function(str(made)), text[start : text.index(".Lfunc_end", start)]


@each_target
def test_every_atomic_access_is_its_instruction(target: Target) -> None:
    rows = Counter((kernel, access) for kernel, access, _ in documented())
    looked_at = 0
    for (kernel, access), number in rows.items():
        if target.name == "x86-64" or kernel not in NOT_ON_ARM:
            code = assembly(kernel, target)
            found = len(re.findall(target.instructions[access], code))
            assert found >= number, f"{kernel}: {access}, {found} times"
            assert not re.search(target.weaker, code)
            looked_at += number
    assert looked_at >= len(documented()) - len(NOT_ON_ARM)


@each_target
def test_copies_are_streamed_and_fenced_before_they_are_reported(target: Target) -> None:
    assert re.search(target.streaming, assembly("stream", target))
    code = assembly("complete", target)
    fence = re.search(target.instructions["fence_stores"], code)
    report = re.search(target.instructions["atomic_store"], code)
    assert fence and report and fence.end() <= report.start()


@each_target
def test_a_plain_store_is_noticed(target: Target) -> None:
    code = module("complete", target.name == "x86-64", "store(completed, current)")
    assert not re.search(target.instructions["atomic_store"], emitted(code, target))


# What tests/impl/test_memory_order.py looks at where the code was compiled, as it is on an Arm host.

on_arm = pytest.mark.parametrize("target", [pytest.param(t, id=t.name) for t in TARGETS[1:]])


def ir_on_arm(kernel: str, target: Target) -> str:
    """A kernel's own LLVM IR after the target's lowering, which is what numba shows."""
    return lowered(module(kernel, x86=False), target)[0]


@on_arm
def test_every_atomic_access_is_in_the_code_of_an_arm_host(target: Target) -> None:
    for kernel in {kernel for kernel, *_ in documented()} - NOT_ON_ARM:
        code = ir_on_arm(kernel, target)
        missing = [
            a for k, a, _ in documented() if k == kernel and not re.search(COMPILED[a], code)
        ]
        assert missing == [], kernel
        assert not WEAKER.search(code)


@on_arm
@pytest.mark.parametrize(("kernel", "goal"), REPORTS)
def test_the_fence_is_on_every_path_of_an_arm_host(
    kernel: str, goal: re.Pattern[str], target: Target
) -> None:
    code = ir_on_arm(kernel, target)
    assert reaches(code, WORK, goal, barred=NOTHING)
    assert not reaches(code, WORK, goal, barred=FENCE)
    assert reaches(FENCE.sub("; none", code), WORK, goal, barred=FENCE)


def test_a_plain_access_of_an_arm_host_is_noticed() -> None:
    """Every load and store of the loops weakened, or the operation taken out of one."""
    code = ir_on_arm("check_out", TARGETS[2])
    assert re.search(COMPILED["atomic_add"], code)
    assert WEAKER.search(code.replace(".ldaxr.", ".ldxr."))
    assert WEAKER.search(code.replace(".stlxr.", ".stxr."))
    assert not re.search(
        COMPILED["atomic_add"], re.sub(r" = add i64 (\S+), -1", r" = or i64 \1, 0", code)
    )


# Streaming stores on this processor.


@needs_cc
@on_x86
@skip_unless(len(os.sched_getaffinity(0)) > 1, "needs two processors")
def test_streaming_stores_are_weakly_ordered_and_each_cure_cures_it(tmp_path: Path) -> None:
    """A flag is seen whose data is not there, unless sfence, xchg or a locked add is in between."""
    program = tmp_path / "streaming_stores"
    source = Path(__file__).parent / "streaming_stores.c"
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
    subprocess.run([compiler_for(SERIAL), *flags, source, "-o", program], check=True)
    here = sorted(os.sched_getaffinity(0))
    ran = subprocess.run(
        [program, str(ROUNDS), str(here[0]), str(here[-1])],
        check=True,
        capture_output=True,
        text=True,
    )
    counts = {}
    for row in ran.stdout.splitlines():
        way, *numbers = row.rsplit(" ", 2)
        counts[way] = int(numbers[0]), int(numbers[1])
    assert set(counts) == {"nt;mov", "nt;sfence;mov", "nt;xchg", "nt;lock xadd"}
    (seen, missing) = counts.pop("nt;mov")
    assert all(seen > 1000 for seen, _ in counts.values())
    assert {way: missing for way, (_, missing) in counts.items()} == dict.fromkeys(counts, 0)
    if not missing:
        pytest.skip(f"needs a processor that shows it ({seen} flags seen, all with their data)")


#: Of 4096 flags each. The order was seen to be weak within the first hundred.
ROUNDS = 300
