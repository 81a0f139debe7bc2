"""The guest's workload and image, checked without QEMU: what the guest will be judged by."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.guest import image, workload
from tests.guest.workload import GuestWrong, Report, check_history, reports
from tests.support import needs

ROUNDS = 3


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the workload says in its first rounds, run here."""
    if not shutil.which("gcc"):
        pytest.skip(needs.GCC)
    program = tmp_path_factory.mktemp("workload") / "workload"
    subprocess.run(["gcc", "-O2", "-o", program, image.HERE / "workload.c"], check=True)
    with subprocess.Popen(
        [program, str(workload.MEBIBYTES)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(ROUNDS)]
        process.kill()
    return "".join(lines)


def test_the_workload_and_its_second_working_out_agree(said: str) -> None:
    history = reports(said)
    assert [report.number for report in history] == list(range(1, ROUNDS + 1))
    check_history(history)


def test_another_sum_is_wrong(said: str) -> None:
    history = reports(said)
    swapped = [Report("round", 1, history[1].text), *history[1:]]
    with pytest.raises(GuestWrong, match="expected round 1 to be right"):
        check_history(swapped)


def test_a_round_or_files_left_out_or_repeated_is_wrong(said: str) -> None:
    history = [*reports(said), Report("files", 1, "ok"), Report("files", 2, "ok")]
    check_history(history)
    for wrong in (history[1:], [history[0], *history], history[:-2] + history[-1:]):
        with pytest.raises(GuestWrong):
            check_history(wrong)


@pytest.mark.parametrize(
    "line", ["colo-guest round 1 corrupt page 7 word 2", "colo-guest files 1 corrupt"]
)
def test_what_the_guest_finds_corrupt_is_wrong(line: str) -> None:
    with pytest.raises(GuestWrong, match="corrupt"):
        check_history(reports(line + "\n"))


def test_an_unfinished_line_is_no_report() -> None:
    whole = "noise\ncolo-guest files 1 ok\r\ncolo-guest fil"
    assert reports(whole) == [Report("files", 1, "ok")]
    assert reports(whole + "es 2 ok\n")[1:] == [Report("files", 2, "ok")]


def filled(page: int, version: int) -> list[int]:
    """A page as ``fill`` in workload.c leaves it."""
    seed = int(workload._mix(np.array([page << 32 | version], np.uint64))[0])
    body = range(1, workload.PAGE_WORDS - workload.HEADER_WORDS + 1)
    return [workload.MAGIC, page, version, *((seed + k * workload.INCREMENT) % 2**64 for k in body)]


def test_pages_are_found_by_their_header_and_last_word() -> None:
    whole, before = filled(77, 5), filled(77, 4)
    last = workload.PAGES - 1
    a_return_address = 0x401B55  # seen: a guest's stack that lay just so
    pages = {
        (77, 5): whole,
        (77, 4): before,
        (last, 0): filled(last, 0),
        # Seen between any two words of a rewrite.
        **{(77, -k): [*whole[:k], *before[k:]] for k in (2, 3, 4, 256, 511)},
    }
    strangers = [
        [0] * 512,
        [workload.MAGIC, a_return_address, *[0] * 510],
        filled(workload.PAGES, 0),
        [workload.MAGIC, 77, 5, *[0] * 509],
        [*whole[:3], *filled(77, 3)[3:]],
        [*filled(77, 0)[:3], *filled(77, 2**64 - 1)[3:]],
        [0, *whole[1:]],
    ]
    ram = np.array([*pages.values(), *strangers], np.uint64).view(np.uint8).reshape(-1)
    found, versions = workload.pages_in(ram)
    assert found.tolist() == [*(page for page, _ in pages), *[-1] * len(strangers)]
    assert versions[: len(pages)].tolist() == [5, 4, 0, 4, 5, 5, 5, 5]


def test_the_initramfs_is_what_cpio_reads(tmp_path: Path) -> None:
    if not shutil.which("busybox"):
        pytest.skip(needs.BUSYBOX)
    entries = [("a", 0o040755, b"", (0, 0)), ("a/b", 0o100644, b"content", (0, 0))]
    archive = b"".join(image.cpio(entries))
    subprocess.run(["busybox", "cpio", "-i"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "a" / "b").read_bytes() == b"content"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLO_GUEST_DIR", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert image.missing() == "apt install qemu-system-x86 busybox-static gcc libc6-dev"
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    assert image.missing().startswith("python -m tests.guest image")
    (tmp_path / "vmlinuz").touch()
    assert image.missing() == ""
