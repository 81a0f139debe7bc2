"""Every interleaving of a small round off the queue: see ``model.scenarios``."""

from itertools import product

from model.protocols.work_queue_round import queue_round
from model.scenarios.interleavings import every_interleaving
from model.scenarios.registry import Lines, Rows, scenario

FEW_WORDS: tuple[list[int], ...] = ([], [0], [0, 1], [1, 2], [0, 2], [0, 1, 2])


def _few_words() -> Rows:
    for dirty, slots in product(FEW_WORDS, (1, 2)):
        yield 3, dirty, 1, slots
    yield 3, [0, 2], 2, 1


@scenario(_few_words)
def queued_words(words: int, dirty: list[int], copiers: int, slots: int) -> Lines:
    """A bitmap of a few words through a ring of ``slots``, in every interleaving.

    The shortest schedule that fails is told: ``c`` searches, and copies when the queue is full.
    """
    yield f"{words} words, {dirty} dirty, a ring of {slots}, the caller and {copiers} copiers"
    yield from every_interleaving(queue_round(words, frozenset(dirty), copiers, slots))
