"""What ``.ci/run`` takes from other files is what they say: the README's commands, the floors."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.needs import ROOT

REQUIREMENTS = ROOT / ".ci" / "requirements.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def lowest(script: Path, *groups: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), "--lowest", *groups]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_dependency_has_a_floor_and_is_listed_at_it() -> None:
    ran = lowest(REQUIREMENTS, "build", "run", *EXTRAS)
    required = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(requirement for extra in EXTRAS.values() for requirement in extra),
    ]
    once = dict.fromkeys(requirement.replace(">=", "==") for requirement in required)
    assert ran.stdout.split() == list(once)


def test_a_dependency_without_a_floor_is_refused(tmp_path: Path) -> None:
    script = tmp_path / ".ci" / "requirements.py"
    script.parent.mkdir()
    shutil.copy(REQUIREMENTS, script)
    text = (ROOT / "pyproject.toml").read_text().replace("rich>=", "rich<")
    (tmp_path / "pyproject.toml").write_text(text)
    ran = lowest(script, "run")
    assert ran.returncode != 0 and "rich<" in ran.stderr


def test_one_floor_for_a_name() -> None:
    """What is in two extras has the same floor in both."""
    every = {r for group in EXTRAS.values() for r in group} | {*PROJECT["build-system"]["requires"]}
    names = [re.split(">=", requirement)[0] for requirement in every]
    assert len(names) == len(set(names))


def test_the_first_step_finds_the_readmes_two_commands() -> None:
    """They are the only blocks of the part before "Use it"."""
    first = (ROOT / "README.md").read_text().split("## Use it")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", first, re.DOTALL | re.MULTILINE)
    pattern = re.search(r'grep -E "(.*)" README\.md', (ROOT / ".ci" / "run").read_text())
    assert pattern
    found = subprocess.run(
        ["grep", "-E", pattern[1], str(ROOT / "README.md")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "".join(blocks) and len(blocks) == 2


def test_a_step_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """One step's file is not in the way of another step's folder, and afterwards both are gone."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path)
    steps = """
step_one() { # a file
    touch "$scratch/lowest"
}
step_two() { # a folder of that name
    mkdir "$scratch/lowest"
    echo "$scratch" >told
}
list() {"""
    script = (ROOT / ".ci" / "run").read_text()
    assert script.count("\nlist() {") == 1
    (tmp_path / ".ci" / "run").write_text(script.replace("\nlist() {", steps))
    command = ["bash", str(tmp_path / ".ci" / "run"), "one", "two"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not Path((tmp_path / "told").read_text().strip()).parent.exists()


def test_what_runs_side_by_side_is_told_whole_and_fails_with_its_part() -> None:
    """Each line to its end, also where another fails; a command that fails within a line ends it."""
    script = (ROOT / ".ci" / "run").read_text()
    found = re.search(r"^side_by_side\(\) \{.*?^\}$", script, re.DOTALL | re.MULTILINE)
    assert found
    lines = ("echo one; sleep 0.2; echo 'more  of it'", "echo two")
    for wrong, code in (("true", 0), ("false", 123), ("false | true", 123)):
        each = [*lines, f"{wrong}; echo three"]
        program = f'{found[0]}\nside_by_side "$@"'
        command = ["bash", "-euo", "pipefail", "-c", program, "bash", *each]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stdout + ran.stderr
        assert "one\nmore  of it\n" in ran.stdout and "two\n" in ran.stdout
        assert ("three\n" in ran.stdout) == (code == 0)
