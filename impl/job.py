"""What is installed in a RAM: its blocks, and the job table that tells kernels where all of it lies.

Built anew for each change of the blocks and installed whole, in time that grows like n log n: a guest
of ten thousand blocks is made in tenths of a second.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from impl.arrays import address
from impl.block import Block, Extent, Words, check_apart, extent
from impl.by_node import words_by_node
from impl.kernels.flush import count_dirty
from impl.kernels.job_table import BY_NODE, GAP_FIELDS, JOB_FIELDS, REGION_FIELDS
from impl.kernels.job_table import place as place_of
from model import ram as model
from model.ram import PAGES_PER_WORD, Region
from model.shares import STRETCH


@dataclass(frozen=True)
class Installed:
    """The blocks as they are now, the two bitmaps over them, and the job table (impl.kernels.flush)."""

    layout: model.Layout
    blocks: dict[str, Block]
    regions: dict[str, Region]
    cache_bitmap: Words
    host_bitmap: Words
    index: tuple[Words, Words]
    """of the dirty pages: a number a word, a number a stretch"""
    job: Words
    job_address: np.uint64
    by_node: Words | None = None
    """its words node by node; empty if its memory lies on one node; None as long as nobody has asked"""
    gone: range = range(0)
    """bits of pages that went out of use with this change: to be cleared"""


def install(
    layout: model.Layout, blocks: Sequence[Block], cache_bitmap: Words, host_bitmap: Words
) -> Installed:
    """What to install for blocks that lie as ``layout`` says; LayoutError if memory is shared."""
    check_apart(_extents(blocks, cache_bitmap, host_bitmap))
    stretches = -(-layout.words // STRETCH)
    index = np.zeros(layout.words, np.uint64), np.zeros(stretches, np.uint64)
    job = _job_table(layout, blocks, cache_bitmap, host_bitmap, index)
    return Installed(
        layout,
        {block.name: block for block in blocks},
        {region.block.name: region for region in layout.regions},
        cache_bitmap,
        host_bitmap,
        index,
        job,
        address(job),
    )


def placed_on_nodes(now: Installed) -> Installed:
    """The same, Linux asked on which NUMA nodes the memory lies."""
    by_node, job = words_by_node(now.job), now.job
    lies_at = address(by_node) if len(by_node) else np.uint64(0)
    # The table that kernels follow now must not go before they follow another.
    if job[place_of(BY_NODE)] != lies_at:
        job = job.copy()
        job[place_of(BY_NODE)] = lies_at
    return replace(now, job=job, job_address=address(job), by_node=by_node)


def place(
    blocks: Iterable[Block], sizes: dict[str, int], page_size: int, there: Mapping[str, Region]
) -> Iterator[model.Block]:
    """The geometry of the blocks: where they are already, or by their offset, or after all before."""
    word_bytes = PAGES_PER_WORD * page_size
    free = 0
    for block in blocks:
        size, before = sizes[block.name], there.get(block.name)
        if before is not None and before.block.used_length == size:
            placed = before.block
        elif before is not None:
            placed = replace(before.block, used_length=size)
        else:
            offset = free if block.offset is None else block.offset
            placed = model.Block(block.name, offset, size, block.max_size, block.first_bit)
        yield placed
        free = max(free, -(-(placed.offset + block.max_size) // word_bytes) * word_bytes)


def count(bitmap: Words) -> np.uint64:
    """How many bits are set."""
    return np.uint64(count_dirty(address(bitmap), np.uint64(len(bitmap))))


def _extents(blocks: Sequence[Block], cache_bitmap: Words, host_bitmap: Words) -> Iterator[Extent]:
    yield extent(cache_bitmap, "cache_dirty")
    yield extent(host_bitmap, "host_dirty")
    for block in blocks:
        yield block._host_extent
        yield block._cache_extent


def _job_table(
    layout: model.Layout,
    blocks: Sequence[Block],
    cache: Words,
    host: Words,
    index: tuple[Words, Words],
) -> Words:
    """The job table, the dirty pages counted. Regions without a used page are nowhere."""
    rows = np.array(
        [
            (
                region.first_bit,
                region.used_pages,
                block._host_extent.start,
                block._cache_extent.start,
            )
            for region, block in zip(layout.regions, blocks, strict=True)
            if region.used_pages
        ],
        np.uint64,
    ).reshape(-1, REGION_FIELDS)
    rows = rows[np.argsort(rows[:, 0])]
    gaps = _gaps(rows[:, 0], rows[:, 0] + rows[:, 1], layout.words * PAGES_PER_WORD)
    head = [
        layout.page_size,
        address(cache),
        address(host),
        layout.pages,
        layout.words,
        len(rows),
        len(gaps),
        count(cache),
        0,
        *map(address, index),
        0,
    ]
    # As many fields as the kernels read, or an error.
    fields = np.array(head, np.uint64).reshape(JOB_FIELDS)
    return np.concatenate([fields, rows.ravel(), gaps.ravel()])


def _gaps(starts: Words, ends: Words, end: int) -> Words:
    """The ranges of bits below ``end`` between ranges in order, as rows of first and end."""
    edges = np.empty((len(starts) + 1, GAP_FIELDS), np.uint64)
    edges[0, 0], edges[1:, 0] = 0, ends
    edges[:-1, 1], edges[-1, 1] = starts, end
    return edges[edges[:, 0] < edges[:, 1]]
