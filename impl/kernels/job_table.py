"""The job table, which tells kernels where a RAM lies: uint64 fields, as byte offsets from its address.

These fields, then a row for each region (a block's place in the bitmaps) that has a used page, in order
of their bits, and a row for each gap between them. ``impl.job`` writes it; kernels write DIRTY_PAGES,
COPYING and what INDEX, STRETCHES and BY_NODE point to, no more.
"""

import numpy as np


def fields(number: int, first: int = 0) -> list[np.uint64]:
    """A number of fields, one behind the other, from a byte offset on."""
    return [np.uint64(first + 8 * i) for i in range(number)]


# Bytes of a page; addresses of the two bitmaps; their bits and 64-bit words; rows of regions and of gaps;
# the dirty count, in pages; how pages are copied; addresses of the index of dirty pages, a number for
# each word, one for each stretch of words (model.shares.Index); address of a table of the words by NUMA
# node, 0 where all memory lies on one.
JOB_FIELDS = 12
PAGE_BYTES, CACHE_BITMAP, HOST_BITMAP, PAGES, WORDS, REGIONS, GAPS = fields(JOB_FIELDS)[:7]
DIRTY_PAGES, COPYING, INDEX, STRETCHES, BY_NODE = fields(JOB_FIELDS)[7:]
ROWS = np.uint64(8 * JOB_FIELDS)

# A region: the bit of its first page, its used pages, addresses of its first page in host and in cache.
REGION_FIELDS = 4
FIRST_BIT, USED_PAGES, HOST, CACHE = fields(REGION_FIELDS)
REGION_BYTES = np.uint64(8 * REGION_FIELDS)

# A gap: the bits [first, end) that no used page has.
GAP_FIELDS = 2
GAP_FIRST, GAP_END = fields(GAP_FIELDS)
GAP_BYTES = np.uint64(8 * GAP_FIELDS)

# Words by node (model.nodes): how many nodes, and CPUs; at which place each node's words begin, and where
# the last end; the number of each node's first dirty page, and how many there are, written for each
# round; the node of each CPU; and behind it the bitmap words, node by node.
MOST_NODES = 64
_BORDERS = 8 * (MOST_NODES + 1)
NODES, CPUS = np.uint64(0), np.uint64(8)
FIRST_PLACES, BEGINS, NODE_OF_CPU = (np.uint64(16 + i * _BORDERS) for i in range(3))


def place(offset: np.uint64) -> int:
    """Which word of the table a field is."""
    return int(offset) // 8
