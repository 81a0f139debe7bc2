"""Traces made to cost much: little memory for little guests, bounded work, an error for the rest."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl import TraceError
from impl.__main__ import main as impl
from impl.bitmap import pages_of, untouched_zeros
from impl.errors import TooLittleMemory
from impl.machine import memory
from impl.machine.memory import check_memory
from impl.ports.build import main as build
from impl.traces import format as traces
from impl.traces.holes import HOLE_PAGES, without_holes
from model.ram import PAGES_PER_WORD, Block, Layout, Region
from model.replay import main as replay
from tests.impl.test_bad_input import members
from tests.trace import main as validate

PAGE = 4096


def one_page_far_up(path: Path, page: int, most: int = 1) -> Path:
    """A guest of one page, dirty, ``page`` pages up; the file is a thousandth of its bitmaps."""
    layout = Layout((Block("far", page * PAGE, PAGE, most * PAGE),), PAGE)
    cache, host = untouched_zeros(1, layout.words), untouched_zeros(1, layout.words)
    cache[0, page // 64] = 1 << page % 64
    trace = traces.Trace(layout, cache, host, np.array([np.nan]), "made here")
    traces.save(trace, path)
    return path


#: Run in a process of its own: the most memory it had, in KiB, after each of some commands.
PEAKS = """
import contextlib, io, resource, sys
from impl.__main__ import main
for words in (line.split() for line in sys.argv[1:]):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(words) == 0, words
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_guest_of_one_page_takes_little_memory_wherever_it_lies(tmp_path: Path) -> None:
    near = one_page_far_up(tmp_path / "near.npz", 3)
    far = one_page_far_up(tmp_path / "far.npz", (1 << 27) + 3)
    large = one_page_far_up(tmp_path / "large.npz", 3, most=1 << 27)
    assert max(far.stat().st_size, large.stat().st_size) < 50_000
    runs = [
        f"{words.format(trace)}{more}"
        for trace in (near, far, large)
        for words, more in (
            ("flush {}", " --threads 2"),
            ("plot {}", f" -o {tmp_path}/x.svg"),
            ("bench --simulate --traces {}", ""),
        )
    ]
    child = subprocess.run([sys.executable, "-c", PEAKS, *runs], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    peaks = [int(line) for line in child.stdout.split()]
    assert len(peaks) == 9
    assert peaks[-1] - peaks[2] < 24 << 10, "the bitmaps of the far guest alone are 32 MiB"


pieces = st.sampled_from([0, 1, 2, 63, 64, 65, 511, 512, 513, 575, 576, 577, 100_003])
blocks = st.lists(st.tuples(pieces, pieces, pieces), min_size=1, max_size=6)


def pages_in(trace: traces.Trace, which: str, epoch: int, region: Region) -> list[int]:
    """A block's dirty pages, counted from its first."""
    pages = pages_of(getattr(trace, which)[epoch]).tolist()
    return [page - region.first_bit for page in pages if page in region.bits]


@given(parts=blocks, order=st.randoms(), data=st.data())
def test_without_holes_each_page_keeps_its_bit_and_its_neighbours(
    parts: list[tuple[int, int, int]], order: Any, data: st.DataObject
) -> None:
    """``parts``: for each block the hole before it, its used pages, and what it may grow by."""
    made, end = [], 0
    for number, (hole, used, more) in enumerate(parts):
        first = end + hole
        made.append(Block(f"b{number}", first * PAGE, used * PAGE, (used + more) * PAGE))
        end = first + used + more
    order.shuffle(made)
    layout = Layout(tuple(made), PAGE)
    rows = np.zeros((2, 3, layout.words), np.uint64)
    for region in filter(lambda region: region.bits, layout.regions):
        for row in rows.reshape(6, -1):
            for page in data.draw(st.sets(st.sampled_from(region.bits), max_size=3)):
                row[page // 64] |= np.uint64(1 << page % 64)
    cache, host = rows
    trace = traces.Trace(layout, cache, host, np.zeros(3), "made here")
    cut = without_holes(trace)

    assert [b.name for b in cut.layout.blocks] == [b.name for b in layout.blocks]
    shifts = {}
    for old, new in zip(layout.regions, cut.layout.regions, strict=True):
        assert new.used_pages == old.used_pages
        if old.max_pages:
            shifts[old.first_bit] = old.first_bit - new.first_bit
            assert shifts[old.first_bit] % PAGES_PER_WORD == 0 <= shifts[old.first_bit]
        for epoch in range(3):
            for which in ("cache_dirty", "host_dirty"):
                assert pages_in(trace, which, epoch, old) == pages_in(cut, which, epoch, new)
    assert [shifts[first] for first in sorted(shifts)] == sorted(shifts.values()), "same order"
    used = sum(region.used_pages for region in layout.regions)
    assert cut.layout.pages <= used + len(made) * 2 * (HOLE_PAGES + PAGES_PER_WORD)
    if all(max(hole, more) <= HOLE_PAGES and used + more for hole, used, more in parts):
        assert cut is trace


BOMBS: dict[str, dict[str, Any]] = {
    "source": {"source": np.zeros((), "<U9000000")},
    "block_name": {"block_name": np.zeros(2, "<U9000000")},
    "flush_seconds": {"flush_seconds": np.zeros(5_000_000)},
    "blocks": {
        "block_name": np.array([f"b{n}" for n in range(20_000)]),
        **{f"block_{what}": np.zeros(20_000, np.uint64) for what in traces.LENGTHS},
    },
    "long source": {"source": np.array("x" * 5000)},
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_small_file_that_unpacks_to_much(tmp_path: Path, what: str) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, **members(**BOMBS[what]))
    with pytest.raises(TraceError, match=r"more than|at most"):
        traces.load(path)


def repacked(path: Path, **how: Any) -> Path:
    """The small trace in another zip."""
    whole = io.BytesIO()
    np.savez(whole, **members())
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return path


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_packings_that_numpy_does_not_use(tmp_path: Path, packing: int) -> None:
    with pytest.raises(TraceError, match="packed in another way"):
        traces.load(repacked(tmp_path / "t.npz", compression=packing))


def test_a_list_of_very_many_members(tmp_path: Path) -> None:
    path = repacked(tmp_path / "t.npz")
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}", b"")
    with pytest.raises(TraceError, match="a list or header of"):
        traces.load(path)


def test_a_header_that_says_its_length_in_32_bits(tmp_path: Path) -> None:
    member = b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little")
    path = repacked(tmp_path / "t.npz")
    with zipfile.ZipFile(path) as old:
        whole = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, content in (whole | {"source.npy": member}).items():
            archive.writestr(name, content)
    with pytest.raises(TraceError, match="npy format"):
        traces.load(path)


@pytest.mark.parametrize(
    "what", ["/dev/zero", "/dev/null", "/dev/stdin", "pipe", "folder", "loop", "none"]
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    path = str(tmp_path / what)
    for words in (
        ["flush", path],
        ["plot", path, "-o", str(tmp_path / "x")],
        ["bench", "--simulate", "--traces", path],
    ):
        assert impl(words) == 1
    assert [replay([path]), validate([path]), build([path])] == [2, 2, 1]
    assert capsys.readouterr().err.count("error: ") == 6


@pytest.mark.parametrize("blocks", [(), (Block("nowhere", 1 << 40, 0, 0),)])
def test_a_guest_without_a_page(
    tmp_path: Path, blocks: tuple[Block, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(blocks, PAGE)
    clear = untouched_zeros(2, layout.words)
    path = tmp_path / "t.npz"
    traces.save(traces.Trace(layout, clear, clear, np.zeros(2), "made here"), path)
    assert impl(["flush", str(path)]) == 0
    assert impl(["bench", "--simulate", "--traces", str(path)]) == 0
    if not blocks:
        assert impl(["plot", str(path), "-o", str(tmp_path / "x")]) == 1
        assert "nothing to draw" in capsys.readouterr().err


def test_a_guest_larger_than_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_page_far_up(tmp_path / "t.npz", 0)
    monkeypatch.setattr(memory, "available", lambda: 4096)
    assert impl(["flush", str(path)]) == 1
    assert "takes 1 MiB of memory and 0 are to be had" in capsys.readouterr().err
    assert impl(["demo", "--ram", "64M", "--checkpoints", "1"]) == 1
    assert impl(["bench", "--ram", "64M", "--only", "nothing", "--traces"]) == 1


def test_memory_within_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of either version, files in memory counted as free; and the machine's own."""
    gibi = 1 << 30
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  8388608 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(
        memory, "cgroups", lambda _: [tmp_path / "v1", tmp_path / "v2", tmp_path / "no"]
    )
    assert memory.available() == 8 * gibi
    files = {
        "v2/memory.max": "max",
        "v2/memory.current": str(gibi),
        "v1/memory.limit_in_bytes": str(2**63 - 4096),
        "v1/memory.usage_in_bytes": str(gibi),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert memory.available() == 8 * gibi
    (tmp_path / "v1/memory.limit_in_bytes").write_text(f"{5 * gibi}\n")
    assert memory.available() == 4 * gibi
    (tmp_path / "v2/memory.max").write_text(f"{2 * gibi}\n")
    assert memory.available() == gibi
    (tmp_path / "v2/memory.stat").write_text(f"anon 5\ninactive_file {gibi // 2}\n")
    assert memory.available() == 3 * gibi // 2
    check_memory(gibi, "one GiB")
    with pytest.raises(TooLittleMemory, match="two GiB takes 2,048 MiB of memory and 1,459 are"):
        check_memory(2 * gibi, "two GiB")
