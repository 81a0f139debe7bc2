"""What is generated of the benchmark's results: RESULTS.md and README.md hold what the files say."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from impl.__main__ import main
from impl.bench import report
from impl.bench.figures import told
from impl.bench.report import GENERATED, README, Results, results_there, with_text
from model.page.document import Document, document, save
from tests.support.needs import needs_git


def ratios(**medians: float) -> dict[str, dict[str, float]]:
    return {
        name.replace("_", " "): {"median": median, "low": median - 0.1, "high": median + 0.1}
        for name, median in medians.items()
    }


def pattern(name: str, pages: int, ours: float) -> dict[str, Any]:
    found = {**ratios(serial=0.8), "dynamic, 4": ratios(x=ours)["x"], "static, 4": ratios(x=1)["x"]}
    found |= {"queue, 4": ratios(x=1)["x"], "C patch, 4, memcpy called": ratios(x=0.5)["x"]}
    found |= {"copy limit: streaming": ratios(x=1.75)["x"], "C coalescing, 1": ratios(x=1)["x"]}
    return {
        "pattern": name,
        "pages": pages,
        "fastest_c": "C coalescing, 1",
        "best_copy_limit": "copy limit: streaming",
        "median_ns": {who: 1000 / ratio["median"] for who, ratio in found.items()},
        "ratio_to_one_thread": found,
        "ratio_to_fastest_c": found,
    }


def measured(name: str, ours: float = 1.5) -> Document:
    machine = {"processor": name, "model": f"{name}, model 1", "cpus": 4, "threads": 4}
    missed = {"what": "1 page: x", "value": 0.5, "unit": "x", "target": "at least 1", "met": False}
    return document(
        "bench",
        machine={**machine, "ram_bytes": 2 << 30, "commit": "abc1234"},
        patterns=[pattern("nothing", 0, ours), pattern("1 page", 1, ours)],
        measures=[missed],
        left_out=None,
        scaling={},
        maps=[],
    )


def of_eight_threads(name: str) -> Document:
    """Twice as many threads are one time as fast more, on the one pattern."""
    found = measured(name)
    who = {f"dynamic, {1 << n}": ratios(x=n + 1)["x"] for n in range(4)}
    who |= {"static, 8": ratios(x=2)["x"], "C patch, 8, memcpy called": ratios(x=1)["x"]}
    who |= {
        "copy limit: streaming": ratios(x=6)["x"],
        **ratios(serial=1),
        "queue, 8": ratios(x=1)["x"],
    }
    row = {
        **pattern("16 MiB", 4096, 1),
        "fastest_c": "C patch, 8, memcpy called",
        "median_ns": {name: 1000 / ratio["median"] for name, ratio in who.items()},
        "ratio_to_one_thread": who,
        "ratio_to_fastest_c": who,
    }
    machine = {**found["machine"], "cpus": 8, "threads": 8}
    return {**found, "machine": machine, "patterns": [row]}


def scaled(name: str, threads: int) -> Document:
    """Twice as many threads are one time as fast more."""
    numbers = [1 << power for power in range(threads.bit_length())]

    def at(number: int, share: float) -> dict[str, float]:
        return dict.fromkeys(("median", "low", "high"), share * number.bit_length())

    kinds = {"dynamic": 1.0, "static": 0.5, "C patch": 0.25, "copy limit": 1.5}
    rows = [
        {"who": kind, "threads": number, "ratio": at(number, share)}
        for kind, share in kinds.items()
        for number in numbers
    ]
    machine = {"processor": name, "model": f"{name}, model 1", "cpus": threads, "threads": threads}
    return document(
        "bench",
        machine={**machine, "ram_bytes": 1 << 30, "commit": "abc1234"},
        speed_ups={"16 MiB": rows, "1 page": rows},
        left_out=None,
        scaling={key: [[n, 1.0, float(n), 1.0] for n in numbers] for key in ("16 MiB", "1 page")},
        maps=[],
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results, and copies of the files that are generated."""
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "PLOT", tmp_path / "speed.svg")
    monkeypatch.setattr(report, "SCALING_PLOT", tmp_path / "scaling.svg")
    copies = {}
    for path, make in GENERATED.items():
        (tmp_path / path.name).write_bytes(path.read_bytes())
        copies[tmp_path / path.name] = make
    monkeypatch.setattr(report, "GENERATED", copies)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "target", "text"),
    [
        (1.1512, "at most 1.15", "1.151"),
        (0.949, "at least 0.95", "0.949"),
        (0.9499996, "at least 0.95", "0.95"),
        (1.15, "at most 1.15", "1.15"),
        (1.158, "at most 1.15", "1.16"),
        (44.481, "", "44.48"),
    ],
)
def test_a_measure_can_be_told_from_its_target(value: float, target: str, text: str) -> None:
    assert told(value, target) == text


def test_each_machine_has_its_columns(folder: Path) -> None:
    for name, ours in (("First", 1.5), ("Second", 0.9)):
        save(folder / f"{name}.json", measured(name, ours))
    assert main(["bench", "--report"]) == 0
    readme = (folder / "README.md").read_text()
    assert (
        "| 1 page | **1.50 [1.40-1.60]** | 0.50 | 1.75 | **0.90 [0.80-1.00]** | 0.50 | 1.75 |"
        in readme
    )
    assert "First: ours, 4 threads" in readme and "Second: ours, 4 threads" in readme
    assert "* First, slower than the fastest C port: nowhere." in readme
    assert "* Second, slower than the fastest C port: *nothing* 0.90; *1 page* 0.90." in readme
    assert "* First: 4 CPUs, 2 GiB of RAM flushed, at commit abc1234." in readme
    assert "*1 page: x* 0.50 (at least 1)" in readme
    results = (folder / "RESULTS.md").read_text()
    assert "## First\n" in results and "* Second, model 1" in results
    assert "| 1 page | 1 | **1.50 [1.40-1.60]** | 1.00 | 1.00 | 0.80 | 0.50 |" in results
    assert "<svg" in (folder / "speed.svg").read_text()
    before = README.read_text().partition(report.BEGIN)[0]
    assert readme.startswith(before), "all else is as it was"
    again = readme, results
    assert main(["bench", "--report"]) == 0
    assert ((folder / "README.md").read_text(), (folder / "RESULTS.md").read_text()) == again


def test_the_largest_machine_shows_how_it_scales(folder: Path) -> None:
    save(folder / "one.json", measured("First"))
    assert main(["bench", "--report"]) == 0
    readme = (folder / "README.md").read_text()
    assert "Nothing has been timed on more than 4 CPUs" in readme and "speed-up, by" not in readme
    assert not (folder / "scaling.svg").exists()
    save(folder / "two.json", of_eight_threads("Second"))
    for name, threads in (("First", 4), ("Second", 8)):
        save(folder / f"{name}-scaling.json", scaled(name, threads))
    assert main(["bench", "--report"]) == 0
    readme = (folder / "README.md").read_text()
    heads = "2 | 4 | 8 | static, 8 | C patch, 8 | the same design in C, 8 | copy limit, 8"
    assert f"| Second: speed-up, by threads | {heads} |" in readme
    assert "| 16 MiB | 2.00 | 3.00 | 4.00 | 2.00 | 1.00 |  | 6.00 |" in readme
    assert "| First: speed-up" not in readme
    assert "1, 2, 4 ... threads, at commit abc1234. Dotted" in readme
    assert "Nothing has been timed on more than 8 CPUs" in readme
    results = (folder / "RESULTS.md").read_text()
    assert "## First: more and more threads" in results
    row = "| 1 page | static | 0.50 [0.50-0.50] | 1.00 [1.00-1.00] | 1.50 [1.50-1.50] |"
    assert row in results
    assert ">16<" not in (folder / "scaling.svg").read_text()
    assert ">8<" in (folder / "scaling.svg").read_text(), "threads are plain numbers"


def wrong(found: Results) -> list[str]:
    """The files that do not hold what is generated."""
    return [p.name for p, make in GENERATED.items() if with_text(p, make(found)) != p.read_text()]


def test_what_is_shown_is_what_was_measured() -> None:
    """With no result committed there is nothing to hold, but that there is a place for one."""
    found = results_there()
    if found.contests:
        assert wrong(found) == []
    contests = copy.deepcopy(found.contests) or {"First": measured("First")}
    next(iter(contests.values()))["machine"]["cpus"] = 77
    other = Results(contests, found.scalings)
    assert wrong(other) == [path.name for path in GENERATED], "the check can fail"


def test_without_a_result_or_a_place_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "RESULTS.md").read_text()
    assert main(["bench", "--report"]) == 1
    assert "no result is in" in capsys.readouterr().err
    save(folder / "one.json", measured("First"))
    (folder / "README.md").write_text("no marks")
    assert main(["bench", "--report"]) == 1
    assert "README.md has no place for a table" in capsys.readouterr().err
    assert (folder / "RESULTS.md").read_text() == before
    assert not (folder / "speed.svg").exists()


@needs_git
def test_the_commit_that_was_measured() -> None:
    assert len(report.commit().removesuffix("+")) >= 7


def test_outside_a_clone_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "HERE", tmp_path)
    assert report.commit() == ""


def test_results_that_are_committed_are_documents_of_this_version() -> None:
    for path in report.FOLDER.glob("*.json"):
        assert json.loads(path.read_text())["kind"] == "bench"
    results_there()
