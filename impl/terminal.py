"""The terminal, as every command writes to it: a trace's or a file's name is never markup there."""

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: ``[link=...]`` is no link, ``:smile:`` no picture."""
    return Console(stderr=stderr, markup=False, emoji=False)
