"""Every file that a command writes: refused before the work, or whole under exactly its name."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from impl.__main__ import main as impl
from impl.traces import format as traces
from model.boundary.output import CANNOT_WRITE
from model.ram import Block, Layout
from model.replay import main as replay
from proofs.__main__ import main as proofs
from tests.conformance.__main__ import main as conformance
from tests.guest import image
from tests.guest.__main__ import main as guest
from tests.project.test_output import listing, small_files
from tests.support.needs import needs_cc

TRACE = "a small trace's file"
SIMULATE = ("bench", "--simulate", "--traces", TRACE)
BENCH = ("bench", "--ram=1M", "--threads=1", "--seconds=0.01", "--only=nothing", "--traces")
SCHEDULE = "tests/counterexamples/schedule-check-in-never-closes.json"
CLAIM = ("--only", "words.no_shift_by_64", "--jobs", "1")
CHECK = ("--implementation", "impl", "--only", "vector/copying/cache-page")


class Output(NamedTuple):
    """An option that names a file to write: a small run of its command, and where its work begins."""

    main: Callable[[list[str]], int]
    words: tuple[str, ...]
    work: str


FILES = {
    "flush --events": Output(impl, ("flush", TRACE, "--events"), "impl.traces.format.load"),
    "plot -o": Output(impl, ("plot", TRACE, "-o"), "impl.traces.format.load"),
    "bench --simulate --json": Output(impl, (*SIMULATE, "--json"), "impl.traces.format.load"),
    "bench --simulate --plot": Output(impl, (*SIMULATE, "--plot"), "impl.traces.format.load"),
    "bench --simulate --html": Output(impl, (*SIMULATE, "--html"), "impl.traces.format.load"),
    "bench --html": Output(impl, (*BENCH, "--html"), "impl.bench.command.Bench"),
    "bench --json": Output(impl, (*BENCH, "--json"), "impl.bench.command.Bench"),
    "bench --plot": Output(impl, (*BENCH, "--plot"), "impl.bench.command.Bench"),
    "proofs --json": Output(proofs, (*CLAIM, "--json"), "proofs.__main__.processes"),
    "proofs --html": Output(proofs, (*CLAIM, "--html"), "proofs.__main__.processes"),
    "replay --json": Output(replay, (SCHEDULE, "--json"), "model.replay.load"),
    "replay --html": Output(replay, (SCHEDULE, "--html"), "model.replay.load"),
    "conformance --html": Output(
        conformance, (*CHECK, "--html"), "tests.conformance.__main__._run"
    ),
    "conformance --json": Output(
        conformance, (*CHECK, "--json"), "tests.conformance.__main__._run"
    ),
}
#: These make a folder, or need a guest: `tests/recorder/test_record.py` has `record -o`.
REFUSING = FILES | {
    "proofs --export": Output(proofs, (*CLAIM, "--export"), "proofs.__main__.processes"),
    "proofs --record": Output(proofs, (*CLAIM, "--record"), "proofs.__main__.processes"),
    "guest colo -o": Output(guest, ("colo", "-o"), "tests.guest.image.build"),
}
each_file = pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[needs_cc] if output.words[:2] == BENCH[:2] else [])
        for what, output in FILES.items()
    ],
)


@pytest.fixture(scope="module", autouse=True)
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of a guest of three pages."""
    path = tmp_path_factory.mktemp("trace") / "small.npz"
    words = np.array([[1], [6]], np.uint64)
    layout = Layout((Block("pc.ram", 0, 3 * 4096, 3 * 4096),), 4096)
    traces.save(traces.Trace(layout, words, words, np.array([np.nan] * 2), "made here"), path)
    return path


#: Runs the command of an option, the file to write given.
Run = Callable[[str, Path | str], int]


@pytest.fixture
def run(trace: Path) -> Run:
    """Run the command of an option, the file to write given."""

    def run_it(what: str, path: Path | str) -> int:
        words = [str(trace) if word == TRACE else word for word in REFUSING[what].words]
        return REFUSING[what].main([*words, str(path)])

    return run_it


@each_file
def test_it_is_written_under_exactly_the_name_given(run: Run, tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.out"
    assert run(what, path) == 0
    assert listing(tmp_path) == {"x.out"} and path.stat().st_size > 100


@each_file
def test_a_full_disk_is_an_error_that_names_it_and_keeps_the_older_one(
    run: Run, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.out"
    path.write_text("old")
    with small_files(64):
        code = run(what, path)
    said = capsys.readouterr().err
    assert code == CANNOT_WRITE
    assert f"error: {path} cannot be written (File too large)" in said
    assert path.read_text() == "old" and listing(tmp_path) == {"x.out"}


@pytest.mark.parametrize("place", ["no/folder/x", "file/x", "", "/proc/x", "/dev/full/x"])
@pytest.mark.parametrize("what", REFUSING)
def test_where_it_cannot_be_written_the_work_does_not_begin(
    run: Run,
    tmp_path: Path,
    what: str,
    place: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if place == "no/folder/x" and what in ("proofs --export", "proofs --record"):
        return  # a folder that they make
    (tmp_path / "file").touch()
    if place == "" and what in ("proofs --export", "proofs --record"):
        place = "file"
    monkeypatch.setattr(image, "missing_tools", lambda: "")
    monkeypatch.setattr(REFUSING[what].work, lambda *_: pytest.fail("the work began"))
    path = tmp_path / place
    assert run(what, path) == CANNOT_WRITE
    assert "cannot be written (" in capsys.readouterr().err
    assert listing(tmp_path) == {"file"} and (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("what", [what for what in FILES if TRACE in FILES[what].words])
def test_a_trace_is_not_written_over(
    run: Run, what: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trace.read_bytes()
    assert run(what, trace) == CANNOT_WRITE
    assert "would be written over" in capsys.readouterr().err
    assert trace.read_bytes() == before


def test_two_outputs_are_two_files(
    tmp_path: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "x")
    words = ["bench", "--simulate", "--traces", str(trace)]
    assert impl([*words, "--json", path, "--plot", path]) == CANNOT_WRITE
    assert "give each file its own name" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["flush --events", "plot -o"])
def test_a_stream_is_written_as_it_is(
    run: Run, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(what, "/dev/null") == 0
    assert run(what, "/dev/full") == CANNOT_WRITE
    assert "/dev/full cannot be written (No space left on device)" in capsys.readouterr().err
