"""Compiled functions with one instruction broken, which the claims about them must refuse.

Every instruction is broken in each way that its kind has: another operation, operands the other way
round, a promise that is not kept, a constant one off, a result with a bit flipped, a branch to the wrong
side, a store left out. What is made is text, which is read as any other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from proofs.compiled import reader
from proofs.compiled.ir import Instruction, Integer, Number, Register, UnknownIR
from proofs.compiled.reader import FLAGS

RESULT_FLIPPED = "a bit of the result flipped"

_INSTEAD = {
    "add": ("sub",),
    "sub": ("add",),
    "mul": ("add",),
    "and": ("or",),
    "or": ("and", "xor"),
    "xor": ("and", "or"),
    "shl": ("lshr",),
    "lshr": ("ashr", "shl"),
    "ashr": ("lshr",),
    "udiv": ("urem", "sdiv"),
    "urem": ("udiv",),
    "zext": ("sext",),
}
_COMPARED = {
    "eq": ("ne", "ule"),
    "ne": ("eq", "ugt"),
    "ult": ("ule", "slt", "uge"),
    "ule": ("ult", "sle", "ugt"),
    "ugt": ("uge", "sgt", "ule"),
    "uge": ("ugt", "sge", "ult"),
    "sgt": ("sge", "ugt", "sle"),
    "sge": ("sgt", "uge", "slt"),
    "slt": ("sle", "ult", "sge"),
    "sle": ("slt", "ule", "sgt"),
}
_CALLED = {
    "llvm.umin.i64": "llvm.smin.i64",
    "llvm.umax.i64": "llvm.smax.i64",
    "llvm.smin.i64": "llvm.umin.i64",
    "llvm.smax.i64": "llvm.umax.i64",
    "llvm.usub.sat.i64": "llvm.uadd.sat.i64",
}


@dataclass(frozen=True)
class Mutant:
    """A function with one instruction changed: which of a block it was, what was done, all the text."""

    label: str
    index: int
    instruction: Instruction
    change: str
    text: str


def mutants(text: str) -> Iterator[Mutant]:
    """Every mutant of a function, from its first instruction to its last."""
    lines = text.splitlines()
    at = 0
    for label, block in reader.read(text).blocks.items():
        for index, instruction in enumerate(block):
            at += 1
            while lines[at].split(" ; ")[0].strip() != instruction.text:
                at += 1
            for change, new in _broken(instruction, f"  {instruction.text}"):
                changed = "\n".join([*lines[:at], *new, *lines[at + 1 :]])
                yield Mutant(label, index, instruction, change, changed)


def _broken(instruction: Instruction, line: str) -> Iterator[tuple[str, list[str]]]:
    op = instruction.op
    for other in _INSTEAD.get(op, ()):
        plain = _without_flags(line, op)
        yield f"{other} for {op}", [re.sub(rf"\b{op}\b", other, plain, count=1)]
    for other in _COMPARED.get(instruction.name, ()) if op == "icmp" else ():
        yield (
            f"{other} for {instruction.name}",
            [line.replace(f" {instruction.name} ", f" {other} ", 1)],
        )
    if op in FLAGS and op not in ("icmp", "getelementptr"):
        for flag in sorted(FLAGS[op] - instruction.flags):
            yield f"{flag} promised", [line.replace(f" {op} ", f" {op} {flag} ", 1)]
    if op in ("sub", "shl", "lshr", "ashr", "udiv", "urem", "select") and (new := _swapped(line)):
        yield "operands the other way round", [new]
    if op == "phi":
        yield "values the other way round", [_phi_turned(line)]
    if op == "br" and len(instruction.labels) == 2:
        one, other = (f"label %{label}" for label in instruction.labels)
        yield "to the other side", [_exchanged(line, one, other)]
    elif op == "br":
        yield "goes nowhere", ["  unreachable"]
    if op == "store":
        yield "left out", []
    if op == "call" and instruction.name in _CALLED:
        other = _CALLED[instruction.name]
        yield f"{other} called", [line.replace(f"@{instruction.name}(", f"@{other}(")]
    if op in ("extractvalue", "insertvalue"):
        yield "another member", [re.sub(r", (\d)$", lambda m: f", {abs(int(m[1]) - 1)}", line)]
    if op == "ret" and isinstance(instruction.operands[0].value, Register):
        yield "0 returned", ["  ret i32 0"]
    yield from _constants(instruction, line)
    if instruction.result and isinstance(instruction.type, Integer):
        name = re.escape(line.split(" = ")[0].strip())
        broken = re.sub(rf"^  {name} = ", "  %broken = ", line)
        flip = f"  {line.split(' = ')[0].strip()} = xor i{instruction.type.bits} %broken, 1"
        # Phis stand together at the beginning of a block; of the other two the type is not the result's.
        if op not in ("phi", "alloca", "getelementptr"):
            yield "its lowest bit flipped", [broken, flip]


def _without_flags(line: str, op: str) -> str:
    words = "|".join(sorted(FLAGS.get(op, set()))) or "-"
    return re.sub(rf"\b{op} (?:(?:{words}) )+", f"{op} ", line, count=1)


def _swapped(line: str) -> str | None:
    """The last two operands exchanged."""
    match = re.match(r"(.*\s)(\S+), ((?:i\d+ )?)(\S+)$", line)
    return f"{match[1]}{match[4]}, {match[3]}{match[2]}" if match else None


def _phi_turned(line: str) -> str:
    values = re.findall(r"\[ (\S+), ", line)
    turned = iter([*values[1:], values[0]])
    return re.sub(r"\[ (\S+), ", lambda _: f"[ {next(turned)}, ", line)


def _exchanged(line: str, one: str, other: str) -> str:
    head, _, rest = line.partition(one)
    return f"{head}{other}{rest.replace(other, one, 1)}"


def _constants(instruction: Instruction, line: str) -> Iterator[tuple[str, list[str]]]:
    """Each constant one more, and each but 0 and 1 with its bits moved down by one."""
    if instruction.op in ("call", "phi", "switch"):
        return
    constants = [
        (o.type, o.value.value) for o in instruction.operands if isinstance(o.value, Number)
    ]
    for kind, value in dict.fromkeys(constants):
        if kind == Integer(1):
            word, other = ("true", "false") if value else ("false", "true")
            yield f"{other} for {word}", [re.sub(rf"\b{word}\b", other, line, count=1)]
            continue
        for new in dict.fromkeys((value + 1, value // 2)):
            if new != value:
                constant = re.compile(rf"(?<![\w.%-]){value}(?=,|$)")
                yield f"{new} for {value}", [constant.sub(str(new), line, count=1)]


def flipped_result(text: str) -> str:
    """A function in which the lowest bit of what it stores last as its result is flipped."""
    function = reader.read(text)
    place = function.parameters[0]
    lines = text.splitlines()
    at = max(
        number
        for number, line in enumerate(lines)
        if re.match(rf" *store .*, ptr %{re.escape(place)}(\.\S+)?,", line)
    )
    kind, value, rest = _stored(lines[at])
    lines[at] = f"  store {kind} %flipped, {rest}"
    if kind.startswith("i"):
        lines.insert(at, f"  %flipped = xor {kind} {value}, 1")
    else:
        lines[at:at] = [
            f"  %first = extractvalue {kind} {value}, 0",
            "  %first.flipped = xor i64 %first, 1",
            f"  %flipped = insertvalue {kind} {value}, i64 %first.flipped, 0",
        ]
    return "\n".join(lines)


def _stored(line: str) -> tuple[str, str, str]:
    """The type, the value, and the rest of a store of a number, or of a row of numbers."""
    match = re.match(r" *store (i\d+|\[[^]]*\]) (\S+), (ptr .*)", line)
    if match is None:
        raise UnknownIR(f"a result that is no number, in the LLVM IR: {line}")
    return match[1], match[2], match[3]
