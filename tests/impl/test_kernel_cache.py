"""Compiled kernels on disk: never stale, never damaged, and not needed.

The kernels here are tiny ones of the tests' own, or a copy of the project: the cache is the same.
"""

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from impl.kernels import compile, kernel_cache
from impl.kernels.compile import entry, primitives
from impl.kernels.kernel_cache import DIGEST_BYTES, read, write
from model import words
from model.domain import Domain

ROOT = Path(__file__).parents[2]
THREE = np.uint64(3)


def triple(number: Any) -> Any:
    return number * THREE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kernels are kept in this test; those of the test are not added to the project's."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compile, "kernels", [])
    monkeypatch.setattr(kernel_cache, "_said", False)
    return tmp_path / "cache"


def run(function: Callable[..., Any] = triple, *arguments: int) -> tuple[int, bool]:
    """The result of a kernel made afresh, as in a new process; was it loaded?"""
    made = entry(function)
    result = int(made(*map(np.uint64, arguments or (5,))))
    return result, bool(made.stats.cache_hits)


def kept(folder: Path) -> Path:
    """The one file in the cache."""
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return file


# Whatever lies in a file's place.


def test_a_kernel_is_loaded_the_second_time(folder: Path) -> None:
    assert run() == (15, False)
    assert run() == (15, True)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(keep: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])

    return damage


def flipped(where: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(len(content) * where)] ^= 4
        file.write_bytes(content)

    return damage


def another_pickle(file: Path) -> None:
    file.write_bytes(b"\x80\x04N.")


def of_another_kernel(file: Path) -> None:
    """Whole, but made from something else: what a stale file is."""
    content = file.read_bytes()
    write(file, bytes(DIGEST_BYTES), content[2 * DIGEST_BYTES :])


def unreadable(file: Path) -> None:
    file.chmod(0)


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_link_to_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "nowhere")


DAMAGE = {
    "emptied": emptied,
    **{f"cut at {keep}": cut(keep) for keep in (0.001, 0.01, 0.5, 0.999)},
    **{f"flipped at {where}": flipped(where) for where in (0, 0.005, 0.02, 0.3, 0.6, 0.999)},
    "another pickle": another_pickle,
    "of another kernel": of_another_kernel,
    "unreadable": unreadable,
    "a pipe": a_pipe,
    "a folder": a_folder,
    "a link to nowhere": a_link_to_nowhere,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_replaced(folder: Path, damage: Callable[[Path], None]) -> None:
    run()
    damage(kept(folder))
    result, loaded = run()
    assert result == 15
    assert not loaded or (os.geteuid() == 0 and damage is unreadable)
    assert run() == (15, True)


def test_a_folder_with_something_in_it_is_left_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run()
    file = kept(folder)
    file.unlink()
    (file / "with something in it").mkdir(parents=True)
    assert run() == (15, False)
    assert f"{file} (Is a directory)" in caplog.text


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    file, key, content = tmp_path / "file", bytes(range(DIGEST_BYTES)), b"machine code"
    write(file, key, content)
    whole = file.read_bytes()
    assert len(whole) < 80
    assert read(file, key) == content
    for bit in range(8 * len(whole)):
        file.write_bytes(
            (int.from_bytes(whole, "little") ^ 1 << bit).to_bytes(len(whole), "little")
        )
        assert read(file, key) is None, bit
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert read(file, key) is None, length
    file.write_bytes(whole + b"\0")
    assert read(file, key) is None


# No place to keep anything.


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file can grow past ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1, 2 * DIGEST_BYTES, 5000])
def test_a_full_disk_is_said_once_and_leaves_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    with full_after(size):
        assert run() == run() == (15, False)
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert "\n" not in said.getMessage()
    assert "File too large" in said.getMessage() and "NUMBA_CACHE_DIR" in said.getMessage()
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert run() == (15, False)
    assert run() == (15, True)


@pytest.mark.parametrize("call", ["mkdir", "write_bytes", "replace", "unlink"])
def test_any_call_of_the_file_system_may_fail(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, fails)
        assert run() == (15, False)
    assert "No space left on device" in caplog.text
    assert run()[0] == 15


def test_without_any_folder_to_write_in(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only installation, and a user without a home."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(kernel_cache, "user_cache", lambda: None)
    folder.write_text("a file where the folder would be")
    monkeypatch.setattr(sys, "pycache_prefix", str(folder))
    assert run() == run() == (15, False)
    assert len(caplog.records) == 1


def test_the_users_cache_is_used_where_the_package_cannot_be_written(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    folder.write_text("a file where the folder would be")
    monkeypatch.setattr(sys, "pycache_prefix", str(folder))
    assert run() == (15, False)
    assert kept(tmp_path / "own").parts[-4:-2] == ("colo-flush", "kernels")
    assert run() == (15, True)
    assert not caplog.records


def test_a_filled_cache_serves_those_who_cannot_write_there(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an installation by root that compiled the kernels."""
    run()
    with full_after(0):
        assert run() == (15, True)
    assert not caplog.records


def test_without_stderr(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with full_after(0):
        made = entry(triple)
        compile.compile_kernels.__wrapped__()
    assert made.signatures


# Nothing stale.


def test_a_constant_or_function_replaced_in_memory_is_neither_run_nor_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``model.faults.broken`` does so."""

    def union() -> Callable[..., Any]:
        either = Domain(np.uint64, primitives, finish=numba.njit).lift(words.either)
        return lambda cache, host: either(cache, host)

    assert run(union(), 1, 2) == (3, False)
    with monkeypatch.context() as patch:
        patch.setattr(words, "either", lambda cache, host: cache & host)
        assert run(union(), 1, 2) == (0, False)
        assert run(union(), 1, 2) == (0, True)
    assert run(union(), 1, 2)[0] == 3

    run()
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "THREE", np.uint64(4))
        assert run() == (20, False)
    assert run()[0] == 15


A_KERNEL = """
from impl.kernels.compile import compiled, entry
from model import words
from model.protocols import check_in

_either, _inside = compiled(words.either), compiled(check_in.inside)


@entry
def union(cache, host):
    return _either(cache, _inside(host))
"""

A_RUN = """
import numpy as np
from impl.deeper.down import union
print(union(np.uint64(1), np.uint64(2)), sum(union.stats.cache_hits.values()))
"""


def copied(folder: Path) -> Path:
    """A copy of the project with a kernel of its own in a subfolder, and no other imported."""
    for package in ("model", "impl"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=leave)
    (folder / "impl" / "__init__.py").write_text("")
    (folder / "impl" / "deeper").mkdir()
    (folder / "impl" / "deeper" / "__init__.py").write_text("")
    (folder / "impl" / "deeper" / "down.py").write_text(A_KERNEL)
    return folder


def zipped(folder: Path) -> Path:
    """The copy as an archive that can be imported from."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as into:
        for path in sorted(folder.rglob("*.py")):
            into.write(path, path.relative_to(folder))
    return archive


PLACES = {
    "in the tree": "project/impl/kernels/__pycache__",
    "beside the bytecode": "bytecode",
    "of the user": "home",
    "NUMBA_CACHE_DIR": "chosen",
    "of an archive": "home",
}


#: What is changed of the model, and what the union of 1 and 2 is then.
IN_THE_MODEL = ("words.py", "return cache | host", "return cache & host", "0")
BELOW_IT = ("protocols/check_in.py", "return state & INSIDE", "return state & ZERO", "1")


@pytest.mark.parametrize(
    ("place", "change"),
    [(place, BELOW_IT if place == "in the tree" else IN_THE_MODEL) for place in PLACES],
)
def test_a_change_of_the_model_is_what_runs(
    place: str, change: tuple[str, str, str, str], tmp_path: Path
) -> None:
    """Wherever kernels are kept, and wherever in impl/ and model/ they and their sources are."""
    project = copied(tmp_path / "project")
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    if place == "beside the bytecode":
        environment["PYTHONPYCACHEPREFIX"] = str(tmp_path / "bytecode")
    elif place == "of the user":
        (project / "impl" / "kernels" / "__pycache__").write_text("no folder")
    elif place == "NUMBA_CACHE_DIR":
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "chosen")

    def union_of_1_and_2() -> tuple[str, str]:
        path = zipped(project) if place == "of an archive" else project
        done = subprocess.run(
            [sys.executable, "-c", A_RUN],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        result, loaded = done.stdout.split()
        return result, loaded

    assert union_of_1_and_2() == ("3", "0")
    (file,) = tmp_path.rglob("*.nbc")
    assert file.is_relative_to(tmp_path / PLACES[place])
    source, whole, broken, result = change
    changed = project / "model" / source
    assert changed.read_text().count(whole) == 1
    changed.write_text(changed.read_text().replace(whole, broken))
    assert union_of_1_and_2() == (result, "0")
    assert list(tmp_path.rglob("*.nbc")) == [file]


def test_every_source_is_stamped_however_deep_it_lies() -> None:
    """A kernel that is moved into a folder, and a model that is, are read there."""
    for package in kernel_cache.PACKAGES:
        stamped = {name for name, _ in kernel_cache._files(ROOT / package, package)}
        there = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert stamped == there
        assert any(name.count("/") > 1 for name in stamped)
