"""What commands give out: files whole or not at all, checked before the work; text fit for a terminal."""

import errno
import io
import os
import resource
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.boundary.output import (
    LONGEST_TEXT,
    OutputError,
    check_folder,
    check_outputs,
    printable,
    run_command,
    whole_file,
    write_text,
)
from model.errors import ColoError


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "x.out"
    write_text(path, "old")
    write_text(path, "new\n")
    assert path.read_text() == "new\n" and listing(tmp_path) == {"x.out"}


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file of this process may grow past ``most`` bytes: what a full disk is like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_the_older_file(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.out"
    path.write_text("old")
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", disk_full)
    if where == "rename":
        monkeypatch.setattr(Path, "replace", disk_full)
    with (
        small_files(4096 if where == "write" else 1 << 30),
        pytest.raises(OutputError, match=r"x\.out cannot be written \((File too large|No space)"),
    ):
        write_text(path, "new" * 10_000)
    assert path.read_text() == "old" and listing(tmp_path) == {"x.out"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_whatever_ends_the_writing_leaves_the_older_file(tmp_path: Path, error: type) -> None:
    path = tmp_path / "x.out"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old" and listing(tmp_path) == {"x.out"}


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/x.out")
    write_text(link, "one")
    write_text(link, "two")
    assert link.is_symlink() and (tmp_path / "there/x.out").read_text() == "two"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_mode_is_what_an_ordinary_file_would_have(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "new", "")
        (tmp_path / "old").touch(0o640)
        (tmp_path / "old").chmod(0o640)
        write_text(tmp_path / "old", "")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")]
    assert modes == [0o666 & ~mask, 0o640]


def test_streams_are_written_as_they_are(tmp_path: Path) -> None:
    check_outputs(Path("/dev/null"), Path("/dev/null"), Path("/dev/full"))
    write_text(Path("/dev/null"), "text")
    with pytest.raises(OutputError, match=r"/dev/full cannot be written \(No space left"):
        write_text(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device() and Path("/dev/null").is_char_device()

    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_a_file_that_is_named_by_its_descriptor_stays_that_file(tmp_path: Path) -> None:
    """`--json /dev/stdout > file`: what else the command prints goes there too."""
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    path = Path(f"/proc/self/fd/{descriptor}")
    check_outputs(path)
    write_text(path, "text\n")
    os.lseek(descriptor, 0, os.SEEK_END)
    os.write(descriptor, b"more\n")
    os.close(descriptor)
    assert (tmp_path / "out").read_text() == "text\nmore\n" and listing(tmp_path) == {"out"}


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no folder": (lambda folder: folder / "none" / "x", "No such file"),
    "a file for a folder": (lambda folder: folder / "file" / "x", "Not a directory"),
    "a folder": (lambda folder: folder, "it is a folder"),
    "nothing": (lambda _: Path(), "it is a folder"),
    "a long name": (lambda folder: folder / ("x" * 256), "File name too long"),
    "a long path": (lambda folder: folder / ("x/" * 5000), "File name too long"),
    "a NUL": (lambda folder: folder / "x\0y", "holds a NUL"),
    "read only": (lambda _: Path("/proc/version"), "may not be written|cannot be written"),
    "no file can be made there": (lambda _: Path("/proc/x"), "cannot be written"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_the_work(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    make, reason = REFUSED[what]
    with pytest.raises(OutputError, match=reason):
        check_outputs(make(tmp_path))
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(make(tmp_path), "text")
    assert listing(tmp_path) == {"file"}


def test_the_longest_name_there_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    check_outputs(path)
    assert listing(tmp_path) == set(), "a check leaves nothing behind"
    write_text(path, "text")
    assert listing(tmp_path) == {path.name}


def test_an_output_is_neither_an_input_nor_another_output(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    (tmp_path / "link").symlink_to("in")
    for path in ("in", "link", "../" + tmp_path.name + "/in"):
        with pytest.raises(OutputError, match="would be written over"):
            check_outputs(tmp_path / path, inputs=[tmp_path / "in"])
    with pytest.raises(OutputError, match="would be written over"):
        check_outputs(tmp_path / "out", tmp_path / "." / "out")
    check_outputs(tmp_path / "out", None, tmp_path / "other", inputs=[tmp_path / "in"])


def test_a_folder_for_files(tmp_path: Path) -> None:
    check_folder(tmp_path / "made" / "deep")
    assert listing(tmp_path / "made/deep") == set()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file cannot be written"):
        check_folder(tmp_path / "file")


@given(text=st.text(st.characters(exclude_categories=())))
def test_printable_text_is_one_line_of_printable_characters(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert text == shown if text.isprintable() else text != shown


@pytest.mark.parametrize(
    "evil",
    ["\x1b[2J", "\x9b2J", "\x00", "\r", "\n", "\u2028", "\u202e", "\u2066", "\ud800", "\ue000"],
)
def test_no_control_character_passes(evil: str) -> None:
    shown = printable(f"a{evil}b")
    assert shown[0] == "a" and shown[-1] == "b" and "\\" in shown
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    io.TextIOWrapper(io.BytesIO(), "utf-8").write(shown)


def test_a_megabyte_of_text_is_cut() -> None:
    assert len(printable("x" * (1 << 20))) < LONGEST_TEXT + 100
    assert len(printable("\ud800" * (1 << 20))) < 6 * LONGEST_TEXT + 100
    assert printable("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ColoError("page 3 differs"), 1, "error: page 3 differs"),
        (
            ModuleNotFoundError("No module named 'cvc5'", name="cvc5"),
            69,
            "pip install -e '.[test]'",
        ),
        (MemoryError(), 71, "error: there is not enough memory"),
        (OutputError("x cannot be written"), 73, "error: x cannot be written"),
        (OSError(28, "No space left"), 73, "error: what is printed: No space left"),
        (PermissionError(13, "Permission denied", "a.npz"), 74, "error: a.npz: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, ""),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, BaseException) else "",
)
def test_what_could_not_go_on_is_no_verdict(
    error: BaseException,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all that ends a command only an error of the project's own is 1."""
    monkeypatch.setattr("model.boundary.output._give_up_stdout", lambda: None)

    def ends() -> int:
        raise error

    assert run_command(ends) == code
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == bool(says)
