"""The scenarios by name. Each registers itself: ``@scenario(rows)`` on the function that runs it."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

FAILS = "FAILS: "
Lines = Iterator[str]
Rows = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class Scenario:
    """A run of the model on values, and rows of small values, of its parameters in order."""

    run: Callable[..., Lines]
    rows: Callable[[], Rows]

    def cases(self) -> Iterator[dict[str, Any]]:
        """The small values that a right model survives, smallest first, each by its name."""
        names = tuple(inspect.signature(self.run).parameters)
        return (dict(zip(names, row, strict=True)) for row in self.rows())


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    rows: Callable[[], Rows] = tuple,
) -> Callable[[Callable[..., Lines]], Callable[..., Lines]]:
    """Register a scenario under the name of its function, spaces for underscores."""

    def register(run: Callable[..., Lines]) -> Callable[..., Lines]:
        SCENARIOS[run.__name__.replace("_", " ")] = Scenario(run, rows)
        return run

    return register
