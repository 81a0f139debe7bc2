"""Bits with no page behind them."""

from itertools import product

from model import strays
from model.page.picture import drawn, of_pages, words_of
from model.ram import Block, Layout
from model.scenarios.registry import FAILS, Lines, Rows, scenario

PAGE = 4096


def _small_layouts() -> Rows:
    layouts = (([3], [61]), ([3], [5]), ([0, 3], [3, 61]), ([1, 70], [2, 58]))
    for (first_bits, used), bit in product(layouts, (0, 2, 3, 5, 8, 63, 64, 127)):
        yield first_bits, used, [bit]


@scenario(_small_layouts)
def stray_bits(first_bits: list[int], used: list[int], dirty: list[int]) -> Lines:
    """Each bit alone, dirty in either bitmap: is it taken for a stray just if no block holds it?"""
    blocks = tuple(
        Block(f"block {number}", first * PAGE, pages * PAGE, pages * PAGE)
        for number, (first, pages) in enumerate(zip(first_bits, used, strict=True))
    )
    layout = Layout(blocks, PAGE)
    ranges = {r.block.name: (r.bits.start, r.bits.stop) for r in layout.regions}
    shown = of_pages(64 * layout.words, ranges, dirty=dirty)
    gaps = list(strays.gaps(layout))
    yield drawn(f"blocks from bits {first_bits} of {used} pages; gaps {gaps}", shown)
    nothing = words_of((), layout.words)
    for bit in dirty:
        if bit >= 64 * layout.words:
            continue
        marked = words_of([bit], layout.words)
        wanted = None if layout.is_used(bit) else bit
        in_gaps = any(strays.in_gap(bit, *gap) for gap in gaps)
        for name, bitmaps in (("cache", (marked, nothing)), ("host", (nothing, marked))):
            found = strays.first_stray(*bitmaps, layout)
            yield f"bit {bit} set in the {name} bitmap: the first stray bit is {found}"
            if found != wanted or in_gaps != (wanted is not None):
                yield f"{FAILS}bit {bit} has {'no' if wanted is not None else 'a'} page behind it"
                return
