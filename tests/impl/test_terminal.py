"""What commands print on a narrow terminal: every number whole."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table as OrdinaryTable

from impl.__main__ import main
from impl.display.terminal import Table
from proofs.prover import report
from proofs.prover.catalogue import catalogue
from tests.project.test_foreign_text import a_trace
from tests.support.started import ROOT

NUMBERS = ["1", "123,456", "78.9", "0.123"]


def printed(table: OrdinaryTable, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table)
    assert all(len(line) <= width for line in out.getvalue().splitlines())
    return out.getvalue()


def filled(kind: type[OrdinaryTable]) -> OrdinaryTable:
    table = kind(title="a title")
    for heading in ("#", "dirty pages", "a long heading", "GB/s"):
        table.add_column(heading, justify="right")
    table.add_row(*NUMBERS)
    table.add_row("2", "345,678", "", "9.876")
    return table


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_every_number_is_whole(width: int) -> None:
    found = printed(filled(Table), width)
    for number in (*NUMBERS, "345,678", "9.876", "a title"):
        assert number in found


def test_an_ordinary_table_cuts_them() -> None:
    """The control."""
    assert "123,456" not in printed(filled(OrdinaryTable), 20)


def test_a_wide_terminal_gets_the_table() -> None:
    assert printed(filled(Table), 80) == printed(filled(OrdinaryTable), 80)


def test_a_narrow_one_gets_a_list_of_rows() -> None:
    assert printed(filled(Table), 30).splitlines() == [
        "a title",
        "# 1",
        "  dirty pages: 123,456",
        "  a long heading: 78.9",
        "  GB/s: 0.123",
        "# 2",
        "  dirty pages: 345,678",
        "  GB/s: 9.876",
    ]


def test_commands_print_such_tables(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    trace = str(a_trace(tmp_path / "trace.npz"))
    assert main(["flush", trace, "--threads", "1"]) == 0
    assert main(["bench", "--simulate", "--traces", trace]) == 0
    found = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in found
    assert len(re.findall(r"^  GB/s: [0-9.]+$", found, re.MULTILINE)) == 2


def test_no_command_has_another() -> None:
    """But the proofs, which know nothing of impl and print lines on a narrow terminal."""
    sources = [path for name in ("impl", "tests/guest") for path in (ROOT / name).rglob("*.py")]
    ordinary = [path.name for path in sources if "rich.table" in path.read_text()]
    assert ordinary == ["terminal.py"]


@pytest.mark.parametrize("width", [40, 120])
def test_proofs_are_lines_on_a_narrow_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True)
    with report.Report(catalogue(["words.*"]), console) as shown:
        assert shown._in_place == (width == 120)
