"""Stray bits: ``first_dirty`` and ``first_stray`` of ``impl/kernels/flush.py``, which write nothing.

A job table has a row for each gap between the blocks, behind those of the blocks. What is said of one
bit, and of the gap that has it if one has, holds of all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import z3

from model import strays, words
from proofs.compiled.flush import (
    KERNELS,
    Bitmaps,
    cache_word,
    can_be_searched,
    first_dirty_word,
    host_word,
    is_dirty,
    is_set,
    multiple_of,
)
from proofs.compiled.ir import Instruction, Integer, UnknownIR
from proofs.compiled.loops import (
    WORD,
    Change,
    Counted,
    Part,
    a_word,
    arguments,
    claim,
    held,
    hold,
    of_the_model,
    results,
    returned,
    run,
    symbol,
)
from proofs.compiled.machine import Machine, State
from proofs.compiled.ranges import REGIONS, ROW_BYTES, ROWS, apart, in_order
from proofs.compiled.values import NEVER, Bits, Datum
from proofs.compiled.whole_ram import FIELDS
from proofs.compiled.window import with_named_masks
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, implies, trailing_zeros

#: Where fields lie, in bytes (``impl/kernels/job_table.py``).
_GAPS, _GAP_BYTES = 48, 16
#: What is returned if there is no stray bit (``impl/kernels/flush.py``).
_NO_PAGE = z3.BitVecVal(-1, 64)
#: The bitmaps have fewer than 2^46 words.
_BITS = 64 * (2**46 - 1)
#: Of each gap: its first bit, and the bit behind its last.
_first, _end = (z3.Function(name, WORD, WORD) for name in ("first_bit_of_gap", "end_of_gap"))


def is_dirty_bit(p: Proof, bit: z3.BitVecRef) -> z3.BoolRef:
    """Is a bit set in either bitmap?"""
    word = z3.LShR(bit, 6)
    either: Word = p.lift_words(words.either)(Word(cache_word(word)), Word(host_word(word)))
    return is_set(either.z, bit)


def first_dirty_bit(
    first: z3.BitVecRef,
    last: z3.BitVecRef,
    found: z3.BitVecRef,
    bit: z3.BitVecRef,
    dirty: Callable[[z3.BitVecRef], z3.BoolRef],
) -> list[Part]:
    """What first_dirty finds: what its claim shows, and what whoever calls it may use."""
    before = z3.And(z3.ULE(first, bit), z3.ULT(bit, found))
    return [
        ("it is a bit of the gap, or its end", z3.And(z3.ULE(first, found), z3.ULE(found, last))),
        ("it is dirty, unless it is the end", z3.Or(found == last, dirty(found))),
        ("all before are clean", z3.Implies(before, z3.Not(dirty(bit)))),
    ]


@dataclass(frozen=True)
class Searched:
    """Memory of a search of a gap: two fields of the job table, and the bitmaps' words with its bits."""

    job: z3.BitVecRef
    bitmaps: Bitmaps

    def copy(self) -> "Searched":
        return self

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        for place, bitmap in (
            (FIELDS["cache"], self.bitmaps.cache),
            (FIELDS["host"], self.bitmaps.host),
        ):
            if z3.simplify(at.z - self.job).eq(z3.BitVecVal(place, 64)) and _is_word(what):
                return Bits(bitmap)
        return self.bitmaps.load(machine, state, what, at)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        self.bitmaps.store(machine, state, what, at, value)


def _is_word(what: Instruction) -> bool:
    return what.type == Integer(64)


def _first_dirty(p: Proof) -> None:
    """first_dirty, compiled, finds a gap's first bit that is dirty in either bitmap, or the gap's end.

    That bit is the model's next_page of the stray_bits of its word; the words before have none. It reads
    no bitmap word but the gap's, writes nothing, and comes to an end.
    """
    job, first, last, bit = (a_word(n) for n in ("job", "first", "last", "bit"))
    cache, host, any_word = (a_word(n) for n in ("cache_bitmap", "host_bitmap", "any_word"))
    first_word, end = a_word("first_word"), a_word("end")
    p.assume("tables and bitmaps are aligned", *(Truth(a & 7 == 0) for a in (job, cache, host)))
    p.assume("bitmaps lie below 2^57", *(Truth(z3.ULT(a, 2**56)) for a in (cache, host)))
    p.assume("the gap is not empty", Truth(z3.ULT(first, last)))
    p.assume("it lies in bitmaps of fewer than 2^46 words", Truth(z3.ULE(last, _BITS)))
    p.assume("these are its words", Truth(first_word == z3.LShR(first, 6)))
    p.assume("these are its words", Truth(end == z3.LShR(last + 63, 6)))
    p.assume("a bit of some word", Truth(z3.ULT(bit, 2**53)), Truth(any_word == z3.LShR(bit, 6)))
    lift, masked = with_named_masks(p)
    p.lemma("the lowest set bit is set", _lowest_is_set, *p.words("any_word"))
    found_in = lift(strays.found_in)

    def in_word(word: z3.BitVecRef) -> Word:
        """The stray bits of a word, by the model."""
        numbers = map(Word, (cache_word(word), host_word(word), word, first, last))
        found: Word = lift(strays.stray_bits)(*numbers)
        return found

    def mask(word: z3.BitVecRef) -> z3.BitVecRef:
        found: z3.BitVecRef = lift(words.window_mask)(*map(Word, (word, first, last))).z
        return found

    def none_below(word: z3.BitVecRef) -> z3.BoolRef:
        passed = z3.And(z3.ULE(first_word, any_word), z3.ULT(any_word, word))
        return z3.Implies(passed, z3.Not(found_in(in_word(any_word)).z))

    def writes(machine: Machine, state: State, word: z3.BitVecRef) -> None:
        hold(machine, state, word__2=word)

    def holds(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        within = z3.And(z3.ULE(first_word, word), z3.ULT(word, end))
        return [
            ("it is one of the gap's words", within),
            ("no word passed has a stray bit", none_below(word)),
        ]

    def search(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """next_dirty_word, by what is proved of it."""
        one, other, begin, to = arguments(machine, state, values, "next_dirty_word")
        asked = z3.And(one == cache, other == host, to == end, can_be_searched(begin, to))
        machine.must(state, "the gap's words are searched", asked)
        before = state.notes.get("words searched")
        at = first_word if before is None else before + 1
        machine.must(state, "from the first, or the one behind the last found", begin == at)
        found = machine.fresh(WORD, "found")

        def dirty(word: z3.BitVecRef) -> z3.BoolRef:
            return is_dirty(p, cache_word(word), host_word(word))

        state.path += [goal for _, goal in first_dirty_word(at, end, found, any_word, dirty)]
        return returned(state, values, found)

    def after(state: State) -> list[Part]:
        (found,) = results(state, 1)
        its_word = z3.LShR(found, 6)
        its_strays = in_word(its_word)
        lowest = lift(words.next_page)(its_strays).z
        word = state.notes.get("words searched")
        state.path.append(masked(first, last, bit, mask(any_word)))
        if word is not None:
            state.path.append(_lowest_is_set(in_word(word)).z)
            state.path.append(masked(first, last, found, mask(word)))
        is_found = z3.And(found_in(its_strays).z, found == its_word * 64 + lowest)
        left_off = z3.If(found == last, end, its_word)
        return [
            ("it is what the model finds in its word", z3.Or(found == last, is_found)),
            ("no word before has a stray bit", none_below(left_off)),
            *first_dirty_bit(first, last, found, bit, lambda at: is_dirty_bit(p, at)),
        ]

    run(
        p,
        KERNELS + "first_dirty",
        [job, first, last],
        [Counted("words searched", lambda m, s: held(m, s, "word.2"), writes, holds)],
        Searched(job, Bitmaps(cache, host, first_word, end)),
        Integer(64),
        after,
        {**of_the_model(lift), symbol(KERNELS + "next_dirty_word"): search},
    )


def _lowest_is_set(word: Word) -> Truth:
    """Of a word that is not empty."""
    lowest = trailing_zeros(word)
    return implies(word != 0, (lowest < 64) & Truth(is_set(word.z, lowest.z)))


@dataclass(frozen=True)
class Gaps:
    """A job table with ``rows`` blocks and ``gaps`` gaps; one bit, any, and the gap that has it."""

    job: z3.BitVecRef
    rows: z3.BitVecRef
    gaps: z3.BitVecRef
    bit: z3.BitVecRef
    its_gap: z3.BitVecRef

    @property
    def address(self) -> z3.BitVecRef:
        """Where the first gap's row lies."""
        return self.job + ROWS + ROW_BYTES * self.rows

    def place(self, gap: z3.BitVecRef) -> z3.BitVecRef:
        """Where a gap's row lies."""
        return self.address + _GAP_BYTES * gap

    @property
    def has_gap(self) -> z3.BoolRef:
        """Has a gap the bit?"""
        its = self.its_gap
        inside = z3.And(z3.ULE(_first(its), self.bit), z3.ULT(self.bit, _end(its)))
        return z3.And(z3.ULT(its, self.gaps), inside)

    def known(self, gap: z3.BitVecRef) -> z3.BoolRef:
        """What a valid table says of a gap, also beside the one that has the bit."""
        its = self.its_gap
        inside = z3.And(z3.ULT(_first(gap), _end(gap)), z3.ULE(_end(gap), _BITS))
        both = z3.And(z3.ULT(gap, self.gaps), z3.ULT(its, self.gaps))
        return z3.And(
            z3.Implies(z3.ULT(gap, self.gaps), inside),
            z3.Implies(both, apart(gap, its, _first, _end)),
        )

    def copy(self) -> "Gaps":
        return self

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        place = z3.simplify(at.z - self.job)
        for field, value in ((REGIONS, self.rows), (_GAPS, self.gaps)):
            if place.eq(z3.BitVecVal(field, 64)) and _is_word(what):
                return Bits(value)
        for field, of in ((0, _first), (8, _end)):
            gap = multiple_of(_GAP_BYTES, z3.simplify(at.z - self.address - field))
            if gap is not None and _is_word(what):
                machine.must(state, "a gap of the table is read", z3.ULT(gap, self.gaps))
                state.path.append(self.known(gap))
                return Bits(of(gap))
        raise UnknownIR(f"a load that is no field of a table, in the LLVM IR: {what.text}")

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        machine.must(state, "it writes nothing", NEVER)


def _first_stray(p: Proof) -> None:
    """first_stray, compiled, finds the first dirty bit of all gaps, or says that none is dirty.

    Gap by gap, each by one first_dirty; so what it finds is the model's first stray bit. It writes
    nothing, and comes to an end.
    """
    job, rows, gaps, bit, its = (a_word(n) for n in ("job", "rows", "gaps", "bit", "its_gap"))
    table = Gaps(job, rows, gaps, bit, its)
    p.assume("the table is aligned", Truth(job & 7 == 0))
    p.assume("it lies below 2^57", Truth(z3.ULT(job, 2**56)))
    p.assume("it lies below 2^57", Truth(z3.ULT(rows, 2**50)), Truth(z3.ULT(gaps, 2**50 + 1)))
    p.assume("gaps are in the order of their bits")  # said of each that is read (``known``)
    p.assume("they are not empty, and lie in bitmaps of fewer than 2^46 words")
    p.lemma("gaps lie in the order of their numbers", _gaps_in_order, *p.words("any_gap " * 3))

    def dirty(bit: z3.BitVecRef) -> z3.BoolRef:
        return is_dirty_bit(p, bit)

    is_stray = z3.And(table.has_gap, dirty(bit))

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        offset = z3.simplify(held(machine, state, "gap.2") - table.address)
        gap = multiple_of(_GAP_BYTES, offset)
        return z3.LShR(offset, 4) if gap is None else gap

    def writes(machine: Machine, state: State, gap: z3.BitVecRef) -> None:
        hold(machine, state, gap__2=table.place(gap))
        state.path.append(_gaps_in_order(*map(Word, (table.address, gap + 1, gaps))).z)

    def holds(machine: Machine, state: State, gap: z3.BitVecRef) -> list[Part]:
        return [
            ("it is a gap", z3.ULT(gap, gaps)),
            ("at a gap's place", held(machine, state, "gap.2") == table.place(gap)),
            ("no gap passed has a stray bit", z3.Implies(is_stray, z3.ULE(gap, its))),
        ]

    def search(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """first_dirty, by what is proved of it."""
        of_job, first, last = arguments(machine, state, values, "first_dirty")
        gap = state.notes["gaps searched"]
        of_gap = z3.And(of_job == job, first == _first(gap), last == _end(gap))
        machine.must(state, "this gap is searched", of_gap)
        machine.must(state, "it is not empty", z3.ULT(first, last))
        machine.must(state, "in bitmaps of fewer than 2^46 words", z3.ULE(last, _BITS))
        found = machine.fresh(WORD, "found")
        state.path += [goal for _, goal in first_dirty_bit(first, last, found, bit, dirty)]
        return returned(state, values, found)

    def after(state: State) -> list[Part]:
        (found,) = results(state, 1)
        gap = state.notes.get("gaps searched", gaps)
        in_gap = z3.And(z3.ULT(gap, gaps), z3.ULE(_first(gap), found), z3.ULT(found, _end(gap)))
        found_one = found != _NO_PAGE
        return [
            ("it is a dirty bit of a gap", z3.Implies(found_one, z3.And(in_gap, dirty(found)))),
            ("if there is one, one is found", z3.Implies(is_stray, found_one)),
            ("no stray bit lies before it", z3.Implies(is_stray, z3.ULE(found, bit))),
        ]

    run(
        p,
        KERNELS + "first_stray",
        [job],
        [Counted("gaps searched", reads, writes, holds)],
        table,
        Integer(64),
        after,
        {symbol(KERNELS + "first_dirty"): search},
    )


def _gaps_in_order(address: Word, gap: Word, other: Word) -> Truth:
    return in_order(address, gap, other, row_bytes=_GAP_BYTES)


claim(
    "flush.first_dirty",
    _first_dirty,
    Change(
        "the mask dropped",
        r"and i64 (%\S+), %\S+(\n.*\n  store i64 %\S+, ptr %dirty.1,)",
        r"or i64 \1, 0\2",
        "it is what the model finds in its word",
    ),
    Change(
        "a word left out",
        r"(load i64, ptr %word.2, align 8\n  %\S+ = add i64 %\S+), 1",
        r"\1, 2",
        "from the first, or the one behind the last found",
    ),
    Change(
        "the last word not searched",
        r"(load i64, ptr %last, align 8\n  %\S+ = add i64 %\S+), 63",
        r"\1, 0",
        "the gap's words are searched",
    ),
)
claim(
    "flush.first_stray",
    _first_stray,
    Change(
        "a gap's end for its beginning",
        r"(load i64, ptr %gap.2, align 8\n  %\S+ = add i64 %\S+), 0",
        r"\1, 8",
        "this gap is searched",
    ),
    Change(
        "a gap with a stray bit is passed over",
        r"(load i64, ptr %stray, align 8\n  %\S+ = icmp) ult",
        r"\1 ugt",
        "no gap passed has a stray bit, kept",
    ),
    Change(
        "the same gap again",
        r"(load i64, ptr %gap.2, align 8\n  %\S+ = add i64 %\S+), 16",
        r"\1, 0",
        "gaps searched come to an end",
    ),
    Change(
        "bit 0 for the bit",
        r"store i64 %\S+, ptr %retptr",
        "store i64 0, ptr %retptr",
        "it is a dirty bit of a gap",
    ),
)
