"""Does a port pile anything up, call after call? Runs in the child."""

from pathlib import Path

from tests.conformance.call import Block, Call
from tests.conformance.port import Bench
from tests.conformance.rules import Violation

WARM_UP, ROUNDS = 300, 1200
THREADS = (1, 2, 4, 3)
MORE_THREADS = 16
MORE_MEMORY = 1 << 20


def piled_up(bench: Bench) -> list[Violation]:
    """Make the same calls again and again; what has grown since the first few hundred."""
    calls = [
        Call(1024, (Block(0, 128 << 10, 128 << 10, 0),), (1, 1), (2, 1 << 63), 2, threads)
        for threads in THREADS
    ]
    for number in range(WARM_UP):
        bench.run(calls[number % len(calls)])
    threads, memory = _threads(), _memory()
    for number in range(ROUNDS):
        bench.run(calls[number % len(calls)])
    found = []
    if (more := _threads() - threads) > MORE_THREADS:
        found.append(f"{more} threads more after {ROUNDS} calls")
    if (more := _memory() - memory) > MORE_MEMORY:
        found.append(f"{more >> 10} KiB of memory more after {ROUNDS} calls")
    return [Violation("piles-up-nothing", detail) for detail in found]


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _memory() -> int:
    """Bytes of anonymous memory in use."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) << 10
