"""What ``pip install .`` installs, what the kit by itself does, and what an sdist holds: built here and
tried from another folder.

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

from impl.ports.build import SERIAL
from impl.ports.build import build as build_port
from tests.support.needs import ROOT, needs_cc, needs_git, needs_rustc, tracked

PACKAGES = {"model", "impl", "proofs"}
KIT = ROOT / "tests" / "conformance"
COMMAND = ("-P", "-c", "from colo_conformance import main; main()")
#: What the kit by itself does without.
HEAVY = ("numpy", "numba", "llvmlite", "z3", "cvc5")
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


def build(kind: str, folder: Path, project: Path = ROOT) -> Path:
    """The wheel or the sdist of a project."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built


def unpacked(factory: pytest.TempPathFactory, project: Path) -> Path:
    """A folder that holds what an installation puts into site-packages."""
    site = factory.mktemp("site-packages")
    with zipfile.ZipFile(build("wheel", factory.mktemp("wheel"), project)) as archive:
        archive.extractall(site)
    return site


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory, ROOT)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit by itself. What it does without cannot be imported, by none of its processes."""
    site = unpacked(tmp_path_factory, KIT)
    for name in HEAVY:
        (site / f"{name}.py").write_text("raise ImportError(f'{__name__}: not for the kit')\n")
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


@needs_git
def test_the_kit_by_itself_holds_its_files_the_model_and_the_abi(kit: Path) -> None:
    tree = kit / "colo_conformance" / "tree"
    there = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    wanted = {path for path in tracked() if str(path).startswith(("model/", "tests/conformance/"))}
    assert wanted <= there
    assert {(tree / path).read_bytes() == (ROOT / path).read_bytes() for path in there} == {True}


@needs_cc
def test_the_kit_by_itself_needs_neither_numba_nor_numpy_nor_a_solver(
    kit: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    only = ("*/again", "contents/zero-pages", "accumulated", "stress/dense", "large/bit-2^31")
    chosen = [part for glob in only for part in ("--only", glob)]
    port = ("--library", str(build_port(SERIAL)), "--effort", "0.02")
    ran = run(kit, tmp_path, *COMMAND, *port, *chosen, "--html", str(report))
    assert ran.returncode == 0 and "every check passed" in ran.stdout, ran.stdout + ran.stderr
    assert report.stat().st_size > 10_000
    ours = run(kit, tmp_path, *COMMAND, "--implementation", "impl")
    assert ours.returncode == 2 and "run this from a clone" in ours.stdout
    code = "from colo_conformance import vectors; vectors()"
    assert "int main(void)" in run(kit, tmp_path, "-c", code).stdout


@needs_cc
def test_the_kit_by_itself_is_a_command_and_a_pytest_plugin_beside_a_package_tests(
    kit: Path, tmp_path: Path
) -> None:
    """Many a project has such a package, with a conftest file in it."""
    (tmp_path / "tests").mkdir()
    for name in ("__init__", "conftest"):
        (tmp_path / "tests" / f"{name}.py").write_text("")
    port = ("--library", str(build_port(SERIAL)))
    ran = run(kit, tmp_path, *COMMAND, *port, "--only", "vector/copying/host-page")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    plugin = ("--noconftest", "-p", "colo_conformance.pytest_plugin", "-p", "no:cacheprovider")
    chosen = ("--colo-port", str(build_port(SERIAL)), "-k", "copying/host-page")
    ran = run(kit, tmp_path, "-m", "pytest", *plugin, *chosen)
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout + ran.stderr
