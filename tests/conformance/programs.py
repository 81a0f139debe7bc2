"""C programs of the kit: built once, run against a port, judged by their lines and by a watch.

A program is built without a port and loads the one that COLO_KIT_PORT names; shown to a porter it is
linked with the port instead. What it finds it prints, a line "rule: detail" each.
"""

import hashlib
import mmap
import os
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.rules import RULES, Violation
from tests.conformance.watch import STEP, Watch

HERE = Path(__file__).parent / "c"
ABI = Path(__file__).parents[2] / "impl" / "ports"
SERIAL = ABI / "serial_walk.c"

FLAGS = ("-std=c11", "-O1", "-g", "-pthread", "-rdynamic")
LIBRARIES = ("-ldl", "-lm")


class NoCompilerError(Exception):
    """There is no C compiler, and so no program of the kit can be built."""


class CannotRunError(Exception):
    """A program could not do its work here: what it needs of the system is not to be had."""


@dataclass(frozen=True)
class Result:
    """What a program found, and how many calls it had begun by then."""

    violations: tuple[Violation, ...]
    calls: int


def compiler() -> str:
    """``$CC`` or cc, gcc, clang. Raises NoCompilerError."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise NoCompilerError(
        "the kit's own C programs need a compiler, and none of cc, gcc, clang is on the path: "
        "install one or set CC, or leave those checks out by --only 'vector/*' and the like"
    )


def build_program(source: Path) -> Path:
    """The program, loading its port at run time. Raises NoCompilerError."""
    return _built(source, (*FLAGS, "-DKIT_DLOPEN"), ".out")


def build_library(source: Path) -> Path:
    """The same to be loaded by a process that runs already. Raises NoCompilerError."""
    return _built(source, (*FLAGS, "-DKIT_DLOPEN", "-fPIC", "-shared"), ".so")


def build_serial() -> Path:
    """The port that walks alone: what a program must pass on before it is shown."""
    return _built(SERIAL, ("-std=c11", "-O2", "-fPIC", "-shared"), ".so")


def command_for(source: Path, port: str, arguments: Sequence[str] = ()) -> str:
    """How a porter builds the program, linked with the port, and runs it."""
    build = [
        compiler(),
        *FLAGS,
        f"-I{ABI}",
        f"-I{HERE}",
        str(source),
        port,
        *LIBRARIES,
        "-o",
        "repeat",
    ]
    return f"{shlex.join(build)} && ./repeat {shlex.join(arguments)}".rstrip()


def run_program(
    command: Sequence[str],
    port: str,
    patience: float,
    seed: int = 0,
    effort: float = 1.0,
    more: Mapping[str, str] = {},
) -> Result:
    """Run it to its end, or until a call hangs. ``more``: for its environment. Raises CannotRunError."""
    with tempfile.TemporaryDirectory(prefix="colo-kit-") as folder:
        beat, said = Path(folder) / "beat", Path(folder) / "said"
        beat.write_bytes(bytes(8))
        environment = {
            **os.environ,
            "COLO_KIT_PORT": port,
            "COLO_KIT_BEAT": str(beat),
            "COLO_KIT_SEED": str(seed),
            "COLO_KIT_EFFORT": str(effort),
            **more,
        }
        with beat.open("r+b") as file, said.open("wb") as output:
            heart = mmap.mmap(file.fileno(), 8)
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                hung = _wait(child, heart, patience)
            finally:
                _end(child)
        calls = _calls(heart)
        heart.close()
        text = said.read_text(errors="replace")
    if hung:
        at_exit = "passed" in text.splitlines()  # said when all calls have returned
        where = "when the process exits" if at_exit else f"call {calls} of the program"
        return Result((Violation("no-hang", f"{hung} ({where})"),), calls)
    return Result(tuple(_violations(command, child.returncode, text)), calls)


def _wait(child: "subprocess.Popen[bytes]", heart: mmap.mmap, patience: float) -> str | None:
    watch = Watch(child.pid, lambda: _calls(heart), patience)
    # Most programs end at once: no need to let a whole step pass.
    for pause in (0.01, 0.02, 0.03, 0.04):
        time.sleep(pause)
        if child.poll() is not None:
            return None
    while True:
        try:
            child.wait(STEP)
        except subprocess.TimeoutExpired:
            if hung := watch.hangs():
                return hung
        else:
            return None


def _calls(heart: mmap.mmap) -> int:
    (number,) = struct.unpack("Q", heart[:8])
    return int(number)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _violations(command: Sequence[str], code: int, text: str) -> list[Violation]:
    found = []
    for line in text.splitlines():
        rule, colon, detail = line.partition(": ")
        if colon and rule in RULES:
            found.append(Violation(rule, detail))
    if code == 2 and not found:
        raise CannotRunError(f"{shlex.join(command)} cannot run here: {text.strip()[-300:]}")
    if found or code == 0:
        return found
    how = (
        f"was killed by {signal.Signals(-code).name}"
        if code < 0
        else f"ended with exit status {code}"
    )
    last = text.strip().splitlines()[-1:]
    said = f"; it said: {last[0][:200]}" if last else ""
    return [Violation("no-crash", f"the process {how} in the middle of a call{said}")]


def _built(source: Path, flags: Sequence[str], suffix: str) -> Path:
    """Compiled once per content, flags and compiler."""
    command = [compiler(), *flags, f"-I{ABI}", f"-I{HERE}"]
    content = hashlib.sha256("\0".join((*command, _version(command[0]))).encode())
    for path in (source, *sorted(HERE.glob("*.h")), *sorted(ABI.glob("*.h"))):
        content.update(path.read_bytes())
    built = _folder() / f"{source.stem}-{content.hexdigest()[:16]}{suffix}"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            fresh = Path(folder) / built.name
            run = subprocess.run(
                [*command, str(source), *LIBRARIES, "-o", str(fresh)],
                capture_output=True,
                text=True,
                errors="replace",
                env=without_preload(),
            )
            if run.returncode:
                raise CannotRunError(f"{command[0]} could not build {source.name}:\n{run.stderr}")
            fresh.replace(built)
    return built


def without_preload() -> dict[str, str]:
    """The environment for a compiler: a sanitizer that is preloaded for the port is not for it."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


@cache
def _version(name: str) -> str:
    return subprocess.run(
        [name, "--version"], capture_output=True, text=True, env=without_preload()
    ).stdout


@cache
def _folder() -> Path:
    """Below the user's cache, or for a user without one a folder for this run."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "colo-flush" / "kit"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return Path(tempfile.mkdtemp(prefix="colo-kit-"))
    return folder
