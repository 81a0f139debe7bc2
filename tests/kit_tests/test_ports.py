"""Building ports: each compiler, each choice, once."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from impl.bench import bound_port
from impl.ports.build import (
    C_PORTS,
    HERE,
    PATCH,
    RUST,
    RUST_FLAGS,
    RUST_PORTS,
    SERIAL,
    BuildError,
    NoCompilerError,
    build,
    compiler_for,
    main,
)
from tests.conformance.port import BlockStruct
from tests.support.needs import needs_cc, needs_cxx, needs_rustc

#: In a process of its own: how many threads a call of the 2016 patch's port starts, by its pages.
THREADS_STARTED = """
import ctypes, os, sys
from tests.conformance.port import BlockStruct
port = ctypes.CDLL(sys.argv[1])
pages, threads = int(sys.argv[2]), int(sys.argv[3])
memory = (ctypes.c_uint8 * (pages * 2048))()
host = ctypes.addressof(memory)
block = BlockStruct(0, pages * 1024, pages * 1024, 0, host, host + pages * 1024)
words = (ctypes.c_uint64 * (2 * (pages // 64 + 1)))()
bitmaps, n_words = ctypes.addressof(words), pages // 64 + 1
count, u64 = ctypes.c_uint64(0), ctypes.c_uint64
before = len(os.listdir("/proc/self/task"))
status = port.colo_flush(
    ctypes.byref(block), u64(1), u64(1024), u64(bitmaps), u64(bitmaps + 8 * n_words), u64(n_words),
    ctypes.byref(count), ctypes.c_uint32(threads), None,
)
assert status == 0
print(len(os.listdir("/proc/self/task")) - before)
"""


@needs_cc
@pytest.mark.parametrize(("pages", "shares"), [(40, 1), (300, 4), (64 * 7, 7), (64 * 20, 8)])
def test_the_patch_starts_no_thread_for_a_share_without_pages(pages: int, shares: int) -> None:
    command = [sys.executable, "-c", THREADS_STARTED, str(build(PATCH)), str(pages), "8"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=True)
    assert int(ran.stdout) == shares


@needs_cc
def test_the_patch_plans_as_it_flushes() -> None:
    """Its 256 threads at most are all that its plan knows: the others have no page."""
    plan = ctypes.CDLL(str(build(PATCH))).colo_plan
    lower, upper = ctypes.c_uint64(), ctypes.c_uint64()
    has_pages = []
    for thread in range(1000):
        asked = (ctypes.c_uint64(10**6), ctypes.c_uint32(1000), ctypes.c_uint32(thread))
        assert plan(*asked, ctypes.byref(lower), ctypes.byref(upper)) == 0
        has_pages.append(lower.value < upper.value)
    assert has_pages == [True] * 256 + [False] * 744


HEADER = HERE / "colo_flush.h"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "colo-flush" / "ports"


@needs_cc
def test_a_port_is_built_once(cache: Path) -> None:
    library = build(SERIAL)
    built = library.stat().st_mtime_ns
    assert library.parent == cache
    assert build(SERIAL) == library
    assert library.stat().st_mtime_ns == built
    assert list(cache.iterdir()) == [library]


@needs_cc
@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_a_damaged_library_is_built_again(keep: int) -> None:
    whole = build(SERIAL).read_bytes()
    build(SERIAL).write_bytes(whole[:keep])
    ctypes.CDLL(str(build(SERIAL)))
    flipped = bytes([whole[5000] ^ 1])
    port = build(SERIAL)
    port.unlink()  # it is loaded: written over, it would end this process by a fault at its exit
    port.write_bytes(whole[:5000] + flipped + whole[5001:])
    assert build(SERIAL).read_bytes() == whole


@needs_cc
def test_without_a_place_for_it_there_is_a_remedy(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME"):
        build(SERIAL)
    cache.unlink()
    library = build(SERIAL)
    library.unlink()
    library.mkdir()
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME"):
        build(SERIAL)
    monkeypatch.setattr("impl.ports.build.user_cache", lambda: None)
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME"):
        build(SERIAL)


@needs_cc
def test_another_choice_is_another_library() -> None:
    choices = {build(SERIAL), build(SERIAL, memcpy="inlined"), build(SERIAL, defines=["X=1"])}
    assert len(choices) == 3
    assert {choice.read_bytes()[:4] for choice in choices} == {b"\x7fELF"}


@needs_cc
def test_memcpy_is_called_or_inlined_as_asked() -> None:
    """In line there is code for a page of the usual size; else every copy is a call."""
    called, inlined = build(SERIAL).read_bytes(), build(SERIAL, memcpy="inlined").read_bytes()
    rep_movsq = b"\xf3\x48\xa5"
    assert called != inlined
    if inlined[18:20] == b"\x3e\x00":  # x86-64
        assert rep_movsq in inlined and rep_movsq not in called


@needs_cc
def test_a_changed_source_or_header_is_built_anew(tmp_path: Path) -> None:
    source, header = tmp_path / "port.c", tmp_path / "port.h"
    source.write_text('#include "port.h"\nint f(void) { return N; }\n')
    header.write_text("enum { N = 1 };\n")
    first = build(source)
    header.write_text("enum { N = 2 };\n")
    assert build(source) != first


@needs_cc
def test_a_port_that_does_not_compile_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int f(void) { return nothing; }\n")
    with pytest.raises(BuildError, match=r"wrong\.c"):
        build(source)
    assert list(cache.iterdir()) == []


@needs_cc
@pytest.mark.parametrize("port", C_PORTS, ids=lambda path: path.stem)
def test_the_c_ports_compile_without_a_warning(port: Path, tmp_path: Path) -> None:
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-fPIC"]
    command = [compiler_for(port), *flags, "-c", str(port), "-o", str(tmp_path / "port.o")]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


@needs_rustc
@pytest.mark.parametrize("port", RUST_PORTS, ids=lambda path: path.stem)
def test_the_rust_ports_compile_without_a_warning(port: Path, tmp_path: Path) -> None:
    """On processors too for which nothing is special."""
    elsewhere = tmp_path / port.name
    for source in port.parent.glob("*.rs"):
        text = source.read_text().replace('target_arch = "x86_64"', 'target_arch = "another"')
        (tmp_path / source.name).write_text(text)
    for source in (port, elsewhere):
        command = [compiler_for(port), *RUST_FLAGS, "-Dwarnings", "-Aunexpected_cfgs"]
        command += ["-Aunknown_lints", "--emit=metadata", str(source), "-o", str(tmp_path / "port")]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")


@needs_cc
@pytest.mark.parametrize("language", ["c", pytest.param("c++", marks=needs_cxx)])
def test_the_header_is_c_and_cpp(language: str, tmp_path: Path) -> None:
    """Alone, as C11 and as C++: somebody will include it first, in either."""
    source = tmp_path / f"header.{language}"
    source.write_text('#include "colo_flush.h"\n')
    command = [compiler_for(SERIAL), "-x", language, "-Wall", "-Werror", f"-I{HERE}"]
    command += ["-fsyntax-only", str(source)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_no_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    for source, package in ((SERIAL, "gcc"), (RUST, "rustc")):
        with pytest.raises(NoCompilerError, match=package):
            build(source)


@needs_cc
def test_cc_is_taken_if_set(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or ""
    monkeypatch.setenv("CC", compiler)
    assert compiler_for(SERIAL) == compiler


@needs_cc
def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(port) for port in C_PORTS]) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name.split("-")[0] for path in paths] == [port.stem for port in C_PORTS]


C_TYPES: dict[str, type] = {"uint64_t": ctypes.c_uint64, "uint8_t *": ctypes.c_void_p}


def structs(header: str) -> dict[str, list[tuple[str, type]]]:
    """The structs of a header: their fields in order, each with its type in ctypes."""
    without_comments = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    found = {}
    for body, name in re.findall(
        r"typedef struct \{(.*?)\} (\w+);", without_comments, flags=re.DOTALL
    ):
        fields = re.findall(r"(?:const )?(\w+) (\*?)([\w, ]+);", body)
        found[name] = [
            (one.strip(), C_TYPES[f"{kind} {pointer}".strip()])
            for kind, pointer, names in fields
            for one in names.split(",")
        ]
    return found


def test_the_structs_in_python_are_those_of_the_header() -> None:
    """Written twice, for what calls a port for the kit may import nothing of impl: that loads numba."""
    found = structs(HEADER.read_text(encoding="utf-8"))
    assert found == {"colo_block": BlockStruct._fields_, "colo_stats": bound_port.Stats._fields_}
    assert bound_port._Block._fields_ == BlockStruct._fields_


def test_a_field_that_moves_is_noticed() -> None:
    header = HEADER.read_text(encoding="utf-8")
    host, cache = "uint8_t *host;", "const uint8_t *cache;"
    assert header.count(host) == header.count(cache) == 1
    turned = header.replace(cache, "?").replace(host, cache).replace("?", host)
    assert structs(turned)["colo_block"] != BlockStruct._fields_
