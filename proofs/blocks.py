"""Shares clipped to RAM blocks: the windows that the patch's threads visit."""

from typing import NamedTuple

from model import shares, words
from proofs.prover.obligation import Proof, claim, faulty, without
from proofs.prover.symbolic import Natural, Truth, every, implies
from proofs.shares import a_split


class Block(NamedTuple):
    """A block of ``used`` pages from bit ``first``, in a RAM of ``pages`` split among ``threads``."""

    pages: Natural
    threads: Natural
    first: Natural
    used: Natural

    def visited(self, p: Proof, thread: Natural, page: Natural) -> Truth:
        """Does the thread's window of this block hold the page (counted in the block)?"""
        lower, upper = p.lift(shares.share)(self.pages, self.threads, thread)
        start, limit = p.lift(shares.clip)(self.first, self.used, lower, upper)
        reached = p.lift(shares.in_reach)(self.first, self.used, lower, upper)
        return every(reached, start <= page, page < limit)

    def in_share(self, p: Proof, thread: Natural, page: Natural) -> Truth:
        """Does the thread's share hold the page's bit?"""
        lower, upper = p.lift(shares.share)(self.pages, self.threads, thread)
        return every(lower <= self.first + page, self.first + page < upper)


def a_block(p: Proof) -> Block:
    """A block anywhere in a RAM of any size, split among any number of threads."""
    pages, threads = a_split(p)
    first, used = p.naturals("first used")
    p.assume("the block ends within the RAM", first + used <= pages)
    return Block(pages, threads, first, used)


@claim(
    faulty("no last thread", refutes="its owner visits it"),
    without("the block ends within the RAM", refutes="its owner visits it"),
)
def every_page_of_a_block_has_one_window(p: Proof) -> None:
    """Full coverage: each used page of each block lies in the window of exactly one thread.

    Wherever the block starts: the bitmap is global and two blocks may share a word.
    """
    block = a_block(p)
    page, thread = p.naturals("page thread")
    p.assume("a used page", page < block.used)
    p.scenario("visitors", **block._asdict(), page=page)
    owner = p.lift(shares.owner)(block.pages, block.threads, block.first + page)
    p.prove("its owner visits it", owner < block.threads, block.visited(p, owner, page))
    p.assume("another thread", thread < block.threads, thread != owner)
    p.prove(
        "a window is no more than the share",
        implies(block.visited(p, thread, page), block.in_share(p, thread, page)),
    )
    size = p.lift(shares.chunk)(block.pages, block.threads)
    p.prove(
        "shares are in order",
        implies(thread < owner, (thread + 1) * size <= owner * size),
        implies(owner < thread, (owner + 1) * size <= thread * size),
    )
    p.prove("nobody else visits it", ~block.visited(p, thread, page))


@claim(
    faulty("window not cut at the block", refutes="it is part of the block"),
    faulty("blocks below are in reach", refutes="it is part of the block"),
)
def a_window_stays_in_its_block(p: Proof) -> None:
    """No thread visits anything but used pages of the block that lie in its share."""
    block = a_block(p)
    thread, page = p.naturals("thread page")
    p.scenario("window", **block._asdict(), thread=thread)
    p.assume("a thread", thread < block.threads)
    lower, upper = p.lift(shares.share)(block.pages, block.threads, thread)
    p.witness(block.pages == 200, block.threads == 2, thread == 0, block.first == 0)
    start, limit = p.lift(shares.clip)(block.first, block.used, lower, upper)
    p.assume("in reach", p.lift(shares.in_reach)(block.first, block.used, lower, upper))
    p.prove("it is part of the block", start >= 0, start <= limit, limit <= block.used)
    p.assume("a page of it", start <= page, page < limit)
    p.prove("it is part of the share", lower <= block.first + page, block.first + page < upper)


@claim(
    faulty("one page is out of reach", refutes="what is out of reach has no page in the share"),
)
def the_block_search_is_right(p: Proof) -> None:
    """The block search of the patch passes over no page; its ``>=`` for ``>`` adds an empty window."""
    block = a_block(p)
    thread, page = p.naturals("thread page")
    p.scenario("window", **block._asdict(), thread=thread)
    p.assume("a thread", thread < block.threads)
    lower, upper = p.lift(shares.share)(block.pages, block.threads, thread)
    reached = p.lift(shares.in_reach)(block.first, block.used, lower, upper)
    with p.case():
        p.assume("out of reach", ~reached, page < block.used)
        p.prove(
            "what is out of reach has no page in the share",
            ~((lower <= block.first + page) & (block.first + page < upper)),
        )
    p.assume("ends where the share begins", reached, block.first + block.used == lower)
    start, limit = p.lift(shares.clip)(block.first, block.used, lower, upper)
    p.prove("its window is empty", start == block.used, limit <= start)


@claim(
    faulty("shares not cut at words", refutes="a share begins at a whole word"),
)
def a_border_word_has_one_thread(p: Proof) -> None:
    """Two blocks that share a bitmap word are flushed there by one and the same thread.

    An earlier thread may visit the lower block and a later one the upper, if in different words; the
    other way round is impossible.
    """
    block = a_block(p)
    page, thread, other_thread = p.naturals("page one other")
    first, used, other_page = p.naturals("other_first other_used other_page")
    other = Block(block.pages, block.threads, first, used)
    p.scenario(
        "border word",
        **block._asdict(),
        one=thread,
        other=other_thread,
        page=page,
        other_first=first,
        other_used=used,
        other_page=other_page,
    )
    word_of, size = p.lift(words.word_of), p.lift(shares.chunk)(block.pages, block.threads)
    p.assume("another block, above", block.first + block.used <= first, first + used <= block.pages)
    p.assume("two threads", thread < other_thread, other_thread < block.threads)
    with p.case():
        p.assume("the later thread visits the lower block", block.visited(p, other_thread, page))
        p.prove("a later share starts after", (thread + 1) * size <= other_thread * size)
        p.prove("the earlier not the upper block", ~other.visited(p, thread, other_page))
    p.assume("one visits the lower block", block.visited(p, thread, page))
    p.assume("the other the upper block", other.visited(p, other_thread, other_page))
    p.prefer(word_of(block.first + page) == word_of(first + other_page))
    p.witness(block.pages == 1000, block.threads == 3, thread == 0, other_thread == 1)
    _they_part(p, block.first + page, thread, first + other_page, other_thread, size)


def _they_part(
    p: Proof, bit: Natural, thread: Natural, other_bit: Natural, other: Natural, size: Natural
) -> None:
    """Bits of an earlier thread's share and of a later one's lie in different words."""
    word_of, word = p.lift(words.word_of), size // 64
    p.prove("a share begins at a whole word", size == 64 * word)
    p.prove("the earlier share ends by then", (thread + 1) * size <= other * size)
    p.prove("the later share begins with a word", other * size == 64 * (other * word))
    p.prove("the word parts them", bit < 64 * (other * word), 64 * (other * word) <= other_bit)
    parted = p.lemma(
        "bits on two sides of a word's first bit lie in different words",
        lambda a, number, b: implies(
            (a < 64 * number) & (64 * number <= b), word_of(a) < word_of(b)
        ),
        *(bit, bit, bit),
    )
    parted(bit, other * word, other_bit)
    p.prove("their words differ", word_of(bit) < word_of(other_bit))


@claim(
    without("the block begins at a whole word", refutes="their words differ in the block's bitmap"),
)
def a_bitmap_of_its_own_needs_aligned_blocks(p: Proof) -> None:
    """With a bitmap for each block, too, no two threads share a word if blocks begin at whole words.

    A block of 3 pages and one of 253 above it, two threads: the border, page 128, is bit 125 of the
    upper block's bitmap, in the middle of a word; the bit that is lost shows in the second epoch.
    """
    block = a_block(p)
    page, other_page, thread, other_thread, word = p.naturals("page other_page one other word")
    p.scenario(
        "bitmap of its own",
        **block._asdict(),
        one=thread,
        other=other_thread,
        page=page,
        other_page=other_page,
    )
    word_of, size = p.lift(words.word_of), p.lift(shares.chunk)(block.pages, block.threads)
    p.assume("two threads", thread < other_thread, other_thread < block.threads)
    p.assume("the block begins at a whole word", block.first == 64 * word)
    p.assume("one visits a page", block.visited(p, thread, page))
    p.assume("the other visits a page", block.visited(p, other_thread, other_page))
    p.prefer(
        block.pages == 256,
        block.first == 3,
        block.used == 253,
        word_of(page) == word_of(other_page),
    )
    p.witness(block.pages == 256, block.threads == 2, thread == 0, other_thread == 1)
    _they_part(p, block.first + page, thread, block.first + other_page, other_thread, size)
    moved = p.lemma(
        "moving both by whole words keeps them apart",
        lambda a, number, b: implies(
            word_of(64 * number + a) < word_of(64 * number + b), word_of(a) < word_of(b)
        ),
        *(page, page, page),
    )
    moved(page, word, other_page)
    p.prove("their words differ in the block's bitmap", word_of(page) < word_of(other_page))
