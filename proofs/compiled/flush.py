"""The loops of ``impl/kernels/flush.py`` as numba makes them: what each copies, reads and returns.

As made, each loop of Python's is one loop, its variables have their names and a call is a call. A loop
is proved by an invariant at its header, over addresses in one form (a base and an offset), and ends
because its offset grows and is bounded.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import z3

from model import words
from model.boundary.docstring import docstring
from proofs.compiled import source
from proofs.compiled.ir import Instruction, Integer, Many, Pointer, Type, UnknownIR
from proofs.compiled.machine import Contract, Loop, Machine, State
from proofs.compiled.values import Bits, Datum, Line, Opaque, Slot, bits, number
from proofs.prover.obligation import CLAIMS, Claim, Control, Proof
from proofs.prover.symbolic import Natural, Truth, Word, implies, natural, trailing_zeros

KERNELS = "impl.kernels.flush."
#: numba names a variable after Python's, and numbers its lives in the order of Python's bytecode.
PYTHONS = ("3.11",)
WORD = z3.BitVecSort(64)
LINE = Many(64, Integer(8))
#: The byte at each address of what is copied from; nobody writes it meanwhile.
_byte = z3.Function("source_byte", WORD, z3.BitVecSort(8))


@dataclass
class Copied:
    """Memory of a copy: what the byte ``offset`` above ``to`` holds, for one offset that is any.

    Lines are read from ``length`` bytes at ``source`` and written to as many at ``to``, each to the
    place of the same offset; all else is out of bounds.
    """

    to: z3.BitVecRef
    source: z3.BitVecRef
    length: z3.BitVecRef
    offset: z3.BitVecRef
    held: z3.BitVecRef

    def copy(self) -> "Copied":
        return replace(self)

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        if what.type != LINE:
            raise UnknownIR(f"a load of {what.type} where lines are copied, in the LLVM IR")
        machine.must(state, "a line is read within the source", self._within(at.z - self.source))
        return Line(at.z)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        if not isinstance(value, Line):
            raise UnknownIR(f"a store of {what.type} where lines are copied, in the LLVM IR")
        place = z3.simplify(at.z - self.to)
        machine.must(state, "a line is written within the target", self._within(place))
        machine.must(state, "a line goes to its own place", value.source - self.source == place)
        byte = _byte(z3.simplify(value.source + self.offset - place))
        self.held = z3.If(z3.ULT(self.offset - place, 64), byte, self.held)

    def _within(self, offset: z3.BitVecRef) -> z3.BoolRef:
        return z3.And(z3.ULT(offset, self.length), z3.ULE(offset + 64, self.length))

    def so_far(self, done: z3.BitVecRef, before: z3.BitVecRef) -> z3.BoolRef:
        """``done`` bytes are copied, and all above is as it was."""
        copied = _byte(z3.simplify(self.source + self.offset))
        return self.held == z3.If(z3.ULT(self.offset, done), copied, before)


_cache_word, _host_word = (z3.Function(name, WORD, WORD) for name in ("cache_word", "host_word"))
STRIDE = 32


@dataclass(frozen=True)
class Bitmaps:
    """Two arrays of words that are only read, between a first word and an end."""

    cache: z3.BitVecRef
    host: z3.BitVecRef
    first: z3.BitVecRef
    end: z3.BitVecRef

    def copy(self) -> "Bitmaps":
        return self

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        number_of = {Integer(64): 1, Many(8, Integer(64)): 8}.get(what.type)
        for base, word in ((self.cache, _cache_word), (self.host, _host_word)):
            index = _index(at.z, base)
            if number_of is not None and index is not None:
                within = z3.And(z3.ULE(self.first, index), z3.ULT(index, self.end))
                last = z3.ULE(index + number_of, self.end)
                machine.must(state, "words are read within the range", z3.And(within, last))
                row = tuple(Bits(word(z3.simplify(index + lane))) for lane in range(number_of))
                return row if isinstance(what.type, Many) else row[0]
        raise UnknownIR(f"a load from neither bitmap, in the LLVM IR: {what.text}")

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        raise UnknownIR(f"a store where bitmaps are only read, in the LLVM IR: {what.text}")


def _index(address: z3.BitVecRef, base: z3.BitVecRef) -> z3.BitVecRef | None:
    """``k`` for the address ``base + 8 * k``, as it is written; None for any other."""
    offset = z3.simplify(address - base)
    parts = offset.children() if offset.decl().kind() == z3.Z3_OP_BADD else [offset]
    index = z3.BitVecVal(0, 64)
    for part in parts:
        if z3.is_bv_value(part) and part.as_long() % 8 == 0:
            index = index + part.as_long() // 8
        elif part.decl().kind() == z3.Z3_OP_BMUL and part.arg(0).eq(z3.BitVecVal(8, 64)):
            index = index + part.arg(1)
        else:
            return None
    return z3.simplify(index)


@dataclass
class Pages:
    """Memory of a block: the fields of tables, by address, and whether one page, any, has been copied.

    Page ``q`` of the block lies ``q * page_bytes`` above ``host`` and ``cache``; pages are copied whole,
    each to its own place.
    """

    fields: Mapping[str, z3.BitVecRef]
    host: z3.BitVecRef
    cache: z3.BitVecRef
    page_bytes: z3.BitVecRef
    used: z3.BitVecRef
    page: z3.BitVecRef
    copied: z3.BoolRef

    def copy(self) -> "Pages":
        return replace(self)

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        field_ = self.fields.get(z3.simplify(at.z).sexpr())
        if field_ is None or what.type != Integer(64):
            raise UnknownIR(f"a load that is no field of a table, in the LLVM IR: {what.text}")
        return Bits(field_)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        raise UnknownIR(f"a store where pages are copied, in the LLVM IR: {what.text}")

    def copy_page(self, machine: Machine, state: State, to: Bits, origin: Bits, size: Bits) -> None:
        page = self._page(to.z, self.host)
        machine.must(state, "a page of the block is copied", z3.ULT(page, self.used))
        machine.must(state, "it is copied whole", size.z == self.page_bytes)
        machine.must(
            state, "it is copied from its own place", self._page(origin.z, self.cache) == page
        )
        self.copied = z3.Or(self.copied, page == self.page)

    def _page(self, address: z3.BitVecRef, base: z3.BitVecRef) -> z3.BitVecRef:
        """``q`` for the address ``base + q * page_bytes``, as it is written."""
        parts = address.children()
        if len(parts) == 2 and parts[0].eq(base):
            place = parts[1].children()
            if len(place) == 2 and place[1].eq(self.page_bytes):
                return place[0]
        raise UnknownIR(f"a copy at {address}, which is no page's place")


def variable(machine: Machine, state: State, name: str) -> Slot:
    """The variable of the function that runs, by the name that numba gives it. Raises UnknownIR."""
    slot = Slot(f"{state.frame}:{name}")
    if slot.region not in machine.layouts:
        raise UnknownIR(f"there is no variable {name!r} in the LLVM IR")
    return slot


def held(machine: Machine, state: State, name: str) -> z3.BitVecRef:
    """What a variable holds."""
    return bits(state.slots[variable(machine, state, name)], name).z


Part = tuple[str, z3.BoolRef]


@dataclass(frozen=True)
class Counted(Loop):
    """A loop over a number that grows: ``reads`` it off the variables, ``writes`` sets them to it.

    ``holds`` is the invariant for a value of that number. A turn starts from any value that meets it.
    """

    name: str
    reads: Callable[[Machine, State], z3.BitVecRef]
    writes: Callable[[Machine, State, z3.BitVecRef], None]
    holds: Callable[[Machine, State, z3.BitVecRef], list[Part]]
    #: What follows from the invariant and is said once, so that the solver need not find it.
    follows: Callable[[z3.BitVecRef], list[Part]] = lambda now: []
    #: What is assumed of the number, at each turn: an instance of what the claim assumes of all.
    given: Callable[[z3.BitVecRef], z3.BoolRef] = lambda now: z3.BoolVal(True)
    #: The conditions of every path on which a turn begins: they must not contradict each other.
    begun: list[tuple[z3.BoolRef, ...]] = field(default_factory=list)

    def arrive(self, machine: Machine, state: State, again: bool) -> None:
        now = z3.simplify(self.reads(machine, state))
        for name, goal in self.holds(machine, state, now):
            machine.must(state, f"{name}, {'kept' if again else 'at the start'}", goal)
        if again:
            machine.must(state, f"{self.name} come to an end", z3.ULT(state.notes[self.name], now))

    def enter(self, machine: Machine, state: State) -> None:
        now = machine.fresh(WORD, self.name)
        self.writes(machine, state, now)
        if isinstance(state.memory, Copied):
            state.memory.held = machine.fresh(z3.BitVecSort(8), "held")
        state.path += [goal for _, goal in self.holds(machine, state, now)]
        state.path.append(self.given(now))
        for name, goal in self.follows(now):
            machine.must(state, name, goal)
            state.path.append(goal)
        state.notes[self.name] = now
        self.begun.append(tuple(state.path))


def _word(name: str) -> z3.BitVecRef:
    return z3.BitVec(name, 64)


@dataclass(frozen=True)
class Change:
    """One thing broken in a function's text: the first match of a pattern replaced."""

    name: str
    pattern: str
    new: str

    def made(self, text: str) -> str:
        """The text with that broken. Raises UnknownIR if there is no such thing in it."""
        broken, changed = re.subn(self.pattern, self.new, text, count=1)
        if not changed:
            raise UnknownIR(f"there is nothing to break by {self.name!r}, in the LLVM IR")
        return broken


def _run(
    p: Proof,
    name: str,
    arguments: list[z3.BitVecRef],
    loops: list[Counted],
    memory: Copied | Bitmaps | Pages | None,
    result: Type,
    after: Callable[[State], list[Part]],
    contracts: Mapping[str, Contract] | None = None,
) -> None:
    """State every obligation of a function; ``loops`` are its loops, the outer one first."""
    kernels = source.kernels()
    if kernels.python not in PYTHONS:
        raise UnknownIR(f"what numba names the variables of a loop under Python {kernels.python}")
    symbol = kernels.symbol(KERNELS + name)
    texts = dict(kernels.texts[source.AS_MADE])
    for change in CHANGES.get(name, ()):
        if p.mutant == change.name:
            texts[symbol] = change.made(texts[symbol])
    headers = Machine(texts).function(symbol).loops
    if len(headers) != len(loops):
        raise UnknownIR(f"{name} has {len(headers)} loops, and not {len(loops)}, in the LLVM IR")
    by_size = sorted(headers, key=lambda header: len(headers[header]), reverse=True)
    known = {(symbol, header): loop for header, loop in zip(by_size, loops, strict=True)}
    machine = Machine(texts, contracts, known)
    places: list[Datum] = [machine.place("result", result), machine.place("exception", Pointer())]
    start = State(slots={Slot("exception"): Opaque()}, memory=memory)
    ends = 0
    for state, code in machine.run(symbol, [*places, *map(Bits, arguments)], start):
        ends += 1
        machine.must(state, "no exception is raised", bits(code, name).z == 0)
        for what, goal in after(state):
            machine.must(state, what, goal)
    if not ends:
        raise UnknownIR(f"{name} never returns, in the LLVM IR")
    for loop in loops:
        for path in loop.begun:
            p.possible(f"there are {loop.name}", *map(Truth, path))
    for o in machine.obligations:
        p.prove(o.name, Truth(z3.Implies(z3.And(*o.path), o.goal)), keep=False)
    p.compiled = True


def _stream(p: Proof) -> None:
    """stream, compiled, copies whole lines from one place to another, and nothing else."""
    to, origin, length, memory = _copy(p)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        state.slots[variable(machine, state, "to.2")] = Bits(to + done)
        state.slots[variable(machine, state, "source.2")] = Bits(origin + done)
        state.slots[variable(machine, state, "end")] = Bits(to + length)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        return [
            ("both advance together", held(machine, state, "source.2") == origin + done),
            ("the end stays", held(machine, state, "end") == to + length),
            ("whole lines are done", done & 63 == 0),
            ("there is more to do", z3.ULT(done, length)),
            ("so much is copied", _memory(state).so_far(done, memory.held)),
        ]

    loop = Counted("bytes done", lambda m, s: held(m, s, "to.2") - to, writes, holds)
    _run(
        p,
        "stream",
        [to, origin, length],
        [loop],
        memory,
        Pointer(),
        lambda state: [("all is copied", _memory(state).so_far(length, memory.held))],
    )


def _memory(state: State) -> Copied:
    if not isinstance(state.memory, Copied):
        raise UnknownIR("no memory")
    return state.memory


def _copy(p: Proof) -> tuple[z3.BitVecRef, z3.BitVecRef, z3.BitVecRef, Copied]:
    to, origin, length, offset = (_word(name) for name in ("to", "source", "length", "offset"))
    p.assume("whole lines, the target aligned", Truth(to & 63 == 0), Truth(length & 63 == 0))
    p.assume("it ends below 2^57", Truth(z3.ULT(to, 2**56)), Truth(z3.ULT(length, 2**56)))
    before = z3.BitVec("before", 8)
    return to, origin, length, Copied(to, origin, length, offset, before)


def _stream_fetching(p: Proof) -> None:
    """stream_fetching, compiled, copies whole lines from one place to another, and nothing else."""
    to, origin, length, memory = _copy(p)
    lines = z3.LShR(length, 6)

    def iterator(state: State) -> tuple[str, Slot, Slot]:
        """numba's iterator over a range: its variable, the next value's, that of how many are left."""
        for place, following in state.slots.items():
            left = state.slots.get(replace(place, offset=24))
            in_this = place.region.startswith(f"{state.frame}:$phi") and place.offset == 0
            if in_this and isinstance(following, Slot) and isinstance(left, Slot):
                return place.region, following, left
        raise UnknownIR("there is no iterator over a range in the LLVM IR")

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        _, _, left = iterator(state)
        return lines - bits(state.slots[left], "how many lines are left").z

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        region, following, left = iterator(state)
        state.slots[following] = Bits(64 * done)
        state.slots[left] = Bits(lines - done)
        state.slots[Slot(region, 16)] = number(64)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        region, following, _ = iterator(state)
        return [
            ("line by line", bits(state.slots[following], "the next line").z == 64 * done),
            ("the step stays", bits(state.slots[Slot(region, 16)], "the step").z == 64),
            ("there are no more lines than all", z3.ULE(done, lines)),
            ("so much is copied", _memory(state).so_far(64 * done, memory.held)),
        ]

    _run(
        p,
        "stream_fetching",
        [to, origin, length, _word("soon")],
        [Counted("lines done", reads, writes, holds)],
        memory,
        Pointer(),
        lambda state: [("all is copied", _memory(state).so_far(length, memory.held))],
    )


def _fetch(p: Proof) -> None:
    """fetch, compiled, comes to an end and touches nothing."""
    address = _word("address")

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        state.slots[variable(machine, state, "address.2")] = Bits(address + done)
        state.slots[variable(machine, state, "end")] = Bits(address + 512)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        return [
            ("the end stays", held(machine, state, "end") == address + 512),
            ("there is more to do", z3.And(z3.ULT(done, 512), done & 63 == 0)),
        ]

    loop = Counted("bytes fetched", lambda m, s: held(m, s, "address.2") - address, writes, holds)
    _run(p, "fetch", [address], [loop], None, Pointer(), lambda state: [])


def _next_dirty_word(p: Proof) -> None:
    """next_dirty_word, compiled, finds the first word with a bit set in either bitmap, or the end."""
    bases = cache, host = _word("cache_bitmap"), _word("host_bitmap")
    first, end, any_word = _word("word"), _word("end"), _word("any_word")
    p.assume("bitmaps lie below 2^57", *(Truth(z3.ULT(base, 2**56)) for base in bases))
    p.assume("they are aligned", *(Truth(base & 7 == 0) for base in bases))
    p.assume("they have fewer than 2^46 words", Truth(z3.ULT(end, 2**46)))
    bitmaps = Bitmaps(cache, host, first, end)
    either = p.lift_words(words.either)

    def dirty(word: z3.BitVecRef) -> z3.BoolRef:
        found: z3.BitVecRef = either(Word(_cache_word(word)), Word(_host_word(word))).z
        return found != 0

    def clean_below(word: z3.BitVecRef) -> z3.BoolRef:
        passed = z3.And(z3.ULE(first, any_word), z3.ULT(any_word, word))
        return z3.Implies(passed, z3.Not(dirty(any_word)))

    def at_a_word(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        return [
            ("it is one of the words", z3.And(z3.ULE(first, word), z3.ULT(word, end))),
            ("only clean words are passed", clean_below(word)),
        ]

    def at_a_stride(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        within = z3.And(z3.ULE(first, word), z3.ULT(word, end), z3.ULE(word + STRIDE, end))
        all_clean = z3.And(*(z3.Not(dirty(z3.simplify(word + lane))) for lane in range(STRIDE)))
        return [
            ("it is a stride of the words", within),
            ("it is past the word before", z3.ULT(state.notes["words"], word)),
            ("only clean words are before it", clean_below(word)),
            ("every word of it is clean", all_clean),
        ]

    def one_of_a_stride(word: z3.BitVecRef) -> list[Part]:
        """That of the stride's words each is clean, said of the one word that is any, lane by lane."""
        lane, clean = any_word - word, z3.Not(dirty(any_word))
        each = [z3.Implies(lane == here, clean) for here in range(STRIDE)]
        some = z3.Or(z3.UGE(lane, STRIDE), *(lane == here for here in range(STRIDE)))
        whole = z3.Implies(z3.ULT(lane, STRIDE), clean)
        return [("a lane of a stride is clean", fact) for fact in (*each, some, whole)]

    def set_to(name: str) -> Callable[[Machine, State, z3.BitVecRef], None]:
        def writes(machine: Machine, state: State, word: z3.BitVecRef) -> None:
            state.slots[variable(machine, state, name)] = Bits(word)

        return writes

    def after(state: State) -> list[Part]:
        found = bits(state.slots[Slot("result")], "the result").z
        inside = z3.And(z3.ULE(first, found), z3.ULE(found, end))
        return [
            ("nothing to search: the end", z3.Implies(z3.UGE(first, end), found == end)),
            ("it is a word, or the end", z3.Implies(z3.ULT(first, end), inside)),
            ("it is dirty, unless it is the end", z3.Or(found == end, dirty(found))),
            ("all before are clean", clean_below(found)),
        ]

    words_ = Counted("words", lambda m, s: held(m, s, "word.3"), set_to("word.3"), at_a_word)
    strides = Counted(
        "strides", lambda m, s: held(m, s, "word.5"), set_to("word.5"), at_a_stride, one_of_a_stride
    )
    arguments = [cache, host, first, end]
    _run(p, "next_dirty_word", arguments, [words_, strides], bitmaps, Integer(64), after)


def _copy_pages(p: Proof) -> None:
    """copy_pages, compiled, copies the dirty pages of a word, each whole and to its own place, no others.

    For every page size that is a multiple of 64 bytes, and every way of copying.
    """
    job, row, word, dirty, ahead = (_word(n) for n in ("job", "row", "word", "dirty", "ahead"))
    first, used, host, cache = (_word(n) for n in ("first_bit", "used", "host", "cache"))
    lines, copying, page = _word("lines_of_a_page"), _word("copying"), _word("page")
    page_bytes = _word("page_bytes")
    p.assume("tables are aligned", Truth(job & 7 == 0), Truth(row & 7 == 0))
    p.assume("a page is whole lines", Truth(page_bytes == 64 * lines), Truth(z3.ULT(lines, 2**32)))
    p.assume("a block has fewer than 2^52 pages", Truth(z3.ULT(used, 2**52)))
    p.assume("it begins below bit 2^52", Truth(z3.ULT(first, 2**52)), Truth(z3.ULT(word, 2**46)))
    p.assume("a page of it", Truth(z3.ULT(page, used)))
    p.assume(
        "the word's dirty pages are the block's"
    )  # said of each as it is copied (``of_block``)
    p.assume("tables and pages lie apart")  # what is copied changes no field
    p.lemma("pages lie end to end", _end_to_end, *(natural(0) for _ in range(3)))
    places = {job: page_bytes, job + 64: copying, row: first, row + 16: host, row + 24: cache}
    fields = {z3.simplify(place).sexpr(): value for place, value in places.items()}
    memory = Pages(fields, host, cache, page_bytes, used, page, z3.BoolVal(False))
    bit = first + page

    def of_word(bits_: z3.BitVecRef) -> z3.BoolRef:
        set_ = z3.Extract(0, 0, z3.LShR(bits_, bit & 63)) == 1
        return z3.And(z3.LShR(bit, 6) == word, set_)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        state.slots[variable(machine, state, "dirty.2")] = Bits(~done)
        if isinstance(state.memory, Pages):
            state.memory.copied = of_word(dirty & done)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        if not isinstance(state.memory, Pages):
            raise UnknownIR("no memory")
        return [
            ("there are pages to copy", ~done != 0),
            ("they are of the word", ~done & ~dirty == 0),
            ("the pages done are copied, no others", state.memory.copied == of_word(dirty & done)),
        ]

    def of_block(done: z3.BitVecRef) -> z3.BoolRef:
        lowest = trailing_zeros(Word(~done)).z
        here = word * 64 + lowest
        return z3.And(z3.ULE(first, here), z3.ULT(here, first + used))

    def whole(machine: Machine, state: State, values: list[Datum]) -> Datum:
        to, origin, size = (
            bits(machine.defined(state, "an argument", v), "stream") for v in values[2:5]
        )
        machine.must(state, "streaming goes to aligned places", to.z & 63 == 0)
        _pages(state).copy_page(machine, state, to, origin, size)
        return number(0, 32)

    def ordinary(machine: Machine, state: State, values: list[Datum]) -> Datum:
        to, origin, size = (
            bits(machine.defined(state, "an argument", v), "memcpy") for v in values
        )
        _pages(state).copy_page(machine, state, to, origin, size)
        return Opaque()

    kernels = source.kernels()
    contracts: dict[str, Contract] = {
        kernels.symbol(f"{KERNELS}stream"): whole,
        kernels.symbol(f"{KERNELS}stream_fetching"): whole,
        kernels.symbol(f"{KERNELS}fetch"): lambda machine, state, values: number(0, 32),
        "memcpy": ordinary,
    }
    loop = Counted("pages done", lambda m, s: ~held(m, s, "dirty.2"), writes, holds, given=of_block)
    _run(
        p,
        "copy_pages",
        [job, row, word, dirty, ahead],
        [loop],
        memory,
        Pointer(),
        lambda state: [
            ("the dirty pages are copied, no others", _pages(state).copied == of_word(dirty))
        ],
        contracts,
    )


def _end_to_end(page: Natural, other: Natural, page_bytes: Natural) -> Truth:
    """A page ends where a later one, or the block, begins or before that: in numbers without end."""
    return implies(
        (page >= 0) & (page < other) & (page_bytes >= 0),
        page * page_bytes + page_bytes <= other * page_bytes,
    )


def _pages(state: State) -> Pages:
    if not isinstance(state.memory, Pages):
        raise UnknownIR("no memory")
    return state.memory


#: What must be refused: a function by its name, and one thing broken in it.
CHANGES = {
    "stream": (
        Change(
            "a line past the end",
            r"(icmp ult[\s\S]*?)icmp ult",
            r"\1icmp ule",
        ),
        Change("every other line is left out", r"(add i64 %\S+), 64", r"\1, 128"),
    ),
    "stream_fetching": (
        Change("a line is left out", r"sub nsw (i64 %\S+), 1", r"sub nsw \1, 2"),
        Change(
            "a line is stored elsewhere",
            r"load i64, ptr %to, align 8(\n  %\S+ = add i64 %\S+, %)",
            r"load i64, ptr %source, align 8\1",
        ),
    ),
    "fetch": (Change("goes nowhere", r"(add i64 %\S+), 64", r"\1, 0"),),
    "next_dirty_word": (
        Change(
            "the stride is a word too long",
            r"(load i64, ptr %word.5, align 8\n  %\S+ = add i64 %\S+), 32",
            r"\1, 33",
        ),
        Change(
            "one half of a stride is not looked at",
            r"or (<8 x i64> %\S+), %\S+(\n  %\S+ = call)",
            r"or \1, zeroinitializer\2",
        ),
    ),
    "copy_pages": (
        Change("half a word's pages", r"(mul i64 %\S+), 64", r"\1, 32"),
        Change("streams to any place", r"(and i64 %\S+, 63\n  %\S+ = icmp) eq", r"\1 ne"),
    ),
}
#: The obligation at which each must be refused.
REFUTED = {
    "a line past the end": "there is more to do, kept",
    "half a word's pages": "a page of the block is copied",
    "streams to any place": "streaming goes to aligned places",
    "every other line is left out": "both advance together, kept",
    "a line is left out": "line by line, kept",
    "a line is stored elsewhere": "an address is a multiple of 64",
    "goes nowhere": "bytes fetched come to an end",
    "the stride is a word too long": "only clean words are before it, kept",
    "one half of a stride is not looked at": "every word of it is clean, at the start",
}


def _claim(name: str, state: Callable[[Proof], None]) -> Claim:
    controls = tuple(
        Control(change.name, refutes=REFUTED[change.name], mutant=change.name)
        for change in CHANGES[name]
    )
    return Claim(f"compiled.flush.{name}", docstring(state), state, controls, slow=True)


for _claimed in (
    _claim("stream", _stream),
    _claim("stream_fetching", _stream_fetching),
    _claim("fetch", _fetch),
    _claim("next_dirty_word", _next_dirty_word),
    _claim("copy_pages", _copy_pages),
):
    CLAIMS[_claimed.name] = _claimed
