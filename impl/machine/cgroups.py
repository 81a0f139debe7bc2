"""The cgroups this process is in, and what their files say: limits that no other call tells."""

import re
from collections.abc import Iterator
from pathlib import Path

PROC_SELF = Path("/proc/self")
#: hierarchy, controllers, path (cgroups(7))
MEMBER = re.compile(r"(\d+):([^:]*):(/.*)")
#: root of the mount, mount point, kind, options (proc_pid_mountinfo(5))
MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
ESCAPE = re.compile(r"\\([0-7]{3})")


def cgroups(controller: str) -> Iterator[Path]:
    """The folders of the cgroups that may limit this process in what ``controller`` is about.

    Its own and those around it, of each hierarchy that is mounted here.
    """
    for mount, folder in _own(controller):
        for cgroup in (folder, *folder.parents):
            yield cgroup
            if cgroup == mount:
                break


def text_of(path: Path) -> str:
    """What a file says; nothing if it is not there or must not be read. Paths may be of any bytes."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _own(controller: str) -> Iterator[tuple[Path, Path]]:
    """(mount point, this process's folder in it) of each hierarchy with the controller.

    Version 2 has one hierarchy, numbered 0; version 1 one for each controller. Both may be there.
    """
    paths = {}
    for hierarchy, controllers, path in _fields(MEMBER, PROC_SELF / "cgroup"):
        if hierarchy == "0":
            paths["cgroup2"] = Path(path)
        elif controller in controllers.split(","):
            paths["cgroup"] = Path(path)
    for root, point, kind, options in _fields(MOUNT, PROC_SELF / "mountinfo"):
        if kind not in paths or (kind == "cgroup" and controller not in options.split(",")):
            continue
        mount, shown, ours = Path(_unescaped(point)), Path(_unescaped(root)), paths[kind]
        # A mount may show a part of the hierarchy only, and a namespace may hide where we are ("/..").
        if ours.is_relative_to(shown) and ".." not in ours.parts:
            yield mount, mount / ours.relative_to(shown)


def _fields(pattern: re.Pattern[str], path: Path) -> Iterator[tuple[str, ...]]:
    """The fields of each line that matches; a kernel or a sandbox may write others."""
    for line in text_of(path).split("\n"):
        if match := pattern.fullmatch(line):
            yield match.groups()


def _unescaped(field: str) -> str:
    """A path as the kernel writes it into mountinfo: blanks and the like as three octal digits."""
    return ESCAPE.sub(lambda digits: chr(int(digits[1], 8)), field)
