"""The queue over a weak memory: one searcher, copiers, a ring of few slots.

The copiers' steps are ``model.queue.turn``, and the searcher queues by ``offer``, the slot first and
then TAIL. Beside HEAD, TAIL, CLOSED and the slots there are the bitmaps' words, read by the searcher
and flushed by whoever takes them, and what the join protocol does for a round: parameters before,
a check-out by each copier after, which the caller awaits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from model import queue
from model.interleave import ENDED
from model.memory import Memory, Order, Value
from model.queue import Copier, Queue
from model.weak import (
    UNKNOWN,
    Outcome,
    OverMemory,
    Stage,
    TouchesAnotherWordError,
    Unknown,
    World,
    Wrong,
    with_unknown_words,
)

ONCE = "each word is flushed exactly once"
QUEUED = "a copier takes only words that were queued"
NOT_YET = "the searcher reads only words that nobody flushes"

HEAD, TAIL, CLOSED, OUT = "HEAD", "TAIL", "CLOSED", "OUT"

# Where a process stands. The searcher's program; then that of everybody, in the copier's own steps.
LOOK, ROOM, PUT, PUBLISH, CLOSE, COPYING, CHECK_OUT, RETURN = range(1, 9)

_TEXTS = {
    LOOK: "look for the next dirty word, before this one is handed out",
    ROOM: "load HEAD: is there room?",
    PUT: "put the word into its slot",
    PUBLISH: "TAIL + 1",
    CLOSE: "the search is over",
    CHECK_OUT: "check out",
    RETURN: "everybody has checked out: return",
}

#: What a copier's step does: its access, the word, its row.
_ACCESSES = {
    queue.READ_CLOSED: ("load", CLOSED, "copy_queued atomic_load CLOSED"),
    queue.READ_HEAD: ("load", HEAD, "copy_one atomic_load HEAD"),
    queue.READ_TAIL: ("load", TAIL, "copy_one atomic_load TAIL"),
    queue.READ_SLOT: ("load", "SLOT", "copy_one atomic_load SLOTS"),
    queue.SWAP: ("update", HEAD, "copy_one compare_and_swap HEAD"),
}
_SEARCHERS = {
    ROOM: "search atomic_load HEAD",
    PUT: "search atomic_store SLOTS",
    PUBLISH: "search atomic_store TAIL",
    CLOSE: "search atomic_store CLOSED",
}
ROWS = (*_SEARCHERS.values(), *(row for *_, row in _ACCESSES.values()))


class Worker(NamedTuple):
    """A process: its place, how many words it has queued, and the copier that it is."""

    pc: int
    queued: int = 0
    copier: Copier = Copier(queue.READ_CLOSED, 0, 0, 0)
    searching: bool = False


def _the_slot(found: Value, _: Value) -> Value:
    return found


def _slot_and_word(_: Any, slot: Value, word: Value) -> tuple[Value, Value]:
    return slot, word


class QueueOverMemory(OverMemory):
    """A round off the queue: the caller (``c``) searches, then copies too; ``copiers`` copy.

    ``slots`` is the size of the ring. ``orders`` and ``split`` as in ``model.weak_join``; a slot's
    store may be ordered PLAIN.
    """

    def __init__(
        self,
        memory: Callable[[Mapping[str, Value], int, int], Memory],
        copiers: int = 1,
        words: int = 2,
        slots: int = 1,
        *,
        orders: Mapping[str, Order] | None = None,
        split: Collection[str] = (),
    ) -> None:
        self.name = f"a queue of {slots} slots, {words} words, {copiers} copiers, over a memory"
        self.orders = dict(orders or {})
        self._split = frozenset(split)
        self._copiers, self._words, self._slots = copiers, words, slots
        at_first = dict.fromkeys((HEAD, TAIL, CLOSED, OUT), 0)
        at_first |= {f"SLOT {i}": 0 for i in range(slots)}
        at_first |= {f"WORD {i}": 0 for i in range(words)}
        self.memory = memory(at_first, copiers + 1, 0)
        with_slots, queue.SLOTS = queue.SLOTS, slots
        try:
            read = with_unknown_words({queue.get: _the_slot, queue.put: _slot_and_word})
            self._turn, self._has_room = read(queue.turn), read(queue.has_room)
            self._offer, self._close = read(queue.offer), read(queue.close)
        finally:
            queue.SLOTS = with_slots
        workers = (Worker(LOOK, searching=True), *[Worker(COPYING)] * copiers)
        self.first = World(None, tuple(map(Stage, workers)), self.memory.start())

    def text(self, stage: Stage) -> str:
        """The step in words."""
        if stage.me.pc == COPYING:
            return f"copier: {queue.STEPS[stage.me.copier.step]}"
        return _TEXTS[stage.me.pc]

    def at_rest(self, world: World) -> bool:
        """Everybody has ended."""
        return all(stage.me.pc == ENDED for stage in world.stages)

    def outcomes(self, world: World, thread: int) -> Iterator[Outcome]:
        """The step, by where the worker stands."""
        stage = world.stages[thread]
        step = {
            LOOK: self._looks,
            ROOM: self._finds_room,
            PUT: self._puts,
            PUBLISH: self._publishes,
            CLOSE: self._closes,
            COPYING: self._copies,
            CHECK_OUT: self._checks_out,
            RETURN: self._returns,
        }[stage.me.pc]
        for after, memory in step(stage, thread, world.memory):
            yield None, after, memory

    Found = Iterator[tuple[Stage, Any]]

    def _looks(self, stage: Stage, thread: int, memory: Any) -> Found:
        """Word 0 is found by itself; then always the one behind that which is queued next."""
        me = stage.me
        for number in (0, 1) if me.queued == 0 else (me.queued + 1,):
            if number < self._words:
                value, memory = self.one(memory, thread, f"WORD {number}", NOT_YET)
                if value != 0:
                    raise Wrong(NOT_YET)
        yield Stage(me._replace(pc=ROOM)), memory

    def _finds_room(self, stage: Stage, thread: int, memory: Any) -> Found:
        """TAIL is the searcher's own, and says how many it has queued."""
        me = stage.me
        for head, after in self.memory.loads(memory, thread, HEAD, self.order(_SEARCHERS[ROOM])):
            if self._has_room(Queue(head, me.queued, UNKNOWN, UNKNOWN)):
                yield Stage(me._replace(pc=PUT)), after
            else:
                copier = Copier(queue.READ_HEAD, 0, 0, 0)
                yield Stage(me._replace(pc=COPYING, copier=copier)), after

    def _puts(self, stage: Stage, thread: int, memory: Any) -> Found:
        me = stage.me
        # Words count from 1: a slot that holds 0 has never been written.
        offered = self._offer(Queue(UNKNOWN, me.queued, UNKNOWN, UNKNOWN), me.queued + 1)
        slot, word = offered.slots
        order = self.order(_SEARCHERS[PUT])
        for after in self.memory.stores(memory, thread, f"SLOT {slot}", word, order):
            yield Stage(me._replace(pc=PUBLISH)), after

    def _publishes(self, stage: Stage, thread: int, memory: Any) -> Found:
        me = stage.me
        tail = self._offer(Queue(UNKNOWN, me.queued, UNKNOWN, UNKNOWN), me.queued + 1).tail
        me = me._replace(pc=LOOK if tail < self._words else CLOSE, queued=tail)
        for after in self.memory.stores(
            memory, thread, TAIL, tail, self.order(_SEARCHERS[PUBLISH])
        ):
            yield Stage(me), after

    def _closes(self, stage: Stage, thread: int, memory: Any) -> Found:
        closed = self._close(Queue(UNKNOWN, UNKNOWN, 0, UNKNOWN)).closed
        order = self.order(_SEARCHERS[CLOSE])
        for after in self.memory.stores(memory, thread, CLOSED, closed, order):
            yield Stage(Worker(COPYING)), after

    def _copies(self, stage: Stage, thread: int, memory: Any) -> Found:
        """One step of the model's copier, given the one word that it touches."""
        me = stage.me
        if me.copier.step == queue.FLUSH:
            yield from self._flushes(me, thread, memory)
            return
        kind, word, row = _ACCESSES[me.copier.step]
        if word == "SLOT":
            word = f"SLOT {me.copier.head % self._slots}"
        if kind == "load":
            for value, after in self.memory.loads(memory, thread, word, self.order(row)):
                yield Stage(self._turned(me, word, value)[0]), after
        elif row not in self._split:
            for old, write in self.memory.updates(memory, thread, word, self.order(row)):
                moved, new = self._turned(me, word, old)
                after = write(new if new != old else None)
                if after is not None:
                    yield Stage(moved), after
        elif not stage.done:
            for value, after in self.memory.loads(memory, thread, word, self.order(row)):
                yield Stage(me, 1, value), after
        else:
            moved, new = self._turned(me, word, stage.kept)
            stored = [memory]
            if new != stage.kept:
                stored = self.memory.stores(memory, thread, word, new, self.order(row))
            yield from ((Stage(moved), after) for after in stored)

    def _turned(self, me: Worker, word: str, value: Value) -> tuple[Worker, Any]:
        """The model's step: the worker after it, and HEAD, which alone it may change."""
        fields = {HEAD: "head", TAIL: "tail", CLOSED: "closed"}
        unknown = Queue(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        given = unknown._replace(**{fields.get(word, "slots"): value})
        after, copier = self._turn(given, me.copier)
        if any(isinstance(part, Unknown) for part in copier):
            raise TouchesAnotherWordError(f"{queue.STEPS[me.copier.step]} depends on another word")
        moved = me._replace(copier=copier)
        if copier.step == queue.FINISHED:
            moved = Worker(CHECK_OUT)
        elif me.searching and copier.step == queue.READ_CLOSED:
            moved = Worker(ROOM, me.queued, searching=True)
        return moved, after.head

    def _flushes(self, me: Worker, thread: int, memory: Any) -> Found:
        """Flush the word: copy its pages, clear its bits."""
        if not 1 <= me.copier.word <= self._words:
            raise Wrong(QUEUED)
        word = f"WORD {me.copier.word - 1}"
        value, memory = self.one(memory, thread, word, ONCE)
        if value != 0:
            raise Wrong(ONCE)
        moved, _ = self._turned(me, "", 0)
        for after in self.memory.stores(memory, thread, word, 1, Order.STREAMING):
            yield Stage(moved), after

    def _checks_out(self, stage: Stage, thread: int, memory: Any) -> Found:
        """As in the join protocol: copiers by fetch-add, the caller awaits them all."""
        if thread:
            for old, write in self.memory.updates(memory, thread, OUT, Order.ACQ_REL):
                if (after := write(old + 1)) is not None:
                    yield Stage(Worker(ENDED)), after
        else:
            for out, after in self.memory.loads(memory, thread, OUT, Order.ACQUIRE):
                if out == self._copiers:
                    yield Stage(Worker(RETURN)), after

    def _returns(self, stage: Stage, thread: int, memory: Any) -> Found:
        """Every word has been flushed."""
        for number in range(self._words):
            value, memory = self.one(memory, thread, f"WORD {number}", ONCE)
            if value != 1:
                raise Wrong(ONCE)
        yield Stage(Worker(ENDED)), memory
