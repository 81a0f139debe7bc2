"""Every error that the project raises on purpose."""

from typing import Any


class ColoError(Exception):
    """Base of every error this project raises on purpose."""


class LayoutError(ColoError, ValueError):
    """A RAM layout that no flush could be right about."""


class StrayDirtyPages(ColoError, ValueError):
    """A dirty bit outside every block's used pages: no memory belongs to it, so it can't be flushed."""


class DirtyCountMismatch(ColoError, RuntimeError):
    """Every page was flushed, but the maintained dirty count did not reach zero.

    Where the patch asserts ``migration_dirty_pages == 0``. ``stats`` is what the flush would have
    returned.
    """

    def __init__(self, message: str, stats: Any = None) -> None:
        super().__init__(message)
        self.stats = stats


class ScheduleError(ColoError):
    """A schedule asks for a step that its process cannot take."""
