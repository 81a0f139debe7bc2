"""The fixed vectors: each tests one thing and names the bug it is there for.

python -m tests.conformance.vectors             writes vectors/*.json from the model
python -m tests.conformance.vectors --check     exits 1 if a file is not what would be written
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import write_text
from tests.conformance import VERSION
from tests.conformance.call import Block, Call, call_to_json, outcome_to_json
from tests.conformance.expected import clauses_broken, expect
from tests.conformance.properties import FLAGS as FLAGS_OF_PROPERTIES
from tests.conformance.properties import MEANINGS, property_vectors
from tests.conformance.rows import SIZE, block, call

FOLDER = Path(__file__).parent / "vectors"

# What a porter got wrong if a vector with this flag fails.
FLAGS = {
    "Basic": "the flush itself",
    "HostOnly": "only the cache bitmap is looked at: pages the secondary wrote are lost",
    "WordEdge": "bits 0, 31, 32, 63 or 64: a shift too narrow, a mask off by one, a lost last word",
    "SkipClean": "the scan of clean words stops early or skips the word it stops at",
    "PartialWord": "the last word of a block that ends inside it",
    "PageSize": "4096 is assumed somewhere",
    "Unaligned": "host and cache memory is assumed to be aligned",
    "BorderWord": "two blocks share a word: bits copied or cleared for the wrong one, or lost",
    "BlockOrder": "blocks are assumed to be sorted by address, or to leave no hole",
    "EmptyBlock": "a block with used_length 0 is flushed, refused or trips a division",
    "UsedLength": "max_length is flushed, or counted, where used_length is meant",
    "Offset": "the byte offset is used to find a bit, where first_bit is meant",
    "ShareEdge": "pages at or past the last whole share, or at the border of two, are lost",
    "ManyThreads": "more threads than words: an empty share, a division by zero, no memory",
    "Count": "the dirty count is not lowered by exactly the cache bits cleared",
    "CountWrong": "a wrong dirty count is not reported, or stops the flush",
    "Stats": "stats are added to, left unset, miscounted or written through NULL",
    "Refuse": "a call that cannot be right is accepted",
    "RefuseLate": "refused, but after something was changed",
    "Wrap": "a sum passes 2^64, and the check passes with it",
    "Stray": "a bit without a page is ignored, or copies memory that is not there",
    "AcceptEdge": "a call at the edge of what is allowed is refused",
    "LeftOver": "state of the call before leaks into this one",
    "Grown": "a layout is remembered from the first call (the patch: bounds set at thread start)",
    **FLAGS_OF_PROPERTIES,
}

# What kind of bug that is, as Wycheproof has it, and what it does to a guest.
BUG_TYPES = {
    "Basic": "BASIC",
    "HostOnly WordEdge SkipClean PartialWord BlockOrder ShareEdge": "LOST_PAGE",
    "PlanCover Contents ClearFirst": "LOST_PAGE",
    "PageSize BorderWord UsedLength Offset": "WRONG_PAGE",
    "Unaligned EmptyBlock ManyThreads": "CRASH",
    "Count CountWrong Stats": "ACCOUNTING",
    "Refuse RefuseLate Wrap Stray PlanRefuse": "MISSING_CHECK",
    "AcceptEdge": "REFUSED_RIGHT",
    "LeftOver Grown": "STATE",
}
EFFECTS = {
    "BASIC": "no checkpoint is applied",
    "LOST_PAGE": "the guest goes on with a page of the secondary's in place of the primary's",
    "WRONG_PAGE": "a page that was right is overwritten, or gets the content of another",
    "CRASH": "the secondary dies in the flush, when it is needed",
    "ACCOUNTING": "the dirty count does not reach 0, or nobody learns that it did not",
    "MISSING_CHECK": "memory that is no block's is read or written",
    "REFUSED_RIGHT": "a flush that can be done is not, and with it the failover",
    "STATE": "the first epoch is right, a later one is not",
}

MEANING = (
    "Before a call, host memory holds one content and cache memory another, each page different; "
    "stats hold 0x5a5a5a5a in every field. Calls of one vector are made in turn by one process. "
    "Bit b of word w is bit 64 * w + b. pages: a letter a page of each block, c if the host page "
    "then has the cache page's content, h if it still has its own. null lists arguments that are "
    "NULL; with stats NULL the stats of the result are not compared, and neither is anything else "
    "that cannot be seen. place says how the runner's guard pages lie (high: each buffer ends at "
    "one; low: starts at one; odd: host and cache memory at an odd address; shifted: each of them at "
    "another odd address)."
)


@dataclass(frozen=True)
class Vector:
    """Calls made in turn, and what they are there to catch."""

    id: str
    comment: str
    flags: tuple[str, ...]
    calls: tuple[Call, ...]


#: A vector's name within its group, its flags, its comment, and its calls.
Row = tuple[str, str, str, *tuple[Call, ...]]


def all_vectors() -> dict[str, list[Vector]]:
    """Every vector, by the file it is kept in."""
    groups = (copying, blocks, shares, counts, refusals, edges, sequences)
    every = {
        group.__name__: [
            Vector(f"{group.__name__}/{name}", comment, tuple(flags.split()), tuple(calls))
            for name, flags, comment, *calls in group()
        ]
        for group in groups
    }
    for lacking in refused_for_more_than_one_reason(every["refusals"]):
        raise ValueError(
            f"{lacking}: no vector {lacking}-only, in which one clause alone is broken"
        )
    return every


def refused_for_more_than_one_reason(refused: Sequence[Vector]) -> list[str]:
    """Vectors that a port may refuse for another reason than theirs, and that have no twin beside
    them, ``ID-only``, with that reason alone."""
    broken = {vector.id: clauses_broken(vector.calls[-1]) for vector in refused}
    return [
        name
        for name, clauses in broken.items()
        if len(clauses) != 1
        and not (len(twin := broken.get(f"{name}-only", set())) == 1 and twin < clauses)
    ]


# A row is a vector: kept as rows, whatever the formatter would make of them.
# fmt: off


def copying() -> Iterator[Row]:
    b130 = block(0, 130)
    yield "no-blocks", "Basic", "no block, no word: nothing to do", call()
    yield "nothing-dirty", "Basic Stats", "no page is dirty", call(b130)
    yield "cache-page", "Basic", "one page from the primary", call(b130, cache=[5])
    yield "host-page", "HostOnly", "one page written by the guest", call(b130, host=[5])
    yield "both", "Basic Stats", "dirty in both: copied once", call(b130, cache=[70], host=[70])
    yield "apart", "HostOnly Stats", "one of each kind", call(b130, cache=[2, 9, 66], host=[9, 65])
    yield ("neighbours", "Basic", "host, cache, host page in a row",
        call(b130, cache=[8], host=[7, 9]))
    for bit in (0, 31, 32, 33, 63, 64, 127, 128):
        yield f"bit-{bit}", "WordEdge", f"only page {bit}", call(b130, cache=[bit], host=[bit])
        yield f"host-bit-{bit}", "WordEdge HostOnly", f"only page {bit}", call(b130, host=[bit])
    yield ("around-32", "WordEdge", "pages on both sides of a half word",
        call(b130, cache=[31, 32], host=[33]))
    yield "full-word", "WordEdge", "a word of ones", call(block(0, 192), cache=range(64, 128))
    yield "all", "WordEdge", "every page", call(b130, cache=range(130), host=range(130))
    yield "odd-pages", "Basic", "every other page", call(b130, cache=range(1, 130, 2), host=[0])
    yield ("far-word", "SkipClean", "the last of many words",
        call(block(0, 64 * 40), cache=[64 * 40 - 1]))
    yield ("far-host-word", "SkipClean HostOnly", "the last of many words, host bitmap",
        call(block(0, 64 * 40), cache=[0], host=[64 * 40 - 1]))
    yield ("two-far-apart", "SkipClean", "clean words between",
        call(block(0, 64 * 21), cache=[3, 64 * 17 + 3], host=[64 * 9 + 1], threads=1))
    for pages in (1, 63, 64, 65, 127, 128, 129):
        yield (f"last-of-{pages}", "PartialWord", f"the last page of {pages}",
            call(block(0, pages), cache=[pages - 1], host=[pages - 1]))
        yield (f"all-of-{pages}", "PartialWord", f"every page of {pages}",
            call(block(0, pages), cache=range(pages), threads=1))
    for size in (1024, 2048, 8192, 16384, 65536, 2 << 20):
        yield (f"page-size-{size}", "PageSize", f"pages of {size} bytes",
            call(block(0, 3, size=size), cache=[1], host=[2], size=size))
    for place in ("low", "odd", "shifted"):
        yield (f"placed-{place}", "Basic" if place == "low" else "Unaligned", f"memory placed {place}",
            call(b130, cache=[0, 64, 129], host=[1, 64], place=place))
    yield ("shifted-1024", "Unaligned PageSize", "host and cache off by different odd amounts",
        call(block(0, 70, size=1024), cache=range(70), size=1024, place="shifted"))
    yield ("shifted-blocks", "Unaligned BorderWord", "each block's memory off by other amounts",
        call(*(block(9 * i, 9) for i in range(8)), cache=range(72), place="shifted"))
    yield ("odd-1024", "Unaligned PageSize", "small pages at an odd address",
        call(block(0, 9, size=1024), cache=range(9), size=1024, place="odd"))


def blocks() -> Iterator[Row]:
    low, high = block(0, 40), block(40, 100)
    shared = "two blocks share word 0"
    yield "border-both", "BorderWord", shared, call(low, high, cache=[39, 40], host=[38, 41])
    yield "border-first", "BorderWord", f"{shared}, first dirty", call(low, high, cache=[39])
    yield "border-second", "BorderWord", f"{shared}, second dirty", call(low, high, host=[40])
    yield ("border-full", "BorderWord Stats", f"{shared}, all dirty",
        call(low, high, cache=range(140), host=range(140)))
    yield ("border-swapped", "BorderWord BlockOrder", f"{shared}, listed in reverse",
        call(high, low, cache=[39, 40], host=[0, 139]))
    small = [block(b, 1) for b in range(20, 30)]
    yield ("ten-in-a-word", "BorderWord", "ten blocks of a page in one word",
        call(*small, cache=range(20, 30), host=range(21, 30, 2)))
    yield ("starts-at-63", "BorderWord WordEdge", "a block whose first page is bit 63",
        call(block(0, 63), block(63, 66), cache=[62, 63, 64], host=[63, 128]))
    yield ("ends-at-64", "BorderWord WordEdge", "a block that ends with its word",
        call(block(0, 64), block(64, 64), cache=[63, 64], host=[63, 64]))
    yield ("inside-a-word", "BorderWord PartialWord", "a block with a hole on both sides",
        call(block(10, 20), cache=[10, 29], host=[11], n_words=1))
    yield ("mid-word-long", "BorderWord", "a long block that starts inside a word",
        call(block(61, 200), cache=[61, 63, 64, 260], host=[62, 128]))
    yield ("hole", "BlockOrder", "a hole of some words",
        call(block(0, 70), block(400, 70), host=[400]))
    yield ("reversed", "BlockOrder", "listed from the highest to the lowest",
        call(block(300, 70), block(100, 70), block(0, 70), cache=[0, 100, 300], host=[69, 369]))
    yield ("largest-first", "BlockOrder", "the order of the patch's block list",
        call(block(70, 200), block(0, 64), block(64, 6), cache=[0, 63, 64, 69, 70, 269]))
    yield ("hundred-blocks", "BlockOrder", "a hundred blocks",
        call(*(block(5 * i, 3) for i in range(100)), cache=range(0, 500, 5), host=[497]))
    yield ("three-hundred-blocks", "BlockOrder BorderWord",
        "more blocks than a byte counts, a page each",
        call(*(block(i, 1) for i in range(300)), cache=[0, 255, 256, 299], host=range(200, 300)))
    empty = block(20, 0, spare=10)
    yield "empty-first", "EmptyBlock", "used_length 0", call(empty, block(20, 50), cache=[20, 69])
    yield ("empty-inside", "EmptyBlock", "used_length 0 in the middle of another's pages",
        call(block(0, 50), block(20, 0), cache=[20, 49], host=[19]))
    yield "empty-only", "EmptyBlock", "no page in use at all", call(empty, n_words=1)
    yield ("empty-null", "EmptyBlock AcceptEdge", "used_length 0, memory NULL",
        call(empty, block(20, 9), cache=[28], null=["host[0]", "cache[0]"]))
    yield ("used-below-max", "UsedLength", "only the used part is flushed",
        call(block(0, 70, spare=58), block(128, 70, spare=5), cache=[69, 128], host=[197]))
    yield ("max-past-bitmaps", "UsedLength AcceptEdge", "max_length may reach past the bitmaps",
        call(block(0, 70, spare=10_000), cache=[69]))
    yield ("max-huge", "UsedLength AcceptEdge", "a max_length that 32 bits do not hold",
        call(Block(0, 70 * SIZE, 2**40, 0), cache=[69]))
    yield ("max-over-next", "UsedLength AcceptEdge", "max_length may reach over the next block's bits",
        call(block(0, 10, spare=100), block(10, 60), cache=[9, 10], host=[69]))
    yield ("offset-elsewhere", "Offset", "offset does not tell the bit",
        call(Block(0, 70 * SIZE, 70 * SIZE, 1 << 40), Block(70, 70 * SIZE, 70 * SIZE, 0),
             cache=[69, 70], host=[0, 139]))
    yield ("offsets-equal", "Offset AcceptEdge", "overlap is judged by bits, not by offset",
        call(Block(0, 9 * SIZE, 9 * SIZE, 0), Block(64, 9 * SIZE, 9 * SIZE, 0), cache=[8, 64]))
    yield ("per-block", "Offset BorderWord",
        "today's layout: each block starts a word, pages end inside one",
        call(Block(0, 3 * SIZE, 3 * SIZE, 0), Block(64, 253 * SIZE, 253 * SIZE, 3 * SIZE),
             cache=[0, 2, 64, 189, 316], host=[2, 188], threads=2))


def shares() -> Iterator[Row]:
    for threads in (1, 2, 3, 4, 7, 8):
        yield (f"rest-of-{threads}", "ShareEdge",
            f"505 pages over {threads} threads: the first and last page of every word",
            call(block(0, 505), cache=[*range(0, 505, 64), *range(63, 505, 64), 504],
                 host=range(1, 505, 50), threads=threads))
    yield ("last-pages", "ShareEdge", "pages that rounding leaves over",
        call(block(0, 1000), cache=range(960, 1000), threads=7))
    yield ("border-in-block", "ShareEdge BorderWord",
        "a share ends inside a block that starts inside a word",
        call(block(0, 3), block(3, 253), cache=[64 + 3, 127, 128], host=[126, 129], threads=2))
    yield ("all-in-one-share", "ShareEdge", "every dirty page in one thread's share",
        call(block(0, 1024), cache=range(256, 512), host=range(300, 400), threads=4))
    for threads in (64, 255, 256, 1000, 2**16, 2**31, 2**32 - 1):
        yield (f"threads-{threads}", "ManyThreads", f"{threads} threads for 3 words",
            call(block(0, 150), cache=[0, 64, 149], host=[63], threads=threads))
    yield "threads-no-words", "ManyThreads", "8 threads, nothing to share", call(threads=8)
    yield ("threads-one-page", "ManyThreads", "8 threads, one page",
        call(block(0, 1), host=[0], threads=8))


def counts() -> Iterator[Row]:
    b = block(0, 130)
    dirty: dict[str, Any] = {"cache": [0, 64, 129], "host": [1, 64]}
    yield "host-only", "Count", "host bits do not lower the count", call(b, host=[1, 2, 3])
    yield "too-high", "CountWrong", "the count is 2 too high", call(b, **dirty, dirty_pages=5)
    yield "too-low", "CountWrong", "it wraps below 0", call(b, **dirty, dirty_pages=1)
    yield "zero", "CountWrong", "the count is 0", call(b, **dirty, dirty_pages=0)
    yield "stale", "CountWrong", "a count, no dirty bit", call(b, dirty_pages=7)
    yield ("union", "CountWrong Count", "the count held the union of both bitmaps",
        call(b, **dirty, dirty_pages=4))
    yield ("beyond-32-bits", "CountWrong Count", "the rest needs 64 bits",
        call(b, **dirty, dirty_pages=3 + 2**32))
    yield ("beyond-63-bits", "CountWrong Count", "the rest needs an unsigned number",
        call(b, **dirty, dirty_pages=2**63))
    yield "null-stats", "Stats", "stats NULL", call(b, **dirty, null=["stats"])
    yield ("null-stats-wrong-count", "Stats CountWrong", "stats NULL and a wrong count",
        call(b, **dirty, null=["stats"], dirty_pages=9))
    yield ("stats-differ", "Stats", "each of the four numbers is its own",
        call(b, cache=range(0, 20), host=range(7, 130)))


def refusals() -> Iterator[Row]:
    """Calls that cannot be right: each is refused, and nothing has changed."""
    no = "Refuse RefuseLate"
    b = block(0, 130)
    dirty: dict[str, Any] = {"cache": [0, 64, 129], "host": [1, 64]}
    good = call(b, **dirty)
    yield "threads-0", no, "no thread", replace(good, threads=0)
    for size in (0, 3, 4095, 12288):
        yield f"page-size-{size}", f"{no} PageSize", "not a power of two", replace(good, page_size=size)
    for size in (0, 3, 4095, 12288):
        yield (f"page-size-{size}-only", f"{no} PageSize",
            "not a power of two, and no length to see it by",
            call(n_words=1, size=size, threads=1))
    yield "threads-0-clean", no, "no thread, and nothing to do", call(threads=0)
    two = call(b, block(130, 20), **dirty)
    for i, name in ((0, "first"), (1, "last")):
        for field in ("offset", "used_length", "max_length"):
            old = two.blocks[i]
            bad = replace(old, **{field: getattr(old, field) + 512})
            if field == "used_length":
                bad = replace(bad, max_length=old.max_length + SIZE)
            yield (f"{field}-unaligned-{name}", f"{no} PageSize",
                f"{field} of the {name} block is not page aligned",
                replace(two, blocks=tuple(bad if j == i else x for j, x in enumerate(two.blocks))))
    yield ("unaligned-in-empty", f"{no} EmptyBlock", "used_length 0, but max_length not page aligned",
        call(b, Block(130, 0, 100, 130 * SIZE), **dirty))
    yield ("max-below-used", f"{no} UsedLength", "max_length < used_length",
        call(Block(0, 130 * SIZE, 129 * SIZE, 0), **dirty))
    yield "overlap-by-one", no, "two blocks own bit 129", call(b, block(129, 9), **dirty)
    yield "overlap-same", no, "the same bits twice", call(b, block(0, 130), **dirty)
    yield "overlap-inside", no, "one inside the other", call(b, block(50, 3), **dirty)
    yield "overlap-around", no, "one around the other", call(block(50, 3), b, **dirty)
    yield ("overlap-far-in-list", f"{no} BlockOrder",
        "the two that overlap are not neighbours in the list",
        call(block(0, 70), block(200, 20), block(69, 61), cache=[0, 64, 129]))
    yield ("overlap-not-first", f"{no} BlockOrder",
        "neither of the two that overlap is the first in the list",
        call(block(0, 10), block(20, 30), block(100, 20), block(49, 10), cache=[0, 49]))
    yield "overlap-clean", no, "an overlap with nothing dirty", call(block(0, 10), block(9, 10))
    yield "past-end-by-one", no, "bit 192 of 192", call(block(0, 193), cache=[0], n_words=3)
    yield ("past-end-from-inside", no, "a block from bit 100 reaches bit 192 of 192",
        call(block(100, 93), cache=[100], n_words=3))
    yield "past-end-whole", no, "the block lies past the bitmaps", call(b, block(192, 1), n_words=3)
    yield "past-end-no-words", no, "a page, but no bitmap", call(block(0, 1), n_words=0)
    for name, first, pages in (
        ("wrap-to-0", 2**64 - 64, 64),
        ("wrap-to-1", 2**64 - 1, 2),
        ("wrap-into-block", 2**64 - 10, 40),
        ("first-bit-huge", 2**63, 1),
    ):
        wrapped = Block(first, pages * SIZE, pages * SIZE, 0)
        yield name, f"{no} Wrap", "first_bit + pages", call(wrapped, **dirty, n_words=3)
        yield f"{name}-only", f"{no} Wrap", "no bit is set", call(wrapped, n_words=3)
        yield (f"{name}-beside", f"{no} Wrap", "the dirty bits are another block's",
            call(b, wrapped, **dirty, n_words=3))
    for name, length in (("used-2-63", 2**63), ("used-most", 2**64 - SIZE)):
        long = Block(0, length, length, 0)
        yield name, f"{no} Wrap", "a used length past everything", call(long, **dirty, n_words=3)
        yield (f"{name}-after", f"{no} Wrap", "first_bit + pages, with another block below",
            call(b, Block(130, length, length, 0), **dirty, n_words=3))
    for name in ("blocks", "cache_bitmap", "host_bitmap", "dirty_pages", "host[0]", "cache[0]"):
        yield f"null-{name}", no, f"{name} is NULL", call(b, **dirty, null=[name])
        yield f"null-{name}-only", no, f"{name} NULL, no bit set", call(b, null=[name])
    stray = f"{no} Stray"
    for where in ("cache", "host"):
        bits = {"cache": [0, 64, 129], "host": [1, 64]}
        for name, at, given in (
            ("after-last", 130, [b]),
            ("bit-191", 191, [b]),
            ("next-word", 200, [b]),
            ("last-word", 319, [b]),
            ("in-hole", 260, [b, block(300, 9)]),
            ("in-hole-word", 239, [b, block(300, 9)]),
            ("before-first", 2, [block(3, 127)]),
            ("beyond-used", 150, [block(0, 130, spare=60)]),
            ("in-empty", 140, [b, block(131, 0, spare=60)]),
            ("between-two", 130, [b, block(131, 60)]),
            ("swapped", 130, [block(131, 60), b]),
        ):
            other = {k: [x for x in v if x > 3] for k, v in bits.items()}
            other[where] = [*other[where], at]
            yield (f"stray-{where}-{name}", stray, f"bit {at} of the {where} bitmap has no page",
                call(*given, cache=other["cache"], host=other["host"], n_words=5, threads=3))
    yield "stray-no-blocks", stray, "a bit and no block", call(cache=[3], n_words=1)
    yield "stray-both", stray, "in both bitmaps", call(b, cache=[130], host=[130], n_words=3)
    yield ("stray-null-stats", f"{stray} Stats", "a stray bit, stats NULL",
        call(b, cache=[130], n_words=3, null=["stats"]))


def edges() -> Iterator[Row]:
    """Calls at the edge of what is allowed: none may be refused."""
    yield ("touching", "AcceptEdge", "blocks that touch do not overlap",
        call(block(0, 10), block(10, 10), block(20, 44), cache=[9, 10, 19, 20, 63]))
    yield ("to-the-last-bit", "AcceptEdge", "used to the bitmaps' last bit",
        call(block(1, 127), cache=[127]))
    yield ("empty-past-bitmaps", "AcceptEdge",
        "used_length 0: no page reaches outside, wherever first_bit is",
        call(block(0, 9), Block(2**64 - 1, 0, SIZE, 0), cache=[8]))
    yield ("null-of-length-0", "AcceptEdge", "no block and no word: the pointers may be NULL",
        call(null=["blocks", "cache_bitmap", "host_bitmap"]))
    yield ("null-blocks-with-words", "AcceptEdge", "no block, clean words",
        call(n_words=2, null=["blocks"]))
    yield ("offset-at-the-top", "AcceptEdge", "the last page of the address space",
        call(Block(0, SIZE, SIZE, 2**64 - SIZE), cache=[0]))
    yield ("clean-words-after", "AcceptEdge", "bitmaps longer than the blocks",
        call(block(0, 9), n_words=9))


def sequences() -> Iterator[Row]:
    b = block(0, 130)
    one = call(b, cache=[0, 64, 129], host=[1, 64])
    two = call(b, cache=[5], host=[100, 101])
    yield "again", "LeftOver", "the same epoch twice", one, one
    yield "another", "LeftOver Stats", "another epoch: stats start at 0", one, two
    yield "then-clean", "LeftOver Stats", "an epoch, then a clean one", one, call(b)
    yield ("wrong-count-then-right", "LeftOver CountWrong", "-ERANGE, then 0",
        replace(one, dirty_pages=9), two)
    refused = call(b, cache=[0, 130], n_words=3)
    yield "refused-then-good", "LeftOver", "-EINVAL, then 0", refused, one, refused, two
    yield ("stats-null-then-not", "LeftOver Stats", "stats NULL once",
        replace(one, null=frozenset({"stats"})), two)
    sizes = [call(block(0, 9, size=s), cache=[3], host=[8], size=s) for s in (4096, 1024, 16384)]
    yield "page-size-changes", "LeftOver PageSize", "4096, 1024, 16384", *sizes
    yield ("threads-change", "LeftOver", "1, 4, 2, 8 and 3 threads",
        *(call(block(0, 512), cache=range(0, 512, 3), host=range(0, 512, 5), threads=t)
          for t in (1, 4, 2, 8, 3)))
    small = call(block(0, 128), cache=[0, 127], threads=4)
    grown = call(block(0, 128), block(128, 640), cache=[0, 127, 128, 767], threads=4)
    yield "hot-add", "Grown LeftOver", "a block is added above", small, grown
    yield "unplug", "Grown LeftOver", "and taken away again", grown, small
    r32, r64 = block(0, 32, spare=32), block(0, 64)
    yield ("resize-up", "Grown UsedLength", "32 pages in use, then 64",
        call(r32, cache=[31]), call(r64, cache=[63], host=[40]))
    yield ("resize-down", "Grown UsedLength Stray",
        "64 pages, then 32 with page 40 still dirty: refused",
        call(r64, cache=[40]), call(r32, cache=[40]), call(r32, cache=[31]))
    yield ("moved", "LeftOver", "the same blocks at other bits",
        call(block(0, 70), block(70, 70), cache=[69, 70]),
        call(block(100, 70), block(0, 70), cache=[69, 100], host=[169]))
    yield ("memory-moves", "LeftOver", "the same blocks at the same bits, their memory elsewhere",
        one, replace(one, place="low"), replace(one, place="odd"))
    yield ("bitmaps-shrink", "LeftOver", "longer bitmaps, then shorter",
        call(block(0, 640), cache=range(0, 640, 7)),
        call(block(0, 64), cache=[63]),
        call(block(0, 1), host=[0]))
# fmt: on


def files() -> dict[str, str]:
    """The text of every vector file, by its name."""
    written = {
        f"{group}.json": _file(MEANING, [_as_json(vector) for vector in vectors])
        for group, vectors in all_vectors().items()
    }
    for group, vectors in property_vectors().items():
        written[f"{group}.json"] = _file(MEANINGS[group], vectors)
    return written


def _file(meaning: str, vectors: Sequence[dict[str, Any]]) -> str:
    used = sorted({flag for vector in vectors for flag in vector["flags"]})
    content = {
        "abi_version": 1,
        "generatorVersion": VERSION,
        "numberOfTests": len(vectors),
        "meaning": meaning,
        "notes": {flag: _note(flag) for flag in used},
        "vectors": vectors,
    }
    return json.dumps(content, indent=1) + "\n"


def _as_json(vector: Vector) -> dict[str, Any]:
    return {
        "id": vector.id,
        "comment": vector.comment,
        "flags": sorted(set(vector.flags)),
        "input": [call_to_json(given) for given in vector.calls],
        "result": [outcome_to_json(expect(given)) for given in vector.calls],
    }


def _note(flag: str) -> dict[str, str]:
    [kind] = [kind for flags, kind in BUG_TYPES.items() if flag in flags.split()]
    return {"bugType": kind, "description": FLAGS[flag], "effect": EFFECTS[kind]}


def stale_files() -> list[str]:
    """Names of vector files that are not what the model gives today."""
    return [
        name
        for name, text in files().items()
        if not (path := FOLDER / name).exists() or path.read_text() != text
    ]


def main(arguments: Sequence[str]) -> int:
    """Write the vector files, or with ``--check`` say which are stale."""
    parser = Parser(prog="python -m tests.conformance.vectors", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing: 1 if a file is stale")
    check = parser.parse_args(arguments).check
    if check:
        stale = stale_files()
        for name in stale:
            print(f"vectors/{name} is stale: run python -m tests.conformance.vectors")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        write_text(FOLDER / name, text)
        print(f"vectors/{name}: {json.loads(text)['numberOfTests']} vectors")
    return 0


if __name__ == "__main__":
    run(main)
