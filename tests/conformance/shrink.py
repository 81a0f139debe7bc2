"""Makes a failing sequence of calls small: fewer calls, blocks, bits, pages, threads.

Greedy: try simpler sequences, keep the first that still breaks a rule, until none does or there have
been enough. Each attempt runs in a fresh process, so nothing left over from the one before can help.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.conformance.call import ALL_ONES, WORD, Block, Call

Calls = tuple[Call, ...]


def shrink(calls: Sequence[Call], fails: Callable[[Calls], bool], attempts: int) -> Calls:
    """The smallest sequence found, in ``attempts``, for which ``fails`` still holds."""
    smallest = tuple(calls)
    improved = True
    while improved:
        improved = False
        for simpler in _simpler(smallest):
            if not attempts:
                return smallest
            attempts -= 1
            if fails(simpler):
                smallest, improved = simpler, True
                break
    return smallest


def _simpler(calls: Calls) -> Iterator[Calls]:
    """Simpler sequences, the boldest first."""
    if len(calls) > 2:
        yield calls[len(calls) // 2 :]
    for i in range(len(calls)):
        if len(calls) > 1:
            yield calls[:i] + calls[i + 1 :]
    for i, call in enumerate(calls):
        for simpler in _simpler_call(call):
            yield (*calls[:i], simpler, *calls[i + 1 :])


def _simpler_call(call: Call) -> Iterator[Call]:
    words = len(call.cache)
    for i in range(len(call.blocks)):
        yield _without_block(call, i)
    for keep in (words // 2, words - 1):
        if 0 <= keep < words:
            yield _recount(call, replace(call, cache=call.cache[:keep], host=call.host[:keep]))
    if call.blocks and call.cache and all(b.first_bit >= WORD for b in call.blocks):
        yield _one_word_lower(call)
    yield from _smaller_blocks(call)
    yield from _fewer_bits(call)
    for name, value in (("page_size", 1024), ("place", "high"), ("null", frozenset())):
        if getattr(call, name) != value:
            yield _with(call, name, value)
    for threads in (1, 2, call.threads // 2, call.threads - 1):
        if 0 < threads < call.threads:
            yield replace(call, threads=threads)


def _with(call: Call, name: str, value: object) -> Call:
    if name != "page_size" or not call.page_size:
        return replace(call, **{name: value})  # type: ignore[arg-type]
    blocks = tuple(
        Block(
            block.first_bit,
            *(
                length // call.page_size * 1024
                for length in (block.used_length, block.max_length, block.offset)
            ),
        )
        for block in call.blocks
    )
    return replace(call, page_size=1024, blocks=blocks)


def _without_block(call: Call, i: int) -> Call:
    emptied = _dropped(call, i, _pages(call, i))
    moved = {
        f"{kind}[{j}]": f"{kind}[{j - (j > i)}]" for kind in ("host", "cache") for j in _BLOCKS
    }
    null = frozenset(moved.get(n, n) for n in call.null if n not in (f"host[{i}]", f"cache[{i}]"))
    return replace(emptied, blocks=call.blocks[:i] + call.blocks[i + 1 :], null=null)


_BLOCKS = range(300)


def _pages(call: Call, i: int) -> int:
    return call.blocks[i].used_length // max(call.page_size, 1)


def _dropped(call: Call, i: int, back: int, front: int = 0) -> Call:
    """Without ``back`` and ``front`` pages of a block at its ends, and without their bits."""
    block, pages = call.blocks[i], _pages(call, i)
    keep = [ALL_ONES] * len(call.cache)
    for page in (*range(front), *range(max(pages - back, 0), pages)):
        if (bit := block.first_bit + page) < len(keep) * WORD:
            keep[bit // WORD] &= ~(1 << bit % WORD)
    shorter = replace(
        block,
        first_bit=block.first_bit + front,
        used_length=block.used_length - (back + front) * call.page_size,
    )
    return _recount(
        call,
        replace(
            _with_block(call, i, shorter),
            cache=_masked(call.cache, keep),
            host=_masked(call.host, keep),
        ),
    )


def _one_word_lower(call: Call) -> Call:
    """Everything 64 bits lower, the first word gone."""
    blocks = tuple(replace(b, first_bit=b.first_bit - WORD) for b in call.blocks)
    return _recount(call, replace(call, blocks=blocks, cache=call.cache[1:], host=call.host[1:]))


def _fewer_bits(call: Call) -> Iterator[Call]:
    for name in ("cache", "host"):
        words: tuple[int, ...] = getattr(call, name)
        for w, word in enumerate(words):
            if not word:
                continue
            halves = (0, word & 0xFFFFFFFF, word & ~0xFFFFFFFF, word & word - 1)
            lowest_only = word & -word
            for simpler in (*halves, lowest_only):
                if simpler != word:
                    fewer = {name: (*words[:w], simpler, *words[w + 1 :])}
                    yield _recount(call, replace(call, **fewer))  # type: ignore[arg-type]


def _smaller_blocks(call: Call) -> Iterator[Call]:
    size = call.page_size
    if size <= 0:
        return
    for i, block in enumerate(call.blocks):
        pages = _pages(call, i)
        for less in (pages // 2, WORD, 8, 1):
            if 0 < less < pages:
                yield _dropped(call, i, less)
                yield _dropped(call, i, 0, less)
        if block.max_length > block.used_length:
            yield _with_block(call, i, replace(block, max_length=block.used_length))
        if block.offset != block.first_bit * size < 2**64:
            yield _with_block(call, i, replace(block, offset=block.first_bit * size))


def _with_block(call: Call, i: int, block: Block) -> Call:
    return replace(call, blocks=(*call.blocks[:i], block, *call.blocks[i + 1 :]))


def _recount(before: Call, after: Call) -> Call:
    """Keep the dirty count as right, or as wrong, as it was."""
    lost = _count(before.cache) - _count(after.cache)
    return replace(after, dirty_pages=(after.dirty_pages - lost) % 2**64)


def _count(words: tuple[int, ...]) -> int:
    return sum(word.bit_count() for word in words)


def _masked(words: tuple[int, ...], keep: list[int]) -> tuple[int, ...]:
    return tuple(word & mask for word, mask in zip(words, keep, strict=True))
