"""The live secondary: right at every checkpoint, wrong without the dirty log, and it ends by itself."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from impl import demo
from impl.__main__ import main
from tests.support.needs import needs_dirty_log
from tests.support.started import children, ctrl_c, started

pytestmark = needs_dirty_log

ROOT = Path(__file__).parents[2]
SMALL = ["--ram", "32M", "--interval", "0.05", "--checkpoints", "4"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "impl", "demo", *SMALL, *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_byte_is_the_primarys() -> None:
    ran = run()
    assert ran.returncode == 0, ran.stderr
    assert "equal to the primary's, 4 times" in ran.stdout


def test_control_without_the_dirty_log() -> None:
    """The guest's own writes are left out of the flush, and the comparison finds them."""
    ran = run("--without-dirty-log")
    assert ran.returncode == 1
    assert "checkpoint 1:" in ran.stderr
    assert "differ from the primary after the flush" in ran.stderr


@pytest.mark.parametrize(
    "option", [("--ram", "3X"), ("--ram", "0M"), ("--checkpoints", "0"), ("--threads", "two")]
)
def test_bad_usage(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", *option])
    assert "write" in capsys.readouterr().err


@pytest.mark.parametrize("who", ["primary", "guest"])
def test_a_process_that_is_killed_ends_the_demo(who: str) -> None:
    """In the middle of an epoch: an error that says who has gone, no hang, no process left."""
    machine = demo.make_machine(32 << 20)
    rows = demo.checkpoints(machine, 1000, interval=0.02)
    next(rows)
    pids = {child.name: child.pid for child in multiprocessing.active_children() if child.pid}
    primary, guest = pids["run_primary"], pids["run_guest"]
    os.kill(primary if who == "primary" else guest, signal.SIGKILL)
    with pytest.raises(demo.DemoFailed, match=f"the {who} has gone"):
        list(rows)
    assert not children(os.getpid()) & {primary, guest}


def test_ctrl_c() -> None:
    """It ends at once with the shell's number for it, and takes both other processes along."""
    with started("-m", "impl", "demo", *SMALL, "--checkpoints", "100000") as process:
        while len(begun := children(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        assert ctrl_c(process) == (130, "interrupted\n")
        assert not any(Path(f"/proc/{child}").exists() for child in begun)
