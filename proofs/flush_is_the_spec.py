"""The one theorem: what our flush does to a page is what the spec says, whoever flushes it.

The way of an arbitrary page: the worker's range of bits that holds it (a share, a batch of dirty
pages, a queued word, or all words but clean ones), the block's window in that range, the window's
bitmap words, the page's word and its mask, the worker's steps on that word, and back to the page. Every
joint between two of these is an obligation here. Numbers are 64-bit words, as they are in the kernels.
"""

from collections.abc import Callable

from model import flush, shares, words
from model.flush import Page
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Truth, Word, implies, population, select, word
from proofs.shares import MOST_PAGES
from proofs.words import bit
from proofs.worker import WordBefore, WordNow, flushed


def any_word(p: Proof, name: str) -> WordNow:
    """A word of both bitmaps, and which of its pages have been copied."""
    return WordNow(*p.words(f"{name}_cache {name}_host {name}_copied"))


def mask_is_exact(p: Proof) -> Callable[..., Truth]:
    """A bit is in a word's mask if and only if its page is in the window."""

    def exact(index: Word, begin: Word, end: Word, position: Word) -> Truth:
        mask = p.lift_words(words.window_mask)(index, begin, end)
        page = index * 64 + position
        inside = (begin <= page) & (page < end)
        return implies(position < 64, bit(mask, position) == inside)

    return exact


def visited(now: WordNow, after: WordNow, mask: Word) -> Truth:
    """A worker has flushed the word under a mask."""
    nowhere = word(0), word(0)
    return flushed(after, WordBefore(now.cache, now.host, mask, nowhere, now.copied))


@claim(
    faulty("window not cut at the block", refutes="and ends with one of them"),
    faulty("one page is out of reach", refutes="the block is in reach"),
    faulty("window mask ends early", refutes="a mask has its window's pages and no others"),
    faulty("bit 63 is lost", refutes="the page's bit is the one"),
    faulty("a page in both keeps its content", refutes="the page is as the spec says"),
)
def a_flush_is_the_spec(p: Proof) -> None:
    """A flush is the spec: what a page holds, and both its bits, are after it as model/flush.py says.

    For any block, page, range of whole words that holds the page's bit, any bitmaps; also where
    other blocks share its word, which is then flushed once for each block under a mask of its own.
    That one worker's range holds the page, and no other's, is ``blocks``, ``shares`` and
    ``work_queue``. Here each visit of the word is one step; ``whole_flush`` has all steps of workers
    and protocol, from the flush's begin to its return.
    """
    lower, upper, first, used, page = p.words("lower upper first used page")
    other_first, other_used = p.words("other_first other_used")
    in_cache, in_host = p.truths("cache_dirty host_dirty")
    p.scenario(
        "page of a block",
        **{"lower": lower, "upper": upper, "first": first, "used": used, "page": page},
        cache_dirty=in_cache,
        host_dirty=in_host,
    )
    p.assume("sizes", *(n < MOST_PAGES for n in (upper, first, used, other_first, other_used)))
    p.assume("a used page", page < used)
    at = first + page
    p.assume("its bit lies in the worker's range", lower <= at, at < upper)
    p.prefer(upper <= 192, at < upper, first < 128, used <= 64)

    # Range -> the block's window in it.
    block = first, used, lower, upper
    reached = p.lift_words(shares.in_reach)(*block)
    start, limit = p.lift_words(shares.clip)(*block)
    begin, end = first + start, first + limit
    p.prove("the block is in reach", reached)
    p.prove(
        "the window begins with the block or the range",
        begin == select(first <= lower, lower, first),
    )
    block_end = first + used
    p.prove("and ends with one of them", end == select(block_end >= upper, upper, block_end))
    p.prove("the window holds the page", begin <= at, at < end)
    p.prove("no page outside the range is in the window", lower <= begin, end <= upper)

    # Window -> the bitmap words that its worker goes through; the page's word.
    word_of = p.lift_words(words.word_of)
    index, position = word_of(at), p.lift_words(words.bit_of)(at)
    p.prove(
        "the window's words hold the page's", word_of(begin) <= index, index < word_of(end + 63)
    )
    p.prove("the page's bit is the one", index * 64 + position == at, position < 64)
    p.prove(
        "and no word outside the range's",
        word_of(lower) <= word_of(begin),
        word_of(end + 63) <= word_of(upper + 63),
    )

    # Word -> the mask under which it is flushed.
    mask = p.lift_words(words.window_mask)(index, begin, end)
    in_mask = p.lemma(
        "a mask has its window's pages and no others", mask_is_exact(p), *(word(0),) * 4
    )
    in_mask(index, begin, end, position)
    p.prove("the page's bit is in its word's mask", bit(mask, position))

    # Other blocks in that word: before this one, and after.
    p.assume("another block", (other_first + other_used <= first) | (first + used <= other_first))
    other_start, other_limit = p.words("other_start other_limit")
    p.assume("a window of it", other_start <= other_limit, other_limit <= other_used)
    begun, ended = other_first + other_start, other_first + other_limit
    other_mask = p.lift_words(words.window_mask)(index, begun, ended)
    in_mask(index, begun, ended, position)
    p.prove("the page is not in the other block's window", (at < begun) | (ended <= at))
    p.prove("nor in its mask", ~bit(other_mask, position))

    # The worker's steps on the word; other blocks' visits before and after.
    was, before, now, after = (any_word(p, name) for name in ("was", "before", "now", "after"))
    p.assume("the page's bits", bit(was.cache, position) == in_cache)
    p.assume("the page's bits", bit(was.host, position) == in_host)
    p.assume("the page has not been copied", ~bit(was.copied, position))
    p.assume("another block's visit before", visited(was, before, other_mask))
    p.assume("a worker has flushed its word", visited(before, now, mask))
    p.assume("another block's visit after", visited(now, after, other_mask))
    p.prove(
        "no visit of another block touches the page",
        bit(before.copied, position) == bit(was.copied, position),
        bit(after.copied, position) == bit(now.copied, position),
        bit(before.cache, position) == in_cache,
        bit(before.host, position) == in_host,
        bit(after.cache, position) == bit(now.cache, position),
        bit(after.host, position) == bit(now.host, position),
    )

    # Back to the page.
    host, cache = p.words("host_page cache_page")
    spec = p.lift(flush.page_after)(Page._make((host, in_cache, in_host)), cache)
    done = (
        select(bit(after.copied, position), cache, host),
        bit(after.cache, position),
        bit(after.host, position),
    )
    p.prove(
        "the page is as the spec says", *(got == want for got, want in zip(done, spec, strict=True))
    )


@claim(
    faulty("copies what is in both", refutes="nothing would be copied"),
)
def a_clean_word_may_be_passed_over(p: Proof) -> None:
    """A word without a bit set is as a flush leaves it: not to visit it is to have flushed it."""
    cache, host, mask, copied = p.words("cache host mask copied")
    p.scenario("word flush", cache=cache, host=host, first=word(0), last=word(64), differs=word(0))
    p.assume("what the search passes over", p.lift_words(words.either)(cache, host) == 0)
    clean = WordNow(cache, host, copied)
    p.prove("nothing would be copied", (cache | host) & mask == 0)
    p.prove("it is flushed", visited(clean, clean, mask))


@claim(
    faulty("copies what is in both", refutes="they differ if and only if the word is dirty"),
)
def the_index_counts_dirty_words(p: Proof) -> None:
    """Prefix sums of populations rise exactly at dirty words: what a batch assumes of its index.

    So ``shares.batches_of_dirty_pages_share_no_word`` is about every word that has a page to copy.
    """
    cache, host = p.words("cache host")
    below, above = p.naturals("below above")
    p.scenario("counters", cache=cache, host=host, mask=word(0))
    union = p.lift_words(words.either)(cache, host)
    p.assume("an index of either bitmap", above == below + p.lift(words.population)(union))
    p.prove("its pages lie between the two sums", below <= above)
    some = p.lemma(
        "a word that is not zero has a bit",
        lambda dirty: (population(dirty) > 0) == (dirty != 0),
        union,
    )
    some(union)
    p.prove("they differ if and only if the word is dirty", (below < above) == (cache | host != 0))


@claim(
    faulty(
        "batches overlap", refutes="a batch has pages if its number is below that of the batches"
    ),
)
def batches_are_numbered(p: Proof) -> None:
    """The protocol hands out batch 0, 1, ...: the ones that have pages, and no others.

    ``check_in`` counts batches; ``shares`` cuts them from a cursor that moves on by a grain.
    """
    dirty, grain, number, count = p.naturals("dirty grain number count")
    p.assume("a grain", grain >= 1)
    p.assume("how many batches there are", (count - 1) * grain < dirty, dirty <= count * grain)
    p.scenario("all batches", words=dirty, grain=grain, word=number)
    first, last = p.lift(shares.batch)(number * grain, grain, dirty)
    with p.case():
        p.assume("one of them", number < count)
        p.prove("it begins below the last one's end", number * grain <= (count - 1) * grain)
    with p.case():
        p.assume("a later one", count <= number)
        p.prove("it begins past the end", count * grain <= number * grain)
    p.prove(
        "a batch has pages if its number is below that of the batches",
        (first < last) == (number < count),
        last - first <= grain,
    )
