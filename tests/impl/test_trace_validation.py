"""Real pools under load: does the model explain every event, and does it notice a wrong one?"""

import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from impl import Block, ColoRam, FlushPool
from impl.kernels.events import EventLog
from impl.pool import Strategy
from model.errors import ColoError
from tests import trace
from tests.support.endings import Tell
from tests.trace import Log, explain

PAGE_SIZE = 1024
PAGES = 64 * 64
# More than these dirty pages and the caller asks for help.
MANY = 300


def record(path: Path, threads: int, rounds: int, seed: int) -> Log:
    """The events of a pool's whole life, through a file: rounds of every strategy, few pages or many."""
    dice = np.random.default_rng(seed)
    in_turn: tuple[Strategy, Strategy] = ("static", "queue")
    ram = ColoRam([Block("ram", size=PAGES * PAGE_SIZE)], page_size=PAGE_SIZE)
    events = EventLog(capacity=64 * rounds + 1000)
    with FlushPool(threads, serial_below_bytes=MANY * PAGE_SIZE, event_log=events) as pool:
        ram.backup(pool)
        for number in range(rounds):
            dirty = np.zeros(PAGES, dtype=np.uint8)
            dirty[dice.integers(PAGES, size=MANY * (number % 8 != 0) * 2)] = 1
            words = np.packbits(dirty, bitorder="little").view(np.uint64)
            ram.set_dirty(words, words)
            pool.flush(ram, in_turn[number % 2] if number % 5 == 0 else "dynamic")
    events.write(path)
    return trace.load(path)


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Other processes that never sleep."""
    spawn = multiprocessing.get_context("spawn")
    neighbours = [spawn.Process(target=_spin, daemon=True) for _ in range(count)]
    for neighbour in neighbours:
        neighbour.start()
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.join()


def _spin() -> None:
    while True:
        pass


@contextmanager
def one_processor() -> Iterator[None]:
    """All threads started here share one CPU: each yields only when the kernel takes it away."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.fixture
def rounds(long_run: bool) -> int:
    """Rounds a log."""
    return 20_000 if long_run else 500


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_model_explains_a_pool(tmp_path: Path, threads: int, rounds: int) -> None:
    found = explain(record(tmp_path / "log", threads, rounds, seed=threads))
    assert found.accepted, found.unexplained


def test_the_model_explains_a_pool_among_busy_neighbours(tmp_path: Path, rounds: int) -> None:
    with busy_neighbours(2 * len(os.sched_getaffinity(0))):
        log = record(tmp_path / "log", 5, rounds, seed=5)
    found = explain(log)
    assert found.accepted, found.unexplained


def test_the_model_explains_a_pool_whose_threads_share_one_processor(
    tmp_path: Path, rounds: int
) -> None:
    with one_processor():
        log = record(tmp_path / "log", 6, rounds, seed=6)
    found = explain(log)
    assert found.accepted, found.unexplained


# Logs that are wrong.


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A short log that the model explains."""
    good = record(tmp_path_factory.mktemp("log") / "log", 3, rounds=12, seed=1)
    assert explain(good).accepted
    return good


#: What may be missing or doubled: a wait that found its word changed, or woke for no reason.
OF_NO_CONSEQUENCE = {"helper park", "caller park"}


def mutants(log: Log, dice: random.Random) -> Iterator[tuple[str, str, Log]]:
    """Logs with one event dropped, doubled, or moved: (what, the event's name, log), for ever."""
    while True:
        what = dice.choice(("dropped", "doubled", "moved", "given to another worker"))
        worker = dice.randrange(len(log))
        place = dice.randrange(len(log[worker]))
        events = [list(own) for own in log]
        event = events[worker][place]
        if what == "doubled":
            events[worker].insert(place, event)
        else:
            del events[worker][place]
        if what == "moved":
            events[worker].insert(dice.randrange(len(events[worker]) + 1), event)
        if what == "given to another worker":
            other = dice.choice([w for w in range(len(log)) if w != worker])
            events[other].insert(dice.randrange(len(events[other]) + 1), event)
        mutant = tuple(tuple(own) for own in events)
        if mutant != log:
            yield what, event.name, mutant


def test_a_log_with_one_event_wrong_is_rejected(log: Log, long_run: bool, tell: Tell) -> None:
    """300 mutants of events that matter. How many others a log has depends on how busy the machine is."""
    tried, legal = Counter[str](), Counter[tuple[str, str]]()
    of_consequence = (
        (what, name, mutant)
        for what, name, mutant in mutants(log, random.Random(2016))
        if name not in OF_NO_CONSEQUENCE
    )
    for what, name, mutant in islice(of_consequence, 4000 if long_run else 300):
        tried[what] += 1
        if explain(mutant).accepted:
            legal[what, name] += 1
    tell(f"mutants: {dict(tried)}")
    assert min(tried.values()) > 40
    assert legal == {}


def test_an_empty_log_is_rejected() -> None:
    assert not explain(()).accepted
    assert not explain(((), ())).accepted


def test_a_log_cut_anywhere_is_rejected(log: Log) -> None:
    for worker, events in enumerate(log):
        for length in range(0, len(events), 11):
            cut = (*log[:worker], events[:length], *log[worker + 1 :])
            assert not explain(cut).accepted


def test_a_log_backwards_is_rejected(log: Log) -> None:
    assert not explain(tuple(events[::-1] for events in log)).accepted


def test_rejection_says_which_event(log: Log) -> None:
    place, event = next((i, e) for i, e in enumerate(log[0]) if e.name == "close")
    wrong = event._replace(values={"state": event.values["state"] + 1})
    found = explain(((*log[0][:place], wrong, *log[0][place + 1 :]), *log[1:]))
    assert f"worker 0, event {place + 1}: {wrong}" in found.unexplained


def test_the_command(log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.ndjson"
    record(path, 3, rounds=20, seed=3)
    assert trace.main([str(path)]) == 0
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert trace.main([str(path)]) == 1
    assert "NOT EXPLAINED" in capsys.readouterr().out
    path.write_text("{}\n")
    assert trace.main([str(path)]) == 2
    for line in ("[]", '"state"', '{"log": "pool events", "workers": []}'):
        path.write_text(line)
        assert trace.main([str(path)]) == 2


def test_a_log_too_small_for_its_events_is_refused() -> None:
    events = EventLog(capacity=3)
    with FlushPool(2, event_log=events) as pool:
        ColoRam([Block("ram", size=PAGES * PAGE_SIZE)], page_size=PAGE_SIZE).backup(pool)
    with pytest.raises(ColoError, match="capacity above 3"):
        events.events(0)


def test_an_event_log_serves_one_pool() -> None:
    events = EventLog()
    FlushPool(1, event_log=events).close()
    with pytest.raises(ColoError, match="another pool"):
        FlushPool(1, event_log=events)
