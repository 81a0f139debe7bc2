"""A RAM, its job table and a pool's control block in a machine's memory, and the model beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, NamedTuple

import numpy as np

from impl.by_node import table
from impl.job import _gaps
from impl.kernels import control as c
from impl.kernels import job_table as k
from impl.kernels.check_in import dismiss, flush_once, helper
from impl.kernels.events import KINDS
from impl.kernels.strategies import BY_NODE
from impl.pool import STRATEGIES
from model import flush as spec
from model.errors import StrayDirtyPages
from model.ram import BitmapKind, Block, Layout, Region
from model.shares import windows
from tests.mutation.machine import LINE, U64, Schedule
from tests.mutation.plain import STRETCH, Plain
from tests.trace import Event

NO_PAGE = 2**64 - 1
#: Events that a worker's log has room for.
LOGGED = 4000
PAGE_SIZE = 1024


class Wrong(Exception):
    """A kernel has not done what the model says: its message says what."""


def require(holds: object, what: str) -> None:
    """Raise Wrong unless it holds."""
    if not holds:
        raise Wrong(what)


class Epoch(NamedTuple):
    """The dirty pages before a flush, by bit, and how to flush them."""

    strategy: str
    cache_dirty: frozenset[int]
    host_dirty: frozenset[int]


def layout(*blocks: tuple[int, int, int], kind: BitmapKind = "global") -> Layout:
    """Blocks of a number of pages: where they lie, how many are used, how many there may be."""
    made = [
        Block(f"b{number}", *(pages * PAGE_SIZE for pages in block))
        for number, block in enumerate(blocks)
    ]
    return Layout(tuple(made), PAGE_SIZE, kind)


class Ways(NamedTuple):
    """Dirty bytes up to which pages are copied as memcpy does; up to which the next is fetched whole.

    And whether beyond them a line of its host is fetched.
    """

    ordinary: int
    fetching: int
    host: bool = True


class Nodes(NamedTuple):
    """On which node each bitmap word lies, and each thread is; a thread beyond them, on none known."""

    of_words: Sequence[int]
    of_threads: Sequence[int]


#: No page by memcpy; few, with the next one fetched whole.
FETCHING = Ways(0, 1000)


class Rig:
    """A RAM and a pool on a machine. The model's RAM maps a page's bit to its content."""

    def __init__(
        self,
        plain: Plain,
        schedule: Schedule,
        layout: Layout,
        threads: int,
        *,
        page_bytes: int = 2 * LINE,
        alone: int = 0,
        spin: int = 0,
        skew: int = 0,
        ways: Ways = FETCHING,
        forked: bool = False,
        nodes: Nodes | None = None,
    ) -> None:
        self.plain, self.machine, self.layout = plain, plain.machine, layout
        self.threads, self.page_bytes = threads, page_bytes
        self.machine.restart(schedule)
        self.random = Random(1)
        self._allocate(skew)
        self._make_nodes(nodes)
        self._make_job()
        self._make_control(alone, spin, ways)
        if forked:
            self.machine.process += 1
            self.put(c.UNFORKED, 0)
        used = sorted(layout.used())
        self.model = spec.Ram(dict.fromkeys(used), dict.fromkeys(used), set(), set(), 0)

    def kernel(self, kernel: object, *arguments: int) -> int:
        """Call a kernel."""
        return int(self.plain.function(kernel)(*map(U64, arguments)) or 0)

    # Memory.

    def _allocate(self, skew: int) -> None:
        make, size = self.machine.allocate, self.layout.words * 8
        self.cache_bitmap = make("the cache bitmap", size)
        self.host_bitmap = make("the host bitmap", size)
        self.index = make("the index", size)
        self.stretches = make("its stretches", -(-self.layout.words // STRETCH) * 8)
        self.regions = sorted(
            (r for r in self.layout.regions if r.used_pages), key=lambda region: region.first_bit
        )
        self.host, self.cache = (
            {
                region.first_bit: make(f"{what} of {region.block.name}", self._size(region) + skew)
                + skew
                for region in self.regions
            }
            for what in ("host", "cache")
        )

    def _make_nodes(self, nodes: Nodes | None) -> None:
        self.by_node = 0
        if nodes is not None:
            made = table(np.array(nodes.of_words), np.array(nodes.of_threads, np.int64)).tolist()
            self.by_node = self.machine.allocate("the words by node", 8 * len(made))
            for index, number in enumerate(made):
                self.machine.words(self.by_node)[index] = number

    def _size(self, region: Region) -> int:
        return region.used_pages * self.page_bytes

    def _make_job(self) -> None:
        starts = np.array([r.first_bit for r in self.regions], np.uint64)
        ends = starts + np.array([r.used_pages for r in self.regions], np.uint64)
        gaps = _gaps(starts, ends, self.layout.words * 64)
        rows = [
            (r.first_bit, r.used_pages, self.host[r.first_bit], self.cache[r.first_bit])
            for r in self.regions
        ]
        head = [
            *(self.page_bytes, self.cache_bitmap, self.host_bitmap, self.layout.pages),
            *(self.layout.words, len(rows), len(gaps), 0, 0, self.index),
            *(self.stretches, self.by_node),
        ]
        table = [*head, *(n for row in rows for n in row), *(int(n) for n in gaps.ravel())]
        self.job = self.machine.allocate("the job", 8 * len(table))
        for index, number in enumerate(table):
            self.machine.words(self.job)[index] = number
        self.after_rows = table

    def _make_control(self, alone: int, spin: int, ways: Ways) -> None:
        self.control = self.machine.allocate(
            "the control block", int(c.WORKERS) + self.threads * LINE
        )
        for word, number in (
            (c.UNFORKED, 1),
            (c.OWNER, self.machine.process),
            (c.HELPERS, self.threads - 1),
            (c.SERIAL_BELOW, alone),
            (c.SPIN, spin),
            (c.ORDINARY_BELOW, ways.ordinary),
            (c.FETCHING_BELOW, ways.fetching),
            (c.FETCHING_HOST, int(ways.host)),
        ):
            self.put(word, number)
        self.logs = [
            self.machine.allocate(f"the log of worker {worker}", 32 + LOGGED * 24)
            for worker in range(self.threads)
        ]
        for worker, log in enumerate(self.logs):
            self.machine.words(log)[0], self.machine.words(log)[1] = (
                log + 32,
                log + 32 + LOGGED * 24,
            )
            self.put(self.line(worker) + int(c.LOG), log)

    def put(self, word: Any, number: Any) -> None:
        """Write a word of the control block."""
        self.machine.words(self.control)[int(word) // 8] = number

    def get(self, word: Any) -> int:
        """Read a word of the control block."""
        return self.machine.words(self.control)[int(word) // 8]

    def line(self, worker: int) -> int:
        """Where a worker's line begins in the control block."""
        return int(c.WORKERS) + worker * LINE

    def field(self, offset: Any) -> int:
        """A field of the job."""
        return self.machine.words(self.job)[k.place(offset)]

    # A flush and what it should do.

    def dirty(self, epoch: Epoch) -> None:
        """New contents everywhere; what should differ is marked, here and in the model."""
        model = self.model
        model.cache_dirty, model.host_dirty = set(epoch.cache_dirty), set(epoch.host_dirty)
        model.dirty_pages = len(epoch.cache_dirty)
        for address, bits in (
            (self.cache_bitmap, epoch.cache_dirty),
            (self.host_bitmap, epoch.host_dirty),
        ):
            words = self.machine.words(address)
            for index in range(len(words)):
                words[index] = 0
            for bit in bits:
                words[bit // 64] |= 1 << bit % 64
        self.machine.words(self.job)[k.place(k.DIRTY_PAGES)] = model.dirty_pages
        host, cache = dict[int, object](), dict[int, object]()
        for memory, contents in ((self.host, host), (self.cache, cache)):
            for region in self.regions:
                at = self._bytes(memory[region.first_bit])
                at[:] = self.random.randbytes(len(at))
                for page, bit in enumerate(region.bits):
                    contents[bit] = bytes(at[page * self.page_bytes : (page + 1) * self.page_bytes])
        model.host, model.cache = host, cache

    def _bytes(self, address: int) -> memoryview:
        skew = address & 2**40 - 1
        return memoryview(self.machine.region(address).data)[skew:]

    def check(self) -> None:
        """Memory, bitmaps, count and job are as the model's RAM is."""
        model = self.model
        for what, memory, contents in (
            ("host", self.host, model.host),
            ("cache", self.cache, model.cache),
        ):
            for region in self.regions:
                wanted = b"".join(contents[bit] for bit in region.bits)  # type: ignore[misc]
                same = bytes(self._bytes(memory[region.first_bit])) == wanted
                require(same, f"{what} of {region.block.name}")
        for what, address, bits in (
            ("cache", self.cache_bitmap, model.cache_dirty),
            ("host", self.host_bitmap, model.host_dirty),
        ):
            words = self.machine.words(address)
            require(
                {b for b in range(64 * len(words)) if words[b // 64] >> b % 64 & 1} == bits, what
            )
        require(self.field(k.DIRTY_PAGES) == model.dirty_pages % 2**64, "the dirty count")
        free = (k.place(k.DIRTY_PAGES), k.place(k.COPYING))
        for number, value in enumerate(self.after_rows):
            same = self.machine.words(self.job)[number] == value
            require(number in free or same, f"field {number} of the job")

    def flush(self, epoch: Epoch) -> None:
        """Make the pages dirty and flush, and compare with the model; a stray bit must be refused."""
        self.dirty(epoch)
        union = self.model.cache_dirty | self.model.host_dirty
        rings, begin = self.get(c.DOORBELL), self.machine.clock
        before = self.machine.copied
        code = BY_NODE if epoch.strategy == "by node" else STRATEGIES[epoch.strategy]  # type: ignore[index]
        strategy = int(code)
        with self.lent():
            stray = self.kernel(flush_once, self.control, self.job, strategy, self.threads)
        try:
            wanted = spec.flush(self.model, self.layout)
        except StrayDirtyPages:
            first = min(bit for bit in union if not self.layout.is_used(bit))
            require(stray == first, f"the stray bit is {stray}, not {first}")
            self.check()
            return
        require(stray == NO_PAGE, f"bit {stray} is no stray bit")
        self.check()
        each_once = self.machine.copied - before == wanted.copied * self.page_bytes
        require(each_once, "more is copied than is dirty")
        fenced = not any(thread.unfenced for thread in self.machine.threads)
        require(fenced, "a worker has not fenced what it has streamed")
        self._check_counts(wanted)
        self._check_times(begin)
        self.opened = self.get(c.DOORBELL) - rings

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The RAM is the pool's within the block; at other times only the caller may touch it."""
        mine = [self.machine.region(address) for address in self._ram()]
        for region in mine:
            region.lent = True
        yield
        for region in mine:
            region.lent = False

    def _ram(self) -> Iterator[int]:
        yield from (self.cache_bitmap, self.host_bitmap, self.index, self.stretches, self.job)
        yield from (*self.host.values(), *self.cache.values())
        if self.by_node:
            yield self.by_node

    def _check_counts(self, wanted: spec.Flushed) -> None:
        fields = (c.COPIED, c.HOST_DIRTY, c.CACHE_DIRTY, c.BOTH_DIRTY)
        totals = [self.get(int(c.TOTALS) + int(field)) for field in fields]
        numbers = (wanted.copied, wanted.host_dirty, wanted.cache_dirty, wanted.both_dirty)
        require(tuple(totals) == numbers, f"totals {totals}, not {numbers}")
        require(self.get(int(c.TOTALS) + int(c.LEFT)) == self.field(k.DIRTY_PAGES), "what is left")
        workers = [worker for worker in range(self.threads) if self.took_part(worker)]
        for field, number in zip(fields, numbers, strict=True):
            lines = sum(self.get(self.line(worker) + int(field)) for worker in workers)
            require(lines == number, "the workers' counts")

    def took_part(self, worker: int) -> bool:
        """Has the worker completed this round?"""
        return self.get(self.line(worker) + int(c.COMPLETED)) == self.get(c.ROUND)

    def copied(self, worker: int) -> int:
        """How many pages the worker has copied in this round."""
        return self.get(self.line(worker) + int(c.COPIED)) if self.took_part(worker) else 0

    def _check_times(self, before: int) -> None:
        begin, end = (self.get(int(c.TOTALS) + int(field)) for field in (c.BEGIN, c.END))
        require(before < begin < end <= self.machine.clock, "the times of the round")
        for worker in range(self.threads):
            if self.took_part(worker):
                line = self.line(worker)
                first, last = self.get(line + int(c.BEGIN)), self.get(line + int(c.END))
                require(begin < first < last < end, f"the times of worker {worker}")

    def share_of(self, worker: int, union: frozenset[int]) -> int:
        """How many of these pages are in the worker's static share."""
        return sum(
            len(set(range(w.region.first_bit + w.start, w.region.first_bit + w.limit)) & union)
            for w in windows(self.layout, self.threads)
            if w.thread == worker
        )

    # The whole life of a pool.

    def live(
        self, epochs: Sequence[Epoch], after: Callable[["Rig", Epoch], None] | None = None
    ) -> None:
        """Flush these, one after the other, with helpers; then close the pool.

        ``after`` is called after each flush, to look at what else should be so.
        """
        for worker in range(1, self.threads):
            self.machine.start(partial(self.kernel, helper, self.control, worker))

        def caller() -> None:
            for region in self._ram():
                self.machine.region(region).lent = False
            for epoch in epochs:
                self.flush(epoch)
                if after:
                    after(self, epoch)
            self.kernel(dismiss, self.control)

        self.machine.run(caller)
        require(self.get(c.ARRIVED) == self.threads - 1, "not every helper has said it is there")

    def events(self) -> tuple[tuple[Event, ...], ...]:
        """What the workers have logged."""
        return tuple(tuple(self._logged(log)) for log in self.logs)

    def _logged(self, log: int) -> Iterator[Event]:
        words = self.machine.words(log)
        require(words[2] == 0, "an event that found no room")
        for at in range(4, (words[0] - log) // 8, 3):
            require(words[at] < len(KINDS), "an event of no kind")
            kind = KINDS[words[at]]
            unused = words[at + 1 + len(kind.values) : at + 3]
            require(not any(unused), "a value that the event has not")
            yield Event(kind.name, dict(zip(kind.values, words[at + 1 : at + 3], strict=False)))
