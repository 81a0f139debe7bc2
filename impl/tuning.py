"""Limits where one way of flushing gives way to the next: how fast a flush is, never what it does.

Nothing here knows a processor. ``impl.calibration`` measures; these are the values where it could not.
"""

from dataclasses import dataclass, fields
from typing import Any

from model.boundary.arguments import flag, whole_number
from model.errors import ColoError


@dataclass(frozen=True)
class Tuning:
    """The limits of a pool. A size means: up to this many dirty bytes in a flush; 0 is never.

    Raises ColoError for what is no whole number from 0 to 2^64 - 1, or no truth value.
    """

    ordinary_below_bytes: int = 4 << 20
    """pages are copied as memcpy does: they were written a moment ago and lie in the processor's cache"""
    fetching_below_bytes: int = 0
    """beyond that: past the cache, the next page fetched whole meanwhile; else only its beginning"""
    serial_below_bytes: int = 1 << 20
    """the caller flushes alone: to wake a helper costs more than it brings"""
    awake_nanoseconds: int = 100_000
    """who waits looks so long before it sleeps, unless a pool has more threads than there are CPUs"""
    fetching_host: bool = False
    """past the cache, the next page not fetched whole: a line of its host is, all the same. By then the
    processor knows where the page lies; on most machines the line costs more than that brings"""

    def __post_init__(self) -> None:
        for limit in fields(self):
            checked = flag if limit.type is bool else _limit
            value = checked(getattr(self, limit.name), limit.name, ColoError)
            object.__setattr__(self, limit.name, value)


def _limit(value: Any, what: str, error: type[Exception]) -> int:
    number = whole_number(value, what, error)
    if not 0 <= number < 2**64:
        raise error(f"{what} {number} is impossible: use 0 to 2^64 - 1")
    return number
