"""The benchmark's plots."""

from pathlib import Path

from impl.bench.rows import Row
from impl.display.figure import drawn

OURS, THEIRS, LIMIT = "#1b6ca8", "#b0b7bf", "#d9822b"


def draw_ratios(rows: list[Row], path: Path) -> None:
    """How many times as fast as the fastest C port: ours, the patch in C, and the copy limit."""
    with drawn(path, width=8, height=0.5 * len(rows) + 1.2) as figure:
        axes = figure.subplots()
        for place, row in enumerate(reversed(rows)):
            times = row.times
            bars = [(row.default, OURS, 0.22)]
            patches = [name for name in times.by_name if name.startswith("C patch")]
            if patches:
                bars.append((times.fastest(patches), THEIRS, -0.22))
            for name, colour, shift in bars:
                ratio = row.ratio(name)
                axes.barh(place + shift, ratio.median, 0.4, color=colour)
                axes.plot(
                    [ratio.low, ratio.high], [place + shift] * 2, color="black", linewidth=0.8
                )
            axes.text(
                0.03,
                place + 0.22,
                f"{row.ratio(row.default).median:.2f}",
                va="center",
                color="white",
            )
            if times.pattern.pages and row.copy_limit:
                limit = row.ratio(row.copy_limit).median
                axes.plot([limit] * 2, [place - 0.42, place + 0.42], color=LIMIT, linewidth=2)
        names = [
            f"{row.times.pattern.name}\n{row.times.pattern.pages} pages" for row in reversed(rows)
        ]
        axes.set_yticks(range(len(rows)), names)
        axes.axvline(1, color="black", linewidth=0.8)
        in_c = any(row.best_c for row in rows)
        axes.set_xlabel(
            "times as fast as the fastest C port (blue: dynamic, grey: the patch in C, "
            "orange: copy limit)"
            if in_c
            else "dynamic: times as fast as one thread"
        )
        axes.spines[["top", "right"]].set_visible(False)


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
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_title(name)
            axes.set_xlabel("threads")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("best possible speed-up")
        panels[0].legend(frameon=False)
