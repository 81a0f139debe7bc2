"""Every interleaving of a small queue of words: see ``model.scenarios``."""

from collections.abc import Iterator
from typing import NamedTuple

from model import queue
from model.queue import Copier, Queue
from model.scenarios import FAILS, Cases, Lines, scenario


class Round(NamedTuple):
    """A flush by queue in progress: the queue, the copiers, the words flushed, who has moved so far."""

    queue: Queue
    copiers: tuple[Copier, ...]
    flushed: tuple[int, ...]
    moves: str


def _few_words() -> Cases:
    for total in (0, 1, 2, 3):
        for slots in (1, 2):
            yield {"total": total, "copiers": 2, "slots": slots}


@scenario(_few_words)
def queued_words(total: int, copiers: int, slots: int) -> Lines:
    """Words 0, 1, ... through a ring of ``slots``, in every interleaving of searcher and copiers.

    The first that does not flush each word once is told: s is the searcher, digits are copiers.
    """
    yield f"{total} words, a ring of {slots}, {copiers} copiers"
    size, queue.SLOTS = queue.SLOTS, slots
    try:
        wrong = next(_wrong_rounds(total, copiers, slots), None)
    finally:
        queue.SLOTS = size
    if wrong:
        yield f"in the order {wrong.moves}"
        yield f"{FAILS}words flushed when all copiers have finished: {list(wrong.flushed)}"


def _wrong_rounds(total: int, copiers: int, slots: int) -> Iterator[Round]:
    nothing = Queue(0, 0, 0, (0,) * slots)
    begin = Round(nothing, (Copier(queue.READ_CLOSED, 0, 0, 0),) * copiers, (), "")
    waiting, seen = [begin], set()
    for now in waiting:
        if now[:3] in seen:
            continue
        seen.add(now[:3])
        finished = all(copier.step == queue.FINISHED for copier in now.copiers)
        flushed_twice = len(set(now.flushed)) < len(now.flushed)
        if flushed_twice or (finished and len(now.flushed) != total):
            yield now
        waiting += _after_searcher(now, total)
        for number, copier in enumerate(now.copiers):
            waiting += _after_copier(now, number, copier)


def _after_searcher(now: Round, total: int) -> Iterator[Round]:
    if now.queue.tail < total and queue.has_room(now.queue):
        yield now._replace(queue=queue.offer(now.queue, now.queue.tail), moves=now.moves + "s")
    if now.queue.tail == total and not now.queue.closed:
        yield now._replace(queue=queue.close(now.queue), moves=now.moves + "s")


def _after_copier(now: Round, number: int, copier: Copier) -> Iterator[Round]:
    if copier.step == queue.FINISHED or (copier.step == queue.FLUSH and len(now.flushed) > 4):
        return
    after, moved = queue.turn(now.queue, copier)
    flushed = (copier.word,) if copier.step == queue.FLUSH else ()
    yield Round(
        after,
        (*now.copiers[:number], moved, *now.copiers[number + 1 :]),
        tuple(sorted((*now.flushed, *flushed))),
        now.moves + str(number + 1),
    )
