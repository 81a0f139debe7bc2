"""RAM as a flush sees it: blocks, pages, and where each page's bit lies in the two dirty bitmaps.

A guest's RAM is a list of *RAM blocks*, in the hypervisor's list order (QEMU: largest first, not by
address). Every page of every block owns one bit, at the same position, in two bitmaps: *cache-dirty*
(the primary sent this page) and *host-dirty* (the secondary's guest wrote it). A page is named by
the position of its bit, so one number says which page, which bit and which 64-bit word.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from model.boundary.arguments import block_name, listed, shown, whole_number
from model.errors import LayoutError

PAGES_PER_WORD = 64
ADDRESS_SPACE = 2**64
SMALLEST_PAGE, LARGEST_PAGE = 1 << 10, 2 << 20

BitmapKind = Literal["global", "per-block"]


@dataclass(frozen=True)
class Block:
    """One RAM block (QEMU: ``RAMBlock``). All lengths in bytes, all multiples of the page size.

    ``offset`` is where the block starts in the ``ram_addr_t`` space; ``used_length`` is the part in
    use now, ``max_length`` what it may grow to. A block that is not in use has ``used_length`` 0.
    ``first_bit`` says where a per-block bitmap begins, a multiple of 64; None: behind those of all
    blocks before it in the list.
    """

    name: str
    offset: int
    used_length: int
    max_length: int
    first_bit: int | None = None


@dataclass(frozen=True)
class Region:
    """A block's place in the bitmaps: page ``p`` of ``block`` is bit ``first_bit + p``."""

    block: Block
    first_bit: int
    used_pages: int
    max_pages: int

    @property
    def bits(self) -> range:
        """The bits of the pages in use."""
        return range(self.first_bit, self.first_bit + self.used_pages)


@dataclass(frozen=True)
class Layout:
    """A valid list of RAM blocks with their bitmap. Raises LayoutError if it is not valid.

    ``kind`` is "global" for the patch's single bitmap over the whole address space, in which a
    block's first bit is its page number and two blocks may share a word; "per-block" for the
    bitmaps QEMU has had since 2.10, laid end to end here, each starting on a fresh word.
    """

    blocks: tuple[Block, ...]
    page_size: int
    kind: BitmapKind = "global"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", _plain_blocks(self.blocks))
        object.__setattr__(
            self, "page_size", whole_number(self.page_size, "page_size", LayoutError)
        )
        _check_page_size(self.page_size)
        if not isinstance(self.kind, str) or self.kind not in ("global", "per-block"):
            raise LayoutError(f"layout {shown(self.kind)} is unknown: use 'global' or 'per-block'")
        _check_names(self.blocks)
        for block in self.blocks:
            _check_block(block, self.page_size)
            _check_first_bit(block, self.kind)
        _check_no_overlap(self.blocks)
        if self.kind == "per-block":
            _check_no_word_is_shared(self.regions)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Each block's place in the bitmaps, in list order."""
        return tuple(self._place())

    def _place(self) -> Iterator[Region]:
        next_word = 0
        for block in self.blocks:
            max_pages = block.max_length // self.page_size
            if self.kind == "global":
                first_bit = block.offset // self.page_size
            else:
                behind = next_word * PAGES_PER_WORD
                first_bit = behind if block.first_bit is None else block.first_bit
                next_word = max(next_word, -(-(first_bit + max_pages) // PAGES_PER_WORD))
            yield Region(block, first_bit, block.used_length // self.page_size, max_pages)

    @cached_property
    def pages(self) -> int:
        """Bits up to the end of the last block's *max* length (QEMU: ``last_ram_offset``)."""
        return max((r.first_bit + r.max_pages for r in self.regions), default=0)

    @property
    def words(self) -> int:
        """Length of each bitmap in 64-bit words."""
        return -(-self.pages // PAGES_PER_WORD)

    def is_used(self, page: int) -> bool:
        """Is this the bit of a page in use? Found by halving: a guest may have thousands of blocks."""
        page = whole_number(page, "page", LayoutError)
        at = bisect_right(self._used_bits, page, key=lambda bits: bits.start)
        return at > 0 and page in self._used_bits[at - 1]

    @cached_property
    def _used_bits(self) -> list[range]:
        """The bits of the pages in use, in order."""
        in_use = (region.bits for region in self.regions if region.used_pages)
        return sorted(in_use, key=lambda bits: bits.start)

    def used(self) -> set[int]:
        """Every page in use. As large as the RAM: for tests and replays, not for a real guest."""
        return {bit for region in self.regions for bit in region.bits}

    def locate(self, page: int) -> str:
        """Where a page lies, in words for an error message."""
        page = whole_number(page, "page", LayoutError)
        for region in self.regions:
            inside = page - region.first_bit
            if 0 <= inside < region.max_pages:
                state = "" if inside < region.used_pages else ", beyond its used length"
                return f"page {inside} of block {region.block.name!r}{state}"
        return f"bit {page}, outside every block"


def _plain_blocks(blocks: object) -> tuple[Block, ...]:
    """The blocks with plain Python numbers and names: a NumPy number would wrap in sums of them."""
    return tuple(map(_plain_block, listed(blocks, "blocks", LayoutError)))


def _plain_block(block: object) -> Block:
    if not isinstance(block, Block):
        raise LayoutError(f"one of the blocks is {shown(block)}: give Blocks")
    name = block_name(block.name, "a block's name", LayoutError)

    def number(what: str) -> int:
        return whole_number(getattr(block, what), f"block {name!r}: {what}", LayoutError)

    first_bit = None if block.first_bit is None else number("first_bit")
    return Block(name, number("offset"), number("used_length"), number("max_length"), first_bit)


def _check_page_size(page_size: int) -> None:
    power_of_two = page_size > 0 and page_size & (page_size - 1) == 0
    if not power_of_two or not SMALLEST_PAGE <= page_size <= LARGEST_PAGE:
        raise LayoutError(
            f"page size {page_size} is not supported: use a power of two from 1 KiB to 2 MiB"
        )


def _check_names(blocks: tuple[Block, ...]) -> None:
    seen: set[str] = set()
    for block in blocks:
        if block.name in seen:
            raise LayoutError(f"block {block.name!r} appears twice: give every block its own name")
        seen.add(block.name)


def _check_block(block: Block, page_size: int) -> None:
    for what in ("offset", "used_length", "max_length"):
        value = getattr(block, what)
        if value < 0 or value % page_size:
            raise LayoutError(
                f"block {block.name!r}: {what} {value} is not a whole number of "
                f"{page_size}-byte pages: round it up to a multiple"
            )
    if block.used_length > block.max_length:
        raise LayoutError(
            f"block {block.name!r}: used length {block.used_length} exceeds max length "
            f"{block.max_length}: raise max_length"
        )
    if block.offset + block.max_length > ADDRESS_SPACE:
        raise LayoutError(
            f"block {block.name!r}: offset {block.offset:#x} + max length {block.max_length:#x} "
            "passes 2^64: move or shrink it"
        )


def _check_first_bit(block: Block, kind: BitmapKind) -> None:
    if block.first_bit is None:
        return
    if kind == "global":
        raise LayoutError(
            f"block {block.name!r}: first_bit {block.first_bit} in a global layout, where the offset "
            "says it: leave it out"
        )
    if block.first_bit < 0 or block.first_bit % PAGES_PER_WORD:
        raise LayoutError(
            f"block {block.name!r}: first_bit {block.first_bit} is not a multiple of "
            f"{PAGES_PER_WORD}: round it up to one"
        )


def _check_no_word_is_shared(regions: tuple[Region, ...]) -> None:
    by_bit = sorted((r for r in regions if r.max_pages), key=lambda region: region.first_bit)
    for low, high in pairwise(by_bit):
        if low.first_bit + low.max_pages > high.first_bit:
            raise LayoutError(
                f"the bits of blocks {low.block.name!r} and {high.block.name!r} overlap at bit "
                f"{high.first_bit}: give one of them another first_bit"
            )


def _check_no_overlap(blocks: tuple[Block, ...]) -> None:
    by_address = sorted((b for b in blocks if b.max_length), key=lambda b: b.offset)
    for low, high in pairwise(by_address):
        if low.offset + low.max_length > high.offset:
            raise LayoutError(
                f"blocks {low.name!r} and {high.name!r} overlap at address {high.offset:#x}: "
                f"{low.name!r} may reach {low.offset + low.max_length:#x}; move one of them"
            )
