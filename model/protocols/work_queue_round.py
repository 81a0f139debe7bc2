"""A round off the queue as small steps, for :mod:`model.explore`: searcher and copiers, to the end.

The caller (``c``) searches, copies a word itself whenever the queue is full, then copies like everybody,
and returns when all have finished.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from model.domain import Domain
from model.protocols import work_queue
from model.protocols.work_queue import (
    FINISHED,
    FLUSH,
    LOOK_FIRST,
    QUEUE,
    READ_CLOSED,
    READ_HEAD,
    SEARCHED,
    SEARCHER_STEPS,
    STEPS,
    Copier,
    Queue,
    Searcher,
    ring_slots,
)
from model.transitions import ENDED, Invariant, Step, System


class Shared(NamedTuple):
    """The queue, the bitmap's words (``dirty``: those set now), the words flushed, who is at work."""

    queue: Queue
    dirty: frozenset[int]
    flushed: tuple[int, ...]
    working: int


class Worker(NamedTuple):
    """A searcher that copies a word or has become a copier; or one that was a copier always."""

    pc: Hashable
    searcher: Searcher | None
    copier: Copier


After = tuple[Shared, Worker]
WAIT, RETURN = "wait", "return"
ONCE, TWICE = "every dirty word is flushed once", "no word is flushed twice"


def queue_round(
    words: int, dirty: frozenset[int], copiers: int, slots: int
) -> System[Shared, Worker]:
    """The caller and some copiers (``1``, ``2``, ...), a bitmap of some words, a ring of ``slots``."""
    fresh = Copier(READ_CLOSED, 0, 0, 0)
    everything = tuple(sorted(dirty))
    once = Invariant(ONCE, lambda at, me: at.flushed == everything and not at.dirty)
    first_time = Invariant(TWICE, lambda at, me: me.copier.word not in at.flushed)
    caller = Worker(("search", LOOK_FIRST), Searcher(LOOK_FIRST, 0, 0), fresh)
    return System(
        name=f"a queue of {slots}, {words} words, {copiers} copiers",
        shared=Shared(Queue(0, 0, 0, (0,) * slots), dirty, (), copiers + 1),
        processes=(caller, *[Worker(("copy", READ_CLOSED), None, fresh)] * copiers),
        names="c123456789"[: copiers + 1],
        steps={
            **dict(_steps(words, slots, first_time)),
            WAIT: Step("wait for all", _goes_to(RETURN), ready=lambda at, me: at.working == 0),
            RETURN: Step("the round is over", _goes_to(ENDED), invariants=(once,)),
        },
        is_final=lambda processes: all(process.pc == ENDED for process in processes),
        symmetric_from=1,
    )


def _goes_to(pc: Hashable) -> Callable[[Shared, Worker], After]:
    return lambda at, me: (at, me._replace(pc=pc))


def _steps(words: int, slots: int, first_time: Invariant) -> Iterator[tuple[Hashable, Step]]:
    # The model's own steps, as they are now, with a ring of ``slots``.
    domain = Domain(int, {ring_slots: lambda: slots})
    searcher_step, copier_step = (
        domain.lift(work_queue.searcher_step),
        domain.lift(work_queue.copier_step),
    )

    def searches(at: Shared, me: Worker) -> After:
        if me.searcher is None:
            raise TypeError("a copier cannot search")
        after, moved = searcher_step(at.queue, at.dirty, words, me.searcher)
        if moved.step == QUEUE == me.searcher.step and after == at.queue:
            return at, me._replace(
                pc=("help", READ_HEAD), copier=me.copier._replace(step=READ_HEAD)
            )
        pc = ("copy", READ_CLOSED) if moved.step == SEARCHED else ("search", moved.step)
        return at._replace(queue=after), me._replace(pc=pc, searcher=moved)

    def copies(at: Shared, me: Worker) -> After:
        after, moved = copier_step(at.queue, me.copier)
        at = at._replace(queue=after)
        if me.copier.step == FLUSH:
            flushed = tuple(sorted((*at.flushed, me.copier.word)))
            at = at._replace(dirty=at.dirty - {me.copier.word}, flushed=flushed)
        return at, me._replace(pc=("copy", moved.step), copier=moved)

    def helps(at: Shared, me: Worker) -> After:
        at, me = copies(at, me)
        has_copied = me.copier.step in (READ_CLOSED, FINISHED)
        return at, me._replace(pc=("search", QUEUE) if has_copied else ("help", me.copier.step))

    def finishes(at: Shared, me: Worker) -> After:
        return at._replace(working=at.working - 1), me._replace(pc=WAIT if me.searcher else ENDED)

    for step, text in enumerate(SEARCHER_STEPS):
        yield ("search", step), Step(text, searches)
    for step, text in enumerate(STEPS[:FINISHED]):
        invariants = (first_time,) if step == FLUSH else ()
        yield ("copy", step), Step(text, copies, invariants=invariants)
        yield ("help", step), Step(f"{text}, the queue being full", helps, invariants=invariants)
    yield ("copy", FINISHED), Step("finished", finishes)
