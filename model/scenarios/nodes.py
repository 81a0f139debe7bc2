"""Claims by node: whose a border word is, batches off several cursors, and rounds of a few workers."""

from itertools import product

from model import nodes, shares
from model.nodes import Run
from model.page.picture import Picture, drawn, of_pages
from model.protocols.node_cursors import node_round
from model.scenarios.interleavings import every_interleaving
from model.scenarios.registry import FAILS, Lines, Rows, scenario

BORDERS = (0, 1, 63, 64, 65, 96, 128)


def _two_runs() -> Rows:
    for border, word in product(BORDERS, range(2)):
        yield 0, border, border, 128, word


@scenario(_two_runs)
def two_nodes(lower: int, upper: int, other_lower: int, other_upper: int, word: int) -> Lines:
    """Two runs of pages, each on a node of its own: whose is a word?

    The run's that its first page is in, and nobody else's.
    """
    holding: list[str] = []
    ranges: dict[str, tuple[int, int]] = {}
    first_page = 64 * word
    pages = max(upper, other_upper, first_page + 64)
    for name, first, end in (("one", lower, upper), ("the other", other_lower, other_upper)):
        low, high = nodes.words_of_run(first, end)
        ranges |= {f"{name} node": (first, end)}
        text = f"{name} node has pages [{first}, {end}), and so words [{low}, {high})"
        yield drawn(text, of_pages(pages, ranges))
        holding += [name] * (low <= word < high)
        if (low <= word < high) != (first <= first_page < end):
            yield f"{FAILS}word {word} begins at page {first_page}; {name} node gets it wrong"
            return
    if len(holding) > 1:
        yield f"{FAILS}word {word} is on both nodes"


def _unions_on_nodes() -> Rows:
    for border, grain in product((0, 64, 96, 192), range(1, 3)):
        for union in product((0, 1, 0b111), repeat=3):
            yield list(union), border, grain


@scenario(_unions_on_nodes)
def batches_by_node(union: list[int], border: int, grain: int) -> Lines:
    """All batches off two cursors, cut at words: is each word with a dirty page in exactly one?"""
    pages = 64 * len(union)
    index = nodes.index_by_node(union, [Run(1, 0, border), Run(0, border, pages)], 2)
    dirty = Picture(pages, {"dirty": union})
    yield drawn(f"below page {border} memory lies on node 1; words by node {index.words}", dirty)
    holding = [0] * len(union)
    for node in range(2):
        begin, end = index.begins[node : node + 2]
        for cursor in range(begin, end, grain):
            first, last = shares.batch(cursor, grain, end)
            low, high = shares.batch_words(index.before, first, last)
            words = index.words[low:high]
            yield f"node {node}, cursor {cursor}: dirty pages [{first}, {last}), words {words}"
            for word in words:
                holding[word] += 1
    wrong = [w for w, bits in enumerate(union) if holding[w] > 1 or (bits and not holding[w])]
    if wrong:
        yield f"{FAILS}word {wrong[0]} is in {holding[wrong[0]]} batches, not in exactly one"


def _few_workers() -> Rows:
    return product(([0], [1], [0, 1], [0, 0]), (64, 96))


@scenario(_few_workers)
def round_by_node(workers: list[int], border: int) -> Lines:
    """Three words, a page of each dirty, and workers of two nodes, in every interleaving.

    The shortest schedule that fails is told.
    """
    yield f"workers of nodes {workers}; from page {border} on memory lies on node 1"
    runs = Run(0, 0, border), Run(1, border, 192)
    yield from every_interleaving(node_round((1, 1, 1), (0, 1, 0), runs, 2, workers, grain=1))
