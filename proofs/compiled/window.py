"""``flush_window`` of ``impl/kernels/flush.py``: one block's pages with bits in a window, word by word.

The model's worker (``model/worker.py``) runs beside it: each load and store of the word at hand is a step
of its, and finds or leaves what the worker does. What the two kernels do that it calls is known from
``flush.py``. A mask is a name here, of which it is known which bits are set.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import z3

from model import domain, words, worker
from proofs.compiled.flush import (
    KERNELS,
    STORE_CACHE,
    Running,
    cache_word,
    can_be_searched,
    first_dirty_word,
    host_word,
    index_of,
    is_dirty,
    is_of_block,
    is_set,
    word_to_copy,
)
from proofs.compiled.ir import Instruction, Integer, Many, UnknownIR
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
from proofs.compiled.values import Bits, Datum
from proofs.prover import symbolic
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, Words

#: What a flush counts, by the model's names; ``below`` says of each how many there are in the words of
#: the window below a number.
COUNTS = ("copied", "host_dirty", "cache_dirty", "both_dirty")
below = {name: z3.Function(f"{name}_below", WORD, WORD) for name in COUNTS}
#: No address space has room for more pages of the smallest size.
BITS = 2**51
_mask = z3.Function("window_mask", WORD, WORD, WORD, WORD)
_INITIAL = (cache_word, host_word)
_LOADS = (worker.LOAD_CACHE, worker.LOAD_HOST)
_STORES = (worker.STORE_CACHE, worker.STORE_HOST)
Lift = Callable[[Callable[..., Any]], Callable[..., Any]]
Step = Callable[[worker.MemoryOf[Words], worker.WorkerOf[Word]], Running]


@dataclass(frozen=True)
class Window:
    """The bits ``[first, last)`` of one block, in the words from ``first_word`` to ``end``.

    ``bit`` is that of a page, any page, in ``its_word``; ``step`` is the model's, with the mask a name.
    """

    cache_bitmap: z3.BitVecRef
    host_bitmap: z3.BitVecRef
    first: z3.BitVecRef
    last: z3.BitVecRef
    first_word: z3.BitVecRef
    end: z3.BitVecRef
    bit: z3.BitVecRef
    its_word: z3.BitVecRef
    step: Step

    def mask(self, word: z3.BitVecRef) -> z3.BitVecRef:
        """The window's bits in a word."""
        return _mask(word, self.first, self.last)

    def has(self, word: z3.BitVecRef) -> z3.BoolRef:
        """Is it one of the window's words?"""
        return z3.And(z3.ULE(self.first_word, word), z3.ULT(word, self.end))

    @property
    def has_bit(self) -> z3.BoolRef:
        """Is it the bit of one of the window's pages?"""
        return z3.And(z3.ULE(self.first, self.bit), z3.ULT(self.bit, self.last))

    @property
    def is_dirty(self) -> z3.BoolRef:
        """Is the page dirty in either bitmap, to begin with?"""
        return z3.Or(*(is_set(of(self.its_word), self.bit) for of in _INITIAL))


@dataclass
class Flushing:
    """Memory of a flush: the words below ``done`` are flushed, then there were ``stores``.

    ``copied`` says whether the page has been. ``model`` is the model's worker, at the same word.
    """

    window: Window
    fields: dict[str, z3.BitVecRef]
    done: z3.BitVecRef
    copied: z3.BoolRef
    stores: tuple[tuple[int, z3.BitVecRef, z3.BitVecRef], ...] = ()
    model: Running | None = None

    def copy(self) -> "Flushing":
        return replace(self)

    def word(self, which: int, number: z3.BitVecRef) -> z3.BitVecRef:
        """What a bitmap's word holds now."""
        value = self.flushed(which, number, self.done)
        for bitmap, index, stored in self.stores:
            if bitmap == which:
                value = z3.If(number == index, stored, value)
        return z3.simplify(value)

    def flushed(self, which: int, number: z3.BitVecRef, done: z3.BitVecRef) -> z3.BitVecRef:
        """What it holds when the words below ``done`` are flushed: without its window's bits."""
        initial = _INITIAL[which](number)
        is_done = z3.And(z3.ULE(self.window.first_word, number), z3.ULT(number, done))
        return z3.If(is_done, initial & ~self.window.mask(number), initial)

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        known = self.fields.get(z3.simplify(at.z).sexpr())
        if known is not None and what.type == Integer(64):
            return Bits(known)
        which, number = self._place(what, at)
        machine.must(state, "words are read within the window", self.window.has(number))
        value = self.word(which, number)
        if self.model is None:
            raise UnknownIR(f"a word is read before there is one to flush, in the LLVM IR: {what}")
        memory, me = self.model
        if not number.eq(me.word.z):
            machine.must(state, "only words to come are read ahead", z3.UGT(number, me.word.z))
            return Bits(value)
        self._is_at(machine, state, "the model loads this word now", _LOADS[which])
        memory, me = self.model = self.window.step(memory, me)
        machine.must(state, "the model loads the same", (me.cache, me.host)[which].z == value)
        return Bits(value)

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        which, number = self._place(what, at)
        if self.model is None or not isinstance(value, Bits):
            raise UnknownIR(f"a store before there is a word to flush, in the LLVM IR: {what}")
        machine.must(state, "words are written within the window", self.window.has(number))
        machine.must(state, "it is the model's word", number == self.model[1].word.z)
        self._is_at(machine, state, "the model stores this word now", _STORES[which])
        bit = self.window.bit
        goes = z3.And(is_set(self.word(which, number), bit), z3.Not(is_set(value.z, bit)))
        copied = z3.Implies(z3.And(number == self.window.its_word, goes), self.copied)
        machine.must(state, "a bit is cleared when its page has been copied", copied)
        self.model = self.window.step(*self.model)
        memory, _ = self.model
        left = (memory.cache, memory.host)[which]
        machine.must(state, "the model stores the same", left[Word(number)].z == value.z)
        self.stores = (*self.stores, (which, number, value.z))

    def _is_at(self, machine: Machine, state: State, name: str, step: int) -> None:
        if self.model is not None:
            machine.must(state, name, self.model[1].step.z == step)

    def _place(self, what: Instruction, at: Bits) -> tuple[int, z3.BitVecRef]:
        """The bitmap and the number of the word at an address. Raises UnknownIR for any other."""
        for which, base in enumerate((self.window.cache_bitmap, self.window.host_bitmap)):
            number = index_of(at.z, base)
            if number is not None and (what.type, what.align) == (Integer(64), 8):
                return which, number
        raise UnknownIR(f"an access to no word of a bitmap, in the LLVM IR: {what.text}")


def _flush_window(p: Proof) -> None:
    """flush_window, compiled, flushes the pages of a window, each word as the model's worker does.

    Each dirty page is copied before a bit of it is cleared; what it counts is what the worker counts; it
    reads and writes no bitmap word but the window's, and comes to an end.
    """
    job, row, first, last = (a_word(n) for n in ("job", "row", "first", "last"))
    cache, host, bit = (a_word(n) for n in ("cache_bitmap", "host_bitmap", "bit"))
    first_bit, used = a_word("first_bit"), a_word("used")
    lift, masked = with_named_masks(p)
    first_word, end, any_word = (a_word(n) for n in ("first_word", "end", "any_word"))
    window = Window(cache, host, first, last, first_word, end, bit, any_word, _stepping(lift))
    p.assume(
        "tables and bitmaps are aligned", *(Truth(a & 7 == 0) for a in (job, row, cache, host))
    )
    p.assume("bitmaps lie below 2^57", *(Truth(z3.ULT(a, 2**56)) for a in (cache, host)))
    p.assume("its block lies below bit 2^51", Truth(z3.ULT(first_bit, BITS)))
    p.assume("its block lies below bit 2^51", Truth(z3.ULE(first_bit + used, BITS)))
    p.assume("its block lies below bit 2^51", Truth(z3.ULE(used, BITS)))
    p.assume("the window is a part of it", Truth(z3.ULE(first_bit, first)))
    p.assume("the window is a part of it", Truth(z3.ULE(last, first_bit + used)))
    p.assume("the window is not empty", Truth(z3.ULT(first, last)))
    p.assume("these are its words", Truth(first_word == z3.LShR(first, 6)))
    p.assume("these are its words", Truth(end == z3.LShR(last + 63, 6)))
    p.assume("a page of some word", Truth(z3.ULT(bit, 2**53)), Truth(any_word == z3.LShR(bit, 6)))
    p.assume("tables, bitmaps and pages lie apart")  # a store changes one word, of one bitmap
    p.assume(
        "counts are the model's, word by word",
        *(Truth(of(first_word) == 0) for of in below.values()),
    )
    in_mask = masked(first, last, bit, window.mask(any_word))

    def by_its_bit(goal: z3.BoolRef) -> z3.BoolRef:
        """The goal, given what is known of the page's bit in a mask."""
        return z3.Implies(in_mask, goal)

    def start(word: z3.BitVecRef) -> Running:
        """The model's worker about to begin a word, as its invariant has it."""
        *bitmaps, copied = p.word_arrays("model_cache model_host model_copied")
        stored = zip(bitmaps, _INITIAL, strict=True)
        cache_, host_ = (Words(z3.Store(array.z, word, of(word))) for array, of in stored)
        begun = lift(worker.starting)(Word(word), Word(first), Word(last))
        fields = {name: symbolic.word(value) for name, value in begun._asdict().items()}
        me = worker.WorkerOf(**{**fields, **{n: Word(of(word)) for n, of in below.items()}})
        return worker.MemoryOf(cache_, host_, copied), me

    def so_far(done: z3.BitVecRef) -> z3.BoolRef:
        """Has the page been copied when the words below ``done`` are flushed?"""
        passed = z3.And(window.has(any_word), z3.ULT(any_word, done))
        return z3.And(passed, window.has_bit, window.is_dirty)

    def writes(machine: Machine, state: State, word: z3.BitVecRef) -> None:
        hold(
            machine,
            state,
            word__2=word,
            end=end,
            **{f"{n}__2": of(word) for n, of in below.items()},
        )
        state.memory = replace(
            memory_of(state, Flushing), done=word, copied=so_far(word), stores=(), model=start(word)
        )

    def holds(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        memory = memory_of(state, Flushing)
        return [
            ("the end stays", held(machine, state, "end") == end),
            ("it is one of the window's words", window.has(word)),
            *(
                (f"so much is counted: {name}", held(machine, state, f"{name}.2") == of(word))
                for name, of in below.items()
            ),
            *(
                (
                    f"the words done are flushed, no others: {name}",
                    memory.word(which, any_word) == memory.flushed(which, any_word, word),
                )
                for which, name in enumerate(("cache", "host"))
            ),
            (
                "their dirty pages are copied, no others",
                by_its_bit(memory.copied == so_far(word)),
            ),
        ]

    def counted(word: z3.BitVecRef) -> z3.BoolRef:
        """What the worker counts of a word, which is what defines ``below``."""
        counts = lift(worker.counts)(
            Word(cache_word(word)), Word(host_word(word)), Word(window.mask(word))
        )
        return z3.And(
            *(
                of(z3.simplify(word + 1)) == of(word) + n.z
                for of, n in zip(below.values(), counts, strict=True)
            )
        )

    def turn(state: State, before: z3.BitVecRef, _: z3.BitVecRef) -> list[Part]:
        memory = memory_of(state, Flushing)
        if memory.model is None:
            raise UnknownIR("a turn without a word")
        me = memory.model[1]
        at_next = z3.And(me.step.z == worker.LOAD_CACHE, me.word.z == before + 1)
        counted_ = z3.And(*(getattr(me, n).z == of(before + 1) for n, of in below.items()))
        return [("the model is at the next word", at_next), ("it has counted as much", counted_)]

    def dirty(word: z3.BitVecRef) -> z3.BoolRef:
        return is_dirty(p, cache_word(word), host_word(word))

    def search(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """next_dirty_word, by what is proved of it."""
        one, other, begin, to = arguments(machine, state, values, "next_dirty_word")
        memory, some = memory_of(state, Flushing), machine.fresh(WORD, "some_word")
        the_bitmaps = z3.And(one == cache, other == host, to == end)
        machine.must(state, "the window's words are searched", the_bitmaps)
        at = memory.model[1].word.z + 1 if memory.model else first_word
        machine.must(state, "fewer than 2^46 words", can_be_searched(begin, to))
        machine.must(state, "from the first, or the one behind the last found", begin == at)
        searched = z3.And(z3.ULE(at, some), z3.ULT(some, end))
        as_it_was = z3.And(*(memory.word(w, some) == _INITIAL[w](some) for w in (0, 1)))
        machine.must(state, "nothing that is searched has changed", z3.Implies(searched, as_it_was))
        adds = z3.And(*(of(some + 1) == of(some) for of in below.values()))
        clean = z3.And(window.has(some), counted(some), z3.Not(dirty(some)))
        machine.must(state, "a clean word adds nothing", z3.Implies(clean, adds))
        found = machine.fresh(WORD, "found")
        known = first_dirty_word(at, end, found, any_word, dirty, *below.values())
        state.path += [goal for _, goal in known]
        return returned(state, values, found)

    def copy(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """copy_pages, by what is proved of it."""
        this_job, this_row, word, pages, _ = arguments(machine, state, values, "copy_pages")
        memory = memory_of(state, Flushing)
        if memory.model is None:
            raise UnknownIR("pages are copied before there is a word to flush")
        of_model, me = memory.model
        the_block = z3.And(this_job == job, this_row == row)
        machine.must(state, "pages of the block are copied", the_block)
        shown(machine, state, "of the word at hand", word == me.word.z)
        machine.must(state, "those that the model is about to copy", pages == me.to_copy.z)
        machine.must(state, "the model copies now", me.step.z == word_to_copy(pages))
        is_one = z3.And(word == any_word, is_set(pages, bit))
        in_block = z3.Implies(is_one, is_of_block(bit, first_bit, used))
        machine.must(state, "they are pages of the block", by_its_bit(in_block))
        machine.must(state, "a word below 2^46", z3.ULT(word, 2**46))
        done = symbolic.stored(of_model.copied, me.word, of_model.copied[me.word] | Word(pages))
        memory.model = (
            of_model._replace(copied=done),
            me._replace(step=Word(STORE_CACHE), to_copy=symbolic.word(0)),
        )
        memory.copied = z3.Or(memory.copied, is_one)
        return returned(state, values)

    def after(state: State) -> list[Part]:
        memory = memory_of(state, Flushing)
        return [
            *(
                (f"the whole window is counted: {name}", count == of(end))
                for count, (name, of) in zip(results(state, 4), below.items(), strict=True)
            ),
            *(
                (
                    f"the window's bits are cleared, no others: {name}",
                    by_its_bit(
                        is_set(memory.word(which, any_word), bit)
                        == z3.And(is_set(_INITIAL[which](any_word), bit), z3.Not(window.has_bit))
                    ),
                )
                for which, name in enumerate(("cache", "host"))
            ),
            (
                "its dirty pages are copied, no others",
                by_its_bit(memory.copied == z3.And(window.has_bit, window.is_dirty)),
            ),
        ]

    contracts: dict[str, Contract] = {
        **of_the_model(lift),
        symbol(KERNELS + "next_dirty_word"): search,
        symbol(KERNELS + "copy_pages"): copy,
    }
    fields = {z3.simplify(job + 8).sexpr(): cache, z3.simplify(job + 16).sexpr(): host}
    run(
        p,
        KERNELS + "flush_window",
        [job, row, first, last],
        [
            Counted(
                "words flushed",
                lambda m, s: held(m, s, "word.2"),
                writes,
                holds,
                given=counted,
                turn=turn,
            )
        ],
        Flushing(window, fields, first_word, z3.BoolVal(False)),
        Many(4, Integer(64)),
        after,
        contracts,
    )


def with_named_masks(p: Proof) -> tuple[Lift, Callable[..., z3.BoolRef]]:
    """Functions of the model with the mask a name; and what that says of a page's bit.

    It is proved of the model's mask: it has the bit of a page of the window, and no other page's.
    """

    def says(
        first: z3.BitVecRef, last: z3.BitVecRef, bit: z3.BitVecRef, mask: z3.BitVecRef
    ) -> z3.BoolRef:
        small = z3.And(z3.ULT(bit, 2**53), z3.ULT(last, 2**53))
        within = z3.And(z3.ULE(first, bit), z3.ULT(bit, last))
        return z3.Implies(small, is_set(mask, bit) == within)

    def of_the_mask(first: Word, last: Word, bit: Word) -> Truth:
        its_word = p.lift_words(words.word_of)(bit)
        mask = p.lift_words(words.window_mask)(its_word, first, last)
        return Truth(says(first.z, last.z, bit.z, mask.z))

    def named(word: Word, first: Word, last: Word) -> Word:
        return Word(_mask(word.z, first.z, last.z))

    p.lemma("a mask has the bits of the window's pages", of_the_mask, *p.words("any_word " * 3))
    empty = p.lemma("no page is in an empty word", is_empty)
    empty(symbolic.some_population)
    primitives: dict[Callable[..., Any], Any] = {
        domain.select: symbolic.select,
        worker.loaded: symbolic.loaded,
        worker.stored: symbolic.stored,
        words.window_mask: named,
        words.trailing_zeros: symbolic.trailing_zeros,
        words.population: symbolic.some_population,
    }
    lift = p.domain(symbolic.word, primitives).lift
    return lift, says


def is_empty(population: Callable[[Word], Any] = symbolic.population) -> Truth:
    """An empty word has no page: proved of what population counts, used of any that counts the same."""
    empty: Truth = population(symbolic.word(0)) == 0
    return empty


def _stepping(
    lift: Lift,
) -> Step:
    """The model's step; where the worker stands after it is worked out."""

    def step(memory: worker.MemoryOf[Words], me: worker.WorkerOf[Word]) -> Running:
        after, following = lift(worker.step)(memory, me)
        simple = {name: Word(z3.simplify(getattr(following, name).z)) for name in ("step", "word")}
        return after, following._replace(**simple)

    return step


claim(
    "flush.flush_window",
    _flush_window,
    Change(
        "the two stores exchanged",
        r"%cache_word(, align 8\n  %\S+ = inttoptr i64 %\S+ to ptr\n  store)",
        r"%host_word\1",
        "the model stores this word now",
    ),
    Change(
        "a store before the copy",
        r"(  %\S+ = call i32 @\S*copy_pages)",
        r"""  %early = load i64, ptr %cache_word, align 8
  %there = inttoptr i64 %early to ptr
  store i64 0, ptr %there, align 8
\1""",
        "the model stores this word now",
    ),
    Change(
        "a mask dropped",
        r"and i64 (%\S+), %\S+(\n.*\n  store i64 %\S+, ptr %dirty,)",
        r"or i64 \1, 0\2",
        "those that the model is about to copy",
    ),
    Change(
        "a word's bits all cleared",
        r"(inttoptr i64 \S+ to ptr\n  store i64) \S+,",
        r"\1 0,",
        "a bit is cleared when its page has been copied",
    ),
    Change(
        "every second word",
        r"(load i64, ptr %word.2, align 8\n  %\S+ = add i64 %\S+), 1",
        r"\1, 2",
        "from the first, or the one behind the last found",
    ),
    Change(
        "words of 32 bits",
        r"(mul i64 %\S+), 8",
        r"\1, 4",
        "an address is a multiple of 8",
    ),
)
