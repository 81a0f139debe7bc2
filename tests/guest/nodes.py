"""A guest of two NUMA nodes, in which our flush runs: the real system call, and a cursor for each node.

Its initramfs holds this Python with what our package needs, and our package; its kernels are compiled
here, for the plainest processor, since to compile them in an emulated machine takes minutes. That Linux
moves pages by itself (NUMA balancing) is turned off: the guest compares where they lie, page by page.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from model.boundary.output import printable
from tests.guest.flush_by_node import ALL_SEEN, SAW
from tests.guest.image import (
    DEVICES,
    QEMU,
    Entry,
    Image,
    NoImage,
    build,
    cpio,
    folder,
    static_busybox,
)
from tests.guest.machine import ACCELERATOR, GuestStuck
from tests.guest.workload import GuestWrong

ROOT = Path(__file__).parents[2]
OURS = ("impl", "model", "tests/__init__.py", "tests/guest")
PACKAGES = ("numba", "numpy", "llvmlite", "rich", "pygments", "markdown_it", "mdurl")
LEFT_OUT = {
    *("site-packages", "test", "tests", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo"),
}
RAM_MEBIBYTES = 2048
#: Far longer than it takes: only a guest that hangs meets it.
PATIENCE_SECONDS = 900
INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmpfs /tmp
echo 0 >/proc/sys/kernel/numa_balancing
cd {root}
export {variables}
{python} -c 'from tests.guest.flush_by_node import main; main()'
/bin/busybox reboot -f
"""


def run_in_two_nodes() -> list[str]:
    """Boot the guest, have it flush; what it has seen, line by line. Raises GuestWrong, GuestStuck."""
    image = build()
    initramfs = folder() / "initramfs-nodes"
    variables = environment()
    compile_for(variables)
    write_initramfs(initramfs, variables)
    try:
        done = subprocess.run(
            command(Image(image.kernel, initramfs)),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GuestStuck(f"a guest of two nodes took over {PATIENCE_SECONDS} s") from error
    finally:
        initramfs.unlink()
    if done.returncode:
        raise GuestStuck(f"QEMU ended: {done.stderr[-500:]}")
    lines = done.stdout.splitlines()
    if ALL_SEEN not in lines:
        last_words = printable(" | ".join(lines[-3:]))
        raise GuestWrong(f"the guest has not seen all that it should: {last_words}")
    return [line.removeprefix(SAW) for line in lines if line.startswith(SAW)]


def command(image: Image) -> list[str]:
    """QEMU with two nodes, each with a CPU and half of the memory."""
    half = RAM_MEBIBYTES // 2
    nodes = list[str]()
    for node in range(2):
        nodes += ["-object", f"memory-backend-ram,id=node{node},size={half}M"]
        nodes += ["-numa", f"node,nodeid={node},cpus={node},memdev=node{node}"]
    return [
        *(
            QEMU,
            "-accel",
            ACCELERATOR,
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            f"{RAM_MEBIBYTES}M",
            *nodes,
        ),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1"),
    ]


def environment() -> dict[str, str]:
    """The variables by which the guest's Python finds all, and takes the kernels compiled here."""
    sites = {str(Path(_origin(package)).parents[1]) for package in PACKAGES}
    return {
        "PYTHONPATH": ":".join([str(ROOT), *sorted(sites)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "+sse2",
        "NUMBA_CACHE_DIR": str(folder() / "kernels"),
        "COLO_FLUSH_TUNING": "usual",
        "HOME": "/tmp",
        "PATH": "/bin",
    }


def compile_for(variables: dict[str, str]) -> None:
    """Compile the kernels as the guest wants them."""
    subprocess.run(
        [sys.executable, "-c", "from impl import FlushPool; FlushPool(1).close()"],
        env={**os.environ, **variables, "PATH": os.environ["PATH"]},
        cwd=ROOT,
        check=True,
    )


def write_initramfs(target: Path, variables: dict[str, str]) -> None:
    """Everything at the path that it has here."""
    python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    init = INIT.format(root=shlex.quote(str(ROOT)), variables=exported, python=python)
    files = dict.fromkeys([python, *_files(Path(variables["NUMBA_CACHE_DIR"]))])
    files |= dict.fromkeys(_files(Path(sysconfig.get_paths()["stdlib"])))
    for package in PACKAGES:
        origin = Path(_origin(package)).parent
        for tree in (origin, origin.with_name(f"{package}.libs")):
            files |= dict.fromkeys(_files(tree))
    for ours in OURS:
        files |= dict.fromkeys(_files(ROOT / ours))
    files |= dict.fromkeys(_libraries(list(files)))
    made = {Path("/bin/busybox"): static_busybox(), Path("/init"): init.encode()}
    with target.open("wb") as file:
        file.writelines(
            cpio(
                _entries(list(files), made),
                {str(path)[1:]: int(path.stat().st_mtime) for path in files},
            )
        )


def _origin(package: str) -> str:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise NoImage(f"{package}, which the guest needs, is not installed here")
    return found.origin


def _files(tree: Path) -> Iterator[Path]:
    """A file, or the files of a folder but for tests."""
    if tree.is_file():
        yield tree
    for path in sorted(tree.rglob("*")) if tree.is_dir() else ():
        within = path.relative_to(tree).parts
        wanted = tree.parent == ROOT or tree.parent == ROOT / "tests" or not LEFT_OUT & set(within)
        if path.is_file() and wanted:
            yield path


def _libraries(files: list[Path]) -> Iterator[Path]:
    """The shared libraries that programs and libraries among these are linked with."""
    linked = [path for path in files if ".so" in path.name or path.parent.name == "bin"]
    run = subprocess.run(["ldd", *linked], capture_output=True, text=True, check=False)
    for word in run.stdout.split():
        if word.startswith("/") and not word.endswith(":"):
            yield Path(word)


def _entries(files: list[Path], made: dict[Path, bytes]) -> Iterator[Entry]:
    yield from DEVICES
    folders = dict.fromkeys(above for path in (*files, *made) for above in path.parents)
    for above in sorted(folders, key=lambda path: len(path.parts))[1:]:
        yield str(above)[1:], 0o040755, b"", (0, 0)
    for path in files:
        yield str(path)[1:], 0o100755, path.read_bytes(), (0, 0)
    for path, content in made.items():
        yield str(path)[1:], 0o100755, content, (0, 0)
