"""What a compiled function was found to do, against the same function run here on 64-bit words."""

import importlib
from collections.abc import Callable
from typing import Any

from model.domain import Domain, select
from model.scenarios.registry import FAILS, Lines, scenario
from model.shares import first_word_with
from model.words import trailing_zeros

WORDS = 2**64


class Word(int):
    """A 64-bit word: unsigned, arithmetic modulo 2^64, as the compiled code's."""

    def __new__(cls, value: int) -> "Word":
        return super().__new__(cls, value % WORDS)


def _modulo(name: str) -> Callable[..., Any]:
    exact = getattr(int, name)
    return lambda self, *other: Word(exact(int(self), *map(int, other)))


for _name in [
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "floordiv",
    "and",
    "rand",
    "or",
    "ror",
    "xor",
    "lshift",
    "rlshift",
    "rshift",
]:
    setattr(Word, f"__{_name}__", _modulo(f"__{_name}__"))
for _name in ["rrshift", "neg", "invert"]:
    setattr(Word, f"__{_name}__", _modulo(f"__{_name}__"))


def on_words(function: str, arguments: list[int], searches: list[list[int]]) -> list[int]:
    """``shares.chunk``, say, of ``model/`` on 64-bit words: its results, a truth as 1 or 0.

    ``searches`` says what the search of a table finds: pairs of a number of pages and a word.
    """
    module, _, name = function.rpartition(".")
    definition = getattr(importlib.import_module(f"model.{module}"), name)
    found = {search[0]: search[1] for search in searches}
    primitives: dict[Callable[..., Any], Any] = {
        select: select,
        trailing_zeros: lambda word: trailing_zeros(word) if word else Word(64),
        first_word_with: lambda _table, pages: found[pages],
    }
    results = Domain(Word, primitives).lift(definition)(*map(Word, arguments))
    return [int(result) for result in (results if isinstance(results, tuple) else (results,))]


@scenario()
def a_compiled_function(
    function: str,
    arguments: list[int],
    as_made: list[int],
    as_made_defined: bool,
    optimised: list[int] | None = None,
    optimised_defined: bool = True,
    searches: list[list[int]] | None = None,
) -> Lines:
    """A compiled function on some words: are its results the model's, and is all defined?"""
    shown = ", ".join(map(str, arguments))
    try:
        want = on_words(function, arguments, searches or [])
        yield f"{function}({shown}) is {_listed(want)} in the model"
    except ZeroDivisionError:
        want = []
        yield f"{function}({shown}) divides by 0 in the model"
    for kind, found, defined in (
        ("as numba makes it", as_made, as_made_defined),
        ("as LLVM optimises it", optimised, optimised_defined),
    ):
        if found is None:
            continue
        if not defined:
            yield f"{FAILS}{kind}, {function}({shown}) is undefined, or raises an exception"
            return
        if found != want:
            yield f"{FAILS}{kind}, {function}({shown}) is {_listed(found)}"
            return
        yield f"{kind} it is the same"


def _listed(results: list[int]) -> str:
    return ", ".join(map(str, results))
