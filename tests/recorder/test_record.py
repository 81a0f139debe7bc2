"""``python -m impl record`` against a QEMU that knows what its guest wrote."""

import argparse
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from impl.recorder import page_diff, qmp, record
from impl.recorder.qemu import ram_blocks
from impl.recorder.qmp import GuestGone, Monitor, MonitorError
from impl.recorder.ram_file import RamFileError
from impl.traces import format as trace
from model.errors import ColoError
from tests.recorder.fake_qemu import BLOCKS, PAGE, RAM_PAGES, FakeQemu, Make, fake_qemus
from tests.support.bits import pages_of

FIRST_BIT = 200  # of pc.ram


make = fake_qemus


def run(
    tmp_path: Path, primary: FakeQemu, secondary: FakeQemu | None = None, **more: object
) -> int:
    """Run the command on one guest, or two, with short epochs."""
    parser = argparse.ArgumentParser()
    record.add_command(parser.add_subparsers())
    words = ["record", "--qmp", str(primary.socket), "--ram", str(primary.ram_file)]
    if secondary is not None:
        words += ["--secondary-qmp", str(secondary.socket)]
        words += ["--secondary-ram", str(secondary.ram_file)]
    words += ["--epoch", "1ms", "-o", str(tmp_path / "trace.npz")]
    for name, value in more.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    arguments = parser.parse_args(words)
    return int(arguments.run(arguments))


def pages(words: np.ndarray) -> set[int]:
    """The pages of pc.ram whose bits are set."""
    return {bit - FIRST_BIT for bit in pages_of(words)}


def test_each_epoch_holds_exactly_what_the_guest_wrote(tmp_path: Path, make: Make) -> None:
    qemu = make()
    assert run(tmp_path, qemu, epochs=5) == 0
    recorded = trace.load(tmp_path / "trace.npz")
    # The last set was written after the last look.
    assert [pages(words) for words in recorded.cache_dirty] == qemu.written[:-1]
    assert not recorded.host_dirty.any()
    assert len(qemu.written) == 6 and all(qemu.written)


def test_the_layout_is_qemus_block_list(tmp_path: Path, make: Make) -> None:
    run(tmp_path, make(), epochs=1)
    layout = trace.load(tmp_path / "trace.npz").layout
    names = [line.split()[0] for line in BLOCKS.splitlines()[1:]]
    assert [block.name for block in layout.blocks] == names
    assert [region.first_bit for region in layout.regions] == [0, FIRST_BIT, 1024]
    assert [region.used_pages for region in layout.regions] == [200, RAM_PAGES, 1]


def test_two_guests_fill_both_bitmaps(tmp_path: Path, make: Make) -> None:
    primary, secondary = make("primary", seed=1), make("secondary", seed=2)
    assert run(tmp_path, primary, secondary, epochs=4) == 0
    recorded = trace.load(tmp_path / "trace.npz")
    assert [pages(words) for words in recorded.cache_dirty] == primary.written[:-1]
    assert [pages(words) for words in recorded.host_dirty] == secondary.written[:-1]
    assert primary.written != secondary.written
    assert np.isnan(recorded.flush_seconds).all()


def test_recording_writes_nothing_into_the_guest(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.guest = lambda: None
    qemu.ram[:] = np.random.default_rng(0).integers(256, size=len(qemu.ram), dtype=np.uint8)
    before = qemu.ram.copy()
    run(tmp_path, qemu, epochs=2)
    assert np.array_equal(qemu.ram, before)
    assert not trace.load(tmp_path / "trace.npz").cache_dirty.any()


def test_every_stop_is_followed_by_a_cont(tmp_path: Path, make: Make) -> None:
    qemu = make()
    run(tmp_path, qemu, epochs=3)
    steps = [command for command in qemu.commands if command in ("stop", "cont")]
    assert steps == ["stop", "cont"] * 4


def test_ctrl_c_keeps_what_was_recorded_and_leaves_the_guest_running(
    tmp_path: Path, make: Make
) -> None:
    qemu = make()

    def interrupt_after_three_epochs() -> None:
        while qemu.commands.count("cont") < 4:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt_after_three_epochs)
    thread.start()
    assert run(tmp_path, qemu) == 0
    thread.join()
    recorded = trace.load(tmp_path / "trace.npz")
    assert recorded.epochs >= 3 and recorded.epochs == len(qemu.written) - 1
    assert qemu.running and signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_the_first_epoch_says_that_there_is_no_trace(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.guest = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(ColoError, match="nothing was recorded"):
        run(tmp_path, qemu, epoch="10s")
    assert qemu.running and not (tmp_path / "trace.npz").exists()


def test_two_guests_with_other_blocks(tmp_path: Path, make: Make) -> None:
    primary, secondary = make("primary"), make("secondary")
    secondary.blocks = BLOCKS.replace("vga.vram", "vga.more")
    with pytest.raises(ColoError, match="differ in their RAM blocks"):
        run(tmp_path, primary, secondary)


def test_a_guest_that_goes_is_an_error_that_keeps_what_was_recorded(
    tmp_path: Path, make: Make
) -> None:
    with pytest.raises(GuestGone, match="went away during 'stop'"):
        run(tmp_path, make(gone_after=3), epochs=10)
    assert trace.load(tmp_path / "trace.npz").epochs == 2


def test_if_one_of_two_goes_the_other_runs_on(tmp_path: Path, make: Make) -> None:
    primary, secondary = make("primary"), make("secondary", gone_after=2)
    with pytest.raises(GuestGone):
        run(tmp_path, primary, secondary, epochs=10)
    assert primary.running and primary.commands[-1] == "cont"


def test_a_socket_where_nobody_answers(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.close()
    qemu.socket.unlink()
    with pytest.raises(MonitorError, match=r"no monitor answers at .*: start QEMU with -qmp"):
        run(tmp_path, qemu)


def test_a_guest_that_stands_still(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.state = "paused"
    with pytest.raises(ColoError, match="stands still"):
        run(tmp_path, qemu)
    assert "cont" not in qemu.commands


def test_a_ram_file_of_another_size(tmp_path: Path, make: Make) -> None:
    qemu = make()
    os.truncate(qemu.ram_file, (RAM_PAGES - 1) * PAGE)
    with pytest.raises(RamFileError, match=r"holds 2093056 bytes, but block 'pc.ram' uses 2097152"):
        run(tmp_path, qemu)
    assert "stop" not in qemu.commands


def test_a_file_that_is_not_the_guests(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.ram_file = tmp_path / "another"
    qemu.ram_file.write_bytes(bytes(RAM_PAGES * PAGE))
    with pytest.raises(RamFileError, match="is not shared RAM of this guest"):
        run(tmp_path, qemu)


def test_ram_that_is_not_shared(tmp_path: Path, make: Make) -> None:
    qemu = make()
    qemu.backends[0]["share"] = False
    with pytest.raises(RamFileError, match="share=on"):
        run(tmp_path, qemu)


def test_a_command_that_qemu_refuses(make: Make) -> None:
    with Monitor(make().socket) as monitor, pytest.raises(MonitorError, match="refused 'nonsense'"):
        monitor.ask("nonsense")


def test_a_qemu_that_does_not_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = make()
    qemu.lie = lambda command, line: [] if command == "stop" else [line]
    with Monitor(qemu.socket) as monitor:
        monkeypatch.setattr(qmp, "TIMEOUT_SECONDS", 0.1)
        with pytest.raises(MonitorError, match=r"has not answered 'stop' for 0.1 s"):
            monitor.ask("stop")


def test_newer_qemus_print_more_columns(make: Make) -> None:
    qemu = make()
    header, *rows = BLOCKS.splitlines()
    newer = [header + "                HVA  RO", *(f"{row} 0x00007f54a3e00000  rw" for row in rows)]
    with Monitor(qemu.socket) as monitor:
        older = ram_blocks(monitor)
        qemu.blocks = "\r\n".join(newer)
        assert ram_blocks(monitor) == older and len(older) == 3


@pytest.mark.parametrize("words", [["--epoch", "500"], ["--epochs", "0"], ["--epochs", "many"]])
def test_bad_options_say_what_to_write(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    record.add_command(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["record", "--qmp", "q", "--ram", "r", "-o", "t", *words])
    assert "write" in capsys.readouterr().err


@pytest.mark.parametrize("page_size", [1024, 4096, 2 << 20])
def test_changed_pages_are_found_wherever_the_byte_is(page_size: int) -> None:
    random = np.random.default_rng(page_size)
    before = np.frombuffer(random.bytes(8 * max(page_size, 1 << 20)), np.uint8)
    now = before.copy()
    expected = set()
    for _ in range(20):
        byte = int(random.integers(len(now)))
        now[byte] = before[byte] ^ np.uint8(random.integers(1, 256))
        expected.add(byte // page_size)
    changed = page_diff.changed_pages(before, now, page_size)
    assert set(np.flatnonzero(changed).tolist()) == expected
    assert len(changed) == len(now) // page_size
