"""Shared memories beneath the step functions: what a load may see of what others have stored.

Here is what they have in common, and the one in which every access is seen by all at once. Weaker ones:
``store_buffers.py`` is x86 with streaming stores, ``model.explore.weak.release_acquire``
C11's atomics.

A memory's *state* is a value. An access maps a state to every state it may lead to, and does not
change it. ``tests/model/test_memory.py`` holds each memory against the classical litmus tests and, on
random programs, against the axioms of its model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

State = Any
Value = int


class Order(Enum):
    """How strongly an access is ordered: C11's names, and two kinds that are not atomic at all."""

    PLAIN = "plain"
    STREAMING = "streaming"
    RELAXED = "relaxed"
    ACQUIRE = "acquire"
    RELEASE = "release"
    ACQ_REL = "acq_rel"
    SEQ_CST = "seq_cst"

    @property
    def atomic(self) -> bool:
        """May it meet another thread's access without a data race?"""
        return self not in (Order.PLAIN, Order.STREAMING)

    @property
    def acquires(self) -> bool:
        """Does a load see all that came before the store it reads from?"""
        return self in (Order.ACQUIRE, Order.ACQ_REL, Order.SEQ_CST)

    @property
    def releases(self) -> bool:
        """Does whoever reads the value stored see all that came before?"""
        return self in (Order.RELEASE, Order.ACQ_REL, Order.SEQ_CST)


class Fence(Enum):
    """Instructions of x86 that order accesses and make none."""

    SFENCE = "sfence"
    MFENCE = "mfence"


class DataRace(Exception):
    """Two threads access a word, one of them writes, one of them plainly, and nothing orders them."""


#: What a read-modify-write reads, and what to call with the value to write or None for none: the
#: state after it, or None if the write cannot follow that read.
Update = tuple[Value, Callable[[Value | None], State | None]]


class Memory(ABC):
    """A memory of ``words`` (name to first value) shared by ``threads`` numbered from 0.

    ``locks`` locks guard what is not in the memory: see :meth:`lock`.
    """

    def __init__(self, words: Mapping[str, Value], threads: int, locks: int = 0) -> None:
        self.number = {word: i for i, word in enumerate(words)}
        self.first = tuple(words.values())
        self.threads = threads
        self.locks = locks

    @abstractmethod
    def start(self) -> State:
        """The state in which every word has its first value."""

    @abstractmethod
    def loads(
        self, state: State, thread: int, word: str, order: Order
    ) -> list[tuple[Value, State]]:
        """Every value that a load may see, with the state after it."""

    @abstractmethod
    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        """Every state that a store may lead to; none if it has to wait."""

    @abstractmethod
    def updates(self, state: State, thread: int, word: str, order: Order) -> list[Update]:
        """Every read-modify-write of a word: fetch-add, compare-and-swap."""

    @abstractmethod
    def fences(self, state: State, thread: int, fence: Fence) -> list[State]:
        """The state after a fence; none if it has to wait."""

    def drains(self, state: State) -> Iterator[tuple[int, State]]:
        """What the hardware may do by itself: the thread whose store reaches memory."""
        return iter(())

    def lock(self, state: State, thread: int, lock: int) -> list[State]:
        """Take a lock that nobody holds: its last holder's accesses are seen. None if it has to wait."""
        return [state]

    def unlock(self, state: State, thread: int, lock: int) -> State:
        """Give the lock back."""
        return state

    def in_order(self, state: State, thread: int, word: str) -> bool:
        """Does whoever sees a later store of the thread see what it has stored to the word?"""
        return True

    def without(self, state: State, thread: int) -> State:
        """The state once a thread will not access memory again."""
        return state

    @abstractmethod
    def last(self, state: State, word: str) -> Value:
        """The word's value in the end, when all threads have finished."""

    @abstractmethod
    def values(self, state: State) -> Iterator[tuple[str, Value]]:
        """What there is to be read, for people: (word, or whose buffer or which message; value)."""


def put(items: Sequence[Any], place: int, item: Any) -> Any:
    """The tuple with one item replaced."""
    return (*items[:place], item, *items[place + 1 :])


class SequentiallyConsistent(Memory):
    """Every access is seen by all at once: the state is the words' values."""

    def start(self) -> State:
        """The words' first values."""
        return self.first

    def loads(
        self, state: State, thread: int, word: str, order: Order
    ) -> list[tuple[Value, State]]:
        """The word's value."""
        return [(state[self.number[word]], state)]

    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        """The word has the value."""
        return [put(state, self.number[word], value)]

    def updates(self, state: State, thread: int, word: str, order: Order) -> list[Update]:
        """In one step."""
        number = self.number[word]

        def write(value: Value | None) -> State:
            return state if value is None else put(state, number, value)

        return [(state[number], write)]

    def fences(self, state: State, thread: int, fence: Fence) -> list[State]:
        """Nothing to order."""
        return [state]

    def last(self, state: State, word: str) -> Value:
        """The word's value."""
        value: Value = state[self.number[word]]
        return value

    def values(self, state: State) -> Iterator[tuple[str, Value]]:
        """Each word's value."""
        yield from zip(self.number, state, strict=True)
