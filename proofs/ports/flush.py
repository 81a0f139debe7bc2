"""``colo_flush`` of a port, called by one thread: what each call of a small system must do.

A *system* is a list of blocks in one or two bitmap words. Both bitmaps and the dirty count are symbolic:
all that have at most so many dirty pages, stray bits among them. The rules are those of ``colo_flush.h``:
a stray bit is refused, and nothing changed; else every dirty page is copied, whole, and no other; at each
store to a bitmap every dirty page that is not copied is marked, and no clean one; at the end both bitmaps
are clear, and the dirty count, the four stats and the status are right. What LLVM leaves undefined must
not happen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from proofs.compiled.ir import UnknownIR, size_of
from proofs.compiled.machine import Machine, State
from proofs.compiled.values import Bits, Datum, bits, number
from proofs.ports.explorer import Explorer, population
from proofs.ports.memory import PAGES, Asks, Bytes
from proofs.ports.text import Module

PAGE_SIZE = 1024
_REFUSED, _MISCOUNTED = -22, -34
_HOST, _CACHE, _APART = PAGES, 16 * PAGES, PAGES >> 8
_WORD = 64


@dataclass(frozen=True)
class System:
    """Blocks, each its first bit and its pages, ascending; words; the most dirty pages."""

    blocks: tuple[tuple[int, int], ...]
    words: int
    most_dirty: int

    def __str__(self) -> str:
        blocks = " and ".join(f"{pages} pages from bit {first}" for first, pages in self.blocks)
        dirty = f"at most {self.most_dirty} dirty page{'s' * (self.most_dirty > 1)}"
        return f"{blocks}; all bitmaps of {_WORD * self.words} bits with {dirty}, all dirty counts"


#: Over the border of two words; a whole word; in the second word; two blocks that touch in a word.
SYSTEMS = (
    System(((63, 2),), 2, 2),
    System(((0, 64),), 1, 1),
    System(((70, 3),), 2, 1),
    System(((64, 1), (65, 1)), 2, 2),
)


class Call:
    """One call of a system: its memory and its rules."""

    def __init__(self, module: Module, system: System) -> None:
        self.system = system
        self._bits = _WORD * system.words
        self.cache = z3.BitVec("cache_bitmap", self._bits)
        self.host = z3.BitVec("host_bitmap", self._bits)
        self.count = z3.BitVec("dirty_pages", _WORD)
        self.dirty = self.cache | self.host
        used = sum((1 << pages) - 1 << first for first, pages in system.blocks)
        self._stray = self.dirty & ~z3.BitVecVal(used, self._bits) != 0
        self._memory = Bytes(self._written, z3.BitVecVal(0, self._bits))
        self._variables = {
            name: self._variable(name, size_of(each.type), each.value)
            for name, each in module.variables.items()
        }
        self._module = module
        self._blocks = self._object("blocks", self._fields(), writable=False)
        self._cache_words = self._object("cache_bitmap", self._words(self.cache))
        self._host_words = self._object("host_bitmap", self._words(self.host))
        self._dirty_pages = self._object("dirty_pages", [self.count])
        self._before = [z3.BitVec(f"stats[{i}]", _WORD) for i in range(4)]
        self._stats = self._object("stats", self._before)

    def explore(self) -> int:
        """How many paths there are. Raises Broken, or UnknownIR."""
        contracts = {
            "memcpy": self._copied,
            "memmove": self._copied,
            "memset": self._filled,
            "malloc": self._allocated,
            "free": lambda machine, state, arguments: Bits(z3.BitVecVal(0, _WORD)),
        }
        explorer = Explorer(self._module.texts, contracts, self._variables)
        few = self.dirty
        for _ in range(self.system.most_dirty):
            few = few & (few - 1)
        arguments: list[Datum] = [
            *map(number, (self._blocks, len(self.system.blocks), PAGE_SIZE)),
            *map(number, (self._cache_words, self._host_words, self.system.words)),
            *(number(self._dirty_pages), number(1, 32), number(self._stats)),
        ]
        paths = 0
        state = State(path=[few == 0], memory=self._memory)
        for after, status in explorer.run("colo_flush", arguments, state):
            self._returned(explorer, after, bits(status, "the status"))
            paths += 1
        return paths

    # Memory.

    def _fields(self) -> Iterator[z3.BitVecRef]:
        for index, (first, pages) in enumerate(self.system.blocks):
            for value in (0, pages * PAGE_SIZE, pages * PAGE_SIZE, first):
                yield z3.BitVecVal(value, _WORD)
            for pages_of in (_HOST, _CACHE):
                yield z3.BitVecVal(pages_of + index * _APART, _WORD)

    def _words(self, bitmap: z3.BitVecRef) -> list[z3.BitVecRef]:
        return [z3.Extract(w * _WORD + 63, w * _WORD, bitmap) for w in range(self.system.words)]

    def _object(
        self,
        name: str,
        values: Sequence[z3.BitVecRef] | Iterator[z3.BitVecRef],
        *,
        writable: bool = True,
    ) -> int:
        held = list(values)
        address = self._memory.place(name, 8 * len(held), writable=writable)
        for index, value in enumerate(held):
            self._memory.put(address + 8 * index, value)
        return address

    def _variable(self, name: str, size: int, value: int) -> int:
        address = self._memory.place(name, size)
        for index in range(size):
            self._memory.put(address + index, _BYTES[value >> 8 * index & 0xFF])
        return address

    def _bitmap(self, state: State, address: int) -> z3.BitVecRef:
        words = [_bytes(state).word(address + 8 * w).z for w in range(self.system.words)]
        return z3.Concat(*reversed(words)) if len(words) > 1 else words[0]

    # What a port may call.

    def _allocated(self, machine: Machine, state: State, arguments: list[Datum]) -> Datum:
        """Memory is had: a call without any is not explored."""
        size = _exact(arguments[0], "malloc")
        return number(_bytes(state).place("what malloc gave", size))

    def _filled(self, machine: Machine, state: State, arguments: list[Datum]) -> Datum:
        to, size = _exact(arguments[0], "memset"), _exact(arguments[2], "memset")
        memory = _bytes(state)
        memory.places(_asks(machine), state, z3.BitVecVal(to, _WORD), size, "memset", writes=True)
        byte = z3.simplify(z3.Extract(7, 0, bits(arguments[1], "memset").z))
        machine.defined(state, "what memset writes", arguments[1])
        for index in range(size):
            memory.put(to + index, cast(z3.BitVecRef, byte))
        self._written(_asks(machine), state, to)
        return arguments[0]

    def _copied(self, machine: Machine, state: State, arguments: list[Datum]) -> Datum:
        to, source, size = (bits(argument, "memcpy") for argument in arguments[:3])
        for each in (to, source, size):
            machine.defined(state, "what memcpy is given", each)
        exact = z3.simplify(to.z)
        if z3.is_bv_value(exact) and exact.as_long() < PAGES:
            self._copied_bytes(_asks(machine), state, exact.as_long(), source, size)
        else:
            self._copied_pages(machine, state, to.z, source.z, size.z)
        return arguments[0]

    def _copied_bytes(self, asks: Asks, state: State, to: int, source: Bits, size: Bits) -> None:
        memory, length = _bytes(state), _exact(size, "memcpy")
        (origin,) = memory.places(asks, state, source.z, length, "memcpy", writes=False)
        memory.places(asks, state, z3.BitVecVal(to, _WORD), length, "memcpy", writes=True)
        taken = [memory.held.get(origin + index) for index in range(length)]
        for index, held in enumerate(taken):
            memory.held.pop(to + index, None)
            if held is not None:
                memory.held[to + index] = held
        self._written(asks, state, to)

    def _copied_pages(
        self,
        machine: Machine,
        state: State,
        to: z3.BitVecRef,
        source: z3.BitVecRef,
        size: z3.BitVecRef,
    ) -> None:
        """A run of pages: which pages of which block, marked in ``copied``."""
        model = cast(Explorer, machine).example(state)
        assert model is not None, "a path that nothing takes"
        at = model.eval(to, model_completion=True).as_long()
        block = (at - _HOST) // _APART
        if not 0 <= block < len(self.system.blocks):
            block = 0  # and so it is refuted below
        first, pages = self.system.blocks[block]
        offset = z3.simplify(to - (_HOST + block * _APART))
        page, run = z3.UDiv(offset, PAGE_SIZE_), z3.UDiv(size, PAGE_SIZE_)
        inside = z3.And(
            offset & (PAGE_SIZE - 1) == 0, z3.ULT(page, pages), z3.ULE(run, pages - page)
        )
        machine.must(state, "what is copied goes to pages of one block", inside)
        machine.must(state, "pages are copied whole", size & (PAGE_SIZE - 1) == 0)
        machine.must(
            state,
            "a page is copied from its own place",
            source - (_CACHE + block * _APART) == offset,
        )
        marks = self._run(page + first, run)
        machine.must(state, "only dirty pages are copied", marks & ~self.dirty == 0)
        machine.must(state, "a call that must be refused copies nothing", z3.Not(self._stray))
        memory = _bytes(state)
        memory.copied = cast(z3.BitVecRef, z3.simplify(memory.copied | marks))

    def _run(self, first: z3.BitVecRef, count: z3.BitVecRef) -> z3.BitVecRef:
        """Bits from one on."""
        width = self._bits
        grow = partial(z3.ZeroExt, width - _WORD)
        ones = (z3.BitVecVal(1, width) << grow(count)) - 1
        every = z3.BitVecVal(-1, width)
        return z3.If(z3.UGE(count, width), every, ones) << grow(first)

    # The rules.

    def _written(self, asks: Asks, state: State, address: int) -> None:
        """After a store: is each page that is still to be copied marked, and no other?"""
        size = 8 * self.system.words
        if not any(
            first <= address < first + size for first in (self._cache_words, self._host_words)
        ):
            return
        marked = self._bitmap(state, self._cache_words) | self._bitmap(state, self._host_words)
        to_copy = self.dirty & ~_bytes(state).copied
        asks.must(
            state,
            "a page is marked until it has been copied",
            z3.Or(self._stray, to_copy & ~marked == 0),
        )
        asks.must(state, "no clean page is marked", marked & ~self.dirty == 0)

    def _returned(self, machine: Machine, state: State, status: Bits) -> None:
        memory = _bytes(state)
        cache, host = (self._bitmap(state, at) for at in (self._cache_words, self._host_words))
        count = memory.word(self._dirty_pages).z
        stats = [memory.word(self._stats + 8 * i).z for i in range(4)]
        unchanged = z3.And(
            *(cache == self.cache, host == self.host, count == self.count),
            *(after == before for after, before in zip(stats, self._before, strict=True)),
        )
        refused = z3.And(status.z == _REFUSED, unchanged)
        machine.must(
            state, "a stray bit is refused, and nothing changed", z3.Implies(self._stray, refused)
        )
        rest = self.count - population(self.cache)
        both = self.cache & self.host
        for name, goal in (
            ("every dirty page is copied", memory.copied == self.dirty),
            ("both bitmaps are cleared", z3.And(cache == 0, host == 0)),
            ("the dirty count falls by the cache bits", count == rest),
            (
                "the status says what is left of the dirty count",
                status.z == z3.If(rest == 0, z3.BitVecVal(0, 32), z3.BitVecVal(_MISCOUNTED, 32)),
            ),
            ("copied is right", stats[0] == population(self.dirty)),
            ("host_dirty is right", stats[1] == population(self.host)),
            ("cache_dirty is right", stats[2] == population(self.cache)),
            ("both_dirty is right", stats[3] == population(both)),
        ):
            machine.must(state, name, z3.Or(self._stray, goal))


PAGE_SIZE_ = z3.BitVecVal(PAGE_SIZE, _WORD)
_BYTES = tuple(z3.BitVecVal(value, 8) for value in range(256))


def _bytes(state: State) -> Bytes:
    assert isinstance(state.memory, Bytes)
    return state.memory


def _asks(machine: Machine) -> Asks:
    return cast(Asks, machine)


def _exact(value: Datum, what: str) -> int:
    number_ = z3.simplify(bits(value, what).z)
    if not z3.is_bv_value(number_):
        raise UnknownIR(
            f"{what} of a size or to a place that depends on the bitmaps is not known here"
        )
    return int(number_.as_long())
