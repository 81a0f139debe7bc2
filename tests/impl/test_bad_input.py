"""Input that cannot be right: each a typed error that says what to do, and nothing has changed."""

import collections
import io
import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impl import (
    Block,
    ColoError,
    ColoRam,
    DirtyCountMismatch,
    FlushPool,
    LayoutError,
    StrayDirtyPages,
    TraceError,
)
from impl.pool import MAX_THREADS, STRATEGIES
from impl.traces import format as traces
from model.ram import Block as RamBlock
from model.ram import Layout

PAGE = 4096
TRACES = Path(__file__).parents[1] / "traces"


def zeros(size: int) -> Any:
    return np.zeros(size, np.uint8)


def read_only(size: int) -> Any:
    memory = zeros(size)
    memory.flags.writeable = False
    return memory


def closed_mmap(size: int) -> Any:
    memory = mmap.mmap(-1, size)
    memory.close()
    return memory


ONE = zeros(4 * PAGE)

REFUSED_BLOCKS: dict[str, tuple[Callable[[], Any], str]] = {
    "no memory, no size": (lambda: Block("a"), "give host= or size="),
    "cache without host": (lambda: Block("a", size=PAGE, cache=zeros(PAGE)), "give host="),
    "name that is no text": (lambda: Block(7, size=PAGE), "name is text"),  # type: ignore[arg-type]
    "negative size": (lambda: Block("a", size=-PAGE), "0 <= size <= max_size"),
    "size 2^63": (lambda: Block("a", size=2**63), "0 <= size <= max_size"),
    "size 2^64": (lambda: Block("a", size=2**64), "0 <= size <= max_size"),
    "more than there is": (lambda: Block("a", size=2**46), "cannot allocate"),
    "size no whole number": (lambda: Block("a", size=1.5), "whole number"),  # type: ignore[arg-type]
    "offset no number": (lambda: Block("a", size=PAGE, offset="0"), "whole number"),  # type: ignore[arg-type]
    "max below size": (lambda: Block("a", size=2 * PAGE, max_size=PAGE), "0 <= size <= max_size"),
    "host too short": (lambda: Block("a", host=zeros(PAGE), max_size=2 * PAGE), "too short"),
    "cache too short": (lambda: Block("a", host=ONE, cache=zeros(PAGE)), "too short"),
    "host read-only": (lambda: Block("a", host=read_only(PAGE)), "read-only"),
    "bytes": (lambda: Block("a", host=b"\0" * PAGE), "read-only"),
    "not contiguous": (lambda: Block("a", host=zeros(2 * PAGE)[::2]), "not contiguous"),
    "no buffer": (lambda: Block("a", host="memory"), "not a usable buffer"),
    "closed mmap": (lambda: Block("a", host=closed_mmap(PAGE)), "not a usable buffer"),
    "objects": (lambda: Block("a", host=np.array([None] * 9)), "not a usable buffer|objects"),
}


@pytest.mark.parametrize("what", REFUSED_BLOCKS)
def test_blocks(what: str) -> None:
    make, message = REFUSED_BLOCKS[what]
    with pytest.raises(LayoutError, match=message):
        make()


def words(count: int) -> Any:
    return np.zeros(count, np.uint64)


HOST, CACHE, BITMAPS = zeros(8 * PAGE), zeros(8 * PAGE), zeros(64)

REFUSED_RAMS: dict[str, tuple[Callable[[], Any], str]] = {
    "page size 0": (lambda: ColoRam([], page_size=0), "power of two"),
    "page size 3000": (lambda: ColoRam([], page_size=3000), "power of two"),
    "page size 512": (lambda: ColoRam([], page_size=512), "power of two"),
    "page size 4 MiB": (lambda: ColoRam([], page_size=4 << 20), "power of two"),
    "page size -4096": (lambda: ColoRam([], page_size=-4096), "power of two"),
    "page size no number": (lambda: ColoRam([], page_size=4e3), "whole number"),  # type: ignore[arg-type]
    "unknown layout": (lambda: ColoRam([], layout="both"), "unknown"),  # type: ignore[arg-type]
    "size not of pages": (lambda: ColoRam([Block("a", size=100)]), "whole number of"),
    "offset not of pages": (lambda: ColoRam([Block("a", size=PAGE, offset=7)]), "whole number of"),
    "negative offset": (lambda: ColoRam([Block("a", size=PAGE, offset=-PAGE)]), "whole number of"),
    "past 2^64": (
        lambda: ColoRam([Block("a", size=2 * PAGE, offset=2**64 - PAGE)]),
        "passes 2\\^64",
    ),
    "bitmaps of a far offset": (
        lambda: ColoRam([Block("a", size=PAGE, offset=2**62)]),
        "cache_dirty.*cannot allocate",
    ),
    "same name": (lambda: ColoRam([Block("a", size=PAGE), Block("a", size=PAGE)]), "twice"),
    "empty name": (lambda: ColoRam([Block("", size=PAGE)]), "name is empty"),
    "overlapping addresses": (
        lambda: ColoRam([Block("a", size=2 * PAGE), Block("b", size=PAGE, offset=PAGE)]),
        "overlap at address",
    ),
    "host and cache the same": (
        lambda: ColoRam([Block("a", host=HOST, cache=HOST)]),
        "host of block 'a' and cache of block 'a' share memory|cache.*host",
    ),
    "host reaches into cache": (
        lambda: ColoRam([Block("a", host=HOST[: 5 * PAGE], cache=HOST[3 * PAGE :])]),
        "share memory",
    ),
    "blocks share memory": (
        lambda: ColoRam([Block("a", host=HOST), Block("b", host=HOST[7 * PAGE :])]),
        "host of block 'a' and host of block 'b' share memory",
    ),
    "bitmap inside a block": (
        lambda: ColoRam([Block("a", host=HOST, cache=CACHE)], cache_dirty=CACHE[8:16]),
        "cache of block 'a' and cache_dirty share memory",
    ),
    "bitmaps the same": (
        lambda: ColoRam([Block("a", host=HOST)], cache_dirty=BITMAPS, host_dirty=BITMAPS),
        "cache_dirty and host_dirty share memory",
    ),
    "bitmap too short": (
        lambda: ColoRam([Block("a", size=65 * PAGE)], host_dirty=words(1)),
        "host_dirty has 8 bytes, too short: 2 words",
    ),
    "bitmap not aligned": (
        lambda: ColoRam([Block("a", size=PAGE)], host_dirty=BITMAPS[1:]),
        "multiple of 8",
    ),
    "bitmap read-only": (
        lambda: ColoRam([Block("a", size=PAGE)], cache_dirty=read_only(8)),
        "read-only",
    ),
    "bitmap not contiguous": (
        lambda: ColoRam([Block("a", size=PAGE)], cache_dirty=words(4)[::2]),
        "not contiguous",
    ),
}


@pytest.mark.parametrize("what", REFUSED_RAMS)
def test_rams(what: str) -> None:
    make, message = REFUSED_RAMS[what]
    with pytest.raises(LayoutError, match=message):
        make()


def test_attached_memory_cannot_be_closed_underneath() -> None:
    memory = mmap.mmap(-1, 4 * PAGE)
    ram = ColoRam([Block("a", host=memory)])
    with pytest.raises(BufferError):
        memory.close()
    ram.release()
    memory.close()


@pytest.fixture
def ram() -> ColoRam:
    """60 pages and a hole, one dirty page in each bitmap."""
    ram = ColoRam([Block("ram", size=60 * PAGE, max_size=64 * PAGE)])
    ram.receive("ram", 1, bytes([7]) * PAGE)
    ram.mark_host_dirty("ram", [2])
    return ram


def state(ram: ColoRam) -> tuple[Any, ...]:
    block = ram.block("ram")
    return (
        block.host.tobytes(),
        block.cache.tobytes(),
        ram.cache_dirty.tolist(),
        ram.host_dirty.tolist(),
        ram.dirty_pages,
        ram.layout,
    )


FULL_PAGE = b"\1" * PAGE

REFUSED_CHANGES: dict[str, tuple[Callable[[ColoRam], Any], str]] = {
    "receive: no block": (lambda ram: ram.receive("rom", 0, FULL_PAGE), "no block 'rom'"),
    "receive: page -1": (lambda ram: ram.receive("ram", -1, FULL_PAGE), "no page -1"),
    "receive: page 60": (lambda ram: ram.receive("ram", 60, FULL_PAGE), "no page 60"),
    "receive: page 2^64": (lambda ram: ram.receive("ram", 2**64, FULL_PAGE), "no page"),
    "receive: page 1.5": (lambda ram: ram.receive("ram", 1.5, FULL_PAGE), "whole number"),  # type: ignore[arg-type]
    "receive: too little": (lambda ram: ram.receive("ram", 3, b"\1"), "got 1 bytes"),
    "receive: too much": (lambda ram: ram.receive("ram", 3, FULL_PAGE * 2), "got 8192 bytes"),
    "receive: nothing": (lambda ram: ram.receive("ram", 3, b""), "got 0 bytes"),
    "receive: text": (lambda ram: ram.receive("ram", 3, "x" * PAGE), "not a usable buffer"),
    "receive: not contiguous": (
        lambda ram: ram.receive("ram", 3, zeros(2 * PAGE)[::2]),
        "not contiguous",
    ),
    "mark: one page of many": (lambda ram: ram.mark_host_dirty("ram", [3, 60]), "no page 60"),
    "mark: huge": (lambda ram: ram.mark_host_dirty("ram", 2**63), "no page"),
    "mark: no numbers": (lambda ram: ram.mark_host_dirty("ram", ["3"]), "whole number"),  # type: ignore[list-item]
    "mark: no block": (lambda ram: ram.mark_host_dirty("rom", [0]), "no block 'rom'"),
    "set_dirty: too short": (lambda ram: ram.set_dirty(words(0), words(1)), r"give uint64 \(1,\)"),
    "set_dirty: too long": (lambda ram: ram.set_dirty(words(1), words(2)), r"give uint64 \(1,\)"),
    "set_dirty: signed": (
        lambda ram: ram.set_dirty(words(1), np.zeros(1, np.int64)),
        "host_words is int64",
    ),
    "set_dirty: a list": (lambda ram: ram.set_dirty([1], words(1)), "cache_words is int64"),
    "add: same name": (lambda ram: ram.add(Block("ram", size=PAGE)), "use another name"),
    "add: overlap": (lambda ram: ram.add(Block("b", size=PAGE, offset=63 * PAGE)), "overlap"),
    "add: shared memory": (
        lambda ram: ram.add(Block("b", host=ram.block("ram").host[:PAGE])),
        "share memory",
    ),
    "resize: no block": (lambda ram: ram.resize("rom", PAGE), "no block 'rom'"),
    "resize: half a page": (lambda ram: ram.resize("ram", PAGE // 2), "whole number of"),
}


@pytest.mark.parametrize("what", REFUSED_CHANGES)
def test_changes(ram: ColoRam, what: str) -> None:
    change, message = REFUSED_CHANGES[what]
    before = state(ram)
    with pytest.raises(LayoutError, match=message):
        change(ram)
    assert state(ram) == before


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("bitmap", ["cache_dirty", "host_dirty"])
def test_stray_bits(ram: ColoRam, strategy: Any, bitmap: str, pools: dict[int, FlushPool]) -> None:
    getattr(ram, bitmap)[0] |= np.uint64(1 << 60)
    ram.recount()
    before = state(ram)
    with pytest.raises(StrayDirtyPages, match="page 60 of block 'ram', beyond its used length"):
        pools[3].flush(ram, strategy)
    assert state(ram) == before


def test_a_wrong_count_is_reported_with_everything_flushed(
    ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    ram.dirty_pages = 3
    with pytest.raises(DirtyCountMismatch, match="dirty count is 2"):
        pools[2].flush(ram)
    assert not ram.cache_dirty.any()
    assert (ram.block("ram").host[PAGE : 2 * PAGE] == 7).all()
    assert ram.dirty_pages == 2
    ram.recount()
    assert ram.dirty_pages == 0


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_bitmaps_that_change_behind_a_flushs_back(
    strategy: Any, pools: dict[int, FlushPool]
) -> None:
    """Somebody sets bits, outside the used pages too, while flushes run: only used pages are copied."""
    guarded = {name: np.full(1000 * PAGE, 3, np.uint8) for name in ("host", "cache")}
    # 700 pages in use of 800, between guards of 100 pages.
    host, cache = (memory[100 * PAGE : 900 * PAGE] for memory in guarded.values())
    cache[: 700 * PAGE] = 5
    used = np.zeros(13, np.uint64)
    used[:10], used[10] = 2**64 - 1, 2**60 - 1
    cache_dirty, host_dirty = used.copy(), used.copy()
    ram = ColoRam(
        [Block("ram", host=host, cache=cache, size=700 * PAGE)],
        cache_dirty=cache_dirty,
        host_dirty=host_dirty,
    )
    stop = threading.Event()

    def meddle() -> None:
        rng = np.random.default_rng(1)
        while not stop.is_set():
            cache_dirty[:] = rng.integers(2**64 - 1, size=13, dtype=np.uint64)
            host_dirty[:] = rng.integers(2**64 - 1, size=13, dtype=np.uint64)
            np.bitwise_and(cache_dirty, used, out=cache_dirty)
            np.bitwise_and(host_dirty, used, out=host_dirty)

    meddler = threading.Thread(target=meddle)
    meddler.start()
    outcomes = collections.Counter[str]()
    try:
        while outcomes["flushed"] < 100:
            try:
                pools[3].flush(ram, strategy)
                outcomes["flushed"] += 1
            except DirtyCountMismatch:
                outcomes["flushed"] += 1
                ram.recount()
            except StrayDirtyPages:
                outcomes["refused"] += 1
    finally:
        stop.set()
        meddler.join()
    assert (guarded["host"][: 100 * PAGE] == 3).all()
    assert (guarded["host"][800 * PAGE :] == 3).all(), "unused pages and the guard behind them"
    assert (host[: 700 * PAGE] <= 5).all()
    assert (cache[: 700 * PAGE] == 5).all()
    assert (cache[700 * PAGE :] == 3).all()


def test_pools(ram: ColoRam, pools: dict[int, FlushPool]) -> None:
    for threads in (0, -1, MAX_THREADS + 1, 2**64, 1.5, "2"):
        with pytest.raises(ColoError, match=r"use 1 to|whole number"):
            FlushPool(threads)  # type: ignore[arg-type]
    before = state(ram)
    with pytest.raises(ColoError, match="use one of dynamic"):
        pools[2].flush(ram, "fastest")  # type: ignore[arg-type]
    assert state(ram) == before


# --- traces --------------------------------------------------------------------------------------


def members(**changed: Any) -> dict[str, Any]:
    """A small valid trace, some members changed or (None) left out."""
    whole: dict[str, Any] = {
        "page_size": np.uint64(PAGE),
        "block_name": np.array(["ram", "rom"]),
        "block_offset": np.array([0, 64 * PAGE], np.uint64),
        "block_used_length": np.array([60 * PAGE, PAGE], np.uint64),
        "block_max_length": np.array([64 * PAGE, PAGE], np.uint64),
        "cache_dirty": np.ones((3, 2), np.uint64),
        "host_dirty": np.zeros((3, 2), np.uint64),
        "flush_seconds": np.array([0.1, np.nan, 0.2]),
        "source": np.array("a test"),
    }
    return {name: value for name, value in (whole | changed).items() if value is not None}


def saved(path: Path, **changed: Any) -> Path:
    np.savez(path, **members(**changed))
    return path


def test_the_small_trace_is_valid(tmp_path: Path) -> None:
    trace = traces.load(saved(tmp_path / "t.npz"))
    assert (trace.epochs, trace.layout.words) == (3, 2)


REFUSED_TRACES: dict[str, tuple[dict[str, Any], str]] = {
    "member missing": ({"host_dirty": None}, "host_dirty missing"),
    "pickled objects": ({"source": np.array([{}], object)}, "source is object"),
    "pickled names": ({"block_name": np.array(["a", "b"], object)}, "block_name is object"),
    "page size 0": ({"page_size": np.uint64(0)}, "power of two"),
    "page size NaN": ({"page_size": np.float64("nan")}, "page_size is float64"),
    "page size negative": ({"page_size": np.int64(-4096)}, "power of two"),
    "used above max": (
        {"block_used_length": np.array([65 * PAGE, PAGE], np.uint64)},
        "exceeds max length",
    ),
    "lengths differ": ({"block_offset": np.array([0], np.uint64)}, "differ in length"),
    "name twice": ({"block_name": np.array(["ram", "ram"])}, "twice"),
    "name of escape codes": ({"block_name": np.array(["ram", "\x1b[2J"])}, "printable"),
    "source of escape codes": ({"source": np.array("\x1b]0;owned\x07")}, "printable"),
    "stray bit": ({"host_dirty": np.full((3, 2), 1 << 60, np.uint64)}, "epoch 0.*page 60"),
    "bitmaps of int64": ({"host_dirty": np.zeros((3, 2), np.int64)}, "host_dirty is int64"),
    "bitmaps of floats": ({"host_dirty": np.full((3, 2), np.nan)}, "host_dirty is float64"),
    "bitmaps differ": ({"host_dirty": np.zeros((2, 2), np.uint64)}, "the blocks need"),
    "bitmaps too short": ({"host_dirty": np.zeros((3, 1), np.uint64)}, "the blocks need"),
    "no epochs": (
        {
            "cache_dirty": np.zeros((0, 2), np.uint64),
            "host_dirty": np.zeros((0, 2), np.uint64),
            "flush_seconds": np.zeros(0),
        },
        "no epochs",
    ),
    "negative time": ({"flush_seconds": np.array([-1.0, 0, 0])}, "negative time"),
    "infinite time": ({"flush_seconds": np.array([np.inf, 0, 0])}, "infinite"),
    "times too few": ({"flush_seconds": np.zeros(2)}, "2 entries for 3 epochs"),
}


@pytest.mark.parametrize("what", REFUSED_TRACES)
def test_traces(what: str, tmp_path: Path) -> None:
    changed, message = REFUSED_TRACES[what]
    with pytest.raises(TraceError, match=message):
        traces.load(saved(tmp_path / "t.npz", **changed))


def test_a_guest_that_is_too_large_for_its_file(tmp_path: Path) -> None:
    """Bitmaps of 2^28 words that hold no epoch: nothing may be allocated for such a guest."""
    length = np.array([2**44], np.uint64)
    empty = np.zeros((0, 2**28), np.uint64)
    path = saved(
        tmp_path / "t.npz",
        page_size=np.uint64(1024),
        block_name=np.array(["ram"]),
        block_offset=np.array([0], np.uint64),
        block_used_length=length,
        block_max_length=length,
        cache_dirty=empty,
        host_dirty=empty,
        flush_seconds=np.zeros(0),
    )
    with pytest.raises(TraceError, match="no epochs"):
        traces.load(path)


@pytest.mark.parametrize("shape", ["(3, 2", "(3, 1000000000000)", "(-3, -2)", "(3, 2, 1)", "3"])
def test_a_header_that_lies(shape: str, tmp_path: Path) -> None:
    """The npy header of a bitmap names another shape than the bytes that follow it."""
    import zipfile

    path, good = tmp_path / "t.npz", saved(tmp_path / "good.npz")
    with zipfile.ZipFile(good) as whole, zipfile.ZipFile(path, "w") as lying:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "cache_dirty.npy":
                header = f"{{'descr': '<u8', 'fortran_order': False, 'shape': {shape}, }}".encode()
                header = header.ljust(117) + b"\n"
                data = (
                    b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data[128:]
                )
            lying.writestr(name, data)
    with pytest.raises(TraceError, match=r"cache_dirty|whole trace"):
        traces.load(path)


@pytest.mark.parametrize("keep", [0, 1, 30, 100, 2000, 5000])
def test_a_file_cut_off(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes((TRACES / "colo-idle-512m.npz").read_bytes()[:keep])
    with pytest.raises(TraceError, match="whole trace"):
        traces.load(path)


def test_no_file_and_no_zip(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        traces.load(tmp_path / "none.npz")
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        traces.load(tmp_path)
    plain = io.BytesIO()
    np.save(plain, np.zeros(3))
    (tmp_path / "plain.npz").write_bytes(plain.getvalue())
    with pytest.raises(TraceError, match="whole trace"):
        traces.load(tmp_path / "plain.npz")


# --- traces that are written ---------------------------------------------------------------------


def small_trace(**changed: Any) -> traces.Trace:
    """Two epochs of 60 used pages, some fields changed."""
    words = np.array([[1], [2**59]], np.uint64)
    whole: dict[str, Any] = {
        "layout": Layout((RamBlock("pc.ram", 0, 60 * PAGE, 64 * PAGE),), PAGE),
        "cache_dirty": words,
        "host_dirty": words[::-1],
        "flush_seconds": np.array([0.25, np.nan]),
        "source": "a test",
    }
    return traces.Trace(**(whole | changed))


def two_blocks(kind: Any) -> Layout:
    """Bit 64 in the one layout is bit 1 in the other."""
    blocks = (RamBlock("a", 0, PAGE, PAGE), RamBlock("b", PAGE, 63 * PAGE, 63 * PAGE))
    return Layout(blocks, PAGE, kind)


TEXTS = ["a test", "", " two  blanks ", "naïve ☃ 🦊", "[link=file:///]x[/link]", np.str_("text")]
ROUND_TRIPS: dict[str, Callable[[], traces.Trace]] = {
    **{f"source {text!r}": lambda text=text: small_trace(source=text) for text in TEXTS},  # type: ignore[misc]
    "names": lambda: small_trace(
        layout=Layout(
            tuple(RamBlock(name, 64 * PAGE * i, 0, PAGE) for i, name in enumerate(TEXTS) if name),
            PAGE,
        ),
        cache_dirty=np.zeros((2, 6), np.uint64),
        host_dirty=np.zeros((2, 6), np.uint64),
    ),
    "no block": lambda: small_trace(
        layout=Layout((), PAGE),
        cache_dirty=np.zeros((2, 0), np.uint64),
        host_dirty=np.zeros((2, 0), np.uint64),
    ),
    "Fortran order": lambda: small_trace(
        layout=two_blocks("global"),
        cache_dirty=np.asfortranarray(np.array([[1], [2]], np.uint64)),
    ),
    "every other word": lambda: small_trace(host_dirty=np.zeros((4, 2), np.uint64)[::2, ::2]),
    "read-only": lambda: small_trace(host_dirty=np.broadcast_to(np.uint64(4), (2, 1))),
    "times of float32": lambda: small_trace(flush_seconds=np.array([0.25, np.nan], np.float32)),
    "times in a list": lambda: small_trace(flush_seconds=[0.25, float("nan")]),
    "largest page": lambda: small_trace(
        layout=Layout((RamBlock("a", 0, 2 << 20, 2 << 20),), 2 << 20),
        cache_dirty=np.ones((2, 1), np.uint64),
        host_dirty=np.ones((2, 1), np.uint64),
    ),
}


@pytest.mark.parametrize("what", ROUND_TRIPS)
def test_a_trace_loads_as_it_was_saved(what: str, tmp_path: Path) -> None:
    trace = ROUND_TRIPS[what]()
    traces.save(trace, tmp_path / "t.npz")
    again = traces.load(tmp_path / "t.npz")
    assert (again.layout, again.source) == (trace.layout, trace.source)
    for name in ("cache_dirty", "host_dirty", "flush_seconds"):
        np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))


REFUSED_SAVES: dict[str, tuple[Callable[[], Any], str]] = {
    "per-block layout": (
        lambda: small_trace(
            layout=two_blocks("per-block"),
            cache_dirty=np.zeros((2, 2), np.uint64),
            host_dirty=np.zeros((2, 2), np.uint64),
        ),
        "per-block",
    ),
    "no trace": (lambda: None, "give a Trace"),
    "no layout": (lambda: small_trace(layout=None), "give a Trace"),
    "bits in the other byte order": (
        lambda: small_trace(host_dirty=np.ones((2, 1), ">u8")),
        "expected uint64",
    ),
    "bits of int64": (lambda: small_trace(host_dirty=np.ones((2, 1), np.int64)), "is int64"),
    "bits of bool": (lambda: small_trace(host_dirty=np.ones((2, 1), bool)), "is bool"),
    "one epoch flat": (lambda: small_trace(host_dirty=np.ones(1, np.uint64)), "2-d"),
    "ragged": (lambda: small_trace(host_dirty=[[1], [1, 2]]), "host_dirty"),
    "too many words": (lambda: small_trace(host_dirty=np.ones((2, 2), np.uint64)), "need"),
    "stray bit": (lambda: small_trace(host_dirty=np.full((2, 1), 2**60, np.uint64)), "page 60"),
    "no epochs": (
        lambda: small_trace(
            cache_dirty=np.zeros((0, 1), np.uint64),
            host_dirty=np.zeros((0, 1), np.uint64),
            flush_seconds=np.zeros(0),
        ),
        "no epochs",
    ),
    "times too few": (lambda: small_trace(flush_seconds=np.zeros(1)), "1 entries for 2"),
    "times of integers": (lambda: small_trace(flush_seconds=[1, 2]), "flush_seconds is int64"),
    "time infinite": (lambda: small_trace(flush_seconds=[np.inf, 0]), "infinite"),
    "source of two lines": (lambda: small_trace(source="a\nb"), "printable"),
    "source of escape codes": (lambda: small_trace(source="\x1b[2J"), "printable"),
    "source that ends in a NUL": (lambda: small_trace(source="a\0"), "would not load"),
    "source of half a character": (lambda: small_trace(source="\ud800"), "printable"),
    "source of bytes": (lambda: small_trace(source=b"a"), "expected text"),
    "source none": (lambda: small_trace(source=None), "expected text"),
}


@pytest.mark.parametrize("what", REFUSED_SAVES)
def test_a_trace_that_would_not_load_as_it_is_is_not_saved(what: str, tmp_path: Path) -> None:
    make, message = REFUSED_SAVES[what]
    path = tmp_path / "t.npz"
    traces.save(small_trace(), path)
    before = path.read_bytes()
    with pytest.raises(TraceError, match=message):
        traces.save(make(), path)
    assert path.read_bytes() == before, "the older file is kept"
