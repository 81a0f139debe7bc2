"""What ``pip install .`` installs, and what an sdist holds: built here, tried from another folder.

The wheel is unpacked instead of installed, so that no network is needed. A replay of a trace would
compile every kernel once more: ``.ci/run installed`` does that, with pip.
"""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.needs import ROOT, needs_cc, needs_git, needs_rustc, tracked

PACKAGES = {"model", "impl", "proofs"}
COUNTEREXAMPLE = ROOT / "tests" / "counterexamples" / "patch-small-ram.json"
TRACE = ROOT / "tests" / "traces" / "colo-idle-512m.npz"
#: A command of the README, and what it prints.
COMMANDS = [
    ("model.replay", [str(COUNTEREXAMPLE)], r"^FAILS: 8 threads are at most 1\.00 times"),
    ("proofs", ["--only", "shares.batches_are_disjoint"], "1 of 1 claims proved"),
    ("impl", ["bench", "--simulate", "--traces", str(TRACE)], "colo-idle-512m"),
    ("impl", ["plot", str(TRACE), "-o", "plot.svg"], ""),
    pytest.param("impl.ports.build", [], r"serial_walk-\w+\.so", marks=[needs_cc, needs_rustc]),
]


def build(kind: str, folder: Path) -> Path:
    """The wheel or the sdist of this folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what an installation puts into site-packages."""
    site = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        archive.extractall(site)
    return site


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, the packages taken from ``site``."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_git
def test_a_wheel_holds_the_three_packages_whole_and_nothing_else(wheel: Path) -> None:
    there = {path.relative_to(wheel) for path in wheel.rglob("*") if path.is_file()}
    assert {path for path in tracked() if path.parts[0] in PACKAGES} <= there
    [about] = wheel.glob("*.dist-info")
    assert {path.parts[0] for path in there} == {*PACKAGES, about.name}


@needs_git
def test_an_sdist_holds_all_that_git_tracks(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        there = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    assert set(tracked()) <= there
    assert {path.parts[0] for path in there - set(tracked())} <= {"PKG-INFO", *PACKAGES, "tests"}


@pytest.mark.parametrize(("module", "arguments", "says"), COMMANDS)
def test_a_command_runs_from_another_folder(
    module: str, arguments: list[str], says: str, wheel: Path, tmp_path: Path
) -> None:
    ran = run(wheel, tmp_path, "-m", module, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert re.search(says, ran.stdout, re.MULTILINE)


@pytest.mark.parametrize("package", ["impl", "proofs"])
def test_another_model_is_neither_taken_for_ours_nor_run(
    package: str, wheel: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text("print('something else was run')\n")
    ran = run(wheel, tmp_path, "-c", f"import {package}")
    assert f"what Python finds first is {tmp_path / 'model.py'}" in ran.stderr
    assert ran.stdout == "" and ran.returncode == 1
    unharmed = run(wheel, tmp_path, "-P", "-c", f"import {package}; print({package}.__file__)")
    assert unharmed.stdout == f"{wheel / package / '__init__.py'}\n"
