"""The benchmark: that it measures what it says, and refuses a contender that does not flush. No times."""

import ctypes
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest

from impl import Block, ColoRam, FlushPool
from impl.__main__ import main
from impl.bench import guests, measures, patterns
from impl.bench.command import Bench
from impl.bench.command import _single_measures as single_measures
from impl.bench.measures import ours
from impl.bench.paired import Contender, PairedRuns, WrongResult
from impl.bench.patterns import Epoch, Pattern, synthetic
from impl.bench.scaling import thread_numbers
from impl.ports.build import _COMPILERS as COMPILERS
from model.page.page import FOLDER
from tests.support.needs import needs_cc

SCHEMA = json.loads((FOLDER / "schema.json").read_text())
PAGES = 4096
TRACE = str(Path(__file__).parents[1] / "traces" / "colo-idle-512m.npz")
BENCH = ["bench", "--ram", "16M", "--threads", "2", "--seconds", "0", "--traces"]


@needs_cc
def test_a_row_has_every_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours by strategy and threads, each C port with both memcpys, our design in C and Rust, four copy
    limits."""
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    arguments = [*BENCH, "--only", "64 pages", "--json", str(found), "--plot", str(plot)]
    assert main(arguments) == 0
    document = json.loads(found.read_text())
    jsonschema.validate(document, SCHEMA)
    [row] = document["patterns"]
    twins = ("C", "Rust") if document["left_out"] is None else ("C",)
    assert row["pages"] == 64 and document["maps"] == []
    assert set(row["median_ns"]) == {
        *("serial", "dynamic, 1", "dynamic, 2", "static, 2", "queue, 2"),
        *(f"C serial walk, 1, memcpy {memcpy}" for memcpy in ("called", "inlined")),
        *(f"C patch, 2, memcpy {memcpy}" for memcpy in ("called", "inlined")),
        *(f"C coalescing, 1, memcpy {memcpy}" for memcpy in ("called", "inlined")),
        *(f"the same design in {language}, 2" for language in twins),
        *(f"copy limit: {mode}" for mode in ("memcpy", "streaming", "streaming, fetching ahead")),
        "copy limit: one thread",
    }
    assert row["ratio_to_fastest_c"][row["fastest_c"]]["median"] == 1
    assert "Slower than the fastest C port:" in capsys.readouterr().out
    assert "<svg" in plot.read_text()


def no_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return "install one (Debian: gcc"


def no_rustc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPILERS, "RUSTC", ())
    monkeypatch.delenv("RUSTC", raising=False)


def no_headers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As Debian's gcc is without libc6-dev."""
    compiler = folder / "cc"
    compiler.write_text("#!/bin/sh\necho no stdint.h >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    return "no stdint.h"


def no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nowhere to keep what is built."""
    (folder / "colo-flush").write_text("a file where the folder would be")
    return "set XDG_CACHE_HOME" if shutil.which("cc") else "install one"


@needs_cc
def test_without_rustc_its_port_alone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_rustc(monkeypatch)
    bench = Bench(1, 0)
    bench.close()
    assert bench.left_out is None and bench.lacks is not None
    assert bench.lacks.what == ("the same design in Rust",) and "rustc" in bench.lacks.why


@needs_cc
def test_without_rustc_what_is_slower_than_c_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_rustc(monkeypatch)
    assert main([*BENCH, "--only", "64 pages"]) == 0
    printed = capsys.readouterr().out
    assert "Left out: the same design in Rust." in printed
    assert "Slower than the fastest C port: " in printed


@pytest.mark.parametrize("lack", [no_compiler, no_headers, no_folder])
def test_without_what_c_needs_it_is_left_out(
    lack: Callable[[Path, pytest.MonkeyPatch], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    why = lack(tmp_path, monkeypatch)
    bench = Bench(1, 0)
    bench.close()
    assert bench.left_out is not None and why in bench.left_out


def test_without_a_compiler_our_own_strategies_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = no_compiler(tmp_path, monkeypatch)
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    arguments = [*BENCH, TRACE, "--only", "idle", "--json", str(found), "--plot", str(plot)]
    assert main(arguments) == 0
    document = json.loads(found.read_text())
    [row] = document["patterns"]
    assert set(row["median_ns"]) == {"serial", "dynamic, 1", "dynamic, 2", "static, 2", "queue, 2"}
    assert row["fastest_c"] is None and row["ratio_to_fastest_c"] == {}
    assert row["ratio_to_one_thread"]["serial"]["median"] == 1
    printed = capsys.readouterr().out
    assert why in document["left_out"]["why"] and why in printed
    assert "Left out: the C ports, the same design in C, the copy limit" in printed
    assert "one thread = 1" in printed and "fastest C port" not in printed
    assert "<svg" in plot.read_text()


def test_the_single_measures_need_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_compiler(tmp_path, monkeypatch)
    monkeypatch.setattr(measures, "dispatch", lambda pool: iter(()))
    monkeypatch.setattr(measures, "busy_core", lambda *_: iter(()))
    bench = Bench(2, 0)
    try:
        names = [measure.what for measure in single_measures(bench, 16 << 20)]
    finally:
        bench.close()
    assert "backup / single-threaded memcpy" in names
    assert not any(" C" in name or "plain read" in name for name in names)


def scaled(folder: Path) -> dict[str, Any]:
    found, plot = folder / "found.json", folder / "plot.svg"
    arguments = [*BENCH, "--scaling", "--only", "runs", "--json", str(found), "--plot", str(plot)]
    assert main(arguments) == 0
    document: dict[str, Any] = json.loads(found.read_text())
    jsonschema.validate(document, SCHEMA)
    assert "<svg" in plot.read_text()
    [(name, rows)] = document["speed_ups"].items()
    assert name == "runs of 32"
    assert next(row["ratio"]["median"] for row in rows if row["who"] == "dynamic") == 1
    assert [row[0] for row in document["scaling"][name]] == [1, 2]
    return {f"{row['who']}, {row['threads']}": row["ratio"] for row in rows} | document


@needs_cc
def test_each_number_of_threads_is_measured(tmp_path: Path) -> None:
    found = scaled(tmp_path)
    kinds = "dynamic", "static", "C patch", "the same design in C", "copy limit"
    assert {f"{kind}, {threads}" for kind in kinds for threads in (1, 2)} <= set(found)
    assert found["left_out"] is None


def test_scaling_needs_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = no_compiler(tmp_path, monkeypatch)
    found = scaled(tmp_path)
    assert not any(name.startswith(("C ", "copy", "the same")) for name in found)
    assert why in found["left_out"]["why"]
    assert "Left out: C patch, the same design in C, copy limit." in capsys.readouterr().out


@pytest.fixture
def large_guest(monkeypatch: pytest.MonkeyPatch) -> str:
    """One of a GiB, which is there where it is used."""
    monkeypatch.setattr(guests, "LARGE", {"1 GiB": 1 << 30})
    return guests.title("1 GiB")


def test_a_large_guest_is_there_where_it_is_dirty(
    tmp_path: Path, large_guest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    assert main([*BENCH, "--only", large_guest, "--json", str(found)]) == 0
    [row] = json.loads(found.read_text())["patterns"]
    assert row["pattern"] == large_guest == "1 GiB, 0.1 %"
    assert 0.0009 < row["pages"] / 2**18 <= 0.001
    assert f"{large_guest}: dynamic / one thread" in capsys.readouterr().out
    pattern = guests.pattern("1 GiB")
    used = np.zeros(2**18, np.bool_)
    ram = guests.sparse_ram(1 << 30)
    PairedRuns(ram, pattern.epochs[0].pages)
    used[pattern.epochs[0].pages] = True
    for memory in (ram.block("ram").host, ram.block("ram").cache):
        assert np.array_equal(resident(memory), used), "no page but the dirty ones"


def resident(memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pages of so much memory are there."""
    pages = np.empty(len(memory) // 4096, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    where = (ctypes.c_void_p(array.ctypes.data) for array in (memory, pages))
    start, answer = where
    assert libc.mincore(start, ctypes.c_size_t(len(memory)), answer) == 0
    return (pages & 1).astype(np.bool_)


def test_a_large_guest_without_memory_is_left_out_and_named(
    large_guest: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(guests, "memory", lambda _: 1 << 60)
    found = tmp_path / "found.json"
    assert main([*BENCH, "--only", "1 GiB", "--json", str(found)]) == 0
    assert "left out: a guest of 1 GiB takes" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--scaling"]], ids=["contest", "scaling"])
def test_a_name_that_no_pattern_has_is_refused(
    how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*BENCH, TRACE, *how, "--only", "2 pages"])
    said = capsys.readouterr().err
    assert "--only: no pattern has '2 pages' in its name: nothing, 1 page, 4 pages, " in said
    assert "runs of 32, colo-idle-512m, 64 GiB, 0.1 %, 1 TiB, 0.1 %\n" in said


@pytest.mark.parametrize("how", [[], ["--scaling"]], ids=["contest", "scaling"])
def test_what_was_measured_is_kept_when_a_later_pattern_fails(
    how: list[str], tmp_path: Path, large_guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> Pattern:
        raise WrongResult("the second fails")

    monkeypatch.setattr(guests, "pattern", fails)
    found = tmp_path / "found.json"
    arguments = [*BENCH, *how, "--only", "1", "--traces", "--json", str(found)]
    monkeypatch.setattr(patterns, "synthetic", lambda pages: [pattern("1 page")])
    assert main([*arguments]) == 1
    document = json.loads(found.read_text())
    jsonschema.validate(document, SCHEMA)
    names = document["speed_ups"] if how else [row["pattern"] for row in document["patterns"]]
    assert list(names) == ["1 page"]


@pytest.mark.parametrize(("most", "numbers"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
def test_threads_are_doubled_up_to_all(most: int, numbers: list[int]) -> None:
    assert thread_numbers(most) == numbers


def test_scaling_is_computed_from_a_trace(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    assert main(["bench", "--simulate", "--traces", TRACE, "--json", str(found)]) == 0
    document = json.loads(found.read_text())
    jsonschema.validate(document, SCHEMA)
    [rows] = document["scaling"].values()
    assert [row[0] for row in rows] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert rows[0][1:] == [1, 1, 1]
    assert all(1 <= speed_up <= threads for threads, *speed_ups in rows for speed_up in speed_ups)


@pytest.fixture(scope="module")
def ram() -> ColoRam:
    return ColoRam([Block("ram", size=PAGES * 4096)])


def pattern(name: str) -> Pattern:
    return next(pattern for pattern in synthetic(PAGES) if pattern.name == name)


def test_a_page_written_far_from_all_dirty_ones_is_found_in_the_end(
    ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    """After a pattern's contenders, at the latest."""
    runs, few = PairedRuns(ram), pattern("1 page")
    sound = ours("sound", pools[2], ram, "dynamic")
    runs.run(few, [sound], seconds=0)
    page = (int(few.epochs[0].pages[0]) + 1000) % PAGES

    def flush(epoch: Epoch) -> int:
        ram.block("ram").host[page * 4096] ^= 1
        return sound.flush(epoch)

    with pytest.raises(WrongResult, match=f"one of the contenders: page {page} "):
        runs.run(few, [Contender("stray", "ours", flush)], seconds=0)
    ram.block("ram").host[page * 4096] ^= 1


def leaves_a_page_as_it_was(ram: ColoRam, epoch: Epoch) -> None:
    page, host = int(epoch.pages[-1]), ram.block("ram").host
    host[page * 4096] ^= 1


def leaves_a_bit_set(ram: ColoRam, epoch: Epoch) -> None:
    ram.host_dirty[0] |= np.uint64(1)


def leaves_a_count(ram: ColoRam, epoch: Epoch) -> None:
    ram.dirty_pages = 1


@pytest.mark.parametrize("fault", [leaves_a_page_as_it_was, leaves_a_bit_set, leaves_a_count])
def test_a_contender_that_does_not_flush_is_refused(
    fault: Callable[[ColoRam, Epoch], None], ram: ColoRam, pools: dict[int, FlushPool]
) -> None:
    """The control: the same contender passes without the fault."""
    sound = ours("sound", pools[2], ram, "dynamic")

    def flush(epoch: Epoch) -> int:
        took = sound.flush(epoch)
        fault(ram, epoch)
        return took

    epoch = pattern("10 % random").epochs[0]
    PairedRuns(ram).check(sound, epoch)
    with pytest.raises(WrongResult, match="broken"):
        PairedRuns(ram).check(Contender("broken", "ours", flush), epoch)


def taking(times: Iterator[int]) -> Callable[[Epoch], int]:
    """A flush that takes these times, one after the other."""
    return lambda _: next(times)


def test_ratios_are_taken_within_a_round(ram: ColoRam) -> None:
    """A machine that slows down by the round changes no ratio."""
    times = {"fast": iter(range(10, 1000, 10)), "slow": iter(range(30, 3000, 30))}
    contenders = [Contender(n, "copy limit", taking(took)) for n, took in times.items()]
    runs = PairedRuns(ram)
    runs.check = lambda *_: None  # type: ignore[method-assign]
    ratio = runs.run(pattern("nothing"), contenders, seconds=0).ratio("fast", to="slow")
    assert (ratio.low, ratio.median, ratio.high) == (3, 3, 3)
