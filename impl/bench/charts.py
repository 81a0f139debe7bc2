"""The benchmark's plots."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impl.bench.figures import fastest, ours_in, ratios_of
from impl.display.figure import drawn
from model.page.document import Document

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, LIMIT = "#1b6ca8", "#b0b7bf", "#d9822b"


def draw_ratios(documents: Mapping[str, Document], path: Path) -> None:
    """How many times as fast as the fastest C port: ours, the patch in C, the copy limit; by machine."""
    tallest = max(len(found["patterns"]) for found in documents.values())
    with drawn(path, width=8 * len(documents), height=0.5 * tallest + 1.4) as figure:
        panels = figure.subplots(1, len(documents), squeeze=False)[0]
        for axes, (name, found) in zip(panels, documents.items(), strict=True):
            _draw_machine(axes, found)
            axes.set_title(name)


def _draw_machine(axes: "Axes", found: Document) -> None:
    patterns = found["patterns"]
    ours = ours_in(found)
    for place, row in enumerate(reversed(patterns)):
        ratios = ratios_of(row)
        bars = [(ours, OURS, 0.22)]
        if patch := fastest(row, "C patch"):
            bars.append((patch, THEIRS, -0.22))
        for name, colour, shift in bars:
            ratio = ratios[name]
            axes.barh(place + shift, ratio["median"], 0.4, color=colour)
            axes.plot(
                [ratio["low"], ratio["high"]], [place + shift] * 2, color="black", linewidth=0.8
            )
        median = f"{ratios[ours]['median']:.2f}"
        axes.text(0.03, place + 0.22, median, va="center", color="white")
        if row["pages"] and row["best_copy_limit"]:
            limit = ratios[row["best_copy_limit"]]["median"]
            axes.plot([limit] * 2, [place - 0.42, place + 0.42], color=LIMIT, linewidth=2)
    names = [f"{row['pattern']}\n{row['pages']} pages" for row in reversed(patterns)]
    axes.set_yticks(range(len(patterns)), names)
    axes.axvline(1, color="black", linewidth=0.8)
    in_c = any(row["fastest_c"] for row in patterns)
    axes.set_xlabel(
        "times as fast as the fastest C port (blue: dynamic, grey: the patch in C, "
        "orange: copy limit)"
        if in_c
        else "dynamic: times as fast as one thread"
    )
    axes.spines[["top", "right"]].set_visible(False)


def draw_measured_scaling(found: Document, path: Path, only: Collection[str] = ()) -> None:
    """Speed-up by threads, a panel a pattern: measured with quartiles, and the best possible, dotted."""
    speed_ups = {n: rows for n, rows in found["speed_ups"].items() if not only or n in only}
    columns = min(4, len(speed_ups))
    rows = -(-len(speed_ups) // columns)
    with drawn(path, width=3 * columns, height=2.8 * rows + 0.4) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for axes, (name, measured) in zip(panels, speed_ups.items(), strict=False):
            for kind, colour in (("dynamic", OURS), ("static", THEIRS), ("copy limit", LIMIT)):
                mine = [one for one in measured if one["who"] == kind]
                threads = [one["threads"] for one in mine]
                axes.plot(
                    threads, [one["ratio"]["median"] for one in mine], color=colour, label=kind
                )
                low, high = ([one["ratio"][end] for one in mine] for end in ("low", "high"))
                axes.fill_between(threads, low, high, color=colour, alpha=0.2, linewidth=0)
            computed = found["scaling"][name]
            for column, colour in ((1, THEIRS), (2, OURS)):
                best = [row[column] for row in computed]
                axes.plot([row[0] for row in computed], best, color=colour, linestyle=":")
            _number_the_threads(axes, [row[0] for row in computed])
            axes.set_title(name)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in panels[len(speed_ups) :]:
            axes.set_visible(False)
        panels[0].set_ylabel("speed-up (dotted: the best possible)")
        panels[0].legend(frameon=False)


def _number_the_threads(axes: "Axes", threads: Sequence[int]) -> None:
    """As plain numbers: the scale would write powers in formulas, and no text here is one."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(threads, list(map(str, threads)))


def draw_scaling(found: dict[str, list[tuple[int, float, float, float]]], path: Path) -> None:
    """The best possible speed-up by threads, one panel a trace."""
    with drawn(path, width=3 * len(found), height=3.2) as figure:
        panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
        for axes, (name, rows) in zip(panels, found.items(), strict=True):
            threads = [row[0] for row in rows]
            axes.plot(threads, threads, color="black", linewidth=0.6, linestyle=":")
            for column, label, colour in (
                (1, "static shares", THEIRS),
                (2, "dynamic batches", OURS),
                (3, "equal dirty pages", LIMIT),
            ):
                axes.plot(threads, [row[column] for row in rows], color=colour, label=label)
            _number_the_threads(axes, threads)
            axes.set_yscale("log", base=2)
            axes.set_yticks(threads, list(map(str, threads)))
            axes.set_title(name)
            axes.set_xlabel("threads")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("best possible speed-up")
        panels[0].legend(frameon=False)
