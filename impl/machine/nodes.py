"""On which NUMA node a CPU is, and on which node a page of this process's memory lies.

Linux only says: nothing is moved or bound. Where it does not say (no such folder in sysfs, a page that
was never touched, a container whose seccomp filter refuses ``move_pages``), whoever asks is told so by
the value, and takes the machine for one with a single node.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impl.machine.cgroups import text_of
from impl.machine.host import MACHINE

Numbers = npt.NDArray[np.int64]

NODES = Path("/sys/devices/system/node")
#: move_pages(2) by machine: its system call number on Linux.
MOVE_PAGES_CALL_NUMBERS = {"x86_64": 279, "aarch64": 239, "riscv64": 239}
#: Stands for no node.
UNKNOWN = -1

# Pages asked about in one call: little memory, and Ctrl-C is heard in between.
_PAGES_A_CALL = 1 << 16


def nodes_with_memory() -> list[int]:
    """The nodes that have memory; none where sysfs does not know of nodes."""
    return list(_listed(text_of(NODES / "has_memory")))


def nodes_of_cpus() -> Numbers:
    """The node of each CPU, int64 (CPUs,); UNKNOWN of a number that no CPU has now."""
    on: dict[int, int] = {}
    for folder in NODES.glob("node[0-9]*"):
        on |= dict.fromkeys(_listed(text_of(folder / "cpulist")), int(folder.name[4:]))
    found = np.full(max(on, default=-1) + 1, UNKNOWN)
    found[list(on)] = list(on.values())
    return found


def nodes_of_pages(addresses: npt.NDArray[np.uint64]) -> Numbers:
    """The node on which the page at each address lies, int64 of the same shape.

    UNKNOWN of a page that is not in memory now, and of all of them if Linux does not say. Huge pages,
    hugetlb and shared memory are as good as any.
    """
    found = np.full(len(addresses), UNKNOWN)
    for start in range(0, len(addresses), _PAGES_A_CALL):
        asked = np.ascontiguousarray(addresses[start : start + _PAGES_A_CALL])
        status = move_pages(asked)
        if status is None:
            return np.full(len(addresses), UNKNOWN)
        found[start : start + len(asked)] = np.where(status < 0, UNKNOWN, status)
    return found


def move_pages(addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32] | None:
    """The system call as it is when it moves nothing: a node or -errno for each; None if it fails."""
    number = MOVE_PAGES_CALL_NUMBERS.get(MACHINE)
    if number is None:
        return None
    status = np.zeros(len(addresses), np.int32)
    this_process, nowhere, flags = (ctypes.c_long(0),) * 3
    failed = ctypes.CDLL(None).syscall(
        ctypes.c_long(number),
        this_process,
        ctypes.c_long(len(addresses)),
        ctypes.c_void_p(addresses.ctypes.data),
        nowhere,
        ctypes.c_void_p(status.ctypes.data),
        flags,
    )
    return None if failed else status


def _listed(text: str) -> Iterator[int]:
    """The numbers of a list as sysfs writes it: ``0-3,8``."""
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            yield from range(int(first), int(last or first) + 1)
