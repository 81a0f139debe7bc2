"""impl/README.md's table of atomic accesses against the source and the compiled code."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numba
import pytest

from impl import bitmap
from impl.kernels import check_in, strategies
from impl.kernels import flush as flushing
from tests.impl.test_compiled import compile_afresh
from tests.support.needs import ROOT

IMPL = ROOT / "impl"
KERNELS = {
    name: value.py_func
    for module in (bitmap, flushing, check_in, strategies)
    for name, value in vars(module).items()
    if hasattr(value, "py_func") and value.py_func.__module__ == module.__name__
}
Access = tuple[str, str, str]


def exclusive(operation: str) -> str:
    """An access on Arm without LSE: load exclusive, operation, store exclusive; again if disturbed."""
    return rf"@llvm\.aarch64\.ldaxr\b.*\n.* = {operation} [^@]*@llvm\.aarch64\.stlxr\b"


#: How an access looks in LLVM IR once the module is lowered to a machine. x86 has no and/or that returns
#: the old value, but a loop, or, for one bit of it, ``lock bts``; Arm without LSE has only loops.
COMPARED = rf"cmpxchg .* seq_cst seq_cst|{exclusive('icmp eq')}"
COMPILED = {
    "atomic_load": r"load atomic i64, .* seq_cst",
    "atomic_store": r"store atomic i64 .* seq_cst",
    "atomic_add": rf"atomicrmw add .* seq_cst|{exclusive('add')}",
    "atomic_and": rf"atomicrmw and .* seq_cst|{exclusive('and')}|{COMPARED}",
    "atomic_or": rf"atomicrmw or .* seq_cst|{exclusive('or')}|{COMPARED}|@llvm\.x86\.atomic\.bts\.",
    "compare_and_swap": COMPARED,
    "fence_stores": r"call void @llvm\.x86\.sse\.sfence|fence seq_cst",
}
WEAKER = re.compile(
    r"\b(unordered|monotonic|acquire|release|acq_rel)\b|@llvm\.aarch64\.(ldxr|stxr)\b"
)
FENCE = re.compile(COMPILED["fence_stores"])
WORK = re.compile(r"call i32 @\w*strategies4work")
# Of a loop the store, whichever it is: behind the work the first is the check-out.
CHECK_OUT = re.compile(r"atomicrmw add ptr \S+ i64 -1 |@llvm\.aarch64\.stlxr\b")
REPORT = re.compile(COMPILED["atomic_store"])


def documented() -> list[Access]:
    """(kernel, access, word) of each row of the table."""
    row = re.compile(r"^\| `(\w+)` \| `(\w+)` \| ([\w, ]*?) *\| .+ \|$")
    lines = (IMPL / "README.md").read_text(encoding="utf-8").splitlines()
    return [match.groups() for match in map(row.match, lines) if match]  # type: ignore[misc]


def in_source() -> set[Access]:
    """(kernel, access, word) of each atomic access in impl/."""
    found = set[Access]()
    for path in IMPL.rglob("*.py"):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(function, ast.FunctionDef):
                for kernel, access, word in accesses(function):
                    # A second access of the same kind to the same word has a row of its own.
                    again = ", again" if word and (kernel, access, word) in found else ""
                    found.add((kernel, access, word + again))
    return found


def accesses(function: ast.FunctionDef) -> Iterator[Access]:
    names: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = (
                zip(target.elts, value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                else [(target, value)]
            )
            names |= {ast.unparse(name): word_of(place, {}) for name, place in pairs}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in COMPILED:
            word = word_of(node.args[0], names) if node.args else ""
            yield function.name, ast.unparse(node.func), word


def word_of(place: ast.expr, names: dict[str, str]) -> str:
    """The word of the control block that an address is made of: ``c.STATE`` in it, or a name's."""
    for node in ast.walk(place):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "c":
            return node.attr
    return names.get(ast.unparse(place), "")


@cache
def compiled(name: str) -> str:
    """The LLVM IR of a kernel's own function."""
    return own_function(compile_afresh(KERNELS[name])[1])


def own_function(code: str) -> str:
    """The first function defined in a module: the kernel itself, with what was inlined into it."""
    found = re.search(r"^define .*?^}", code, re.DOTALL | re.MULTILINE)
    assert found
    return found.group()


def test_the_table_lists_every_atomic_access_and_no_other() -> None:
    assert len(documented()) == len(set(documented()))
    assert set(documented()) == in_source()


@pytest.mark.parametrize("row", documented(), ids=" ".join)
def test_an_access_is_in_the_compiled_code(row: Access) -> None:
    kernel, access, _ = row
    assert re.search(COMPILED[access], compiled(kernel))


def test_no_atomic_access_is_weaker_than_sequentially_consistent() -> None:
    for kernel in {kernel for kernel, *_ in documented()}:
        assert not WEAKER.search(compiled(kernel))


def reaches(
    code: str, start: re.Pattern[str], goal: re.Pattern[str], barred: re.Pattern[str]
) -> bool:
    """Is there a path in a function from an instruction like ``start`` to one like ``goal`` that
    passes none like ``barred``?"""
    blocks: dict[str, list[str]] = {"entry": []}
    block = "entry"
    for line in code.splitlines()[1:]:
        label = re.match(r"([\w.$-]+):", line)
        if label:
            block = label.group(1)
            blocks[block] = []
        else:
            blocks[block].append(line)
    waiting = [
        (name, place + 1)
        for name, lines in blocks.items()
        for place, line in enumerate(lines)
        if start.search(line)
    ]
    assert waiting, f"no instruction like {start.pattern}"
    seen = set[str]()
    while waiting:
        name, place = waiting.pop()
        for line in blocks[name][place:]:
            if barred.search(line):
                break
            if goal.search(line):
                return True
            following = set(re.findall(r"label %([\w.$-]+)", line)) - seen
            seen |= following
            waiting += [(after, 0) for after in following]
    return False


NOTHING = re.compile(r"(?!)")


#: A kernel with the work in it, and how it reports that it is done.
REPORTS = [("helper", CHECK_OUT), ("run_round", REPORT)]


@pytest.mark.parametrize(("kernel", "goal"), REPORTS)
def test_the_fence_is_on_every_path_from_the_work_to_the_report(
    kernel: str, goal: re.Pattern[str]
) -> None:
    assert reaches(compiled(kernel), WORK, goal, barred=NOTHING)
    assert not reaches(compiled(kernel), WORK, goal, barred=FENCE)


def test_a_missing_fence_is_noticed() -> None:
    without = join_with("    fence_stores()\n", "")
    code = own_function(compile_afresh(without.helper.py_func)[1])
    assert reaches(code, WORK, CHECK_OUT, barred=FENCE)


def test_a_plain_store_is_noticed() -> None:
    without = join_with("atomic_store(completed, current)", "store(completed, current)")
    code = own_function(compile_afresh(without.complete.py_func)[1])
    assert not re.search(COMPILED["atomic_store"], code)


def join_with(old: str, new: str) -> ModuleType:
    """``impl.kernels.check_in`` with its source changed, compiled without the cache."""
    source = Path(str(check_in.__file__)).read_text(encoding="utf-8")
    assert source.count(old) == 1
    changed = ModuleType("changed_join")
    sys.modules[changed.__name__] = changed
    vars(changed)["uncached"] = numba.njit(nogil=True)
    source = source.replace(old, new)
    exec(re.sub("@(kernel|entry)\n", "@uncached\n", source), vars(changed))
    return changed
