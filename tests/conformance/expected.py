"""What must be seen after a call: the ABI's refusals, and for the rest the model's flush.

The refusals are the clauses of ``colo_flush.h`` in exact integers; everything else is
``model.flush``, asked with the call's bitmaps as sets of pages.
"""

import errno

from model import flush as spec
from model.errors import DirtyCountMismatch, StrayDirtyPages
from model.ram import Block as RamBlock
from model.ram import Layout
from tests.conformance.call import STATS_BEFORE, WORD, Call, Outcome, letters


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
    size = call.page_size
    if call.threads == 0:
        return "threads is 0"
    if "dirty_pages" in call.null:
        return "dirty_pages is NULL"
    if size <= 0 or size & (size - 1):
        return f"page size {size} is not a power of two"
    if call.blocks and "blocks" in call.null:
        return "blocks is NULL"
    if call.cache and call.null & {"cache_bitmap", "host_bitmap"}:
        return "a bitmap is NULL"
    for i, block in enumerate(call.blocks):
        if block.offset % size or block.used_length % size or block.max_length % size:
            return f"block {i}: its offset or a length is not page aligned"
        if block.max_length < block.used_length:
            return f"block {i}: max_length < used_length"
        if block.used_length and call.null & {f"host[{i}]", f"cache[{i}]"}:
            return f"block {i}: its memory is NULL"
    return _why_misplaced(call)


def _why_misplaced(call: Call) -> str | None:
    bits = len(call.cache) * WORD
    taken: list[tuple[int, int, int]] = []
    for i, block in enumerate(call.blocks):
        first, last = block.first_bit, block.first_bit + block.used_length // call.page_size
        if first == last:
            continue
        if last > bits:
            return f"block {i}: its used pages end at bit {last}, past the bitmaps' {bits}"
        for low, high, other in taken:
            if first < high and low < last:
                return f"blocks {other} and {i}: their used pages overlap"
        taken.append((first, last, i))
    return None


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
