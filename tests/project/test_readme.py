"""README.md: outputs are what the commands print, quotations stand in their files, links lead on."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.bugs.catch import BUGS, library
from tests.support.needs import needs_cc

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", TEXT, flags=re.MULTILINE | re.DOTALL)
SHOWN = [body for _, kind, body in BLOCKS if kind == "console"]
COMMANDS = [body for body in SHOWN if body.startswith("$ ")]
QUOTED = re.findall(
    r"^\d\. \[[^]]+\]\(([^)]+)\).*?\n(?: .*\n|\n)*? +```python\n((?: .*\n|\n)*?) +```$",
    TEXT,
    re.MULTILINE,
)


def shows(shown: str, printed: str) -> bool:
    """Are the lines shown the lines printed? ``...`` stands for any lines, and seconds may differ."""
    pattern = "\n".join(
        ".*?"
        if line == "..."
        else re.sub(r"\d+\\\.\d+\\ s", r"[\\d.]+ s", re.escape(line.rstrip()))
        for line in shown.splitlines()
    )
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.search(f"^{pattern}$", lines, flags=re.DOTALL | re.MULTILINE) is not None


def test_shown_can_fail() -> None:
    assert shows("a\n...\nd (1.5 s)", "a\nb\nc\nd (22.7 s)\n")
    assert not shows("a\n...\ne", "a\nb\nc\nd\n")
    assert not shows("pages 0", "pages 1\n")


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: shown.splitlines()[0][:60])
def test_a_command_prints_what_is_shown(shown: str) -> None:
    command, _, output = shown.removeprefix("$ ").partition("\n")
    program, *arguments = shlex.split(command)
    assert program == "python"
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert shows(output, run.stdout), run.stdout + run.stderr


def test_there_are_commands_and_quotations() -> None:
    assert COMMANDS
    assert len(QUOTED) == 5


def test_the_example_prints_what_is_shown() -> None:
    [example] = [body for indent, kind, body in BLOCKS if kind == "python" and not indent]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    assert printed.getvalue() in SHOWN


def test_the_proofs_count_is_the_catalogues() -> None:
    """As ``CATALOGUE.md`` has them, which is the catalogue's by a test of its own."""
    text = (ROOT / "proofs" / "CATALOGUE.md").read_text(encoding="utf-8")
    counted = re.search(r"^(\d+) claims, (\d+) obligations, (\d+) controls\.", text, re.MULTILINE)
    assert counted
    claims, obligations, controls = counted.groups()
    count = f"{claims} of {claims} claims proved ({obligations} obligations), "
    assert f"\n{count}{controls} of {controls} controls refuted as they must be; " in TEXT


@pytest.mark.parametrize(("file", "quoted"), QUOTED, ids=[file for file, _ in QUOTED])
def test_what_is_quoted_stands_there(file: str, quoted: str) -> None:
    here = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    missing = [line for line in quoted.splitlines() if line.strip() not in here]
    assert missing == []


def test_every_link_leads_somewhere() -> None:
    links = set(re.findall(r"\]\(([^)#:]+)\)", TEXT))
    assert len(links) >= 10
    assert {link for link in links if not (ROOT / link).exists()} == set()


@needs_cc
def test_a_failing_port_is_drawn_as_shown() -> None:
    [shown] = [body for _, kind, body in BLOCKS if not kind and body.startswith("FAIL ")]
    [bug] = [bug for bug in BUGS if bug.name == "cache_bits_only"]
    arguments = ["--library", library(bug), "--only", "vector/copying/host-page"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.conformance", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 1
    assert shows(shown, run.stdout), run.stdout
