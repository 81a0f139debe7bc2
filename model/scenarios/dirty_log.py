"""What the secondary's guest changes, and how it becomes host-dirty bits: by a log of its stores.

Two ways to lose a page without a word. A log forgets when it is stopped, so it is collected before. And
it sees stores only: a page that is thrown away (a balloon, a hole punched) reads zero afterwards, which
is a change like any other, and whoever does that must say so.
"""

from collections.abc import Iterator
from itertools import combinations, product

from model.page.picture import drawn, of_pages
from model.scenarios.registry import FAILS, Lines, Rows, scenario


def _small_logs() -> Rows:
    """Up to two of three pages written, up to one marked already; collected, then stopped."""
    return product(_few(2), _few(1), [False])


@scenario(_small_logs)
def log_ended(written: list[int], marked: list[int], stop_first: bool) -> Lines:
    """The log is stopped, or another takes its place; then the RAM is flushed."""
    log, host_dirty = frozenset(written), frozenset(marked)
    differs, pages = log, 1 + max((*written, *marked), default=0)
    text = f"the guest has written pages {sorted(log)}; host-dirty {sorted(host_dirty)}"
    yield drawn(text, of_pages(pages, host_dirty=host_dirty, log=log, differs=differs))
    if stop_first:
        log = frozenset()
        shown = of_pages(pages, host_dirty=host_dirty, log=log, differs=differs)
        yield drawn("the log is stopped", shown)
    host_dirty |= log
    shown = of_pages(pages, host_dirty=host_dirty, log=(), differs=differs)
    yield drawn(f"the log is collected: host-dirty {sorted(host_dirty)}", shown)
    yield from _flushed(frozenset(written), host_dirty)


def _small_holes() -> Rows:
    """Up to one of three pages written, up to two thrown away, and told."""
    return product(_few(1), _few(2), [True])


@scenario(_small_holes)
def thrown_away(written: list[int], discarded: list[int], told: bool) -> Lines:
    """Some pages are written, some thrown away; the log is collected and the RAM flushed."""
    log = frozenset(written)
    differs, pages = log | frozenset(discarded), 1 + max((*written, *discarded), default=0)
    shown = of_pages(pages, host_dirty=(), log=log, differs=log)
    yield drawn(f"the guest has written pages {sorted(log)}", shown)
    shown = of_pages(pages, host_dirty=(), log=log, differs=differs)
    yield drawn(f"pages {discarded} are thrown away and read zero", shown)
    host_dirty = log | frozenset(discarded) if told else log
    text = f"the log is collected{', and told' if told else ''}: host-dirty {sorted(host_dirty)}"
    yield drawn(text, of_pages(pages, host_dirty=host_dirty, log=(), differs=differs))
    yield from _flushed(differs, host_dirty)


def _flushed(changed: frozenset[int], host_dirty: frozenset[int]) -> Lines:
    pages = 1 + max(changed | host_dirty, default=0)
    shown = of_pages(pages, host_dirty=(), copied=host_dirty, differs=changed)
    yield drawn(f"copied {sorted(host_dirty)}", shown)
    lost = sorted(changed - host_dirty)
    if lost:
        yield f"{FAILS}pages {lost} differ from the checkpoint, and no flush will copy them"


def _few(most: int) -> Iterator[list[int]]:
    for count in range(most + 1):
        yield from map(list, combinations(range(3), count))
