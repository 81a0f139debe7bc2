"""Text from outside, wherever a command prints or draws it: shown as it is, and nothing but shown."""

import ast
import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from impl.__main__ import main as impl
from impl.display.terminal import console
from impl.ports.build import main as build
from impl.traces import format as traces
from model.boundary.output import CANNOT_WRITE
from model.ram import Block, Layout
from model.replay import main as replay
from proofs.__main__ import main as proofs
from tests.conformance.__main__ import main as conformance
from tests.impl.test_bad_input import members
from tests.trace import main as validate

#: What a terminal, rich's markup, matplotlib's formulas, a format or a log reader may stumble over.
PRINTABLE = [
    *("[/nothing]", "[link=https://example.org]here[/link]", "[bold red]", "[", "]", "[]", "\\["),
    *(":warning:", "$x$", "$\\frac$", "$", "\\", "%s %n", "{0} {}", "<b>&amp;", "é𝕏漢", "a" * 300),
]
UNPRINTABLE = [
    *(
        "\x1b[31mred",
        "\x1b]8;;https://example.org\x07here",
        "\x9b31m",
        "\x07",
        "\r",
        "\x7f",
        "\x85",
    ),
    *(
        "one\ntwo",
        "one\r\nerror: none",
        "\u2028",
        "\u202etxt",
        "\u2066",
        "\ud800",
        "\x00",
        "\ue000",
    ),
]
MEGABYTE = "x[/x]\x1b[0m" * (1 << 17)


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "4000")


def assert_harmless(shown: str) -> None:
    """What was printed would move no cursor, and is no longer than somebody could scroll over."""
    bad = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
    assert bad <= {"\n"}
    assert len(shown) < 100_000


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert_harmless(captured.out + captured.err)
    return captured.out + captured.err


def on_one_line(text: str) -> str:
    """Without blanks and line ends: a title is wrapped to the width of its table."""
    return "".join(text.split())


def a_trace(path: Path, source: str = "made here", name: str = "pc.ram") -> Path:
    words = np.ones((2, 1), np.uint64)
    layout = Layout((Block(name, 0, 4096, 4096),), 4096)
    traces.save(traces.Trace(layout, words, words, np.full(2, np.nan), source), path)
    return path


@pytest.mark.parametrize("text", PRINTABLE)
def test_a_source_is_shown_as_it_is(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = a_trace(tmp_path / "t.npz", source=f"<{text}>")
    assert impl(["flush", str(trace)]) == 0
    assert on_one_line(f"<{text}>") in on_one_line(said(capsys))


@pytest.mark.parametrize("member", ["source", "block_name"])
@pytest.mark.parametrize("text", [*UNPRINTABLE, MEGABYTE])
def test_a_trace_with_unprintable_text_is_refused(
    tmp_path: Path, member: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text == "\x00":
        text = "\x00x"  # NumPy's text ends before a NUL at its end
    path = tmp_path / "t.npz"
    changed = np.array(text) if member == "source" else np.array([text, "rom"])
    np.savez(path, **members(**{member: changed}))
    for words in (["flush", str(path)], ["plot", str(path), "-o", str(tmp_path / "x")]):
        assert impl(words) == 1
        assert "error: " in said(capsys)


def file_names() -> Iterator[str]:
    for text in (*PRINTABLE[::3], *UNPRINTABLE[::2]):
        name = text.replace("/", "|").replace("\0", "0")
        try:
            yield f"a{os.fsdecode(os.fsencode(name)[:200])}z"
        except UnicodeEncodeError:  # no file has such a name; bytes that are no UTF-8 are read as
            yield "a\udc80z"


@pytest.mark.parametrize("name", sorted(set(file_names())))
def test_a_file_of_any_name(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    trace = a_trace(tmp_path / f"{name}.npz")
    figure = tmp_path / f"{name}.svg"
    assert impl(["flush", str(trace)]) == 0
    assert impl(["bench", "--simulate", "--traces", str(trace)]) == 0
    assert impl(["plot", str(trace), "-o", str(figure)]) == 0
    title = "".join(ElementTree.parse(figure).getroot().itertext())
    assert_harmless(title)
    shown = said(capsys)
    if name.isprintable():
        assert on_one_line(f"{name}.npz") in on_one_line(shown) and name in title
    trace.write_bytes(b"no trace")
    assert impl(["flush", str(trace)]) == 1
    assert impl(["bench", "--simulate", "--traces", str(trace)]) == 1
    for main, code in ((replay, 2), (validate, 2), (build, 1)):
        assert main([str(trace)]) == code
    assert conformance(["--library", str(tmp_path / f"{name}.so")]) == 2
    assert impl(["plot", str(trace), "-o", str(tmp_path / "no" / name)]) == CANNOT_WRITE
    said(capsys)


def counterexample(text: str) -> dict[str, Any]:
    return {
        "claim": text,
        "control": text,
        "fault": None,
        "scenario": "two shares",
        "values": {"pages": 64, "threads": 2, "one": 0, "other": 1, "page": 0, "other_page": 0},
        "steps": [text],
        "failure": text,
    }


@pytest.mark.parametrize("text", [*PRINTABLE, *UNPRINTABLE, MEGABYTE])
@pytest.mark.parametrize("where", ["claim", "control", "scenario", "fault", "values", "steps"])
def test_a_counterexample(
    tmp_path: Path, text: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for evil in (text, [text], {text: text}, None, 10**4000):
        data = counterexample("a claim") | {where: evil}
        path = tmp_path / "x.json"
        path.write_text(json.dumps(data, default=str) if evil != 10**4000 else str(data))
        assert replay([str(path)]) in (0, 1, 2)
        said(capsys)


@pytest.mark.parametrize("text", [*PRINTABLE, *UNPRINTABLE, MEGABYTE])
def test_a_log_of_events(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.ndjson"
    head = json.dumps({"log": "pool events", "workers": 1})
    for line in (
        {"worker": 0, "event": text, text: 1},
        {text: text},
        {"worker": text},
        [text],
        text,
    ):
        path.write_text(f"{head}\n{json.dumps(line)}\n")
        assert validate([str(path)]) in (1, 2)
        said(capsys)


COMMANDS: list[tuple[Callable[[list[str]], int], list[str]]] = [
    (proofs, ["--only"]),
    (proofs, ["--json", "x", "--nonsense"]),
    (impl, ["flush", "--strategy"]),
    (impl, ["bench", "--only", "nothing", "--traces"]),
    (impl, []),
    (conformance, ["--implementation", "impl", "--only"]),
    (conformance, ["--implementation"]),
]


@pytest.mark.parametrize("text", [*PRINTABLE, *UNPRINTABLE, MEGABYTE[:100_000]])
def test_arguments(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for main, words in COMMANDS:
        try:
            assert main([*words, f"x{text}"]) != 0
        except SystemExit as refused:
            assert refused.code != 0
        said(capsys)


def test_no_console_reads_markup() -> None:
    """What is printed on one made elsewhere would be read, not shown."""
    root, found = Path(__file__).parents[2], []
    for path in (
        p for name in ("impl", "model", "proofs", "tests") for p in (root / name).rglob("*.py")
    ):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Console":
                told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert (told.get("markup"), told.get("emoji")) == ("False", "False"), path
                found.append(path.name)
    assert "terminal.py" in found


def test_the_console_shows_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The control: rich's own console would not."""
    from rich.console import Console

    console().print("[bold]x[/bold] :warning:")
    assert capsys.readouterr().out == "[bold]x[/bold] :warning:\n"
    Console().print("[bold]x[/bold]")
    assert capsys.readouterr().out == "x\n"
