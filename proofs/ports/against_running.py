"""How long a seeded bug takes to be found: by exploring, and by running the conformance kit.

    python -m proofs.ports.against_running NAME...

Each in a fresh process, build included; of both the exit code, seconds by the clock, and seconds of
processor time, with that of processes whose parent has ended.
"""

import ctypes
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ORPHANS_COME_TO_ME = 36  # PR_SET_CHILD_SUBREAPER
_BUGS = Path("tests/conformance/bugs")


def timed(*commands: list[str]) -> tuple[int, float, float]:
    """Exit code of the last command, seconds, seconds of processor time."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    codes = [subprocess.run(command, capture_output=True).returncode for command in commands]
    seconds = time.monotonic() - begin
    try:
        while True:
            os.wait()
    except ChildProcessError:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return codes[-1], seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(names: list[str]) -> None:
    """Print a line for each bug."""
    ctypes.CDLL(None).prctl(_ORPHANS_COME_TO_ME, 1, 0, 0, 0)
    for name in names:
        (port,) = (p for p in _BUGS.glob("*.c") if re.search(rf"\bbug_{name},", p.read_text()))
        with tempfile.TemporaryDirectory() as folder:
            ir, library = f"{folder}/port.ll", f"{folder}/port.so"
            common = ["-std=c11", "-Iimpl/ports", f"-I{_BUGS}", f"-DBUG={name}", str(port), "-o"]
            explored = timed(
                ["clang-16", "-O1", "-fno-vectorize", "-S", "-emit-llvm", *common, ir],
                [sys.executable, "-m", "proofs", "--port", ir],
            )
            run = timed(
                ["cc", "-O2", "-fPIC", "-shared", "-pthread", *common, library],
                [sys.executable, "-m", "tests.conformance", "--library", library],
            )
        for how, (code, seconds, cpu) in (("explored", explored), ("run", run)):
            print(f"{name} {how}: exit {code}, {seconds:.2f} s, {cpu:.2f} s of processor time")


if __name__ == "__main__":
    main(sys.argv[1:])
