"""What ``pytest`` itself does here: it says what it has left out, and it ends when a worker dies.

Each test runs pytest on a small project made for it, with this project's own options.
"""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.endings import summary
from tests.support.workers import TOGETHER, unit

ROOT = Path(__file__).parents[2]
SKIPS = """
    import pytest

    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.skipif(True, reason="needs a loom (Debian: loom)")
    def test_weaves(number): pass

    def test_for_hours(): pytest.skip("long runs only (in winter)")

    def test_here(): pass
"""
SKIPPED = "4 skipped: 3 need a loom (Debian: loom); 1 long runs only (in winter)"
TELLS = """
    from hypothesis import given, settings
    from hypothesis.strategies import integers

    def test_prints(): print("printed by a test")

    def test_campaign(tell): tell("40 kills")

    @settings(max_examples=7)
    @given(integers())
    def test_searched(number): pass
"""
# The one that dies comes last: the worker that replaced its worker was once given nothing, for ever.
LAST_DIES = """
    import os, signal, time

    def test_first(): pass
    def test_second(): pass
    def test_third(): pass
    def test_last(): {dies}
"""
SEGFAULT, HANGS = "os.kill(os.getpid(), signal.SIGSEGV)", "time.sleep(3600)"


def test_in_the_background_signals_are_heeded() -> None:
    """As a shell starts a job there, or nohup: the control is Python by itself."""
    tells = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, end=' ');"
    tells += "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    for program, ignored in (
        (tells, "True True\n"),
        (f"import tests.conftest; {tells}", "False False\n"),
    ):
        shell = [
            "sh",
            "-c",
            'trap "" INT QUIT HUP TERM; exec "$0" -c "$1"',
            sys.executable,
            program,
        ]
        ran = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ran.stdout == ignored


def run(
    folder: Path, tests: str, *options: str, together: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run pytest with this project's options, workers and last line on one file of tests."""
    (folder / "conftest.py").write_text(
        "from tests.support.endings import pytest_configure, pytest_terminal_summary\n"
        "from tests.support.endings import pytest_xdist_auto_num_workers, tell\n"
        "from tests.support import workers\n"
        "from tests.support.workers import pytest_xdist_make_scheduler\n"
        f"workers.TOGETHER = ({tuple(together)},)\n"
    )
    (folder / "test_generated.py").write_text(textwrap.dedent(tests))
    pytest_here = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")]
    return subprocess.run(
        [*pytest_here, f"--rootdir={folder}", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_line_before_the_last_says_what_the_skipped_tests_need(tmp_path: Path) -> None:
    ran = run(tmp_path, SKIPS, "-n", "0")
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-2] == SKIPPED
    assert ran.stdout.splitlines()[-1].startswith("1 passed, 4 skipped")


def test_one_test_needs_and_none_says_nothing() -> None:
    assert summary(["needs rustc"]) == "1 skipped: 1 needs rustc"
    assert summary([]) == ""


def test_what_a_test_prints_is_seen_by_whoever_asks(tmp_path: Path) -> None:
    """Workers are the default, and what one prints goes nowhere: with ``-s`` there are none."""
    ran = run(tmp_path, TELLS, "-s")
    assert "printed by a test" in ran.stdout
    assert "test_generated.py::test_campaign: 40 kills\n" in ran.stdout
    assert "max_examples" not in ran.stdout


def test_what_workers_have_skipped_and_tried_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the long profile hypothesis counts as well."""
    monkeypatch.setenv("COLO_LONG", "1")
    ran = run(tmp_path, SKIPS + TELLS, "-n", "2", "-vv")
    assert "printed by a test" not in ran.stdout
    assert "test_generated.py::test_campaign: 40 kills\n" in ran.stdout
    assert "Stopped because settings.max_examples=7" in ran.stdout
    assert SKIPPED in ran.stdout.splitlines()
    assert len(workers_in(ran.stdout)) == 2


def workers_in(printed: str) -> set[str]:
    """Who has run the tests."""
    done = r"^\[(gw\d)\] .* (?:PASSED|SKIPPED) test_generated.py::"
    return set(re.findall(done, printed, re.MULTILINE))


@pytest.mark.parametrize("dies", [SEGFAULT, HANGS])
def test_a_run_whose_worker_dies_ends_and_names_the_test(dies: str, tmp_path: Path) -> None:
    """By a signal, or by the limit on a test's time, which is 600 s and made 1 s here."""
    limit = ["-o", "faulthandler_timeout=1"]
    ran = run(tmp_path, LAST_DIES.format(dies=dies), "-n", "2", *limit)
    assert ran.returncode == 1
    assert re.search(r"worker 'gw\d' crashed while running '.*::test_last'", ran.stdout)
    assert "1 failed, 3 passed" in ran.stdout


def test_tests_that_stand_together_go_to_one_worker(tmp_path: Path) -> None:
    """All others begin with two tests for each worker. Nothing dies here, so the run passes."""
    tests, together = LAST_DIES.format(dies="pass"), ["test_generated.py"]
    ran = run(tmp_path, tests, "-n", "2", "-vv", together=together)
    assert ran.returncode == 0
    assert len(workers_in(ran.stdout)) == 1


def test_every_place_of_tests_that_stand_together_is_there() -> None:
    for row in TOGETHER:
        for place in row:
            file, _, test = place.partition("::")
            assert (ROOT / file).exists(), place
            assert f"def {test}" in (ROOT / file).read_text() if test else True, place
    assert unit("tests/page/test_page.py::test_a") == unit("tests/page/test_browser.py::test_b")
    assert unit("tests/project/test_words.py::test_a") == "tests/project/test_words.py::test_a"
