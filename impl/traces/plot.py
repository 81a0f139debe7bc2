"""``python -m impl plot TRACE.npz ... -o FILE.svg``: where a guest's dirty pages lie.

One panel a trace: address upwards, epoch to the right, the darker a cell the more of its pages are
dirty in either bitmap. Beside it the mean over all epochs; across both, where a static split of the
address space between four threads would cut.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impl.bitmap import pages_of
from impl.display.figure import check_matplotlib, drawn
from impl.errors import TraceError
from impl.traces import format as traces
from impl.traces.format import Trace
from model import shares
from model.boundary.output import check_outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Cells from the bottom to the top of a panel.
ROWS = 128
THREADS = 4
MEBIBYTE = 1 << 20


def dirty_share(trace: Trace) -> NDArray[np.float64]:
    """The share of pages dirty in either bitmap: float64 (cells by address, epochs), 0 to 1."""
    pages = trace.layout.pages
    cell = -(-pages // ROWS)
    starts = np.arange(0, pages, cell)
    share = np.empty((len(starts), trace.epochs))
    for epoch, bitmaps in enumerate(zip(trace.cache_dirty, trace.host_dirty, strict=True)):
        dirty = np.union1d(*map(pages_of, bitmaps)) // np.uint64(cell)
        share[:, epoch] = np.bincount(dirty.astype(np.int64), minlength=len(starts))
    return share / np.diff(np.append(starts, pages))[:, np.newaxis]


def cuts(trace: Trace) -> list[float]:
    """Where a static split of the address space begins each thread's share after the first: MiB."""
    page_size, pages = trace.layout.page_size, trace.layout.pages
    lower = [shares.share(pages, THREADS, thread)[0] for thread in range(1, THREADS)]
    return [page * page_size / MEBIBYTE for page in lower]


def draw(recorded: dict[str, Trace], path: Path) -> None:
    """Draw one panel for each named trace into a file. Raises ColoError if that cannot be."""
    for name, trace in recorded.items():
        if not trace.layout.pages:
            raise TraceError(f"{name}: no block has a page, so there is nothing to draw")
    with drawn(path, width=3.2 * len(recorded), height=3.6, font_size=8) as figure:
        panels = figure.subplots(
            1, 2 * len(recorded), squeeze=False, width_ratios=[5, 1] * len(recorded)
        )[0]
        for number, (name, trace) in enumerate(recorded.items()):
            _panel(panels[2 * number], panels[2 * number + 1], name, trace)
        panels[0].set_ylabel("address, MiB")
        figure.supxlabel(
            "blue: square root of the share of pages that are dirty; "
            f"red: where a static split cuts for {THREADS} threads",
            fontsize="medium",
        )


def _panel(over_time: "Axes", in_all: "Axes", name: str, trace: Trace) -> None:
    share = dirty_share(trace)
    top = trace.layout.pages * trace.layout.page_size / MEBIBYTE
    over_time.imshow(
        np.sqrt(share),  # so that a single dirty page can be seen
        extent=(0, trace.epochs, 0, top),
        origin="lower",
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    over_time.set_title(name)
    over_time.set_xlabel("epoch")
    in_all.fill_betweenx(np.linspace(0, top, len(share)), share.mean(axis=1), color="tab:blue")
    in_all.set_xlim(0, None)
    in_all.set_ylim(0, top)
    in_all.set_xticks([])
    in_all.set_yticks([])
    in_all.set_xlabel("mean")
    for axes in (over_time, in_all):
        for cut in cuts(trace):
            axes.axhline(cut, color="tab:red", linewidth=0.6, linestyle="--")


def add_command(commands: Any) -> None:
    """Register ``plot`` with the command line."""
    parser = commands.add_parser("plot", help="draw where the dirty pages of recorded traces lie")
    parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE.npz")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.svg")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw and return 0."""
    check_matplotlib()
    check_outputs(arguments.output, inputs=arguments.traces)
    draw(traces.load_named(arguments.traces), arguments.output)
    return 0
