"""The recorded traces, replayed as a user would, and a broken kernel that the replay must catch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from impl import FlushPool, Tuning
from impl.__main__ import main
from impl.traces import format as traces
from impl.traces.replay import Difference, Replay
from tests.impl.test_flush import WAYS
from tests.support.needs import LONG_RUN

ROOT = Path(__file__).parents[2]
TRACES = sorted((ROOT / "tests" / "traces").glob("*.npz"))
#: Of 2 GiB, or with most pages dirty; `python -m impl flush` and CI take all of them.
LARGE = {"colo-randwrite-2g", "colo-seqwrite-512m"}


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_a_recorded_trace_is_flushed_as_the_model_says(
    trace: Path, long_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if trace.stem in LARGE and not long_run:
        pytest.skip(LONG_RUN)
    for threads in (1, 2, 8) if long_run else (2,):
        assert main(["flush", str(trace), "--threads", str(threads)]) == 0
        assert "24 epochs flushed" in capsys.readouterr().out


def test_the_traces_are_here() -> None:
    assert len(TRACES) == 4


#: One thing flipped in a kernel: file, what stands there, what is put in its place.
BROKEN = {
    "the copy loop runs when no page is dirty": (
        "kernels/flush.py",
        "    while dirty != _0:",
        "    while dirty == _0:",
    ),
    "an empty window is flushed, a full one is not": (
        "kernels/flush.py",
        "            if start < limit:\n                dirty, host",
        "            if start > limit:\n                dirty, host",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_kernel_is_caught(what: str, tmp_path: Path) -> None:
    """With one comparison flipped the same command must exit 1; to optimise takes longer than to run."""
    run = flush_with_change(tmp_path, "colo-idle-512m", *BROKEN[what], NUMBA_OPT="0")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "DIFFERENT" in run.stderr or "dirty count" in run.stderr, run.stderr


def test_without_x86_instructions_the_flush_is_as_right(tmp_path: Path) -> None:
    """The portable twin of the fence, compiled on this machine."""
    change = ('IS_X86 = MACHINE == "x86_64"', "IS_X86 = False")
    run = flush_with_change(tmp_path, "colo-churn-512m", "kernels/intrinsics.py", *change)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("tuning", WAYS.values(), ids=WAYS)
def test_tuned_for_another_processor_the_flush_is_as_right(tuning: Tuning) -> None:
    """Every way of copying, whichever of them this machine would choose."""
    trace = traces.load(TRACES[0])
    with FlushPool(2, tuning=tuning) as pool:
        replay = Replay(trace, pool, "dynamic")
        for epoch in range(0, trace.epochs, 4):
            replay.flush(epoch)
        replay.finish()


@pytest.mark.parametrize("side", ["host", "cache"])
@pytest.mark.parametrize(("near", "every_byte"), [(True, False), (False, True), (False, False)])
def test_a_byte_written_beside_the_dirty_pages_is_found(
    near: bool, every_byte: bool, side: str, pools: dict[int, FlushPool]
) -> None:
    """At once where a page of its word was dirty, or if every byte is compared; at the end otherwise."""
    trace = traces.load(ROOT / "tests" / "traces" / "colo-idle-512m.npz")
    replay = Replay(trace, pools[2], "dynamic")
    replay.flush(0, every_byte=True)
    union = trace.cache_dirty[1] | trace.host_dirty[1]
    region = max(replay.layout.regions, key=lambda region: region.used_pages)
    words = union[region.bits.start // 64 : region.bits.stop // 64]
    word = int(np.flatnonzero((words != 0) & (words != 2**64 - 1) if near else words == 0)[0])
    clean = next(bit for bit in range(64) if not int(words[word]) >> bit & 1)
    page = 64 * word + clean - region.first_bit % 64
    getattr(replay.ram.block(region.block.name), side)[page * 4096 + 4095] ^= 1
    where = f"{side} page {page} of block '{region.block.name}'"
    if near or every_byte:
        with pytest.raises(Difference, match=f"^epoch 1: {where}"):
            replay.flush(1, every_byte=every_byte)
    else:
        replay.flush(1)
        with pytest.raises(Difference, match=f"^after the last epoch .*: {where}"):
            replay.finish()


def flush_with_change(
    folder: Path, trace: str, file: str, whole: str, changed: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Replay a trace with a copy of the project in which one thing of impl/ is changed."""
    for package in ("model", "impl"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    source = folder / "impl" / file
    text = source.read_text()
    assert text.count(whole) == 1
    source.write_text(text.replace(whole, changed))
    path = ROOT / "tests" / "traces" / f"{trace}.npz"
    return subprocess.run(
        [sys.executable, "-m", "impl", "flush", str(path), "--threads", "2"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
