"""A cursor a node: workers that take batches off their own node's first, and then help the others.

Cursor ``n`` begins at the first dirty page of node ``n`` (``model.nodes``). A worker adds a batch to a
cursor in one atomic step. If that cursor had passed its node's last dirty page the node is *used up*, and
the worker goes on to the next; when all are used up it has finished. Whoever comes from no node at all,
because nobody was woken there or nobody came in time, is made up for by the others: so a flush waits for
no node.

:func:`step` is read in Python and in z3; :func:`node_round` is a whole round as small steps, on bitmap
words, for :mod:`model.explore`.
"""

from collections.abc import Hashable, Iterator, Sequence
from operator import ge
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from model import worker
from model.domain import Domain, select
from model.nodes import NodeIndex, Run, index_by_node, node_in_turn
from model.protocols.flush_workers import ONCE
from model.protocols.work_queue import get, put
from model.ram import PAGES_PER_WORD
from model.shares import batch, batch_words
from model.transitions import ENDED, Invariant, Step, System
from model.words import either, next_page
from model.worker import COPY, LOAD_CACHE, Memory, starting

Natural: TypeAlias = int
Truth: TypeAlias = bool
Cursors: TypeAlias = tuple[int, ...]

# What the record below is made of: numbers of whichever domain it is lifted to.
N = TypeVar("N")

ZERO = 0
ONE = 1

# The steps of a worker, as far as they are about cursors. At FLUSH it has a batch.
TAKE, FLUSH, FINISHED = range(3)
STEPS = ("take a batch", "flush the batch", "finished")


class TakerOf(NamedTuple, Generic[N]):
    """A worker of node ``own`` at a step: how many nodes it has found used up, and its batch.

    ``[first, last)`` are the numbers of the batch's dirty pages; 0 and 0 while it has none.
    """

    step: N
    own: N
    used_up: N
    first: N
    last: N


# In Python; over terms of z3 it is another.
Taker: TypeAlias = TakerOf[Natural]


def step(
    cursors: Cursors, begins: Cursors, nodes: Natural, grain: Natural, me: Taker
) -> tuple[Cursors, Taker]:
    """One step of a worker. Node ``n`` has the dirty pages ``begins[n]`` to ``begins[n + 1]``."""
    node = node_in_turn(me.own, me.used_up, nodes)
    takes = me.step == TAKE
    first, last = batch(get(cursors, node), grain, get(begins, node + ONE))
    next_step, used_up = after_taking(first, last, me.used_up, nodes)
    return taken(cursors, node, select(takes, grain, ZERO)), TakerOf(
        step=select(takes, next_step, select(me.step == FLUSH, TAKE, FINISHED)),
        own=me.own,
        used_up=select(takes, used_up, me.used_up),
        first=select(takes, first, ZERO),
        last=select(takes, last, ZERO),
    )


def taken(cursors: Cursors, node: Natural, pages: Natural) -> Cursors:
    """The cursors with one of them further: a fetch-add."""
    return put(cursors, node, get(cursors, node) + pages)


def after_taking(
    first: Natural, last: Natural, used_up: Natural, nodes: Natural
) -> tuple[Natural, Natural]:
    """What a worker does with what a cursor has given it, and how many it has then found used up."""
    got_one = first < last
    found = used_up + select(got_one, ZERO, ONE)
    return select(got_one, FLUSH, select(is_over(found, nodes), FINISHED, TAKE)), found


def is_over(used_up: Natural, nodes: Natural) -> Truth:
    """Has a worker that has found this number of nodes used up finished? When it is all of them."""
    return used_up == nodes


# A round, in Python only.


class Shared(NamedTuple):
    """Shared memory: ``model.worker.Memory``, a cursor a node, how many workers are at work."""

    cache: tuple[int, ...]
    host: tuple[int, ...]
    copied: tuple[int, ...]
    cursors: Cursors
    working: int


class Worker(NamedTuple):
    """A worker, at work on the first of its batch's ``words``; or the caller, which waits."""

    pc: Hashable
    taker: Taker = TakerOf(FINISHED, 0, 0, 0, 0)
    words: tuple[int, ...] = ()
    me: worker.Worker = starting(0, 0, 0)


After = tuple[Shared, Worker]
WAIT, RETURN = "wait", "return"
SEEN = "who has finished has seen every cursor used up"


def node_round(
    cache: tuple[int, ...],
    host: tuple[int, ...],
    runs: Sequence[Run],
    nodes: int,
    workers: Sequence[int],
    grain: int,
) -> System[Shared, Worker]:
    """Workers (``1``, ``2``, ...), each of the node that is named for it; ``c`` waits for them all."""
    union = tuple(map(either, cache, host))
    index = index_by_node(union, runs, nodes)
    invariants = (
        Invariant(ONCE, lambda at, me: at.copied == union),
        Invariant("no dirty bit is left", lambda at, me: not any((*at.cache, *at.host))),
    )
    return System(
        name=f"{len(workers)} workers, {nodes} nodes, {len(cache)} words",
        shared=Shared(
            cache,
            host,
            copied=(0,) * len(cache),
            cursors=index.begins[:nodes],
            working=len(workers),
        ),
        processes=(Worker(WAIT), *(_standing(TakerOf(TAKE, own, 0, 0, 0)) for own in workers)),
        names="c123456789"[: len(workers) + 1],
        steps={
            WAIT: Step("wait for all", _returns, ready=lambda at, me: at.working == 0),
            RETURN: Step("the flush returns", _ends, invariants=invariants),
            **dict(_steps(index, nodes, grain)),
        },
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=len(workers) + 1,
        view_shared=lambda at: at._replace(cursors=tuple(map(min, at.cursors, index.begins[1:]))),
    )


def _standing(taker: Taker) -> Worker:
    """A worker between two words, where its step by the cursors says."""
    return Worker(("cursor", taker.step), taker)


def _returns(at: Shared, me: Worker) -> After:
    return at, Worker(RETURN)


def _ends(at: Shared, me: Worker) -> After:
    return at, Worker(ENDED)


def _finishes(at: Shared, me: Worker) -> After:
    return at._replace(working=at.working - 1), Worker(ENDED)


def _steps(index: NodeIndex, nodes: int, grain: int) -> Iterator[tuple[Hashable, Step]]:
    begins, ends = index.begins, index.begins[1:]
    # The step as it is now, be it with a fault.
    taker_step = Domain(int, {}).lift(step)

    def takes(at: Shared, me: Worker) -> After:
        cursors, taker = taker_step(at.cursors, begins, nodes, grain, me.taker)
        low, high = batch_words(index.before, taker.first, taker.last)
        return at._replace(cursors=cursors), _sent_to(tuple(index.words[low:high]), taker)

    def flushes(at: Shared, me: Worker) -> After:
        memory, moved = worker.step(Memory(at.cache, at.host, at.copied), me.me)
        after = at._replace(**memory._asdict())
        if moved.word == me.me.word:
            return after, me._replace(pc=("flush", moved.step), me=moved)
        return after, _sent_to(me.words[1:], me.taker)

    used_up = Invariant(SEEN, lambda at, me: all(map(ge, at.cursors, ends)))
    first_time = Invariant(ONCE, _not_copied_yet)
    yield ("cursor", TAKE), Step(STEPS[TAKE], takes)
    yield ("cursor", FLUSH), Step("the batch is flushed", takes)
    yield ("cursor", FINISHED), Step(STEPS[FINISHED], _finishes, invariants=(used_up,))
    for number, text in enumerate(worker.STEPS):
        invariants = (first_time,) if number == COPY else ()
        yield ("flush", number), Step(text, flushes, invariants=invariants)


def _sent_to(words: tuple[int, ...], taker: Taker) -> Worker:
    """A worker about to begin with the first of these words, or behind the last."""
    if not words:
        return _standing(taker)
    first = words[0] * PAGES_PER_WORD
    begun = starting(words[0], first, first + PAGES_PER_WORD)
    return Worker(("flush", LOAD_CACHE), taker, words, begun)


def _not_copied_yet(at: Shared, me: Worker) -> bool:
    """Whoever is about to copy a page is the first to do so."""
    page: int = next_page(me.me.to_copy)
    return not at.copied[me.me.word] >> page & 1
