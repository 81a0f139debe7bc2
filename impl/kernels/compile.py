"""How a kernel is compiled: without the GIL, cached, and read from the model's own definitions."""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import numba
import numpy as np
from rich.progress import Progress

from impl.display.terminal import console
from impl.kernels import intrinsics
from impl.kernels.kernel_cache import KernelCache
from impl.kernels.uninterrupted import uninterrupted
from model import words
from model.domain import Domain, select


def machine_code(function: Callable[..., Any], **options: Any) -> Any:
    """numba's dispatcher for a function that Python calls.

    Nobody calls one by address: the wrapper for it would take a tenth of the time of compilation. Nor
    are there expressions of arrays, for which numba would go through all code: another twentieth.
    """
    dispatcher = numba.njit(no_cfunc_wrapper=True, no_rewrites=True, **options)(function)
    # Also for one that is compiled when it is first called, or by another that calls it.
    dispatcher.compile = partial(_compile_whole, dispatcher.compile)
    return dispatcher


def inner_code(function: Callable[..., Any], **options: Any) -> Any:
    """The same for one that machine code calls: without the wrapper for Python, which takes a fifth.

    Where Python calls it all the same numba would end the process. So that gets one that has a wrapper,
    compiled when it is first asked for.
    """
    dispatcher = machine_code(function, no_cpython_wrapper=True, **options)
    for_python = cache(lambda: machine_code(function, **options))
    # Not entered where Python's calls are looked up; and what is not found there is asked for.
    dispatcher._insert = lambda *_, **__: None
    dispatcher._compile_for_args = lambda *_, **__: for_python()
    return dispatcher


#: What each domain has natively; a kernel that is one of them adds itself.
primitives: dict[Callable[..., Any], Any] = {
    select: numba.njit(select),
    words.trailing_zeros: intrinsics.trailing_zeros,
    words.population: intrinsics.population,
}

#: A function of model/ as numba machine code on uint64.
compiled = Domain(np.uint64, primitives, finish=inner_code)

#: Every kernel, in the order of definition: what a kernel calls stands before it.
kernels: list[Any] = []


def kernel(function: Callable[..., Any]) -> Any:
    """A kernel: arguments and result uint64; runs without the GIL; kept on disk once compiled."""
    return _kept(function, inner_code(function, nogil=True))


def entry(function: Callable[..., Any]) -> Any:
    """A kernel that Python calls."""
    return _kept(function, machine_code(function, nogil=True))


def _kept(function: Callable[..., Any], dispatcher: Any) -> Any:
    dispatcher._cache = KernelCache(function)
    kernels.append(dispatcher)
    return dispatcher


# Held while a kernel is compiled, and during a fork: a child of a process in which another thread is
# compiling would inherit numba's locks, and LLVM, in the midst of it.
_compiling = threading.RLock()
os.register_at_fork(
    before=_compiling.acquire,
    after_in_parent=_compiling.release,
    after_in_child=_compiling.release,
)


def _compile_whole(compile_it: Callable[[Any], Any], signature: Any) -> Any:
    with _compiling:
        return uninterrupted(lambda: compile_it(signature))


@cache
def compile_kernels() -> None:
    """Compile every kernel, or load it from the cache, before any thread starts.

    The first time takes a while, so it shows its progress on the terminal. Ctrl-C ends it between two
    kernels; the next call goes on from there.
    """
    terminal = console(stderr=True)
    progress = Progress(transient=True, console=terminal, disable=not terminal.is_terminal)
    task = progress.add_task("compiling kernels, once", total=len(kernels))
    with ExitStack() as shown:
        for done, dispatcher in enumerate(kernels, 1):
            arguments = (numba.uint64,) * dispatcher.py_func.__code__.co_argcount
            dispatcher.compile(arguments)
            if dispatcher.stats.cache_misses and not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(task, completed=done)
