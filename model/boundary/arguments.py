"""Arguments from outside, made plain once: a number a Python int, a name a Python str.

NumPy's integers are whole numbers too, but wrap at their width: ``np.uint16(17) * 4096`` is 4096.
Whoever takes a number from outside takes it through :func:`whole_number` and never looks at the
original again.
"""

import operator
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Nothing here is counted or addressed by more; what is longer is not even printed.
LONGEST_NUMBER_BITS = 128
#: As long as a block's name may be in QEMU (``char idstr[256]``), in characters.
LONGEST_NAME = 255


def whole_number(value: Any, what: str, error: type[Exception]) -> int:
    """``value`` as a Python int; ``error``, which names ``what``, if it is no whole number.

    A truth value is none: where page numbers are asked for, an array of them is a mistaken mask.
    """
    try:
        # Of a subclass of int, which may do sums in its own way, the int itself.
        number = None if is_truth_value(value) else int.__index__(operator.index(value))
    except (TypeError, ValueError, ArithmeticError):
        number = None
    if number is None:
        raise error(f"{what} is {shown(value)}: give a whole number")
    if number.bit_length() > LONGEST_NUMBER_BITS:
        raise error(f"{what} is a number of {number.bit_length()} bits: nothing here is that large")
    return number


def is_truth_value(value: Any) -> bool:
    """Is it Python's True or False, or NumPy's, which is an index for some versions of NumPy?"""
    return type(value).__name__ in ("bool", "bool_")


def flag(value: Any, what: str, error: type[Exception]) -> bool:
    """``value`` as True or False; ``error``, which names ``what``, if it is neither."""
    if not is_truth_value(value):
        raise error(f"{what} is {shown(value)}: give True or False")
    return bool(value)


def listed(value: Any, what: str, error: type[Exception]) -> list[Any]:
    """What an iterable holds, read once; ``error``, which names ``what``, if it is none, or text."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | bytearray | memoryview):
        raise error(f"{what} is {shown(value)}: give a list")
    try:
        return list(value)
    except (TypeError, ValueError) as reason:
        raise error(f"{what} is {shown(value)}, which cannot be read ({reason})") from reason


def file_path(value: Any, what: str, error: type[Exception]) -> Path:
    """``value`` as the path of a file; ``error``, which names ``what``, if no file is called so."""
    if not isinstance(value, str | os.PathLike):
        raise error(f"{what} is {shown(value)}: give the path of a file")
    try:
        path = Path(value)
        os.fsencode(path)
    except (TypeError, ValueError) as reason:
        raise error(f"{what} cannot be a file's: {reason}") from reason
    return path


def block_name(value: Any, what: str, error: type[Exception]) -> str:
    """``value`` as a str; ``error``, which names ``what``, if it cannot be a block's name.

    A name is printable, so that it reaches no terminal as escape codes and every file as it is.
    """
    if not isinstance(value, str):
        raise error(f"{what} is text, not {shown(value)}")
    name = str.__str__(value)
    if not name:
        raise error(f"{what} is empty: give every block its own")
    if len(name) > LONGEST_NAME:
        raise error(f"{what} has {len(name)} characters: use at most {LONGEST_NAME}")
    if not name.isprintable():
        raise error(f"{what} is {name!a}: use printable characters only")
    return name


def shown(value: Any) -> str:
    """``value`` as an error shows it: short, printable, no address in it, none of its own code run."""
    if isinstance(value, str):
        value = str.__str__(value)
    if type(value) not in (str, int, float, complex, bool, type(None)):
        return f"of type {type(value).__name__}"
    try:
        text = reprlib.repr(value)
    except ValueError:  # an int of more digits than Python is willing to print
        return "a very long number"
    return text if text.isprintable() else ascii(text)[1:-1]
