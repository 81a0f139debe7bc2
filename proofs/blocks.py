"""Shares clipped to RAM blocks: the windows that the patch's threads visit."""

from typing import NamedTuple

from model import shares
from proofs.obligation import Proof, claim, faulty, without
from proofs.shares import a_split
from proofs.symbolic import Natural, Truth, every, implies


class Block(NamedTuple):
    """A block of ``used`` pages from bit ``first``, in a RAM of ``pages`` split among ``threads``."""

    pages: Natural
    threads: Natural
    first: Natural
    used: Natural

    def visited(self, p: Proof, thread: Natural, page: Natural) -> Truth:
        """Does the thread's window of this block hold the page (counted in the block)?"""
        lower, upper = p.read(shares.share)(self.pages, self.threads, thread)
        start, limit = p.read(shares.clip)(self.first, self.used, lower, upper)
        reached = p.read(shares.in_reach)(self.first, self.used, lower, upper)
        return every(reached, start <= page, page < limit)

    def in_share(self, p: Proof, thread: Natural, page: Natural) -> Truth:
        """Does the thread's share hold the page's bit?"""
        lower, upper = p.read(shares.share)(self.pages, self.threads, thread)
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
    p.show("visitors", **block._asdict(), page=page)
    owner = p.read(shares.owner)(block.pages, block.threads, block.first + page)
    p.prove("its owner visits it", owner < block.threads, block.visited(p, owner, page))
    p.assume("another thread", thread < block.threads, thread != owner)
    p.prove(
        "a window is no more than the share",
        implies(block.visited(p, thread, page), block.in_share(p, thread, page)),
    )
    size = p.read(shares.chunk)(block.pages, block.threads)
    p.prove(
        "shares are in order",
        implies(thread < owner, (thread + 1) * size <= owner * size),
        implies(owner < thread, (owner + 1) * size <= thread * size),
    )
    p.prove("nobody else visits it", ~block.visited(p, thread, page))
