"""A schedule of one of the systems that are explored; the exploration finds the small ones itself."""

from typing import Any

from model.explore import catalogue
from model.explore.weak import catalogue as weak
from model.scenarios.registry import Lines, scenario


@scenario()
def schedule(system: str, schedule: str, **options: Any) -> Lines:
    """A schedule of a system of ``model.explore``."""
    return catalogue.lines(system, schedule, **options)


@scenario()
def schedule_over_a_memory(system: str, memory: str, schedule: str, **options: Any) -> Lines:
    """A schedule of a system of ``model.explore.weak``."""
    return weak.lines(system, memory, schedule, **options)
