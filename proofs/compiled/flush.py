"""The loops of ``impl/kernels/flush.py`` that copy and search: what each copies, reads and returns.

Addresses have one form, a base and an offset. ``window.py`` and ``ranges.py`` have the loops around them.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import z3

from model import words, worker
from proofs.compiled.ir import Instruction, Integer, Many, Pointer, UnknownIR
from proofs.compiled.loops import (
    WORD,
    Change,
    Counted,
    Part,
    a_word,
    claim,
    held,
    hold,
    memory_of,
    over_range,
    results,
    run,
    symbol,
)
from proofs.compiled.machine import Contract, Machine, State
from proofs.compiled.values import Bits, Datum, Line, Opaque, bits, number
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Natural, Truth, Word, Words, implies, natural, trailing_zeros

KERNELS = "impl.kernels.flush."
#: The model's memory and its worker, over terms.
Running = tuple[worker.MemoryOf[Words], worker.WorkerOf[Word]]
LINE = Many(64, Integer(8))
BYTE = z3.BitVecSort(8)
#: The byte at each address of what is copied from; nobody writes it meanwhile.
_byte = z3.Function("source_byte", WORD, BYTE)


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


cache_word, host_word = (z3.Function(name, WORD, WORD) for name in ("cache_word", "host_word"))
#: Of each number of a word something that no clean word changes: a count of what lies below it.
_kept = z3.Function("kept", WORD, WORD)
STRIDE = 32


def is_dirty(p: Proof, cache: z3.BitVecRef, host: z3.BitVecRef) -> z3.BoolRef:
    """Is a bit set in either of two words?"""
    found: z3.BitVecRef = p.lift_words(words.either)(Word(cache), Word(host)).z
    return found != 0


def first_dirty_word(
    first: z3.BitVecRef,
    end: z3.BitVecRef,
    found: z3.BitVecRef,
    any_word: z3.BitVecRef,
    dirty: Callable[[z3.BitVecRef], z3.BoolRef],
    *kept: Callable[[z3.BitVecRef], z3.ExprRef],
) -> list[Part]:
    """What next_dirty_word finds: what its claim shows, and what whoever calls it may use.

    ``kept`` are functions that have the same value for a clean word and for the next one.
    """
    inside = z3.And(z3.ULE(first, found), z3.ULE(found, end))
    passed = z3.And(z3.ULE(first, any_word), z3.ULT(any_word, found))
    same = z3.And(*(of(found) == of(first) for of in kept))
    return [
        ("nothing to search: the end", z3.Implies(z3.UGE(first, end), found == end)),
        ("it is a word, or the end", z3.Implies(z3.ULT(first, end), inside)),
        ("it is dirty, unless it is the end", z3.Or(found == end, dirty(found))),
        ("all before are clean", z3.Implies(passed, z3.Not(dirty(any_word)))),
        ("what they leave as it is, is", z3.Implies(z3.ULE(first, end), same)),
    ]


def can_be_searched(first: z3.BitVecRef, end: z3.BitVecRef) -> z3.BoolRef:
    """What the claim of next_dirty_word assumes of where a search begins and ends."""
    return z3.And(z3.ULE(first, 2**46), z3.ULT(end, 2**46))


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
        number_of = (
            {Integer(64): 1, Many(STRIDE, Integer(64)): STRIDE}.get(what.type)
            if what.align == 8
            else None
        )
        for base, word in ((self.cache, cache_word), (self.host, host_word)):
            index = index_of(at.z, base)
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


def index_of(address: z3.BitVecRef, base: z3.BitVecRef) -> z3.BitVecRef | None:
    """``k`` for the address ``base + 8 * k``; None for one of another base.

    (That it is a multiple of 8 is stated of every access to a word.)
    """
    offset = z3.simplify(address - base)
    index = multiple_of(8, offset)
    return index if index is not None or mentions(offset, base) else z3.LShR(offset, 3)


def multiple_of(size: int, term: z3.BitVecRef) -> z3.BitVecRef | None:
    """``k`` for ``size * k``, as it is written; None for any other."""
    parts = term.children() if term.decl().kind() == z3.Z3_OP_BADD else [term]
    index = z3.BitVecVal(0, 64)
    for part in parts:
        if z3.is_bv_value(part) and part.as_long() % size == 0:
            index = index + part.as_long() // size
        elif part.decl().kind() == z3.Z3_OP_BMUL and part.arg(0).eq(z3.BitVecVal(size, 64)):
            index = index + part.arg(1)
        else:
            return None
    return z3.simplify(index)


def mentions(term: z3.ExprRef, variable: z3.ExprRef) -> bool:
    """Does a variable stand in a term?"""
    return term.eq(variable) or any(mentions(part, variable) for part in term.children())


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
        begins, page = page_at(address, self.page_bytes)
        if not begins.eq(base):
            raise UnknownIR(f"a copy at {address}, which is no page's place")
        return page


def page_at(address: z3.BitVecRef, page_bytes: z3.BitVecRef) -> tuple[z3.BitVecRef, z3.BitVecRef]:
    """``base`` and ``q`` for the address ``base + q * page_bytes``, as it is written."""
    parts = address.children()
    if len(parts) == 2 and address.decl().kind() == z3.Z3_OP_BADD:
        return parts[0], pages_in(parts[1], page_bytes)
    raise UnknownIR(f"a copy at {address}, which is no page's place")


def pages_in(length: z3.BitVecRef, page_bytes: z3.BitVecRef) -> z3.BitVecRef:
    """``n`` for ``n * page_bytes``, as it is written."""
    parts = length.children()
    if len(parts) == 2 and length.decl().kind() == z3.Z3_OP_BMUL and parts[1].eq(page_bytes):
        return parts[0]
    raise UnknownIR(f"{length} bytes, which are no number of pages")


def _stream(p: Proof) -> None:
    """stream, compiled, copies whole lines from one place to another, and nothing else."""
    to, origin, length, memory = _copy(p)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, to__2=to + done, source__2=origin + done, end=to + length)
        memory_of(state, Copied).held = machine.fresh(BYTE, "held")

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        return [
            ("both advance together", held(machine, state, "source.2") == origin + done),
            ("the end stays", held(machine, state, "end") == to + length),
            ("whole lines are done", done & 63 == 0),
            ("there is more to do", z3.ULT(done, length)),
            ("so much is copied", memory_of(state, Copied).so_far(done, memory.held)),
        ]

    loop = Counted("bytes done", lambda m, s: held(m, s, "to.2") - to, writes, holds)
    run(
        p,
        KERNELS + "stream",
        [to, origin, length],
        [loop],
        memory,
        Pointer(),
        lambda state: [("all is copied", memory_of(state, Copied).so_far(length, memory.held))],
    )


def _copy(p: Proof) -> tuple[z3.BitVecRef, z3.BitVecRef, z3.BitVecRef, Copied]:
    to, origin, length, offset = (a_word(name) for name in ("to", "source", "length", "offset"))
    p.assume("whole lines, the target aligned", Truth(to & 63 == 0), Truth(length & 63 == 0))
    p.assume("it ends below 2^57", Truth(z3.ULT(to, 2**56)), Truth(z3.ULT(length, 2**56)))
    before = z3.BitVec("before", 8)
    return to, origin, length, Copied(to, origin, length, offset, before)


def _stream_fetching(p: Proof) -> None:
    """stream_fetching, compiled, copies whole lines from one place to another, and nothing else."""
    to, origin, length, memory = _copy(p)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        memory_of(state, Copied).held = machine.fresh(BYTE, "held")

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        so_far = memory_of(state, Copied).so_far(64 * done, memory.held)
        return [("so much is copied", so_far)]

    loop = over_range("lines done", lambda _: z3.LShR(length, 6), writes, holds, step=64)
    run(
        p,
        KERNELS + "stream_fetching",
        [to, origin, length, a_word("soon")],
        [loop],
        memory,
        Pointer(),
        lambda state: [("all is copied", memory_of(state, Copied).so_far(length, memory.held))],
    )


def _fetch(p: Proof) -> None:
    """fetch, compiled, comes to an end and touches nothing."""
    address = a_word("address")

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, address__2=address + done, end=address + 512)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        return [
            ("the end stays", held(machine, state, "end") == address + 512),
            ("there is more to do", z3.And(z3.ULT(done, 512), done & 63 == 0)),
        ]

    loop = Counted("bytes fetched", lambda m, s: held(m, s, "address.2") - address, writes, holds)
    run(p, KERNELS + "fetch", [address], [loop], None, Pointer(), lambda state: [])


def _next_dirty_word(p: Proof) -> None:
    """next_dirty_word, compiled, finds the first word with a bit set in either bitmap, or the end."""
    bases = cache, host = a_word("cache_bitmap"), a_word("host_bitmap")
    first, end, any_word = a_word("word"), a_word("end"), a_word("any_word")
    p.assume("bitmaps lie below 2^57", *(Truth(z3.ULT(base, 2**56)) for base in bases))
    p.assume("they are aligned", *(Truth(base & 7 == 0) for base in bases))
    p.assume("they have fewer than 2^46 words", Truth(z3.ULT(end, 2**46)))
    p.assume("they are searched from below 2^46", Truth(z3.ULE(first, 2**46)))
    p.assume("what a clean word leaves as it is")  # said of each that is passed (``kept_by``)
    bitmaps = Bitmaps(cache, host, first, end)

    def dirty(word: z3.BitVecRef) -> z3.BoolRef:
        return is_dirty(p, cache_word(word), host_word(word))

    def kept_by(word: z3.BitVecRef) -> z3.BoolRef:
        return z3.Implies(z3.Not(dirty(word)), _kept(z3.simplify(word + 1)) == _kept(word))

    def kept_by_a_stride(word: z3.BitVecRef) -> z3.BoolRef:
        return z3.And(*(kept_by(z3.simplify(word + lane)) for lane in range(STRIDE)))

    def clean_below(word: z3.BitVecRef) -> z3.BoolRef:
        passed = z3.And(z3.ULE(first, any_word), z3.ULT(any_word, word))
        return z3.Implies(passed, z3.Not(dirty(any_word)))

    def at_a_word(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        return [
            ("it is one of the words", z3.And(z3.ULE(first, word), z3.ULT(word, end))),
            ("only clean words are passed", clean_below(word)),
            ("what they leave as it is, is", _kept(word) == _kept(first)),
        ]

    def at_a_stride(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        within = z3.And(z3.ULE(first, word), z3.ULT(word, end), z3.ULE(word + STRIDE, end))
        return [
            ("it is a stride of the words", within),
            ("only clean words are before it", clean_below(word)),
            ("what they leave as it is, is", _kept(word) == _kept(first)),
        ]

    def one_of_a_stride(word: z3.BitVecRef) -> list[Part]:
        """That a word of the stride is in one of its lanes, said of the one word that is any."""
        lane = any_word - word
        each = [
            z3.Implies(lane == here, dirty(any_word) == dirty(z3.simplify(word + here)))
            for here in range(STRIDE)
        ]
        some = z3.Or(z3.UGE(lane, STRIDE), *(lane == here for here in range(STRIDE)))
        return [("a word of a stride is in one of its lanes", fact) for fact in (*each, some)]

    def set_to(name: str) -> Callable[[Machine, State, z3.BitVecRef], None]:
        return lambda machine, state, word: hold(machine, state, **{name: word})

    def after(state: State) -> Iterator[Part]:
        (found,) = results(state, 1)
        stride = None if "words" in state.notes else state.notes.get("strides")
        if stride is not None and not found.eq(end):
            for fact in by_lane(stride, found):
                yield "the first lane that is dirty is found", fact
                state.path.append(fact)
        yield from first_dirty_word(first, end, found, any_word, dirty, _kept)

    def by_lane(word: z3.BitVecRef, found: z3.BitVecRef) -> Iterator[z3.BoolRef]:
        """What is found in the stride at ``word``, lane by lane: so the solver need not try them all."""
        lanes = [z3.simplify(word + here) for here in range(STRIDE)]
        for here, lane in enumerate(lanes):
            behind = z3.Or(z3.UGE(any_word, found), z3.Not(dirty(any_word)))
            yield z3.Implies(any_word - word == here, behind)
            clean = (z3.Not(dirty(before)) for before in lanes[:here])
            yield z3.Implies(found == lane, z3.And(dirty(found), *clean))
            yield z3.Implies(found == lane, _kept(found) == _kept(word))
        yield z3.Or(*(found == lane for lane in lanes))
        yield z3.And(z3.ULE(word, found), z3.ULT(found, word + STRIDE))
        beyond = z3.Or(z3.ULT(any_word, word), z3.UGE(any_word, found))
        yield z3.Or(beyond, z3.ULT(any_word - word, STRIDE))

    words_ = Counted(
        "words",
        lambda m, s: held(m, s, "word.5"),
        set_to("word__5"),
        at_a_word,
        given=kept_by,
    )
    strides = Counted(
        "strides",
        lambda m, s: held(m, s, "word.3"),
        set_to("word__3"),
        at_a_stride,
        one_of_a_stride,
        given=kept_by_a_stride,
    )
    arguments = [cache, host, first, end]
    run(p, KERNELS + "next_dirty_word", arguments, [words_, strides], bitmaps, Integer(64), after)


def _copy_pages(p: Proof) -> None:
    """copy_pages, compiled, copies the dirty pages of a word, each whole and to its own place, no others.

    For every page size that is a multiple of 64 bytes, and every way of copying.
    """
    job, row, word, dirty, ahead = (a_word(n) for n in ("job", "row", "word", "dirty", "ahead"))
    first, used, host, cache = (a_word(n) for n in ("first_bit", "used", "host", "cache"))
    lines, copying, page = a_word("lines_of_a_page"), a_word("copying"), a_word("page")
    page_bytes = a_word("page_bytes")
    p.assume("tables are aligned", Truth(job & 7 == 0), Truth(row & 7 == 0))
    p.assume("a page is whole lines", Truth(page_bytes == 64 * lines), Truth(z3.ULT(lines, 2**32)))
    p.assume("a block has fewer than 2^52 pages", Truth(z3.ULT(used, 2**52)))
    p.assume("it begins below bit 2^52", Truth(z3.ULT(first, 2**52)), Truth(z3.ULT(word, 2**46)))
    p.assume("a page of it", Truth(z3.ULT(page, used)))
    p.assume(
        "the word's dirty pages are the block's"
    )  # said of each as it is copied (``lowest_is_in_block``)
    p.assume("tables and pages lie apart")  # what is copied changes no field
    p.lemma("pages lie end to end", end_to_end, *(natural(0) for _ in range(3)))
    places = {job: page_bytes, job + 64: copying, row: first, row + 16: host, row + 24: cache}
    fields = {z3.simplify(place).sexpr(): value for place, value in places.items()}
    memory = Pages(fields, host, cache, page_bytes, used, page, z3.BoolVal(False))
    bit = first + page

    def of_word(pages: z3.BitVecRef) -> z3.BoolRef:
        return is_page_of(word, pages, bit)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, dirty__2=~done)
        memory_of(state, Pages).copied = of_word(dirty & done)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        copied = memory_of(state, Pages).copied
        return [
            ("there are pages to copy", ~done != 0),
            ("they are of the word", ~done & ~dirty == 0),
            ("the pages done are copied, no others", copied == of_word(dirty & done)),
        ]

    def lowest_is_in_block(done: z3.BitVecRef) -> z3.BoolRef:
        lowest = trailing_zeros(Word(~done)).z
        return is_of_block(word * 64 + lowest, first, used)

    step = p.lift_words(worker.step)

    @functools.cache
    def stepped(before: z3.BitVecRef) -> Running:
        after: Running = step(*copying_worker(p, word, dirty, before))
        return after

    def as_the_model(_: State, before: z3.BitVecRef, now: z3.BitVecRef) -> list[Part]:
        """A turn is a step of the model's worker, which stands at COPY."""
        memory, me = stepped(before)
        return [
            ("a turn is the model's step", me.to_copy.z == ~now),
            ("it copies the same page", memory.copied[Word(word)].z == dirty & now),
            ("when all is copied it stores", me.step.z == word_to_copy(~now)),
        ]

    def whole(machine: Machine, state: State, values: list[Datum]) -> Datum:
        to, origin, size = (
            bits(machine.defined(state, "an argument", v), "stream") for v in values[2:5]
        )
        machine.must(state, "streaming goes to aligned places", to.z & 63 == 0)
        memory_of(state, Pages).copy_page(machine, state, to, origin, size)
        return number(0, 32)

    def ordinary(machine: Machine, state: State, values: list[Datum]) -> Datum:
        to, origin, size = (
            bits(machine.defined(state, "an argument", v), "memcpy") for v in values
        )
        memory_of(state, Pages).copy_page(machine, state, to, origin, size)
        return Opaque()

    contracts: dict[str, Contract] = {
        symbol(KERNELS + "stream"): whole,
        symbol(KERNELS + "stream_fetching"): whole,
        symbol(KERNELS + "fetch"): lambda machine, state, values: number(0, 32),
        "memcpy": ordinary,
    }
    loop = Counted(
        "pages done",
        lambda m, s: ~held(m, s, "dirty.2"),
        writes,
        holds,
        given=lowest_is_in_block,
        turn=as_the_model,
    )
    run(
        p,
        KERNELS + "copy_pages",
        [job, row, word, dirty, ahead],
        [loop],
        memory,
        Pointer(),
        lambda state: [
            (
                "the dirty pages are copied, no others",
                memory_of(state, Pages).copied == of_word(dirty),
            )
        ],
        contracts,
    )


def is_set(word: z3.BitVecRef, bit: z3.BitVecRef) -> z3.BoolRef:
    """Is a bit of the bitmaps set in the word that has it?"""
    return z3.Extract(0, 0, z3.LShR(word, bit & 63)) == 1


def is_page_of(word: z3.BitVecRef, pages: z3.BitVecRef, bit: z3.BitVecRef) -> z3.BoolRef:
    """Is a bit of the bitmaps one of these pages of a word?"""
    return z3.And(z3.LShR(bit, 6) == word, is_set(pages, bit))


def is_of_block(bit: z3.BitVecRef, first: z3.BitVecRef, used: z3.BitVecRef) -> z3.BoolRef:
    """Is it the bit of one of a block's used pages?"""
    return z3.And(z3.ULE(first, bit), z3.ULT(bit, first + used))


COPY, STORE_CACHE = (z3.BitVecVal(step, 64) for step in (worker.COPY, worker.STORE_CACHE))


def word_to_copy(pages: z3.BitVecRef) -> z3.BitVecRef:
    """Where the model's worker stands with these pages of a word to copy."""
    return z3.If(pages == 0, STORE_CACHE, COPY)


def copying_worker(
    p: Proof, word: z3.BitVecRef, dirty: z3.BitVecRef, done: z3.BitVecRef
) -> Running:
    """The model's worker in the midst of a word, and a memory in which it has copied so much."""
    cache, host, copied = p.word_arrays("model_cache model_host model_copied")
    copied = Words(z3.Store(copied.z, word, dirty & done))
    others = (Word(a_word(f"model_{name}")) for name in worker.WorkerOf._fields)
    me = worker.WorkerOf(*others)._replace(step=Word(COPY), word=Word(word), to_copy=Word(~done))
    return worker.MemoryOf(cache, host, copied), me


def end_to_end(page: Natural, other: Natural, page_bytes: Natural) -> Truth:
    """A page ends where a later one, or the block, begins or before that: in numbers without end."""
    return implies(
        (page >= 0) & (page < other) & (page_bytes >= 0),
        page * page_bytes + page_bytes <= other * page_bytes,
    )


claim(
    "flush.stream",
    _stream,
    Change(
        "a line past the end",
        r"(icmp ult[\s\S]*?)icmp ult",
        r"\1icmp ule",
        "there is more to do, kept",
    ),
    Change(
        "every other line is left out",
        r"(add i64 %\S+), 64",
        r"\1, 128",
        "both advance together, kept",
    ),
)
claim(
    "flush.stream_fetching",
    _stream_fetching,
    Change(
        "a line is left out",
        r"sub nsw (i64 %\S+), 1",
        r"sub nsw \1, 2",
        "one after the other, kept",
    ),
    Change(
        "a line is stored elsewhere",
        r"load i64, ptr %to, align 8(\n  %\S+ = add i64 %\S+, %)",
        r"load i64, ptr %source, align 8\1",
        "an address is a multiple of 64",
    ),
)
claim(
    "flush.fetch",
    _fetch,
    Change("goes nowhere", r"(add i64 %\S+), 64", r"\1, 0", "bytes fetched come to an end"),
)
claim(
    "flush.next_dirty_word",
    _next_dirty_word,
    Change(
        "the stride is a word too long",
        r"(load i64, ptr %word.3, align 8\n  %\S+ = add i64 %\S+), 32(\n  %\S+ = load i64, ptr %word.4)",
        r"\1, 33\2",
        "only clean words are before it, kept",
    ),
    Change(
        "one bitmap is not looked at",
        r"or (<32 x i64> %\S+), %\S+",
        r"or \1, zeroinitializer",
        "the first lane that is dirty is found",
    ),
)
claim(
    "flush.copy_pages",
    _copy_pages,
    Change(
        "half a word's pages", r"(mul i64 %\S+), 64", r"\1, 32", "a page of the block is copied"
    ),
    Change(
        "streams to any place",
        r"(and i64 %\S+, 63\n  %\S+ = icmp) eq",
        r"\1 ne",
        "streaming goes to aligned places",
    ),
)
