"""A work queue: one thread searches the bitmaps and queues dirty words, the others copy them.

The queue is a ring of ``SLOTS`` word numbers. HEAD and TAIL only grow; an entry lies in slot
``number % SLOTS``. The searcher looks on to the next dirty word *before* it queues one: from then on a
copier may clear it. If the queue is full it copies a word itself. A copier reads the slot *before* it
takes the entry by compare-and-swap on HEAD: while HEAD stands there the searcher leaves the slot
alone. A copier leaves when it has seen the search closed and *then* found the queue empty.

:func:`searcher_step` and :func:`copier_step` are read in Python and in z3;
``impl/kernels/strategies.py`` has the same steps.
"""

from typing import Generic, NamedTuple, TypeAlias, TypeVar

from model.domain import select

Natural: TypeAlias = int
Truth: TypeAlias = bool
Bitmap: TypeAlias = frozenset[int]
Slots: TypeAlias = tuple[int, ...]

# What the records below are made of: numbers and rings of slots of whichever domain they are lifted to.
N = TypeVar("N")
S = TypeVar("S")

ZERO = 0
ONE = 1
SLOTS = 256

# The steps of a copier, one access to shared memory each.
READ_CLOSED, READ_HEAD, READ_TAIL, READ_SLOT, SWAP, FLUSH, FINISHED = range(7)
STEPS = ("read closed", "read head", "read tail", "read slot", "swap", "flush", "finished")


# The steps of the searcher: look for the first dirty word; look on for the one after; queue; close.
LOOK_FIRST, LOOK_ON, QUEUE, CLOSE, SEARCHED = range(5)
SEARCHER_STEPS = ("look for the first word", "look on", "queue", "close", "searched")


class QueueOf(NamedTuple, Generic[N, S]):
    """What the searcher and the copiers share. ``closed`` is 1 when everything has been queued."""

    head: N
    tail: N
    closed: N
    slots: S


class CopierOf(NamedTuple, Generic[N]):
    """A copier at a step: what it saw of ``closed`` and HEAD, and the word it read from the slot."""

    step: N
    closed: N
    head: N
    word: N


class SearcherOf(NamedTuple, Generic[N]):
    """The searcher at a step: the word it is to queue next, and how far it has looked on."""

    step: N
    word: N
    looked: N


# In Python; over terms of z3 they are others.
Queue: TypeAlias = QueueOf[Natural, Slots]
Copier: TypeAlias = CopierOf[Natural]
Searcher: TypeAlias = SearcherOf[Natural]


def ring_slots() -> Natural:
    """How many slots the ring has. A domain may have a smaller one as a primitive, to be explored."""
    return SLOTS


def has_room(queue: Queue) -> Truth:
    """Can another word be queued? If not the searcher copies one itself."""
    return queue.tail < queue.head + ring_slots()


def offer(queue: Queue, word: Natural) -> Queue:
    """The searcher queues a word; only if the queue has room."""
    return queue._replace(
        slots=put(queue.slots, queue.tail % ring_slots(), word), tail=queue.tail + ONE
    )


def close(queue: Queue) -> Queue:
    """The search is over."""
    return queue._replace(closed=ONE)


def searcher_step(
    queue: Queue, dirty: Bitmap, end: Natural, me: Searcher
) -> tuple[Queue, Searcher]:
    """One step of the searcher, which looks at the words below ``end``; ``dirty``: those set now."""
    over = me.looked == end
    found = over | marked(dirty, me.looked)
    queues = (me.step == QUEUE) & has_room(queue)
    after = if_so(queues, offer(queue, me.word), if_so(me.step == CLOSE, close(queue), queue))
    takes_up = ((me.step == LOOK_FIRST) & found) | queues
    further = select(over, me.looked, me.looked + ONE)
    looked_on = select(found, me.looked, further)
    took_up_next = select(queues, further, me.looked)
    return after, SearcherOf(
        step=after_search(me, found, over, queues),
        word=select(takes_up, me.looked, me.word),
        looked=select(
            me.step == LOOK_FIRST, further, select(me.step == LOOK_ON, looked_on, took_up_next)
        ),
    )


def if_so(condition: Truth, then: Queue, otherwise: Queue) -> Queue:
    """One queue or the other."""
    return QueueOf(
        head=select(condition, then.head, otherwise.head),
        tail=select(condition, then.tail, otherwise.tail),
        closed=select(condition, then.closed, otherwise.closed),
        slots=select(condition, then.slots, otherwise.slots),
    )


def after_search(me: Searcher, found: Truth, over: Truth, queues: Truth) -> Natural:
    """The searcher's step after this one. Without room it stays where it is, and copies a word."""
    next_word = select(over, CLOSE, LOOK_ON)
    after_look = select(me.step == LOOK_FIRST, select(found, next_word, LOOK_FIRST), LOOK_ON)
    looking = select((me.step == LOOK_ON) & found, QUEUE, after_look)
    queueing = select(queues, next_word, select(me.step == QUEUE, QUEUE, SEARCHED))
    return select(me.step < QUEUE, looking, queueing)


def copier_step(queue: Queue, me: Copier) -> tuple[Queue, Copier]:
    """One step of a copier."""
    after = queue._replace(head=queue.head + select(takes(queue, me), ONE, ZERO))
    return after, CopierOf(
        step=following(queue, me),
        closed=select(me.step == READ_CLOSED, queue.closed, me.closed),
        head=select(me.step == READ_HEAD, queue.head, me.head),
        word=select(me.step == READ_SLOT, get(queue.slots, me.head % ring_slots()), me.word),
    )


def takes(queue: Queue, me: Copier) -> Truth:
    """Does this step take an entry? The compare-and-swap on HEAD, which succeeds if nobody was faster."""
    return (me.step == SWAP) & (queue.head == me.head)


def leaves(me: Copier) -> Truth:
    """Does a copier that finds the queue empty leave? If it had seen before that the search is over."""
    return me.closed == ONE


def following(queue: Queue, me: Copier) -> Natural:
    """The step after this one."""
    if_empty = select(leaves(me), FINISHED, READ_CLOSED)
    after_tail = select(queue.tail == me.head, if_empty, READ_SLOT)
    after_swap = select(takes(queue, me), FLUSH, READ_HEAD)
    late = select(me.step == SWAP, after_swap, select(me.step == FLUSH, READ_CLOSED, FINISHED))
    middle = select(me.step == READ_TAIL, after_tail, select(me.step == READ_SLOT, SWAP, late))
    return select(me.step < READ_TAIL, me.step + ONE, middle)


# The domain's primitives, here on Python's tuples and frozensets.


def marked(words: Bitmap, word: Natural) -> Truth:
    """Is the word among them?"""
    return word in words


def get(slots: Slots, index: Natural) -> Natural:
    """The word number in a slot."""
    return slots[index]


def put(slots: Slots, index: Natural, word: Natural) -> Slots:
    """The ring with the slot replaced."""
    return (*slots[:index], word, *slots[index + ONE :])
