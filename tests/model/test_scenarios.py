"""Scenarios, on the small values that a right model survives."""

from itertools import islice

import pytest

from model.faults import broken
from model.scenarios import FAILS, SCENARIOS


def failing(name: str, most: int) -> list[str]:
    """How a scenario fails, on up to ``most`` of its small values, taken evenly."""
    cases = list(SCENARIOS[name].cases())
    some = islice(cases, 0, None, max(1, len(cases) // most))
    run = SCENARIOS[name].run
    return [line for values in some for line in run(**values) if line.startswith(FAILS)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_small_values_are_survived(name: str, long_run: bool) -> None:
    assert failing(name, 10**6 if long_run else 40) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [("whole flush", "lost decrement"), ("two shares", "shares not cut at words")],
)
def test_with_a_fault_they_are_not(name: str, fault: str) -> None:
    with broken(fault):
        assert failing(name, 10**6)
