"""The steps on one 64-bit word, as facts about bit-vectors: every word, every mask, every bit."""

from model import words
from proofs.prover import symbolic
from proofs.prover.obligation import Proof, claim, faulty, without
from proofs.prover.symbolic import Truth, Word, every, implies, one, word

BITS = range(64)


def bit(value: Word, position: Word) -> Truth:
    """Is the bit set?"""
    return ((value >> position) & 1) == 1


@claim(
    faulty("no mask for an empty count", refutes="the bits below a count"),
    without("at most all pages", refutes="the bits below a count"),
)
def masks_are_exact(p: Proof) -> None:
    """A mask has the bits it should and no others, for empty and whole words too."""
    count, first, last, at = p.words("count first last at")
    below, between = p.lift(words.pages_below), p.lift(words.pages_between)
    p.scenario("masks", count=count, first=first, last=last)
    p.assume("a bit", at < 64)
    p.assume("at most all pages", count <= 64)
    p.assume("a range", first <= last, last <= 64)
    p.prove("the bits below a count", bit(below(count), at) == (at < count))
    p.prove("the bits of a range", bit(between(first, last), at) == ((first <= at) & (at < last)))


@claim(
    faulty("window mask ends early", refutes="a page's bit is in the mask if the page is"),
)
def a_window_mask_is_its_pages(p: Proof) -> None:
    """A word's mask for a window of pages has just the bits that stand for pages of the window."""
    index, first, last, at = p.words("word first last at")
    p.scenario("window mask", word=index, first=first, last=last)
    p.assume("a bit", at < 64)
    page = index * 64 + at
    mask = p.lift(words.window_mask)(index, first, last)
    p.prove(
        "a page's bit is in the mask if the page is",
        bit(mask, at) == ((first <= page) & (page < last)),
    )


@claim(
    faulty("shift by the whole word", refutes="every shift is by less than 64"),
)
def no_shift_by_64(p: Proof) -> None:
    """No shift is ever by 64 or more, where Python, z3 and LLVM disagree, whatever the operands."""
    index, first, last, count = p.words("word first last count")
    p.scenario("masks", count=count, first=first, last=last)
    p.assume("numbers of pages", count <= 64, first <= last, last <= 64)
    with symbolic.recorded_shifts() as shifts:
        p.lift(words.pages_below)(count)
        p.lift(words.pages_between)(first, last)
        p.lift(words.window_mask)(index, first, last)
    p.prove("every shift is by less than 64", *(shift < 64 for shift in shifts))


@claim(
    faulty("a bit stays", refutes="it alone is taken off"),
    without("a dirty page", refutes="it is a dirty page"),
)
def the_next_page_is_the_lowest(p: Proof) -> None:
    """The next page of a word is its lowest dirty one, and taking it off leaves all the others."""
    dirty, at = p.words("dirty at")
    p.scenario("one word", dirty=dirty)
    p.assume("a bit", at < 64)
    p.assume("a dirty page", dirty != 0)
    page, rest = p.lift(words.next_page)(dirty), p.lift(words.without_next)(dirty)
    p.prove("it is a dirty page", page < 64, bit(dirty, page))
    p.prove("none is below it", implies(at < page, ~bit(dirty, at)))
    p.prove("it alone is taken off", bit(rest, at) == (bit(dirty, at) & (at != page)))
    p.prove("less is left", rest < dirty)


@claim(
    faulty("clears too much", refutes="cleared: the flushed bits and no others"),
    faulty("copies what is in both", refutes="to copy: dirty in either"),
)
def bits_are_told_apart(p: Proof) -> None:
    """Page by page: copied if dirty in either bitmap, counted as both if in both, cleared if flushed."""
    cache, host, flushed, at = p.words("cache host mask at")
    p.scenario("one bit", cache=cache, host=host, mask=flushed, at=at)
    p.assume("a bit", at < 64)
    either, both, clear = p.lift(words.either), p.lift(words.both), p.lift(words.cleared)
    in_cache, in_host = bit(cache, at), bit(host, at)
    p.prove("to copy: dirty in either", bit(either(cache, host), at) == (in_cache | in_host))
    p.prove("both: dirty in both", bit(both(cache, host), at) == (in_cache & in_host))
    p.prove(
        "cleared: the flushed bits and no others",
        bit(clear(cache, flushed), at) == (in_cache & ~bit(flushed, at)),
    )


@claim(
    faulty("copies what is in both", refutes="bit by bit: copied and both make cache and host"),
)
def the_counters_add_up(p: Proof) -> None:
    """Population counts agree with each other: each page is counted once for each bitmap it is in."""
    cache, host, mask = p.words("cache host mask")
    p.scenario("counters", cache=cache, host=host, mask=mask)
    ones = p.lift(words.population)
    either, both = p.lift(words.either)(cache, host), p.lift(words.both)(cache, host)
    p.prove(
        "bit by bit: copied and both make cache and host",
        *(
            one(either & mask, at) + one(both & mask, at)
            == one(cache & mask, at) + one(host & mask, at)
            for at in BITS
        ),
    )
    p.prove(
        "copied and both make cache and host",
        ones(either & mask) + ones(both & mask) == ones(cache & mask) + ones(host & mask),
    )


@claim(
    faulty("a bit stays", refutes="only the page's bit goes"),
)
def a_page_less_is_one_less(p: Proof) -> None:
    """Taking the next page off a word lowers the count of its dirty pages by one."""
    (dirty,) = p.words("cache")
    p.scenario("counters", cache=dirty, host=0, mask=0)
    p.assume("a dirty page", dirty != 0)
    ones, next_page = p.lift(words.population), p.lift(words.next_page)
    rest = p.lift(words.without_next)(dirty)
    page = word(1) << next_page(dirty)
    p.prove(
        "only the page's bit goes", next_page(dirty) < 64, dirty == rest | page, rest & page == 0
    )
    parted = p.lemma(
        "bit by bit: one part or the other",
        lambda whole, part, other: implies(
            (whole == part | other) & (part & other == 0),
            every(*(one(whole, at) == one(part, at) + one(other, at) for at in BITS)),
        ),
        *(dirty, dirty, dirty),
    )
    single = p.lemma(
        "one bit has the count one",
        lambda position: implies(position < 64, ones(word(1) << position) == 1),
        dirty,
    )
    parted(dirty, rest, page)
    single(next_page(dirty))
    p.prove("the count is one less", ones(dirty) == ones(rest) + 1)


@claim(
    faulty("bit 63 is lost", refutes="word and bit make the page"),
)
def a_page_is_its_word_and_bit(p: Proof) -> None:
    """Page 64 * w + b is bit b of word w: each page has one, and no other page has it."""
    (page,) = p.words("page")
    p.scenario("one page", page=page)
    index, position = p.lift(words.word_of)(page), p.lift(words.bit_of)(page)
    p.prove("the bit is in the word", position < 64)
    p.prove("word and bit make the page", index * 64 + position == page)
