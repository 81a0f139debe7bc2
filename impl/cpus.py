"""How many CPUs this process may use: those of its affinity, within its cgroups' share of CPU time.

A container that was given two CPUs of sixty-four sees all of them. Threads beyond its share do not run
beside the others but after them: the kernel stops the whole cgroup until the next period, in mid-flush.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

PROC_SELF = Path("/proc/self")
#: hierarchy, controllers, path (cgroups(7))
MEMBER = re.compile(r"(\d+):([^:]*):(/.*)")
#: root of the mount, mount point, kind, options (proc_pid_mountinfo(5))
MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
ESCAPE = re.compile(r"\\([0-7]{3})")


def usable_cpus() -> int:
    """CPUs this process may use now, at least 1; a share of CPU time that is not whole is rounded up."""
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas()]))


def _quotas() -> Iterator[int]:
    """The limits, in CPUs, of the cgroups this process is in and of those around them."""
    for mount, folder in _cgroups():
        for cgroup in (folder, *folder.parents):
            yield from _quota(cgroup)
            if cgroup == mount:
                break


def _cgroups() -> Iterator[tuple[Path, Path]]:
    """(mount point, this process's folder in it) of each hierarchy that may limit CPU time.

    Version 2 has one hierarchy, numbered 0; version 1 one with the controller ``cpu``. Both may be there.
    """
    paths = {}
    for hierarchy, controllers, path in _fields(MEMBER, PROC_SELF / "cgroup"):
        if hierarchy == "0":
            paths["cgroup2"] = Path(path)
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = Path(path)
    for root, point, kind, options in _fields(MOUNT, PROC_SELF / "mountinfo"):
        if kind not in paths or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        mount, shown, ours = Path(_unescaped(point)), Path(_unescaped(root)), paths[kind]
        # A mount may show a part of the hierarchy only, and a namespace may hide where we are ("/..").
        if ours.is_relative_to(shown) and ".." not in ours.parts:
            yield mount, mount / ours.relative_to(shown)


def _quota(cgroup: Path) -> Iterator[int]:
    """The limit that a cgroup sets, rounded up to CPUs; nothing if it sets none."""
    version_2 = _text(cgroup / "cpu.max")
    version_1 = _text(cgroup / "cpu.cfs_quota_us") + _text(cgroup / "cpu.cfs_period_us")
    for limit in (version_2.split(), version_1.split()):
        if len(limit) == 2 and all(map(str.isdecimal, limit)):  # neither "max" nor -1
            quota, period = map(int, limit)
            yield -(-quota // max(1, period))


def _fields(pattern: re.Pattern[str], path: Path) -> Iterator[tuple[str, ...]]:
    """The fields of each line that matches; a kernel or a sandbox may write others."""
    for line in _text(path).split("\n"):
        if match := pattern.fullmatch(line):
            yield match.groups()


def _text(path: Path) -> str:
    """What a file says; nothing if it is not there or must not be read. Paths may be of any bytes."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    """A path as the kernel writes it into mountinfo: blanks and the like as three octal digits."""
    return ESCAPE.sub(lambda digits: chr(int(digits[1], 8)), field)
