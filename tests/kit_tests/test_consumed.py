"""The kit as others use it: a pytest plugin, one C file with all vectors, a fuzzer's entry, replay."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from impl.ports.build import CHECK_IN, SERIAL, build
from tests.conformance.__main__ import main
from tests.conformance.bugs.catch import BUGS, library
from tests.conformance.programs import ABI, HERE
from tests.conformance.single_file import single_file
from tests.support.needs import needs_cc

ROOT = Path(__file__).parents[2]
BUG = {bug.name: bug for bug in BUGS}


def compiled(source: Path, port: str, *flags: str) -> Path:
    program = source.with_suffix(".out")
    includes = (f"-I{ABI}", f"-I{HERE}")
    command = ("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", *flags, *includes)
    subprocess.run([*command, str(source), port, "-o", str(program)], check=True)
    return program


@needs_cc
def test_one_c_file_holds_every_vector(tmp_path: Path) -> None:
    """It is all that is needed; the oracle in it agrees with the model on each of them."""
    source = tmp_path / "vectors.c"
    source.write_text(single_file())
    assert '#include "' not in source.read_text()
    for port, code in ((str(build(CHECK_IN)), 0), (library(BUG["host_excludes_both"]), 1)):
        run = subprocess.run([compiled(source, port)], capture_output=True, text=True)
        assert run.returncode == code, run.stdout
    assert "FAIL copying/both, call 0" in run.stdout


@needs_cc
def test_the_fuzzers_entry_judges_by_the_oracle(tmp_path: Path) -> None:
    """Random bytes here; a fuzzer chooses better ones."""
    source = tmp_path / "fuzz.c"
    source.write_text((HERE / "fuzz.c").read_text())
    random, files = Random(7), []
    for number in range(150):
        files.append(tmp_path / f"input{number}")
        files[-1].write_bytes(random.randbytes(160))
    for port, code in ((str(build(SERIAL)), 0), (library(BUG["last_word_lost"]), 1)):
        program = compiled(source, port, "-DREPLAY")
        assert subprocess.run([program, *files], capture_output=True).returncode == code


def pytest_on(port: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "pytest", "-p", "tests.conformance.pytest_plugin", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, *command, "--colo-port", port, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@needs_cc
def test_each_check_is_a_test_for_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_not_about_the_port(): assert False\n")
    chosen = ("-k", "copying/host-page or contents/first", "--junitxml", "said.xml")
    right = pytest_on(str(build(SERIAL)), tmp_path, *chosen)
    assert right.returncode == 0 and "2 passed" in right.stdout, right.stdout
    assert 'name="vector/copying/host-page"' in (tmp_path / "said.xml").read_text()
    wrong = pytest_on(library(BUG["cache_bits_only"]), tmp_path, *chosen)
    assert wrong.returncode == 1 and "kit_make(&calls[0])" in wrong.stdout, wrong.stdout
    missing = pytest_on(str(tmp_path / "none.so"), tmp_path)
    assert missing.returncode == 4 and "build the port first" in missing.stderr


@needs_cc
def test_what_failed_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, port = tmp_path / "report.json", library(BUG["count_forced"])
    given = ["--library", port, "--only", "vector/counts/too-*", "--json", str(report)]
    assert main([*given, "--keep-going"]) == 1
    capsys.readouterr()
    assert main(["--library", port, "--replay", str(report), "--tap"]) == 1
    said = capsys.readouterr().out
    assert "1..2" in said and said.count("not ok") == 2
    assert main(["--library", str(build(SERIAL)), "--replay", str(report)]) == 0
    assert main(["--library", port, "--replay", str(tmp_path / "none.json")]) == 2


def test_checks_are_chosen_by_several_globs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "plan/*", "--only", "caller/*", "--except", "*/refused"]) == 0
    assert capsys.readouterr().out.split() == ["plan/fixed", "plan/search", "caller/state"]


@needs_cc
def test_exit_codes_tell_a_hang_from_a_library_that_does_not_load(tmp_path: Path) -> None:
    source = tmp_path / "port.c"
    source.write_text(
        "#include <unistd.h>\n"
        "unsigned colo_abi_version(void) { return 1; }\nint colo_flush(void) { pause(); return 0; }\n"
    )
    only = ("--only", "vector/edges/touching", "--patience", "0.5")
    assert main(["--library", str(build(source)), *only]) == 4
    source.write_text("unsigned colo_abi_version(void) { return 7; }\n")
    assert main(["--library", str(build(source)), *only]) == 3
