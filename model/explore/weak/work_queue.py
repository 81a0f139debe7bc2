"""The queue over a weak memory: one searcher, copiers, a ring of few slots.

The copiers' steps are ``model.protocols.work_queue.copier_step``, the searcher's ``search``; what
that does in one step, load HEAD, store the slot and then TAIL, is three here. Beside HEAD, TAIL,
CLOSED and the slots there are the bitmaps' words, read by the searcher and flushed by whoever takes
them, and what the check-in protocol does for a round: a check-out by each copier, which the caller
awaits.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from model.explore.weak.memory import Memory, Order, Value
from model.explore.weak.search import (
    UNKNOWN,
    Outcome,
    OverMemory,
    Stage,
    State,
    TouchesAnotherWordError,
    Unknown,
    Wrong,
    with_unknown_words,
)
from model.protocols import work_queue
from model.protocols.work_queue import Copier, CopierOf, Queue, QueueOf, Searcher, SearcherOf
from model.transitions import ENDED

ONCE = "each word is flushed exactly once"
QUEUED = "a copier takes only words that were queued"
NOT_YET = "the searcher reads only words that nobody flushes"

HEAD, TAIL, CLOSED, OUT = "HEAD", "TAIL", "CLOSED", "OUT"

# Where a process stands.
SEARCHING, PUT, PUBLISH, COPYING, CHECK_OUT, RETURN = range(1, 7)

_TEXTS = {
    PUT: "put the word into its slot",
    PUBLISH: "TAIL + 1",
    CHECK_OUT: "check out",
    RETURN: "everybody has checked out: return",
}

#: What a copier's step does: its access, the word, its row.
_ACCESSES = {
    work_queue.READ_CLOSED: ("load", CLOSED, "copy_queued atomic_load CLOSED"),
    work_queue.READ_HEAD: ("load", HEAD, "copy_one atomic_load HEAD"),
    work_queue.READ_TAIL: ("load", TAIL, "copy_one atomic_load TAIL"),
    work_queue.READ_SLOT: ("load", "SLOT", "copy_one atomic_load SLOTS"),
    work_queue.SWAP: ("update", HEAD, "copy_one compare_and_swap HEAD"),
}
_LOAD_HEAD, _STORE_SLOT = "search atomic_load HEAD", "search atomic_store SLOTS"
_STORE_TAIL, _STORE_CLOSED = "search atomic_store TAIL", "search atomic_store CLOSED"
ROWS = (
    _LOAD_HEAD,
    _STORE_SLOT,
    _STORE_TAIL,
    _STORE_CLOSED,
    *(row for *_, row in _ACCESSES.values()),
)


class Offered(NamedTuple):
    """What the searcher is about to store: the word for a slot, and TAIL after it."""

    slot: Value
    word: Value
    tail: Value


class Worker(NamedTuple):
    """A process: its place, the copier that it is, and what the searcher does and has queued."""

    pc: int
    copier: Copier = CopierOf(work_queue.READ_CLOSED, 0, 0, 0)
    searcher: Searcher | None = None
    tail: Value = 0
    offered: Offered | None = None


def _the_slot(found: Value, _: Value) -> Value:
    return found


def _slot_and_word(_: Any, slot: Value, word: Value) -> tuple[Value, Value]:
    return slot, word


def _is_dirty(loaded: Any, _: Value) -> Any:
    return UNKNOWN if loaded is UNKNOWN else loaded == 0


class QueueOverMemory(OverMemory):
    """A round off the queue: the caller (``c``) searches, then copies too; ``copiers`` copy.

    ``slots`` is the size of the ring. ``orders`` and ``split`` as in ``model.explore.weak.check_in``; a
    slot's store may be ordered PLAIN.
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
        domain = with_unknown_words(
            {
                work_queue.ring_slots: lambda: slots,
                work_queue.get: _the_slot,
                work_queue.put: _slot_and_word,
                work_queue.marked: _is_dirty,
            }
        )
        self._copier_step = domain.lift(work_queue.copier_step)
        self._searcher_step = domain.lift(work_queue.searcher_step)
        caller = Worker(SEARCHING, searcher=SearcherOf(work_queue.LOOK_FIRST, 0, 0))
        workers = (caller, *[Worker(COPYING)] * copiers)
        self.first = State(None, tuple(map(Stage, workers)), self.memory.start())

    def text(self, stage: Stage) -> str:
        """The step in words."""
        if stage.me.pc == COPYING:
            return f"copier: {work_queue.STEPS[stage.me.copier.step]}"
        if stage.me.pc == SEARCHING:
            return f"searcher: {work_queue.SEARCHER_STEPS[stage.me.searcher.step]}"
        return _TEXTS[stage.me.pc]

    def is_final(self, state: State) -> bool:
        """Everybody has ended."""
        return all(stage.me.pc == ENDED for stage in state.stages)

    def outcomes(self, state: State, thread: int) -> Iterator[Outcome]:
        """The step, by where the worker stands."""
        stage = state.stages[thread]
        step = {
            SEARCHING: self._searches,
            PUT: self._puts,
            PUBLISH: self._publishes,
            COPYING: self._copies,
            CHECK_OUT: self._checks_out,
            RETURN: self._returns,
        }[stage.me.pc]
        for after, memory in step(stage, thread, state.memory):
            yield None, after, memory

    Found = Iterator[tuple[Stage, Any]]

    def _searches(self, stage: Stage, thread: int, memory: Any) -> Found:
        """One step of the model's searcher, given the one word that it touches."""
        me = stage.me
        step, looked = me.searcher.step, me.searcher.looked
        if step in (work_queue.LOOK_FIRST, work_queue.LOOK_ON):
            value: Any = UNKNOWN
            if looked < self._words:
                value, memory = self.one(memory, thread, f"WORD {looked}", NOT_YET)
                if value != 0:
                    raise Wrong(NOT_YET)
            _, searcher = self._searched(me, UNKNOWN, value)
            yield Stage(me._replace(searcher=searcher)), memory
        elif step == work_queue.QUEUE:
            for head, after in self.memory.loads(memory, thread, HEAD, self.order(_LOAD_HEAD)):
                offered, searcher = self._searched(me, head, UNKNOWN)
                if searcher == me.searcher:  # no room
                    copier = CopierOf(work_queue.READ_HEAD, 0, 0, 0)
                    yield Stage(me._replace(pc=COPYING, copier=copier)), after
                else:
                    # Words count from 1 in a slot: one that holds 0 has never been written.
                    slot, word = offered.slots
                    put = Offered(slot, word + 1, offered.tail)
                    yield Stage(me._replace(pc=PUT, searcher=searcher, offered=put)), after
        else:
            closed, searcher = self._searched(me, UNKNOWN, UNKNOWN)
            order = self.order(_STORE_CLOSED)
            for after in self.memory.stores(memory, thread, CLOSED, closed.closed, order):
                yield Stage(Worker(COPYING)), after

    def _searched(self, me: Worker, head: Any, dirty: Any) -> tuple[Queue, Searcher]:
        """The model's step. Of the queue the searcher knows its own TAIL, and HEAD if it is given."""
        given = QueueOf(head, me.tail, UNKNOWN, UNKNOWN)
        after, searcher = self._searcher_step(given, dirty, self._words, me.searcher)
        if any(isinstance(part, Unknown) for part in searcher):
            raise TouchesAnotherWordError("the searcher depends on another word")
        return after, searcher

    def _puts(self, stage: Stage, thread: int, memory: Any) -> Found:
        me, order = stage.me, self.order(_STORE_SLOT)
        slot = f"SLOT {me.offered.slot}"
        for after in self.memory.stores(memory, thread, slot, me.offered.word, order):
            yield Stage(me._replace(pc=PUBLISH)), after

    def _publishes(self, stage: Stage, thread: int, memory: Any) -> Found:
        tail, order = stage.me.offered.tail, self.order(_STORE_TAIL)
        searching = stage.me._replace(pc=SEARCHING, tail=tail, offered=None)
        for after in self.memory.stores(memory, thread, TAIL, tail, order):
            yield Stage(searching), after

    def _copies(self, stage: Stage, thread: int, memory: Any) -> Found:
        """One step of the model's copier, given the one word that it touches."""
        me = stage.me
        if me.copier.step == work_queue.FLUSH:
            yield from self._flushes(me, thread, memory)
            return
        kind, word, row = _ACCESSES[me.copier.step]
        if word == "SLOT":
            word = f"SLOT {me.copier.head % self._slots}"
        if kind == "load":
            for value, after in self.memory.loads(memory, thread, word, self.order(row)):
                yield Stage(self._copier_stepped(me, word, value)[0]), after
        elif row not in self._split:
            for old, write in self.memory.updates(memory, thread, word, self.order(row)):
                moved, new = self._copier_stepped(me, word, old)
                after = write(new if new != old else None)
                if after is not None:
                    yield Stage(moved), after
        elif not stage.done:
            for value, after in self.memory.loads(memory, thread, word, self.order(row)):
                yield Stage(me, 1, value), after
        else:
            moved, new = self._copier_stepped(me, word, stage.kept)
            stored = [memory]
            if new != stage.kept:
                stored = self.memory.stores(memory, thread, word, new, self.order(row))
            yield from ((Stage(moved), after) for after in stored)

    def _copier_stepped(self, me: Worker, word: str, value: Value) -> tuple[Worker, Any]:
        """The model's step: the worker after it, and HEAD, which alone it may change."""
        fields = {HEAD: "head", TAIL: "tail", CLOSED: "closed"}
        known = fields.get(word, "slots")
        given = QueueOf(**{name: value if name == known else UNKNOWN for name in QueueOf._fields})
        after, copier = self._copier_step(given, me.copier)
        if any(isinstance(part, Unknown) for part in copier):
            raise TouchesAnotherWordError(
                f"{work_queue.STEPS[me.copier.step]} depends on another word"
            )
        moved = me._replace(copier=copier)
        if copier.step == work_queue.FINISHED:
            moved = Worker(CHECK_OUT)
        elif me.searcher and copier.step == work_queue.READ_CLOSED:
            moved = Worker(SEARCHING, searcher=me.searcher, tail=me.tail)
        return moved, after.head

    def _flushes(self, me: Worker, thread: int, memory: Any) -> Found:
        """Flush the word: copy its pages, clear its bits."""
        if not 1 <= me.copier.word <= self._words:
            raise Wrong(QUEUED)
        word = f"WORD {me.copier.word - 1}"
        value, memory = self.one(memory, thread, word, ONCE)
        if value != 0:
            raise Wrong(ONCE)
        moved, _ = self._copier_stepped(me, "", 0)
        for after in self.memory.stores(memory, thread, word, 1, Order.STREAMING):
            yield Stage(moved), after

    def _checks_out(self, stage: Stage, thread: int, memory: Any) -> Found:
        """As in the check-in protocol: copiers by fetch-add, the caller awaits them all."""
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
