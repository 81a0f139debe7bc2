"""The patch's static shares: who flushes what, for every RAM size and thread count."""

from model import shares, strays, words
from proofs.prover.machine import TWO_TO_THE_64, in_64_bits, number
from proofs.prover.obligation import Proof, claim, faulty, without
from proofs.prover.symbolic import Natural, Sequence, Truth, forall, implies, select

# The 2^54 pages of 1 KiB that 2^64 bytes hold, and what is lost to whole words where each block has a
# bitmap of its own; as many threads as a FlushPool may have.
MOST_PAGES = 2**55
MOST_THREADS = 2**12
# A batch has at most 128 dirty pages; of a backup, the words of 2 MiB of pages.
MOST_GRAIN = 2**48


def a_split(p: Proof) -> tuple[Natural, Natural]:
    """A RAM of any size, split among any number of threads."""
    pages, threads = p.naturals("pages threads")
    p.assume("sizes", pages < MOST_PAGES, threads >= 1, threads <= MOST_THREADS)
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
    share, chunk, word_of = p.lift(shares.share), p.lift(shares.chunk), p.lift(words.word_of)
    size = chunk(pages, threads)
    lower, upper = share(pages, threads, one)
    other_lower, other_upper = share(pages, threads, other)
    p.scenario(
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
    p.witness(pages == 1000, threads == 3, one == 0, other == 1)
    p.prefer(word_of(page) == word_of(other_page))
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
    share, chunk = p.lift(shares.share), p.lift(shares.chunk)
    p.assume("a page of the RAM", page < pages)
    p.scenario("owners", pages=pages, threads=threads, page=page)
    owner = p.lift(shares.owner)(pages, threads, page)
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


@claim(
    faulty("shares not cut at words", refutes="a chunk is whole words"),
    faulty("no last thread", refutes="the next share begins where this one ends"),
    without("a thread", refutes="the chunks fit"),
)
def shares_lie_end_to_end(p: Proof) -> None:
    """Shares are ordered, begin at whole words, and lie end to end from page 0 to the last."""
    pages, threads = a_split(p)
    (thread,) = p.naturals("thread")
    p.assume("a thread", thread < threads)
    p.scenario("end to end", pages=pages, threads=threads, thread=thread)
    share, size = p.lift(shares.share), p.lift(shares.chunk)(pages, threads)
    lower, upper = share(pages, threads, thread)
    next_lower, _ = share(pages, threads, thread + 1)
    p.prefer(lower > upper)
    p.prove("the chunks fit", (thread + 1) * size <= threads * size, threads * size <= pages)
    p.prove("a share has a beginning and an end", lower >= 0, lower <= upper, upper <= pages)
    p.prove("a chunk is whole words", size == 64 * (size // 64))
    p.prove("a share begins at a whole word", lower == 64 * (thread * (size // 64)))
    p.prove(
        "the next share begins where this one ends",
        upper == select(thread + 1 == threads, pages, next_lower),
        implies(thread == 0, lower == 0),
    )


@claim(
    faulty("cut at two words", refutes="a chunk loses less than a word"),
)
def the_last_share_is_bounded(p: Proof) -> None:
    """The last share exceeds the others by less than 64 pages a thread, and no less can be promised.

    64 * threads - 1 is reached by 128 * threads - 1 pages. Relative to the others the excess is not
    bounded: 32,385 pages and 255 threads give 64 pages to all but the last, and 16,129 to that one.
    """
    pages, threads = a_split(p)
    p.scenario("last share", pages=pages, threads=threads)
    share, size = p.lift(shares.share), p.lift(shares.chunk)(pages, threads)
    lower, upper = share(pages, threads, threads - 1)
    each = pages // threads
    p.prove("the division leaves less than a page a thread", pages - threads * each < threads)
    p.prove("a chunk loses less than a word", each - size <= 63)
    p.prove("all chunks lose less than a word each", threads * (each - size) <= threads * 63)
    p.prove("rounding leaves less than 64 pages a thread", (upper - lower) - size < 64 * threads)
    p.assume("the most uneven", pages == 128 * threads - 1)
    p.prove("the bound is reached", each == 127, (upper - lower) - size == 64 * threads - 1)


@claim(
    faulty("batches overlap", refutes="the earlier batch ends before the later one begins"),
    without("batches are different", refutes="later batches begin later"),
)
def batches_are_disjoint(p: Proof) -> None:
    """No two batches off the shared cursor hold the same bitmap word, in whatever order they are taken.

    A fetch-add of ``grain`` gives each batch its own multiple of ``grain``.
    """
    words_in_all, grain, one, other, word = p.naturals("words grain one other word")
    p.assume("a grain", grain >= 1)
    p.assume("batches are different", one < other)
    p.scenario("two batches", words=words_in_all, grain=grain, one=one, other=other, word=word)
    p.witness(grain == 1, one == 0, other == 1)
    off_cursor = p.lift(shares.batch)
    first, last = off_cursor(one * grain, grain, words_in_all)
    other_first, other_last = off_cursor(other * grain, grain, words_in_all)
    p.prefer(first <= word, word < last, other_first <= word, word < other_last)
    p.prove("later batches begin later", (one + 1) * grain <= other * grain)
    p.prove("the earlier batch ends before the later one begins", last <= other_first)
    p.prove(
        "no word is in both",
        ~((first <= word) & (word < last) & (other_first <= word) & (word < other_last)),
    )


@claim(
    faulty("last batch dropped", refutes="the batch holds the word"),
    without("a word of the bitmap", refutes="the batch holds the word"),
)
def batches_cover_the_bitmap(p: Proof) -> None:
    """Every bitmap word is in a batch, and once a batch comes out empty all words are handed out."""
    words_in_all, grain, word, empty = p.naturals("words grain word empty")
    p.assume("a grain", grain >= 1)
    p.assume("a word of the bitmap", word < words_in_all)
    p.scenario("all batches", words=words_in_all, grain=grain, word=word)
    p.witness(grain == 1)
    off_cursor = p.lift(shares.batch)
    mine = word // grain
    p.prove("its batch is the quotient", mine * grain <= word, word < mine * grain + grain)
    first, last = off_cursor(mine * grain, grain, words_in_all)
    p.prove("the batch holds the word", first <= word, word < last)
    p.prove("no batch passes the end", last <= words_in_all)
    with p.case():
        empty_first, empty_last = off_cursor(empty * grain, grain, words_in_all)
        p.assume("an empty batch", empty_first >= empty_last)
        p.prove("it begins past the end", empty * grain >= words_in_all)
        p.prove("the word's batch was taken before", mine < empty)


@claim(
    faulty("measured in bytes", refutes="a chunk is computed right"),
    without("the cursor is not far past the end", refutes="a batch is computed right"),
)
def sixty_four_bits_suffice(p: Proof) -> None:
    """Computed modulo 2^64, as the compiled code does, every bound is the integer proved about here.

    For fewer than 2^55 pages (2^64 bytes of 1 KiB pages are half of that) and up to 2^12 threads. So
    what is proved of integers here and in ``blocks`` and what is proved of words in
    ``flush_is_the_spec`` is of the same bounds. That the cursor is not far past the end is
    ``check_in.the_cursor_is_not_far_past_the_end``.
    """
    pages, threads = a_split(p)
    thread, page, first, used, cursor, grain = p.naturals("thread page first used cursor grain")
    p.assume("a thread", thread < threads)
    p.assume("a page", page < pages)
    p.assume("a block", first + used <= pages)
    p.assume("numbers of 64 bits", cursor < TWO_TO_THE_64, grain < TWO_TO_THE_64)
    p.assume("the cursor is not far past the end", cursor + grain < TWO_TO_THE_64)
    p.scenario(
        "in 64 bits", pages=pages, threads=threads, thread=thread, cursor=cursor, grain=grain
    )
    p.prefer(threads == 2, thread == 0)
    lift = in_64_bits(p).lift
    size = p.lift(shares.chunk)(pages, threads)
    lower, upper = lift(shares.share)(number(pages), number(threads), number(thread))
    p.prove("a chunk is computed right", lift(shares.chunk)(number(pages), number(threads)).fits)
    p.prove("chunks fit", thread * size <= threads * size, threads * size <= pages)
    p.prove("a share's bounds are computed right", lower.fits, upper.fits)
    owner = lift(shares.owner)(number(pages), number(threads), number(page))
    p.prove("an owner is computed right", owner.fits)
    bounds = p.naturals("lower upper")
    p.assume("bounds of a share", bounds[0] <= bounds[1], bounds[1] <= pages)
    block = number(first), number(used), number(bounds[0]), number(bounds[1])
    start, limit = lift(shares.clip)(*block)
    reached = lift(shares.in_reach)(*block)
    p.prove("a block in reach is found", reached.fits)
    p.prove("a window is computed right", implies(reached.exact, start.fits & limit.fits))
    gap = lift(strays.in_gap)(number(page), number(first) + number(used), number(pages))
    p.prove("a gap is told right", gap.fits)
    batch = lift(shares.batch)(number(cursor), number(grain), number(pages))
    p.prove("a batch is computed right", *(bound.fits for bound in batch))
    word_of, (before,) = lift(words.word_of), p.sequences("before")
    in_words = lift(shares.batch_words)(before, *batch)
    p.prove("its words are found right", *(bound.fits for bound in in_words))
    p.assume("words of the RAM", *(64 * bound.exact <= pages + 63 for bound in in_words))
    p.prove("their pages are", *((bound * 64).fits for bound in in_words))
    ends = number(first) + start, number(first) + limit
    p.prove("a window's pages are", implies(reached.exact, ends[0].fits & ends[1].fits))
    rounded_up = word_of(ends[1] + 63)
    p.prove(
        "and its words",
        implies(reached.exact, word_of(ends[0]).fits & rounded_up.fits),
    )


@claim(
    faulty("batches overlap", refutes="no earlier batch holds it"),
)
def batches_of_dirty_pages_share_no_word(p: Proof) -> None:
    """Batches of dirty pages, cut at words: no word is in two, each with a dirty page is in one.

    ``before[w]`` dirty pages lie below word ``w``. What the workers of a dynamic flush take.
    """
    dirty, grain, end, word, other = p.naturals("dirty grain end word other")
    another, any_word = p.naturals("another any_word")
    (before,) = p.sequences("before")
    p.assume("a grain", grain >= 1)
    p.assume("dirty pages add up", rising(before), before[0] == 0, before[end] == dirty)
    p.assume("a dirty word", word < end, before[word] < before[word + 1])
    p.scenario("batches of dirty pages")
    p.witness(grain == 1, word == 0, end == 1, other == 1)
    off_cursor, batch_words = p.lift(shares.batch), p.lift(shares.batch_words)

    def holds(number: Natural, word: Natural) -> Truth:
        first, last = batch_words(before, *off_cursor(number * grain, grain, dirty))
        held: Truth = (first <= word) & (word < last)
        return held

    mine = before[word] // grain
    p.prove("its batch is the quotient", mine >= 0, mine * grain <= before[word])
    p.prove("the next batch begins past its first page", before[word] < (mine + 1) * grain)
    p.prove("its batch holds it", holds(mine, word))
    with p.case():
        p.assume("a later batch", mine < other)
        p.prove("it begins past the word's first page", (mine + 1) * grain <= other * grain)
        p.prove("no later batch holds it", ~holds(other, word))
    with p.case():
        p.assume("an earlier batch", other < mine)
        p.prove("it ends by the word's first page", (other + 1) * grain <= mine * grain)
        p.prove("no earlier batch holds it", ~holds(other, word))

    with p.case():
        p.assume("two batches", other < another)
        p.prove("the later begins later", (other + 1) * grain <= another * grain)
        p.prove("no word is in both", ~(holds(other, any_word) & holds(another, any_word)))


@claim(
    faulty("a stretch ends one word late", refutes="a batch is one stretch, whole"),
    without("a word of the bitmap", refutes="its stretch holds it"),
)
def stretches_of_the_index_share_no_word(p: Proof) -> None:
    """Each word of the bitmap lies in one stretch of the index; a batch of stretches is one, whole.

    So workers that index side by side write neither a word of the index nor a stretch's sum in common.
    What each writes there is ``compiled.flush.index_words``; that it adds up to ``shares.dirty_before``,
    ``compiled.flush.add_up_stretches`` and ``compiled.flush.first_word_with``.
    """
    words_in_all, which, word = p.naturals("words which word")
    p.assume("a word of the bitmap", word < words_in_all)
    p.assume("sizes", 64 * words_in_all < MOST_PAGES)
    p.scenario("stretches of the index", words=words_in_all, word=word)
    p.witness(which == 0, word == 0, words_in_all == 2)
    p.prefer(words_in_all == 2 * shares.STRETCH, word == shares.STRETCH, which == 0)
    stretch_of, end_of_stretch = p.lift(shares.stretch_of), p.lift(shares.end_of_stretch)
    stretch = stretch_of(word)
    begin = stretch * shares.STRETCH
    p.prove("its stretch holds it", begin <= word, word < end_of_stretch(begin, words_in_all))
    first, last = p.lift(shares.batch)(which * shares.STRETCH, shares.STRETCH, words_in_all)
    some = first < last
    p.prove(
        "a batch is one stretch, whole",
        implies(some, (stretch_of(first) == which) & (last == end_of_stretch(first, words_in_all))),
        implies(some, (last == words_in_all) | (last == (which + 1) * shares.STRETCH)),
    )
    p.prove("no other stretch holds it", implies((first <= word) & (word < last), which == stretch))
    lift = in_64_bits(p).lift
    computed = (
        lift(shares.stretch_of)(number(word)),
        lift(shares.end_of_stretch)(number(begin), number(words_in_all)),
    )
    p.prove("both are computed right", *(bound.fits for bound in computed))


def rising(before: Sequence) -> Truth:
    """Sums of natural numbers never fall."""
    return forall(
        lambda low: forall(lambda high: implies(low <= high, before[low] <= before[high]), "high"),
        "low",
    )
