"""The numbers that a command line may hold, and a parser that says what is wrong with one.

Every command takes its numbers through these, so that one spelling means the same everywhere and
nothing else passes: Python's ``int`` and ``float`` would also take ``1_000``, Arabic digits, ``nan``,
``inf`` and ``1e400``. Each function is an argparse ``type``.
"""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from model.boundary.output import printable

#: More of anything than a command could ever count, or seconds that it could ever wait (11 days).
MOST = 10**12
LONGEST_WAIT = 10**6

_UNITS = {"M": 1 << 20, "G": 1 << 30}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints hold no escape codes, whatever it was given."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2."""
        super().error(printable(message))


def refuse_unread(
    parser: argparse.ArgumentParser, given: argparse.Namespace, unread: Sequence[str], why: str
) -> None:
    """End with an error if one of these options is given: nobody would heed it, or say so."""
    for option in unread:
        name = option.replace("-", "_")
        if getattr(given, name) != parser.get_default(name):
            parser.error(f"argument --{option}: {why}")


def count(text: str) -> int:
    """A number of things: 1 or more."""
    number = seed(text)
    if not number:
        raise _wrong(text, "a number: write 1 or more")
    return number


def seed(text: str) -> int:
    """The seed of a random generator: 0 or more."""
    if re.fullmatch("[0-9]{1,12}", text) is None:
        raise _wrong(text, f"a number: write 1, 2 ... {MOST - 1}")
    return int(text)


def size(text: str) -> int:
    """A number of bytes: 512M, 2G (binary units)."""
    found = re.fullmatch("([0-9]{1,9})([MGmg])", text)
    if found is None or not int(found[1]):
        raise _wrong(text, "a size: write 512M or 2G")
    return int(found[1]) * _UNITS[found[2].upper()]


def factor(text: str) -> float:
    """A decimal number above 0: 0.2, 3."""
    if re.fullmatch(_NUMBER, text) is None or not float(text):
        raise _wrong(text, "a number above 0: write 0.2 or 3")
    return float(text)


def seconds(text: str) -> float:
    """A length of time in seconds, or none: 0.25, 8, 0."""
    if re.fullmatch(_NUMBER, text) is None or float(text) > LONGEST_WAIT:
        raise _wrong(text, f"a number of seconds: write 0.25 or 8, at most {LONGEST_WAIT}")
    return float(text)


def duration(text: str) -> float:
    """A length of time with its unit: 500ms, 2s. The result is seconds."""
    found = re.fullmatch(f"({_NUMBER})(ms|s)", text)
    time = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0
    if not 0 < time <= LONGEST_WAIT:
        raise _wrong(text, "a time: write 500ms or 2s")
    return time


def _wrong(text: str, what: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{printable(repr(text), 60)} is not {what}")
