"""The kernels as plain Python on a :class:`~tests.mutation.machine.Machine`: the same code, unjitted.

What the kernels call of the model is the model's own code, read once more (``model.reading``) with
numbers that wrap as the machine's do.
"""

from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.extending import _Intrinsic

from impl import pool  # noqa: F401  # every kernel is defined
from impl.kernels import intrinsics
from impl.kernels.compile import compiled, kernels
from impl.kernels.flush import first_word_with
from model import shares, words
from model.domain import Domain, select
from tests.mutation.machine import U64, Fault, Machine


def _end_of_short_stretch(word: int, words: int) -> U64:
    """Where a stretch ends. Behind the last word none begins: who asks would ask for ever."""
    if not word < words:
        raise Fault(f"no stretch begins with word {word} of {words}")
    return U64(min(int(word) + STRETCH, int(words)))


#: Words of a stretch of the index, so that a small RAM has many; two more, and helpers share the index.
STRETCH = 2
#: Words counted at once, likewise.
COUNTED_AT_ONCE = 3
_SHORT = {
    "_STRETCH": U64(STRETCH),
    "_LAST_OF_STRETCH": U64(STRETCH - 1),
    "_INDEXED_ALONE": U64(2 * STRETCH),
    "_stretch_of": lambda word: U64(word // STRETCH),
    "_end_of_stretch": _end_of_short_stretch,
    "_COUNTED_AT_ONCE": U64(COUNTED_AT_ONCE),
}


class Plain:
    """The kernels on one machine; ``plain.function(kernel)`` is a kernel's plain function."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._made: dict[Any, FunctionType] = {}
        self._of_model = {id(compiled(f)): f for f in compiled.functions}
        self._instructions = {
            id(value): name
            for name, value in vars(intrinsics).items()
            if isinstance(value, _Intrinsic)
        }
        self.read = Domain(
            U64,
            {
                select: select,
                words.trailing_zeros: machine.trailing_zeros,
                words.population: machine.population,
                shares.first_word_with: self.function(first_word_with),
            },
        )
        for kernel in kernels:
            names = self.function(kernel).__globals__
            names |= {name: value for name, value in _SHORT.items() if name in names}

    def function(self, kernel: Any) -> Any:
        """A kernel's code over this machine's memory."""
        if kernel not in self._made:
            source: FunctionType = kernel.py_func
            names: dict[str, Any] = {"__name__": source.__module__}
            plain = FunctionType(source.__code__, names, source.__name__)
            self._made[kernel] = plain
            for name in source.__globals__:
                value = source.__globals__[name]
                if not name.startswith("__"):
                    names[name] = self._value(value)
        return self._made[kernel]

    def _called(self, function: FunctionType) -> Any:
        """A kernel, as another kernel calls it."""

        def call(*arguments: Any) -> Any:
            self.machine.call()
            return function(*arguments)

        return call

    def _value(self, value: Any) -> Any:
        if isinstance(value, np.uint64):
            return U64(int(value))
        if id(value) in self._instructions:
            return getattr(self.machine, self._instructions[id(value)])
        if value in kernels if hasattr(value, "py_func") else False:
            return self._called(self.function(value))
        if id(value) in self._of_model:
            return _Later(lambda: self.read(self._of_model[id(value)]))
        if isinstance(value, ModuleType) and value.__name__.startswith("impl."):
            return _Module(self, value)
        return value


class _Later:
    """A function that is read when it is first called: the model may be broken by then."""

    def __init__(self, read: Any) -> None:
        self._read = read

    def __call__(self, *arguments: Any) -> Any:
        return self._read()(*arguments)


class _Module:
    """A module of ``impl`` whose kernels and numbers are this machine's."""

    def __init__(self, plain: Plain, module: ModuleType) -> None:
        self._plain, self._module = plain, module

    def __getattr__(self, name: str) -> Any:
        value = self._plain._value(getattr(self._module, name))
        setattr(self, name, value)
        return value
