"""A RAM's words and dirty pages node by node, where its memory lies on several NUMA nodes (model.nodes).

``job`` is the address of a job table with a table of its words by node (``impl.kernels.job_table``); a
*place* is a position in the order of those words.
"""

from typing import Any

import numpy as np

from impl.kernels import job_table as j
from impl.kernels.compile import compiled, kernel
from impl.kernels.intrinsics import load, population, store, this_cpu, word_at
from model import shares, words

_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)

_either = compiled(words.either)
_stretch_of = compiled(shares.stretch_of)
_end_of_stretch = compiled(shares.end_of_stretch)


@kernel
def number_of_nodes(job: Any) -> Any:
    """On how many nodes the memory lies."""
    return load(load(job + j.BY_NODE) + j.NODES)


@kernel
def own_node(job: Any) -> Any:
    """The node whose pages are near to this thread: that of the CPU it is on now.

    Any would be right. The first where it is not known, for a CPU that was plugged in since.
    """
    by_node, cpu = load(job + j.BY_NODE), this_cpu()
    if cpu >= load(by_node + j.CPUS):
        return _0
    return load(by_node + j.NODE_OF_CPU + cpu * _8)


@kernel
def first_page_of_node(job: Any, node: Any) -> Any:
    """The number of a node's first dirty page; of the one behind the last node, how many there are."""
    return load(load(job + j.BY_NODE) + j.BEGINS + node * _8)


@kernel
def words_by_node(job: Any) -> Any:
    """The address of the order of words."""
    by_node = load(job + j.BY_NODE)
    return by_node + j.NODE_OF_CPU + load(by_node + j.CPUS) * _8


@kernel
def index_places(job: Any, first: Any, last: Any) -> None:
    """What ``index_words`` (impl.kernels.flush) does to words, to the words at these places."""
    stretches, place = load(job + j.STRETCHES), first
    while place < last:
        end = _end_of_stretch(place, last)
        store(stretches + _stretch_of(place) * _8, index_stretch_of_places(job, place, end))
        place = end


@kernel
def index_stretch_of_places(job: Any, first: Any, last: Any) -> Any:
    """Index one stretch; how many pages are dirty in it."""
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    order, index, before = words_by_node(job), load(job + j.INDEX), _0
    for place in range(first, last):
        word = word_at(order, place)
        pages = population(_either(word_at(cache_bitmap, word), word_at(host_bitmap, word)))
        # Behind the loads, as in index_stretch.
        store(index + place * _8, before)
        before += pages
    return before


@kernel
def number_nodes(job: Any, dirty: Any) -> None:
    """Write ``model.nodes.NodeIndex.begins`` of places that are indexed, with ``dirty`` pages in all."""
    by_node, nodes = load(job + j.BY_NODE), number_of_nodes(job)
    store(by_node + j.BEGINS + nodes * _8, dirty)
    for node in range(nodes):
        place = load(by_node + j.FIRST_PLACES + node * _8)
        store(by_node + j.BEGINS + node * _8, dirty_before(job, place))


@kernel
def dirty_before(job: Any, place: Any) -> Any:
    """How many dirty pages lie in the words before a place, or before the end of all."""
    if place >= load(job + j.WORDS):
        return first_page_of_node(job, number_of_nodes(job))
    stretch = word_at(load(job + j.STRETCHES), _stretch_of(place))
    return stretch + word_at(load(job + j.INDEX), place)


@kernel
def next_dirty_words(job: Any, place: Any, end: Any) -> Any:
    """``[first, last)`` and a place: the next words from ``place`` on that lie in a row, and the place
    behind them; none has a place from ``end`` on. They begin with a dirty one; empty if there is none."""
    order, before = words_by_node(job), dirty_before(job, place)
    while place < end and dirty_before(job, place + _1) == before:
        place += _1
    if place >= end:
        return _0, _0, end
    first = word_at(order, place)
    last = first
    while place < end and word_at(order, place) == last:
        place += _1
        last += _1
    return first, last, place
