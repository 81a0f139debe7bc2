"""Every ``python -m`` command: what it makes of a wrong command line, a wrong file, and Ctrl-C."""

import importlib
import io
import select
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from model.boundary.output import LACKS_PACKAGE, run_command
from tests.project.test_foreign_text import a_trace
from tests.support.started import ROOT, children, ctrl_c, is_gone, started

#: Every command, with arguments for which it works a while.
COMMANDS: dict[str, Sequence[str]] = {
    "model.replay": ["tests/counterexamples/schedule-check-in-never-closes.json"],
    "model.explore": [],
    "model.explore.weak": [],
    "model.page": ["FILE", "--html", "/dev/null"],
    "proofs": [],
    "impl": ["flush", "tests/traces/colo-churn-512m.npz"],
    "impl.ports.build": [],
    "tests.conformance": ["--implementation", "impl"],
    "tests.conformance.bugs": [],
    "tests.conformance.vectors": ["--check"],
    "tests.conformance.accumulated": ["--check"],
    "tests.conformance.single_file": [],
    "tests.guest": ["image"],
    "tests.trace": ["FILE"],
    "tests.mutation": ["model"],
    "tests.page.screenshot": ["FILE", "-o", "/dev/null"],
    "tests.model.test_check_in": [],
    "tests.model.test_weakened": [],
    "tests.kit_tests.thread_sanitizer": [],
}
#: Every one that takes a file, with the arguments before and after it.
READS: dict[tuple[str, ...], Sequence[str]] = {
    ("model.replay",): [],
    ("model.page",): ["--html", "/dev/null"],
    ("tests.trace",): [],
    ("impl.ports.build",): [],
    ("impl", "flush"): [],
    ("impl", "plot"): ["-o", "/dev/null"],
    ("impl", "bench", "--simulate", "--traces"): [],
    ("tests.conformance", "--library"): ["--only", "vector/edges/*"],
}
GARBAGE = {
    "nothing": b"",
    "no text": bytes(range(256)),
    "null": b"null",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "values of no scenario": (
        b'{"claim": 1, "control": [], "fault": null, "scenario": "owners", "values": {}}'
    ),
    "an unhashable scenario": b'{"claim": "", "control": "", "fault": [], "scenario": {}, "values": 5}',
}


def main_of(name: str) -> Callable[[list[str]], int]:
    package = name in (
        "model.explore",
        "model.explore.weak",
        "model.page",
        "proofs",
        "impl",
        "tests.conformance",
        "tests.guest",
        "tests.mutation",
        "tests.conformance.bugs",
    )
    module = importlib.import_module(f"{name}.__main__" if package else name)
    main: Callable[[list[str]], int] = module.main
    return main


def run(name: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command; an exception is what would be a traceback."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            status = run_command(lambda: main_of(name)(list(arguments)))
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, output.getvalue(), errors.getvalue()


def test_every_command_is_here() -> None:
    found = set()
    packages = [ROOT / name for name in ("model", "impl", "proofs", "tests")]
    for path in [path for package in packages for path in package.rglob("*.py")]:
        if '__name__ == "__main__"' in path.read_text() and path != Path(__file__):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.add(".".join(part for part in parts if part != "__main__"))
            assert path.read_text().endswith("    run(main)\n"), path
    assert found == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_a_wrong_option(name: str) -> None:
    status, output, _ = run(name, "--help")
    assert status == 0 and output.startswith(f"usage: python -m {name} ")
    status, _, errors = run(name, "--nonsense")
    assert (status in (2, 64) and "--nonsense" in errors) or "required" in errors


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_a_file_that_cannot_be_read_is_a_line(command: tuple[str, ...], tmp_path: Path) -> None:
    wrong = {name: tmp_path / name.replace(" ", "-") for name in GARBAGE}
    for name, path in wrong.items():
        path.write_bytes(GARBAGE[name])
    for path in (tmp_path / "missing", tmp_path, *wrong.values()):
        status, output, errors = run(*command, str(path), *READS[command])
        assert status in (1, 2, 3, 74), path  # 3: a library that does not load
        assert path.name in output + errors, path


# A terminal that has gone, a package that is missing.


@pytest.mark.parametrize(
    "command",
    [
        ["impl", "flush", "TRACE.npz", "--threads", "1"],
        ["tests.conformance", "--implementation", "impl", "--only", "vector/edges/e*"],
        ["model.replay", "tests/counterexamples/schedule-check-in-never-closes.json"],
        ["proofs", "--only", "words.no_shift_by_64", "--jobs", "1"],
    ],
    ids=lambda command: command[0],
)
def test_without_stdout_and_stderr(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a daemon has it, or a shell with ``>&- 2>&-``."""
    command = [str(a_trace(tmp_path / word)) if word == "TRACE.npz" else word for word in command]
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main_of(command[0])(command[1:]) == 0


A_GAP = """
import sys

class Gap:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "{package}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Gap())
"""


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("numba", ["impl", "flush", "tests/traces/colo-idle-512m.npz"]),
        ("z3", ["proofs"]),
        ("numpy", ["tests.guest", "image"]),
        ("matplotlib", ["impl", "plot", "tests/traces/colo-idle-512m.npz", "-o", "/dev/null"]),
        ("cvc5", ["proofs", "--only", "words.no_shift_by_64", "--second", "cvc5"]),
    ],
)
def test_a_missing_package_is_a_line(package: str, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(A_GAP.format(package=package))
    with started("-m", *command, PYTHONPATH=str(tmp_path)) as process:
        _, printed = process.communicate(timeout=120)
    assert process.returncode == LACKS_PACKAGE
    (line,) = printed.splitlines()
    assert package in line.lower() and "pip install" in line


# Ctrl-C.

#: Presses Ctrl-C once a command has begun to import what it needs.
A_FINDER = """
import os, signal, sys

class Interrupt:
    def find_spec(self, *_):
        if sys.excepthook is not sys.__excepthook__ and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_before_a_command_has_begun_is_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(A_FINDER)
    with started("-m", name, *COMMANDS[name], PYTHONPATH=str(tmp_path)) as command:
        output, printed = command.communicate(timeout=120)
    assert (command.returncode, printed, output) == (130, "interrupted\n", "")


WORKING: dict[str, Sequence[str]] = {
    "model.explore": [],
    "impl": ["demo", "--ram", "32M", "--interval", "0.05", "--checkpoints", "100000"],
    "tests.conformance": ["--implementation", "impl"],
    "tests.conformance.bugs": [],
}


@pytest.mark.parametrize("name", WORKING)
def test_ctrl_c_at_work_is_a_line_and_leaves_nothing(name: str) -> None:
    """At work: it has printed a line, or started a process."""
    with started("-m", name, *WORKING[name]) as command:
        assert command.stdout is not None
        while not select.select([command.stdout], [], [], 0.01)[0] and not children(command.pid):
            assert command.poll() is None
        time.sleep(0.3)
        assert ctrl_c(command) == (130, "interrupted\n")
        while not is_gone(command.pid):
            time.sleep(0.01)
