"""What the predictions are computed from, and how; no time is judged."""

from dataclasses import replace

import pytest

from impl.bench import predict
from impl.bench.guests import DIRTY
from impl.bench.predict import MEMORY_THREADS, WAYS, Costs, Woken, seconds

WOKEN = Woken(helpers=16, caller=1.5e-5, first=4e-5, last=6.25e-5)
PASSES = {"scan": 1e-10, "count": 2e-10, "index": 3e-10}
COSTS = Costs(**PASSES, copy=2e-7, wake=4e-6, arrive=2e-5, woken=(WOKEN,))
GUEST = 64 << 30
PAGES = GUEST // 4096
COUNT, INDEX = (PAGES / 4 * cost for cost in (COSTS.count, COSTS.index))
WORK = PAGES / 4 * COSTS.scan + PAGES * DIRTY * COSTS.copy
#: What is counted before it is clear that there is much.
SOME = COUNT * predict.COUNTED / (PAGES * DIRTY)


@pytest.mark.parametrize("way", WAYS)
def test_one_thread_counts_and_copies(way: predict.Way) -> None:
    count = COUNT if way == "two passes" else SOME
    assert seconds(COSTS, GUEST, 1, way) == pytest.approx(count + WORK)


def test_of_two_threads_each_begins_when_it_comes() -> None:
    """The caller after one wake-up, the helper when it has arrived."""
    both = (WORK + COSTS.wake + COSTS.wake + COSTS.arrive) / 2
    assert seconds(COSTS, GUEST, 2, "two passes") == pytest.approx(COUNT + INDEX + both)
    assert seconds(COSTS, GUEST, 2, "one pass") == pytest.approx(SOME + INDEX + both)
    assert seconds(COSTS, GUEST, 2, "shared pass") == pytest.approx(SOME + INDEX / 2 + both)


@pytest.mark.parametrize("threads", [2, 4, 8, 64])
def test_where_waking_is_free_all_of_it_is_shared(threads: int) -> None:
    free = replace(COSTS, wake=0, arrive=0)
    speed = min(threads, MEMORY_THREADS)
    for way in WAYS[2:4]:
        shared = SOME + (INDEX + WORK) / speed
        assert seconds(free, GUEST, threads, way) == pytest.approx(shared)
    before = seconds(free, GUEST, threads, "two passes")
    assert before == pytest.approx(COUNT + INDEX + WORK / speed)


def test_helpers_are_woken_in_a_row_or_as_a_tree() -> None:
    wake, arrive = COSTS.wake, COSTS.arrive
    row = predict._row(COSTS, 4)
    assert row == pytest.approx([3 * wake, *(n * wake + arrive for n in (1, 2, 3))])
    tree = predict._tree(COSTS, 4)
    left, right = (n * wake + arrive + 2 * wake for n in (1, 2))
    assert tree == pytest.approx([2 * wake, left, right, left - wake + arrive + 2 * wake])
    for threads in (64, 256):
        assert max(predict._tree(COSTS, threads)) < max(predict._row(COSTS, threads)), threads


def test_the_caller_returns_when_it_has_woken_all() -> None:
    """Of a few pages, with many threads: so it is better to wake few."""
    guest, threads = 1 << 20, 256
    count = seconds(COSTS, guest, 1, "shared pass") - guest / 4096 * DIRTY * COSTS.copy
    count -= guest / 4096 / 4 * COSTS.scan
    waking = pytest.approx(count + 255 * COSTS.wake)
    assert seconds(COSTS, guest, threads, "shared pass") == waking
    few = seconds(COSTS, guest, threads, "and few woken")
    assert few == seconds(COSTS, guest, 2, "shared pass") < 255 * COSTS.wake
    assert seconds(COSTS, GUEST, 4, "and few woken") <= seconds(COSTS, GUEST, 4, "shared pass")


def test_work_is_neither_lost_nor_done_twice() -> None:
    begins = [0.0, 1.0, 1.5, 9.0]
    for work in (0.5, 1.0, 2.0, 30.0, 100.0):
        end = predict._shared(work, begins)
        assert sum(max(0.0, end - begin) for begin in begins) == pytest.approx(work)


def test_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    predict.run(lambda: COSTS)
    said = capsys.readouterr().out
    assert (
        "scan: 10.0 GB/s" in said and "index: 3.3 GB/s" in said and "wake a helper: 4.0 us" in said
    )
    for name, guest in predict.GUESTS.items():
        assert name in said and f"{1e3 * seconds(COSTS, guest, 256, 'one pass'):.3f}" in said


def test_the_costs_of_this_machine_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "ROUNDS", 2)
    monkeypatch.setattr(predict, "HELPERS", (1, 2))
    monkeypatch.setattr(predict, "TEBIBYTE", 1 << 30)
    monkeypatch.setattr(predict, "COPIED_RAM", 4 << 20)
    costs = predict.measure_costs()
    assert min(costs.scan, costs.count, costs.index, costs.copy) > 0
    assert costs.wake >= 0 and costs.arrive >= 0
    assert [row.helpers for row in costs.woken] == [1, 2]
    for row in costs.woken:
        assert 0 < row.first <= row.last and row.caller > 0


def test_who_comes_when_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    predict.run(lambda: COSTS)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "62.5" in line)
    assert row.split("│")[1:5] == ["      16 ", "       15.0 ", "             40.0 ", "     62.5 "]
