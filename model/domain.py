"""One definition, three domains.

The arithmetic that decides who copies what is written once, in plain functions of ``model/``. Called
as they stand they compute with exact Python integers (give them no others: NumPy's wrap at their
width). A :class:`Domain` makes the *same code* compute in another domain: z3 terms, so that it can be
proved; numba's uint64, so that it can run.

What makes this possible is a small discipline in the functions read: operators, calls of other
functions, :func:`select` instead of ``if``, and named constants instead of bare literals.
"""

from collections.abc import Callable, Mapping
from dis import get_instructions
from types import FunctionType
from typing import Any


def select(condition: Any, then: Any, otherwise: Any) -> Any:
    """``then`` if ``condition`` else ``otherwise``, both evaluated: an ``if`` that every domain has."""
    return then if condition else otherwise


class Domain:
    """Reads functions of ``model/`` in another domain.

    ``number`` turns a named constant into the domain; ``primitives`` says what stands for the functions
    that each domain has natively; ``finish`` is applied to each function
    read (numba's ``njit``, say). Functions are looked up in their module at the time of reading, so a
    definition that has been broken on purpose (``model.faults``) is read as broken.
    """

    def __init__(
        self,
        number: Callable[[int], Any],
        primitives: Mapping[Callable[..., Any], Any],
        finish: Callable[[Callable[..., Any]], Any] = lambda function: function,
    ) -> None:
        self._number = number
        self._primitives = primitives
        self._finish = finish
        self._read: dict[FunctionType, Any] = {}

    def __call__(self, function: Callable[..., Any]) -> Any:
        """The same function, in this reading's domain."""
        if function in self._primitives:
            return self._primitives[function]
        if not isinstance(function, FunctionType):
            raise TypeError(f"{function} is not a plain function")
        if function not in self._read:
            names = {name: self._value(value) for name, value in _globals_used(function).items()}
            names["__name__"] = function.__module__
            again = FunctionType(function.__code__, names, function.__name__)
            self._read[function] = self._finish(again)
        return self._read[function]

    @property
    def functions(self) -> set[FunctionType]:
        """The functions read so far, those called by others included."""
        return set(self._read)

    def _value(self, value: Any) -> Any:
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, FunctionType):
            return self(value)
        return value


def _globals_used(function: FunctionType) -> dict[str, Any]:
    # Those that are loaded as such: an attribute may bear the name of a function of the module.
    names = [i.argval for i in get_instructions(function) if i.opname == "LOAD_GLOBAL"]
    return {name: function.__globals__[name] for name in names if name in function.__globals__}
