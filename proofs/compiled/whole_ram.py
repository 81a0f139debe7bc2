"""Kernels that go over arrays of a whole RAM, by their words; and one of them, clearing both bitmaps.

What is said of one word, any, holds of all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import z3

from proofs.compiled.flush import (
    KERNELS,
    cache_word,
    host_word,
    index_of,
)
from proofs.compiled.ir import Instruction, Integer, Pointer, UnknownIR
from proofs.compiled.loops import (
    Change,
    Part,
    a_word,
    claim,
    memory_of,
    over_range,
    run,
)
from proofs.compiled.machine import Machine, State
from proofs.compiled.values import Bits, Datum, bits
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth

#: Where fields of a job table lie, in bytes (``impl/kernels/job_table.py``); those that lead to arrays.
WORDS, DIRTY_PAGES = 32, 56
FIELDS = {"cache": 8, "host": 16, "index": 72, "stretches": 80}


@dataclass(frozen=True)
class Array:
    """An array that a field of the job table leads to: how many words, what each holds at first.

    ``some`` is one of them, any. ``known`` is what may be assumed of a word where it is read.
    """

    name: str
    length: z3.BitVecRef
    holds: Callable[[z3.BitVecRef], z3.BitVecRef]
    some: z3.BitVecRef
    known: Callable[[z3.BitVecRef], z3.BoolRef] = lambda word: z3.BoolVal(True)

    @property
    def base(self) -> z3.BitVecRef:
        """Its address."""
        return a_word(f"{self.name}_address")


@dataclass
class Ram:
    """Memory of a whole RAM: fields of its table, the arrays that they lead to, one word of each.

    ``now`` is what that one word of each array holds now, ``stored`` the fields that have been stored.
    """

    job: z3.BitVecRef
    fields: Mapping[int, z3.BitVecRef]
    arrays: Mapping[str, Array]
    now: dict[str, z3.BitVecRef]
    stored: dict[int, z3.BitVecRef] = field(default_factory=dict)

    def copy(self) -> "Ram":
        return replace(self, now=dict(self.now), stored=dict(self.stored))

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        place = z3.simplify(at.z - self.job)
        if what.type == Integer(64) and z3.is_bv_value(place) and place.as_long() in self.fields:
            return Bits(self.fields[place.as_long()])
        name, word = self._place(what, at)
        array = self.arrays[name]
        machine.must(state, "words are read within the array", z3.ULT(word, array.length))
        state.path.append(array.known(word))
        return Bits(z3.If(word == array.some, self.now[name], array.holds(word)))

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        stored = bits(value, what.text).z
        place = z3.simplify(at.z - self.job)
        if z3.is_bv_value(place) and what.type == Integer(64):
            if place.as_long() != DIRTY_PAGES:
                raise UnknownIR(f"a store to a field that stays, in the LLVM IR: {what.text}")
            self.stored[DIRTY_PAGES] = stored
            return
        name, word = self._place(what, at)
        array = self.arrays[name]
        machine.must(state, "words are written within the array", z3.ULT(word, array.length))
        self.now[name] = z3.If(word == array.some, stored, self.now[name])

    def _place(self, what: Instruction, at: Bits) -> tuple[str, z3.BitVecRef]:
        """The array and the number of the word at an address. Raises UnknownIR for any other."""
        for name, array in self.arrays.items():
            word = index_of(at.z, array.base)
            if word is not None and (what.type, what.align) == (Integer(64), 8):
                return name, word
        raise UnknownIR(f"an access to no word that is known, in the LLVM IR: {what.text}")


def a_ram(p: Proof, words: z3.BitVecRef, *arrays: Array) -> Ram:
    """A RAM of this number of words, with these arrays."""
    job, bases = a_word("job"), [array.base for array in arrays]
    p.assume("tables and arrays are aligned", *(Truth(a & 7 == 0) for a in (job, *bases)))
    p.assume("arrays lie below 2^57", *(Truth(z3.ULT(a, 2**56)) for a in bases))
    p.assume("they have fewer than 2^46 words", Truth(z3.ULT(words, 2**46)))
    p.assume("tables and arrays lie apart")  # a store changes one word of one of them
    fields = {WORDS: words, **{FIELDS[array.name]: array.base for array in arrays}}
    by_name = {array.name: array for array in arrays}
    return Ram(job, fields, by_name, {array.name: array.holds(array.some) for array in arrays})


def bitmaps(words: z3.BitVecRef, some: z3.BitVecRef) -> tuple[Array, Array]:
    """Both bitmaps, and one word of them."""
    return Array("cache", words, cache_word, some), Array("host", words, host_word, some)


def _clear_bitmaps(p: Proof) -> None:
    """clear_bitmaps, compiled, clears every word of both bitmaps and the dirty count, nothing else."""
    words, some = a_word("words"), a_word("any_word")
    ram = a_ram(p, words, *bitmaps(words, some))
    before = dict(ram.now)

    def so_far(done: z3.BitVecRef) -> dict[str, z3.BitVecRef]:
        """What the word holds when those below ``done`` are cleared."""
        return {n: z3.If(z3.ULT(some, done), 0, was) for n, was in before.items()}

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        memory_of(state, Ram).now = so_far(done)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        memory, wanted = memory_of(state, Ram), so_far(done)
        return [(f"so far all are clear: {n}", memory.now[n] == wanted[n]) for n in wanted]

    def is_clear(now: z3.BitVecRef) -> z3.BoolRef:
        return z3.Implies(z3.ULT(some, words), now == 0)

    def after(state: State) -> list[Part]:
        memory = memory_of(state, Ram)
        count = memory.stored.get(DIRTY_PAGES, a_word("dirty_pages"))
        clear = [(f"every word is clear: {n}", is_clear(now)) for n, now in memory.now.items()]
        return [*clear, ("the dirty count is 0", count == 0)]

    loop = over_range("words cleared", lambda _: words, writes, holds)
    run(p, KERNELS + "clear_bitmaps", [ram.job], [loop], ram, Pointer(), after)


claim(
    "flush.clear_bitmaps",
    _clear_bitmaps,
    Change(
        "the cache bitmap twice",
        r"(store i64 0, ptr %\S+, align 8\n  %\S+ = mul i64 .*\n  %\S+ = load i64, ptr) %host_bitmap",
        r"\1 %cache_bitmap",
        "so far all are clear: host, kept",
    ),
    Change("words of 32 bits", r"(mul i64 %\S+), 8", r"\1, 4", "an address is a multiple of 8"),
    Change(
        "a count of 1",
        r"(to ptr\n  store i64) 0(, ptr %\S+, align 8\n  store ptr null, ptr %retptr)",
        r"\1 1\2",
        "the dirty count is 0",
    ),
)
