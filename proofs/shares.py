"""The patch's static shares: who flushes what, for every RAM size and thread count."""

from model import shares, words
from proofs.obligation import Proof, claim, faulty, without
from proofs.symbolic import Natural, implies

MOST_PAGES = 2**52
MOST_THREADS = 2**12


def a_split(p: Proof) -> tuple[Natural, Natural]:
    """A RAM of any size, split among any number of threads."""
    pages, threads = p.naturals("pages threads")
    p.assume("sizes", pages < MOST_PAGES, threads >= 1, threads < MOST_THREADS)
    return pages, threads


@claim(
    faulty("shares not cut at words", refutes="a chunk is whole words"),
    without("different threads", refutes="the earlier share ends before the later one"),
)
def no_word_shared(p: Proof) -> None:
    """No 64-bit word of the dirty bitmaps is shared by two threads.

    For any page of one thread's share and any page of another's, the words of their bits differ.
    """
    pages, threads = a_split(p)
    one, other, page, other_page = p.naturals("one other page other_page")
    share, chunk, word_of = p.read(shares.share), p.read(shares.chunk), p.read(words.word_of)
    size = chunk(pages, threads)
    lower, upper = share(pages, threads, one)
    other_lower, other_upper = share(pages, threads, other)
    p.show(
        "two shares",
        pages=pages,
        threads=threads,
        one=one,
        other=other,
        page=page,
        other_page=other_page,
    )
    p.assume("two threads", one < threads, other < threads)
    p.assume("different threads", one < other)
    p.assume("a page of each", lower <= page, page < upper)
    p.assume("a page of each", other_lower <= other_page, other_page < other_upper)
    p.example(pages == 1000, threads == 3, one == 0, other == 1)
    p.steer(word_of(page) == word_of(other_page))
    p.prove("the earlier share ends before the later one", (one + 1) * size <= other * size)
    p.prove("a chunk is whole words", size % 64 == 0)
    p.prove("the later share starts at a word", other_lower == 64 * (other * (size // 64)))
    parted = p.lemma(
        "pages on two sides of a word's first page lie in different words",
        lambda a, word, b: implies((a < 64 * word) & (64 * word <= b), word_of(a) < word_of(b)),
        page,
        page,
        page,
    )
    parted(page, other * (size // 64), other_page)
    p.prove("their words differ", word_of(page) < word_of(other_page))


@claim(
    faulty("no last thread", refutes="its owner holds it"),
    without("a page of the RAM", refutes="its owner holds it"),
)
def every_page_has_one_owner(p: Proof) -> None:
    """Full coverage: each page of the RAM lies in the share of exactly one thread."""
    pages, threads = a_split(p)
    page, thread = p.naturals("page thread")
    share, chunk = p.read(shares.share), p.read(shares.chunk)
    p.assume("a page of the RAM", page < pages)
    p.show("owners", pages=pages, threads=threads, page=page)
    owner = p.read(shares.owner)(pages, threads, page)
    lower, upper = share(pages, threads, owner)
    p.prove("its owner holds it", owner < threads, lower <= page, page < upper)

    size = chunk(pages, threads)
    other_lower, other_upper = share(pages, threads, thread)
    with p.case():
        p.assume("an earlier thread", thread < owner)
        p.prove("an earlier share ends by then", (thread + 1) * size <= owner * size)
        p.prove("no earlier thread holds it", other_upper <= page)
    with p.case():
        p.assume("a later thread", owner < thread, thread < threads)
        p.prove("a later share starts after", (owner + 1) * size <= thread * size)
        p.prove("no later thread holds it", page < other_lower)
    p.prove(
        "nobody else holds it",
        implies((thread < threads) & (other_lower <= page) & (page < other_upper), thread == owner),
    )
