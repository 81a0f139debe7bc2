"""``python -m impl bench --scaling``: 1, 2, 4 ... threads on every pattern, measured beside computed.

Our strategies, the C ports that have threads, the copy limit of as many threads, all in one round. The
speed-up of each is to our own single thread, in that round.
"""

from typing import Any

from impl.bench import copy_limit, simulate
from impl.bench.bound_port import BoundPort
from impl.bench.copy_limit import BEST_MODE
from impl.bench.figures import in_full
from impl.bench.measures import ours
from impl.bench.paired import Contender, PairedRuns
from impl.bench.patterns import Pattern
from impl.display.terminal import Table, console
from impl.pool import FlushPool
from impl.ports.build import CHECK_IN, PATCH, build
from impl.ram import ColoRam

#: Who is measured with every number of threads; what is written in C needs a compiler.
KINDS_IN_C = ("C patch", "the same design in C", "copy limit")
KINDS = ("dynamic", "static", *KINDS_IN_C)
REFERENCE = "dynamic, 1"


def thread_numbers(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    return sorted({*(1 << power for power in range(most.bit_length())), most})


class Scaling:
    """The contenders with every number of threads."""

    def __init__(self, threads: int, seconds: float, in_c: bool) -> None:
        self.numbers, self.seconds, self.in_c = thread_numbers(threads), seconds, in_c
        self.pools = {number: FlushPool(number) for number in self.numbers}

    def measure(self, runs: PairedRuns, pattern: Pattern) -> list[dict[str, Any]]:
        """Speed-ups on one pattern: who, threads, ratio."""
        made = self._contenders(runs.ram)
        times = runs.run(pattern, list(made.values()), self.seconds)
        return [
            {"who": kind, "threads": number, "ratio": vars(times.ratio(one.name, to=REFERENCE))}
            for (kind, number), one in made.items()
            if pattern.pages or kind != "copy limit"
        ]

    def _contenders(self, ram: ColoRam) -> dict[tuple[str, int], Contender]:
        made: dict[tuple[str, int], Contender] = {}
        for number, pool in self.pools.items():
            for strategy in ("dynamic", "static"):
                made[strategy, number] = ours(f"{strategy}, {number}", pool, ram, strategy)
            if self.in_c:
                for kind, source in (("C patch", PATCH), ("the same design in C", CHECK_IN)):
                    port = BoundPort(build(source), ram, number)
                    made[kind, number] = port.contender(f"{kind}, {number}", "C")
                name = f"copy limit, {number}"
                made["copy limit", number] = copy_limit.contender(name, ram, number, BEST_MODE)
        return made

    def close(self) -> None:
        """End the pools."""
        for pool in self.pools.values():
            pool.close()


def best_possible(
    pattern: Pattern, pages: int, numbers: list[int]
) -> list[tuple[int, float, float, float]]:
    """What a split could give at best, as ``--simulate`` computes it, with these numbers of threads."""
    epochs = [simulate.words_of(epoch.pages) for epoch in pattern.epochs]
    return list(simulate.of_epochs(epochs, pages, numbers))


def show(speed_ups: dict[str, list[dict[str, Any]]], computed: dict[str, Any]) -> None:
    """A table a pattern: threads downwards."""
    screen = console()
    for name, measured in speed_ups.items():
        kinds = [kind for kind in KINDS if any(one["who"] == kind for one in measured)]
        table = Table(title=f"{name}: times as fast as one thread of ours", title_justify="left")
        for column in ("threads", *kinds, "best possible: static", "dynamic"):
            table.add_column(column, justify="right")
        by_place = {(one["who"], one["threads"]): one["ratio"] for one in measured}
        for threads, static, dynamic, _ in computed[name]:
            cells = (by_place[kind, threads] for kind in kinds)
            found = map(in_full, cells)
            table.add_row(str(threads), *found, f"{static:.2f}", f"{dynamic:.2f}")
        screen.print(table)
