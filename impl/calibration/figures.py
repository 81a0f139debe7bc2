"""What a calibration measures, before anything is decided from it."""

from collections.abc import Mapping
from dataclasses import dataclass

#: Nanoseconds by round, of each way.
Times = dict[str, list[int]]


@dataclass(frozen=True)
class Figures:
    """What was measured: nanoseconds of flushes, by dirty bytes, way and round."""

    copying: Mapping[int, Times]
    """one thread: "ordinary", "fetching" and "streaming" """
    helping: Mapping[int, Times]
    """the caller "alone", and "together" with helpers that were asleep; nothing on one CPU"""
    sleeping: Times
    """an empty round to all helpers, "asleep" and "awake"; nothing on one CPU"""
    apart: Times
    """all threads, pages far apart: "streaming", and with "a line of the host" fetched; nothing unless
    there was time for so much memory"""
    running: float
    """the share of the time in which the measuring thread had a processor, while it waited for nobody"""
