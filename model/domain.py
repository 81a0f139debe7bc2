"""One definition, several domains: Python's integers, z3's terms, numba's machine words.

The arithmetic that decides who copies what is written once, in plain functions of ``model/``. Called
as they stand they compute with exact Python integers (give them no others: NumPy's wrap at their
width). A :class:`Domain` *lifts* a function: the same code object, over the constants and primitives of
another domain. As z3 terms it can be proved; as numba's uint64 it can run.

A function that is lifted keeps to a discipline, which :meth:`Domain.lift` checks: operators, calls of
other functions, :func:`select` instead of ``if``, and no number that is not a named constant of its
module, for a bare literal would stay a Python integer in every domain.
"""

import dis
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, TypeVar

from model.errors import ColoError

T = TypeVar("T")
Function = Callable[..., Any]
NONE_INSTEAD: Mapping[Function, Function] = MappingProxyType({})


class NotLiftableError(ColoError, TypeError):
    """A function that would mean something else in another domain."""


def select(condition: bool, then: T, otherwise: T) -> T:
    """``then`` if ``condition`` else ``otherwise``, both evaluated: an ``if`` that every domain has."""
    return then if condition else otherwise


class Domain:
    """A domain that functions of ``model/`` are lifted to.

    ``number`` makes a named constant a constant of the domain. ``primitives`` are the functions that the
    domain has natively, by the function of ``model/`` that each stands for. ``instead`` puts other
    functions in the place of some, wherever they are called: a fault or a mutant. Such a function may
    call the one that it replaces. ``finish`` is applied to each lifted function (numba's ``njit``, say).
    """

    def __init__(
        self,
        number: Callable[[int], Any],
        primitives: Mapping[Function, Any],
        *,
        instead: Mapping[Function, Function] = NONE_INSTEAD,
        finish: Callable[[Function], Any] = lambda function: function,
    ) -> None:
        self._number = number
        self._primitives = primitives
        self._instead = instead
        self._finish = finish
        self._lifted: dict[FunctionType, Any] = {}

    def lift(self, function: Function) -> Any:
        """The function in this domain. NotLiftableError if it does not keep to the discipline.

        What it calls is looked up in its module now: a definition that is broken on purpose by then
        (``model.faults``) is lifted as broken.
        """
        return self._lift_whole(self._instead.get(function, function))

    __call__ = lift

    @property
    def functions(self) -> set[FunctionType]:
        """The functions lifted so far, those called by others included."""
        return set(self._lifted)

    def _lift_whole(self, function: Function) -> Any:
        if function in self._primitives:
            return self._primitives[function]
        plain = _checked(function)
        if plain not in self._lifted:
            names = {
                name: self._constant(value, plain) for name, value in _globals_loaded(plain).items()
            }
            names["__name__"] = plain.__module__
            again = FunctionType(plain.__code__, names, plain.__name__)
            self._lifted[plain] = self._finish(again)
        return self._lifted[plain]

    def _constant(self, value: Any, user: FunctionType) -> Any:
        if isinstance(value, bool):
            raise NotLiftableError(f"{_name(user)} reads {value!r}, a constant that is no number")
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, FunctionType):
            replaces = self._instead.get(value) is user
            return self._lift_whole(value) if replaces else self.lift(value)
        return value


#: What has been looked through, for it is asked for at every call. A mutant has other code.
_CHECKED: dict[FunctionType, CodeType] = {}


def _checked(function: Function) -> FunctionType:
    """The function, which keeps to the discipline; NotLiftableError if it does not."""
    if not isinstance(function, FunctionType):
        raise NotLiftableError(f"{function} is not a plain function: only those can be lifted")
    code = function.__code__
    if _CHECKED.get(function) is code:
        return function
    numbers = [*_numbers(code.co_consts), *_small_numbers(function)]
    if numbers:
        raise NotLiftableError(
            f"{_name(function)} holds the bare number {numbers[0]}, which would stay a Python number in "
            "every domain: name it in its module"
        )
    if function.__defaults__ or function.__kwdefaults__:
        raise NotLiftableError(f"{_name(function)} has defaults, which are not lifted: pass them")
    if function.__closure__:
        free = ", ".join(code.co_freevars)
        raise NotLiftableError(f"{_name(function)} closes over {free}, not lifted: pass it")
    if any(isinstance(constant, type(code)) for constant in code.co_consts):
        raise NotLiftableError(
            f"{_name(function)} holds a function of its own: put it in its module"
        )
    _CHECKED[function] = code
    return function


def _numbers(constants: tuple[Any, ...]) -> Iterator[int | float]:
    for constant in constants:
        if isinstance(constant, tuple):
            yield from _numbers(constant)
        elif isinstance(constant, int | float) and not isinstance(constant, bool):
            yield constant


def _small_numbers(function: FunctionType) -> Iterator[int]:
    """From Python 3.14 on these stand in the instructions."""
    return (i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_SMALL_INT")


def _name(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _globals_loaded(function: FunctionType) -> dict[str, Any]:
    # By the instructions: an attribute may bear the name of a function of the module.
    names = [i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"]
    return {name: function.__globals__[name] for name in names if name in function.__globals__}
