"""What the kernel's dirty log sees of changes to memory that are no plain stores, measured again.

Held against the table of ``impl/README.md``: what that calls found must be found by this kernel. What is
missed, ``ColoRam.discarded`` puts right.
"""

import signal
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from impl import Block, ColoRam, FlushPool, KernelDirtyLog, LayoutError, WatchLost
from impl.dirtylog import Watched
from tests.impl.changes import CHANGES, KINDS, PAGE, SIZE, Change, Memory, Pinned, truncate
from tests.support import needs
from tests.support.bits import pages_of
from tests.support.needs import needs_dirty_log

pytestmark = needs_dirty_log

README = Path(__file__).parents[2] / "impl" / "README.md"
PAGES = SIZE // PAGE
HUGE, SMALL = range(512, 1024), range(600, 603)
PINNED = "a store of a device, or of `io_uring`, to pages pinned before the sync"

every_kind = pytest.mark.parametrize("kind", KINDS)


def memory_of(kind: str) -> Memory:
    try:
        return KINDS[kind]()
    except OSError:
        assert kind.startswith("hugetlb"), kind
        pytest.skip(needs.HUGE_PAGES)


def some_pages(kind: str) -> list[range]:
    return [HUGE] if kind.startswith("hugetlb") else [SMALL, HUGE]


def changed(memory: Memory) -> set[int]:
    """The pages that hold anything but sevens."""
    return set(np.flatnonzero((memory.bytes.reshape(-1, PAGE) != 7).any(axis=1)).tolist())


@cache
def table() -> dict[str, dict[str, str]]:
    """The README's table: row, column, cell."""
    head = "| | " + " | ".join(KINDS) + " |\n"
    _, _, below = README.read_text().partition(head)
    lines, _, _ = below.partition("\n\n")
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines.split("\n")]
    return {row[0]: dict(zip(KINDS, row[1:], strict=True)) for row in rows[1:]}


def measured(kind: str, change: Change, pages: range, *, written_before: bool) -> str:
    """What became of a change: in the words of the table."""
    with memory_of(kind) as memory, KernelDirtyLog() as log:
        log.start([Watched("ram", memory.bytes, 0, SIZE)])
        words, named = np.zeros(PAGES // 64, np.uint64), []
        if written_before:
            memory.bytes[[pages.start * PAGE, (pages.stop - 1) * PAGE]] = 9
        try:
            change(memory, pages)
            log.sync(words)
            what = "found" if changed(memory) else "unchanged"
        except OSError:
            return "-"
        except WatchLost as lost:
            what, named = "named", lost.pages["ram"]
            for piece in named:
                log.watch_again("ram", piece)
        if not changed(memory) <= pages_of(words).union(*named):
            what = "missed"
        words[:] = 0
        memory.bytes[pages.start * PAGE] = 3
        log.sync(words)
        assert pages.start in pages_of(words), "and what comes after it is found"
    return what


def test_the_table_is_complete() -> None:
    assert list(table()) == [*list(CHANGES)[:7], PINNED, *list(CHANGES)[7:]]


@every_kind
def test_what_is_called_found_is_found(kind: str) -> None:
    allowed = {
        "found": {"found"},
        "named": {"named"},
        # A write before it is one that it must not hide.
        "unchanged": {"unchanged", "found"},
        "missed": {"missed", "found", "unchanged"},
        "-": set(),
    }
    wrong = {}
    for name, change in CHANGES.items():
        seen = {
            measured(kind, change, pages, written_before=written_before)
            for pages in some_pages(kind)
            for written_before in (False, True)
        } - {"-"}
        if not seen <= allowed[table()[name][kind]]:
            wrong[name] = seen
    assert wrong == {}


@every_kind
def test_discarded_puts_it_right(kind: str, pools: dict[int, FlushPool]) -> None:
    """Whatever has become of the pages: the flush puts back what the cache holds."""
    for name, change in CHANGES.items():
        for pages in some_pages(kind):
            with memory_of(kind) as memory:
                ram = backed_up(memory, pools[1])
                try:
                    change(memory, pages)
                except OSError:
                    continue
                ram.discarded("ram", range(pages.start, PAGES) if change is truncate else pages)
                pools[1].flush(ram)
                assert changed(memory) == set(), name
                memory.bytes[pages.start * PAGE] = 3
                pools[1].flush(ram)
                assert changed(memory) == set(), f"{name}, and it is watched"
                ram.release()


def test_a_log_that_sees_nothing_would_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: neither the change itself nor what comes after it."""
    seen = iter([False, True])
    sync = KernelDirtyLog.sync
    monkeypatch.setattr(
        KernelDirtyLog, "sync", lambda log, words: sync(log, words) if next(seen) else None
    )
    assert measured("anonymous", CHANGES["a store"], SMALL, written_before=False) == "missed"
    seen = iter([True, False])
    with pytest.raises(AssertionError, match="what comes after"):
        measured("anonymous", CHANGES["a store"], SMALL, written_before=False)


def backed_up(memory: Memory, pool: FlushPool) -> ColoRam:
    ram = ColoRam([Block("ram", host=memory.bytes)])
    ram.backup(pool)
    ram.dirty_log = KernelDirtyLog()
    return ram


def test_without_discarded_a_hole_is_missed(pools: dict[int, FlushPool]) -> None:
    """Control, and why there is ``discarded``."""
    with memory_of("memfd, shared") as memory:
        ram = backed_up(memory, pools[1])
        CHANGES["`fallocate`, hole punched"](memory, SMALL)
        assert pools[1].flush(ram).copied == 0
        assert changed(memory) == set(SMALL)
        ram.release()


@every_kind
def test_pages_that_were_pinned_before(kind: str, pools: dict[int, FlushPool]) -> None:
    """That they are pinned is found; what is then written through the pin is not."""
    assert table()[PINNED][kind] == "missed"
    (pages, *_) = some_pages(kind)
    with memory_of(kind) as memory:
        ram = backed_up(memory, pools[1])
        try:
            pinned = Pinned(memory, pages)
        except OSError as error:
            pytest.skip(f"needs io_uring ({error})")
        with pinned:
            assert pools[1].flush(ram).copied == len(pages)
            pinned.read_zeros()
            pools[1].flush(ram)
            assert changed(memory) == set(pages)
            ram.discarded("ram", pages)
            pools[1].flush(ram)
            assert changed(memory) == set()
        ram.release()


def test_without_a_log_it_marks(pools: dict[int, FlushPool]) -> None:
    ram = ColoRam([Block("a", size=64 * PAGE), Block("b", size=64 * PAGE)])
    ram.receive("b", 7, bytes(PAGE))
    ram.discarded("b", range(5, 9))
    ram.discarded("b", [])
    ram.discarded("a", 63)
    assert pages_of(ram.host_dirty) == {63, 69, 70, 71, 72}
    assert (ram.dirty_pages, pages_of(ram.cache_dirty)) == (1, {71}), "what the primary sent stays"
    for name, pages in (("c", 0), ("b", 64), ("b", range(60, 65)), ("b", [-1]), ("b", None)):
        with pytest.raises(LayoutError):
            ram.discarded(name, pages)  # type: ignore[arg-type]
    assert pools[1].flush(ram).copied == 5


def test_what_is_written_through_a_pin_is_whole_while_signals_come() -> None:
    """Of our own pin: the kernel ends a long read of zeros early where it has something else to do."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    with memory_of("memfd, private") as memory:
        try:
            pinned = Pinned(memory, SMALL)
        except OSError as error:
            pytest.skip(f"needs io_uring ({error})")
        signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
        try:
            with pinned:
                pinned.read_zeros()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(0.001)  # the last may still be on its way, to another thread
            signal.signal(signal.SIGALRM, before)
        assert changed(memory) == set(SMALL)
