"""Stray bits: a flush is refused if and only if there is one, before anything has been written.

``flush.check_no_stray`` says it of sets of pages; here is the search for one, gap by gap, word by word.
To search writes nothing (``model/strays.py`` maps words to a truth), so what is refused is unchanged.
"""

from model import strays, words
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Natural, Sequence, Truth, forall, implies, select
from proofs.shares import MOST_PAGES
from proofs.words import bit


def in_order(first: Sequence, end: Sequence, blocks: Natural) -> Truth:
    """The blocks lie in the order of their bits, and no two have one in common."""
    return forall(
        lambda k: implies(
            (k >= 0) & (k < blocks),
            (first[k] >= 0) & (first[k] <= end[k]) & ((k + 1 == blocks) | (end[k] <= first[k + 1])),
        )
    )


def ends_rise(n: Natural, first: Sequence, end: Sequence, blocks: Natural, block: Natural) -> Truth:
    """A block ends no later than any block after it."""
    later = block + n
    inside = (block >= 0) & (later < blocks)
    return implies(in_order(first, end, blocks) & inside, end[block] <= end[later])


@claim(
    faulty("a gap begins late", refutes="a bit that no block holds is in that gap"),
    faulty("a gap ends late", refutes="a bit in that gap is in no block"),
)
def a_bit_is_used_or_in_a_gap(p: Proof) -> None:
    """A bit that no block's used pages hold lies in one of the gaps, and no bit of theirs does.

    For any number of blocks. ``above`` is the first block that ends above the bit, or their number:
    what ``impl`` and ``Layout.is_used`` look for by halving. The gap is the one below that block.
    """
    first, end = p.sequences("first end")
    blocks, total, at, above, block = p.naturals("blocks total bit above block")
    p.assume("blocks in order", in_order(first, end, blocks))
    p.assume("a bit of the bitmaps", at < total)
    p.assume("the first block that ends above it", above <= blocks)
    p.assume("the first block that ends above it", (above == blocks) | (end[above] > at))
    p.assume("the first block that ends above it", (above == 0) | (end[above - 1] <= at))
    p.scenario("stray bits", first_bits=[3], used=[61], dirty=[at])
    p.witness(blocks == 1, first[0] == 3, end[0] == 5, above == 0, at == 4, total == 64)
    end_below = select(above == 0, 0, end[above - 1])
    first_above = select(above == blocks, total, first[above])
    in_gap = p.lift(strays.in_gap)(at, end_below, first_above)
    rise = p.by_induction("ends rise", ends_rise, first, end, blocks, block)

    def holds(number: Natural) -> Truth:
        return (first[number] <= at) & (at < end[number])

    its_block = (above < blocks) & holds(above)
    p.prove("a bit that no block holds is in that gap", its_block | in_gap)
    p.assume("any block", block < blocks)
    with p.case():
        p.assume("a block below", block < above)
        rise(above - 1 - block, first, end, blocks, block)
        p.prove("no block below holds it", ~holds(block))
    with p.case():
        p.assume("a block above", above < block)
        rise(block - 1 - above, first, end, blocks, above)
        p.prove("no block above holds it", ~holds(block))
    p.prove("a bit in that gap is in no block", implies(in_gap, ~holds(block)))


@claim(
    faulty("only cache bits are strays", refutes="a stray bit is found"),
    faulty("window mask ends early", refutes="a stray bit is found"),
)
def a_stray_bit_is_found(p: Proof) -> None:
    """A dirty bit in a gap is found in one of the gap's words, and nothing else is ever taken for one."""
    cache, host, first, last, at = p.words("cache host first last bit")
    p.assume("sizes", first < MOST_PAGES, last < MOST_PAGES, at < MOST_PAGES)
    word_of = p.lift_words(words.word_of)
    index, position = word_of(at), p.lift_words(words.bit_of)(at)
    p.scenario("stray bits", first_bits=[3], used=[61], dirty=[at])
    found = p.lift_words(strays.stray_bits)(cache, host, index, first, last)
    dirty = bit(cache, position) | bit(host, position)
    in_gap = p.lift_words(strays.in_gap)(at, first, last)
    p.prove("a stray bit is found", bit(found, position) == (dirty & in_gap))
    refused = p.lift_words(strays.found_in)(found)
    p.prove("and refused", implies(dirty & in_gap, refused))
    first_found = p.lift_words(words.next_page)(found)
    stray = index * 64 + first_found
    is_one = p.lift_words(strays.in_gap)(stray, first, last)
    bits = bit(cache, first_found) | bit(host, first_found)
    p.prove("what is refused is one", implies(refused, is_one & bits))
    p.prove(
        "in a word of the gap",
        implies(in_gap, (word_of(first) <= index) & (index < word_of(last + 63))),
    )
