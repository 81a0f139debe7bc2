"""The guest's image: Debian's kernel, and an initramfs of busybox and our workload.

Nothing binary is kept in the project: the kernel comes out of Debian's package, which is downloaded
and unpacked but not installed; the workload is compiled here; the initramfs is written by ``cpio``
below. All of it lands in ``$COLO_GUEST_DIR`` (default ``~/.cache/colo-flush/guest``).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import ColoError

# Path, mode, content, and major and minor number of a device.
Entry = tuple[str, int, bytes, tuple[int, int]]

NEVER: Mapping[str, int] = {}
DEVICES: tuple[Entry, ...] = (
    ("dev", 0o040755, b"", (0, 0)),
    ("dev/console", 0o020600, b"", (5, 1)),
    ("dev/null", 0o020666, b"", (1, 3)),
    ("dev/urandom", 0o020644, b"", (1, 9)),
)

HERE = Path(__file__).parent
QEMU = "qemu-system-x86_64"
TOOLS = {
    QEMU: "qemu-system-x86",
    "busybox": "busybox-static",
    "gcc": "gcc libc6-dev",
}  # tool: Debian package
KERNEL_PACKAGE = "linux-image-cloud-amd64"

INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox sh /files &
exec /workload "$1"
"""

# Beside the workload, what any guest does: processes come and go, files are written and read.
FILES = """\
b=/bin/busybox; n=0
while :; do
    n=$((n + 1))
    $b dd if=/dev/urandom of=/tmp/a bs=64k count=4 2>/dev/null
    $b sha256sum </tmp/a >/tmp/sum
    $b gzip -c /tmp/a >/tmp/b
    if $b gzip -dc /tmp/b | $b sha256sum | $b cmp -s - /tmp/sum
    then echo "colo-guest files $n ok"; else echo "colo-guest files $n corrupt"; fi
    $b usleep 100000
done
"""


@dataclass(frozen=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initramfs: Path


def folder() -> Path:
    """Where the image is kept."""
    default = Path.home() / ".cache" / "colo-flush" / "guest"
    return Path(os.environ.get("COLO_GUEST_DIR", default))


class NoImage(ColoError):
    """The guest's image cannot be made here."""


def missing_tools() -> str:
    """What installs the tools that make and run the image, as one line; nothing if they are there."""
    packages = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    return f"apt install {' '.join(packages)}" if packages else ""


def missing() -> str:
    """What has to be done before the guest can run without downloading anything; or nothing."""
    if lack := missing_tools():
        return lack
    if not _kernel().exists():
        return "python -m tests.guest image, which downloads Debian's kernel, 26 MB"
    return ""


def build() -> Image:
    """The image, made anew if its sources are newer. Needs every tool; ``missing`` says which."""
    folder().mkdir(parents=True, exist_ok=True)
    if not _kernel().exists():
        _fetch_kernel(_kernel())
    initramfs = folder() / "initramfs"
    if not _is_newer(initramfs, *HERE.glob("*.c"), Path(__file__)):
        _write_initramfs(initramfs)
    return Image(_kernel(), initramfs)


def _kernel() -> Path:
    return folder() / "vmlinuz"


def _is_newer(target: Path, *sources: Path) -> bool:
    return target.exists() and all(
        target.stat().st_mtime > source.stat().st_mtime for source in sources
    )


def _fetch_kernel(target: Path) -> None:
    """Download the package that Debian's kernel meta package depends on, and take its vmlinuz."""
    try:
        depends = _output("apt-cache", "depends", "--important", KERNEL_PACKAGE)
        package = depends.split("Depends:")[1].split()[0]
        with tempfile.TemporaryDirectory(dir=folder()) as scratch:
            as_is = "APT::Sandbox::User=root"  # the folder need not be readable for others
            subprocess.run(
                ["apt-get", "-qq", "-o", as_is, "download", package], cwd=scratch, check=True
            )
            (deb,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg", "-x", deb, scratch], check=True)
            (vmlinuz,) = Path(scratch).glob("boot/vmlinuz-*")
            vmlinuz.replace(target)
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise NoImage(
            f"cannot fetch Debian's {KERNEL_PACKAGE} ({error}): run `apt-get update`, or put an "
            f"x86-64 Linux kernel with a serial console built in at {target}"
        ) from error


def _write_initramfs(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        workload = Path(scratch) / "workload"
        source = HERE / "workload.c"
        subprocess.run(
            ["gcc", "-O2", "-funroll-loops", "-static", "-o", workload, source], check=True
        )
        archive = Path(scratch) / "initramfs"
        archive.write_bytes(b"".join(cpio(_entries(workload.read_bytes()))))
        archive.replace(target)


def _entries(workload: bytes) -> list[Entry]:
    return [
        *DEVICES,
        ("bin", 0o040755, b"", (0, 0)),
        ("bin/busybox", 0o100755, static_busybox(), (0, 0)),
        ("workload", 0o100755, workload, (0, 0)),
        ("files", 0o100644, FILES.encode(), (0, 0)),
        ("init", 0o100755, INIT.encode(), (0, 0)),
    ]


def static_busybox() -> bytes:
    """Debian has two packages that bring a busybox; the other one needs shared libraries."""
    content = Path(shutil.which("busybox") or "").read_bytes()
    if b"/ld-linux" in content:
        raise NoImage("this busybox is not static: apt install busybox-static")
    return content


def cpio(entries: Iterable[Entry], changed: Mapping[str, int] = NEVER) -> Iterator[bytes]:
    """An archive in the format of an initramfs, "newc" (kernel: initramfs-buffer-format.rst).

    ``changed``: when the files of these paths were, in seconds; of others nothing is said.
    """
    for inode, entry in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))]):
        path, mode, content, device = entry
        name = path.encode() + b"\0"
        time = changed.get(path, 0)
        fields = (inode, mode, 0, 0, 1, time, len(content), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        yield _padded(header + name)
        yield _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
