"""``python -m impl calibrate``: measure this machine's limits anew, keep them, show their grounds."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from impl.calibration import kept
from impl.calibration.decide import USUAL, is_noisy, ratios_of
from impl.calibration.figures import Times
from impl.calibration.here import calibrate
from impl.calibration.kept import Calibration
from impl.display.figure import check_matplotlib, drawn
from impl.display.terminal import Table, console
from impl.kernels.compile import compile_kernels
from impl.machine.cpus import processor, usable_cpus
from impl.pool import FlushPool
from impl.tuning import Tuning
from model.boundary import options
from model.boundary.output import check_outputs
from model.errors import ColoError

COLOURS = ("#b0b7bf", "#1b6ca8", "#d9822b", "#5b8a3c")
#: Longer than at a first pool: whoever asks for it has the time, and it looks at more.
SECONDS = 2
#: The limits, with what each is about.
LIMITS = {
    "ordinary_below_bytes": "copied as memcpy does up to",
    "fetching_below_bytes": "past the cache, the next page fetched whole, up to",
    "fetching_host": "beyond that, a line of the next page's host fetched",
    "serial_below_bytes": "flushed by the caller alone up to",
    "awake_nanoseconds": "who waits looks, before it sleeps, for",
}


def add_command(commands: Any) -> None:
    """Register ``calibrate`` with the command line."""
    parser = commands.add_parser("calibrate", help="measure where this machine's limits lie")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--kept", action="store_true", help="show what pools use, measure nothing")
    how.add_argument(
        "--seconds",
        type=options.seconds,
        default=SECONDS,
        help=f"about so long, else {SECONDS}; more rounds find smaller differences",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and show; 0, or 1 if there is nothing that decides: a busy machine, nothing kept."""
    if arguments.plot:
        check_matplotlib()
    check_outputs(arguments.plot)
    if arguments.kept:
        found = kept.load()
        if found is None:
            raise ColoError("nothing is kept for this machine: leave out --kept to measure")
    else:
        compile_kernels()
        found = calibrate(FlushPool, arguments.seconds)
    show(found)
    if arguments.plot:
        draw(found, arguments.plot)
    return 0 if found.settled else 1


def show(found: Calibration) -> None:
    """The limits, and the times that they rest on."""
    screen = console()
    table = Table(title=f"{processor()}, {usable_cpus()} CPUs", title_justify="left")
    for column in ("limit", "here", "usual"):
        table.add_column(column, justify="left" if column == "limit" else "right")
    for name, what in LIMITS.items():
        table.add_row(what, _limit(name, found.tuning), _limit(name, USUAL))
    screen.print(table)
    if found.figures is None:
        print("Not measured: no memory or threads for it, or it was interrupted.", file=sys.stderr)
        return
    for title, part in (
        ("one thread", found.figures.copying),
        ("all threads", found.figures.helping),
    ):
        if part:
            screen.print(_times(title, part))
    _tell("An empty round: {} us with helpers {}, {} us {}.", found.figures.sleeping)
    _tell("A flush of pages far apart: {} us {}, {} us with {} fetched.", found.figures.apart)
    if is_noisy(found.figures):
        print(
            f"Too busy: the measuring thread had a processor for {found.figures.running:.0%} of the "
            "time, so where helpers matter the usual limits hold. Try again on an idle machine.",
            file=sys.stderr,
        )
    elif not found.settled:
        print(
            "Too few rounds: the usual limits hold. Try again, with more --seconds.",
            file=sys.stderr,
        )


def _tell(what: str, times: Times) -> None:
    """Of each way the median in microseconds, and what it is called."""
    if times and all(times.values()):
        said = ((f"{np.median(taken) / 1e3:.1f}", way) for way, taken in times.items())
        print(what.format(*chain.from_iterable(said)))


def _limit(name: str, tuning: Tuning) -> str:
    value = getattr(tuning, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value / 1e3:.0f} us" if name.endswith("nanoseconds") else _size(value)


def _size(size: int) -> str:
    if size >= 1 << 20:
        return f"{size / (1 << 20):.4g} MiB"
    return f"{size / (1 << 10):.4g} KiB" if size else "never"


def _times(title: str, part: Mapping[int, Times]) -> Table:
    """Median microseconds by size, and how many rounds there were."""
    ways = _ways(part)
    table = Table(title=f"{title}: median us of a flush", title_justify="left")
    for column in ("dirty", *ways, "rounds"):
        table.add_column(column, justify="right")
    for size, times in part.items():
        rounds = min(map(len, times.values()))
        medians = (
            f"{np.median(times[way]) / 1e3:.1f}" if rounds and way in times else "" for way in ways
        )
        table.add_row(_size(size), *medians, str(rounds))
    return table


def _ways(part: Mapping[int, Times]) -> list[str]:
    """All that were measured at any size."""
    return list(dict.fromkeys(way for times in part.values() for way in times))


def draw(found: Calibration, path: Path) -> None:
    """A panel a part: how many times as fast each way is as the first, by size, with the limits found."""
    figures = found.figures
    if figures is None:
        raise ColoError("nothing was measured, so there is nothing to draw")
    limits = (
        [found.tuning.ordinary_below_bytes, found.tuning.fetching_below_bytes],
        [found.tuning.serial_below_bytes],
    )
    with drawn(path, width=8, height=3.2) as figure:
        panels = figure.subplots(1, 2)
        for axes, part, cuts in zip(
            panels, (figures.copying, figures.helping), limits, strict=True
        ):
            ways = _ways(part)
            for way, colour in zip(ways, COLOURS, strict=False):
                points = list(_ratios(part, way, ways[0]))
                places = [size for size, *_ in points]
                axes.plot(places, [median for _, _, median, _ in points], color=colour, label=way)
                low, high = [low for _, low, _, _ in points], [high for *_, high in points]
                axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
            for cut in cuts:
                if 0 < cut < 1 << 40:
                    axes.axvline(cut, color="black", linewidth=0.8, linestyle=":")
            axes.set_xscale("log", base=2)
            axes.set_xlabel("dirty bytes (dotted: the limits)")
            axes.spines[["top", "right"]].set_visible(False)
            if ways:
                axes.legend(frameon=False)
        panels[0].set_ylabel("times as fast as the first, quartiles")


def _ratios(
    part: Mapping[int, Times], way: str, to: str
) -> Iterator[tuple[int, float, float, float]]:
    """By size, the quartiles of the rounds' ratios; nothing for a size with too few rounds."""
    for size, times in part.items():
        ratios = ratios_of(times, way, to)
        if ratios is not None:
            low, median, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
            yield size, low, median, high
