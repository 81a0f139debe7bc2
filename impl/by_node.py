"""On which NUMA nodes a RAM lies: its bitmap words node by node, for flushes with a cursor for each node.

Each word belongs to the node of the first page that has a bit in it (model.nodes), by what Linux says of
the *host* memory, into which a flush writes. Where that is not known, be it that the page was never
touched, a word belongs to the node of the word before it. Whatever is found decides how fast a flush is,
never what it does: memory that has moved since is still flushed.
"""

import numpy as np

from impl.block import Words
from impl.kernels import job_table as j
from impl.machine import nodes as machine
from impl.machine.nodes import UNKNOWN, Numbers
from model.ram import PAGES_PER_WORD

#: Says of a RAM that one cursor does: its memory lies on one node, as far as is known.
ONE_NODE: Words = np.zeros(0, np.uint64)


def words_by_node(job: Words) -> Words:
    """The table (impl.kernels.job_table) of the words of a RAM by node, or ONE_NODE."""
    if len(machine.nodes_with_memory()) < 2:
        return ONE_NODE
    on = nodes_of_words(job)
    there, node = np.unique(on, return_inverse=True)
    if not 1 < len(there) <= j.MOST_NODES:
        return ONE_NODE
    return table(node, near(machine.nodes_of_cpus(), there))


def nodes_of_words(job: Words) -> Numbers:
    """The node of each bitmap word, as Linux numbers it, int64 (words,); nothing if none is known."""
    first_pages = _first_pages(job)
    on = np.full(len(first_pages), UNKNOWN)
    asked = np.flatnonzero(first_pages)
    on[asked] = machine.nodes_of_pages(first_pages[asked])
    known = np.flatnonzero(on != UNKNOWN)
    before = np.searchsorted(known, np.arange(len(on)), side="right") - 1
    found: Numbers = on[known[np.maximum(before, 0)]] if len(known) else on[:0]
    return found


def _first_pages(job: Words) -> Words:
    """The host address of the first page in each word; 0 where there is none."""
    page_bytes = int(job[j.place(j.PAGE_BYTES)])
    first_pages = np.zeros(int(job[j.place(j.WORDS)]), np.uint64)
    rows = job[j.JOB_FIELDS :][: int(job[j.place(j.REGIONS)]) * j.REGION_FIELDS]
    # In order of their bits; of two in one word the first is meant.
    for first, used, host, _ in reversed(rows.reshape(-1, j.REGION_FIELDS).tolist()):
        words = range(first // PAGES_PER_WORD, -(-(first + used) // PAGES_PER_WORD))
        addresses = first_pages[words.start : words.stop]
        bits = np.arange(words.start, words.stop, dtype=np.uint64) * np.uint64(PAGES_PER_WORD)
        bits[:1] = first
        addresses[:] = np.uint64(host) + (bits - np.uint64(first)) * np.uint64(page_bytes)
    return first_pages


def near(cpus: Numbers, there: Numbers) -> Numbers:
    """Of each CPU, which of the nodes that are ``there``, in order, it begins with.

    Its own; if that has none of the memory, or is not known, the next one, and after the last the first.
    """
    return np.searchsorted(there, cpus) % len(there)


def table(node_of_word: Numbers, node_of_cpu: Numbers) -> Words:
    """The table of words by node, of nodes that are numbered from 0."""
    places = np.concatenate([[0], np.bincount(node_of_word).cumsum()])
    head = np.zeros(int(j.NODE_OF_CPU) // 8, np.uint64)
    head[j.place(j.NODES)], head[j.place(j.CPUS)] = len(places) - 1, len(node_of_cpu)
    head[j.place(j.FIRST_PLACES) :][: len(places)] = places
    # Stable: the words of each node stay in order.
    order = np.argsort(node_of_word, kind="stable")
    return np.concatenate([head, node_of_cpu.astype(np.uint64), order.astype(np.uint64)])
