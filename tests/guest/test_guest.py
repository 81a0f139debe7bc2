"""Our flush under a real Linux guest: rolled back, as a COLO pair, and recorded. Needs QEMU.

The guest boots once; every test starts guests from the same snapshot.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from impl import FlushPool
from impl.traces import format as trace
from tests.guest import image
from tests.guest.colo import pair_from
from tests.guest.machine import Guest, Snapshot, boot, scratch
from tests.guest.nodes import run_in_two_nodes
from tests.guest.rollback import Checkpoint
from tests.guest.workload import PAGES, GuestWrong, check_history, last_round, pages_in, reports
from tests.support.needs import LONG_RUN, needs_guest

pytestmark = needs_guest


@pytest.fixture(scope="module")
def pool() -> Iterator[FlushPool]:
    with FlushPool() as it:
        yield it


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Snapshot]:
    with scratch() as folder:
        yield boot(image.build(), folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as it:
        yield it


@pytest.fixture
def guest(snapshot: Snapshot, folder: Path) -> Iterator[Guest]:
    with snapshot.guest(folder / "guest") as it:
        yield it


def test_rollbacks_in_a_row(guest: Guest, folder: Path, pool: FlushPool, long_run: bool) -> None:
    checkpoint = Checkpoint(guest, pool, folder / "checkpoint")
    for _ in range(200 if long_run else 3):
        checkpoint.run_on()
        dirty = int(checkpoint.changed().sum())
        done = checkpoint.roll_back()
        assert done.round_before > checkpoint.round
        assert done.stats.copied == done.stats.host_dirty == dirty > 0
        assert done.pages_left == 0
        check_history(done.history)


def test_the_guest_notices_one_page_left_out(guest: Guest, folder: Path, pool: FlushPool) -> None:
    checkpoint = Checkpoint(guest, pool, folder / "checkpoint")
    checkpoint.run_on()
    left_out, theirs = checkpoint.page_the_guest_would_miss()
    broken = checkpoint.roll_back(leave_out=left_out)
    assert broken.pages_left == 1
    # The first round may have passed that page before the checkpoint; later ones rewrite it.
    second = [report for report in broken.news if report.kind == "round"][1]
    assert second.corrupt_page == theirs
    with pytest.raises(GuestWrong, match=f"corrupt page {theirs} "):
        check_history(broken.history)

    mended = checkpoint.roll_back()
    assert mended.pages_left == 0
    check_history(mended.history)


def test_the_secondary_becomes_the_primary_at_each_checkpoint(
    snapshot: Snapshot, folder: Path, pool: FlushPool
) -> None:
    with pair_from(snapshot, folder, pool) as pair:
        for _ in range(3):
            pair.run_apart()
            assert pair.differences() > 0
            epoch = pair.checkpoint()
            assert epoch.stats.cache_dirty == np.count_nonzero(epoch.cache_dirty) > 0
            assert epoch.stats.host_dirty == np.count_nonzero(epoch.host_dirty) > 0
            assert np.array_equal(pair.primary.ram, pair.secondary.ram)
            pair.hand_over()
            assert np.array_equal(pair.primary.ram, pair.secondary.ram)
        pair.run_apart()


def test_without_its_own_dirty_pages_the_secondary_differs(
    snapshot: Snapshot, folder: Path, pool: FlushPool
) -> None:
    with pair_from(snapshot, folder, pool) as pair:
        pair.run_apart()
        epoch = pair.checkpoint(with_host_dirty=False)
        assert pair.differences() == np.count_nonzero(epoch.host_dirty & ~epoch.cache_dirty) > 0

        pair.checkpoint()
        assert pair.differences() == 0


def test_the_workload_is_found_in_ram(guest: Guest) -> None:
    pages, _ = pages_in(guest.ram)
    assert set(pages[pages >= 0].tolist()) == set(range(PAGES))


def record(guest: Guest, output: Path, *more: str) -> subprocess.Popen[str]:
    """Start recording a running guest that nobody else's monitor holds."""
    guest.cont()
    guest.monitor.close()
    command = ["record", "--qmp", guest.socket, "--ram", guest.ram_file, "-o", output]
    return subprocess.Popen(
        [sys.executable, "-m", "impl", *map(str, command), "--epoch", "200ms", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epoch(recorder: subprocess.Popen[str], number: int) -> None:
    """Wait until ``number`` epochs have been recorded."""
    assert recorder.stderr is not None
    for line in recorder.stderr:
        if line.startswith(f"epoch {number}: "):
            return
    pytest.fail("the recorder ended early")


def test_record_a_running_guest(guest: Guest, folder: Path) -> None:
    recorder = record(guest, folder / "trace.npz", "--epochs", "4")
    _, errors = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, errors
    recorded = trace.load(folder / "trace.npz")
    assert recorded.epochs == 4 and recorded.cache_dirty.any(axis=1).all()
    assert re.match(r"QEMU \d+\.\d+\.\d+.*, accel tcg, .*content difference", recorded.source)

    guest.connect()
    guest.stop()
    check_history(reports(guest.said))


def test_ctrl_c_leaves_the_guest_running(guest: Guest, folder: Path) -> None:
    recorder = record(guest, folder / "trace.npz")
    wait_for_epoch(recorder, 2)
    recorder.send_signal(signal.SIGINT)
    _, errors = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, errors
    assert trace.load(folder / "trace.npz").epochs >= 2

    guest.connect()
    assert guest.monitor.execute("query-status")["running"]
    before = last_round(reports(guest.said))
    guest.wait_for(lambda history: last_round(history) > before)


def test_a_guest_that_is_killed_is_a_clear_error(guest: Guest, folder: Path) -> None:
    recorder = record(guest, folder / "trace.npz")
    wait_for_epoch(recorder, 2)
    guest.kill()
    _, errors = recorder.communicate(timeout=60)
    assert recorder.returncode == 1
    assert errors.startswith("error: QEMU at ") and "went away" in errors
    assert trace.load(folder / "trace.npz").epochs >= 2


def test_a_guest_of_two_nodes_is_flushed_off_two_cursors(long_run: bool) -> None:
    """The system call, and a pool, on two real NUMA nodes: as real as QEMU's are."""
    if not long_run:
        pytest.skip(LONG_RUN)  # a Python with numba, emulated
    seen = run_in_two_nodes()
    assert "nodes [0, 1], CPUs on nodes [0, 1]" in seen
    assert seen[-1] == "batches were taken off two cursors"
