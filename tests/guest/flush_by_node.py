"""What runs in the guest of two nodes: memory on both, asked where it lies, flushed by two cursors.

Prints a line for each thing that was seen, or ends with an error. ``nodes.py`` starts it.
"""

import ctypes
import os

import numpy as np

from impl import Block, ColoRam, FlushPool, by_node
from impl.kernels.events import EventLog
from impl.machine import nodes as machine
from impl.machine.nodes import UNKNOWN

SAW, ALL_SEEN = "colo-guest saw: ", "colo-guest has seen all of it"
PART = 2 << 20
#: On which node each part of the block is to lie.
PARTS = (1, 0, 0, 1, 1, 0)
#: migrate_pages(2) on x86-64.
MIGRATE_PAGES = 256


def main() -> None:
    """All of it."""
    memory, cpus = machine.nodes_with_memory(), machine.nodes_of_cpus().tolist()
    require((memory, cpus) == ([0, 1], [0, 1]), f"nodes {memory}, CPUs on nodes {cpus}")

    block = Block("ram", size=PART * len(PARTS))
    addresses = block.host.ctypes.data + np.arange(0, block.size, 4096, dtype=np.uint64)
    found = machine.nodes_of_pages(addresses)
    require(set(found.tolist()) == {UNKNOWN}, "what was never touched lies on no node")
    for number, node in enumerate(PARTS):
        os.sched_setaffinity(0, {cpus.index(node)})
        block.host[number * PART : (number + 1) * PART] = number
    os.sched_setaffinity(0, {0, 1})
    wanted = np.repeat(PARTS, PART // 4096)
    found = machine.nodes_of_pages(addresses)
    require(found.tolist() == wanted.tolist(), "each page lies where it was touched first")

    ram, events = ColoRam([block]), EventLog()
    on = by_node.nodes_of_words(ram.installed.job)
    require(on.tolist() == wanted[::64].tolist(), "each word is on the node of its first page")
    with FlushPool(2, serial_below_bytes=0, event_log=events) as pool:
        ram.backup(pool)
        require(ram.installed.by_node is not by_node.ONE_NODE, "the RAM lies on two nodes")
        block.cache[:] = 77
        ram.mark_host_dirty("ram", range(len(addresses)))
        flushed = pool.flush(ram)
        require(flushed.copied == len(addresses), f"{flushed.copied} pages flushed")
        require(bool((block.host == 77).all()), "all of it is as the cache")
        move_to_the_first()
        ram.backup(pool)
        require(ram.installed.by_node is by_node.ONE_NODE, "moved to one node, it has one cursor")
    asked = [event for worker in (0, 1) for event in events.events(worker)]
    taken = {event["node"] for event in asked if event["event"] == "take batch of node"}
    require(taken == {0, 1}, "batches were taken off two cursors")
    print(ALL_SEEN, flush=True)


def require(seen: bool, what: str) -> None:
    """Say it, or end with it."""
    if not seen:
        raise AssertionError(what)
    print(f"{SAW}{what}", flush=True)


def move_to_the_first() -> None:
    """All memory of this process to node 0."""
    old, new = ctypes.c_ulong(0b10), ctypes.c_ulong(0b01)
    left = ctypes.CDLL(None).syscall(
        ctypes.c_long(MIGRATE_PAGES),
        ctypes.c_long(0),
        ctypes.c_long(64),
        ctypes.byref(old),
        ctypes.byref(new),
    )
    require(left >= 0, "its memory was moved")
