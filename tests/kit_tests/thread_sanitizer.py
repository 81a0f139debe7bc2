"""The ports under ThreadSanitizer, and ports with a race in them: ``python -m
tests.kit_tests.thread_sanitizer``.

Each port is linked with ``thread_sanitizer.c``, which calls it with threads that vary, and is run.
Exit 0: every port is clean, and in every control a data race is reported. 1: not so.

ThreadSanitizer follows C11's release and acquire. It does not see streaming stores, which it takes for
plain ones, nor a wake-up that is lost.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from impl.ports.build import C_PORTS, CHECK_IN, CHECK_IN_RUST, RUST, RUST_PORTS, compiler_for
from model.boundary.command import run
from model.boundary.options import Parser, count
from model.boundary.output import run_command
from tests.conformance.bugs.catch import PORT

DRIVER = Path(__file__).parent / "thread_sanitizer.c"
PORTS = CHECK_IN.parent
RACE = "WARNING: ThreadSanitizer: data race"
FLAGS = ("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-fsanitize=thread", "-pthread")
RUST_FLAGS = (
    "--edition=2021",
    "--crate-type=staticlib",
    "-O",
    "-Cpanic=abort",
    "-Zsanitizer=thread",
)


class Subject(NamedTuple):
    """A port, perhaps with a race: by a macro, or by ``(old, new)`` in its source or its header."""

    source: Path
    races: str = ""
    """what the race is; clean if empty"""
    define: str = ""
    changed: tuple[str, str] | None = None

    @property
    def title(self) -> str:
        """The port, and what is wrong with it."""
        return self.source.name + (f", {self.races}" if self.races else "")


SUBJECTS = (
    *map(Subject, (*C_PORTS, *RUST_PORTS)),
    Subject(PORT, "the count lowered by all threads, not atomically", define="BUG=count_shared"),
    Subject(PORT, "a word of the bitmap in two shares", define="BUG=share_cut_in_block"),
    Subject(
        CHECK_IN,
        "a check-out that does not release",
        changed=("&pool.state, 1, memory_order_release", "&pool.state, 1, memory_order_relaxed"),
    ),
    Subject(
        CHECK_IN,
        "a caller that does not acquire",
        changed=(
            "atomic_load_explicit(&pool.state, memory_order_acquire)",
            "atomic_load_explicit(&pool.state, memory_order_relaxed)",
        ),
    ),
    Subject(
        CHECK_IN_RUST,
        "a check-out that does not release",
        changed=("fetch_sub(1, Release)", "fetch_sub(1, Relaxed)"),
    ),
    Subject(
        CHECK_IN_RUST,
        "a caller that does not acquire",
        changed=("POOL.state.0.load(Acquire)", "POOL.state.0.load(Relaxed)"),
    ),
    Subject(
        RUST,
        "batches that overlap by a word",
        changed=("fetch_add(WORDS_PER_BATCH,", "fetch_add(WORDS_PER_BATCH - 1,"),
    ),
)


def sources(subject: Subject) -> dict[str, str]:
    """Its files by name, changed. LookupError if there is nothing to be changed in any."""
    beside = (path for folder in (PORTS, PORT.parent) for path in folder.iterdir())
    files = (*(path for path in beside if path.suffix in (".h", ".rs")), subject.source)
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    if subject.changed:
        old, new = subject.changed
        if not any(old in text for text in texts.values()):
            raise LookupError(f"{subject.title}: {old!r} is in none of {', '.join(texts)}")
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    return texts


def report(subject: Subject, rounds: int) -> str:
    """What is reported of a port, "" if nothing. CalledProcessError if it does not build."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in sources(subject).items():
            (folder / file).write_text(text, encoding="utf-8")
        program = _built(folder / subject.source.name, subject.define)
        return _ran(program, rounds)


def _built(source: Path, define: str) -> Path:
    program = source.with_suffix("")
    linked = [source]
    if source.suffix == ".rs":
        library = source.with_suffix(".a")
        # The standard library is not instrumented: threads begin and end by calls that are watched.
        command = [compiler_for(source), *RUST_FLAGS, *_mixes(), str(source), "-o", str(library)]
        _run(command, env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
        linked = [library]
    defines = [f"-D{define}"] if define else []
    _run(
        [
            compiler_for(DRIVER),
            *FLAGS,
            *defines,
            f"-I{source.parent}",
            str(DRIVER),
            *map(str, linked),
            "-ldl",
            "-o",
            str(program),
        ]
    )
    return program


@cache
def _mixes() -> tuple[str, ...]:
    """Newer compilers want to be told that the standard library may be another."""
    told = subprocess.run([compiler_for(RUST), "-C", "help"], capture_output=True, text=True)
    there = "unsafe-allow-abi-mismatch" in told.stdout
    return ("-Cunsafe-allow-abi-mismatch=sanitizer",) if there else ()


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=env, check=True, capture_output=True, text=True)


def _ran(program: Path, rounds: int) -> str:
    options = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}
    command = [str(program), str(rounds)]
    ran = subprocess.run(command, env=options, capture_output=True, text=True)
    if "unexpected memory mapping" in ran.stderr:  # addresses too random for this runtime
        command = ["setarch", "-R", *command]
        ran = subprocess.run(command, env=options, capture_output=True, text=True)
    return f"exit {ran.returncode}\n{ran.stderr}" if ran.returncode or ran.stderr else ""


def verdicts(rounds: int) -> Iterator[tuple[Subject, str, bool]]:
    """(subject, what is reported, is it as it should be?) for each."""
    for subject in SUBJECTS:
        found = report(subject, rounds)
        yield subject, found, RACE in found if subject.races else not found


def main(arguments: list[str]) -> int:
    """Run all of them."""
    parser = Parser("python -m tests.kit_tests.thread_sanitizer", description=__doc__)
    parser.add_argument("--rounds", type=count, default=200, help="calls of each port (200)")
    options = parser.parse_args(arguments)
    return run_command(lambda: _all(options.rounds))


def _all(rounds: int) -> int:
    good = True
    for subject, found, as_it_should in verdicts(rounds):
        good = good and as_it_should
        what = "a data race" if RACE in found else found or "clean"
        print(f"{subject.title}: {what}" + ("" if as_it_should else "   (wrong)"), flush=True)
        if not as_it_should:
            print(found)
    return 0 if good else 1


if __name__ == "__main__":
    run(main)
