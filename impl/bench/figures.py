"""What a document of the benchmark says, by who is meant: for the plots and the tables."""

from collections.abc import Mapping
from typing import Any

from model.page.document import Document

#: Our default's name, before how many threads it has.
OURS = "dynamic, "


def ours_in(found: Document) -> str:
    """Our default: dynamic, with as many threads as were measured."""
    return f"{OURS}{found['machine']['threads']}"


def ratios_of(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many times as fast everybody is as the fastest C port, or without one as one thread of ours."""
    found: dict[str, dict[str, float]] = (
        row["ratio_to_fastest_c"] if row["fastest_c"] else row["ratio_to_one_thread"]
    )
    return found


def fastest(row: dict[str, Any], beginning: str) -> str | None:
    """Of those whose name begins so, the one with the lowest median; None if there is none."""
    names = [name for name in row["median_ns"] if name.startswith(beginning)]
    return min(names, key=lambda name: float(row["median_ns"][name]), default=None)


def in_full(ratio: Mapping[str, float]) -> str:
    """A ratio with its quartiles."""
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}-{ratio['high']:.2f}]"


def told(value: float, target: str) -> str:
    """A measure to two places, or to more: by 1.15 no "at most 1.15" is missed, but by 1.152."""
    *_, bound = ("", *target.split())
    texts = [f"{value:.{places}f}" for places in range(2, 6)]
    return next((text for text in texts if not bound or float(text) != float(bound)), texts[0])
