"""How much memory is to be had: asked before a command takes as much as a whole guest.

Linux promises memory that it does not have, and ends a process, any process, when it is asked to keep
the promise. Beside a running guest that process may be the guest.
"""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from impl.errors import TooLittleMemory
from impl.machine.cgroups import cgroups, text_of

MEMINFO = Path("/proc/meminfo")
#: Left to everything else on the machine, as a share of what is to be had.
RESERVE = 0.05

_MAP_NORESERVE = 0x4000


def check_memory(needed: int, what: str) -> None:
    """Raise TooLittleMemory, which names ``what``, unless ``needed`` bytes are available now."""
    there = int(available() * (1 - RESERVE))
    if needed > there:
        raise TooLittleMemory(
            f"{what} takes {-(-needed >> 20):,} MiB of memory and {there >> 20:,} are to be had: "
            "free some, raise this process's limit, or use a larger machine"
        )


def available() -> int:
    """Bytes that can be had now without swapping, within this process's cgroups."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", text_of(MEMINFO), re.MULTILINE)
    limits = [left for cgroup in cgroups("memory") for left in _left(cgroup)]
    return min([int(found[1]) << 10 if found else 2**63, *limits])


def sparse_memory(size: int) -> mmap.mmap:
    """Memory that is there, in pages of the smallest size, where it is written.

    Raises OSError where Linux promises no more than there is, or this process may have no more addresses.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    # Where all memory comes as huge pages, a page in use would take two MiB.
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _left(cgroup: Path) -> Iterator[int]:
    """What a cgroup's limit leaves, the files that it holds in memory counted as free."""
    for limit, used, files in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = text_of(cgroup / limit).strip(), text_of(cgroup / used).strip()
        if most.isdecimal() and now.isdecimal():
            cached = re.search(rf"^{files} (\d+)$", text_of(cgroup / "memory.stat"), re.MULTILINE)
            yield max(0, int(most) - int(now) + (int(cached[1]) if cached else 0))
