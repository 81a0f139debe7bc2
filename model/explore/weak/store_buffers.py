"""x86 with streaming stores: a store waits in its processor's buffer; streaming stores overtake each
other and all else there, but for ``sfence`` and locked instructions."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from model.explore.weak.memory import Fence, Memory, Order, State, Update, Value, put


class _Waiting(NamedTuple):
    """A store in a processor's buffer; or, without a word, an sfence."""

    word: str
    value: Value = 0
    streaming: bool = False


class StoreBuffers(Memory):
    """x86 with streaming stores: the state is memory and, for each thread, what waits in its buffer.

    Ordinary stores reach memory in program order. A streaming store may reach it earlier or later
    than any other store of its thread but those to the same word. Neither passes an sfence. Locked
    instructions and xchg wait until the buffer is empty; a load looks into its own thread's first.
    (Intel SDM volume 3, Memory Ordering and Bus Locking; Sewell et al., x86-TSO, CACM 2010; Raad,
    Maranget, Vafeiadis, Extending Intel-x86 Consistency and Persistency, POPL 2022.)

    ``locked_drain_streams=False`` is a processor on which locked instructions do *not* wait for
    streaming stores, as no manual says, but as one may fear.
    """

    def __init__(
        self,
        words: Mapping[str, Value],
        threads: int,
        locks: int = 0,
        *,
        locked_drain_streams: bool = True,
    ) -> None:
        super().__init__(words, threads, locks)
        self._locked_drain_streams = locked_drain_streams

    def start(self) -> State:
        """Empty buffers."""
        return self.first, ((),) * self.threads

    def loads(
        self, state: State, thread: int, word: str, order: Order
    ) -> list[tuple[Value, State]]:
        """The thread's own last store to the word, or else what memory has."""
        memory, buffers = state
        for waiting in reversed(buffers[thread]):
            if waiting.word == word:
                return [(waiting.value, state)]
        return [(memory[self.number[word]], state)]

    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        """``xchg`` if sequentially consistent, else into the buffer."""
        memory, buffers = state
        if order is not Order.SEQ_CST:
            waiting = _Waiting(word, value, order is Order.STREAMING)
            return [(memory, put(buffers, thread, (*buffers[thread], waiting)))]
        if self._must_wait(buffers[thread], word):
            return []
        return [(put(memory, self.number[word], value), buffers)]

    def updates(self, state: State, thread: int, word: str, order: Order) -> list[Update]:
        """A locked instruction, whatever the order."""
        memory, buffers = state
        if self._must_wait(buffers[thread], word):
            return []
        number = self.number[word]

        def write(value: Value | None) -> State:
            return state if value is None else (put(memory, number, value), buffers)

        return [(memory[number], write)]

    def fences(self, state: State, thread: int, fence: Fence) -> list[State]:
        """``sfence`` takes its place in the buffer; ``mfence`` waits until that is empty."""
        memory, buffers = state
        if not buffers[thread]:
            return [state]
        if fence is Fence.SFENCE:
            return [(memory, put(buffers, thread, (*buffers[thread], _Waiting(""))))]
        return []

    def drains(self, state: State) -> Iterator[tuple[int, State]]:
        """A store that none before it holds up reaches memory."""
        memory, buffers = state
        for thread, buffer in enumerate(buffers):
            for place, waiting in enumerate(buffer):
                shorter = put(buffers, thread, buffer[:place] + buffer[place + 1 :])
                if not waiting.word:
                    if place == 0:
                        yield thread, (memory, shorter)
                    break
                if not any(_holds_up(earlier, waiting) for earlier in buffer[:place]):
                    stored = put(memory, self.number[waiting.word], waiting.value)
                    yield thread, (stored, shorter)

    def lock(self, state: State, thread: int, lock: int) -> list[State]:
        """A lock is taken by a locked instruction."""
        return [] if self._must_wait(state[1][thread], "") else [state]

    def in_order(self, state: State, thread: int, word: str) -> bool:
        """Does no streaming store to the word wait that later stores could overtake?"""
        buffer = state[1][thread]
        return not any(
            waiting.word == word
            and waiting.streaming
            and all(later.word for later in buffer[place:])
            for place, waiting in enumerate(buffer)
        )

    def last(self, state: State, word: str) -> Value:
        """Memory's, the buffers being empty."""
        value: Value = state[0][self.number[word]]
        return value

    def values(self, state: State) -> Iterator[tuple[str, Value]]:
        """Memory's, and what waits."""
        memory, buffers = state
        yield from zip(self.number, memory, strict=True)
        for thread, buffer in enumerate(buffers):
            for waiting in buffer:
                kind = "streamed" if waiting.streaming else "stored"
                what = f"{waiting.word}, {kind}" if waiting.word else "sfence"
                yield f"{what}, in the buffer of thread {thread}", waiting.value

    def _must_wait(self, buffer: tuple[_Waiting, ...], word: str) -> bool:
        if self._locked_drain_streams:
            return bool(buffer)
        return any(not waiting.streaming or waiting.word == word for waiting in buffer)


def _holds_up(earlier: _Waiting, later: _Waiting) -> bool:
    """Must a store reach memory before this later one of its thread?"""
    return earlier.word == later.word or not (earlier.streaming or later.streaming)
