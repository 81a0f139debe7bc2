"""``back_up_range`` of ``impl/kernels/flush.py``: the used pages of a range, host to cache, row by row.

Of each block those of its pages that have their bits in the range are one run: pages lie end to end, so
its bytes are theirs. What is said of one bit, and of the block that has it if one has, holds of all.
"""

from dataclasses import dataclass, replace

import z3

from proofs.compiled.flush import KERNELS, end_to_end, page_at, pages_in
from proofs.compiled.ir import Instruction, Integer, Pointer
from proofs.compiled.loops import (
    Change,
    Counted,
    Part,
    a_word,
    arguments,
    claim,
    held,
    hold,
    memory_of,
    of_the_model,
    returned,
    run,
    shown,
    symbol,
)
from proofs.compiled.machine import Contract, Machine, State
from proofs.compiled.ranges import (
    Table,
    a_table,
    cache_of,
    end_of,
    first_bit,
    found_for,
    host_of,
    part_of,
    rows_in_order,
)
from proofs.compiled.values import NEVER, Bits, Datum, Opaque, bits
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Natural, Truth, Word, every, implies, natural


@dataclass
class BackingUp:
    """Memory of a backup: the job table, and whether the page with the bit has been copied.

    Page ``q`` of a block lies ``q * page_bytes`` above where its host and its cache begin.
    """

    table: Table
    page_bytes: z3.BitVecRef
    lower: z3.BitVecRef
    upper: z3.BitVecRef
    copied: z3.BoolRef

    def copy(self) -> "BackingUp":
        return replace(self)

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        if z3.simplify(at.z - self.table.job).eq(z3.BitVecVal(0, 64)) and what.type == Integer(64):
            return Bits(self.page_bytes)
        return self.table.load(machine, state, what, at)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        machine.must(state, "it writes nothing itself", NEVER)

    def copy_run(
        self,
        machine: Machine,
        state: State,
        to: z3.BitVecRef,
        origin: z3.BitVecRef,
        length: z3.BitVecRef,
    ) -> None:
        """Copy a run of pages of the block in the row at hand."""
        row = state.notes["rows backed up"]
        target, start = page_at(to, self.page_bytes)
        source, first = page_at(origin, self.page_bytes)
        count = pages_in(length, self.page_bytes)
        machine.must(state, "it is copied to the block's cache", target == cache_of(row))
        machine.must(state, "it is copied from the block's host", source == host_of(row))
        machine.must(state, "each page is copied to its own place", start == first)
        begin, end = first_bit(row) + start, first_bit(row) + start + count
        later, sooner = part_of(row, self.lower, self.upper)
        is_part = z3.And(begin == later, end == sooner)
        shown(machine, state, "the block's part of the range", is_part)
        machine.must(state, "some pages", z3.ULT(begin, end))
        of_block = z3.And(z3.ULE(first_bit(row), begin), z3.ULE(end, end_of(row)))
        machine.must(state, "pages of the block are copied", of_block)
        of_range = z3.And(z3.ULE(self.lower, begin), z3.ULE(end, self.upper))
        machine.must(state, "no page but the range's is copied", of_range)
        bit = self.table.bit
        self.copied = z3.Or(self.copied, z3.And(z3.ULE(later, bit), z3.ULT(bit, sooner)))


def _back_up_range(p: Proof) -> None:
    """back_up_range, compiled, copies the used pages with bits in a range from host to cache, no others.

    Row by row, of each block whole pages, each to its own place, for every page size that is a multiple
    of 64 bytes. It touches no bitmap, and comes to an end.
    """
    table, lower, upper = a_table(p), a_word("lower"), a_word("upper")
    page_bytes, lines = a_word("page_bytes"), a_word("lines_of_a_page")
    rows, its, bit = table.rows, table.its_row, table.bit
    p.assume("a page is whole lines", Truth(page_bytes == 64 * lines))
    in_range = z3.And(table.has_row, z3.ULE(lower, bit), z3.ULT(bit, upper))
    p.lemma("pages lie end to end", end_to_end, *(natural(0) for _ in range(3)))
    p.lemma("a run of pages is its pages", _a_run_is_its_pages, *(natural(0) for _ in range(4)))
    p.lemma("whole pages are whole lines", _whole_lines, *p.words("number number"))
    ordered = rows_in_order(p, table)

    def so_far(done: z3.BitVecRef) -> z3.BoolRef:
        """Has the bit's page been copied when the rows before ``done`` have been backed up?"""
        return z3.And(in_range, z3.ULT(its, done))

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        return table.row_at(held(machine, state, "row.2"))

    def writes(machine: Machine, state: State, row: z3.BitVecRef) -> None:
        hold(machine, state, row__2=table.place(row))
        memory_of(state, BackingUp).copied = so_far(row)

    def holds(machine: Machine, state: State, row: z3.BitVecRef) -> list[Part]:
        return [
            ("it is a row", z3.ULT(row, rows)),
            ("at a row's place", held(machine, state, "row.2") == table.place(row)),
            ("its block begins below the end of the range", z3.ULT(first_bit(row), upper)),
            (
                "the pages of the rows done are copied, no others",
                memory_of(state, BackingUp).copied == so_far(row),
            ),
        ]

    def given(row: z3.BitVecRef) -> z3.BoolRef:
        return z3.And(table.known(row), ordered(z3.simplify(row + 1)))

    def first(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """first_row, by what is proved of it."""
        found = found_for(table, lower, machine, state, values)
        state.path.append(ordered(found))
        return returned(state, values, table.place(found))

    def streamed(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """stream, by what is proved of it."""
        to, origin, length = arguments(machine, state, values, "stream")
        machine.must(state, "streaming goes to aligned places", to & 63 == 0)
        memory_of(state, BackingUp).copy_run(machine, state, to, origin, length)
        state.path.append(_whole_lines(Word(pages_in(length, page_bytes)), Word(lines)).z)
        machine.must(state, "streaming copies whole lines", length & 63 == 0)
        return returned(state, values)

    def ordinary(machine: Machine, state: State, values: list[Datum]) -> Datum:
        to, origin, length = (
            bits(machine.defined(state, "an argument", v), "memcpy").z for v in values
        )
        memory_of(state, BackingUp).copy_run(machine, state, to, origin, length)
        return Opaque()

    def after(state: State) -> list[Part]:
        done = state.notes.get("rows backed up")
        left = state.notes["first row"] if done is None else z3.simplify(done + 1)
        state.path.append(table.known(left))
        none_left = z3.Implies(in_range, z3.ULT(its, left))
        copied = memory_of(state, BackingUp).copied == in_range
        return [
            ("no row of the range is left", none_left),
            ("the range's pages are copied, no others", z3.Implies(none_left, copied)),
        ]

    contracts: dict[str, Contract] = {
        **of_the_model(p.lift_words),
        symbol(KERNELS + "first_row"): first,
        symbol(KERNELS + "stream"): streamed,
        "memcpy": ordinary,
    }
    run(
        p,
        KERNELS + "back_up_range",
        [table.job, lower, upper],
        [Counted("rows backed up", reads, writes, holds, given=given)],
        BackingUp(table, page_bytes, lower, upper, z3.BoolVal(False)),
        Pointer(),
        after,
        contracts,
    )


def _a_run_is_its_pages(page: Natural, start: Natural, end: Natural, page_bytes: Natural) -> Truth:
    """The bytes from one page's place to another's are those of the pages between: in natural numbers."""
    place, behind = page * page_bytes, page * page_bytes + page_bytes
    begins, ends = start * page_bytes, end * page_bytes
    apart = [(page, start), (start, page), (page, end), (end, page)]
    return implies(
        every(page_bytes >= 0, *(number >= 0 for number in (page, start, end)))
        & every(*(end_to_end(one, other, page_bytes) for one, other in apart)),
        every(
            implies((start <= page) & (page < end), (begins <= place) & (behind <= ends)),
            implies(page < start, behind <= begins),
            implies(page >= end, ends <= place),
        ),
    )


def _whole_lines(count: Word, lines: Word) -> Truth:
    return count * (lines * 64) & 63 == 0


claim(
    "flush.back_up_range",
    _back_up_range,
    Change(
        "from cache to host",
        r"(load i64, ptr %row.2, align 8\n  %\S+ = add i64 %\S+), 24",
        r"\1, 16",
        "it is copied to the block's cache",
    ),
    Change(
        "a block from its beginning",
        r"%start, align 8(\n  %\S+ = load i64, ptr %page_bytes)",
        r"%try_state, align 8\1",
        "each page is copied to its own place",
    ),
    Change(
        "as many pages as lie before the end",
        r"sub i64 (%\S+), %\S+",
        r"sub i64 \1, 0",
        "the block's part of the range",
    ),
    Change(
        "streams to any place",
        r"(and i64 %\S+, 63\n  %\S+ = icmp) eq",
        r"\1 ne",
        "streaming goes to aligned places",
    ),
    Change(
        "the same row again",
        r"(load i64, ptr %row.2, align 8\n  %\S+ = add i64 %\S+), 32",
        r"\1, 0",
        "rows backed up come to an end",
    ),
)
