"""What comes in through the public API means what it says, whatever type it comes as."""

import array
import copy
import ctypes
import gc
import mmap
import pickle
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from impl import (
    Block,
    CannotBeCopied,
    ColoError,
    ColoRam,
    DirtyLogUnavailable,
    FlushPool,
    KernelDirtyLog,
    LayoutError,
    StrayDirtyPages,
    Tuning,
    UnknownAttribute,
)
from impl.kernels.events import EventLog
from model import ram as model
from tests.support.bits import pages_of

PAGE = 4096
INTEGERS = [np.dtype(kind) for kind in "bBhHiIqQ"]
WHOLE: list[Callable[[int], Any]] = [dtype.type for dtype in INTEGERS] + [np.array]
NO_NUMBERS = [True, np.True_, 1.0, 1.5, np.float64(1), float("nan"), "1", b"1", None, [1]]
NO_NUMBERS += [np.array(1.0), np.array([1]), 1j, np.timedelta64(1), object()]


class Index:
    """A whole number of a type of its own, which wraps like a NumPy integer in whatever it joins."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number

    def __mul__(self, _: object) -> int:
        return 0

    __add__ = __radd__ = __rmul__ = __mod__ = __mul__


def page(value: int) -> bytes:
    return bytes([value]) * PAGE


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*WHOLE, Index], ids=str)
def test_a_received_page_lands_where_it_belongs(kind: Callable[[int], Any]) -> None:
    ram = ColoRam([Block("low", size=64 * PAGE), Block("ram", size=200 * PAGE)])
    for number in (17, 100):
        ram.receive("ram", kind(number), page(number))
        assert (ram.block("ram").cache[number * PAGE : (number + 1) * PAGE] == number).all()
    assert np.count_nonzero(ram.block("ram").cache) == 2 * PAGE
    assert pages_of(ram.cache_dirty) == {64 + 17, 64 + 100}


@pytest.mark.parametrize("kind", [*WHOLE, Index], ids=str)
def test_every_other_number_is_taken_at_its_value(kind: Callable[[int], Any]) -> None:
    """16 pages and 64 of them: sums and products leave 8 and 16 bits, the numbers themselves not."""
    small = kind(64)
    ram = ColoRam([Block("tiny", size=kind(0), max_size=small, offset=small)][:0], page_size=PAGE)
    ram.add(Block("ram", size=64 * PAGE, max_size=128 * PAGE))
    ram.mark_host_dirty("ram", kind(63))
    assert pages_of(ram.host_dirty) == {63}
    ram.mark_host_dirty("ram", [kind(1), 2, kind(3)])
    assert pages_of(ram.host_dirty) == {1, 2, 3, 63}
    ram.dirty_pages = kind(5)
    assert ram.dirty_pages == 5
    with FlushPool(kind(2), serial_below_bytes=kind(0)) as pool:
        assert pool.threads == 2 and type(pool.threads) is int
        ram.recount()
        assert pool.flush(ram).copied == 4


WIDE = [dtype.type for dtype in INTEGERS if dtype.itemsize >= 4]


@pytest.mark.parametrize("kind", [*WIDE, Index], ids=str)
def test_sizes_and_offsets_are_taken_at_their_value(kind: Callable[[int], Any]) -> None:
    """Blocks that end at 2^32: the sum of offset and size leaves 32 bits."""
    size, offset = 64 * 1024, 2**31 - 64 * 1024
    ram = ColoRam(
        [
            Block("low", size=kind(size), offset=kind(offset)),
            Block("high", size=kind(1024), max_size=kind(size)),
        ],
        page_size=kind(1024),
    )
    assert ram.layout.blocks == (
        model.Block("low", offset, size, size),
        model.Block("high", 2**31, 1024, size),
    )
    ram.resize("high", kind(size))
    assert ram.block("high").size == size
    numbers = [n for b in ram.layout.blocks for n in (b.offset, b.used_length, b.max_length)]
    assert {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("kind", [np.uint32, np.uint64, np.int64, Index], ids=str)
def test_the_models_layout_takes_them_too(kind: Callable[[int], Any]) -> None:
    """2^31 + 2^31 is 0 in 32 bits: two blocks would not overlap."""
    far = 2**31
    layout = model.Layout((model.Block("a", kind(far), kind(far), kind(far)),), kind(4096))
    assert (layout.words, layout.regions[0].bits) == (2**14, range(2**19, 2**20))
    overlapping = [
        model.Block("a", kind(far - PAGE), kind(far), kind(far)),
        model.Block("b", kind(far), kind(0), kind(PAGE)),
    ]
    with pytest.raises(LayoutError, match="overlap"):
        model.Layout(overlapping, kind(4096))  # type: ignore[arg-type]


def a_tuning(limit: str) -> Callable[[ColoRam, Any], Tuning]:
    return lambda _, n: Tuning(**{limit: n})


TAKES_A_NUMBER: dict[str, Callable[[ColoRam, Any], Any]] = {
    "receive": lambda ram, n: ram.receive("ram", n, page(1)),
    "mark_host_dirty": lambda ram, n: ram.mark_host_dirty("ram", [0, n]),
    "resize": lambda ram, n: ram.resize("ram", n),
    "dirty_pages": lambda ram, n: setattr(ram, "dirty_pages", n),
    "size": lambda _, n: Block("b", size=n),
    "max_size": lambda _, n: Block("b", size=0, max_size=n),
    "offset": lambda _, n: Block("b", size=0, offset=n),
    "page_size": lambda _, n: ColoRam([], page_size=n),
    "threads": lambda _, n: FlushPool(n),
    "serial_below_bytes": lambda _, n: FlushPool(1, serial_below_bytes=n),
    **{f"{f.name} of a tuning": a_tuning(f.name) for f in fields(Tuning) if f.type is int},
    "length of a layout": lambda _, n: model.Layout((model.Block("a", 0, 0, n),), PAGE),
    "page size of a layout": lambda _, n: model.Layout((), n),
    "locate": lambda ram, n: ram.layout.locate(n),
}
MAY_BE_NONE = {"max_size", "offset", "threads", "serial_below_bytes"}


def state(ram: ColoRam) -> Any:
    block = ram.block("ram")
    return (
        ram.layout,
        ram.dirty_pages,
        *(
            memory.tobytes()
            for memory in (block.host, block.cache, ram.cache_dirty, ram.host_dirty)
        ),
    )


@pytest.mark.parametrize("what", TAKES_A_NUMBER)
def test_what_is_no_whole_number_is_refused(what: str) -> None:
    ram = ColoRam([Block("ram", size=8 * PAGE, max_size=9 * PAGE)])
    ram.receive("ram", 1, page(7))
    before = state(ram)
    for value in [*NO_NUMBERS, 10**5000, -(10**5000)]:
        if value is None and what in MAY_BE_NONE:
            continue
        with pytest.raises(ColoError, match=r"whole number|bits|neither memory nor size"):
            TAKES_A_NUMBER[what](ram, value)
        assert state(ram) == before


@pytest.mark.parametrize("number", [-1, -(2**63) - 1, 2**64, 2**70])
def test_a_count_beyond_64_bits_is_refused(number: int) -> None:
    ram = ColoRam([Block("ram", size=PAGE)])
    ram.dirty_pages = 2**64 - 1
    assert ram.dirty_pages == -1
    if number == -1:
        ram.dirty_pages = number
        return
    with pytest.raises(LayoutError, match="64 bits"):
        ram.dirty_pages = number
    assert ram.dirty_pages == -1


# --- arrays of page numbers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [*INTEGERS, np.dtype(">u8"), np.dtype(">i2"), np.dtype(object)], ids=str
)
def test_arrays_of_page_numbers(dtype: np.dtype[Any]) -> None:
    """In the second block, whose first bit does not fit into the array's own type."""
    ram = ColoRam([Block("low", size=1000 * PAGE), Block("ram", size=200 * PAGE)])
    ram.mark_host_dirty("ram", np.array([0, 7, 100, 7], dtype))
    assert pages_of(ram.host_dirty) == {1024 + page for page in (0, 7, 100)}


REFUSED_PAGES: dict[str, Any] = {
    "mask": np.array([True, False]),
    "floats": np.array([1.0, 2.0]),
    "rows": np.array([[1, 2]]),
    "number of floats": np.array(1.5),
    "text": "12",
    "bytes": b"\1\2",
    "a bitmap's bytes": bytearray(8),
    "view": np.array([1, 2], np.uint64).data,
    "none": None,
    "spans of time": np.array([1], "m8[s]"),
    "below": np.array([3, -1], np.int8),
    "above": np.array([3, 200], np.uint8),
    "far above": np.array([3, 2**64 - 1], np.uint64),
    "masked": np.ma.masked_greater(np.array([3, 999]), 200),
    "objects": np.array([3, None], object),
    "booleans": [3, True],
    "a truth": False,
    "nested": [[3]],
}


@pytest.mark.parametrize("what", REFUSED_PAGES)
def test_what_is_no_page_of_the_block_is_refused_whole(what: str) -> None:
    ram = ColoRam([Block("low", size=64 * PAGE), Block("ram", size=200 * PAGE)])
    with pytest.raises(LayoutError, match="block 'ram'"):
        ram.mark_host_dirty("ram", REFUSED_PAGES[what])
    assert not ram.host_dirty.any()


# --- iterables that can be read once -------------------------------------------------------------


READ_ONCE: list[Callable[[Iterable[Any]], Iterable[Any]]] = [iter, lambda of: (one for one in of)]
READ_ONCE += [lambda of: filter(None, of), lambda of: dict.fromkeys(of).keys(), tuple]


@pytest.mark.parametrize("once", READ_ONCE)
def test_blocks_and_pages_may_come_from_a_generator(once: Callable[[Any], Any]) -> None:
    blocks = [Block(name, size=64 * PAGE) for name in ("a", "b")]
    ram = ColoRam(once(blocks))
    assert [block.name for block in ram.layout.blocks] == ["a", "b"]
    ram.mark_host_dirty("b", once([3, 4]))
    assert pages_of(ram.host_dirty) == {67, 68}
    assert model.Layout(once(ram.layout.blocks), PAGE) == ram.layout


@pytest.mark.parametrize(
    "blocks", [None, 5, "ab", [None], [("a", 1)], Block("a", size=PAGE), Block]
)
def test_what_is_no_list_of_blocks_is_refused(blocks: Any) -> None:
    with pytest.raises(LayoutError, match="give"):
        ColoRam(blocks)
    with pytest.raises(LayoutError, match="give"):
        model.Layout(blocks, PAGE)
    ram = ColoRam([])
    if not isinstance(blocks, Block):
        with pytest.raises(LayoutError, match="give a Block"):
            ram.add(blocks)


# --- arguments that are the RAM's own memory -----------------------------------------------------


OWN: dict[str, tuple[Callable[[ColoRam], Any], Callable[[ColoRam], Any]]] = {
    "exchanged": (lambda ram: ram.host_dirty, lambda ram: ram.cache_dirty),
    "the cache's twice": (lambda ram: ram.cache_dirty, lambda ram: ram.cache_dirty),
    "the cache's into the host's": (
        lambda ram: np.zeros(4, np.uint64),
        lambda ram: ram.cache_dirty,
    ),
    "the host's into the cache's": (lambda ram: ram.host_dirty, lambda ram: np.zeros(4, np.uint64)),
    "as they are": (lambda ram: ram.cache_dirty, lambda ram: ram.host_dirty),
    "backwards": (lambda ram: ram.host_dirty[::-1], lambda ram: ram.cache_dirty[::-1]),
}


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("what", OWN)
def test_the_rams_own_bitmaps_may_be_set(what: str, attached: bool) -> None:
    bitmaps = np.zeros((2, 4), np.uint64) if attached else (None, None)
    ram = ColoRam([Block("ram", size=256 * PAGE)], cache_dirty=bitmaps[0], host_dirty=bitmaps[1])
    ram.cache_dirty[:], ram.host_dirty[:] = [1, 2, 3, 4], [16, 32, 48, 2**63]
    cache, host = (view(ram) for view in OWN[what])
    wanted = cache.tolist(), host.tolist()
    ram.set_dirty(cache, host)
    assert (ram.cache_dirty.tolist(), ram.host_dirty.tolist()) == wanted
    assert ram.dirty_pages == sum(word.bit_count() for word in wanted[0])


@pytest.mark.parametrize("by", range(1, 4))
def test_bitmaps_that_overlap_the_rams_own(by: int) -> None:
    """One array holds both bitmaps; the words to set lie across them."""
    both = np.arange(1, 9, dtype=np.uint64)
    ram = ColoRam([Block("ram", size=256 * PAGE)], cache_dirty=both[:4], host_dirty=both[4:])
    wanted = both[by : by + 4].tolist(), both[4 - by : 8 - by].tolist()
    ram.set_dirty(both[by : by + 4], both[4 - by : 8 - by])
    assert (ram.cache_dirty.tolist(), ram.host_dirty.tolist()) == wanted


@pytest.mark.parametrize("side", ["host", "cache"])
@pytest.mark.parametrize("start", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_a_received_page_may_be_memory_of_the_block(side: str, start: int) -> None:
    ram = ColoRam([Block("ram", size=4 * PAGE)])
    memory = getattr(ram.block("ram"), side)
    memory[:] = np.arange(4 * PAGE) % 251
    wanted = memory[start : start + PAGE].tobytes()
    ram.receive("ram", 1, memory[start : start + PAGE])
    assert ram.block("ram").cache[PAGE : 2 * PAGE].tobytes() == wanted
    assert pages_of(ram.cache_dirty) == {1}


def test_a_received_page_may_be_a_bitmap() -> None:
    """4,096 bytes of the cache bitmap, in which receiving sets a bit."""
    ram = ColoRam([Block("ram", size=2**15 * PAGE)])
    ram.receive("ram", 9, ram.cache_dirty)
    assert not ram.block("ram").cache.any(), "the page is the bitmap as it was"
    assert pages_of(ram.cache_dirty) == {9}


def test_pages_to_mark_may_be_the_bitmap_itself() -> None:
    ram = ColoRam([Block("ram", size=256 * PAGE)])
    ram.host_dirty[:] = [1, 2, 4, 8]
    ram.mark_host_dirty("ram", ram.host_dirty)
    assert ram.host_dirty.tolist() == [1 | 0b100010110, 2, 4, 8]


# --- attached memory -----------------------------------------------------------------------------

WORDS: dict[str, Callable[[], Any]] = {
    "uint64": lambda: np.zeros(4, np.uint64),
    "uint64 spelt out": lambda: np.zeros(4, "<u8"),
    "unsigned long long": lambda: np.zeros(4, np.ulonglong),
    "rows": lambda: np.zeros((2, 2), np.uint64),
    "uint8": lambda: np.zeros(32, np.uint8),
    "int8": lambda: np.zeros(32, np.int8),
    "bytearray": lambda: bytearray(32),
    "mmap": lambda: mmap.mmap(-1, 32),
    "view of an mmap": lambda: memoryview(mmap.mmap(-1, 64))[8:40],
    "cast view": lambda: memoryview(bytearray(32)).cast("Q"),
    "array.array Q": lambda: array.array("Q", [0] * 4),
    "array.array L": lambda: array.array("L", [0] * 4),
    "array.array B": lambda: array.array("B", [0] * 32),
    "c_uint64": lambda: (ctypes.c_uint64 * 4)(),
    "c_size_t": lambda: (ctypes.c_size_t * 4)(),
    "c_ubyte": lambda: (ctypes.c_ubyte * 32)(),
    "c_char": lambda: ctypes.create_string_buffer(32),
    "more than is needed": lambda: bytearray(61),
}
#: Any: to mypy, at its oldest, it has no twin of the other byte order.
C_UINT64: Any = ctypes.c_uint64
NO_WORDS: dict[str, Callable[[], Any]] = {
    "bool": lambda: np.zeros(256, np.bool_),
    "big-endian": lambda: np.zeros(4, ">u8"),
    "int64": lambda: np.zeros(4, np.int64),
    "float64": lambda: np.zeros(4, np.float64),
    "complex": lambda: np.zeros(4, np.complex128),
    "uint32": lambda: np.zeros(8, np.uint32),
    "uint16": lambda: np.zeros(16, np.uint16),
    "big-endian uint32": lambda: np.zeros(8, ">u4"),
    "structured": lambda: np.zeros(4, [("bits", np.uint64)]),
    "void": lambda: np.zeros(4, "V8"),
    "strings": lambda: np.zeros(4, "S8"),
    "texts": lambda: np.zeros(4, "U2"),
    "times": lambda: np.zeros(4, "m8[s]"),
    "objects": lambda: np.zeros(4, object),
    "c_bool": lambda: (ctypes.c_bool * 256)(),
    "c_int64": lambda: (ctypes.c_int64 * 4)(),
    "c_double": lambda: (ctypes.c_double * 4)(),
    "c_uint64 big-endian": lambda: (C_UINT64.__ctype_be__ * 4)(),
    "c_void_p": lambda: (ctypes.c_void_p * 4)(),
    "py_object": lambda: (ctypes.py_object * 4)(),
    "array.array q": lambda: array.array("q", [0] * 4),
    "array.array d": lambda: array.array("d", [0] * 4),
    "cast to bool": lambda: memoryview(bytearray(32)).cast("?"),
    "list": lambda: [0] * 4,
    "an address": lambda: 0x7F0000000000,
    "none of it": lambda: bytearray(24),
}


@pytest.mark.parametrize("bitmap", ["cache_dirty", "host_dirty"])
@pytest.mark.parametrize("what", WORDS)
def test_an_attached_bitmap_is_read_as_its_owner_means_it(what: str, bitmap: str) -> None:
    memory = WORDS[what]()
    np.frombuffer(memory, np.uint8)[:32] = [0x02] + [0] * 30 + [0x80]
    ram: Any = ColoRam([Block("ram", size=256 * PAGE)], **{bitmap: memory})
    assert pages_of(getattr(ram, bitmap)) == {1, 255}
    getattr(ram, bitmap)[1] = 1
    assert np.frombuffer(memory, np.uint8)[8] == 1, "a view, not a copy"


@pytest.mark.parametrize("bitmap", ["cache_dirty", "host_dirty"])
@pytest.mark.parametrize("what", NO_WORDS)
def test_what_is_neither_words_nor_bytes_is_no_bitmap(what: str, bitmap: str) -> None:
    arguments: Any = {bitmap: NO_WORDS[what]()}
    with pytest.raises(LayoutError, match=bitmap):
        ColoRam([Block("ram", size=256 * PAGE)], **arguments)


class Header(ctypes.Structure):
    _fields_ = [("Offset", ctypes.c_uint32), ("Pages", ctypes.c_ubyte * (2 * PAGE - 4))]


PLAIN: dict[str, Callable[[], Any]] = {
    "bool": lambda: np.zeros(2 * PAGE, np.bool_),
    "big-endian": lambda: np.zeros(PAGE // 4, ">u8"),
    "float64": lambda: np.zeros((PAGE // 8, 2), np.float64),
    "structured, a field called O": lambda: np.zeros(PAGE // 4, [("O", np.uint64)]),
    "a C structure": Header,
    "c_ubyte": lambda: (ctypes.c_ubyte * (2 * PAGE))(),
    "shared memory": lambda: mmap.mmap(-1, 2 * PAGE),
}
POINTERS: dict[str, Callable[[], Any]] = {
    "objects": lambda: np.zeros(PAGE // 4, object),
    "objects in a structure": lambda: np.zeros(PAGE // 8, [("a", np.uint64), ("b", object)]),
    "py_object": lambda: (ctypes.py_object * (PAGE // 4))(),
    "c_void_p": lambda: (ctypes.c_void_p * (PAGE // 4))(),
    "pointers": lambda: (ctypes.POINTER(ctypes.c_int) * (PAGE // 4))(),
}


@pytest.mark.parametrize("side", ["host", "cache"])
@pytest.mark.parametrize("what", PLAIN)
def test_any_plain_memory_can_be_flushed(what: str, side: str) -> None:
    memory = PLAIN[what]()
    sides: Any = {"host": np.zeros(2 * PAGE, np.uint8)} | {side: memory}
    ram = ColoRam([Block("ram", **sides)])
    ram.receive("ram", 1, page(1))
    with FlushPool(1) as pool:
        pool.flush(ram)
    assert (np.frombuffer(memory, np.uint8)[PAGE:] == 1).all()


@pytest.mark.parametrize("side", ["host", "cache"])
@pytest.mark.parametrize("what", POINTERS)
def test_memory_of_pointers_cannot(what: str, side: str) -> None:
    sides: Any = {"host": np.zeros(2 * PAGE, np.uint8)} | {side: POINTERS[what]()}
    with pytest.raises(LayoutError, match=f"block 'ram': {side}"):
        Block("ram", **sides)


# --- one owner -----------------------------------------------------------------------------------


def test_a_block_belongs_to_one_ram() -> None:
    block, other = Block("a", size=PAGE, max_size=2 * PAGE), Block("b", size=PAGE)
    first = ColoRam([block])
    for take in (lambda: ColoRam([other, block]), lambda: ColoRam([other]).add(block)):
        with pytest.raises(LayoutError, match="block 'a' belongs to another ColoRam"):
            take()
    with pytest.raises(LayoutError, match="appears twice"):
        ColoRam([other, other])
    ColoRam([other])  # refused RAMs keep no block
    first.resize("a", 2 * PAGE)
    first.receive("a", 1, page(1))
    first.release()
    second = ColoRam([block])
    assert second.block("a").size == 2 * PAGE
    del second
    gc.collect()
    ColoRam([block]).release()


def test_a_block_that_was_added_belongs_to_that_ram() -> None:
    block, ram = Block("a", size=PAGE), ColoRam([])
    ram.add(block)
    with pytest.raises(LayoutError, match="belongs to another ColoRam"):
        ColoRam([block])
    with pytest.raises(LayoutError, match="is there already"):
        ram.add(block)


def test_a_block_that_was_refused_belongs_to_nobody() -> None:
    """Its host lies in another block's."""
    ram = ColoRam([Block("a", size=2 * PAGE)])
    block = Block("b", host=ram.block("a").host[:PAGE])
    with pytest.raises(LayoutError, match="share memory"):
        ram.add(block)
    ColoRam([block])


UNCOPIED: dict[str, Callable[[], Any]] = {
    "ColoRam": lambda: ColoRam([Block("a", size=PAGE)]),
    "Block": lambda: Block("a", size=PAGE),
    "FlushPool": lambda: FlushPool(2),
    "KernelDirtyLog": lambda: KernelDirtyLog(),
    "EventLog": lambda: EventLog(),
}


@pytest.mark.parametrize(
    "how", [copy.copy, copy.deepcopy, pickle.dumps, lambda one: pickle.dumps([one], 0)]
)
@pytest.mark.parametrize("what", UNCOPIED)
def test_what_owns_something_is_not_copied(what: str, how: Callable[[Any], Any]) -> None:
    with pytest.raises(CannotBeCopied, match=f"a {what} cannot be copied") as error:
        how(UNCOPIED[what]())
    assert isinstance(error.value, TypeError), "what pickle raises otherwise"


def test_what_is_mere_data_is_copied() -> None:
    ram = ColoRam([Block("a", size=4 * PAGE)])
    ram.receive("a", 3, page(1))
    with FlushPool(1) as pool:
        stats = pool.flush(ram)
    errors = [
        LayoutError("a"),
        CannotBeCopied("b"),
        StrayDirtyPages("c"),
        DirtyLogUnavailable(1, "d"),
    ]
    for data in (stats, stats.workers, ram.layout, *errors):
        for again in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
            assert repr(again) == repr(data)
    assert pickle.loads(pickle.dumps(stats)).workers == stats.workers


def test_a_block_that_was_removed_may_be_given_to_another() -> None:
    block, ram = Block("a", size=PAGE), ColoRam([Block("b", size=PAGE)])
    ram.add(block)
    ram.remove("a")
    other = ColoRam([block])
    with pytest.raises(LayoutError, match="belongs to another ColoRam"):
        ram.add(block)
    other.remove("a")
    ram.add(block)


@pytest.mark.parametrize("name", ["dirtylog", "dirty_page", "Dirty_log", "strategy"])
def test_a_misspelt_attribute_is_an_error(name: str) -> None:
    """A log that nobody asks would lose what the guest writes."""
    with FlushPool(1) as pool:
        for owner in (ColoRam([]), Block("a", size=PAGE), pool):
            with pytest.raises(UnknownAttribute, match=f"has no '{name}'"):
                setattr(owner, name, KernelDirtyLog())


def test_what_a_block_or_a_pool_is_cannot_be_set() -> None:
    with FlushPool(2) as pool:
        for owner, name in ((pool, "threads"), (Block("a", size=PAGE), "name")):
            before = getattr(owner, name)
            with pytest.raises(AttributeError):
                setattr(owner, name, before)
