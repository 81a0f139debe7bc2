"""C11's atomics, which C++, Rust and LLVM share: a load may see old values, as far as nothing that its
thread knows of forbids it. Data races are found."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from model.explore.weak.memory import DataRace, Fence, Memory, Order, State, Update, Value, put


class _View(NamedTuple):
    """What a thread, a message or a lock knows of.

    ``seen``: for each word, the place of the newest message known. ``accesses``: a set of bits, one
    for each thread's latest accesses to words that may race.
    """

    seen: tuple[int, ...]
    accesses: int


class _Message(NamedTuple):
    """A store: its value, what a reader that acquires gets to know, and whether it is the write half
    of an update, so that nothing comes between it and the message before."""

    value: Value
    view: _View | None
    follows: bool = False


class ReleaseAcquire(Memory):
    """C11's atomics without load buffering (RC11): each word is a list of messages, in the order in
    which all agree they were written; a load may read any that is not older than what it knows.

    Sequentially consistent accesses count as acquire and release only, which allows more, and there are
    no fences. Release sequences are those of C++20. Words named ``racy`` are watched: an access
    that conflicts with one which does not happen before it is a :class:`DataRace`. (Kang et al., A
    Promising Semantics, POPL 2017, without promises; Lahav et al., PLDI 2017.)

    State: (messages of each word, what each thread knows, what each lock's last holder knew).
    """

    def __init__(
        self,
        words: Mapping[str, Value],
        threads: int,
        locks: int = 0,
        *,
        racy: Collection[str] = (),
    ) -> None:
        super().__init__(words, threads, locks)
        self._bits: dict[tuple[int, int, bool, bool], int] = {}
        for word in sorted(self.number[name] for name in racy):
            for thread in range(threads):
                for writes in (False, True):
                    for atomic in (False, True):
                        self._bits[word, thread, writes, atomic] = 1 << len(self._bits)
        self._racy = {self.number[name] for name in racy}
        self._conflicts = {key: self._conflicting(*key) for key in self._bits}
        nothing = (0,) * len(words)
        self._at_first = _View(nothing, (1 << len(self._bits)) - 1)
        self._ignorant = _View(nothing, 0)

    def _conflicting(self, word: int, thread: int, writes: bool, atomic: bool) -> int:
        """The accesses of other threads that must happen before such an access."""
        return sum(
            bit
            for (where, who, wrote, was_atomic), bit in self._bits.items()
            if where == word and who != thread and (writes or wrote) and not (atomic and was_atomic)
        )

    def start(self) -> State:
        """One message a word, known to all."""
        return (
            tuple((_Message(value, None),) for value in self.first),
            (self._at_first,) * self.threads,
            (self._ignorant,) * self.locks,
        )

    def loads(
        self, state: State, thread: int, word: str, order: Order
    ) -> list[tuple[Value, State]]:
        """Any message that is not older than what the thread knows of."""
        where = self.number[word]
        state = self._noted(state, where, thread, writes=False, atomic=order.atomic)
        messages = state[0][where]
        known = state[1][thread].seen[where]
        return [
            (messages[place].value, self._tidy(self._read(state, thread, where, place, order)))
            for place in range(known, len(messages))
        ]

    def stores(
        self, state: State, thread: int, word: str, value: Value, order: Order
    ) -> list[State]:
        """A message anywhere behind what the thread knows of, but not in the middle of an update."""
        where = self.number[word]
        state = self._noted(state, where, thread, writes=True, atomic=order.atomic)
        messages = state[0][where]
        known = state[1][thread].seen[where]
        return [
            self._tidy(self._written(state, thread, where, place, value, order))
            for place in range(known + 1, len(messages) + 1)
            if place == len(messages) or not messages[place].follows
        ]

    def fences(self, state: State, thread: int, fence: Fence) -> list[State]:
        """There are none here: each access has its order, and nobody streams."""
        raise ValueError("no fence over release and acquire: give the accesses their orders")

    def updates(self, state: State, thread: int, word: str, order: Order) -> list[Update]:
        """Read a message, and put another right behind it."""
        where = self.number[word]
        for writes in (False, True):
            state = self._noted(state, where, thread, writes=writes, atomic=True)
        messages = state[0][where]
        known = state[1][thread].seen[where]

        def after(place: int) -> Callable[[Value | None], State | None]:
            def write(value: Value | None) -> State | None:
                read = self._read(state, thread, where, place, order)
                if value is None:
                    return self._tidy(read)
                if place + 1 < len(messages) and messages[place + 1].follows:
                    return None
                sequence = messages[place].view
                return self._tidy(
                    self._written(read, thread, where, place + 1, value, order, True, sequence)
                )

            return write

        return [(messages[place].value, after(place)) for place in range(known, len(messages))]

    def lock(self, state: State, thread: int, lock: int) -> list[State]:
        """Acquire what the last holder knew."""
        messages, threads, locks = state
        known = _joined(threads[thread], locks[lock])
        return [(messages, put(threads, thread, known), locks)]

    def unlock(self, state: State, thread: int, lock: int) -> State:
        """Release it."""
        messages, threads, locks = state
        known = _joined(locks[lock], threads[thread])
        return self._tidy((messages, threads, put(locks, lock, known)))

    def without(self, state: State, thread: int) -> State:
        """What it alone could still have read need not be kept."""
        messages, threads, locks = state
        return self._tidy((messages, put(threads, thread, None), locks))

    def last(self, state: State, word: str) -> Value:
        """The newest message's."""
        value: Value = state[0][self.number[word]][-1].value
        return value

    def values(self, state: State) -> Iterator[tuple[str, Value]]:
        """Every message that some thread may still read; the newest bears the word's bare name."""
        for word, messages in zip(self.number, state[0], strict=False):
            for age, message in enumerate(reversed(messages)):
                yield word if age == 0 else f"{word}, {age} older", message.value

    def _read(self, state: State, thread: int, where: int, place: int, order: Order) -> State:
        messages, threads, locks = state
        known = _seen(threads[thread], where, place)
        if order.acquires:
            known = _joined(known, messages[where][place].view)
        return messages, put(threads, thread, known), locks

    def _written(
        self,
        state: State,
        thread: int,
        where: int,
        place: int,
        value: Value,
        order: Order,
        follows: bool = False,
        sequence: _View | None = None,
    ) -> State:
        """A new message at a place; ``sequence`` is what the release sequence it goes on hands over."""
        if place < len(state[0][where]):
            state = self._each_view(state, lambda view: _moved(view, where, place))
        messages, threads, locks = state
        known = _seen(threads[thread], where, place)
        view = None
        if order.releases:
            view = known
        elif order.atomic:
            view = _seen(self._ignorant, where, place)
        if view is not None:
            view = _joined(view, sequence)
        mine = messages[where]
        mine = (*mine[:place], _Message(value, view, follows), *mine[place:])
        return put(messages, where, mine), put(threads, thread, known), locks

    def _noted(self, state: State, where: int, thread: int, *, writes: bool, atomic: bool) -> State:
        """Check an access for races, then note it: nobody else knows of it yet."""
        if where not in self._racy:
            return state
        key = (where, thread, writes, atomic)
        must_know, bit = self._conflicts[key], self._bits[key]
        if state[1][thread].accesses & must_know != must_know:
            raise DataRace(next(name for name, n in self.number.items() if n == where))
        if _known_only_to(state, bit, thread):
            return state
        state = self._each_view(state, lambda view: view._replace(accesses=view.accesses & ~bit))
        messages, threads, locks = state
        known = threads[thread]
        known = _View(known.seen, known.accesses | bit)
        return messages, put(threads, thread, known), locks

    def _each_view(self, state: State, change: Callable[[_View], _View]) -> State:
        messages, threads, locks = state
        # Many hold the same view: each is changed once.
        done: dict[_View, _View] = {}

        def changed(view: _View) -> _View:
            if view not in done:
                done[view] = change(view)
            return done[view]

        return (
            tuple(
                tuple(
                    m if m.view is None else _Message(m.value, changed(m.view), m.follows)
                    for m in mine
                )
                for mine in messages
            ),
            tuple(known and changed(known) for known in threads),
            tuple(map(changed, locks)),
        )

    def _tidy(self, state: State) -> State:
        """Forget the messages that no thread can read any more."""
        messages, threads, _ = state
        known = [view.seen for view in threads if view]
        if not known:
            return (), threads, ()
        oldest = tuple(map(min, *known)) if len(known) > 1 else known[0]
        if not any(oldest):
            return state

        def shifted(view: _View) -> _View:
            seen = tuple(
                place - first if place > first else 0
                for place, first in zip(view.seen, oldest, strict=True)
            )
            return _View(seen, view.accesses)

        messages, threads, locks = self._each_view(state, shifted)
        kept = tuple(
            (_Message(mine[first].value, mine[first].view), *mine[first + 1 :]) if first else mine
            for mine, first in zip(messages, oldest, strict=True)
        )
        return kept, threads, locks


def _known_only_to(state: State, bit: int, thread: int) -> bool:
    """Is the access already noted, and nobody else has heard of it?"""
    messages, threads, locks = state
    others = (view for who, view in enumerate(threads) if view and who != thread)
    return bool(threads[thread].accesses & bit) and not (
        any(view.accesses & bit for view in (*others, *locks))
        or any(m.view is not None and m.view.accesses & bit for ms in messages for m in ms)
    )


def _joined(one: _View, other: _View | None) -> _View:
    """What both know, together."""
    if other is None or other is one:
        return one
    return _View(tuple(map(max, one.seen, other.seen)), one.accesses | other.accesses)


def _seen(view: _View, where: int, place: int) -> _View:
    """The view once it knows of a message."""
    if view.seen[where] >= place:
        return view
    return _View(put(view.seen, where, place), view.accesses)


def _moved(view: _View, where: int, place: int) -> _View:
    """The view once a message has been put in at a place."""
    if view.seen[where] < place:
        return view
    return _View(put(view.seen, where, view.seen[where] + 1), view.accesses)
