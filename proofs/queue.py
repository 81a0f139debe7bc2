"""One searcher, any number of copiers: every queued word is flushed exactly once, before flush returns.

The words queued are a sequence; the invariants are about one arbitrary *entry* of it and about two
arbitrary copiers, so they hold for all. Numbers that only grow (HEAD, TAIL) do not wrap.
"""

from typing import NamedTuple

from model import queue
from model.queue import (
    FINISHED,
    FLUSH,
    READ_CLOSED,
    READ_SLOT,
    READ_TAIL,
    SLOTS,
    STEPS,
    SWAP,
    Copier,
    Queue,
)
from proofs.obligation import Proof, claim, faulty
from proofs.symbolic import Natural, Sequence, Truth, every, implies, natural, truth


class World(NamedTuple):
    """The queue; the copier that moves and another; one entry of the queue and whether it is flushed.

    ``entries`` is the sequence of words that the searcher queues, ``total`` how many they are.
    """

    queue: Queue
    me: Copier
    other: Copier
    entry: Natural
    done: Truth
    entries: Sequence
    total: Natural


def a_world(p: Proof) -> World:
    """Any of it."""
    head, tail, closed = p.naturals("head tail closed")
    slots, entries = p.sequences("slots entries")
    me, other = (
        Copier(*p.naturals(" ".join(f"{who}_{field}" for field in Copier._fields)))
        for who in ("me", "other")
    )
    entry, total = p.naturals("entry total")
    (done,) = p.truths("done")
    return World(Queue(head, tail, closed, slots), me, other, entry, done, entries, total)


def queue_is_right(now: Queue, entry: Natural, entries: Sequence, total: Natural) -> Truth:
    """HEAD and TAIL are in order, no more than the ring apart, and an entry queued is in its slot."""
    return every(
        now.head <= now.tail,
        now.tail <= now.head + SLOTS,
        now.tail <= total,
        now.closed <= 1,
        implies(now.closed == 1, now.tail == total),
        implies(
            (now.head <= entry) & (entry < now.tail), now.slots[entry % SLOTS] == entries[entry]
        ),
    )


def copier_is_right(now: Queue, it: Copier, entries: Sequence, total: Natural) -> Truth:
    """What a copier knows at each step."""
    return every(
        it.step <= FINISHED,
        it.closed <= 1,
        implies(it.closed == 1, now.closed == 1),
        implies((it.step >= READ_TAIL) & (it.step <= SWAP), it.head <= now.head),
        implies((it.step >= READ_SLOT) & (it.step <= SWAP), it.head < now.tail),
        implies((it.step == SWAP) & (it.head == now.head), it.word == entries[it.head]),
        implies(it.step == FLUSH, (it.head < now.head) & (it.word == entries[it.head])),
        implies(it.step == FINISHED, (now.closed == 1) & (now.head == total)),
    )


def holds(it: Copier, entry: Natural) -> Truth:
    """Has the copier taken the entry, and not flushed it yet?"""
    held: Truth = (it.step == FLUSH) & (it.head == entry)
    return held


def all_is_right(world: World) -> Truth:
    """The invariant: of the queue, of two copiers, and of one entry, which is flushed once."""
    now, me, other, entry = world.queue, world.me, world.other, world.entry
    return every(
        *(
            queue_is_right(now, at, world.entries, world.total)
            for at in (entry, me.head, other.head)
        ),
        *(copier_is_right(now, it, world.entries, world.total) for it in (me, other)),
        ~(holds(me, other.head) & (other.step == FLUSH)),
        implies(world.done, (entry < now.head) & ~holds(me, entry) & ~holds(other, entry)),
        # Whoever holds the entry, if anybody does, is one of the two: let the other be that one.
        implies((entry < now.head) & ~world.done, holds(me, entry) | holds(other, entry)),
    )


def always(p: Proof) -> World:
    """Prove the invariant, by induction over the steps; return any state, in which it holds."""
    world = a_world(p)
    now, me, entry = world.queue, world.me, world.entry
    p.show("queued words", total=3, copiers=2, slots=1)
    p.example(world.total == 1, entry == 0, now.head == 0, now.tail == 0, me.head == 0)
    fresh = Copier(*map(natural, (READ_CLOSED, 0, 0, 0)))
    empty = Queue(natural(0), natural(0), natural(0), now.slots)
    start = world._replace(queue=empty, me=fresh, other=fresh, done=truth(False))
    p.prove("it holds at the start", all_is_right(start))
    p.assume("between two steps", all_is_right(world))
    for at in (me.head, now.head):
        p.assume("of every entry", queue_is_right(now, at, world.entries, world.total))
    with p.case():
        p.assume("a word to queue", now.tail < world.total, p.read(queue.has_room)(now))
        offered = p.read(queue.offer)(now, world.entries[now.tail])
        p.prove("the searcher keeps it right", all_is_right(world._replace(queue=offered)))
    with p.case():
        p.assume("all are queued", now.tail == world.total)
        closed = p.read(queue.close)(now)
        closed = closed._replace(closed=natural(closed.closed))
        p.prove("closing keeps it right", all_is_right(world._replace(queue=closed)))
    after, moved = p.read(queue.turn)(now, me)
    done = world.done | holds(me, entry)
    kept = all_is_right(world._replace(queue=after, me=moved, done=done))
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("the step", me.step == step)
            p.prove(f"a copier keeps it right: {name}", kept)
    return world


@claim(
    faulty("an entry taken without comparing", refutes="a copier keeps it right: swap"),
    faulty("a copier leaves too early", refutes="a copier keeps it right: read tail"),
    faulty("a full queue is overwritten", refutes="the searcher keeps it right"),
)
def every_word_is_flushed_once(p: Proof) -> None:
    """Every word that is queued is flushed exactly once, and all are when the copiers have finished.

    For any number of words, copiers and interleavings of their steps.
    """
    world = always(p)
    p.prove("nothing is flushed twice", implies(holds(world.me, world.entry), ~world.done))
    p.assume("all have finished", world.me.step == FINISHED, world.other.step == FINISHED)
    p.prove("every word is flushed", implies(world.entry < world.total, world.done))
