"""What can go wrong in a flush, as small runs of the model that say each step and whether it fails.

A scenario takes plain values (a counterexample's) and yields lines; the last begins with FAILS if the
property it is about does not hold. Its rows are all small values that a right model survives,
smallest first: where a proof fails, the first of them that fails on the model is shown.
"""

from model.scenarios import (  # they register themselves
    blocks,
    compiled,
    costs,
    dirty_log,
    killed,
    nodes,
    resize,
    schedules,
    shares,
    strays,
    walk,
    words,
    work_queue,
    worker,
)
from model.scenarios.registry import FAILS, SCENARIOS

__all__ = [
    "FAILS",
    "SCENARIOS",
    "blocks",
    "compiled",
    "costs",
    "dirty_log",
    "killed",
    "nodes",
    "resize",
    "schedules",
    "shares",
    "strays",
    "walk",
    "words",
    "work_queue",
    "worker",
]
