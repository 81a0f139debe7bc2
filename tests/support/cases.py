"""Random flushes: a RAM layout and the dirty pages of some epochs, drawn towards the boundaries.

Word edges, first and last pages, blocks that share a word, empty blocks, blocks out of order, holes.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

from model.ram import BitmapKind, Block, Layout

PAGE_SIZE = 1024


@dataclass(frozen=True)
class Epoch:
    """The dirty pages just before one flush, by bit."""

    cache_dirty: frozenset[int]
    host_dirty: frozenset[int]


@dataclass(frozen=True)
class Case:
    """A RAM and some epochs in a row: some defects show only in the second."""

    layout: Layout
    epochs: tuple[Epoch, ...]

    def program(self) -> str:
        """The case as a short program."""
        lines = [
            "from model.ram import Block, Layout",
            "from tests.support.cases import Case, Epoch",
            "",
        ]
        blocks = ",\n    ".join(map(repr, self.layout.blocks))
        lines.append(
            f"layout = Layout((\n    {blocks},\n), {self.layout.page_size}, {self.layout.kind!r})"
        )
        for number, epoch in enumerate(self.epochs):
            lines.append(
                f"epoch_{number} = Epoch(frozenset({sorted(epoch.cache_dirty)}), "
                f"frozenset({sorted(epoch.host_dirty)}))"
            )
        names = ", ".join(f"epoch_{number}" for number in range(len(self.epochs)))
        lines.append(f"case = Case(layout, ({names},))")
        return "\n".join(lines)


# Numbers of pages on and around the edges of 64-bit words, the small ones first.
EDGES = [0, 1, 2, 63, 64, 65, 127, 128, 129, 192, 200, 256]
KINDS: list[BitmapKind] = ["global", "per-block"]
edges = st.one_of(st.sampled_from(EDGES), st.integers(0, 260))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Up to five blocks, shuffled, with holes, unused tails, and words that two blocks share."""
    blocks, free = [], 0
    for number in range(draw(st.integers(1, 5))):
        free += draw(st.sampled_from([0, 0, 0, 1, 3, 61, 64, 100]))
        most = draw(edges)
        used = most if draw(st.booleans()) else draw(st.integers(0, most))
        blocks.append(Block(f"b{number}", *(n * PAGE_SIZE for n in (free, used, most))))
        free += most
    order = draw(st.permutations(blocks))
    return Layout(tuple(order), PAGE_SIZE, draw(st.sampled_from(KINDS)))


@st.composite
def dirty_pages(draw: st.DrawFn, layout: Layout) -> frozenset[int]:
    """A set of used pages: none, all, the edges, or any."""
    used = sorted(layout.used())
    if not used:
        return frozenset()
    near_edges = [
        bit
        for region in layout.regions
        for bit in region.bits
        if bit % 64 in (0, 63) or bit in (region.bits.start, region.bits.stop - 1)
    ]
    return draw(
        st.one_of(
            st.just(frozenset()),
            st.just(frozenset(used)),
            st.frozensets(st.sampled_from(near_edges or used)),
            st.frozensets(st.sampled_from(used), max_size=40),
            st.integers(0, 2**32).map(
                lambda seed: frozenset(u for u in used if (u * seed) % 7 < 3)
            ),
        )
    )


@st.composite
def cases(draw: st.DrawFn, epochs: int = 2) -> Case:
    """A layout and the dirty pages of that many epochs."""
    layout = draw(layouts())
    drawn = tuple(
        Epoch(draw(dirty_pages(layout)), draw(dirty_pages(layout))) for _ in range(epochs)
    )
    return Case(layout, drawn)
