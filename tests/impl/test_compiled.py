"""What the compiler made of the kernels: uint64 throughout, no floating point."""

import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import types

import impl  # noqa: F401  (defines the kernels)
from impl.kernels import compile
from impl.kernels.compile import compile_kernels, compiled, kernels
from tests.support.children import in_a_child
from tests.support.needs import ROOT

UINT64 = types.uint64
FLOATING = re.compile(r"\b(half|float|double|fadd|fmul|fdiv|fsub|sitofp|uitofp)\b")


def whole_number(kind: types.Type) -> bool:
    """uint64, a truth, or made of nothing else; functions and None carry no number."""
    if isinstance(kind, types.BaseTuple):
        return all(whole_number(item) for item in kind)
    if isinstance(kind, types.Number):
        return bool(kind == UINT64)
    if isinstance(kind, types.RangeType | types.RangeIteratorType):
        return bool((kind.dtype if hasattr(kind, "dtype") else kind.yield_type) == UINT64)
    return True


def compile_afresh(function: object) -> tuple[dict[str, types.Type], str]:
    """The type of every variable, and the LLVM IR, of a kernel compiled without the cache."""
    dispatcher = numba.njit(nogil=True)(function)
    dispatcher.compile((UINT64,) * function.__code__.co_argcount)  # type: ignore[attr-defined]
    (made,) = dispatcher.overloads.values()
    return made.type_annotation.typemap, made.library.get_llvm_str()


@pytest.mark.parametrize("kernel", kernels, ids=lambda k: k.py_func.__qualname__)
def test_a_kernel_is_uint64_throughout_without_floating_point(kernel: object) -> None:
    variables, code = compile_afresh(kernel.py_func)  # type: ignore[attr-defined]
    assert {name: str(kind) for name, kind in variables.items() if not whole_number(kind)} == {}
    assert not FLOATING.search(code)


def test_the_check_can_fail() -> None:
    """Bare literals, the trap: uint64 and int64 meet in float64."""
    variables, code = compile_afresh(lambda x: (x - 1) / 2)
    assert not all(whole_number(kind) for kind in variables.values())
    assert FLOATING.search(code)


def called_by_python() -> set[str]:
    """The functions with a wrapper through which Python calls them, by what was compiled of them."""
    compile_kernels()
    functions = (*kernels, *map(compiled, compiled.functions))
    return {
        dispatcher.py_func.__name__
        for dispatcher in functions
        for made in dispatcher.overloads.values()
        if made.fndesc.llvm_cpython_wrapper_name in str(made.library._get_module_for_linking())
    }


def test_only_what_python_calls_has_a_wrapper_for_it() -> None:
    """A fifth of the first start would be theirs."""
    outermost = "flush_once back_up_once helper dismiss"
    between = "mark_received clear_range replace_bitmaps count_dirty set_runs"
    of_other_files = {"_write", "_first_wrong", "_compare"}
    assert called_by_python() - of_other_files == {*outermost.split(), *between.split()}


def inner(number: np.uint64) -> np.uint64:
    return number + np.uint64(1)


@pytest.mark.parametrize("called", ["before it is compiled", "after"])
def test_what_has_none_python_may_call_all_the_same(
    called: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a child: numba would end the process."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile, "kernels", [])

    def child() -> None:
        a_kernel, of_the_model = compile.kernel(inner), compile.inner_code(inner)
        for function in (a_kernel, of_the_model):
            if called == "after":
                function.compile((UINT64,))
            assert [int(function(np.uint64(n))) for n in (1, 2)] == [2, 3]

    assert in_a_child(child) == 0


def test_a_name_that_no_kernel_has_is_told(tmp_path: Path) -> None:
    """In a process of its own: here kernels have been compiled already."""
    command = [sys.executable, "-m", "impl", "kernels", "--ir", str(tmp_path), "--only", "flsh.*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no function is called 'flsh.*': they have names as impl." in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []
