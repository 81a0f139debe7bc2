"""A range of pages: ``first_row``, ``flush_range`` and ``flush_part`` of ``impl/kernels/``.

A job table has a row for each block with a used page, in the order of their bits; no two blocks have a
bit in common. So a range is flushed row by row, from the first that reaches into it to the last.
What is said of one bit, and of the block that has it if one has, holds of all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import z3

from model import shares
from proofs.compiled import accesses
from proofs.compiled.flush import KERNELS, mentions, multiple_of
from proofs.compiled.halving import halving
from proofs.compiled.ir import Instruction, Integer, Many, Pointer, UnknownIR
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
    memory_of,
    of_the_model,
    results,
    returned,
    run,
    shown,
    symbol,
)
from proofs.compiled.machine import Contract, Machine, State
from proofs.compiled.values import Bits, Datum, bits
from proofs.compiled.window import BITS, COUNTS
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, every, implies

STRATEGIES = "impl.kernels.strategies."
#: Where fields lie, in bytes (``impl/kernels/job_table.py``, ``impl/kernels/control.py``).
REGIONS, ROWS, ROW_BYTES = 40, 96, 32
_JOB = accesses.PLACE_OF["JOB"]
_LINE = {name: 8 * place for place, name in enumerate(COUNTS, 1)}
#: Of the block in each row: its first bit, the bit behind its last used page, where its pages lie.
first_bit, end_of, host_of, cache_of = (
    z3.Function(f"{name}_of_row", WORD, WORD) for name in ("first_bit", "end", "host", "cache")
)


def used_of(row: z3.BitVecRef) -> z3.BitVecRef:
    return end_of(row) - first_bit(row)


#: A row's fields, by where each lies in it.
_FIELDS = {0: first_bit, 8: used_of, 16: host_of, 24: cache_of}
#: What a flush of the bits from one to another counts, and what the rows below a number add to that.
_counted = {name: z3.Function(f"{name}_in_window", WORD, WORD, WORD) for name in COUNTS}
_below = {name: z3.Function(f"{name}_below_row", WORD, WORD) for name in COUNTS}


def apart(
    one: z3.BitVecRef, other: z3.BitVecRef, first: z3.FuncDeclRef, end: z3.FuncDeclRef
) -> z3.BoolRef:
    """Bits of rows lie in the order of the rows' numbers: the lower ones end before the others begin."""
    return z3.And(
        z3.Implies(z3.ULT(one, other), z3.ULE(end(one), first(other))),
        z3.Implies(z3.ULT(other, one), z3.ULE(end(other), first(one))),
    )


@dataclass(frozen=True)
class Table:
    """A job table with ``rows`` rows at the address ``job``; one bit, any, and the row that has it."""

    job: z3.BitVecRef
    rows: z3.BitVecRef
    bit: z3.BitVecRef
    its_row: z3.BitVecRef
    has_row: z3.BoolRef

    @property
    def address(self) -> z3.BitVecRef:
        """Where the first row lies."""
        return self.job + ROWS

    def place(self, row: z3.BitVecRef) -> z3.BitVecRef:
        """Where a row lies."""
        return self.address + ROW_BYTES * row

    def row_at(self, place: z3.BitVecRef) -> z3.BitVecRef:
        """Which row lies there."""
        offset = z3.simplify(place - self.address)
        row = multiple_of(ROW_BYTES, offset)
        return z3.LShR(offset, 5) if row is None else row

    @staticmethod
    def has(row: z3.BitVecRef, bit: z3.BitVecRef) -> z3.BoolRef:
        """Has a row's block a used page with this bit?"""
        return z3.And(z3.ULE(first_bit(row), bit), z3.ULT(bit, end_of(row)))

    def known(self, row: z3.BitVecRef) -> z3.BoolRef:
        """What a valid table says of a row, also beside the row that has the bit."""
        its = self.its_row
        inside = z3.And(z3.ULT(first_bit(row), end_of(row)), z3.ULE(end_of(row), BITS))
        alone = z3.Implies(self.has(row, self.bit), z3.And(self.has_row, row == its))
        both = z3.And(z3.ULT(row, self.rows), z3.ULT(its, self.rows))
        return z3.And(
            z3.Implies(z3.ULT(row, self.rows), z3.And(inside, alone)),
            z3.Implies(both, apart(row, its, first_bit, end_of)),
        )

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        """A field of the table. Raises UnknownIR for any other address."""
        if what.type != Integer(64):
            raise UnknownIR(f"a load that is no field of a table, in the LLVM IR: {what.text}")
        if z3.simplify(at.z - self.job - REGIONS).eq(z3.BitVecVal(0, 64)):
            return Bits(self.rows)
        offset = z3.simplify(at.z - self.address)
        if mentions(offset, self.job):
            raise UnknownIR(f"a load that is no field of a table, in the LLVM IR: {what.text}")
        for field, value in _FIELDS.items():
            row = multiple_of(ROW_BYTES, z3.simplify(offset - field))
            if row is not None:
                return self._field(machine, state, row, value(row))
        row, within = z3.LShR(offset, 5), offset & (ROW_BYTES - 1)
        machine.must(state, "it is a field of a row", z3.Or(*(within == f for f in _FIELDS)))
        found = cache_of(row)
        for field, value in _FIELDS.items():
            found = z3.If(within == field, value(row), found)
        return self._field(machine, state, row, found)

    def _field(
        self, machine: Machine, state: State, row: z3.BitVecRef, value: z3.BitVecRef
    ) -> Datum:
        machine.must(state, "a row of the table is read", z3.ULT(row, self.rows))
        state.path.append(self.known(row))
        return Bits(value)


@dataclass
class Blocks:
    """Memory of a flush of many blocks: the bit in both bitmaps, and whether its page has been copied."""

    table: Table
    cache: z3.BoolRef
    host: z3.BoolRef
    copied: z3.BoolRef

    def copy(self) -> "Blocks":
        return replace(self)

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        return self.table.load(machine, state, what, at)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        raise UnknownIR(f"a store where only its callees store, in the LLVM IR: {what.text}")


def a_table(p: Proof) -> Table:
    """A valid job table, and a bit."""
    job, rows, bit, its_row = (a_word(n) for n in ("job", "rows", "bit", "its_row"))
    has_row = z3.Bool("has_row")
    table = Table(job, rows, bit, its_row, has_row)
    p.assume("the table is aligned", Truth(job & 7 == 0))
    p.assume("it lies below 2^57", Truth(z3.ULT(job, 2**56)), Truth(z3.ULT(rows, 2**50)))
    p.assume(
        "a row has the bit, or none has",
        Truth(z3.ULT(its_row, rows) == has_row),
        Truth(z3.Implies(has_row, table.has(its_row, bit))),
    )
    p.assume("rows are in the order of their bits")  # said of each that is read (``known``)
    p.assume("their blocks lie below bit 2^51, no two on one bit")
    p.assume("tables, bitmaps and pages lie apart")
    return table


def found_row(table: Table, bit: z3.BitVecRef, found: z3.BitVecRef) -> list[Part]:
    """What first_row finds: what its claim shows, and what whoever calls it may use."""
    its = table.its_row
    return [
        ("it is a row, or the end", z3.ULE(found, table.rows)),
        ("rows before it end", z3.Implies(z3.ULT(its, found), z3.ULE(end_of(its), bit))),
        (
            "rows from it on do not",
            z3.Implies(
                z3.And(z3.ULE(found, its), z3.ULT(its, table.rows)), z3.ULT(bit, end_of(its))
            ),
        ),
    ]


def _first_row(p: Proof) -> None:
    """first_row, compiled, finds the first row whose block ends above a bit, or the end of the rows."""
    table, given = a_table(p), a_word("given_bit")
    rows, its = table.rows, table.its_row

    def holds(low: z3.BitVecRef, high: z3.BitVecRef) -> list[Part]:
        above = z3.And(z3.ULE(high, its), z3.ULT(its, rows))
        return [
            ("rows below end", z3.Implies(z3.ULT(its, low), z3.ULE(end_of(its), given))),
            ("rows above do not", z3.Implies(above, z3.ULT(given, end_of(its)))),
        ]

    def after(state: State) -> list[Part]:
        (found,) = results(state, 1)
        row = multiple_of(ROW_BYTES, z3.simplify(found - table.address))
        if row is None:
            raise UnknownIR(f"first_row returns {found}, which is no row's place")
        return found_row(table, given, row)

    run(
        p,
        KERNELS + "first_row",
        [table.job, given],
        [halving(p, "rows left out", rows, holds)],
        Blocks(table, *(z3.BoolVal(False) for _ in range(3))),
        Integer(64),
        after,
    )


def found_for(
    table: Table, lower: z3.BitVecRef, machine: Machine, state: State, values: list[Datum]
) -> z3.BitVecRef:
    """The row that first_row finds for a range from ``lower`` on, by what is proved of it."""
    job, from_bit = arguments(machine, state, values, "first_row")
    machine.must(state, "this table's", z3.And(job == table.job, from_bit == lower))
    found: z3.BitVecRef = machine.fresh(WORD, "found")
    state.path += [goal for _, goal in found_row(table, lower, found)]
    state.notes["first row"] = found
    return found


def part_of(
    row: z3.BitVecRef, lower: z3.BitVecRef, upper: z3.BitVecRef
) -> tuple[z3.BitVecRef, z3.BitVecRef]:
    """The bits of a row's block in a range, from one to another, if it has any there."""
    return (
        z3.If(z3.ULE(first_bit(row), lower), lower, first_bit(row)),
        z3.If(z3.UGE(end_of(row), upper), upper, end_of(row)),
    )


def rows_in_order(p: Proof, table: Table) -> Callable[[z3.BitVecRef], z3.BoolRef]:
    """That a row lies before the end of the rows if its number is below theirs, and only then."""
    p.lemma("rows lie in the order of their numbers", in_order, *p.words("any_row " * 3))
    return lambda row: in_order(*map(Word, (table.address, row, table.rows))).z


def in_order(address: Word, row: Word, other: Word, *, row_bytes: int = ROW_BYTES) -> Truth:
    """Rows lie in the order of their numbers."""
    small = every(address < 2**58, row <= 2**51, other <= 2**51)
    one, two = address + row * row_bytes, address + other * row_bytes
    return implies(small, (one < two) == (row < other))


def _flush_range(p: Proof) -> None:
    """flush_range, compiled, flushes the used pages with bits in a range: of each block those, no others.

    Row by row, each by one flush_window, of what the model's in_reach and clip say; no word but the
    range's is touched, it counts what those windows count, and comes to an end.
    """
    table, lower, upper = a_table(p), a_word("lower"), a_word("upper")
    rows, its, bit = table.rows, table.its_row, table.bit
    cache, host = z3.Bools("cache_bit host_bit")
    in_range = z3.And(table.has_row, z3.ULE(lower, bit), z3.ULT(bit, upper))
    p.assume(
        "counts are the windows', row by row",
        *(Truth(of(z3.BitVecVal(0, 64)) == 0) for of in _below.values()),
    )
    in_reach, clip = p.lift_words(shares.in_reach), p.lift_words(shares.clip)

    def counted(row: z3.BitVecRef) -> z3.BoolRef:
        """What a row adds to each count, which defines ``_below``."""
        at = Word(first_bit(row)), Word(used_of(row)), Word(lower), Word(upper)
        start, limit = clip(*at)
        adds = z3.And(in_reach(*at).z, (start < limit).z)
        window = first_bit(row) + start.z, first_bit(row) + limit.z
        return z3.And(
            *(
                of(z3.simplify(row + 1)) == of(row) + z3.If(adds, _counted[name](*window), 0)
                for name, of in _below.items()
            )
        )

    row = a_word("any_row")
    outside = z3.Or(z3.ULE(end_of(row), lower), z3.UGE(first_bit(row), upper))
    the_same = z3.And(*(of(z3.simplify(row + 1)) == of(row) for of in _below.values()))
    p.prove(
        "a row outside the range adds nothing",
        Truth(
            z3.Implies(z3.And(table.known(row), z3.ULT(row, rows), outside, counted(row)), the_same)
        ),
        keep=False,
    )

    ordered = rows_in_order(p, table)

    def so_far(done: z3.BitVecRef) -> z3.BoolRef:
        """Has the bit's page been flushed when the rows before ``done`` have been?"""
        return z3.And(in_range, z3.ULT(its, done))

    def when(done: z3.BoolRef) -> Blocks:
        """The memory when the bit's page has been flushed, or has not been."""
        cache_left, host_left = z3.And(cache, z3.Not(done)), z3.And(host, z3.Not(done))
        return Blocks(table, cache_left, host_left, z3.And(done, z3.Or(cache, host)))

    def flushed(state: State, done: z3.BoolRef) -> list[Part]:
        memory, wanted = memory_of(state, Blocks), when(done)
        return [
            ("the cache's bits are cleared, no others", memory.cache == wanted.cache),
            ("the host's bits are cleared, no others", memory.host == wanted.host),
            ("dirty pages are copied, no others", memory.copied == wanted.copied),
        ]

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        return table.row_at(held(machine, state, "row.2"))

    def writes(machine: Machine, state: State, row: z3.BitVecRef) -> None:
        counts = {f"{name}__2": of(row) for name, of in _below.items()}
        hold(machine, state, row__2=table.place(row), end=table.place(rows), **counts)
        state.memory = when(so_far(row))

    def holds(machine: Machine, state: State, row: z3.BitVecRef) -> list[Part]:
        return [
            ("it is a row", z3.ULT(row, rows)),
            ("at a row's place", held(machine, state, "row.2") == table.place(row)),
            ("the end stays", held(machine, state, "end") == table.place(rows)),
            ("its block begins below the end of the range", z3.ULT(first_bit(row), upper)),
            *(
                (f"so much is counted: {name}", held(machine, state, f"{name}.2") == of(row))
                for name, of in _below.items()
            ),
            *flushed(state, so_far(row)),
        ]

    def given(row: z3.BitVecRef) -> z3.BoolRef:
        return z3.And(table.known(row), counted(row), ordered(z3.simplify(row + 1)))

    def first(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """first_row, by what is proved of it."""
        found = found_for(table, lower, machine, state, values)
        # By induction over the rows before it, each of which ends where the range begins, or before.
        state.path += [*(of(found) == 0 for of in _below.values()), ordered(found)]
        return returned(state, values, table.place(found))

    def window(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """flush_window, by what is proved of it."""
        job, at, begin, end = arguments(machine, state, values, "flush_window")
        memory, row = memory_of(state, Blocks), state.notes["rows flushed"]
        machine.must(state, "this row's block", z3.And(job == table.job, at == table.place(row)))
        machine.must(state, "tables are aligned", z3.And(job & 7 == 0, at & 7 == 0))
        of_block = z3.And(z3.ULE(first_bit(row), begin), z3.ULE(end, end_of(row)))
        machine.must(state, "pages of the block are flushed", of_block)
        machine.must(state, "some of them", z3.ULT(begin, end))
        machine.must(state, "a block below bit 2^51", z3.ULE(end_of(row), BITS))
        later, sooner = part_of(row, lower, upper)
        is_clipped = z3.And(begin == later, end == sooner)
        shown(machine, state, "the block's part of the range", is_clipped)
        within_range = z3.And(z3.ULE(lower, begin), z3.ULE(end, upper))
        machine.must(state, "no word but the range's is touched", within_range)
        inside = z3.And(z3.ULE(later, bit), z3.ULT(bit, sooner))
        as_it_was = z3.And(memory.cache == cache, memory.host == host)
        machine.must(state, "its bits are as they were", z3.Implies(inside, as_it_was))
        dirty = z3.And(inside, z3.Or(memory.cache, memory.host))
        state.memory = Blocks(
            table,
            z3.And(memory.cache, z3.Not(inside)),
            z3.And(memory.host, z3.Not(inside)),
            z3.Or(memory.copied, dirty),
        )
        return returned(state, values, *(of(begin, end) for of in _counted.values()))

    def after(state: State) -> list[Part]:
        done = state.notes.get("rows flushed")
        left = state.notes["first row"] if done is None else z3.simplify(done + 1)
        # By induction over the rows from it on: if it begins where the range ends, or later, so do all.
        past = z3.And(z3.ULT(left, rows), z3.UGE(first_bit(left), upper))
        the_same = z3.And(*(of(rows) == of(left) for of in _below.values()))
        state.path += [table.known(left), z3.Implies(past, the_same)]
        none_left = z3.Implies(in_range, z3.ULT(its, left))
        return [
            ("no row of the range is left", none_left),
            *(
                (f"the whole range is counted: {name}", count == of(rows))
                for count, (name, of) in zip(results(state, 4), _below.items(), strict=True)
            ),
            *((name, z3.Implies(none_left, goal)) for name, goal in flushed(state, in_range)),
        ]

    contracts: dict[str, Contract] = {
        **of_the_model(p.lift_words),
        symbol(KERNELS + "first_row"): first,
        symbol(KERNELS + "flush_window"): window,
    }
    run(
        p,
        KERNELS + "flush_range",
        [table.job, lower, upper],
        [Counted("rows flushed", reads, writes, holds, given=given)],
        Blocks(table, cache, host, z3.BoolVal(False)),
        Many(4, Integer(64)),
        after,
        contracts,
    )


@dataclass
class Line:
    """Memory of a worker's line: its counts, by the address of each; the address of the job table."""

    job: tuple[z3.BitVecRef, z3.BitVecRef]
    places: dict[str, z3.BitVecRef]
    counts: dict[str, z3.BitVecRef]

    def copy(self) -> "Line":
        return replace(self, counts=dict(self.counts))

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        place, job = self.job
        if z3.simplify(at.z - place).eq(z3.BitVecVal(0, 64)):
            return Bits(job)
        self._must_be_of_line(machine, state, what, at)
        found, *others = self.counts.items()
        value = found[1]
        for name, count in others:
            value = z3.If(at.z == self.places[name], count, value)
        return Bits(z3.simplify(value))

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        self._must_be_of_line(machine, state, what, at)
        stored = bits(value, what.text).z
        self.counts = {
            name: z3.simplify(z3.If(at.z == self.places[name], stored, count))
            for name, count in self.counts.items()
        }

    def _must_be_of_line(self, machine: Machine, state: State, what: Instruction, at: Bits) -> None:
        if what.type != Integer(64):
            raise UnknownIR(f"an access to no count of a line, in the LLVM IR: {what.text}")
        of_line = z3.Or(*(at.z == place for place in self.places.values()))
        machine.must(state, "it is a count of the worker's line", of_line)


def _flush_part(p: Proof) -> None:
    """flush_part, compiled, flushes a range of the job, and adds what that counts to a worker's line."""
    control, number, lower, upper = (a_word(n) for n in ("control", "worker", "lower", "upper"))
    job = a_word("job")
    p.assume("the control block is aligned", Truth(control & 7 == 0))
    p.assume("a worker's line is that worker's")  # nobody else writes it meanwhile
    line = control + accesses.WORKERS + number * accesses.LINE_BYTES
    before = {name: a_word(f"{name}_before") for name in COUNTS}
    counted = {name: a_word(f"{name}_in_range") for name in COUNTS}

    def flush(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """flush_range, by what is proved of it."""
        of_job, begin, end = arguments(machine, state, values, "flush_range")
        asked = z3.And(of_job == job, begin == lower, end == upper)
        machine.must(state, "the job's range is flushed", asked)
        machine.must(state, "once", z3.BoolVal("flushed" not in state.notes))
        state.notes["flushed"] = True
        return returned(state, values, *counted.values())

    def after(state: State) -> list[Part]:
        counts = memory_of(state, Line).counts
        return [
            ("the range has been flushed", z3.BoolVal("flushed" in state.notes)),
            *(
                (f"what it counts is added: {name}", counts[name] == before[name] + counted[name])
                for name in COUNTS
            ),
        ]

    places = {name: line + offset for name, offset in _LINE.items()}
    run(
        p,
        STRATEGIES + "flush_part",
        [control, number, lower, upper],
        [],
        Line((control + _JOB, job), places, before),
        Pointer(),
        after,
        {symbol(KERNELS + "flush_range"): flush},
    )


claim(
    "flush.first_row",
    _first_row,
    Change(
        "the middle row is kept",
        r"(load i64, ptr %middle, align 8\n  %\S+ = add i64 %\S+), 1",
        r"\1, 0",
        "rows left out come to an end",
    ),
    Change("a row that ends at the bit", "icmp ule", "icmp ult", "rows above do not, kept"),
)
claim(
    "flush.flush_range",
    _flush_range,
    Change(
        "every second row",
        r"(load i64, ptr %row.2, align 8\n  %\S+ = add i64 %\S+), 32",
        r"\1, 64",
        "so much is counted: copied, kept",
    ),
    Change(
        "a block from its beginning",
        r"(load i64, ptr %start, align 8\n  %\S+ = add i64 %\S+), %\S+",
        r"\1, 0",
        "the block's part of the range",
    ),
)
claim(
    "strategies.flush_part",
    _flush_part,
    Change(
        "a count not added to",
        r"store i64 %\S+(, ptr %\S+, align 8\n  %\S+ = add i64 %\S+, 16)",
        r"store i64 0\1",
        "what it counts is added: copied",
    ),
    Change(
        "another worker's line",
        r"(call i32 @\S*worker_line\S*\(.*i64 %arg.control, i64) %arg.worker",
        r"\1 0",
        "it is a count of the worker's line",
    ),
)
