"""How a kernel is compiled: without the GIL, cached, and read from the model's own definitions.

numba's cache looks only at the file that holds a kernel. Ours is stale as soon as any file it was
compiled from has changed, the model's included: the thing proved must be the thing run.
"""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import CacheImpl, InTreeCacheLocator, UserWideCacheLocator
from rich.console import Console
from rich.progress import Progress

import model
from impl import intrinsics
from model import reading, words
from model.reading import Reading

if sys.byteorder != "little":
    raise ImportError(
        "colo-flush needs a little-endian host: bit b of a page's bitmap word is counted from the low end"
    )

IMPL = Path(__file__).parent
MODEL = Path(model.__file__).parent


@numba.njit
def _select(condition: Any, then: Any, otherwise: Any) -> Any:
    return then if condition else otherwise


#: What each domain has natively; a kernel that is one of them adds itself.
primitives: dict[Callable[..., Any], Any] = {
    reading.select: _select,
    words.trailing_zeros: intrinsics.trailing_zeros,
    words.population: intrinsics.population,
}

#: A function of model/ as numba machine code on uint64.
compiled = Reading(number=np.uint64, primitives=primitives, finish=numba.njit)

#: Every kernel, in the order of definition: what a kernel calls stands before it.
kernels: list[Any] = []


def kernel(function: Callable[..., Any]) -> Any:
    """A kernel: arguments and result uint64; runs without the GIL; cached on disk."""
    dispatcher = numba.njit(nogil=True, cache=True)(function)
    kernels.append(dispatcher)
    return dispatcher


@cache
def compile_kernels() -> None:
    """Compile every kernel, or load it from the cache, before any thread starts.

    The first time takes a while, so it shows its progress on the terminal.
    """
    progress = Progress(transient=True, console=Console(stderr=True))
    task = progress.add_task("compiling kernels, once", total=len(kernels))
    shown = False
    for done, dispatcher in enumerate(kernels):
        arguments = (numba.uint64,) * dispatcher.py_func.__code__.co_argcount
        dispatcher.compile(arguments)
        if not shown and dispatcher.stats.cache_misses and sys.stderr.isatty():
            progress.start()
            shown = True
        progress.update(task, completed=done + 1)
    if shown:
        progress.stop()


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted([*IMPL.glob("*.py"), *MODEL.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _StampOfAllSources:
    """A cache locator for kernels of this package whose stamp covers every source they come from."""

    @classmethod
    def from_function(cls, function: Any, file: str) -> Any:
        """A locator if the function is ours and the folder can be written, else None."""
        if Path(file).parent != IMPL:
            return None
        return super().from_function(function, file)  # type: ignore[misc]

    def get_source_stamp(self) -> str:
        """What must be unchanged for a cached kernel to be used."""
        return _sources()


class _InTree(_StampOfAllSources, InTreeCacheLocator):
    pass


class _UserWide(_StampOfAllSources, UserWideCacheLocator):
    pass


CacheImpl._locator_classes[:0] = [_InTree, _UserWide]
