"""LLVM IR as text, read into instructions: what this reader does not know it refuses to read.

A text comes from another version of a compiler sooner or later. So there is no default: an instruction,
a flag, an attribute or a word of metadata is either listed here, and has its meaning in ``machine.py``,
or raises :class:`UnknownIR`, which names it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from proofs.compiled.ir import (
    Function,
    Global,
    Instruction,
    Integer,
    Many,
    Number,
    Operand,
    Pointer,
    Register,
    Structure,
    Type,
    Undefined,
    UnknownIR,
    Value,
    Void,
    Zero,
    parts_of,
)

#: What may be promised of an operation; each makes the result poison where it is not kept.
FLAGS = {
    **{op: {"nuw", "nsw"} for op in ("add", "sub", "mul", "shl")},
    **{op: {"exact"} for op in ("udiv", "sdiv", "lshr", "ashr")},
    **{op: set[str]() for op in ("urem", "srem", "and", "xor", "sext")},
    **{op: set[str]() for op in ("inttoptr", "ptrtoint", "bitcast")},
    "or": {"disjoint"},
    "icmp": {"samesign"},
    "zext": {"nneg"},
    "trunc": {"nuw", "nsw"},
    "getelementptr": {"inbounds", "nuw", "nusw"},
}
BITWISE = {"and", "or", "xor", "shl", "lshr", "ashr"}
BINARY = {"add", "sub", "mul", "udiv", "sdiv", "urem", "srem", *BITWISE}
CASTS = {"zext", "sext", "trunc", "inttoptr", "ptrtoint", "bitcast"}
PREDICATES = {"eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge"}
ORDERINGS = {"monotonic", "acquire", "release", "acq_rel", "seq_cst"}
#: Metadata that says nothing about what an instruction does.
HINTS = {"prof", "nontemporal", "numba_exception_output", "llvm.loop"}
#: Of a parameter or an argument: who may read, write or keep what a pointer leads to. numba's callers
#: give each function a place of its own for its result and its exception.
MEMORY_ATTRIBUTES = {
    "noalias",
    "nocapture",
    "captures",
    "readonly",
    "writeonly",
    "readnone",
    "initializes",
}
LINKAGE = {"linkonce_odr", "internal", "private", "dso_local"}
UNNAMED = {"local_unnamed_addr", "unnamed_addr"}

_TOKEN = re.compile(
    r'\s*(?:(%"[^"]*"|%[-\w.$]+|@"[^"]*"|@[-\w.$]+|!"?[\w.]*"?|#\d+|-?\d+|[A-Za-z_][\w.]*|\.\.\.|[<>\[\]{}(),=*])'
    r"|(.))"
)
_LABEL = re.compile(r'^("[^"]*"|[-\w.$]+):')
_DEFINED = re.compile(r'^define\b[^@]*@("?)([^"(\s]+)\1\(')


def functions(text: str) -> dict[str, str]:
    """The text of each function that a module defines, by symbol."""
    found, symbol, lines = {}, None, list[str]()
    for line in text.splitlines():
        if match := _DEFINED.match(line):
            symbol, lines = match[2], []
        if symbol is not None:
            lines.append(line)
            if line == "}":
                found[symbol], symbol = "\n".join(lines), None
    return found


def read(text: str) -> Function:
    """One function. Raises UnknownIR."""
    first, *lines = text.splitlines()
    head = _Line(first)
    head.expect("define")
    while head.peek() in LINKAGE:
        head.next()
    limits = head.return_attributes()
    head.type()
    symbol = head.name("@")
    parameters = []
    head.expect("(")
    while not head.take(")"):
        head.type()
        head.attributes()
        parameters.append(head.name("%"))
        head.take(",")
    while head.peek() != "{":
        word = head.next()
        if word not in UNNAMED and word[0] != "#":
            raise head.unknown(word)
    return Function(symbol, tuple(parameters), _blocks(lines, len(parameters)), limits)


def _blocks(lines: list[str], unnamed: int) -> dict[str, tuple[Instruction, ...]]:
    blocks: dict[str, list[Instruction]] = {}
    label: str | None = None
    for line in _joined(lines):
        if match := _LABEL.match(line):
            label = match[1].strip('"')
            blocks[label] = []
        else:
            if label is None:  # the entry block may be without one: it takes the next free number
                label = str(unnamed)
                blocks[label] = []
            blocks[label].append(instruction(line))
    return {label: tuple(body) for label, body in blocks.items()}


def _joined(lines: list[str]) -> Iterator[str]:
    """Lines without comments, each switch in one."""
    open_line = ""
    for line in lines:
        line = line.split(" ; ")[0].strip()
        if open_line:
            open_line += " " + line
            if line.startswith("]"):
                yield open_line
                open_line = ""
        elif line.startswith("switch ") and not line.endswith("]"):
            open_line = line
        elif line and line != "}":
            yield line


def unquoted(token: str) -> str:
    """A name without its sigil and quotes."""
    return token[1:].strip('"')


def instruction(text: str) -> Instruction:
    """One instruction. Raises UnknownIR."""
    line = _Line(text)
    result = None
    if line.tokens[1:2] == ["="]:
        result = unquoted(line.next())
        line.next()
    tail = line.take("tail", "notail")
    op = line.next()
    if tail and op != "call":
        raise line.unknown(tail)
    reader = _READERS.get(op)
    if reader is None:
        raise line.unknown(op)
    made = reader(line, op)
    line.hints()
    if line.peek() is not None:
        raise line.unknown(str(line.peek()))
    return replace(made, result=result)


class _Line:
    """The tokens of a line, taken from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.tokens: list[str] = []
        for token, strange in _TOKEN.findall(text):
            if strange:
                raise self.unknown(strange)
            self.tokens.append(token)

    def unknown(self, what: str) -> UnknownIR:
        return UnknownIR(f"{what!r} is not known here, in the LLVM IR: {self.text.strip()}")

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self) -> str:
        token = self.peek()
        if token is None:
            raise self.unknown("the end")
        self.at += 1
        return token

    def take(self, *words: str) -> str | None:
        return self.next() if self.peek() in words else None

    def expect(self, *words: str) -> str:
        token = self.next()
        if token not in words:
            raise self.unknown(token)
        return token

    def name(self, sigil: str) -> str:
        token = self.next()
        if token[0] != sigil:
            raise self.unknown(token)
        return unquoted(token)

    def number(self) -> int:
        token = self.next()
        if not re.fullmatch(r"-?\d+", token):
            raise self.unknown(token)
        return int(token)

    def flags(self, op: str) -> frozenset[str]:
        got = set()
        while self.peek() in FLAGS[op]:
            got.add(self.next())
        return frozenset(got)

    def type(self) -> Type:
        token = self.next()
        if token in ("<", "["):
            count = self.number()
            self.expect("x")
            of = self.type()
            self.expect(">" if token == "<" else "]")
            return Many(count, of)
        if token == "{":
            parts = []
            while not self.take("}"):
                parts.append(self.type())
                self.take(",")
            return Structure(tuple(parts))
        if re.fullmatch(r"i\d+", token):
            return Integer(int(token[1:]))
        if token == "ptr":
            return Pointer()
        if token == "void":
            return Void()
        raise self.unknown(token)

    def value(self) -> Value:
        token = self.next()
        if token[0] == "%":
            return Register(unquoted(token))
        if token[0] == "@":
            return Global(unquoted(token))
        if token in ("undef", "poison"):
            return Undefined()
        if token in ("null", "zeroinitializer"):
            return Zero()
        if token in ("true", "false"):
            return Number(int(token == "true"))
        if re.fullmatch(r"-?\d+", token):
            return Number(int(token))
        raise self.unknown(token)

    def operand(self) -> Operand:
        kind = self.type()
        defined = self.attributes()
        return Operand(kind, self.value(), defined)

    def operands(self) -> tuple[Operand, ...]:
        """Two values of one type, which stands before the first."""
        kind = self.type()
        one = self.value()
        self.expect(",")
        return Operand(kind, one), Operand(kind, self.value())

    def attributes(self) -> bool:
        """Attributes of a parameter or an argument; is it said to be defined?"""
        defined = False
        while self.peek() in MEMORY_ATTRIBUTES or self.peek() == "noundef":
            defined |= self.next() == "noundef"
            self._skip_brackets()
        return defined

    def return_attributes(self) -> tuple[int, int] | None:
        """Between ``define`` or ``call`` and the type; what range the result is said to lie in."""
        limits = None
        while self.peek() in ("noundef", "range"):
            if self.next() == "range":
                self.expect("(")
                self.type()
                low = self.number()
                self.expect(",")
                limits = (low, self.number())
                self.expect(")")
        return limits

    def _skip_brackets(self) -> None:
        depth = 0
        while depth or self.peek() == "(":
            token = self.next()
            depth += (token == "(") - (token == ")")

    def label(self) -> str:
        self.expect("label")
        return self.name("%")

    def alignment(self) -> int:
        self.expect(",")
        self.expect("align")
        return self.number()

    def hints(self) -> None:
        while self.peek() == ",":
            self.next()
            token = self.next()
            if token[0] != "!" or token[1:] not in HINTS:
                raise self.unknown(token)
            self.next()


def _binary(line: _Line, op: str) -> Instruction:
    flags = line.flags(op)
    operands = line.operands()
    return Instruction(line.text, op, flags=flags, operands=operands, type=operands[0].type)


def _icmp(line: _Line, op: str) -> Instruction:
    flags = line.flags(op)
    name = line.expect(*PREDICATES)
    operands = line.operands()
    kind = operands[0].type
    truth: Type = Many(kind.count, Integer(1)) if isinstance(kind, Many) else Integer(1)
    return Instruction(line.text, op, flags=flags, name=name, operands=operands, type=truth)


def _cast(line: _Line, op: str) -> Instruction:
    flags = line.flags(op)
    operand = line.operand()
    line.expect("to")
    return Instruction(line.text, op, flags=flags, operands=(operand,), type=line.type())


def _freeze(line: _Line, op: str) -> Instruction:
    operand = line.operand()
    return Instruction(line.text, op, operands=(operand,), type=operand.type)


def _select(line: _Line, op: str) -> Instruction:
    condition = line.operand()
    line.expect(",")
    then = line.operand()
    line.expect(",")
    return Instruction(line.text, op, operands=(condition, then, line.operand()), type=then.type)


def _alloca(line: _Line, op: str) -> Instruction:
    kind = line.type()
    return Instruction(line.text, op, type=kind, align=line.alignment())


def _load(line: _Line, op: str) -> Instruction:
    atomic = line.take("atomic")
    kind = line.type()
    line.expect(",")
    place = line.operand()
    name = line.expect(*ORDERINGS) if atomic else ""
    return Instruction(
        line.text, op, type=kind, operands=(place,), name=name, align=line.alignment()
    )


def _store(line: _Line, op: str) -> Instruction:
    atomic = line.take("atomic")
    value = line.operand()
    line.expect(",")
    place = line.operand()
    name = line.expect(*ORDERINGS) if atomic else ""
    return Instruction(
        line.text, op, type=value.type, operands=(value, place), name=name, align=line.alignment()
    )


def _atomicrmw(line: _Line, op: str) -> Instruction:
    kind = line.expect("add", "and", "or")
    place = line.operand()
    line.expect(",")
    value = line.operand()
    name = f"{kind} {line.expect(*ORDERINGS)}"
    return Instruction(
        line.text, op, type=value.type, operands=(place, value), name=name, align=line.alignment()
    )


def _cmpxchg(line: _Line, op: str) -> Instruction:
    operands = [line.operand()]
    for _ in range(2):
        line.expect(",")
        operands.append(line.operand())
    name = f"{line.expect(*ORDERINGS)} {line.expect(*ORDERINGS)}"
    kind = Structure((operands[1].type, Integer(1)))
    return Instruction(
        line.text, op, type=kind, operands=tuple(operands), name=name, align=line.alignment()
    )


def _fence(line: _Line, op: str) -> Instruction:
    return Instruction(line.text, op, name=line.expect(*ORDERINGS))


def _getelementptr(line: _Line, op: str) -> Instruction:
    flags = line.flags(op)
    kind = line.type()
    operands = []
    while line.take(","):
        operands.append(line.operand())
    return Instruction(line.text, op, flags=flags, type=kind, operands=tuple(operands))


def _extractvalue(line: _Line, op: str) -> Instruction:
    operand = line.operand()
    line.expect(",")
    index = line.number()
    kind = parts_of(operand.type)[index]
    return Instruction(line.text, op, operands=(operand,), numbers=(index,), type=kind)


def _insertvalue(line: _Line, op: str) -> Instruction:
    operand = line.operand()
    line.expect(",")
    new = line.operand()
    line.expect(",")
    return Instruction(
        line.text, op, operands=(operand, new), numbers=(line.number(),), type=operand.type
    )


def _phi(line: _Line, op: str) -> Instruction:
    kind = line.type()
    operands, labels = [], []
    while True:
        line.expect("[")
        operands.append(Operand(kind, line.value()))
        line.expect(",")
        labels.append(line.name("%"))
        line.expect("]")
        if not line.take(","):
            return Instruction(
                line.text, op, type=kind, operands=tuple(operands), labels=tuple(labels)
            )


def _call(line: _Line, op: str) -> Instruction:
    limits = line.return_attributes()
    kind = line.type()
    if line.take("("):  # the type of a function with a variable number of arguments
        while not line.take(")"):
            line.next()
    name = line.name("@")
    line.expect("(")
    arguments = []
    while not line.take(")"):
        arguments.append(line.operand())
        line.take(",")
    if name.startswith("llvm.") and (line.peek() or "").startswith("#"):
        line.next()  # attributes of an intrinsic, which are LLVM's own
    return Instruction(line.text, op, type=kind, name=name, operands=tuple(arguments), range=limits)


def _ret(line: _Line, op: str) -> Instruction:
    if line.take("void"):
        return Instruction(line.text, op)
    operand = line.operand()
    return Instruction(line.text, op, operands=(operand,), type=operand.type)


def _br(line: _Line, op: str) -> Instruction:
    if line.peek() == "label":
        return Instruction(line.text, op, labels=(line.label(),))
    condition = line.operand()
    line.expect(",")
    then = line.label()
    line.expect(",")
    return Instruction(line.text, op, operands=(condition,), labels=(then, line.label()))


def _switch(line: _Line, op: str) -> Instruction:
    """The default's label comes last."""
    operand = line.operand()
    line.expect(",")
    default = line.label()
    line.expect("[")
    numbers, labels = [], []
    while not line.take("]"):
        line.type()
        numbers.append(line.number())
        line.expect(",")
        labels.append(line.label())
    return Instruction(
        line.text, op, operands=(operand,), numbers=tuple(numbers), labels=(*labels, default)
    )


_READERS: dict[str, Callable[[_Line, str], Instruction]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(CASTS, _cast),
    "icmp": _icmp,
    "freeze": _freeze,
    "select": _select,
    "alloca": _alloca,
    "load": _load,
    "store": _store,
    "atomicrmw": _atomicrmw,
    "cmpxchg": _cmpxchg,
    "fence": _fence,
    "getelementptr": _getelementptr,
    "extractvalue": _extractvalue,
    "insertvalue": _insertvalue,
    "phi": _phi,
    "call": _call,
    "ret": _ret,
    "br": _br,
    "switch": _switch,
    "unreachable": lambda line, op: Instruction(line.text, op),
}
