"""The kit as others use it: a pytest plugin, one C file with all vectors, a fuzzer's entry, replay."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from impl.ports.build import C_PORTS, CHECK_IN, SERIAL, build
from tests.conformance.__main__ import main
from tests.conformance.bugs.catch import BUGS, library
from tests.conformance.programs import ABI, HERE
from tests.conformance.single_file import single_file
from tests.support.needs import needs_cc, skip_unless

ROOT = Path(__file__).parents[2]
#: What the campaign told of in the kit's README has kept.
CORPUS = Path(__file__).parent / "fuzz_corpus"
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
    """Every input that a fuzzer has kept, with each C port; and with wrong ones."""
    files = sorted(CORPUS.iterdir())
    assert len(files) > 40
    program = tmp_path / "replay"
    flags = ("-std=gnu11", "-pthread", "-rdynamic", "-DREPLAY", "-DKIT_DLOPEN", f"-I{ABI}")
    source = str(HERE / "fuzz.c")
    subprocess.run(["cc", *flags, f"-I{HERE}", source, "-ldl", "-o", program], check=True)
    wrong = ("last_word_lost", "reach_wraps", "overlap_touching")
    for port, code in (
        *((str(build(port)), 0) for port in C_PORTS),
        *((library(BUG[name]), 1) for name in wrong),
    ):
        environment = {**os.environ, "COLO_KIT_PORT": port}
        run = subprocess.run([program, *files], env=environment, capture_output=True, text=True)
        assert run.returncode == code, f"{port}: {run.stdout}"


needs_libfuzzer = skip_unless(
    bool(shutil.which("clang")), "needs clang (Debian: clang libclang-rt-14-dev)"
)


@needs_cc
@needs_libfuzzer
def test_a_fuzzer_keeps_the_input_that_fails(tmp_path: Path) -> None:
    """It must see the signal: an exit status is no failure to it."""
    program = tmp_path / "fuzz"
    flags = ("-g", "-O1", "-pthread", "-fsanitize=fuzzer", f"-I{ABI}", f"-I{HERE}")
    port = library(BUG["last_word_lost"])
    subprocess.run(["clang", *flags, str(HERE / "fuzz.c"), port, "-o", program], check=True)
    run = subprocess.run(
        [program, "-runs=20000", "-seed=1", CORPUS], cwd=tmp_path, capture_output=True
    )
    assert run.returncode != 0 and list(tmp_path.glob("crash-*"))


needs_afl = skip_unless(bool(shutil.which("afl-clang-fast")), "needs AFL++ (Debian: afl++)")


@needs_cc
@needs_afl
def test_afl_reads_the_kept_inputs(tmp_path: Path) -> None:
    """By the driver that AFL++ puts around the entry, which counts the branches reached; it sees the
    signal of a wrong port."""
    flags = ("-g", "-O1", "-pthread", "-fsanitize=fuzzer", f"-I{ABI}", f"-I{HERE}")
    program = tmp_path / "fuzz"

    def built_with(port: str) -> None:
        command = ("afl-clang-fast", *flags, str(HERE / "fuzz.c"), port, "-o", str(program))
        subprocess.run(command, env={**os.environ, "AFL_QUIET": "1"}, check=True)

    built_with(str(CHECK_IN))
    reached = tmp_path / "reached"
    command = ("afl-showmap", "-q", "-C", "-i", str(CORPUS), "-o", str(reached), "--", str(program))
    subprocess.run(command, check=True)
    assert len(reached.read_text().splitlines()) > 400
    built_with(library(BUG["last_word_lost"]))
    run = subprocess.run([program, *CORPUS.iterdir()], capture_output=True)
    assert run.returncode == -signal.SIGABRT


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
    chosen = ["--library", port, "--replay", str(report), "--except", "*/too-low"]
    assert main([*chosen, "--tap"]) == 1 and "1..1" in capsys.readouterr().out
    assert main([*chosen, "--only", "vector/edges/*"]) == 2
    assert f"nothing chosen has failed in {report}, but vector/counts/" in capsys.readouterr().out
    assert main(["--library", str(build(SERIAL)), "--replay", str(report)]) == 0
    assert main(["--library", port, "--replay", str(tmp_path / "none.json")]) == 2


def test_checks_are_chosen_by_several_globs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "plan/*", "--only", "caller/*", "--except", "*/refused"]) == 0
    caller = ["caller/state", "caller/small-stack", "caller/exits"]
    assert capsys.readouterr().out.split() == ["plan/fixed", "plan/search", *caller]


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
