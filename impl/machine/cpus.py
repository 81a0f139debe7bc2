"""How many CPUs this process may use: those of its affinity, within its cgroups' share of CPU time.

A container that was given two CPUs of sixty-four sees all of them. Threads beyond its share do not run
beside the others but after them: the kernel stops the whole cgroup until the next period, in mid-flush.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from impl.machine.cgroups import cgroups, text_of


def usable_cpus() -> int:
    """CPUs this process may use now, at least 1; a share of CPU time that is not whole is rounded up."""
    quotas = [quota for cgroup in cgroups("cpu") for quota in _quota(cgroup)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def _quota(cgroup: Path) -> Iterator[int]:
    """The limit that a cgroup sets, rounded up to CPUs; nothing if it sets none."""
    version_2 = text_of(cgroup / "cpu.max")
    version_1 = text_of(cgroup / "cpu.cfs_quota_us") + text_of(cgroup / "cpu.cfs_period_us")
    for limit in (version_2.split(), version_1.split()):
        if len(limit) == 2 and all(map(str.isdecimal, limit)):  # neither "max" nor -1
            quota, period = map(int, limit)
            yield -(-quota // max(1, period))


def processor() -> str:
    """What this machine's processor calls itself."""
    return _cpuinfo().get("model name", platform.machine())


def processor_model() -> str:
    """The same with the numbers that tell models apart, where the name does not: a virtual machine's."""
    said = _cpuinfo()
    numbers = (f"{name} {said[name]}" for name in MODEL_NUMBERS if name in said)
    return ", ".join((processor(), *numbers))


#: As /proc/cpuinfo calls them, on x86-64 and on Arm.
MODEL_NUMBERS = (
    *("cpu family", "model", "stepping", "cache size"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)


@cache
def _cpuinfo() -> dict[str, str]:
    """What the kernel says of the first processor."""
    with suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")
        pairs = (line.partition(":") for line in first.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}
