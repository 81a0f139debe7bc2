"""A machine made of Python: guarded memory, threads one at a time, a futex, a clock of its own.

Kernels run on it as plain Python, with the instructions of ``impl.intrinsics`` as methods of
:class:`Machine`. An access outside what has been allocated, a misaligned one, or one at a time when the
memory is not lent, is a :class:`Fault`. Threads are real, but one runs at a time: at each access a
:class:`Schedule` says who goes on. So a run depends on nothing but its schedule; that nobody can go on is
known at once, and that somebody never ends by the number of accesses and calls, not by a clock.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

ALL_ONES = 2**64 - 1
LINE = 64
STRIDE = 32
#: Allocations lie so far apart that no wrong offset leads from one to the next.
_APART = 40
MOST_ACCESSES = MOST_CALLS = 200_000


class Fault(Exception):
    """What no program may do: its message says what."""


class _Abandoned(BaseException):
    """Another thread has failed: this one is not to go on."""


class U64(int):
    """A number modulo 2^64, as the kernels compute with."""

    __slots__ = ()


def _wrapping(name: str) -> Callable[[int, Any], Any]:
    operation = getattr(int, name)

    def wrapped(self: int, *other: Any) -> Any:
        result = operation(self, *other)
        return result if result is NotImplemented else U64(result & ALL_ONES)

    return wrapped


for _name in (
    *("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"),
    *("radd", "rsub", "rmul", "rfloordiv", "rmod", "rand", "ror", "rxor", "rlshift", "rrshift"),
    *("invert", "neg"),
):
    setattr(U64, f"__{_name}__", _wrapping(f"__{_name}__"))


@dataclass
class Region:
    """Memory that has been allocated: its name in messages, its bytes, whether it is lent now."""

    name: str
    data: bytearray
    words: memoryview
    lent: bool = True


class Thread:
    """A thread of the machine: where it sleeps, if it does, and the lock that holds it meanwhile."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: How often it has gone to sleep, or tried to; and how often it has given way.
        self.sleeps = self.gave_way = 0
        #: Has it stored past the cache since its last fence?
        self.unfenced = False
        self.asleep_on: int | None = None
        self.ended = False
        self.turn = threading.Semaphore(0)


class Schedule:
    """Who goes on. By default whoever runs, until it sleeps, ends or gives way."""

    #: May a futex wake up with no cause?
    spurious = 0.0

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """The one of ``able`` (never empty) to go on; ``now`` is who has run, if it is able to."""
        return now if now is not None else able[0]


class CallerFirst(Schedule):
    """The caller, whenever it is able to."""

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        return able[0]


class HelpersFirst(Schedule):
    """The caller only when no helper is able to."""

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        return now if now is not None and now.number else able[-1]


class InTurn(Schedule):
    """Each goes on for a number of accesses, then the next one."""

    def __init__(self, accesses: int = 60) -> None:
        super().__init__()
        self.most, self.left = accesses, accesses

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        self.left -= 1
        if now is not None and self.left > 0:
            return now
        self.left = self.most
        number = -1 if now is None else now.number
        return next((thread for thread in able if thread.number > number), able[0])


class Anyhow(Schedule):
    """Anybody: the one that runs goes on, mostly or as often as ``stays`` says."""

    spurious = 0.01

    def __init__(self, seed: int, stays: float = 0.95) -> None:
        super().__init__(seed)
        self.stays = stays

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        if now is not None and self.random.random() < self.stays:
            return now
        return self.random.choice(able)


class Stalling(Schedule):
    """Anybody but the one that is held up for the time being; each is held up now and then."""

    spurious = 0.01

    def __init__(self, seed: int, threads: int, accesses: int = 40) -> None:
        super().__init__(seed)
        self.threads, self.most, self.left, self.stalled = threads, accesses, 0, 0

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        self.left -= 1
        if self.left <= 0:
            self.left = self.random.randrange(1, self.most)
            self.stalled = self.random.randrange(self.threads)
        others = [thread for thread in able if thread.number != self.stalled] or able
        if now is not None and now in others and self.random.random() < 0.7:
            return now
        return self.random.choice(others)


class LateOpening(HelpersFirst):
    """A helper looks; then the caller goes on until ``opened``; then helpers come first."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks
        self.opened: Callable[[], bool] = lambda: True

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        if self.looks:
            self.looks -= 1
            return able[-1]
        return able[0] if not self.opened() else super().chosen(now, able)


class LateHelper(Schedule):
    """The second helper looks at a round only when it is closed, and the first is still inside."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Callable[[], Literal["nobody inside", "open", "closed"]] = lambda: "open"

    def chosen(self, now: Thread | None, able: Sequence[Thread]) -> Thread:
        """See Schedule."""
        order = {"nobody inside": (1, 0, 2), "open": (0, 1, 2), "closed": (2, 1, 0)}[self.state()]
        return min(able, key=lambda thread: order.index(thread.number))


class Machine:
    """Memory, threads and a clock; its methods bear the names of ``impl.intrinsics``."""

    def __init__(self) -> None:
        self.restart(Schedule())

    def restart(self, schedule: Schedule, *, process: int = 1000) -> None:
        """Forget everything; from now on whoever goes on is as ``schedule`` says."""
        self.regions: list[Region] = []
        self.schedule = schedule
        self.process = process
        self.accesses = self.calls = 0
        self.clock = 10**9
        self.threads = [Thread(0)]
        self.running = self.threads[0]
        self.failure: BaseException | None = None
        self.over = threading.Event()
        self.fetched: list[int] = []
        #: How often the number of this process was asked for.
        self.asked_who = 0
        #: Bytes copied, and how many of them past the cache.
        self.copied = self.streamed = 0

    # Memory.

    def allocate(self, name: str, size: int) -> U64:
        """A number of zeroed bytes; their address, on a line's boundary."""
        data = bytearray(size)
        padded = memoryview(data)[: size // 8 * 8].cast("Q")
        self.regions.append(Region(name, data, padded))
        return U64(len(self.regions) << _APART)

    def region(self, address: int) -> Region:
        """The memory that an address lies in."""
        number = (address >> _APART) - 1
        if not 0 <= number < len(self.regions):
            raise Fault(f"there is no memory at {address:#x}")
        return self.regions[number]

    def words(self, address: int) -> memoryview:
        """The words of the memory that begins at an address."""
        return self.region(address).words

    @contextmanager
    def not_lent(self, *addresses: int) -> Iterator[None]:
        """Within the block nobody may touch these."""
        held = [self.region(address) for address in addresses]
        for region in held:
            region.lent = False
        yield
        for region in held:
            region.lent = True

    def _found(self, address: int, length: int, align: int) -> tuple[Region, int]:
        region = self.region(address)
        offset = address & (1 << _APART) - 1
        if offset + length > len(region.data):
            past = offset + length - len(region.data)
            raise Fault(f"{past} bytes past the end of {region.name}")
        if offset % align:
            raise Fault(f"not aligned: byte {offset} of {region.name}")
        if not region.lent and self.running.number:
            raise Fault(f"{region.name} is touched, and no flush is in progress")
        return region, offset

    def _word(self, address: int) -> tuple[memoryview, int]:
        region, offset = self._found(address, 8, 8)
        return region.words, offset // 8

    # Threads.

    def start(self, life: Callable[[], object]) -> None:
        """Another thread, which may go on from now on."""
        thread = Thread(len(self.threads))
        self.threads.append(thread)

        def run() -> None:
            thread.turn.acquire()
            self._live(thread, life)

        threading.Thread(target=run, daemon=True).start()

    def run(self, life: Callable[[], object]) -> None:
        """Run the first thread, and all that it starts, until all have ended; raises what failed."""
        self._live(self.threads[0], life)
        self.over.wait()
        if self.failure is not None:
            raise self.failure

    def _live(self, thread: Thread, life: Callable[[], object]) -> None:
        try:
            if self.failure is None:
                life()
        except _Abandoned:
            return
        except BaseException as error:
            self._fail(error)
            return
        if self.failure is not None:
            return
        thread.ended = True
        try:
            self._pass_on(None)
        except Fault as fault:
            self._fail(fault)

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        for thread in self.threads:
            thread.turn.release()
        self.over.set()

    def _able(self) -> list[Thread]:
        return [t for t in self.threads if not t.ended and t.asleep_on is None]

    def call(self) -> None:
        """A kernel calls another one: a loop over nothing does that, and has no access."""
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise Fault(f"thread {self.running.number} never comes to an end")

    def _access(self) -> None:
        """An access to memory: others may come in between."""
        self.accesses += 1
        if self.accesses > MOST_ACCESSES:
            raise Fault(f"thread {self.running.number} never comes to an end")
        if len(self.threads) > 1:
            self._pass_on(self.running)

    def _pass_on(self, now: Thread | None) -> None:
        able = self._able()
        spurious = self.schedule.spurious
        if spurious and self.schedule.random.random() < spurious:
            for thread in self.threads:
                if thread.asleep_on is not None:
                    thread.asleep_on = None
                    able = self._able()
                    break
        if not able:
            if all(thread.ended for thread in self.threads):
                self.over.set()
                return
            asleep = [thread.number for thread in self.threads if not thread.ended]
            raise Fault(f"threads {asleep} sleep, and nobody wakes them")
        who = self.schedule.chosen(now, able)
        if who is not self.running:
            me, self.running = self.running, who
            who.turn.release()
            if not me.ended:
                me.turn.acquire()
                if self.failure is not None:
                    raise _Abandoned

    # The instructions.

    def population(self, word: int) -> U64:
        """See impl.intrinsics, here and below."""
        return U64(int(word).bit_count())

    def trailing_zeros(self, word: int) -> U64:
        """Zeros below the lowest set bit; 64 for 0."""
        return U64((int(word) & -int(word)).bit_length() - 1 if word else 64)

    def load(self, address: int) -> U64:
        """A load, plain or atomic."""
        self._access()
        words, index = self._word(address)
        return U64(words[index])

    atomic_load = load

    def word_at(self, array: int, index: int) -> U64:
        """A word of an array."""
        return self.load(array + index * 8)

    def dirty_in_stride(self, one: int, other: int, index: int) -> U64:
        """Which of some words of two arrays have a bit set, a bit a word."""
        dirty = 0
        for array in (one, other):
            region, offset = self._found(array + index * 8, 8 * STRIDE, 8)
            for lane, word in enumerate(region.words[offset // 8 : offset // 8 + STRIDE]):
                dirty |= (word != 0) << lane
        self._access()
        return U64(dirty)

    def store(self, address: int, value: int) -> None:
        """A store, plain or atomic."""
        self._access()
        words, index = self._word(address)
        words[index] = value & ALL_ONES

    atomic_store = store

    def _updated(self, address: int, update: Callable[[int], int]) -> U64:
        self._access()
        words, index = self._word(address)
        before = words[index]
        words[index] = update(before) & ALL_ONES
        return U64(before)

    def atomic_add(self, address: int, value: int) -> U64:
        """Fetch and add."""
        return self._updated(address, lambda before: before + int(value))

    def atomic_and(self, address: int, value: int) -> U64:
        """Fetch and and."""
        return self._updated(address, lambda before: before & int(value))

    def atomic_or(self, address: int, value: int) -> U64:
        """Fetch and or."""
        return self._updated(address, lambda before: before | int(value))

    def compare_and_swap(self, address: int, expected: int, desired: int) -> U64:
        """Compare and swap."""
        return self._updated(address, lambda before: int(desired) if before == expected else before)

    def copy_bytes(self, to: int, source: int, length: int) -> None:
        """memcpy."""
        self._access()
        target, at = self._found(to, int(length), 1)
        origin, begin = self._found(source, int(length), 1)
        target.data[at : at + length] = origin.data[begin : begin + length]
        self.copied += int(length)

    def stream_line(self, to: int, source: int) -> None:
        """One line, past the cache."""
        self._found(to, LINE, LINE)
        self.copy_bytes(to, source, LINE)
        self.streamed += LINE
        self.running.unfenced = True

    def prefetch(self, address: int) -> None:
        """Harmless at any address; noted."""
        self._access()
        self.fetched.append(int(address))

    def fence_stores(self) -> None:
        """All see all at once here; noted."""
        self.running.unfenced = False

    def this_process(self) -> U64:
        """The number of this process; noted."""
        self.asked_who += 1
        return U64(self.process)

    def this_cpu(self) -> U64:
        """Each thread has a CPU of its own."""
        return U64(self.running.number)

    def nanoseconds(self) -> U64:
        """A clock that goes on with each look."""
        self.clock += 1
        return U64(self.clock)

    def give_way(self) -> None:
        """Anybody else first."""
        others = [thread for thread in self._able() if thread is not self.running]
        self.running.gave_way += 1
        self.accesses += 1
        if self.accesses > MOST_ACCESSES:
            raise Fault(f"thread {self.running.number} never comes to an end")
        if others:
            me, self.running = self.running, others[0]
            others[0].turn.release()
            me.turn.acquire()
            if self.failure is not None:
                raise _Abandoned

    def futex_wait(self, address: int, seen: int) -> U64:
        """Sleep while the low 32 bits are as seen."""
        self.running.sleeps += 1
        self._access()
        words, index = self._word(address)
        if words[index] & 2**32 - 1 == seen & 2**32 - 1:
            me = self.running
            me.asleep_on = int(address)
            self._pass_on(None)
        return U64(0)

    def futex_wake(self, address: int, count: int) -> U64:
        """Wake some of those that sleep there."""
        asleep = [thread for thread in self.threads if thread.asleep_on == address]
        for thread in asleep[: int(count)]:
            thread.asleep_on = None
        self._access()
        return U64(len(asleep[: int(count)]))
