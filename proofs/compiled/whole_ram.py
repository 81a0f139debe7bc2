"""Kernels that go over all words of a RAM: clearing both bitmaps, counting, the index of dirty pages.

What is said of one word, any, holds of all. What the index holds is what ``model.shares.dirty_before``
says: 0, and for each next word as much more as pages are dirty in the last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import z3

from model import words
from proofs.compiled.flush import (
    KERNELS,
    cache_word,
    first_dirty_word,
    host_word,
    index_of,
    is_dirty,
)
from proofs.compiled.halving import halving
from proofs.compiled.ir import Instruction, Integer, Pointer, UnknownIR
from proofs.compiled.loops import (
    WORD,
    Change,
    Part,
    a_word,
    arguments,
    claim,
    held,
    hold,
    memory_of,
    of_the_model,
    over_range,
    results,
    returned,
    run,
    symbol,
)
from proofs.compiled.machine import Machine, State
from proofs.compiled.values import Bits, Datum, bits
from proofs.compiled.window import is_empty
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, some_population

#: Where fields of a job table lie, in bytes (``impl/kernels/job_table.py``).
_CACHE, _HOST, _WORDS, _DIRTY_PAGES, _INDEX = 8, 16, 32, 56, 72
#: How many dirty pages lie below each word.
_before = z3.Function("dirty_before", WORD, WORD)


@dataclass
class Ram:
    """Memory of a whole RAM: fields of its table, the arrays of words they lead to, one word of each.

    ``arrays`` have a base, and what each of their words holds at first; ``now`` what the one word, any,
    of each holds now, ``stored`` the fields that have been stored. Of what is ``sorted``
    that is said of each word that is read, beside that one.
    """

    job: z3.BitVecRef
    fields: Mapping[int, z3.BitVecRef]
    arrays: Mapping[str, tuple[z3.BitVecRef, z3.FuncDeclRef]]
    words: z3.BitVecRef
    word: z3.BitVecRef
    now: dict[str, z3.BitVecRef]
    sorted: bool = False
    stored: dict[int, z3.BitVecRef] = field(default_factory=dict)

    def copy(self) -> "Ram":
        return replace(self, now=dict(self.now), stored=dict(self.stored))

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        place = z3.simplify(at.z - self.job)
        if what.type == Integer(64) and z3.is_bv_value(place) and place.as_long() in self.fields:
            return Bits(self.fields[place.as_long()])
        name, word = self._place(what, at)
        machine.must(state, "words are read within the array", self._within(name, word))
        holds = self.arrays[name][1]
        if self.sorted:
            lower = z3.Implies(z3.ULE(word, self.word), z3.ULE(holds(word), holds(self.word)))
            higher = z3.Implies(z3.ULE(self.word, word), z3.ULE(holds(self.word), holds(word)))
            state.path += [lower, higher]
        return Bits(z3.If(word == self.word, self.now[name], holds(word)))

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        stored = bits(value, what.text).z
        place = z3.simplify(at.z - self.job)
        if z3.is_bv_value(place) and what.type == Integer(64):
            if place.as_long() != _DIRTY_PAGES:
                raise UnknownIR(f"a store to a field that stays, in the LLVM IR: {what.text}")
            self.stored[_DIRTY_PAGES] = stored
            return
        name, word = self._place(what, at)
        machine.must(state, "words are written within the array", self._within(name, word))
        self.now[name] = z3.If(word == self.word, stored, self.now[name])

    def _within(self, name: str, word: z3.BitVecRef) -> z3.BoolRef:
        """Of the index there is one word more: how many there are in all."""
        return z3.ULE(word, self.words) if name == "index" else z3.ULT(word, self.words)

    def _place(self, what: Instruction, at: Bits) -> tuple[str, z3.BitVecRef]:
        """The array and the number of the word at an address. Raises UnknownIR for any other."""
        for name, (base, _) in self.arrays.items():
            word = index_of(at.z, base)
            if word is not None and (what.type, what.align) == (Integer(64), 8):
                return name, word
        raise UnknownIR(f"an access to no word that is known, in the LLVM IR: {what.text}")


def _a_ram(p: Proof, **arrays: tuple[int, z3.FuncDeclRef]) -> Ram:
    """A RAM with these arrays: for each the field that says where it lies, and what it holds."""
    job, end, word = a_word("job"), a_word("words"), a_word("any_word")
    bases = {name: a_word(f"{name}_address") for name in arrays}
    p.assume("tables and arrays are aligned", *(Truth(a & 7 == 0) for a in (job, *bases.values())))
    p.assume("arrays lie below 2^57", *(Truth(z3.ULT(a, 2**56)) for a in bases.values()))
    p.assume("they have fewer than 2^46 words", Truth(z3.ULT(end, 2**46)))
    p.assume("tables and arrays lie apart")  # a store changes one word of one of them
    fields = {_WORDS: end, **{at: bases[name] for name, (at, _) in arrays.items()}}
    arrays_ = {name: (bases[name], holds) for name, (_, holds) in arrays.items()}
    return Ram(
        job, fields, arrays_, end, word, {n: holds(word) for n, (_, holds) in arrays.items()}
    )


def _clear_bitmaps(p: Proof) -> None:
    """clear_bitmaps, compiled, clears every word of both bitmaps and the dirty count, nothing else."""
    ram = _a_ram(p, cache=(_CACHE, cache_word), host=(_HOST, host_word))
    before = dict(ram.now)

    def so_far(done: z3.BitVecRef) -> dict[str, z3.BitVecRef]:
        """What the word holds when those below ``done`` are cleared."""
        return {n: z3.If(z3.ULT(ram.word, done), 0, was) for n, was in before.items()}

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        memory_of(state, Ram).now = so_far(done)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        memory, wanted = memory_of(state, Ram), so_far(done)
        return [(f"so far all are clear: {n}", memory.now[n] == wanted[n]) for n in wanted]

    def is_clear(now: z3.BitVecRef) -> z3.BoolRef:
        return z3.Implies(z3.ULT(ram.word, ram.words), now == 0)

    def after(state: State) -> list[Part]:
        memory = memory_of(state, Ram)
        count = memory.stored.get(_DIRTY_PAGES, a_word("dirty_pages"))
        clear = [(f"every word is clear: {n}", is_clear(now)) for n, now in memory.now.items()]
        return [*clear, ("the dirty count is 0", count == 0)]

    loop = over_range("words cleared", lambda _: ram.words, writes, holds)
    run(p, KERNELS + "clear_bitmaps", [ram.job], [loop], ram, Pointer(), after)


def _counting(p: Proof) -> Callable[[z3.BitVecRef], z3.BoolRef]:
    """What defines ``_before``: a word adds to it how many pages are dirty in it."""
    first = z3.BitVecVal(0, 64)
    p.assume("counts are the model's, word by word", Truth(_before(first) == 0))
    either = p.lift_words(words.either)

    def counted(word: z3.BitVecRef) -> z3.BoolRef:
        union = either(Word(cache_word(word)), Word(host_word(word)))
        return _before(z3.simplify(word + 1)) == _before(word) + some_population(union).z

    return counted


def _index_dirty(p: Proof) -> None:
    """index_dirty, compiled, writes for each word, and the end, how many dirty pages lie below it.

    As shares.dirty_before counts them; nothing else is written.
    """
    kept = z3.Function("index_word", WORD, WORD)
    ram = _a_ram(p, cache=(_CACHE, cache_word), host=(_HOST, host_word), index=(_INDEX, kept))
    counted, was = _counting(p), dict(ram.now)

    def so_far(done: z3.BitVecRef) -> z3.BitVecRef:
        return z3.If(z3.ULT(ram.word, done), _before(ram.word), was["index"])

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, before__2=_before(done))
        memory_of(state, Ram).now = {**was, "index": so_far(done)}

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        memory = memory_of(state, Ram)
        stays = z3.And(*(memory.now[name] == was[name] for name in ("cache", "host")))
        return [
            ("so much is counted", held(machine, state, "before.2") == _before(done)),
            ("words below are written, no others", memory.now["index"] == so_far(done)),
            ("the bitmaps stay", stays),
        ]

    def after(state: State) -> list[Part]:
        memory = memory_of(state, Ram)
        written = memory.now["index"] == _before(ram.word)
        everywhere = z3.Implies(z3.ULE(ram.word, ram.words), written)
        return [
            ("all are written, and the end", everywhere),
            ("no field is", z3.BoolVal(not memory.stored)),
        ]

    loop = over_range("words indexed", lambda _: ram.words, writes, holds, given=counted)
    contracts = of_the_model(p.lift_words)
    run(p, KERNELS + "index_dirty", [ram.job], [loop], ram, Pointer(), after, contracts)


def _count_either(p: Proof) -> None:
    """count_either, compiled, counts the bits that are set in either bitmap: all that are dirty.

    Over what is proved of next_dirty_word, which passes the clean words before the first dirty one.
    """
    ram = _a_ram(p, cache=(_CACHE, cache_word), host=(_HOST, host_word))
    counted, was, end = _counting(p), dict(ram.now), ram.words
    empty = p.lemma("no page is in an empty word", is_empty)
    empty(some_population)

    def dirty(word: z3.BitVecRef) -> z3.BoolRef:
        return is_dirty(p, cache_word(word), host_word(word))

    def search(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """next_dirty_word, by what is proved of it."""
        one, other, begin, to = arguments(machine, state, values, "next_dirty_word")
        (cache, _), (host, _) = ram.arrays["cache"], ram.arrays["host"]
        asked = z3.And(one == cache, other == host, begin == 0, to == end)
        machine.must(state, "all words are searched", asked)
        some, found = machine.fresh(WORD, "some_word"), machine.fresh(WORD, "found")
        adds = z3.Implies(
            z3.And(counted(some), z3.Not(dirty(some))), _before(some + 1) == _before(some)
        )
        machine.must(state, "a clean word adds nothing", adds)
        known = first_dirty_word(begin, end, found, ram.word, dirty, _before)
        state.path += [goal for _, goal in known]
        state.notes["found"] = found
        return returned(state, values, found)

    def first(state: State) -> z3.BitVecRef:
        found: z3.BitVecRef = state.notes["found"]
        return found

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        word = first(state) + done
        hold(machine, state, total__2=_before(word))
        state.path.append(counted(word))

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        memory = memory_of(state, Ram)
        total = held(machine, state, "total.2")
        return [
            ("so much is counted", total == _before(first(state) + done)),
            ("the bitmaps stay", z3.And(*(memory.now[name] == was[name] for name in was))),
        ]

    def after(state: State) -> list[Part]:
        (total,) = results(state, 1)
        nothing = z3.BoolVal(not memory_of(state, Ram).stored)
        return [("all is counted", total == _before(end)), ("nothing is stored", nothing)]

    loop = over_range("words counted", lambda state: end - first(state), writes, holds, first=first)
    contracts = {**of_the_model(p.lift_words), symbol(KERNELS + "next_dirty_word"): search}
    run(p, KERNELS + "count_either", [ram.job], [loop], ram, Integer(64), after, contracts)


def _first_word_with(p: Proof) -> None:
    """first_word_with, compiled, finds the first word that has no fewer dirty pages below it, or the end.

    That is what the model's says, where the index counts what shares.dirty_before says.
    """
    ram, pages = _a_ram(p, index=(_INDEX, _before)), a_word("pages")
    p.assume("the index never falls")  # said of each word that is read (``Ram.sorted``)
    ram.sorted = True
    word, end = ram.word, ram.words

    def of_words(fact: z3.BoolRef) -> z3.BoolRef:
        return z3.Implies(z3.ULT(word, end), fact)

    def holds(low: z3.BitVecRef, high: z3.BitVecRef) -> list[Part]:
        fewer = z3.ULT(_before(word), pages)
        return [
            ("words below have fewer", of_words(z3.Implies(z3.ULT(word, low), fewer))),
            ("words above do not", of_words(z3.Implies(z3.ULE(high, word), z3.Not(fewer)))),
        ]

    def after(state: State) -> list[Part]:
        (found,) = results(state, 1)
        return [("it is a word, or the end", z3.ULE(found, end)), *holds(found, found)]

    loop = halving(p, "words left out", end, holds)
    run(p, KERNELS + "first_word_with", [ram.job, pages], [loop], ram, Integer(64), after)


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
claim(
    "flush.first_word_with",
    _first_word_with,
    Change(
        "the middle word is kept",
        r"(load i64, ptr %middle, align 8\n  %\S+ = add i64 %\S+), 1",
        r"\1, 0",
        "words left out come to an end",
    ),
    Change(
        "a word with as many",
        r"([\s\S]*icmp) ult",
        r"\1 ule",
        "words below have fewer, kept",
    ),
)
claim(
    "flush.index_dirty",
    _index_dirty,
    Change(
        "the host bitmap twice",
        r"%cache_bitmap, align 8\n(  %\S+ = inttoptr)",
        r"%host_bitmap, align 8\n\1",
        "so much is counted, kept",
    ),
    Change(
        "0 dirty pages in all",
        r"  store i64 %\S+, (ptr %\S+, align 8\n  %\S+ = load i64, ptr %before.2.*\n  store i64 0)",
        r"  store i64 0, \1",
        "all are written, and the end",
    ),
)
claim(
    "flush.count_either",
    _count_either,
    Change(
        "not from the first word",
        r"(call i32 @\S*next_dirty_word\S*\(.*, i64) 0,",
        r"\1 1,",
        "all words are searched",
    ),
    Change(
        "the cache bitmap twice",
        r"%host_bitmap, align 8\n(  %\S+ = inttoptr)",
        r"%cache_bitmap, align 8\n\1",
        "so much is counted, kept",
    ),
)
