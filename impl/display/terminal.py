"""The terminal, as every command writes to it: a trace's or a file's name is never markup there."""

from collections.abc import Iterator

import rich.table
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: ``[link=...]`` is no link, ``:smile:`` no picture."""
    return Console(stderr=stderr, markup=False, emoji=False)


class Table(rich.table.Table):
    """A table that cuts no number: where a terminal is too narrow for it, it is a list of its rows."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # What it takes if it may have whatever it takes, words being whole.
        needed = self.__rich_measure__(console, options.update_width(10_000)).minimum
        if needed <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._lines()

    def _lines(self) -> Iterator[Text]:
        if self.title:
            yield Text(str(self.title), "table.title")
        headings = [str(column.header) for column in self.columns]
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            first, *others = zip(headings, map(str, cells), strict=True)
            yield Text(" ".join(filter(None, first)), "bold")
            for heading, cell in others:
                if cell:
                    yield Text(f"  {heading}: {cell}" if heading else f"  {cell}")
