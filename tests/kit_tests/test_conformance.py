"""The suite itself: it passes what is right, fails what is wrong, and says why.

The controls are the bugs of ``tests/conformance/bugs``; by default a few of each kind, in a long run
all of them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest

from impl.ports.build import C_PORTS, CHECK_IN, PATCH, RUST_PORTS, SERIAL, build
from model.page.page import FOLDER as PAGE
from tests.conformance import inside
from tests.conformance.__main__ import main
from tests.conformance.bugs.catch import (
    BUGS,
    PORT,
    PORTS,
    catch_in_runs,
    library,
    passes_without_bug,
)
from tests.conformance.call import Block, Call
from tests.conformance.expected import expect
from tests.conformance.finding import Finding
from tests.conformance.probes import PROBES
from tests.conformance.process import PATIENCE, PortDiedError, PortProcess, Subject
from tests.conformance.programs import HERE as HERE_C
from tests.conformance.programs import command_for
from tests.conformance.repeating import Tried, try_program
from tests.conformance.report import explain
from tests.conformance.rules import RULES, violations
from tests.conformance.suite import Check, Effort, Session, all_checks
from tests.support.needs import LONG_RUN, needs_cc, needs_cxx, needs_rustc

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((PAGE / "schema.json").read_text())
BUG = {bug.name: bug for bug in BUGS}
SAMPLE = (
    "signed_word",
    "mask_no_end",
    "byte_offset_32",
    "page_size_of_first",
    "stray_within_max",
    "leaks_memory",
    "host_clears_first",
    "share_cut_in_block",
    "completes_early",
)
LITTLE = 0.02
TWO_BLOCKS = Call(
    page_size=1024,
    blocks=(Block(0, 40 << 10, 40 << 10, 0), Block(40, 60 << 10, 60 << 10, 40 << 10)),
    cache=(1 << 39 | 1 << 41, 1),
    host=(1 << 41, 1 << 35),
    dirty_pages=3,
    threads=2,
)


def failures(subject: Subject, effort: float, only: str = "") -> list[tuple[str, Finding]]:
    with Session(subject, Effort(effort)) as session:
        found = [(c.name, c.run(session)) for c in all_checks() if c.name.startswith(only)]
    assert found
    return [(name, result) for name, result in found if isinstance(result, Finding)]


@needs_cc
@pytest.mark.parametrize("port", C_PORTS, ids=lambda path: path.stem)
def test_the_c_ports_pass(port: Path, long_run: bool) -> None:
    """By default one of them takes every check, the others a few."""
    only = "" if long_run or port == CHECK_IN else "vector/s"
    assert failures(Subject(str(build(port))), 1.0 if long_run else LITTLE, only) == []


RIGHT_PORTS = Path(__file__).parent / "right_ports"


@needs_cxx
@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("barrier.cpp", ("g++", "-std=c++20", "-pthread")),
        ("openmp.c", ("gcc", "-fopenmp")),
        ("by_kernel.c", ("gcc", "-pthread")),
        ("goroutines.go", ("go", "build", "-buildmode=c-shared")),
        ("shares.zig", (sys.executable, "-m", "ziglang", "build-lib", "-dynamic")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_right_ports_of_other_kinds_pass(
    source: str, command: tuple[str, ...], tmp_path: Path, long_run: bool
) -> None:
    """Threads made in each call that meet at a barrier; OpenMP; host memory written by the kernel, from
    helpers that block every signal; a language with stacks and signals of its own; one that checks its
    arithmetic as it runs."""
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]} (Debian: {'golang-go' if command[0] == 'go' else 'g++'})")
    if "ziglang" in command and not find_spec("ziglang"):
        pytest.skip("needs zig (pip install -e '.[zig]')")
    port = tmp_path / "port.so"
    flags: tuple[str, ...] = ("-O2", "-fPIC", "-shared", f"-I{SERIAL.parent}", "-o", str(port))
    if command[0] == "go":
        flags = ("-o", str(port))
    elif "ziglang" in command:
        flags = ("-O", "ReleaseSafe", "-lc", f"-femit-bin={port}")
    subprocess.run([*command, *flags, RIGHT_PORTS / source], check=True)
    if long_run:
        assert failures(Subject(str(port)), 1.0) == []
    else:
        for only in ("vector/s", "repeat/threads", "missing", "afterwards/little", "clean-pages"):
            assert failures(Subject(str(port)), LITTLE, only) == []


@needs_cc
def test_a_sanitizer_build_is_told_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = tmp_path / "sanitized.so"
    flags = ("-std=c11", "-fsanitize=address", "-fPIC", "-shared", "-o", port, SERIAL)
    subprocess.run(["cc", *flags], check=True)
    assert main(["--library", str(port)]) == 3
    assert re.search(r"LD_PRELOAD=\S*libasan\.so", capsys.readouterr().out)


@needs_cc
@pytest.mark.parametrize(
    "flags", ["-O0", "-O3", "-O1 -fsanitize=undefined -fno-sanitize-recover=all"]
)
def test_the_port_to_take_passes_however_it_is_built(
    flags: str, tmp_path: Path, long_run: bool
) -> None:
    port = tmp_path / "port.so"
    command = ["cc", "-std=c11", *flags.split(), "-pthread", "-fPIC", "-shared", "-o", str(port)]
    subprocess.run([*command, str(CHECK_IN)], check=True)
    only = "" if long_run else "vector/s"
    assert failures(Subject(str(port)), 1.0 if long_run else LITTLE, only) == []


@needs_cc
def test_undefined_behaviour_that_happens_to_do_as_hoped_is_caught_where_it_is_trapped(
    tmp_path: Path,
) -> None:
    """ctz(0) is 64 to tzcnt and to Arm's clz, and the search may work; C leaves it undefined."""
    faulty = (
        (SERIAL.parent / "walk.h").read_text().replace("while (!bits)", "while (ctz(bits) > 63)")
    )
    assert faulty.count("while (ctz(bits) > 63)") == 1
    (tmp_path / "walk.h").write_text(f"#define ctz __builtin_ctzll\n{faulty}")
    port = tmp_path / "port.so"
    command = ["cc", "-std=c11", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command += ["-fPIC", "-shared", "-pthread", f"-I{SERIAL.parent}", "-o", str(port)]
    subprocess.run([*command, "-include", tmp_path / "walk.h", SERIAL], check=True)
    ((_, finding),) = failures(Subject(str(port)), LITTLE, "vector/copying/nothing-dirty")
    assert finding.rule == "no-crash"


@needs_cc
def test_the_port_to_take_passes_under_a_sanitizer_of_addresses(
    tmp_path: Path, long_run: bool
) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    port = tmp_path / "port.so"
    flags = ("-std=c11", "-O1", "-g", "-fsanitize=address", "-pthread", "-fPIC", "-shared")
    subprocess.run(["cc", *flags, "-o", str(port), str(CHECK_IN)], check=True)
    where = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    preload = {"LD_PRELOAD": where.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.conformance", "--library", str(port), "--effort", "0.3"],
        env={**os.environ, **preload},
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@needs_rustc
@pytest.mark.parametrize("port", RUST_PORTS, ids=lambda path: path.stem)
def test_the_rust_ports_pass(port: Path, long_run: bool) -> None:
    """By default a few checks: the twin in C has taken every one."""
    only = "" if long_run else "vector/s"
    assert failures(Subject(str(build(port))), 1.0 if long_run else LITTLE, only) == []


@pytest.mark.parametrize(
    ("strategy", "checks"),
    [("dynamic", ""), ("static", "vector/s"), ("queue", "vector/s"), ("serial", "vector/s")],
)
def test_our_own_flush_passes(strategy: str, checks: str, long_run: bool) -> None:
    """By default shares and sequences are enough for all but the strategy that is the default."""
    subject = Subject(strategy=strategy)
    assert failures(subject, 1.0 if long_run else LITTLE, "" if long_run else checks) == []


#: Our own flush, which takes a page of zeros for one that need not be copied.
SKIPS_ZEROS = """
import ctypes, sys
from tests.conformance import inside
from tests.conformance.implementation import Implementation
from tests.conformance.port import BlockStruct
right = Implementation.flush
def flush(self, given):
    block = BlockStruct.from_address(given.blocks)
    host, cache = block.host + 4096, block.cache + 4096
    before = ctypes.string_at(host, 4096)
    status = right(self, given)
    if ctypes.string_at(cache, 4096) == bytes(4096):
        ctypes.memmove(host, before, 4096)
    return status
Implementation.flush = flush
"""


@needs_cc
def test_a_c_program_of_the_kit_runs_on_our_own_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes; and with a bug it fails by the program's own words."""
    contents = HERE_C / "contents.c"
    given = ("zero-pages", "dynamic", PATIENCE, 0, 1.0)
    assert inside.run_inside(contents, *given).violations == ()
    monkeypatch.setattr(inside, "_START", SKIPS_ZEROS + inside._START)
    assert inside.run_inside(contents, *given).violations[0].rule == "copies-dirty"


def test_what_is_not_run_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    only = ("--only", "plan/fixed", "--only", "missing/*", "--only", "repeat/one-thread")
    given = ("--implementation", "impl", "--effort", "0.1", *only)
    assert main([*given, "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "not run: plan/fixed: colo_plan" in said and "no check passed" in said
    assert "not run: missing/no-threads, missing/one-thread, " in said
    assert "not run: repeat/one-thread: it takes seconds" in said
    jsonschema.validate(json.loads(report.read_text()), SCHEMA)
    assert main([*given, "--tap"]) == 0
    assert "ok 1 - plan/fixed # SKIP colo_plan" in capsys.readouterr().out


@needs_cc
@pytest.mark.parametrize("name", SAMPLE)
def test_a_bug_is_caught(name: str) -> None:
    assert all(catch_in_runs(BUG[name], runs=1))


@needs_cc
def test_every_bug_is_caught(long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    assert passes_without_bug()
    for bug in BUGS:
        runs = 10 if bug.race else 1
        assert sum(catch is not None for catch in catch_in_runs(bug, runs)) == runs, bug.name


def test_there_are_bugs_of_every_kind() -> None:
    assert len(BUGS) >= 180
    assert all(bug.about for bug in BUGS)
    assert min(sum(bug.port == port for bug in BUGS) for port in PORTS) >= 30
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert 10 <= sum(bug.race for bug in BUGS) < len(BUGS) / 2
    assert set(SAMPLE) <= set(BUG)


def test_the_table_lists_every_bug() -> None:
    table = (ROOT / "conformance" / "bugs" / "CAUGHT.md").read_text()
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row[1].strip() for row in rows] == [bug.name for bug in BUGS]
    assert all("`" in row[3] for row in rows)


@needs_cc
def test_without_a_bug_the_same_port_passes() -> None:
    for port in PORTS:
        for only in ("vector/s", "repeat/threads", "delays", "many-calls/threads", "plan/refused"):
            if port == PORT or only != "plan/refused":
                assert failures(Subject(library(None, port)), LITTLE, only) == []


def one_failure(bug: str, check: str) -> Finding:
    found = failures(Subject(library(BUG[bug])), 1.0, check)
    assert found
    return found[0][1]


@needs_cc
def test_a_stray_access_is_named_with_its_buffer() -> None:
    finding = one_failure("copies_4096", "vector/copying/page-size-1024")
    assert finding.rule == "bounds"
    assert "past the end of cache memory of block 0 (3072 bytes)" in finding.violations[0].detail


@needs_cc
def test_a_write_to_the_cache_is_named() -> None:
    finding = one_failure("copies_backwards", "vector/copying/cache-page")
    assert finding.rule == "read-only"
    written = re.search(
        r"written byte (\d+) of cache memory of block 0", finding.violations[0].detail
    )
    assert written and int(written[1]) // 4096 == 5


@needs_cc
@pytest.mark.parametrize(
    ("flush", "verdict"),
    [
        ("for (;;) pause();", "no-hang: for 1.* s every thread slept, and none was woken"),
        ("for (;;) getpid();", "no-hang: after 1.* s of processor time the call had not returned"),
        ("exit(3);", "no-crash: .* exit status 3"),
        ("abort();", "no-crash: SIGABRT inside the port"),
        ("static int *volatile p = (int *)64; return *p;", "no-crash: SIGSEGV: read address 0x40"),
        ("for (;;) kill(getpid(), SIGKILL);", "no-crash: the process was killed by SIGKILL"),
    ],
)
def test_however_a_port_ends_it_is_a_verdict(flush: str, verdict: str, tmp_path: Path) -> None:
    source = tmp_path / "ends.c"
    source.write_text(
        "#define _GNU_SOURCE\n"
        "#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "unsigned colo_abi_version(void) { return 1; }\n"
        f"int colo_flush(void) {{ {flush} }}\n"
    )
    with (
        PortProcess(Subject(str(build(source))), patience=1) as process,
        pytest.raises(PortDiedError, match=verdict),
    ):
        process.run([TWO_BLOCKS])


@needs_cc
def test_a_port_that_only_takes_its_time_does_not_hang(tmp_path: Path) -> None:
    """It sleeps for longer than the suite's patience, but never for long."""
    source = tmp_path / "slow.c"
    source.write_text(
        "#include <unistd.h>\n"
        "unsigned colo_abi_version(void) { return 1; }\n"
        "int colo_flush(void) { for (int i = 0; i < 60; i++) usleep(30000); return -22; }\n"
    )
    with PortProcess(Subject(str(build(source))), patience=1) as process:
        assert process.run([TWO_BLOCKS])[0].status == -22


#: A port that is right until the process exits.
AT_EXIT = """
#define colo_flush right
#include "serial_walk.c"
#undef colo_flush
#include <unistd.h>
int colo_flush(const colo_block *b, size_t n, uint64_t s, uint64_t *c, uint64_t *h, size_t w, uint64_t *d,
               uint32_t t, colo_stats *o) { return right(b, n, s, c, h, w, d, t, o); }
__attribute__((destructor)) static void at_exit(void) { %s }
"""


@needs_cc
@pytest.mark.parametrize(
    ("does", "rule", "detail"),
    [
        ("abort();", "no-crash", "signal 6.*, when the process exits"),
        ("for (;;) pause();", "no-hang", "every thread slept.*when the process exits"),
        ("", "", ""),
    ],
)
def test_a_process_that_does_not_exit_is_told(
    does: str, rule: str, detail: str, tmp_path: Path
) -> None:
    source, port = tmp_path / "at_exit.c", tmp_path / "port.so"
    source.write_text(AT_EXIT % does)
    command = ["cc", "-fPIC", "-shared", f"-I{SERIAL.parent}", str(source), "-o", str(port)]
    subprocess.run(command, check=True)
    [exits] = [probe for probe in PROBES if probe.name == "caller/exits"]
    found = exits.run(str(port), patience=1).violations
    assert [one.rule for one in found] == [rule] * bool(rule)
    assert all(re.search(detail, one.detail) for one in found)


@needs_cc
def test_a_hang_in_a_sequence_names_its_call(tmp_path: Path) -> None:
    source = tmp_path / "third.c"
    source.write_text(
        "#include <unistd.h>\n"
        "unsigned colo_abi_version(void) { return 1; }\n"
        "int colo_flush(void) { static int n; while (++n >= 3) pause(); return -22; }\n"
    )
    with (
        PortProcess(Subject(str(build(source))), patience=1) as process,
        pytest.raises(PortDiedError, match="no-hang") as death,
    ):
        process.run([TWO_BLOCKS] * 5)
    assert death.value.during == 2


@needs_cc
@pytest.mark.parametrize("version", ["unsigned colo_abi_version(void) { return 2; }", "int x;"])
def test_another_abi_does_not_load(version: str, tmp_path: Path) -> None:
    source = tmp_path / "two.c"
    source.write_text(f"{version}\n")
    with pytest.raises(PortDiedError, match=r"abi: .*version"):
        PortProcess(Subject(str(build(source))))


@needs_cc
def test_a_failure_found_by_search_is_small_when_shown() -> None:
    """Whatever the search found first: two blocks that touch, and next to nothing else."""
    finding = one_failure("overlap_touching", "search/sequences")
    (call,) = finding.calls
    assert len(call.blocks) == 2
    assert sum(block.used_length for block in call.blocks) <= 4 * call.page_size
    text = explain(finding, Subject(library(BUG["overlap_touching"])), Effort())
    assert "block 1 'b'" in text and "#include" in text and RULES["accepts"] in text


@needs_cc
def test_the_picture_marks_what_is_wrong() -> None:
    finding = one_failure("cache_bits_only", "vector/copying/host-page")
    lines = [line.rstrip() for line in explain(finding, Subject(), Effort()).splitlines()]
    mark = next(line for line in lines if line.lstrip().startswith("wrong"))
    dirt = next(line for line in lines if line.lstrip().startswith("dirty "))
    assert mark.index("^") == dirt.index("H")


@needs_cc
@pytest.mark.parametrize(
    ("bug", "check"),
    [
        ("cache_bits_only", "vector/copying/host-page"),
        ("copies_4096", "vector/copying/page-size-1024"),
        ("refusal_sticks", "vector/sequences/refused-then-good"),
        ("cache_aligned", "vector/copying/shifted-1024"),
        ("share_product", "plan/fixed"),
        ("byte_offset_32", "large/byte-4GiB"),
        ("no_wait", "stress/dense"),
    ],
)
def test_the_program_shown_fails_with_the_port_and_passes_with_the_serial_one(
    bug: str, check: str
) -> None:
    finding, port = one_failure(bug, check), library(BUG[bug])
    tried = try_program(finding.program, port, PATIENCE)
    assert tried == Tried(fails=True, passes_with_serial=True)
    assert finding.program in explain(finding, Subject(port), Effort())


@needs_cc
def test_the_command_shown_with_a_probe_builds_and_runs_it(tmp_path: Path) -> None:
    """As a porter types it: linked with the port, in a folder of his own."""
    for port, code in ((library(BUG["skips_zero_pages"]), 1), (str(build(SERIAL)), 0)):
        command = command_for(HERE_C / "contents.c", port, ["zero-pages"])
        assert subprocess.run(command, shell=True, cwd=tmp_path).returncode == code


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("status", {"status": -34}),
        ("accepts", {"status": -22}),
        ("copies-dirty", {"pages": ("h" * 40, expect(TWO_BLOCKS).pages[1])}),
        ("copies-right", {"pages": ("h" * 39 + "x", expect(TWO_BLOCKS).pages[1])}),
        ("clean-pages-untouched", {"pages": ("c" * 40, expect(TWO_BLOCKS).pages[1])}),
        ("clears", {"cache": (1 << 41, 0)}),
        ("no-spurious-bits", {"host": (1, 0)}),
        ("count", {"dirty_pages": 2**64 - 1}),
        ("stats", {"stats": (4, 2, 3, 2)}),
        ("bounds", {"damage": ("bytes just outside stats were written",)}),
        ("read-only", {"damage": ("the block list, which is read-only, was written",)}),
    ],
)
def test_each_rule_can_be_broken(rule: str, change: dict[str, object]) -> None:
    right = expect(TWO_BLOCKS)
    assert violations(TWO_BLOCKS, right, right) == []
    wrong = replace(right, **change)  # type: ignore[arg-type]
    assert violations(TWO_BLOCKS, right, wrong)[0].rule == rule


def test_each_rule_of_refusal_can_be_broken() -> None:
    call = replace(TWO_BLOCKS, threads=0)
    right = expect(call)
    assert right.status == -22
    assert violations(call, right, replace(right, status=0))[0].rule == "refuses"
    touched = replace(right, dirty_pages=0)
    assert violations(call, right, touched)[0].rule == "refusal-changes-nothing"


@needs_cc
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    sound, broken = str(build(PATCH)), library(BUG["count_forced"])
    assert main(["--library", sound, "--only", "vector/counts/*", "--json", str(report)]) == 0
    assert "every check passed" in capsys.readouterr().out
    checks = json.loads(report.read_text())["checks"]
    assert len(checks) == 11 and all(check["passed"] for check in checks)

    assert main(["--library", broken, "--only", "vector/counts/*", "--json", str(report)]) == 1
    assert "FAIL vector/counts/too-high" in capsys.readouterr().out
    assert json.loads(report.read_text())["checks"][-1]["rules"] == ["count", "status"]

    assert main(["--library", str(tmp_path / "none.so")]) == 2
    assert main(["--library", sound, "--only", "nothing"]) == 2
    assert main(["--library", sound, "--list"]) == 0
    assert "stress/dense" in capsys.readouterr().out


def test_checks_have_names_of_their_own() -> None:
    names = [check.name for check in all_checks() if isinstance(check, Check)]
    assert len(set(names)) == len(names)
