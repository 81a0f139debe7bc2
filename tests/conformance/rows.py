"""Calls written in a line, by the pages whose bits are set."""

from collections.abc import Sequence

from tests.conformance.call import WORD, Block, Call, Place

SIZE = 4096


def words(count: int, *bits: int) -> tuple[int, ...]:
    """A bitmap of ``count`` words with these bits set."""
    return tuple(sum(1 << b % WORD for b in set(bits) if b // WORD == w) for w in range(count))


def block(first_bit: int, pages: int, *, size: int = SIZE, spare: int = 0) -> Block:
    """A block whose offset agrees with its bits, as in the patch's global bitmap."""
    return Block(first_bit, pages * size, (pages + spare) * size, first_bit * size % 2**64)


def call(
    *blocks: Block,
    cache: Sequence[int] = (),
    host: Sequence[int] = (),
    n_words: int | None = None,
    threads: int = 2,
    size: int = SIZE,
    dirty_pages: int | None = None,
    null: Sequence[str] = (),
    place: Place = "high",
) -> Call:
    """A call with these bits set, a right dirty count and bitmaps just long enough, unless told."""
    end = max((b.first_bit + b.used_length // size for b in blocks if b.used_length), default=0)
    count = -(-end // WORD) if n_words is None else n_words
    return Call(
        page_size=size,
        blocks=blocks,
        cache=words(count, *cache),
        host=words(count, *host),
        dirty_pages=len(set(cache)) if dirty_pages is None else dirty_pages,
        threads=threads,
        null=frozenset(null),
        place=place,
    )
