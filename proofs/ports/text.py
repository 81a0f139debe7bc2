"""A module as clang writes it, brought into the form that ``compiled/reader.py`` reads.

Names of structures are replaced by what they stand for. What says nothing of a call by one thread (a
calling convention, ``volatile``) is dropped, and so are promises about values and aliases (``nonnull``,
``!tbaa``): a port that breaks such a promise is explored as if it had not given it. Everything else
reaches the reader, which refuses what it does not know.
"""

import re
from dataclasses import dataclass

from proofs.compiled.ir import Integer, Pointer, Type, UnknownIR
from proofs.compiled.reader import functions, type_and_rest

#: Words that say nothing of a call by one thread, or only promise something.
DROPPED = (
    "fastcc",
    "volatile",
    "noalias",
    "nonnull",
    "signext",
    "zeroext",
    "returned",
    "allocptr",
    "hidden",
)
#: Metadata that only promises something, or says where it came from.
METADATA = (
    *("tbaa", "tbaa.struct", "noalias", "alias.scope", "range", "nonnull", "noundef"),
    *("srcloc", "llvm.loop", "prof", "unpredictable"),
)

_STRUCTURE = re.compile(r"^(%[\w.]+) = type (\{.*\})$", re.MULTILINE)
_NOISE = re.compile(
    rf"\b(?:{'|'.join(DROPPED)})\b "
    r"|\bdereferenceable\(\d+\) "
    r"|\balign \d+ (?=[%@]|dereferenceable)"  # of an argument, not of an access
    rf"|, !(?:{'|'.join(map(re.escape, METADATA))}) !\d+"
    r"|(?<=\)) #\d+(?=$|,)",  # attributes of a callee
    re.MULTILINE,
)
_GLOBAL = re.compile(
    r"^@([\w.]+) = (?:(?:private|internal|dso_local|local_unnamed_addr|unnamed_addr) )*"
    r"(?:global|constant) (.*), align \d+$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Variable:
    """A global variable: its type, and the number that it holds at first."""

    type: Type
    value: int


@dataclass(frozen=True)
class Module:
    """The functions of a module, as text, and those of its variables that begin as a number or as 0."""

    texts: dict[str, str]
    variables: dict[str, Variable]


def module(text: str) -> Module:
    """What a file holds. Raises UnknownIR."""
    structures = dict(_STRUCTURE.findall(text))
    text = _STRUCTURE.sub("", text)
    named = re.compile("|".join(rf"{re.escape(name)}(?![\w.])" for name in structures) or r"(?!)")
    while named.search(text):  # one may hold another, but none itself
        text = named.sub(lambda match: structures[match[0]], text)
    text = _NOISE.sub("", text)
    return Module(functions(text), dict(_variables(text)))


def _variables(text: str) -> list[tuple[str, Variable]]:
    found = []
    for name, rest in _GLOBAL.findall(text):
        try:
            kind, value = type_and_rest(rest)
        except UnknownIR:
            continue  # whoever uses it will be refused
        if value in ("zeroinitializer", "null"):
            found.append((name, Variable(kind, 0)))
        elif isinstance(kind, Integer | Pointer) and re.fullmatch(r"-?\d+", value):
            found.append((name, Variable(kind, int(value))))
    return found
