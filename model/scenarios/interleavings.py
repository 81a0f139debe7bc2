"""What a scenario tells of a small system: the shortest schedule that fails, step by step."""

from typing import Any

from model.explore.pictures import picture
from model.explore.schedule import replay
from model.explore.search import explore
from model.page.picture import drawn
from model.scenarios.registry import FAILS, Lines
from model.transitions import System

#: No scenario has as many states.
_MOST_STATES = 50_000


def every_interleaving(system: System[Any, Any]) -> Lines:
    """Look at each; nothing is told if none fails."""
    failure = explore(system, limit=_MOST_STATES).failure
    if failure:
        start = picture(system, system.shared, system.processes)
        yield drawn(f"in the order {failure.schedule}", start)
        for taken in replay(system, failure.schedule):
            shown = picture(system, taken.shared, taken.processes, taken.name)
            yield drawn(f"{taken.name}{taken.kind}  {taken.text}", shown)
        yield f"{FAILS}{failure.invariant}"
