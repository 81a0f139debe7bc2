"""Claims by node: who flushes what on a machine with several NUMA nodes. Ours; the patch asks for it.

A guest's memory may lie on several nodes, and a page that lies on another node costs more to copy. So the
dirty pages are numbered node by node, each node's in the order of their bits, and each node has a cursor
of its own over its numbers. A worker takes batches off the cursor of its own node; when that is used up
it helps the others, in a fixed order (``model.protocols.node_cursors``). Batches, and the words of a
batch, are those of ``model.shares``: nothing else is new. On one node it is what it was before: one
cursor, and the dirty pages numbered as their bits are.

A bitmap word has 64 pages, and a border between nodes may run through the middle of them. Such a word
must have one worker, so it belongs to one node: that on which its *first* page lies. Any rule that names
one node would be right. This one needs no look at the dirty bits, so the nodes of the words are found
once per layout; and the kernel is asked about one page in 64. At each border up to 63 pages count as the
neighbour's.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from model.domain import select
from model.ram import PAGES_PER_WORD
from model.shares import dirty_before

Natural: TypeAlias = int

LAST_BIT = 63


class Run(NamedTuple):
    """Pages ``[lower, upper)``, by their bits, that lie on one node."""

    node: int
    lower: int
    upper: int


def words_of_run(lower: Natural, upper: Natural) -> tuple[Natural, Natural]:
    """``[first, last)``: the bitmap words whose first page is one of the pages ``[lower, upper)``."""
    return first_word_from(lower), first_word_from(upper)


def first_word_from(page: Natural) -> Natural:
    """The first bitmap word that begins at ``page`` or above it."""
    return (page + LAST_BIT) // PAGES_PER_WORD


def node_in_turn(own: Natural, used_up: Natural, nodes: Natural) -> Natural:
    """Whose cursor a worker of node ``own`` takes from when it has found ``used_up`` of them used up.

    Its own first, then the nodes after it, then those before: workers of different nodes begin to help
    at different nodes.
    """
    position = own + used_up
    return select(position < nodes, position, position - nodes)


# In Python only.


class NodeIndex(NamedTuple):
    """The bitmap words node by node, and the numbers of their dirty pages.

    ``before[i]`` dirty pages lie in the words before ``words[i]`` (``model.shares.dirty_before``), and
    node ``n`` has the dirty pages ``begins[n]`` to ``begins[n + 1]``. So a batch off its cursor, which
    begins at ``begins[n]``, is of the words at those places that ``model.shares.batch_words`` finds.
    """

    words: list[int]
    before: list[int]
    begins: tuple[int, ...]


def index_by_node(union: Sequence[int], runs: Sequence[Run], nodes: int) -> NodeIndex:
    """The index of a union of both bitmaps whose pages lie in these runs, from bit 0 end to end."""
    words: list[int] = []
    places = [0]
    for node in range(nodes):
        for run in runs:
            if run.node == node:
                words += range(*words_of_run(run.lower, run.upper))
        places.append(len(words))
    before = dirty_before([union[word] for word in words])
    return NodeIndex(words, before, tuple(before[place] for place in places))
