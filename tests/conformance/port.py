"""Runs calls against a port: lays out guarded memory, calls, and tells what can be seen after.

Lives in the child process. A :class:`Target` is what is called: a shared library through ctypes, or
our own implementation (``implementation.py``) behind the same arguments.
"""

import ctypes
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tests.conformance.call import STATS_BEFORE, Call, Outcome, Place, grain, letters, memory_of
from tests.conformance.guarded import Buffer, Bytes, Words

# Two streams of random bytes, no page of one like any page of the other. The period is a prime
# number of words, so that pages of one block differ whatever their size.
BYTES_PER_WORD = 8
PERIOD = 1_048_573 * BYTES_PER_WORD
_random = Random(2016)
HOST_CONTENT, CACHE_CONTENT = _random.randbytes(PERIOD), _random.randbytes(PERIOD)
STEP_OF_BLOCK, STEP_OF_CALL = 131 * BYTES_PER_WORD, 7 * BYTES_PER_WORD


class BlockStruct(ctypes.Structure):
    """``colo_block``."""

    _fields_ = [
        ("offset", ctypes.c_uint64),
        ("used_length", ctypes.c_uint64),
        ("max_length", ctypes.c_uint64),
        ("first_bit", ctypes.c_uint64),
        ("host", ctypes.c_void_p),
        ("cache", ctypes.c_void_p),
    ]


@dataclass(frozen=True)
class Arguments:
    """What colo_flush is called with: addresses, None for NULL."""

    blocks: int | None
    n_blocks: int
    page_size: int
    cache_bitmap: int | None
    host_bitmap: int | None
    n_words: int
    dirty_pages: int | None
    threads: int
    stats: int | None


class Target(Protocol):
    """Something that flushes."""

    only_reads_inputs: bool

    def flush(self, arguments: Arguments) -> int:
        """``colo_flush``."""

    def plan(
        self, pages: int, threads: int, thread: int, null: str = ""
    ) -> tuple[int, int, int] | None:
        """``colo_plan``: (status, lower, upper); None if there is none. ``null``: a pointer's name."""


class Library:
    """A port in a shared library."""

    only_reads_inputs = True

    def __init__(self, path: str) -> None:
        """Raises OSError or AttributeError if it cannot be loaded, ValueError for another ABI."""
        library = ctypes.CDLL(path)
        library.colo_abi_version.restype = ctypes.c_uint32
        version = library.colo_abi_version()
        if version != 1:
            raise ValueError(f"colo_abi_version() is {version}; this suite speaks version 1")
        self._flush = library.colo_flush
        self._flush.restype = ctypes.c_int
        self._flush.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_void_p,
        ]
        self._plan = getattr(library, "colo_plan", None)
        if self._plan:
            address = ctypes.POINTER(ctypes.c_uint64)
            self._plan.argtypes = [ctypes.c_uint64, *[ctypes.c_uint32] * 2, address, address]

    def flush(self, arguments: Arguments) -> int:
        a = arguments
        status: int = self._flush(
            a.blocks,
            a.n_blocks,
            a.page_size,
            a.cache_bitmap,
            a.host_bitmap,
            a.n_words,
            a.dirty_pages,
            a.threads,
            a.stats,
        )
        return status

    def plan(
        self, pages: int, threads: int, thread: int, null: str = ""
    ) -> tuple[int, int, int] | None:
        if not self._plan:
            return None
        lower, upper = ctypes.c_uint64(), ctypes.c_uint64()
        pointers = {"lower": ctypes.byref(lower), "upper": ctypes.byref(upper), null: None}
        status = self._plan(pages, threads, thread, pointers["lower"], pointers["upper"])
        return status, lower.value, upper.value


class Bench:
    """The memory that calls run on, at the same addresses from call to call."""

    def __init__(self, target: Target, beat: Callable[[], None]) -> None:
        """``beat`` is called before each call, so that whoever waits knows that another has begun."""
        self.target, self._beat = target, beat
        self.buffers: dict[str, Buffer] = {}
        self._calls = 0

    def run(self, call: Call) -> Outcome:
        """Perform one call and report everything that can be seen after it."""
        placed = Placed(self, call, self._calls)
        self._calls += 1
        return placed.outcome(self.flush(placed.arguments))

    def flush(self, arguments: Arguments) -> int:
        """``colo_flush``."""
        self._beat()
        return self.target.flush(arguments)

    def plan(
        self, pages: int, threads: int, thread: int, null: str = ""
    ) -> tuple[int, int, int] | None:
        """``colo_plan``."""
        self._beat()
        return self.target.plan(pages, threads, thread, null)

    def open(self, name: str, size: int, call: Call) -> Bytes:
        if name not in self.buffers:
            self.buffers[name] = Buffer(name)
        return self.buffers[name].open(
            size, high=call.place == "high", shift=_shift(name, call.place)
        )

    def describe(self, address: int) -> str:
        """Where a faulting address lies."""
        for buffer in self.buffers.values():
            if sentence := buffer.describe(address):
                return sentence
        return f"address {address:#x}, far from everything passed in"


def _shift(name: str, place: Place) -> int:
    """Bytes by which a buffer is off: host and cache memory only, odd numbers of them."""
    kind, _, number = name.partition(" memory of block ")
    if not number or place not in ("odd", "shifted"):
        return 0
    if place == "odd":
        return 1
    return 1 + 2 * (int(number) % 7) if kind == "host" else 15 + 4 * (int(number) % 5)


class Placed:
    """One call's arguments laid out in guarded memory."""

    def __init__(self, bench: Bench, call: Call, number: int) -> None:
        self._bench, self._call = bench, call
        self._before: list[tuple[bytes, bytes]] = []
        self._memory: list[tuple[Bytes, Bytes]] = []
        self.cache = self._bitmap("cache bitmap", call.cache)
        self.host = self._bitmap("host bitmap", call.host)
        self.dirty_pages = self._bitmap("dirty_pages", (call.dirty_pages,))
        self.stats = self._bitmap("stats", STATS_BEFORE)
        for i, block in enumerate(call.blocks):
            self._fill(i, memory_of(block), i * STEP_OF_BLOCK + number % 997 * STEP_OF_CALL)
        self._write_blocks()
        if bench.target.only_reads_inputs:
            for buffer in self._inputs():
                buffer.forbid_writes()
        self.arguments = self._arguments()

    def refill(self, call: Call) -> None:
        """Lay out another call on the same blocks, in the same memory."""
        self._call = call
        self.cache[:], self.host[:] = array("Q", call.cache), array("Q", call.host)
        self.dirty_pages[0] = call.dirty_pages
        self.stats[:] = array("Q", STATS_BEFORE)
        for (host, _), (old, _) in zip(self._memory, self._before, strict=True):
            host[:] = old
        self.arguments = self._arguments()

    def looks_right(self, status: int) -> bool:
        """For a call with nothing wrong in it: is all as it should be? Quick, and says no more."""
        cache, host = one_number(self._call.cache), one_number(self._call.host)
        counts = [bits.bit_count() for bits in (cache | host, host, cache, cache & host)]
        if status or any(self.cache) or any(self.host) or self.dirty_pages[0]:
            return False
        return self.stats.tolist() == counts and self._copied_just(cache | host)

    def _copied_just(self, dirty: int) -> bool:
        step = self._call.page_size
        for i, block in enumerate(self._call.blocks):
            (host, _), (old, new) = self._memory[i], self._before[i]
            mine = dirty >> block.first_bit & (1 << block.used_length // step) - 1
            if host.tobytes() != flushed(old, new, mine, step):
                return False
        return True

    def outcome(self, status: int) -> Outcome:
        """What is seen in the memory now."""
        for buffer in self._inputs():
            buffer.allow_writes()
        copied, host_dirty, cache_dirty, both_dirty = self.stats.tolist()
        return Outcome(
            status=status,
            cache=tuple(self.cache.tolist()),
            host=tuple(self.host.tolist()),
            dirty_pages=int(self.dirty_pages[0]),
            stats=(copied, host_dirty, cache_dirty, both_dirty),
            pages=tuple(self._letters(i) for i in range(len(self._call.blocks))),
            damage=tuple(self._damage()),
        )

    def _bitmap(self, name: str, values: Sequence[int]) -> Words:
        words = self._bench.open(name, BYTES_PER_WORD * len(values), self._call).cast("Q")
        words[:] = array("Q", values)
        return words

    def _fill(self, i: int, size: int, start: int) -> None:
        host = self._bench.open(f"host memory of block {i}", size, self._call)
        cache = self._bench.open(f"cache memory of block {i}", size, self._call)
        before = content(HOST_CONTENT, start, size), content(CACHE_CONTENT, start, size)
        host[:], cache[:] = before
        self._memory.append((host, cache))
        self._before.append(before)

    def _write_blocks(self) -> None:
        structs = (BlockStruct * len(self._call.blocks))()
        for i, block in enumerate(self._call.blocks):
            structs[i] = BlockStruct(
                block.offset,
                block.used_length,
                block.max_length,
                block.first_bit,
                self._address(f"host memory of block {i}", f"host[{i}]"),
                self._address(f"cache memory of block {i}", f"cache[{i}]"),
            )
        self._block_list = bytes(structs)
        self._blocks = self._bench.open("the block list", len(self._block_list), self._call)
        self._blocks[:] = self._block_list

    def _arguments(self) -> Arguments:
        call = self._call
        return Arguments(
            blocks=self._address("the block list", "blocks"),
            n_blocks=len(call.blocks),
            page_size=call.page_size,
            cache_bitmap=self._address("cache bitmap", "cache_bitmap"),
            host_bitmap=self._address("host bitmap", "host_bitmap"),
            n_words=len(call.cache),
            dirty_pages=self._address("dirty_pages", "dirty_pages"),
            threads=call.threads,
            stats=self._address("stats", "stats"),
        )

    def _address(self, buffer: str, argument: str) -> int | None:
        return None if argument in self._call.null else self._bench.buffers[buffer].address

    def _inputs(self) -> list[Buffer]:
        blocks = range(len(self._call.blocks))
        names = ["the block list", *(f"cache memory of block {i}" for i in blocks)]
        return [self._bench.buffers[name] for name in names]

    def _letters(self, i: int) -> str:
        (host, _), (old, new) = self._memory[i], self._before[i]
        now, step = host.tobytes(), grain(self._call)
        if now == old:
            return "h" * letters(self._call, self._call.blocks[i])
        return "".join(
            _letter(now[at : at + step], old[at : at + step], new[at : at + step], step)
            for at in range(0, len(now), step)
        )

    def _damage(self) -> list[str]:
        used = ["cache bitmap", "host bitmap", "dirty_pages", "stats", "the block list"]
        used += [f"{kind} memory of block {i}" for i in range(len(self._memory)) for kind in _KINDS]
        found = [
            f"bytes just outside {name} were written"
            for name in used
            if not self._bench.buffers[name].slack_is_intact()
        ]
        found += [
            f"the cache memory of block {i}, which is read-only, was written"
            for i, ((_, cache), (_, new)) in enumerate(zip(self._memory, self._before, strict=True))
            if cache.tobytes() != new
        ]
        if self._blocks.tobytes() != self._block_list:
            found.append("the block list, which is read-only, was written")
        return found


_KINDS = ("host", "cache")


def _letter(now: bytes, old: bytes, new: bytes, step: int) -> str:
    """What a page holds; of one that is not whole only what it has always held is right."""
    return "h" if now == old else "c" if now == new and len(now) == step else "x"


def content(stream: bytes, start: int, size: int) -> bytes:
    """``size`` bytes of a stream, from byte ``start`` on, around and around."""
    if start + size <= PERIOD:
        return stream[start : start + size]
    return (stream[start:] + stream * (size // PERIOD + 1))[:size]


def flushed(old: bytes, new: bytes, dirty: int, step: int) -> bytes:
    """``old`` with those pages of ``new`` whose bits are set in ``dirty``."""
    pages = bytearray(old)
    for run in re.finditer("1+", f"{dirty:b}"[::-1]):
        first, last = run.start() * step, run.end() * step
        pages[first:last] = new[first:last]
    return bytes(pages)


def one_number(words: Sequence[int]) -> int:
    """A bitmap as one number: bit b of word w is its bit 64 * w + b."""
    return int.from_bytes(
        b"".join(word.to_bytes(BYTES_PER_WORD, "little") for word in words), "little"
    )
