"""What some tests need beyond the README's two commands, as marks, and as reasons to skip.

A skip is for what a machine lacks, never for what is broken. Every reason says how to get it;
``endings.py`` adds them up at the end of pytest's output.
"""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from impl import DirtyLogUnavailable, KernelDirtyLog
from impl.ports.build import RUST, SERIAL, NoCompilerError, compiler_for
from tests.guest import image

ROOT = Path(__file__).parents[2]

LONG_RUN = "long runs only (pytest --hypothesis-profile=long)"
GCC = "needs gcc (Debian: gcc libc6-dev)"
BUSYBOX = "needs busybox (Debian: busybox-static)"
HUGE_PAGES = "needs huge pages (sysctl vm.nr_hugepages=8)"
MOVE_PAGES = "needs the system call move_pages (docker run --cap-add SYS_NICE)"
GIT = "needs git and a clone"


@cache
def builds(source: Path, *flags: str) -> bool:
    """Is there a compiler for this port that also finds the headers and the linker it needs?

    Debian's gcc comes without the C library's headers, rustup's rustc without a linker.
    """
    try:
        compiler = compiler_for(source)
    except NoCompilerError:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, *flags, "-o", f"{folder}/library", str(source)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@cache
def kernel_keeps_a_log() -> bool:
    """Can this process have the kernel's dirty log?"""
    try:
        with KernelDirtyLog() as log:
            log.start([])
    except DirtyLogUnavailable:
        return False
    return True


@cache
def tracked() -> tuple[Path, ...]:
    """The project's own files, relative to its root: what git tracks of a clone; else nothing.

    Whatever else lies in the folder (a venv, the output of a command) is not the project's.
    """
    if not shutil.which("git"):
        return ()
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    # A file that is deleted and not yet committed is still listed.
    return tuple(
        Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
    )


def skip_unless(there: bool, reason: str) -> pytest.MarkDecorator:
    """A mark for the tests that need something which may not be there."""
    return pytest.mark.skipif(not there, reason=reason)


needs_cc = skip_unless(
    builds(SERIAL, "-shared", "-fPIC", "-pthread"), "needs a C compiler (Debian: gcc libc6-dev)"
)
needs_cxx = skip_unless(bool(shutil.which("c++")), "needs a C++ compiler (Debian: g++)")
needs_rustc = skip_unless(
    builds(RUST, "--crate-type=cdylib", "-Cpanic=abort"), "needs rustc (Debian: rustc)"
)
needs_dirty_log = skip_unless(kernel_keeps_a_log(), "needs Linux 6.7 with userfaultfd")
needs_guest = skip_unless(not image.missing(), f"needs a real guest ({image.missing()})")
needs_git = skip_unless(bool(tracked()), GIT)
