"""The recorder leaves the guest as it found it: what stops it, whose it is, its holes, its disk."""

import ctypes
import errno
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from impl.errors import TooLittleMemory, TraceError
from impl.recorder import qmp, record, watched_guest
from impl.recorder.qemu import _STANDSTILL, GuestMigrates, GuestStandsStill
from impl.recorder.qmp import MonitorError
from impl.recorder.ram_file import RamFileError
from impl.recorder.watched_guest import GuestDisturbed
from impl.traces import format as trace
from model.boundary.output import OutputError
from model.errors import ColoError
from tests.project.test_output import listing, small_files
from tests.recorder.fake_qemu import BLOCKS, PAGE, RAM_PAGES, FakeQemu, Make, fake_qemus
from tests.recorder.test_record import pages, run
from tests.support.needs import HUGE_PAGES

make = fake_qemus


def at(
    qemu: FakeQemu, command: str, time: int, do: Callable[[], object], when: str = "before"
) -> None:
    """Do something once, before (or after) a command is carried out for the given time."""

    def hook(now: str) -> None:
        if now == command and qemu.commands.count(command) == time:
            do()

    setattr(qemu, when, hook)


def conts(qemu: FakeQemu) -> int:
    return qemu.commands.count("cont")


@pytest.mark.parametrize("state", sorted(_STANDSTILL))
def test_a_guest_that_something_else_stops_is_left_as_it_is(
    tmp_path: Path, make: Make, state: str
) -> None:
    qemu = make()
    at(qemu, "cont", 3, lambda: qemu.become(state), "after")
    with pytest.raises(GuestStandsStill, match=f"QEMU's state: '{state}'.*left as it is") as error:
        run(tmp_path, qemu, epochs=20)
    assert qemu.state == state and conts(qemu) == 3
    assert trace.load(tmp_path / "trace.npz").epochs == 2
    assert str(error.value).isprintable()


@pytest.mark.parametrize("state", sorted(_STANDSTILL))
def test_nor_is_it_touched_at_the_start(tmp_path: Path, make: Make, state: str) -> None:
    qemu = make()
    qemu.state = state
    with pytest.raises(GuestStandsStill, match="stands still"):
        run(tmp_path, qemu, epochs=20)
    assert qemu.state == state and not {"stop", "cont"} & set(qemu.commands)


@pytest.mark.parametrize("state", ["paused", "shutdown", "postmigrate"])
def test_it_is_stopped_between_our_look_and_our_stop(
    tmp_path: Path,
    make: Make,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """QEMU says when it was stopped: before we asked, so it was not we."""
    qemu = make()
    look = watched_guest.WatchedGuest._check_it_runs

    def look_then_somebody_stops(guest: watched_guest.WatchedGuest) -> None:
        look(guest)
        if conts(qemu) == 3:
            qemu.become(state)
            time.sleep(0.001)

    monkeypatch.setattr(watched_guest.WatchedGuest, "_check_it_runs", look_then_somebody_stops)
    with pytest.raises(GuestStandsStill):
        run(tmp_path, qemu, epochs=20)
    assert qemu.state == state and conts(qemu) == 3
    assert trace.load(tmp_path / "trace.npz").epochs == 2


DISTURBANCES: dict[str, tuple[list[str], type[ColoError]]] = {
    "let run": (["running"], GuestDisturbed),
    "let run and stopped": (["running", "paused"], GuestDisturbed),
    "migrated": (["finish-migrate", "postmigrate"], GuestStandsStill),
    "shut down": (["shutdown"], GuestStandsStill),
}


@pytest.mark.parametrize("what", DISTURBANCES)
def test_somebody_takes_it_over_while_we_look(
    tmp_path: Path,
    make: Make,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qemu = make()
    states, error = DISTURBANCES[what]
    find = watched_guest.WatchedGuest._find

    def find_meanwhile(guest: watched_guest.WatchedGuest, target: np.ndarray) -> np.ndarray:
        if conts(qemu) == 3:
            for state in states:
                qemu.become(state)
        return find(guest, target)

    monkeypatch.setattr(watched_guest.WatchedGuest, "_find", find_meanwhile)
    with pytest.raises(error) as raised:
        run(tmp_path, qemu, epochs=20)
    assert qemu.state == states[-1] and conts(qemu) == 3
    assert trace.load(tmp_path / "trace.npz").epochs == 2, (
        "what was seen meanwhile is worth nothing"
    )
    assert ("let it run there" in str(raised.value)) == (what == "migrated")


@pytest.mark.parametrize("status", ["setup", "active", "postcopy-active", "device"])
def test_a_guest_that_migrates_is_not_stopped(tmp_path: Path, make: Make, status: str) -> None:
    """It would arrive stopped."""
    qemu = make()
    at(qemu, "cont", 3, lambda: setattr(qemu, "migration", status))
    with pytest.raises(GuestMigrates, match="would arrive stopped"):
        run(tmp_path, qemu, epochs=20)
    assert qemu.running and qemu.commands.count("stop") == 3
    assert trace.load(tmp_path / "trace.npz").epochs == 2


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "none", "colo"])
def test_a_migration_that_is_over_is_none(tmp_path: Path, make: Make, status: str) -> None:
    qemu = make()
    qemu.migration = status
    assert run(tmp_path, qemu, epochs=2) == 0


def test_of_two_guests_only_ours_is_let_run(tmp_path: Path, make: Make) -> None:
    primary, secondary = make("primary"), make("secondary")
    at(secondary, "cont", 3, lambda: secondary.become("postmigrate"), "after")
    with pytest.raises(GuestStandsStill, match=r"secondary.*migrated away"):
        run(tmp_path, primary, secondary, epochs=20)
    assert primary.running and secondary.state == "postmigrate"
    assert conts(primary) == primary.commands.count("stop")


def test_a_qemu_without_events_will_do(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.become = lambda state: setattr(qemu, "state", state)  # type: ignore[method-assign]
    assert run(tmp_path, qemu, epochs=3) == 0
    assert qemu.running and conts(qemu) == 4


WITHIN = ("query-status", "query-migrate", "stop", "cont")


def test_ctrl_z_does_not_stop_us_with_the_guest(tmp_path: Path, make: Make) -> None:
    qemu = make()
    at(qemu, "stop", 2, lambda: os.kill(os.getpid(), signal.SIGTSTP), "after")
    assert run(tmp_path, qemu, epochs=3) == 0
    assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL


@pytest.mark.parametrize("number", record._SIGNALS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_signal_ends_us_while_the_guest_stands_still(
    tmp_path: Path, make: Make, when: str, number: int
) -> None:
    qemu = make()
    at(qemu, "stop", 2, lambda: os.kill(os.getpid(), number), when)
    assert run(tmp_path, qemu) == 0
    assert qemu.running and trace.load(tmp_path / "trace.npz").epochs == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", WITHIN)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_at_any_command_leaves_the_guest_running(
    tmp_path: Path,
    make: Make,
    command: str,
    when: str,
    number: int,
) -> None:
    qemu = make()
    at(
        qemu,
        command,
        4 if command == "query-status" else 2,
        lambda: os.kill(os.getpid(), number),
        when,
    )
    before = [signal.getsignal(n) for n in record._SIGNALS]
    try:
        assert run(tmp_path, qemu, epochs=20) == 0
        assert trace.load(tmp_path / "trace.npz").epochs >= 1
    except ColoError as error:
        assert "nothing was recorded" in str(error)
    assert qemu.running
    assert [signal.getsignal(n) for n in record._SIGNALS] == before


def test_an_ignored_signal_stays_ignored(tmp_path: Path, make: Make) -> None:
    """As under ``nohup``, whose SIGHUP would otherwise end the recording."""
    qemu = make()
    at(qemu, "cont", 2, lambda: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(tmp_path, qemu, epochs=4) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert trace.load(tmp_path / "trace.npz").epochs == 4


@pytest.mark.parametrize(
    "error", [MemoryError, OSError(5, "I/O error"), KeyboardInterrupt, ZeroDivisionError]
)
@pytest.mark.parametrize("where", ["differing_pages", "to_bitmap", "time.perf_counter"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_whatever_goes_wrong_the_guest_runs_on(
    tmp_path: Path,
    make: Make,
    error: BaseException,
    where: str,
    nth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qemu, calls = make(), []
    real = time.perf_counter if "." in where else getattr(watched_guest, where)

    def wrong(*arguments: object) -> object:
        calls.append(where)
        if len(calls) == nth:
            raise error
        return real(*arguments)

    monkeypatch.setattr(f"impl.recorder.watched_guest.{where}", wrong)
    with pytest.raises(BaseException) as raised:
        run(tmp_path, qemu, epochs=4)
    monkeypatch.undo()
    assert qemu.running and isinstance(raised.value, error if isinstance(error, type) else OSError)
    assert conts(qemu) == qemu.commands.count("stop")


def test_a_ram_file_cut_while_it_is_read(tmp_path: Path, make: Make) -> None:
    """Through a mapping this would be SIGBUS, and a guest that stands still for good."""
    qemu = make()

    def cut() -> None:
        os.truncate(qemu.ram_file, PAGE)
        qemu.guest = lambda: None

    at(qemu, "stop", 3, cut)
    with pytest.raises(RamFileError, match="ends at byte 4096: it has been cut"):
        run(tmp_path, qemu, epochs=20)
    os.truncate(qemu.ram_file, RAM_PAGES * PAGE)
    assert qemu.running and trace.load(tmp_path / "trace.npz").epochs == 1


def allocated(qemu: FakeQemu) -> int:
    return qemu.ram_file.stat().st_blocks * 512


def test_holes_stay_holes(tmp_path: Path, make: Make) -> None:
    """The RAM is sparse shared memory, of which 24 KiB are in use."""
    qemu = make(memfd=True)
    qemu.guest = lambda: qemu.written.append(set())
    for page in (0, 7, 200, 201, 300, RAM_PAGES - 1):
        qemu.ram[page * PAGE + 5] = 1
    before = allocated(qemu)
    assert before == 6 * PAGE
    assert run(tmp_path, qemu, epochs=3) == 0
    assert allocated(qemu) == before
    assert not trace.load(tmp_path / "trace.npz").cache_dirty.any()


def test_a_mapping_would_fill_them(make: Make) -> None:
    """The control: what the recorder used to do."""
    qemu = make(memfd=True)
    np.memmap(qemu.ram_file, np.uint8, "c").sum()
    assert allocated(qemu) == RAM_PAGES * PAGE


@pytest.mark.parametrize("piece", [PAGE, 64 << 10, 2 << 20])
def test_a_balloon_is_not_undone_and_its_pages_are_dirty(
    tmp_path: Path,
    make: Make,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guest's driver gives pages back: QEMU punches holes. They read as zero, then differ."""
    qemu = make(memfd=True)
    monkeypatch.setattr(watched_guest, "_PIECE_BYTES", piece)
    qemu.ram[:] = 1
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: punch(qemu, 3, 40),
        lambda: qemu.ram[5 * PAGE : 6 * PAGE].fill(9),
        lambda: qemu.ram[5 * PAGE : 6 * PAGE].fill(0),
    ]
    qemu.guest = lambda: steps.pop(0)() if steps else None
    assert run(tmp_path, qemu, epochs=4) == 0
    found = [pages(words) for words in trace.load(tmp_path / "trace.npz").cache_dirty]
    assert found == [set(), set(range(3, 43)), {5}, {5}]
    assert allocated(qemu) == (RAM_PAGES - 39) * PAGE, "the page that was written came back"


def punch(qemu: FakeQemu, page: int, count: int) -> None:
    """fallocate(PUNCH_HOLE), as QEMU's ``ram_block_discard_range`` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size, punch_hole = 1, 2
    arguments = (qemu._descriptor, keep_size | punch_hole, page * PAGE, count * PAGE)
    types = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    assert libc.fallocate(*(kind(value) for kind, value in zip(types, arguments, strict=True))) == 0


@pytest.mark.parametrize("offset", [0, 64 << 10, 1 << 20])
def test_a_larger_file_of_which_the_block_is_a_part(
    tmp_path: Path, make: Make, offset: int
) -> None:
    qemu = make()
    os.truncate(qemu.ram_file, (RAM_PAGES + 1000) * PAGE)
    qemu.ram = np.memmap(qemu.ram_file, np.uint8, "r+", offset, RAM_PAGES * PAGE)
    if offset:
        qemu.properties["pc.ram", "offset"] = offset
    assert run(tmp_path, qemu, epochs=3) == 0
    recorded = trace.load(tmp_path / "trace.npz")
    assert [pages(words) for words in recorded.cache_dirty] == qemu.written[:-1]


@pytest.mark.parametrize("offset", [(1001) * PAGE, 1 << 62, 2**63, -PAGE])
def test_an_offset_past_the_end(tmp_path: Path, make: Make, offset: int) -> None:
    qemu = make()
    os.truncate(qemu.ram_file, (RAM_PAGES + 1000) * PAGE)
    qemu.properties["pc.ram", "offset"] = offset
    with pytest.raises(RamFileError, match=f"holds .* uses 2097152 from byte {offset} on"):
        run(tmp_path, qemu, epochs=20)


def test_a_memfd_that_is_not_the_only_one(tmp_path: Path, make: Make) -> None:
    qemu = make(memfd=True)
    qemu.backends.append({"id": "more", "share": True})
    with pytest.raises(RamFileError, match=r"cannot be told from outside \(.*'pc.ram', 'more'\)"):
        run(tmp_path, qemu, epochs=20)


def test_a_memfd_of_somebody_else(tmp_path: Path, make: Make) -> None:
    """Nothing in its name tells it from QEMU's; that QEMU has not mapped it does."""
    qemu = make(memfd=True)
    descriptor = os.memfd_create("memory-backend-memfd")
    os.truncate(descriptor, RAM_PAGES * PAGE)
    qemu.ram_file = Path(f"/proc/self/fd/{descriptor}")
    with pytest.raises(RamFileError, match=r"not seen among the files that process \d+"):
        run(tmp_path, qemu, epochs=20)
    os.close(descriptor)


def test_huge_pages(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as they are: a private mapping would ask for as many again."""
    monkeypatch.setattr(os, "memfd_create", huge_memfd(os.memfd_create))
    qemu = make(memfd=True)
    assert run(tmp_path, qemu, epochs=3) == 0
    recorded = trace.load(tmp_path / "trace.npz")
    assert [pages(words) for words in recorded.cache_dirty] == qemu.written[:-1]


def huge_memfd(create: Callable[[str, int], int]) -> Callable[[str], int]:
    """A memfd of huge pages, if the machine has two to spare; else the test skips."""

    def made(name: str) -> int:
        descriptor = create(name, os.MFD_CLOEXEC | os.MFD_HUGETLB)
        try:
            os.truncate(descriptor, RAM_PAGES * PAGE)
            np.memmap(f"/proc/self/fd/{descriptor}", np.uint8, "r+")[0] = 0
        except OSError:
            pytest.skip(HUGE_PAGES)
        return descriptor

    return made


def test_the_guests_ram_is_not_written_over(tmp_path: Path, make: Make) -> None:
    qemu = make()
    (tmp_path / "trace.npz").symlink_to(qemu.ram_file)
    with pytest.raises(OutputError, match="would be written over"):
        run(tmp_path, qemu, epochs=20)
    assert not qemu.commands and qemu.ram_file.stat().st_size == RAM_PAGES * PAGE


@pytest.mark.parametrize("name", ["no/folder/t", "", "x" * 300])
def test_an_output_that_cannot_be_is_refused_before_the_guest_is_touched(
    tmp_path: Path,
    make: Make,
    name: str,
) -> None:
    qemu = make()
    with pytest.raises(OutputError):
        run(tmp_path, qemu, output=tmp_path / name)
    assert not qemu.commands


def test_a_full_disk_costs_neither_the_recording_nor_the_older_one(
    tmp_path: Path,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    old = tmp_path / "trace.npz"
    old.write_text("old")
    real = os.fsync

    def full(descriptor: int) -> None:
        if "elsewhere" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left.*the recording is kept in (.*)") as error:
        run(tmp_path, make(), epochs=3)
    (kept,) = (tmp_path / "elsewhere").iterdir()
    assert str(error.value).endswith(str(kept)) and trace.load(kept).epochs == 3
    assert old.read_text() == "old" and listing(tmp_path) == {"trace.npz", "elsewhere", "qemu"}


def test_where_no_disk_has_room(tmp_path: Path, make: Make) -> None:
    qemu = make()
    at(qemu, "stop", 1, lambda: None)
    with small_files(100), pytest.raises(OutputError, match="nor anywhere else"):
        run(tmp_path, qemu, epochs=1)
    assert qemu.running and listing(tmp_path) == {"qemu"}


def test_exactly_the_name_that_was_given(tmp_path: Path, make: Make) -> None:
    assert run(tmp_path, make(), epochs=1, output=tmp_path / "x.out") == 0
    assert trace.load(tmp_path / "x.out").epochs == 1
    assert listing(tmp_path) == {"x.out", "qemu"}


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        (BLOCKS.replace("vga.vram", "vga\x1b[m"), "printable"),
        (BLOCKS.replace("vga.vram", "v" * 256), "at most 255"),
        (BLOCKS.replace("vga.vram", "pc.ram  "), "twice"),
        (BLOCKS.replace("0x0000000000400000", "0x0000000000100000"), "overlap"),
        (
            BLOCKS.replace("0x0000000000400000", "0xfffffffffffff000"),
            "passes 2\\^64|no epoch of that",
        ),
        (BLOCKS.replace("0x0000000000400000", "0x0000000000400001"), "whole number"),
        (BLOCKS.replace("0x0000000000400000", "0x0040000000000000"), "no epoch of that"),
    ],
)
def test_what_would_not_load_is_refused_before_the_guest_is_stopped(
    tmp_path: Path,
    make: Make,
    blocks: str,
    error: str,
) -> None:
    qemu = make()
    qemu.blocks = blocks
    with pytest.raises(ColoError, match=error):
        run(tmp_path, qemu, epochs=20)
    assert "stop" not in qemu.commands


def test_more_epochs_than_a_trace_holds(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "most_epochs", lambda _: 3)
    with pytest.raises(TraceError, match="3 epochs at most"):
        run(tmp_path, make("one"), epochs=4)
    with pytest.raises(TraceError, match="no more than 3 epochs"):
        run(tmp_path, make("two"))
    assert trace.load(tmp_path / "trace.npz").epochs == 3


def test_a_guest_larger_than_what_is_to_be_had(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kernel looks for a process to end, and the guest's is the largest."""
    qemu = make()
    qemu.ram[:] = 1
    monkeypatch.setattr("impl.machine.memory.available", lambda: RAM_PAGES * PAGE)
    with pytest.raises(TooLittleMemory):
        run(tmp_path, qemu, epochs=20)
    assert "stop" not in qemu.commands


@pytest.mark.parametrize("command", ["stop", "query-status", "cont"])
def test_a_qemu_that_hangs_for_a_while_is_waited_for(
    tmp_path: Path, make: Make, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would forget the `cont` of a recorder that has hung up."""
    qemu = make()
    monkeypatch.setattr(qmp, "TIMEOUT_SECONDS", 0.1)
    # The status is asked for at the start, then three times a look: the seventh is before a `cont`.
    number = 7 if command == "query-status" else 2
    at(qemu, command, number, lambda: time.sleep(0.5), "after")
    with (
        pytest.raises(MonitorError, match="has not answered")
        if command == "stop"
        else nullcontext()
    ):
        run(tmp_path, qemu, epochs=4)
    assert qemu.running


def test_a_qemu_that_hangs_for_good(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = make()
    monkeypatch.setattr(qmp, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(watched_guest, "PATIENCE_SECONDS", 0.5)
    qemu.lie = lambda command, line: [line] if "stop" not in qemu.commands[:-1] else []
    with pytest.raises(MonitorError, match=r"has not answered.*the guest may stand still"):
        run(tmp_path, qemu, epochs=4)


def test_if_cont_is_refused_it_is_said_aloud(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.lie = lambda command, line: (
        [b'{"error": {"class": "GenericError", "desc": "no"}}\n'] if command == "cont" else [line]
    )
    with pytest.raises(MonitorError, match=r"refused 'cont': no; the guest may stand still"):
        run(tmp_path, qemu, epochs=20)
