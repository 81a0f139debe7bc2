"""From figures to limits: where one way of flushing gives way to the next as flushes grow.

A machine is noisy, and a wrong limit costs more than a right one brings. So the usual limits stay unless
others win clearly: of a gain only as much counts as is sure, less a margin, and a size of which there are
too few rounds counts for nothing. That will do for the copies of one thread, which a busy machine delays
now and then; of helpers that must wait for a processor it says nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from impl.calibration.figures import Figures, Times
from impl.tuning import Tuning

FEWEST_ROUNDS = 3
#: What a way must win at a size before it counts, as a share of the time.
MARGIN = 0.02
#: Of n rounds the quantile at 0.5 - SURE / sqrt(n) is sure: 95 times of 100 it lies below the median that
#: any number of rounds would have.
SURE = 0.82
#: A waiting thread looks for this many times what sleeping costs, within these bounds, in nanoseconds.
AWAKE_TIMES = 2
SHORTEST_AWAKE, LONGEST_AWAKE = 20_000, 500_000

#: A thread that had no processor for more of the time was measured together with its neighbours.
LEAST_RUNNING = 0.9

USUAL = Tuning()


def decide(figures: Figures) -> Tuning:
    """The limits that the figures speak for; the usual ones where they are too few or undecided."""
    tuning = copying_limits(figures.copying)
    if is_noisy(figures):
        return tuning
    (alone,) = limits(figures.helping, ("alone", "together"), _usual_help)
    return replace(
        tuning,
        fetching_host=gain(figures.apart, "a line of the host", "streaming") > 0,
        serial_below_bytes=USUAL.serial_below_bytes if alone is None else alone,
        awake_nanoseconds=_awake(figures.sleeping),
    )


def copying_limits(copying: Mapping[int, Times]) -> Tuning:
    """The usual limits, but for those between ways of copying: that is decided, and used, first."""
    ordinary, fetching = limits(copying, ("ordinary", "fetching", "streaming"), _usual_copy)
    if ordinary is None or fetching is None:
        return USUAL
    return replace(USUAL, ordinary_below_bytes=ordinary, fetching_below_bytes=fetching)


def is_settled(figures: Figures) -> bool:
    """Do they decide, or is it worth its time to try again: idle, with enough rounds?"""
    parts = [part for part in (figures.copying, figures.helping) if part]
    return not is_noisy(figures) and all(map(_has_rounds, parts))


def _has_rounds(part: Mapping[int, Times]) -> bool:
    """Did any size have as many rounds as count for something?"""
    return any(min(map(len, times.values())) >= FEWEST_ROUNDS for times in part.values())


def is_noisy(figures: Figures) -> bool:
    """Was the machine too busy with other work to say anything of more than one thread?"""
    return figures.running < LEAST_RUNNING


def _usual_copy(size: int) -> str:
    return "ordinary" if size <= USUAL.ordinary_below_bytes else "streaming"


def _usual_help(size: int) -> str:
    return "alone" if size <= USUAL.serial_below_bytes else "together"


def limits(
    found: Mapping[int, Times], ways: Sequence[str], usual: Callable[[int], str]
) -> list[int | None]:
    """The limits between ``ways``, which follow each other as sizes grow, or Nones: the usual ones.

    A limit is halfway, as a ratio, between two sizes measured; 0 if the way before it is never best, and
    the largest size if it is best everywhere: nobody knows what comes then.
    """
    sizes = sorted(found)
    gains = [{way: gain(found[size], way, usual(size)) for way in ways} for size in sizes]
    best, best_cuts = 0.0, None
    for cuts in combinations_with_replacement(range(len(sizes) + 1), len(ways) - 1):
        total = sum(gains[place][way] for place, way in _assigned(cuts, ways, len(sizes)))
        if total > best:
            best, best_cuts = total, cuts
    if best_cuts is None:
        return [None] * (len(ways) - 1)
    return [_between(sizes, cut) for cut in best_cuts]


def _assigned(cuts: Sequence[int], ways: Sequence[str], sizes: int) -> Iterator[tuple[int, str]]:
    """Each size, by its place, with the way that the cuts give it."""
    for place in range(sizes):
        yield place, ways[sum(cut <= place for cut in cuts)]


def _between(sizes: Sequence[int], cut: int) -> int:
    if cut == 0:
        return 0
    return sizes[-1] if cut == len(sizes) else math.isqrt(sizes[cut - 1] * sizes[cut])


def gain(times: Times, way: str, usual: str) -> float:
    """How many times as fast a way surely is as the usual one, as a logarithm; 0 if that is unknown."""
    ratios = ratios_of(times, way, usual)
    if way == usual or ratios is None:
        return 0.0
    # Of few rounds what three of four have shown.
    sure = max(0.25, 0.5 - SURE / math.sqrt(len(ratios)))
    return float(np.log(np.quantile(ratios, sure))) - MARGIN


def ratios_of(times: Times, way: str, to: str) -> npt.NDArray[np.float64] | None:
    """How many times as fast a way is as another, by round; None if there are too few of them."""
    one, other = (np.array(times.get(which, ()), np.float64) for which in (way, to))
    rounds = min(len(one), len(other))
    return other[:rounds] / one[:rounds] if rounds >= FEWEST_ROUNDS else None


def _awake(times: Times) -> int:
    """How long to look before sleeping: as long as sleeping costs would be twice the best at worst."""
    if min(map(len, times.values()), default=0) < FEWEST_ROUNDS:
        return USUAL.awake_nanoseconds
    costs = float(np.median(times["asleep"]) - np.median(times["awake"]))
    return min(max(round(AWAKE_TIMES * costs), SHORTEST_AWAKE), LONGEST_AWAKE)
