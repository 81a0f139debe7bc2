"""Hypothesis strategies: sequences of calls, right and wrong, with a liking for edges."""

from dataclasses import replace

from hypothesis import strategies as st

from tests.conformance.call import ALL_ONES, WORD, Block, Call, Place

PLACES: tuple[Place, ...] = ("high", "low", "odd", "shifted")
COMMON_PAGE_SIZES = (1024, 2048, 4096)
LARGE_PAGE_SIZES = (8192, 16384, 65536, 1 << 20, 2 << 20)
MEMORY_OF_A_CALL = 4 << 20

EDGE_PAGES = (0, 1, 2, 31, 32, 33, 62, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 256)
EDGE_GAPS = (0, 0, 0, 1, 2, 31, 61, 62, 63, 64, 65, 128)
EDGE_WORDS = (0, 1, 1 << 63, 1 << 63 | 1, 1 << 31, 1 << 32, 0xFFFFFFFF, 0xFFFFFFFF << 32, ALL_ONES)
THREADS = (1, 1, 2, 2, 3, 4, 5, 7, 8, 16, 63, 64, 65, 255, 256, 257, 1000)


@st.composite
def layouts(draw: st.DrawFn) -> Call:
    """A call with blocks and nothing dirty."""
    page_size = draw(st.sampled_from(COMMON_PAGE_SIZES * 4 + LARGE_PAGE_SIZES))
    budget = max(MEMORY_OF_A_CALL // page_size, 4)
    aligned = draw(st.booleans())
    blocks, bit = [], 0
    for _ in range(draw(st.integers(0, 6))):
        pages = min(draw(st.sampled_from(EDGE_PAGES) | st.integers(0, 300)), budget)
        budget -= pages
        bit += draw(st.sampled_from(EDGE_GAPS) | st.integers(0, 100))
        if aligned:
            bit = -(-bit // WORD) * WORD
        blocks.append(_block(draw, bit, pages, page_size))
        bit += pages
    words = -(-bit // WORD) + draw(st.sampled_from((0, 0, 0, 1, 3)))
    return Call(
        page_size=page_size,
        blocks=tuple(draw(st.permutations(blocks))),
        cache=(0,) * words,
        host=(0,) * words,
        dirty_pages=0,
        threads=1,
    )


def _block(draw: st.DrawFn, first_bit: int, pages: int, page_size: int) -> Block:
    spare = draw(st.sampled_from((0, 0, 0, 1, 64, 1000)))
    elsewhere = draw(st.sampled_from((first_bit, first_bit, 0, 1 << 20, 2**64 // page_size - 1)))
    return Block(
        first_bit=first_bit,
        used_length=pages * page_size,
        max_length=(pages + spare) * page_size,
        offset=elsewhere * page_size,
    )


@st.composite
def epochs(draw: st.DrawFn, layout: Call) -> Call:
    """A valid call over a layout: dirty bits, a count, threads, where the memory lies."""
    used = _used(layout)
    cache = _bitmap(draw, used)
    host = _bitmap(draw, used) if draw(st.booleans()) else cache
    error = draw(st.sampled_from((0,) * 8 + (1, 5, 2**63, 2**64 - 1)))
    return replace(
        layout,
        cache=cache,
        host=host,
        dirty_pages=(sum(word.bit_count() for word in cache) + error) % 2**64,
        threads=draw(st.sampled_from(THREADS)),
        null=draw(st.sampled_from((frozenset(), frozenset(), frozenset({"stats"})))),
        place=draw(st.sampled_from(PLACES)),
    )


def _used(layout: Call) -> list[int]:
    """The mask of bits with a page behind them, word by word."""
    masks = [0] * len(layout.cache)
    for block in layout.blocks:
        first, pages = block.first_bit, block.used_length // layout.page_size
        for word in range(first // WORD, -(-(first + pages) // WORD)):
            low, high = max(first - word * WORD, 0), min(first + pages - word * WORD, WORD)
            masks[word] |= (1 << high) - (1 << low)
    return masks


def _bitmap(draw: st.DrawFn, used: list[int]) -> tuple[int, ...]:
    if draw(st.integers(0, 9)) == 0:
        return tuple(used)
    word = st.sampled_from(EDGE_WORDS) | st.integers(0, ALL_ONES)
    return tuple(mask & draw(word) for mask in used)


@st.composite
def valid_sequences(draw: st.DrawFn) -> tuple[Call, ...]:
    """One to five epochs, on one memory layout or on changing ones."""
    layout = draw(layouts())
    calls = [draw(epochs(layout))]
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 2)) == 0:
            layout = draw(layouts())
        calls.append(draw(epochs(layout)))
    return tuple(calls)


@st.composite
def broken_calls(draw: st.DrawFn) -> Call:
    """A valid call with one thing broken, most often such that it must be refused."""
    call = draw(epochs(draw(layouts())))
    breakers = [_break_threads, _break_page_size, _break_null, _break_stray]
    if call.blocks:
        breakers += [_break_alignment, _break_max, _break_place, _break_overlap, _break_used] * 2
    return draw(st.sampled_from(breakers))(draw, call)


def _break_threads(draw: st.DrawFn, call: Call) -> Call:
    return replace(call, threads=0)


def _break_page_size(draw: st.DrawFn, call: Call) -> Call:
    return replace(call, page_size=draw(st.sampled_from((0, 3, 1000, 3072, 4095, 4097, 12288))))


def _break_null(draw: st.DrawFn, call: Call) -> Call:
    names = ["blocks", "cache_bitmap", "host_bitmap", "dirty_pages", "host[0]", "cache[0]"]
    return replace(call, null=frozenset({draw(st.sampled_from(names))}))


def _break_stray(draw: st.DrawFn, call: Call) -> Call:
    """One bit set somewhere: stray if no used page is there."""
    if not call.cache:
        return replace(call, cache=(1,), host=(0,), dirty_pages=1)
    bit = draw(st.integers(0, len(call.cache) * WORD - 1))
    field = draw(st.sampled_from(("cache", "host")))
    words = list(getattr(call, field))
    words[bit // WORD] |= 1 << bit % WORD
    return replace(call, **{field: tuple(words)})  # type: ignore[arg-type]


def _break_alignment(draw: st.DrawFn, call: Call) -> Call:
    field = draw(st.sampled_from(("offset", "used_length", "max_length")))
    by = draw(st.sampled_from((1, 8, call.page_size // 2, call.page_size - 1)))
    return _change_block(draw, call, field, lambda block: (getattr(block, field) + by) % 2**64)


def _break_max(draw: st.DrawFn, call: Call) -> Call:
    return _change_block(
        draw, call, "max_length", lambda block: max(block.used_length - call.page_size, 0)
    )


def _break_place(draw: st.DrawFn, call: Call) -> Call:
    """Past the end of the bitmaps, by a bit or so far that adding wraps."""
    bits = len(call.cache) * WORD
    far = draw(st.sampled_from((bits - 1, bits, bits + 1, 2**63, 2**64 - 1, 2**64 - WORD)))
    return _change_block(draw, call, "first_bit", lambda block: max(far, 0))


def _break_overlap(draw: st.DrawFn, call: Call) -> Call:
    """Moved onto a bit of another block, or next to it."""
    other = draw(st.sampled_from(call.blocks))
    pages = other.used_length // call.page_size
    bit = other.first_bit + draw(st.sampled_from((0, 1, pages - 1, pages)))
    return _change_block(draw, call, "first_bit", lambda block: max(bit, 0))


def _break_used(draw: st.DrawFn, call: Call) -> Call:
    """A used length far beyond any bitmap."""
    huge = draw(st.sampled_from((2**63, 2**64 - call.page_size, 2**40)))
    changed = _change_block(draw, call, "used_length", lambda block: huge)
    blocks = tuple(replace(b, max_length=max(b.max_length, b.used_length)) for b in changed.blocks)
    return replace(changed, blocks=blocks)


def _change_block(draw: st.DrawFn, call: Call, field: str, change: object) -> Call:
    i = draw(st.integers(0, len(call.blocks) - 1))
    block = replace(call.blocks[i], **{field: change(call.blocks[i])})  # type: ignore[operator]
    return replace(call, blocks=(*call.blocks[:i], block, *call.blocks[i + 1 :]))


@st.composite
def refusal_sequences(draw: st.DrawFn) -> tuple[Call, ...]:
    """A broken call, and after it a good one: a refusal must leave nothing behind in the port."""
    return draw(broken_calls()), draw(epochs(draw(layouts())))


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int]:
    """Pages and threads of a plan."""
    pages = draw(st.sampled_from((*EDGE_PAGES, 2**31, 2**32, 2**52)) | st.integers(0, 2**53))
    return pages + draw(st.integers(0, 130)), draw(st.sampled_from(THREADS) | st.integers(1, 300))
