"""What a kernel does to the memory that threads share, on every path through it, read off its LLVM IR.

No solver: numbers are constants, or sums of what is not known. That is enough to tell which word of the
control block an address is, and which way a branch goes whose condition has been decided before. Every
path is walked, callees included; what a *listener* has heard on the way is part of where a path stands,
so a loop is gone round until nothing new can be heard.

Whatever has no meaning here (an instruction, a callee, an address of no word that is known) raises
:class:`UnknownIR`: what could not be followed is never taken for in order.
"""

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

from model.protocols import work_queue
from model.protocols.accesses import (
    COMPLETED,
    CURSOR,
    DOORBELL,
    JOB,
    LINE,
    PAGE,
    QUEUE,
    STATE,
    Whose,
)
from proofs.compiled import source
from proofs.compiled.ir import (
    Function,
    Global,
    Instruction,
    Integer,
    Number,
    Operand,
    Pointer,
    Register,
    Type,
    Undefined,
    UnknownIR,
    Void,
    Zero,
    offset_of,
    parts_of,
    size_of,
)
from proofs.compiled.reader import read

_read = lru_cache(maxsize=512)(read)
_MODULUS = 2**64


def _line(at: int, *words: str) -> dict[int, str]:
    """Words of the control block, one behind the other."""
    return {at + 8 * place: word for place, word in enumerate(words)}


# The control block (``impl/kernels/control.py``): its words by their place, in bytes; a test compares.
_ROUND = ("ROUND", "STRATEGY", "JOB", "THREADS", "GRAIN", "TO_HAND_OUT")
_LIMITS = ("SERIAL_BELOW", "ORDINARY_BELOW", "FETCHING_BELOW", "SPIN", "FETCHING_HOST")
#: The queue, a cursor a node; at the end a line a worker.
SLOTS, LINE_BYTES = 192, 64
CURSORS = SLOTS + 8 * work_queue.SLOTS
CURSORS_END = CURSORS + 64 * LINE_BYTES
TOTALS, WORKERS = CURSORS_END + 5 * LINE_BYTES, CURSORS_END + 6 * LINE_BYTES
WORD_AT = {
    0: STATE,
    64: DOORBELL,
    **_line(128, "UNFORKED", "OWNER", "HELPERS", "ARRIVED"),
    **_line(CURSORS_END, *_ROUND),
    **_line(CURSORS_END + LINE_BYTES, *_LIMITS),
    CURSORS_END + 2 * LINE_BYTES: "HEAD",
    CURSORS_END + 3 * LINE_BYTES: "TAIL",
    CURSORS_END + 4 * LINE_BYTES: "CLOSED",
}
PLACE_OF = {word: at for at, word in WORD_AT.items()}
LINE_WORDS = (COMPLETED, "COPIED", "HOST_DIRTY", "CACHE_DIRTY", "BOTH_DIRTY", "BEGIN", "END", "LOG")
#: What the model calls a word: one name may stand for several.
_GROUPS = {
    **dict.fromkeys(_ROUND, JOB),
    **dict.fromkeys(("HEAD", "TAIL", "CLOSED", "SLOTS"), QUEUE),
    **dict.fromkeys(LINE_WORDS[1:-1], LINE),
    "job table": JOB,
}
#: Written once, before there are helpers, and read by everybody: to read them races with nothing.
SET_ONCE = {*_LIMITS, "UNFORKED", "OWNER", "HELPERS", "LOG"}

#: futex(2) on x86-64 and on AArch64, and what is asked of it.
_FUTEX = {202, 98}
_FUTEX_ACCESS = {128: "futex_wait", 129: "futex_wake"}
SEQ_CST = "seq_cst"

#: These are walked through; all other functions of these packages touch no control block.
_WALKED = re.compile(r"impl\.kernels\.((check_in|strategies|events)\.\w+|flush\.choose_copy)")
_APART = re.compile(r"impl\.kernels\.(flush|nodes)\.\w+|model\.[\w.]+")
#: Of numba's own: the smaller and the larger of two numbers.
_OF_NUMBERS = re.compile(r"_ZN5numba7cpython8builtins6ol_m(ax|in)12_3clocals_3e4impl\w+")
#: These access nothing that is shared.
_HARMLESS = re.compile(
    rf"{_OF_NUMBERS.pattern}|clock_gettime|sched_getcpu|llvm\.prefetch\.\S+"
    r"|llvm\.((u|s)(min|max)|u(sub|add)\.sat|ctpop|cttz)\.i\d+"
)
#: Kernels that go only where their caller may: the pages of its range, and what the index says of them.
#: That is proved of each (``ranges.py``, ``backup.py``, ``index.py``), but of index_places assumed.
_IN_ITS_RANGE = {"flush_range", "back_up_range", "index_words", "index_places"}
#: These look at the index of dirty pages and at what lies on which node: both are written before their
#: round opens, as the parameters are.
_OF_THE_INDEX = {
    *("batch_words", "number_of_nodes", "own_node", "first_page_of_node", "next_dirty_words"),
}


# What a register holds.


class Sum(NamedTuple):
    """A number, modulo 2^64: a constant, and multiples of numbers that have only a name."""

    constant: int
    terms: tuple[tuple[str, int], ...] = ()

    def plus(self, other: "Sum", times: int = 1) -> "Sum":
        """``self + times * other``."""
        terms = dict(self.terms)
        for name, count in other.terms:
            terms[name] = (terms.get(name, 0) + times * count) % _MODULUS
        left = tuple(sorted((name, count) for name, count in terms.items() if count))
        return Sum((self.constant + times * other.constant) % _MODULUS, left)

    def times(self, count: int) -> "Sum":
        """``count * self``."""
        return Sum(0).plus(self, count)


class Test(NamedTuple):
    """A truth that is not known: is a number 0, or is it not?"""

    number: Sum
    is_zero: bool


class Place(NamedTuple):
    """A variable of a function, or a place in it, in bytes."""

    region: str
    offset: int


class Opaque(NamedTuple):
    """A pointer that is never followed."""


class Row(NamedTuple):
    """An aggregate."""

    parts: tuple["Datum", ...]


Datum: TypeAlias = "Sum | Test | Place | Opaque | Row"


# What is heard.


class Access(NamedTuple):
    """One access to shared memory, as the IR has it; ``group`` is what the model calls its word.

    ``access`` is load or store where it is plain, else as the table in ``impl/README.md`` calls it, with
    ``order``, how it is ordered.
    """

    kernel: str
    access: str
    word: str
    group: str
    whose: Whose
    order: str
    text: str = ""
    #: Which instruction it is, of which call.
    site: str = ""

    @property
    def is_plain(self) -> bool:
        """Neither atomic, nor a fence, nor a call of the kernel?"""
        return not self.order

    @property
    def row(self) -> str:
        """As rows of the table are called. A futex, a fence and a yield are the same from everywhere."""
        if self.access.startswith("futex") or self.access == "give_way":
            return f"{self.access} {self.word}".strip()
        return f"{self.kernel} {self.access} {self.word}".strip()


class Listener(Protocol):
    """Who is told of each access, on each path. What it has heard so far it is given back."""

    def heard(self, so_far: Hashable, access: Access) -> Hashable: ...
    def ended(self, so_far: Hashable) -> None: ...


@dataclass
class State:
    """Where a path stands: registers, variables, the caller's own plain words, what is known to be 0."""

    heard: Hashable
    registers: dict[str, Datum] = field(default_factory=dict)
    slots: dict[Place, Datum] = field(default_factory=dict)
    words: dict[str, Datum] = field(default_factory=dict)
    zero: dict[Sum, bool] = field(default_factory=dict)
    #: What each loop's variables held when the path came to its header last.
    at_header: dict[str, dict[Hashable, Datum]] = field(default_factory=dict)

    def copy(self) -> "State":
        """The same, to go another way."""
        return replace(
            self,
            registers=dict(self.registers),
            slots=dict(self.slots),
            words=dict(self.words),
            zero=dict(self.zero),
            at_header=dict(self.at_header),
        )

    def key(self) -> Hashable:
        """Equal for states from which the same can be heard."""
        headers = frozenset((h, frozenset(v.items())) for h, v in self.at_header.items())
        parts = (self.registers, self.slots, self.words, self.zero)
        return self.heard, headers, *(frozenset(part.items()) for part in parts)

    def holders(self) -> Iterator[tuple[dict[Any, Datum], Any]]:
        """Each value that a path still has, by where it is kept."""
        kept: tuple[dict[Any, Datum], ...] = (self.registers, self.slots, self.words)
        for part in (*kept, *self.at_header.values()):
            for key in list(part):
                yield part, key


Outcome = tuple[State, Datum]


class Site(NamedTuple):
    """Where an instruction stands: its kernel, by which calls that was come to, block and number."""

    kernel: str
    frame: str
    label: str
    number: int

    def result(self, what: Instruction) -> str:
        """A name for what the instruction finds."""
        return f"{self.frame}%{what.result or f'{self.label}.{self.number}'}"

    def __str__(self) -> str:
        return f"{self.frame}@{self.label}.{self.number}"


class Walk:
    """Every path through a kernel. ``worker`` is the process's own number, 0 the caller's.

    ``at_first`` are words of the control block that are known and stay. ``queue`` says that a round off
    the queue is one access, of those who search and of those who copy; else it is walked through.
    """

    def __init__(
        self,
        kernels: source.Kernels,
        listener: Listener,
        worker: Sum,
        at_first: Mapping[str, int],
        *,
        queue: bool,
    ) -> None:
        self._texts = kernels.texts[source.AS_MADE]
        self._names = {s: name for name, found in kernels.symbols.items() for s in found}
        self._listener = listener
        self._worker = worker
        self._at_first = {name: Sum(value) for name, value in at_first.items()}
        self._queue = queue
        self._layouts: dict[str, Type] = {}
        #: Of what has only a name: how large it may be, and whether it is an address, of what.
        self._below: dict[str, int] = {}
        self._kinds: dict[str, str] = {"control": "control", "job": "job"}

    def run(self, symbol: str, arguments: list[Sum], so_far: Hashable) -> None:
        """Walk every path of a kernel; its results go nowhere."""
        state = State(so_far)
        if self._worker.terms:
            state.zero[self._worker] = False  # a helper's number is not the caller's
        places: list[Datum] = [Place("result", 0), Opaque()]
        self._layouts["result"] = Pointer()
        for after, _ in self._call(symbol, [*places, *arguments], state, ""):
            self._listener.ended(after.heard)

    # Functions and blocks.

    def _call(self, symbol: str, arguments: list[Datum], state: State, frame: str) -> list[Outcome]:
        function = _read(self._texts[symbol])
        if len(arguments) != len(function.parameters):
            raise UnknownIR(f"{symbol} takes {len(function.parameters)} arguments")
        inner = state.copy()
        inner.registers = dict(zip(function.parameters, arguments, strict=True))
        live = function.live
        seen = set[Hashable]()
        found: dict[Hashable, Outcome] = {}
        todo = [(function.entry, "", inner)]
        while todo:
            label, came_from, here = todo.pop()
            self._enter(function, label, came_from, here, frame, live[label])
            key = label, here.key()
            if key in seen:
                continue
            seen.add(key)
            for target, after, value in self._block(function, label, 0, here, frame):
                if target is not None:
                    todo.append((target, label, after))
                elif value != Sum(0):
                    continue  # an exception: that none is raised is assumed
                else:
                    self._leave(state, after, frame)
                    found.setdefault(after.key(), (after, value))
        return list(found.values())

    def _leave(self, before: State, after: State, frame: str) -> None:
        """The callee's own variables are gone."""
        after.registers = dict(before.registers)
        after.slots = {p: v for p, v in after.slots.items() if not p.region.startswith(f"{frame}:")}
        after.at_header = {
            h: v for h, v in after.at_header.items() if not h.startswith(f"{frame}@")
        }
        self._drop_facts(after)

    def _enter(
        self,
        function: Function,
        label: str,
        came_from: str,
        state: State,
        frame: str,
        live: frozenset[str],
    ) -> None:
        """Come to a block: of registers those stay that are used from here on."""
        phis = [i for i in function.blocks[label] if i.op == "phi"]
        new = {
            phi.result or "": self._value(state, phi.operands[phi.labels.index(came_from)])
            for phi in phis
        }
        state.registers = {r: v for r, v in state.registers.items() if r in live} | new
        self._settle(state)
        if label in function.loops:
            header = f"{frame}@{label}"
            last = state.at_header.pop(header, None)
            if came_from in function.loops[label] and last is not None:
                self._widen(state, frame, last)
            held: dict[Any, Datum] = {**state.words}
            held |= {p: v for p, v in state.slots.items() if p.region.startswith(f"{frame}:")}
            state.at_header[header] = held
        state.at_header = {
            h: v
            for h, v in state.at_header.items()
            if not h.startswith(f"{frame}@") or label in function.loops[h.rpartition("@")[2]]
        }
        self._drop_facts(state)

    def _widen(self, state: State, frame: str, last: Mapping[Hashable, Datum]) -> None:
        """Of what an iteration has changed, nothing is known at the header but what is the same."""
        parts: tuple[dict[Any, Datum], ...] = (state.slots, state.words)
        changed = [
            (part, place, part[place])
            for part in parts
            for place in part
            if last.get(place, part[place]) != part[place]
        ]
        instead: dict[Datum, Datum] = {}
        for part, place, value in changed:
            if isinstance(value, Sum | Test):
                if value not in instead:
                    instead[value] = self._fresh(state, f"any {frame} {place}")
                part[place] = instead[value]

    def _block(
        self, function: Function, label: str, index: int, state: State, frame: str
    ) -> Iterator[tuple[str | None, State, Datum]]:
        body = function.blocks[label]
        kernel = self._names.get(function.symbol, function.symbol).rpartition(".")[2]
        for number, what in enumerate(body[index:-1], index):
            if what.op == "phi":
                continue
            here = Site(kernel, frame, label, number)
            if what.op != "call":
                self._execute(here, what, state)
                continue
            outcomes = self._called(here, what, state)
            if len(outcomes) != 1:
                for after in outcomes:
                    yield from self._block(function, label, number + 1, after, frame)
                return
            (state,) = outcomes
        last = body[-1]
        if last.op == "ret":
            value = self._value(state, last.operands[0]) if last.operands else Sum(0)
            yield None, state, value
        elif last.op != "unreachable":
            yield from self._targets(state, last)

    def _targets(
        self, state: State, last: Instruction
    ) -> Iterator[tuple[str | None, State, Datum]]:
        if not last.operands:
            yield last.labels[0], state, Sum(0)
            return
        asked = self._value(state, last.operands[0])
        if last.op == "switch":
            if isinstance(asked, Sum) and not asked.terms:
                at = dict(zip(last.numbers, last.labels, strict=False))
                yield at.get(asked.constant, last.labels[-1]), state, Sum(0)
                return
            for target in dict.fromkeys(last.labels):
                yield target, state.copy(), Sum(0)
            return
        decided = self._truth(state, asked)
        for label, way in zip(last.labels, (True, False), strict=True):
            if decided in (None, way):
                after = state.copy()
                self._learn(after, asked, way)
                yield label, after, Sum(0)

    # What is known.

    def _truth(self, state: State, value: Datum) -> bool | None:
        if isinstance(value, Sum):
            return bool(value.constant & 1) if not value.terms else self._not(state.zero.get(value))
        if isinstance(value, Test):
            known = self._is_zero(state, value.number)
            return None if known is None else known == value.is_zero
        raise UnknownIR(f"a branch on {value}")

    @staticmethod
    def _not(known: bool | None) -> bool | None:
        return None if known is None else not known

    @staticmethod
    def _is_zero(state: State, number: Sum) -> bool | None:
        if not number.terms:
            return number.constant == 0
        return state.zero.get(number)

    def _learn(self, state: State, asked: Datum, way: bool) -> None:
        if isinstance(asked, Test):
            state.zero[asked.number] = way == asked.is_zero
        elif isinstance(asked, Sum) and asked.terms:
            state.zero[asked] = not way

    def _settle(self, state: State) -> None:
        """What has been decided on this path is a constant from here on."""
        for part, key in state.holders():
            value = part[key]
            if isinstance(value, Test) and (known := self._truth(state, value)) is not None:
                part[key] = Sum(int(known))
            elif isinstance(value, Sum) and value.terms and state.zero.get(_canonical(value)):
                part[key] = Sum(0)

    def _drop_facts(self, state: State) -> None:
        """Keep what is known of numbers that are still held somewhere."""
        held = {name for part, key in state.holders() for name in _names(part[key])}
        held |= {name for name, _ in self._worker.terms}
        state.zero = {
            number: known
            for number, known in state.zero.items()
            if all(name in held for name, _ in number.terms)
        }

    def _fresh(self, state: State, name: str, *, below: int = _MODULUS) -> Sum:
        """A number that has only a name. Whoever still holds the last one of that name keeps another."""
        older = f"was {name}"
        if _is_held(state, name):
            for number, (part, key) in enumerate(list(state.holders())):
                if older in _names(part[key]):
                    oldest = f"old {number} {key}"
                    if _is_held(state, oldest):
                        raise UnknownIR(
                            f"a number that is kept for more than two iterations: {name}"
                        )
                    self._rename(state, older, oldest, part, key)
            for part, key in list(state.holders()):
                self._rename(state, name, older, part, key)
        self._below[name] = below
        self._kinds.pop(name, None)
        state.zero = {
            number: known
            for number, known in state.zero.items()
            if not {name, older} & {other for other, _ in number.terms}
        }
        return Sum(0, ((name, 1),))

    def _rename(self, state: State, name: str, new: str, part: dict[Any, Datum], key: Any) -> None:
        if name in _names(part[key]):
            part[key] = _renamed(part[key], name, new)
            self._below[new] = self._below.get(name, _MODULUS)
            if name in self._kinds:
                self._kinds[new] = self._kinds[name]

    def _anything(self, state: State, kind: Type, name: str) -> Datum:
        if isinstance(kind, Integer):
            return self._fresh(state, name, below=min(2**kind.bits, _MODULUS))
        if isinstance(kind, Pointer | Void):
            return Opaque()
        return Row(
            tuple(
                self._anything(state, part, f"{name}.{at}")
                for at, part in enumerate(parts_of(kind))
            )
        )

    # Instructions.

    def _value(self, state: State, operand: Operand) -> Datum:
        value, kind = operand.value, operand.type
        if isinstance(value, Register):
            if value.name not in state.registers:
                raise UnknownIR(f"%{value.name} is used where it has no value, in the LLVM IR")
            return state.registers[value.name]
        if isinstance(value, Number):
            return Sum(value.value % 2 ** (kind.bits if isinstance(kind, Integer) else 64))
        if isinstance(value, Undefined | Zero):
            return _nothing(kind)
        return Opaque()

    def _execute(self, here: Site, what: Instruction, state: State) -> None:
        values = [self._value(state, operand) for operand in what.operands]
        if what.op in ("load", "store", "atomicrmw", "cmpxchg"):
            at = values[1] if what.op == "store" else values[0]
            if not isinstance(at, Place):
                found = self._access(here, what, at, values, state)
            elif what.name:
                raise UnknownIR(f"an atomic access to a variable, in the LLVM IR: {what.text}")
            elif what.op == "store":
                self._store(state, at, what.type, values[0], what.text)
                return
            else:
                found = self._load(state, at, what.type, what.text)
        elif what.op == "fence":
            self._hear(here, what, state, "fence_stores", "", what.name)
            return
        else:
            found = self._computed(here, what, values, state)
        if what.result is not None:
            state.registers[what.result] = found

    def _computed(self, here: Site, what: Instruction, values: list[Datum], state: State) -> Datum:
        op, site = what.op, here.result(what)
        if op == "alloca":
            region = f"{here.frame}:{what.result}"
            self._layouts[region] = what.type
            return Place(region, 0)
        if op in ("inttoptr", "bitcast", "freeze", "zext"):
            return values[0]
        if op == "extractvalue":
            return _row(values[0], what).parts[what.numbers[0]]
        if op == "insertvalue":
            parts = list(_row(values[0], what).parts)
            parts[what.numbers[0]] = values[1]
            return Row(tuple(parts))
        if op == "select":
            decided = self._truth(state, values[0])
            if decided is not None:
                return values[1] if decided else values[2]
            same = values[1] == values[2]
            return values[1] if same else self._anything(state, what.type, site)
        if op == "getelementptr":
            return _member(what, values)
        if op == "icmp":
            return self._compared(what, values, state, site)
        if op in _ARITHMETIC:
            return self._calculated(what, values, state, site)
        raise UnknownIR(f"{op!r} is not known here, in the LLVM IR: {what.text}")

    def _calculated(self, what: Instruction, values: list[Datum], state: State, site: str) -> Datum:
        one, *others = values
        truth = isinstance(what.type, Integer) and what.type.bits == 1
        if truth and what.op == "xor" and others == [Sum(1)]:
            if isinstance(one, Test):
                return Test(one.number, not one.is_zero)
            if isinstance(one, Sum):
                return Sum(1 - one.constant) if not one.terms else Test(one, True)
        if not isinstance(one, Sum) or not all(isinstance(other, Sum) for other in others):
            return self._anything(state, what.type, site)
        numbers = [one, *(other for other in others if isinstance(other, Sum))]
        if all(not value.terms for value in numbers):
            return Sum(_folded(what, [value.constant for value in numbers]))
        if isinstance(what.type, Integer) and what.type.bits == 64 and len(numbers) == 2:
            exact = _linear(what.op, *numbers)
            if exact is not None:
                return exact
        limit = numbers[-1].constant if what.op == "urem" and not numbers[-1].terms else 0
        return self._fresh(state, site, below=limit or _MODULUS)

    def _compared(self, what: Instruction, values: list[Datum], state: State, site: str) -> Datum:
        one, other = values
        if isinstance(one, Test) and other == Sum(0) and what.name in ("eq", "ne"):
            return one if what.name == "ne" else Test(one.number, not one.is_zero)
        if not isinstance(one, Sum) or not isinstance(other, Sum):
            return self._anything(state, what.type, site)
        if not one.terms and not other.terms:
            kind = what.operands[0].type
            width = kind.bits if isinstance(kind, Integer) else 64
            return Sum(int(_compare(what.name, one.constant, other.constant, width)))
        difference = _canonical(one.plus(other, -1))
        if what.name in ("eq", "ne"):
            return Test(difference, what.name == "eq")
        # A number of helpers, or of what is left of them, is below 2^63: it is above 0 unless it is 0.
        if what.name in ("sgt", "ugt") and other == Sum(0):
            return Test(difference, False)
        return self._fresh(state, site, below=2)

    # Variables.

    def _load(self, state: State, at: Place, kind: Type, text: str) -> Datum:
        if not isinstance(kind, Integer | Pointer):
            return Row(
                tuple(
                    self._load(state, Place(at.region, at.offset + offset_of(kind, i)), part, text)
                    for i, part in enumerate(parts_of(kind))
                )
            )
        if at not in state.slots:
            raise UnknownIR(
                f"a variable that is loaded before it is stored, in the LLVM IR: {text}"
            )
        return state.slots[at]

    def _store(self, state: State, at: Place, kind: Type, value: Datum, text: str) -> None:
        if isinstance(kind, Integer | Pointer):
            state.slots[at] = value
            return
        for i, (part, of) in enumerate(zip(_row(value, text).parts, parts_of(kind), strict=True)):
            self._store(state, Place(at.region, at.offset + offset_of(kind, i)), of, part, text)

    # Shared memory.

    def _hear(
        self,
        here: Site,
        what: Instruction,
        state: State,
        access: str,
        word: str,
        order: str,
        whose: Whose = Whose.THE,
    ) -> None:
        group, text = _GROUPS.get(word, word), what.text.strip()
        made = Access(here.kernel, access, word, group, whose, order, text, str(here))
        state.heard = self._listener.heard(state.heard, made)

    def _access(
        self, here: Site, what: Instruction, at: Datum, values: list[Datum], state: State
    ) -> Datum:
        """A load, a store or an update of shared memory; what is loaded."""
        if isinstance(at, Opaque) and what.op == "load" and isinstance(what.type, Pointer):
            return Opaque()  # a global of numba's, of which nothing is read
        if isinstance(at, Opaque) and what.op == "store" and what.type == Pointer():
            return Opaque()  # which exception it is
        if not isinstance(at, Sum) or what.align != 8:
            raise UnknownIR(f"an access to what is not known, in the LLVM IR: {what.text}")
        word, whose = self._word(at, what)
        access, order = _kind_of(what)
        site = here.result(what)
        if word == "own log":
            return self._of_the_log(state, what, site) if what.op == "load" else Opaque()
        if order or access != "load" or word not in SET_ONCE:
            self._hear(here, what, state, access, word, order, whose)
        if what.op == "store":
            if not order and word in _ROUND:
                state.words[word] = values[0]
            return Opaque()
        if what.op == "cmpxchg":
            return Row((self._fresh(state, site), self._fresh(state, f"{site}.1", below=2)))
        if word == "LOG":
            return self._of_the_log(state, what, site)
        if word == "OWNER":
            # Who made the pool is who flushes: the child of a fork has no helpers, and flushes alone.
            return Sum(0, (("this process", 1),))
        if not order and word in state.words:
            return state.words[word]
        if not order and word in self._at_first:
            return self._at_first[word]
        found = self._fresh(state, site)
        if word == "JOB":
            self._kinds[site] = "job"
        return found

    def _of_the_log(self, state: State, what: Instruction, site: str) -> Datum:
        found = self._fresh(state, site)
        self._kinds[site] = "log"
        return found

    def _word(self, at: Sum, what: Instruction) -> tuple[str, Whose]:
        """The word at an address, by the name that its offset has. Raises UnknownIR."""
        bases = [name for name, _ in at.terms if name in self._kinds]
        others = [(name, count) for name, count in at.terms if name not in self._kinds]
        unknown = UnknownIR(f"an access to no word that is known here, in the LLVM IR: {what.text}")
        if len(bases) != 1 or dict(at.terms)[bases[0]] != 1:
            raise unknown
        kind = self._kinds[bases[0]]
        if kind == "log" and not others:
            return "own log", Whose.OWN
        if kind == "job" and not others and at.constant % 8 == 0:
            return "job table", Whose.THE
        if kind != "control":
            raise unknown
        if CURSORS <= at.constant < CURSORS_END and at.constant % LINE_BYTES == 0:
            if all(count == LINE_BYTES for _, count in others) and len(others) <= 1:
                return CURSOR, Whose.THE
            raise unknown
        if at.constant >= WORKERS and len(others) <= 1:
            return self._of_a_line(at.constant - WORKERS, others, unknown)
        if others:
            (name, count), *more = others
            is_a_slot = not more and (at.constant, count) == (SLOTS, 8)
            if is_a_slot and self._below.get(name, _MODULUS) <= work_queue.SLOTS:
                return "SLOTS", Whose.THE
            raise unknown
        if TOTALS <= at.constant < WORKERS:
            return "TOTALS", Whose.THE
        if at.constant not in WORD_AT:
            raise unknown
        return WORD_AT[at.constant], Whose.THE

    def _of_a_line(
        self, offset: int, others: list[tuple[str, int]], unknown: UnknownIR
    ) -> tuple[str, Whose]:
        if offset % 8 or any(count != LINE_BYTES for _, count in others):
            raise unknown
        number = Sum(offset // LINE_BYTES, tuple((name, 1) for name, _ in others))
        whose = Whose.OWN if number == self._worker else Whose.ALL
        return LINE_WORDS[offset % LINE_BYTES // 8], whose

    # Calls.

    def _called(self, here: Site, call: Instruction, state: State) -> list[State]:
        values = [self._value(state, operand) for operand in call.operands]
        name = self._names.get(call.name, "")
        short = name.rpartition(".")[2]
        site = here.result(call)
        if self._queue and short in ("search", "copy_queued"):
            self._hear(here, call, state, short, "", SEQ_CST)
            return [self._with(state, call, Sum(0))]
        if _WALKED.fullmatch(name):
            inner = f"{here.frame}/{here.label}.{here.number}"
            outcomes = self._call(call.name, values, state, inner)
            return [self._with(after, call, Sum(0)) for after, _ in outcomes]
        if _APART.fullmatch(name):
            self._heard_of(here, call, state, short, values)
        elif call.name in ("llvm.x86.sse.sfence", "sched_yield", "syscall"):
            self._in_the_kernel(here, call, state, values)
        elif call.name == "getpid":
            return [self._with(state, call, Sum(0, (("this process", 1),)))]
        elif not _HARMLESS.fullmatch(call.name):
            raise UnknownIR(f"a call of {call.name!r} is not known here, in the LLVM IR")
        for value in values:
            if isinstance(value, Place):
                self._forget(state, value, site)
        status = bool(name) or bool(_OF_NUMBERS.fullmatch(call.name))
        made = Sum(0) if status else self._anything(state, call.type, site)
        return [self._with(state, call, made)]

    def _with(self, state: State, call: Instruction, value: Datum) -> State:
        if call.result is not None:
            state.registers[call.result] = value
        return state

    def _forget(self, state: State, at: Place, site: str) -> None:
        """A callee may have written anything into a variable that it was given."""
        kind = self._layouts[at.region]
        if at.offset:
            raise UnknownIR(f"a callee is given a part of a variable, at {site}")
        self._store(state, at, kind, self._anything(state, kind, f"{site} {at.region}"), site)

    def _heard_of(
        self, here: Site, call: Instruction, state: State, short: str, values: list[Datum]
    ) -> None:
        """A kernel that is given no control block: it loads, perhaps stores, what the RAM is made of."""
        for value in values:
            kinds = {self._kinds.get(name) for name in _names(value)}
            if kinds & {"control", "log"}:
                raise UnknownIR(f"{short} is given the control block, in the LLVM IR: {call.text}")
        loads, stores = apart(call.name, self._texts)
        whose = Whose.TAKEN if short in _IN_ITS_RANGE else Whose.ALL
        words = [("load", "job table", Whose.THE)] if loads else []
        if loads and short not in _OF_THE_INDEX:
            words.append(("load", PAGE, whose))
        if stores:
            words.append(("store", PAGE, whose))
            if short not in _IN_ITS_RANGE:
                words.append(("store", "job table", Whose.THE))
        for access, word, of in words:
            self._hear(here, call, state, access, word, "", of)

    def _in_the_kernel(
        self, here: Site, call: Instruction, state: State, values: list[Datum]
    ) -> None:
        def hear(access: str, word: str = "", whose: Whose = Whose.THE) -> None:
            self._hear(here, call, state, access, word, SEQ_CST, whose)

        if call.name == "llvm.x86.sse.sfence":
            hear("fence_stores")
        elif call.name == "sched_yield":
            hear("give_way")
        else:
            asked, at, operation = values[:3]
            is_futex = asked in {Sum(n) for n in _FUTEX} and isinstance(operation, Sum)
            access = _FUTEX_ACCESS.get(operation.constant) if isinstance(operation, Sum) else None
            if not is_futex or access is None or not isinstance(at, Sum):
                raise UnknownIR(
                    f"a call of the kernel is not known here, in the LLVM IR: {call.text}"
                )
            hear(access, *self._word(at, call))


_ARITHMETIC = {
    *("add", "sub", "mul", "shl", "lshr", "ashr", "and", "or", "xor"),
    *("udiv", "urem", "sdiv", "srem", "sext", "trunc"),
}


def apart(
    symbol: str, texts: Mapping[str, str], seen: frozenset[str] = frozenset()
) -> tuple[bool, bool]:
    """Does a kernel, or one that it calls, load from memory, and store there? All of it plainly.

    Raises UnknownIR where something is atomic, or a fence, or a callee is not known.
    """
    if symbol not in texts:
        raise UnknownIR(f"a call of {symbol!r} is not known here, in the LLVM IR")
    function = _read(texts[symbol])
    variables = {i.result for b in function.blocks.values() for i in b if i.op == "alloca"}
    variables |= set(function.parameters[:2])
    loads = stores = False
    for what in (instruction for block in function.blocks.values() for instruction in block):
        if what.op in ("atomicrmw", "cmpxchg", "fence") or (
            what.op in ("load", "store") and what.name
        ):
            raise UnknownIR(f"an atomic access where there is no other thread: {what.text}")
        if what.op in ("load", "store"):
            at = what.operands[-1].value
            of_numba = isinstance(at, Global) and what.op == "load"
            if not of_numba and not (isinstance(at, Register) and at.name in variables):
                loads, stores = loads or what.op == "load", stores or what.op == "store"
        if what.op == "call" and what.name == "memcpy":
            loads = stores = True
        elif what.op == "call" and what.name.startswith("llvm."):
            if not _HARMLESS.fullmatch(what.name):
                raise UnknownIR(f"{what.name!r} is not known here, in the LLVM IR: {what.text}")
        elif what.op == "call" and what.name not in seen and not _HARMLESS.fullmatch(what.name):
            inner = apart(what.name, texts, seen | {symbol})
            loads, stores = loads or inner[0], stores or inner[1]
    return loads, stores


def _kind_of(what: Instruction) -> tuple[str, str]:
    """What the table calls an access, and how it is ordered, "" if it is plain."""
    if what.op == "atomicrmw":
        operation, order = what.name.split()
        return f"atomic_{operation}", order
    if what.op == "cmpxchg":
        orders = set(what.name.split())
        return "compare_and_swap", orders.pop() if len(orders) == 1 else what.name
    return (f"atomic_{what.op}" if what.name else what.op), what.name


def _names(value: Datum) -> Iterator[str]:
    """What has only a name, in a value."""
    if isinstance(value, Sum):
        yield from (name for name, _ in value.terms)
    elif isinstance(value, Test):
        yield from _names(value.number)
    elif isinstance(value, Row):
        for part in value.parts:
            yield from _names(part)


def _is_held(state: State, name: str) -> bool:
    return any(name in _names(part[key]) for part, key in state.holders())


def _renamed(value: Datum, name: str, new: str) -> Datum:
    if isinstance(value, Sum):
        terms = ((new if held == name else held, count) for held, count in value.terms)
        return Sum(value.constant, tuple(sorted(terms)))
    if isinstance(value, Test):
        number = _renamed(value.number, name, new)
        return Test(_canonical(number), value.is_zero) if isinstance(number, Sum) else value
    if isinstance(value, Row):
        return Row(tuple(_renamed(part, name, new) for part in value.parts))
    return value


def _nothing(kind: Type) -> Datum:
    """0 of a type. (What was never written is poison, of which the claims about functions say enough.)"""
    if isinstance(kind, Integer):
        return Sum(0)
    if isinstance(kind, Pointer):
        return Opaque()
    return Row(tuple(_nothing(part) for part in parts_of(kind)))


def _row(value: Datum, what: object) -> Row:
    if isinstance(value, Row):
        return value
    raise UnknownIR(f"an aggregate is needed and not {value}, in the LLVM IR: {what}")


def _member(what: Instruction, values: list[Datum]) -> Datum:
    """``getelementptr``: a place in a variable. Of addresses there is none in what is walked."""
    base, *indices = values
    if not isinstance(base, Place) or not all(
        isinstance(index, Sum) and not index.terms for index in indices
    ):
        raise UnknownIR(f"a place that is computed, in the LLVM IR: {what.text}")
    steps = [index.constant for index in indices if isinstance(index, Sum)]
    kind, offset = what.type, base.offset + steps[0] * size_of(what.type)
    for step in steps[1:]:
        offset += offset_of(kind, step)
        kind = parts_of(kind)[step]
    return Place(base.region, offset)


def _canonical(number: Sum) -> Sum:
    """A number and its negative are 0 together."""
    if number.terms and number.terms[0][1] >= _MODULUS // 2:
        return number.times(-1)
    return number


def _linear(op: str, one: Sum, other: Sum) -> Sum | None:
    if op == "add":
        return one.plus(other)
    if op == "sub":
        return one.plus(other, -1)
    if op == "mul" and not other.terms:
        return one.times(other.constant)
    if op == "mul" and not one.terms:
        return other.times(one.constant)
    if op == "shl" and not other.terms and other.constant < 64:
        return one.times(1 << other.constant)
    if op in ("udiv", "sdiv") and other == Sum(1):
        return one
    if op in ("urem", "srem") and other == Sum(1):
        return Sum(0)
    return None


def _folded(what: Instruction, values: list[int]) -> int:
    kind = what.operands[0].type
    width = kind.bits if isinstance(kind, Integer) else 64
    to = what.type.bits if isinstance(what.type, Integer) else 64
    one, other = (*values, 0)[:2]
    if what.op in ("udiv", "urem", "sdiv", "srem") and other == 0:
        raise UnknownIR(f"a division by 0, in the LLVM IR: {what.text}")
    signed = [value - (value >> (width - 1) << width) for value in (one, other)]
    quotient = abs(signed[0]) // abs(signed[1]) if what.op in ("sdiv", "srem") else 0
    if signed[0] * signed[1] < 0:
        quotient = -quotient
    results = {
        "add": one + other,
        "sub": one - other,
        "mul": one * other,
        "and": one & other,
        "or": one | other,
        "xor": one ^ other,
        "shl": one << min(other, 64),
        "lshr": one >> other,
        "ashr": signed[0] >> other,
        "udiv": one // other if other else 0,
        "urem": one % other if other else 0,
        "sdiv": quotient,
        "srem": signed[0] - quotient * signed[1],
        "sext": signed[0],
        "trunc": one,
    }
    return int(results[what.op] % 2**to)


def _compare(predicate: str, one: int, other: int, width: int) -> bool:
    if predicate[0] == "s":
        one, other = (value - (value >> (width - 1) << width) for value in (one, other))
    return {
        "eq": one == other,
        "ne": one != other,
        "lt": one < other,
        "le": one <= other,
        "gt": one > other,
        "ge": one >= other,
    }[predicate if predicate in ("eq", "ne") else predicate[1:]]
