"""What must be seen after a call: the ABI's refusals, and for the rest the model's flush.

The refusals are the clauses of ``colo_flush.h`` in exact integers; everything else is
``model.flush``, asked with the call's bitmaps as sets of pages.
"""

import errno
from collections.abc import Iterator

from model import flush as spec
from model.errors import DirtyCountMismatch, StrayDirtyPages
from model.ram import Block as RamBlock
from model.ram import Layout
from tests.conformance.call import STATS_BEFORE, WORD, Block, Call, Outcome, letters


def expect(call: Call) -> Outcome:
    """The only outcome of this call that the ABI allows."""
    if why_refused(call):
        return _refused(call)
    ram = spec.Ram(
        host=_content(call, "h"),
        cache=_content(call, "c"),
        cache_dirty=_pages(call.cache),
        host_dirty=_pages(call.host),
        dirty_pages=call.dirty_pages,
    )
    stats = _stats_of(ram)
    try:
        stats = spec.flush(ram, _layout(call))
    except StrayDirtyPages:
        return _refused(call)
    except DirtyCountMismatch:
        status = -errno.ERANGE
    else:
        status = 0
    zeros = (0,) * len(call.cache)
    return Outcome(
        status=status,
        cache=zeros,
        host=zeros,
        dirty_pages=ram.dirty_pages % 2**64,
        stats=(stats.copied, stats.host_dirty, stats.cache_dirty, stats.both_dirty),
        pages=tuple(
            "".join(str(ram.host[block.first_bit + page]) for page in range(letters(call, block)))
            for block in call.blocks
        ),
    )


def why_refused(call: Call) -> str | None:
    """The first clause by which the call must get -EINVAL; None if only a stray bit could."""
    return next((why for clause, why in _clauses(call) if clause != "stray"), None)


def clauses_broken(call: Call) -> set[str]:
    """Every clause that would do to refuse the call, also where another one comes before it.

    What has no meaning is taken in every way that a port might: with a page size that is no power of
    two each length is unaligned; with no list of blocks each bit set is stray.
    """
    return {clause for clause, _ in _clauses(call)}


def _clauses(call: Call) -> Iterator[tuple[str, str]]:
    size = call.page_size
    if call.threads == 0:
        yield "threads", "threads is 0"
    if "dirty_pages" in call.null:
        yield "dirty_pages", "dirty_pages is NULL"
    if call.blocks and "blocks" in call.null:
        yield "blocks", "blocks is NULL"
    if call.cache and call.null & {"cache_bitmap", "host_bitmap"}:
        yield "bitmap", "a bitmap is NULL"
    if size <= 0 or size & (size - 1):
        yield "page_size", f"page size {size} is not a power of two"
        if any(block.offset | block.used_length | block.max_length for block in call.blocks):
            yield "alignment", "nothing is aligned to such a page size"
        if any(call.cache) or any(call.host):
            yield "stray", "no bit has a page"
        return
    for i, block in enumerate(call.blocks):
        yield from _clauses_of_block(call, i, block)
    yield from _clauses_of_bits(call)


def _clauses_of_block(call: Call, i: int, block: Block) -> Iterator[tuple[str, str]]:
    size = call.page_size
    if block.offset % size or block.used_length % size or block.max_length % size:
        yield "alignment", f"block {i}: its offset or a length is not page aligned"
    if block.max_length < block.used_length:
        yield "max_length", f"block {i}: max_length < used_length"
    if block.used_length and call.null & {f"host[{i}]", f"cache[{i}]"}:
        yield "memory", f"block {i}: its memory is NULL"


def _clauses_of_bits(call: Call) -> Iterator[tuple[str, str]]:
    bits = len(call.cache) * WORD
    taken: list[tuple[int, int, int]] = []
    for i, block in enumerate(call.blocks):
        first, last = block.first_bit, block.first_bit + block.used_length // call.page_size
        if first == last:
            continue
        if last > bits:
            yield "reach", f"block {i}: its used pages end at bit {last}, past the bitmaps' {bits}"
        for low, high, other in taken:
            if first < high and low < last:
                yield "overlap", f"blocks {other} and {i}: their used pages overlap"
        taken.append((first, last, i))
    listed = [] if "blocks" in call.null else taken
    for bit in sorted(_pages(call.cache) | _pages(call.host)):
        if not any(first <= bit < last for first, last, _ in listed):
            yield "stray", f"bit {bit} is set outside every block's used pages"


def _layout(call: Call) -> Layout:
    """The blocks in use, each where its bits are: the model's Layout finds those by address."""
    return Layout(
        tuple(
            RamBlock(
                name=f"block {i}",
                offset=block.first_bit * call.page_size,
                used_length=block.used_length,
                max_length=block.used_length,
            )
            for i, block in enumerate(call.blocks)
            if block.used_length
        ),
        call.page_size,
    )


def _pages(words: tuple[int, ...]) -> set[int]:
    return {w * WORD + b for w, word in enumerate(words) for b in range(WORD) if word >> b & 1}


def _content(call: Call, letter: str) -> dict[int, object]:
    return {
        block.first_bit + page: letter
        for block in call.blocks
        for page in range(letters(call, block))
    }


def _stats_of(ram: spec.Ram) -> spec.Flushed:
    return spec.Flushed(
        len(ram.cache_dirty | ram.host_dirty),
        len(ram.host_dirty),
        len(ram.cache_dirty),
        len(ram.cache_dirty & ram.host_dirty),
    )


def _refused(call: Call) -> Outcome:
    return Outcome(
        status=-errno.EINVAL,
        cache=call.cache,
        host=call.host,
        dirty_pages=call.dirty_pages,
        stats=STATS_BEFORE,
        pages=tuple("h" * letters(call, block) for block in call.blocks),
    )
