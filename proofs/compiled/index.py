"""The index of dirty pages of ``impl/kernels/flush.py``: to count, to write it, to add it up, to search.

What the index holds is what ``model.shares.index_of`` says, in two levels of which the model shows that
they add up to ``dirty_before``: 0, and for each next word as much more as pages are dirty in the last.
What is said of one word, any, and of one stretch, any, holds of all.
"""

from collections.abc import Callable

import z3

from model import shares, words
from proofs.compiled.flush import (
    KERNELS,
    cache_word,
    can_be_searched,
    first_dirty_word,
    host_word,
    is_dirty,
)
from proofs.compiled.halving import halving
from proofs.compiled.ir import Integer, Many, Pointer
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
    over_range,
    results,
    returned,
    run,
    symbol,
)
from proofs.compiled.machine import Contract, Machine, State
from proofs.compiled.values import Datum
from proofs.compiled.whole_ram import Array, Ram, a_ram, bitmaps
from proofs.compiled.window import is_empty
from proofs.prover.obligation import Proof
from proofs.prover.symbolic import Truth, Word, some_population

#: How many dirty pages lie below each word.
_before = z3.Function("dirty_before", WORD, WORD)
#: What a word of the index, and a stretch of it, hold before they are written.
_within, _of_stretch = (z3.Function(name, WORD, WORD) for name in ("index_word", "stretch"))
_STRETCH = shares.STRETCH


def _stretch_of(word: z3.BitVecRef) -> z3.BitVecRef:
    return z3.UDiv(word, z3.BitVecVal(_STRETCH, 64))


def _begin_of(word: z3.BitVecRef) -> z3.BitVecRef:
    """Where the stretch of a word begins."""
    return _STRETCH * _stretch_of(word)


def _smaller(a: z3.BitVecRef, b: z3.BitVecRef) -> z3.BitVecRef:
    return z3.If(z3.ULT(a, b), a, b)


def _between(first: z3.BitVecRef, word: z3.BitVecRef, last: z3.BitVecRef) -> z3.BoolRef:
    """Is a word one of those from ``first`` to ``last``?"""
    return z3.And(z3.ULE(first, word), z3.ULT(word, last))


def _counting(p: Proof) -> Callable[[z3.BitVecRef], z3.BoolRef]:
    """What defines ``_before``: a word adds to it how many pages are dirty in it."""
    first = z3.BitVecVal(0, 64)
    p.assume("counts are the model's, word by word", Truth(_before(first) == 0))
    either = p.lift_words(words.either)

    def counted(word: z3.BitVecRef) -> z3.BoolRef:
        union = either(Word(cache_word(word)), Word(host_word(word)))
        return _before(z3.simplify(word + 1)) == _before(word) + some_population(union).z

    return counted


def _some_words(p: Proof) -> tuple[z3.BitVecRef, z3.BitVecRef, z3.BitVecRef, z3.BitVecRef]:
    """Words from ``first`` to ``last`` of a RAM, where its words end, and one of them all, any."""
    names = ("first", "last", "words", "any_word")
    first, last, end, some = map(a_word, names)
    p.assume("a range of words", Truth(z3.ULE(first, last)), Truth(z3.ULE(last, end)))
    return first, last, end, some


def _stays(state: State, ram: Ram) -> Part:
    memory, was = memory_of(state, Ram), ram.now
    same = z3.And(*(memory.now[name] == was[name] for name in ("cache", "host")))
    return "the bitmaps stay", z3.And(same, z3.BoolVal(not memory.stored))


def _count_words(p: Proof) -> None:
    """count_words, compiled, counts the bits of some words that are set in either bitmap."""
    first, last, end, some = _some_words(p)
    ram = a_ram(p, end, *bitmaps(end, some))
    counted = _counting(p)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, total__2=_before(first + done) - _before(first))
        state.path.append(counted(first + done))

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        wanted = _before(first + done) - _before(first)
        total = held(machine, state, "total.2")
        return [("so much is counted", total == wanted), _stays(state, ram)]

    def after(state: State) -> list[Part]:
        (total,) = results(state, 1)
        wanted = _before(last) - _before(first)
        return [("all is counted", total == wanted), _stays(state, ram)]

    loop = over_range("words counted", lambda _: last - first, writes, holds, first=lambda _: first)
    given = [ram.arrays["cache"].base, ram.arrays["host"].base, first, last]
    contracts = of_the_model(p.lift_words)
    run(p, KERNELS + "count_words", given, [loop], ram, Integer(64), after, contracts)


def _count_either(p: Proof) -> None:
    """count_either, compiled, counts all bits set in either bitmap, or stops above a number.

    Then what it has counted is above that number, and not above all. Wherever it stopped, every word
    outside those that it names is clean, and the first of them is dirty, if any is. Over what is proved
    of next_dirty_word, which passes the clean words between, and of count_words.
    """
    end, some, enough = a_word("words"), a_word("any_word"), a_word("enough")
    ram, counted = a_ram(p, end, *bitmaps(end, some)), _counting(p)
    cache, host = ram.arrays["cache"].base, ram.arrays["host"].base
    empty = p.lemma("no page is in an empty word", is_empty)
    empty(some_population)

    def dirty(word: z3.BitVecRef) -> z3.BoolRef:
        return is_dirty(p, cache_word(word), host_word(word))

    def search(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """next_dirty_word, by what is proved of it."""
        one, other, begin, to = arguments(machine, state, values, "next_dirty_word")
        machine.must(state, "both bitmaps are searched", z3.And(one == cache, other == host))
        asked = z3.And(to == end, can_be_searched(begin, to))
        machine.must(state, "words are, up to the last", asked)
        clean, found = machine.fresh(WORD, "some_word"), machine.fresh(WORD, "found")
        adds = z3.Implies(
            z3.And(counted(clean), z3.Not(dirty(clean))), _before(clean + 1) == _before(clean)
        )
        machine.must(state, "a clean word adds nothing", adds)
        known = first_dirty_word(begin, end, found, some, dirty, _before)
        state.path += [goal for _, goal in known]
        return returned(state, values, found)

    def count(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """count_words, by what is proved of it."""
        one, other, begin, to = arguments(machine, state, values, "count_words")
        machine.must(state, "both bitmaps are counted", z3.And(one == cache, other == host))
        machine.must(state, "words of the RAM are", z3.And(z3.ULE(begin, to), z3.ULE(to, end)))
        state.path.append(z3.ULE(_before(to), _before(end)))
        return returned(state, values, _before(to) - _before(begin))

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        return held(machine, state, "word.2")

    def writes(machine: Machine, state: State, word: z3.BitVecRef) -> None:
        hold(machine, state, word__2=word, total__2=_before(word))

    def holds(machine: Machine, state: State, word: z3.BitVecRef) -> list[Part]:
        first = held(machine, state, "first")
        return [
            ("so much is counted", held(machine, state, "total.2") == _before(word)),
            ("words of the RAM are counted", z3.And(z3.ULE(first, word), z3.ULE(word, end))),
            _stays(state, ram),
        ]

    def after(state: State) -> list[Part]:
        total, first, last = results(state, 3)
        outside = z3.And(z3.ULT(some, end), z3.Not(_between(first, some, last)))
        return [
            ("all is counted, or enough", z3.Or(total == _before(end), z3.UGT(total, enough))),
            ("nothing is that is not there", z3.ULE(total, _before(end))),
            ("words of the RAM are named", z3.And(z3.ULE(first, last), z3.ULE(last, end))),
            ("the first of them is dirty", z3.Or(first == end, dirty(first))),
            ("all others are clean", z3.Implies(outside, z3.Not(dirty(some)))),
            _stays(state, ram),
        ]

    p.assume("counts never fall")  # said of each word that has been reached, and the end
    loop = Counted("words passed", reads, writes, holds)
    contracts = {
        **of_the_model(p.lift_words),
        symbol(KERNELS + "next_dirty_word"): search,
        symbol(KERNELS + "count_words"): count,
    }
    result = Many(3, Integer(64))
    run(p, KERNELS + "count_either", [ram.job, enough], [loop], ram, result, after, contracts)


def _index_stretch(p: Proof) -> None:
    """index_stretch, compiled, writes for each of its words how many dirty pages lie below it among them.

    It returns how many there are in all of them, and writes nothing else.
    """
    first, last, end, some = _some_words(p)
    ram = a_ram(p, end, *bitmaps(end, some), Array("index", end, _within, some))
    counted, was = _counting(p), ram.now["index"]

    def so_far(to: z3.BitVecRef) -> z3.BitVecRef:
        return z3.If(_between(first, some, to), _before(some) - _before(first), was)

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        word = first + done
        hold(machine, state, before__2=_before(word) - _before(first))
        memory_of(state, Ram).now["index"] = so_far(word)
        state.path.append(counted(word))

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        word, before = first + done, held(machine, state, "before.2")
        written = memory_of(state, Ram).now["index"] == so_far(word)
        return [
            ("so much is counted", before == _before(word) - _before(first)),
            ("words so far are written, no others", written),
            _stays(state, ram),
        ]

    def after(state: State) -> list[Part]:
        (total,) = results(state, 1)
        return [
            ("all are written, no others", memory_of(state, Ram).now["index"] == so_far(last)),
            ("all is counted", total == _before(last) - _before(first)),
            _stays(state, ram),
        ]

    loop = over_range("words indexed", lambda _: last - first, writes, holds, first=lambda _: first)
    contracts = of_the_model(p.lift_words)
    given = [ram.job, first, last]
    run(p, KERNELS + "index_stretch", given, [loop], ram, Integer(64), after, contracts)


def _stretches(end: z3.BitVecRef, holds: Callable[[z3.BitVecRef], z3.BitVecRef]) -> Array:
    """The stretches of this number of words, and one of them, any."""
    number = _stretch_of(end + (_STRETCH - 1))
    return Array("stretches", number, holds, a_word("any_stretch"))


def _in_stretch(stretch: z3.BitVecRef, last: z3.BitVecRef) -> z3.BitVecRef:
    """How many dirty pages there are in a stretch, as far as the word ``last``."""
    begin = _STRETCH * stretch
    return _before(_smaller(begin + _STRETCH, last)) - _before(begin)


def _index_words(p: Proof) -> None:
    """index_words, compiled, writes for each of its words how many dirty pages its stretch has below it.

    And for each stretch how many are in it. The words are whole stretches, but for the last one of a RAM;
    nothing else is written. Over what is proved of index_stretch.
    """
    first, last, end, some = _some_words(p)
    aligned = (Truth(z3.Or(word == _begin_of(word), word == end)) for word in (first, last))
    p.assume("stretches are whole", *aligned)
    stretches = _stretches(end, _of_stretch)
    ram = a_ram(p, end, *bitmaps(end, some), Array("index", end, _within, some), stretches)
    was, stretch = dict(ram.now), stretches.some

    def words_so_far(to: z3.BitVecRef) -> z3.BitVecRef:
        wanted = _before(some) - _before(_begin_of(some))
        return z3.If(_between(first, some, to), wanted, was["index"])

    def stretches_so_far(to: z3.BitVecRef) -> z3.BitVecRef:
        done = z3.And(_between(first, _STRETCH * stretch, to), z3.ULT(stretch, stretches.length))
        return z3.If(done, _in_stretch(stretch, last), was["stretches"])

    def index(machine: Machine, state: State, values: list[Datum]) -> Datum:
        """index_stretch, by what is proved of it."""
        job, begin, to = arguments(machine, state, values, "index_stretch")
        machine.must(state, "its RAM is indexed", job == ram.job)
        inside = z3.And(z3.ULE(begin, to), z3.ULE(to, end))
        machine.must(state, "words of the RAM are", inside)
        memory = memory_of(state, Ram)
        wanted = _before(some) - _before(begin)
        memory.now["index"] = z3.If(_between(begin, some, to), wanted, memory.now["index"])
        return returned(state, values, _before(to) - _before(begin))

    def reads(machine: Machine, state: State) -> z3.BitVecRef:
        return held(machine, state, "word.2")

    def writes(machine: Machine, state: State, to: z3.BitVecRef) -> None:
        hold(machine, state, word__2=to)
        now = memory_of(state, Ram).now
        now["index"], now["stretches"] = words_so_far(to), stretches_so_far(to)

    def holds(machine: Machine, state: State, to: z3.BitVecRef) -> list[Part]:
        now = memory_of(state, Ram).now
        return [
            ("there are some left", z3.And(z3.ULE(first, to), z3.ULT(to, last))),
            ("a stretch begins", to == _begin_of(to)),
            ("words so far are written, no others", now["index"] == words_so_far(to)),
            ("stretches so far are, no others", now["stretches"] == stretches_so_far(to)),
            _stays(state, ram),
        ]

    def after(state: State) -> list[Part]:
        now = memory_of(state, Ram).now
        return [
            ("all words are written, no others", now["index"] == words_so_far(last)),
            ("all stretches are, no others", now["stretches"] == stretches_so_far(last)),
            _stays(state, ram),
        ]

    loop = Counted("stretches indexed", reads, writes, holds)
    contracts: dict[str, Contract] = {
        **of_the_model(p.lift_words),
        symbol(KERNELS + "index_stretch"): index,
    }
    given = [ram.job, first, last]
    run(p, KERNELS + "index_words", given, [loop], ram, Pointer(), after, contracts)


def _add_up_stretches(p: Proof) -> None:
    """add_up_stretches, compiled, turns how many dirty pages each stretch has into how many lie below it.

    It returns how many there are in all.
    """
    end = a_word("words")
    stretches = _stretches(end, lambda stretch: _in_stretch(stretch, end))
    ram = a_ram(p, end, stretches)
    p.assume("nothing lies below the first word", Truth(_before(z3.BitVecVal(0, 64)) == 0))
    stretch, was = stretches.some, dict(ram.now)

    def below(stretch: z3.BitVecRef) -> z3.BitVecRef:
        return _before(_smaller(_STRETCH * stretch, end))

    def so_far(done: z3.BitVecRef) -> z3.BitVecRef:
        return z3.If(z3.ULT(stretch, done), below(stretch), was["stretches"])

    def writes(machine: Machine, state: State, done: z3.BitVecRef) -> None:
        hold(machine, state, before__2=below(done))
        memory_of(state, Ram).now["stretches"] = so_far(done)

    def holds(machine: Machine, state: State, done: z3.BitVecRef) -> list[Part]:
        written = memory_of(state, Ram).now["stretches"] == so_far(done)
        return [
            ("so much is added up", held(machine, state, "before.2") == below(done)),
            ("stretches below are written, no others", written),
        ]

    def after(state: State) -> list[Part]:
        (total,) = results(state, 1)
        written = memory_of(state, Ram).now["stretches"] == so_far(stretches.length)
        return [
            ("all are written", written),
            ("all is added up", total == _before(end)),
            ("no field is", z3.BoolVal(not memory_of(state, Ram).stored)),
        ]

    loop = over_range("stretches added up", lambda _: stretches.length, writes, holds)
    contracts = of_the_model(p.lift_words)
    run(p, KERNELS + "add_up_stretches", [ram.job], [loop], ram, Integer(64), after, contracts)


def _first_word_with(p: Proof) -> None:
    """first_word_with, compiled, finds the first word that has no fewer dirty pages below it, or the end.

    That is what the model's says, where the index is what shares.index_of says.
    """
    end, word, pages = a_word("words"), a_word("any_word"), a_word("pages")
    p.assume("the index never falls")  # said of each word that is read, beside that one

    def sorted_(read: z3.BitVecRef) -> z3.BoolRef:
        lower = z3.Implies(z3.ULE(read, word), z3.ULE(_before(read), _before(word)))
        higher = z3.Implies(z3.ULE(word, read), z3.ULE(_before(word), _before(read)))
        return z3.And(lower, higher)

    def within(word: z3.BitVecRef) -> z3.BitVecRef:
        return _before(word) - _before(_begin_of(word))

    stretches = _stretches(end, lambda stretch: _before(_STRETCH * stretch))
    ram = a_ram(p, end, Array("index", end, within, word, sorted_), stretches)

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
    contracts = of_the_model(p.lift_words)
    given = [ram.job, pages]
    run(p, KERNELS + "first_word_with", given, [loop], ram, Integer(64), after, contracts)


claim(
    "flush.count_words",
    _count_words,
    Change(
        "the cache bitmap twice",
        r"(store i64) %arg\.host_bitmap, (ptr %host_bitmap)",
        r"\1 %arg.cache_bitmap, \2",
        "so much is counted, kept",
    ),
)
claim(
    "flush.count_either",
    _count_either,
    Change(
        "not from the first word",
        r"(call i32 @\S*next_dirty_word\S*\(.*, i64) 0,",
        r"\1 1,",
        "so much is counted, at the start",
    ),
    Change(
        "as many are enough",
        r"icmp ule",
        "icmp ult",
        "all is counted, or enough",
    ),
    Change(
        "the same words again",
        r"(store i64) %\S+, (ptr %word.1, align 8\n)",
        r"\1 0, \2",
        "words passed come to an end",
    ),
    Change(
        "the search goes on one word too far",
        r"(  %\S+ = call i32 @\S*next_dirty_word\S*\(.*, i64) (%\S+), (i64 %\S+\))",
        r"  %behind = add i64 \2, 1\n\1 %behind, \3",
        "so much is counted, kept",
    ),
    Change(
        "it ends with the last words counted, not behind them",
        r"(load i64, ptr) %last.4(, align 8\n  %\S+ = load i64, ptr %last.6,)",
        r"\1 %word.2\2",
        "all others are clean",
    ),
    Change(
        "it ends where it stopped",
        r"store i64 %\S+, ptr %last.5, align 8\n(  br)",
        r"\1",
        "all others are clean",
    ),
)
claim(
    "flush.index_stretch",
    _index_stretch,
    Change(
        "the host bitmap twice",
        r"%cache_bitmap, align 8\n(  %\S+ = inttoptr)",
        r"%host_bitmap, align 8\n\1",
        "so much is counted, kept",
    ),
    Change(
        "0 dirty pages in all",
        r"(store i64) %\S+, (ptr %retptr)",
        r"\1 0, \2",
        "all is counted",
    ),
)
claim(
    "flush.index_words",
    _index_words,
    Change(
        "a stretch has nothing",
        r"(= inttoptr i64 %\S+ to ptr\n  store i64) %\S+, "
        r"(ptr %\S+, align 8\n.*\n  store i64 %\S+, ptr %word.2)",
        r"\1 0, \2",
        "stretches so far are, no others, kept",
    ),
    Change(
        "a place in the index for one in the sums",
        r"(add i64 %\S+), 80",
        r"\1, 72",
        "words so far are written, no others, kept",
    ),
)
claim(
    "flush.add_up_stretches",
    _add_up_stretches,
    Change(
        "the last stretch is left out",
        r"(add i64 %\S+), 4095",
        r"\1, 0",
        "one after the other, at the start",
    ),
    Change(
        "0 dirty pages in all",
        r"(store i64) %\S+, (ptr %retptr)",
        r"\1 0, \2",
        "all is added up",
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
    Change(
        "a word in its stretch, not in all",
        r"(%\S+ = add i64) %\S+, (%\S+\n.*\n  %\S+ = icmp ult)",
        r"\1 0, \2",
        "words below have fewer, kept",
    ),
)
