"""What a calibration measures, before anything is decided from it."""

from collections.abc import Mapping
from dataclasses import dataclass

#: Nanoseconds by round, of each way.
Times = dict[str, list[int]]


@dataclass(frozen=True)
class Figures:
    """What was measured: nanoseconds of flushes, by dirty bytes, way and round."""

    copying: Mapping[int, Times]
    """one thread: "ordinary", "fetching", "streaming", and of the larger sizes "cache only" """
    helping: Mapping[int, Times]
    """the caller "alone", and "together" with helpers that were asleep; nothing on one CPU"""
    sleeping: Times
    """an empty round to all helpers, "asleep" and "awake"; nothing on one CPU"""
    running: float
    """the share of the time in which the measuring thread had a processor, while it waited for nobody"""
