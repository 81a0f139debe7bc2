"""What one worker does in a round, under each strategy. The pool (impl.pool) brings them together.

serial   the caller alone, from the first dirty word on (impl.kernels.check_in.flush_alone).
static   the patch: worker i flushes share i of the address space, a whole number of bitmap words.
dynamic  every worker takes batches of dirty pages, cut at words, off a shared cursor until none are left.
by node  the same where memory lies on several NUMA nodes: a cursor for each, a worker's own node first.
queue    a work queue, as the patch's author suggested: the caller searches, the helpers copy.
backup   host to cache, every page, in batches of bitmap words.
index    no flush: what a dynamic round of a large RAM stands on, in batches of a stretch of bitmap words.

No two workers ever hold the same 64-bit word of the bitmaps, so plain loads and stores suffice there.

``control`` is the address of the control block, ``worker`` a worker's number, ``lower`` and ``upper``
positions of bits.
"""

from typing import Any

import numpy as np

from impl.kernels import control as c
from impl.kernels import events as e
from impl.kernels import job_table as j
from impl.kernels.compile import compiled, kernel
from impl.kernels.flush import (
    back_up_range,
    flush_range,
    index_words,
    next_dirty_word,
)
from impl.kernels.intrinsics import (
    atomic_add,
    atomic_load,
    atomic_store,
    compare_and_swap,
    give_way,
    load,
    nanoseconds,
    store,
)
from impl.kernels.nodes import (
    first_page_of_node,
    index_places,
    next_dirty_words,
    number_of_nodes,
    own_node,
)
from model import nodes, shares
from model.protocols import node_cursors

SERIAL, STATIC, DYNAMIC, QUEUE, BACKUP = (np.uint64(i) for i in range(5))
INDEX, BY_NODE, INDEX_BY_NODE = (np.uint64(i) for i in range(5, 8))

_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)
_PAGES_PER_WORD = np.uint64(64)
_SLOTS = np.uint64(c.QUEUE_SLOTS)
_CALLER = np.uint64(0)

_share = compiled(shares.share)
_batch = compiled(shares.batch)
_batch_words = compiled(shares.batch_words)
_node_in_turn = compiled(nodes.node_in_turn)
_after_taking = compiled(node_cursors.after_taking)
_FLUSH, _FINISHED = np.uint64(node_cursors.FLUSH), np.uint64(node_cursors.FINISHED)


@kernel
def work(control: Any, worker: Any) -> None:
    """One worker's whole part in the round described by ``control`` (an address)."""
    begin_line(control, worker)
    strategy = load(control + c.STRATEGY)
    if strategy == STATIC:
        flush_share(control, worker, worker)
    elif strategy == QUEUE:
        if worker == _CALLER:
            search(control)
        copy_queued(control, worker)
    elif strategy == BY_NODE:
        work_off_nodes(control, worker)
    else:
        work_off_batches(control, worker, strategy)
    end_line(control, worker)


@kernel
def begin_line(control: Any, worker: Any) -> None:
    """Zero a worker's line and note the time."""
    line = worker_line(control, worker)
    store(line + c.COPIED, _0)
    store(line + c.HOST_DIRTY, _0)
    store(line + c.CACHE_DIRTY, _0)
    store(line + c.BOTH_DIRTY, _0)
    store(line + c.BEGIN, nanoseconds())


@kernel
def end_line(control: Any, worker: Any) -> None:
    """Note the time at which a worker has done its part."""
    store(worker_line(control, worker) + c.END, nanoseconds())


@kernel
def worker_line(control: Any, worker: Any) -> Any:
    """The address of a worker's line."""
    return control + c.WORKERS + worker * c.WORKER_BYTES


@kernel
def flush_part(control: Any, worker: Any, lower: Any, upper: Any) -> None:
    """Flush the bits ``[lower, upper)`` and add what was done to the worker's line."""
    copied, host, cache, both = flush_range(load(control + c.JOB), lower, upper)
    line = worker_line(control, worker)
    store(line + c.COPIED, load(line + c.COPIED) + copied)
    store(line + c.HOST_DIRTY, load(line + c.HOST_DIRTY) + host)
    store(line + c.CACHE_DIRTY, load(line + c.CACHE_DIRTY) + cache)
    store(line + c.BOTH_DIRTY, load(line + c.BOTH_DIRTY) + both)


@kernel
def flush_share(control: Any, worker: Any, thread: Any) -> None:
    """The patch's ``colo_flush_thread``: the share of one thread, counted on a worker's line."""
    pages = load(load(control + c.JOB) + j.PAGES)
    lower, upper = _share(pages, load(control + c.THREADS), thread)
    flush_part(control, worker, lower, upper)


@kernel
def work_off_batches(control: Any, worker: Any, strategy: Any) -> None:
    """Take batches of dirty pages, or of words, off the shared cursor until none are left."""
    job, grain = load(control + c.JOB), load(control + c.GRAIN)
    to_hand_out = load(control + c.TO_HAND_OUT)
    while True:
        # Past the end too: whoever comes late adds once more, and gets an empty batch.
        cursor = take_batch(control, _0, grain)
        e.record(control, worker, e.TAKE_BATCH, cursor, _0)
        first, last = _batch(cursor, grain, to_hand_out)
        if first >= last:
            break
        if strategy == BACKUP:
            back_up_range(job, first * _PAGES_PER_WORD, last * _PAGES_PER_WORD)
        elif strategy == INDEX:
            index_words(job, first, last)
        elif strategy == INDEX_BY_NODE:
            index_places(job, first, last)
        else:
            first, last = _batch_words(job, first, last)
            flush_part(control, worker, first * _PAGES_PER_WORD, last * _PAGES_PER_WORD)
        e.record(control, worker, e.DONE, cursor, _0)


@kernel
def take_batch(control: Any, node: Any, grain: Any) -> Any:
    """Move a node's cursor on by a batch; where it stood. The first is the only one on one node."""
    return atomic_add(control + c.CURSOR + node * c.CURSOR_BYTES, grain)


@kernel
def rewind_by_node(control: Any, job: Any) -> None:
    """Before a round by node: each node's cursor at its first dirty page. Nobody is inside."""
    node, nodes = _0, number_of_nodes(job)
    while True:
        begin = first_page_of_node(job, node)
        store(control + c.CURSOR + node * c.CURSOR_BYTES, begin)
        e.record(control, _CALLER, e.NODE, node, begin)
        node += _1
        if node >= nodes:
            break


@kernel
def work_off_nodes(control: Any, worker: Any) -> None:
    """Take batches of dirty pages off the cursor of one node after the other, until all are used up."""
    job, grain = load(control + c.JOB), load(control + c.GRAIN)
    nodes, own = number_of_nodes(job), own_node(job)
    used_up = _0
    while True:
        node = _node_in_turn(own, used_up, nodes)
        end = first_page_of_node(job, node + _1)
        cursor = take_batch(control, node, grain)
        e.record(control, worker, e.TAKE_OF_NODE, cursor, node)
        first, last = _batch(cursor, grain, end)
        step, used_up = _after_taking(first, last, used_up, nodes)
        if step == _FLUSH:
            flush_places(control, worker, first, last)
            e.record(control, worker, e.DONE, cursor, _0)
        elif step == _FINISHED:
            break


@kernel
def flush_places(control: Any, worker: Any, first: Any, last: Any) -> None:
    """Flush a batch of dirty pages by their numbers: its words, as far as they lie in a row at a time."""
    job = load(control + c.JOB)
    place, end = _batch_words(job, first, last)
    while True:
        lower, upper, place = next_dirty_words(job, place, end)
        flush_part(control, worker, lower * _PAGES_PER_WORD, upper * _PAGES_PER_WORD)
        if place >= end:
            break


@kernel
def search(control: Any) -> None:
    """The searcher: queue every dirty word, copying one itself whenever the queue is full."""
    job = load(control + c.JOB)
    cache_bitmap, host_bitmap = load(job + j.CACHE_BITMAP), load(job + j.HOST_BITMAP)
    end = load(job + j.WORDS)
    word = next_dirty_word(cache_bitmap, host_bitmap, _0, end)
    while word < end:
        # Look on before the word is handed out: its copier will clear it.
        following = next_dirty_word(cache_bitmap, host_bitmap, word + _1, end)
        tail = load(control + c.TAIL)
        while tail - atomic_load(control + c.HEAD) == _SLOTS:
            copy_one(control, _CALLER)
        # Atomic, although TAIL publishes it: a late copier may be looking at what the slot held before.
        atomic_store(control + c.SLOTS + (tail % _SLOTS) * _8, word)
        atomic_store(control + c.TAIL, tail + _1)
        word = following
    atomic_store(control + c.CLOSED, _1)


@kernel
def copy_queued(control: Any, worker: Any) -> None:
    """A copier: flush queued words until the search is over and the queue is empty."""
    while True:
        # Before it looks: a queue that is empty after the search was over stays empty.
        closed = atomic_load(control + c.CLOSED)
        if copy_one(control, worker) == _0:
            if closed != _0:
                break
            give_way()


@kernel
def copy_one(control: Any, worker: Any) -> Any:
    """Take one word off the queue and flush it; 0 if the queue was empty."""
    while True:
        head = atomic_load(control + c.HEAD)
        if head == atomic_load(control + c.TAIL):
            return _0
        # Read before it is taken: while HEAD stands here the searcher leaves the slot alone.
        word = atomic_load(control + c.SLOTS + (head % _SLOTS) * _8)
        if compare_and_swap(control + c.HEAD, head, head + _1) == head:
            flush_part(control, worker, word * _PAGES_PER_WORD, (word + _1) * _PAGES_PER_WORD)
            return _1
