"""Figures: checked before the work, written whole. matplotlib is an optional extra."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.boundary.output import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 9,
    # The same figures give the same file, byte for byte.
    "svg.hashsalt": "colo-flush",
    "svg.fonttype": "none",
    # A trace's name is text, whatever dollars and backslashes are in it.
    "text.parse_math": False,
    "text.usetex": False,
}


def check_matplotlib() -> None:
    """Raise ModuleNotFoundError, before the work begins, if there is no matplotlib to draw its figure."""
    import_module("matplotlib")


@contextmanager
def drawn(path: Path, *, width: float, height: float, font_size: float = 9) -> Iterator["Figure"]:
    """A figure, inches wide and high, to draw into; written at the end. Raises OutputError.

    The file's name says what it becomes: ``.png``, ``.pdf`` or whatever else matplotlib writes, and
    an SVG for every other name.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE | {"font.size": font_size}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        form = path.suffix[1:].lower()
        if form not in figure.canvas.get_supported_filetypes():
            form = "svg"
        with whole_file(path) as file, warnings.catch_warnings():
            # The text of an SVG is drawn by whoever shows it, with the letters that are there.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)
