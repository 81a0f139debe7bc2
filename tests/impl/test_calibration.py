"""The calibration: what it decides from figures, how it is kept, and what may disturb it.

Nothing here depends on how fast this machine is: figures are made up, clocks are counted.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from errno import ENOMEM
from itertools import count
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numba
import pytest

from impl import Block, ColoError, ColoRam, FlushPool, Tuning
from impl.__main__ import main
from impl.calibration import here, kept, measure
from impl.calibration.decide import FEWEST_ROUNDS, USUAL, decide, gain, limits
from impl.calibration.figures import Figures, Times
from impl.calibration.here import VARIABLE, tuning_here
from impl.calibration.kept import AGAIN_AFTER_SECONDS, Calibration
from impl.calibration.measure import COPYING_SIZES, HELPING_SIZES
from impl.kernels import control as c
from impl.kernels import kernel_cache
from impl.machine import cpus
from impl.machine.cpus import usable_cpus
from tests.support.children import in_a_child
from tests.support.injector import Kind, raise_interrupt, raise_memory_error, struck_everywhere

MIB = 1 << 20
STRIKES = {"signals": raise_interrupt, "steps": raise_memory_error}


def figures(
    copying: Callable[[str, int], float] = lambda *_: 1,
    helping: Callable[[str, int], float] = lambda *_: 1,
    rounds: int = 5,
    **others: Any,
) -> Figures:
    """As if each way had taken that many nanoseconds a byte at each size."""

    def part(
        sizes: tuple[int, ...], ways: Iterable[str], takes: Callable[[str, int], float]
    ) -> Any:
        return {s: {w: [round(s * takes(w, s))] * rounds for w in ways} for s in sizes}

    return Figures(
        copying=part(COPYING_SIZES, measure.COPYING, copying),
        helping=part(HELPING_SIZES, ("alone", "together"), helping),
        sleeping=others.get("sleeping", {"asleep": [50_000] * 5, "awake": [4_000] * 5}),
        apart=others.get("apart", {}),
        running=others.get("running", 1.0),
    )


# --- what is decided --------------------------------------------------------------------------


def up_to(limit: int, way: str, then: str) -> Callable[[str, int], float]:
    """A machine on which one way takes 1 ns up to a size, and another beyond; all else takes 2."""
    return lambda tried, size: 1 if tried == (way if size <= limit else then) else 2


@pytest.mark.parametrize(
    ("copying", "ordinary", "fetching"),
    [
        (up_to(16 * MIB, "fetching", ""), 0, 16 * MIB),
        (up_to(MIB, "fetching", "streaming"), 0, 2 * MIB),
        (up_to(MIB, "ordinary", "fetching"), 2 * MIB, 16 * MIB),
        (up_to(0, "", "streaming"), 0, 0),
        (up_to(16 * MIB, "ordinary", ""), 16 * MIB, 16 * MIB),
        (up_to(0, "", "fetching"), 0, 16 * MIB),
        (up_to(256 << 10, "fetching", "streaming"), 0, 512 << 10),
        (up_to(256 << 10, "ordinary", "streaming"), 512 << 10, 512 << 10),
        (lambda *_: 1, USUAL.ordinary_below_bytes, USUAL.fetching_below_bytes),
    ],
)
def test_the_fastest_way_at_each_size_is_chosen(
    copying: Callable[[str, int], float], ordinary: int, fetching: int
) -> None:
    tuning = decide(figures(copying))
    assert (tuning.ordinary_below_bytes, tuning.fetching_below_bytes) == (ordinary, fetching)
    assert tuning.serial_below_bytes == USUAL.serial_below_bytes


@pytest.mark.parametrize(
    ("takes", "rounds", "fetched"),
    [
        (900, FEWEST_ROUNDS, True),
        (900, FEWEST_ROUNDS - 1, False),
        (970, 5, True),
        (990, 5, False),  # less than the margin
        (1100, 5, False),
        (1000, 0, False),
    ],
)
def test_a_line_of_the_host_is_fetched_where_that_surely_wins(
    takes: int, rounds: int, fetched: bool
) -> None:
    apart = {"streaming": [1000] * rounds, "a line of the host": [takes] * rounds}
    found = figures(apart=apart)
    assert decide(found).fetching_host is fetched
    assert not decide(replace(found, running=0.5)).fetching_host, "a busy machine says nothing"
    alone = replace(found, helping={}, sleeping={})
    assert decide(alone).fetching_host is fetched, "one CPU"


def test_the_more_rounds_there_are_the_smaller_a_gain_is_sure() -> None:
    """Three rounds of five win, so the median does; more than a quarter lose."""
    varying = [0.9, 1.2, 0.9, 1.2, 1.2]
    for rounds, sure in ((5, False), (40, False), (300, True)):
        ratios = [varying[number % 5] for number in range(rounds)]
        times = {"usual": [1000] * rounds, "other": [round(1000 / ratio) for ratio in ratios]}
        assert (gain(times, "other", "usual") > 0) is sure, rounds


def test_every_cut_between_every_two_sizes_is_found() -> None:
    for place, size in enumerate(HELPING_SIZES):
        found = decide(figures(helping=up_to(size, "alone", "together"))).serial_below_bytes
        after = HELPING_SIZES[min(place + 1, len(HELPING_SIZES) - 1)]
        usual = size == MIB  # not a gain but what is done anyway
        assert found == MIB if usual else size <= found <= after
    assert decide(figures(helping=up_to(0, "alone", "together"))).serial_below_bytes == 0


def test_what_is_left_of_a_gain_counts() -> None:
    """One size that says otherwise moves no limit, unless it says so louder than all beside it."""
    found = figures(up_to(16 * MIB, "fetching", ""))
    odd: Times = dict(found.copying[MIB])
    odd["ordinary"], odd["fetching"] = odd["fetching"], odd["ordinary"]
    changed = replace(found, copying={**found.copying, MIB: odd})
    assert decide(changed) == decide(found)


def test_of_a_busy_machine_only_what_one_thread_does_counts() -> None:
    """It is delayed now and then; helpers wait for a processor all the time."""
    takes = up_to(16 * MIB, "fetching", ""), up_to(0, "alone", "together")
    idle, busy = (decide(figures(*takes, running=share)) for share in (1.0, 0.5))
    assert (idle.serial_below_bytes, idle.awake_nanoseconds) == (0, 92_000)
    alone, awake = USUAL.serial_below_bytes, USUAL.awake_nanoseconds
    assert busy == replace(idle, serial_below_bytes=alone, awake_nanoseconds=awake)


@pytest.mark.parametrize("noise", ["too few rounds", "rounds that disagree"])
def test_noise_leaves_the_usual_limits(noise: str) -> None:
    takes = up_to(16 * MIB, "fetching", "")
    sound = decide(figures(takes))
    assert sound.ordinary_below_bytes == 0
    if noise == "too few rounds":
        found = figures(takes, rounds=FEWEST_ROUNDS - 1)
    else:
        found = figures(takes)
        for times in found.copying.values():
            times["fetching"][:2] = times["streaming"][:1] * 2
    tuning = decide(found)
    assert replace(tuning, awake_nanoseconds=USUAL.awake_nanoseconds) == USUAL


def test_of_few_rounds_only_what_three_of_four_have_won_counts() -> None:
    times = {"usual": [200] * 4, "other": [100, 100, 100, 300]}
    assert gain(times, "other", "usual") < 0.6931
    assert gain({**times, "other": [100] * 4}, "other", "usual") > 0.67
    assert gain({**times, "other": [199] * 4}, "other", "usual") < 0, "less than the margin"


@pytest.mark.parametrize(
    ("asleep", "awake", "looks"),
    [(50_000, 4_000, 92_000), (5_000, 4_000, 20_000), (10**7, 0, 500_000), (1, 5_000, 20_000)],
)
def test_who_waits_looks_for_twice_what_sleeping_costs(asleep: int, awake: int, looks: int) -> None:
    times = {"asleep": [asleep] * 5, "awake": [awake] * 5}
    assert decide(figures(sleeping=times)).awake_nanoseconds == looks


def test_on_one_cpu_only_the_copies_are_decided() -> None:
    found = Figures(figures(up_to(16 * MIB, "fetching", "")).copying, {}, {}, {}, 1.0)
    assert decide(found) == replace(USUAL, ordinary_below_bytes=0, fetching_below_bytes=16 * MIB)


def test_nothing_measured_is_no_limit() -> None:
    assert limits({}, ("a", "b"), lambda _: "a") == [None]


# --- measuring --------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory, so that it can be done again and again."""
    monkeypatch.setattr(measure, "RAM_BYTES", MIB)
    monkeypatch.setattr(measure, "OTHER_BYTES", MIB)
    monkeypatch.setattr(measure, "COPYING_SIZES", (16 << 10, 64 << 10))
    monkeypatch.setattr(measure, "HELPING_SIZES", (16 << 10, 64 << 10))
    monkeypatch.setattr(measure, "APART_PAGES", 64)  # so 8 at a time, as of no other size


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on whenever it is looked at."""
    times = count()
    return lambda: next(times) * step


@pytest.mark.usefixtures("small")
def test_it_ends_when_its_time_is_over() -> None:
    found = measure.measure(FlushPool, 1, ticking(0.01))
    rounds = sum(len(times) for part in found.copying.values() for times in part.values())
    assert 30 < rounds <= 100 * (1 - measure.APART_SHARE) * measure.COPYING_SHARE
    assert all(len(times) >= 1 for part in found.copying.values() for times in part.values())
    assert min(map(len, found.sleeping.values()), default=1) >= 1
    apart = [len(times) for times in found.apart.values()]
    assert 10 <= sum(apart) <= 100 * measure.APART_SHARE and min(apart) >= 5
    nothing = measure.measure(FlushPool, 1, ticking(1))
    assert not any(times for part in nothing.copying.values() for times in part.values())
    assert decide(replace(nothing, running=1.0)) == USUAL


@pytest.mark.usefixtures("small")
def test_pages_far_apart_take_time_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the one or the other nothing is said of them, and all else is measured."""

    def refuse(size: int) -> mmap:
        raise OSError(ENOMEM, f"{size} bytes")

    short = measure.measure(FlushPool, 0.99, ticking(0.01))
    monkeypatch.setattr(measure, "sparse_memory", refuse)
    for found in short, measure.measure(FlushPool, 1, ticking(0.01)):
        assert found.apart == {} and all(any(times.values()) for times in found.copying.values())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("fastest", "copies"),
    [
        ("ordinary", USUAL),
        ("fetching", replace(USUAL, ordinary_below_bytes=0, fetching_below_bytes=64 << 10)),
        ("streaming", replace(USUAL, ordinary_below_bytes=0, fetching_below_bytes=0)),
    ],
)
def test_each_way_is_measured_by_itself_and_helpers_with_the_best_way_of_copying(
    fastest: str, copies: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pools are told: the tuning and strategy of each flush, and how much is dirty.

    And of how large a RAM; how long a flush took is pretended.
    """
    seen: set[tuple[int, Tuning, str, int]] = set()
    guests: set[tuple[int, bool]] = set()
    flush = FlushPool.flush

    def note(pool: FlushPool, ram: ColoRam, strategy: Any = "dynamic") -> Any:
        stats = flush(pool, ram, strategy)
        seen.add((pool.threads, pool.tuning, strategy, stats.copied * measure.PAGE_SIZE))
        apart = strategy == "dynamic" and stats.copied == measure.APART_PAGES // measure.APART_PARTS
        guests.add((len(ram.cache_dirty), apart))
        return SimpleNamespace(seconds=1 if pool.tuning == measure.COPYING[fastest] else 2)

    monkeypatch.setattr(FlushPool, "flush", note)
    monkeypatch.setattr(measure, "usable_cpus", lambda: 3)
    measure.measure(FlushPool, 1, ticking(0.01))
    sizes, together = (
        measure.COPYING_SIZES,
        replace(copies, serial_below_bytes=0, awake_nanoseconds=0),
    )
    copying = {(1, tuning, "serial", s) for tuning in measure.COPYING.values() for s in sizes}
    helping = {(3, together, way, s) for way in ("serial", "dynamic") for s in sizes}
    sleeping = {(3, Tuning(awake_nanoseconds=n), "static", 0) for n in (0, measure.AWAKE)}
    n_apart, streaming = measure.APART_PAGES // measure.APART_PARTS, measure.COPYING["streaming"]
    of_all = replace(streaming, serial_below_bytes=0, awake_nanoseconds=0)
    lines = of_all, replace(of_all, fetching_host=True)
    apart = {(3, tuning, "dynamic", n_apart * measure.PAGE_SIZE) for tuning in lines}
    assert seen == copying | helping | sleeping | apart
    guest = measure.OFFSET_BYTES + measure.RAM_BYTES
    far = measure.APART_PAGES * measure.APART_STRIDE
    wanted = {(guest // measure.PAGE_SIZE // 64, False), (far // measure.PAGE_SIZE // 64, True)}
    assert guests == wanted, "bits are looked at for all of the guest"


# --- keeping ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's calibrations are kept; none has been found in this process."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(here, "_found", [])
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "cache"


def made(**changed: Any) -> Calibration:
    found = figures(up_to(16 * MIB, "fetching", ""))
    return replace(Calibration(decide(found), found, True, time.time()), **changed)


def file(folder: Path) -> Path:
    [path] = [path for path in folder.rglob("*") if path.is_file()]
    return path


def test_what_is_kept_is_loaded_as_it_was(folder: Path) -> None:
    assert kept.load() is None
    for calibration in (made(), made(figures=None), made(tuning=Tuning(1, 2, 3, 4, True))):
        assert kept.keep(calibration)
        assert kept.load() == calibration


def test_every_cut_and_flipped_byte_is_noticed(folder: Path) -> None:
    kept.keep(made())
    path = file(folder)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert kept.load() is None, place
        path.write_bytes(whole[:place])
        assert kept.load() is None, place
    path.write_bytes(whole)
    assert kept.load() is not None


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"null", b"{", b"\xff", b'{"tuning": {}}', b"[" * 100_000),
        json.dumps({"tuning": {"x": 1}, "figures": None, "settled": 1, "at": 0}).encode(),
        json.dumps(
            {"tuning": {"awake_nanoseconds": -1}, "figures": None, "settled": 1, "at": 0}
        ).encode(),
    ],
)
def test_content_of_another_kind_is_none(folder: Path, content: bytes) -> None:
    """Whole and under the right key."""
    kept.keep(made())
    kernel_cache.write(file(folder), kept._key(), content)
    assert kept.load() is None


@pytest.mark.parametrize("what", ["the processor", "the CPUs", "a source"])
def test_it_is_this_machines_and_this_versions(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(made())
    if what == "the processor":
        monkeypatch.setattr(kept, "processor_model", lambda: "another")
    elif what == "the CPUs":
        monkeypatch.setattr(kept, "usable_cpus", lambda: usable_cpus() + 1)
    else:
        monkeypatch.setattr(kernel_cache, "version", lambda: b"another")
    assert kept.load() is None


def test_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"model name": "AMD EPYC", "cpu family": "26", "model": "2"}
    monkeypatch.setattr(cpus, "_cpuinfo", lambda: said)
    one = cpus.processor_model()
    said["model"] = "17"
    assert one != cpus.processor_model() and cpus.processor() == "AMD EPYC"


@pytest.mark.parametrize("age", [-100, 0, AGAIN_AFTER_SECONDS + 1])
def test_what_is_not_settled_is_measured_again_after_a_while(folder: Path, age: int) -> None:
    """And if it is from the future, since the clock was wrong."""
    kept.keep(made(settled=False, at=time.time() - age))
    assert (kept.load() is not None) == (age == 0)
    kept.keep(made(at=0))
    assert kept.load() is not None


# --- at the first pool ------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One entry a measurement, all of which find the same: that fetching wins."""
    times: list[float] = []

    def find(_pools: Any, seconds: float) -> Figures:
        times.append(seconds)
        return figures(up_to(16 * MIB, "fetching", ""))

    monkeypatch.setattr(here, "measure", find)
    return times


def of_the_next_process(monkeypatch: pytest.MonkeyPatch) -> Tuning:
    monkeypatch.setattr(here, "_found", [])
    return FlushPool(1).tuning


def test_the_first_pool_measures_and_all_others_read(
    folder: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tunings = [FlushPool(1).tuning, FlushPool(1).tuning, of_the_next_process(monkeypatch)]
    assert tunings == [decide(figures(up_to(16 * MIB, "fetching", "")))] * 3
    assert measured == [measure.SECONDS]
    file(folder).write_bytes(b"damaged")
    assert of_the_next_process(monkeypatch) == tunings[0] and len(measured) == 2


def test_a_pool_with_a_tuning_measures_nothing(folder: Path, measured: list[float]) -> None:
    tuning = Tuning(1, 2, 3, 4, True)
    with FlushPool(1, tuning=tuning) as pool:
        assert pool.tuning == tuning
        words = [pool._control[c.row(word), c.column(word)] for word in (
            *(c.ORDINARY_BELOW, c.FETCHING_BELOW, c.SERIAL_BELOW, c.SPIN, c.FETCHING_HOST),
        )]  # fmt: skip
        assert words == [1, 2, 3, 4, 1]
    usual = FlushPool(1, tuning=Tuning())
    assert usual._control[c.row(c.FETCHING_HOST), c.column(c.FETCHING_HOST)] == 0
    assert FlushPool(1, tuning=tuning, serial_below_bytes=9).tuning == Tuning(1, 2, 9, 4, True)
    assert (
        FlushPool(usable_cpus() + 1, tuning=tuning)._control[c.row(c.SPIN), c.column(c.SPIN)] == 0
    )
    assert measured == [] and not folder.exists()


def test_without_a_place_to_keep_it_nothing_is_measured(
    folder: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be measured at each start."""
    folder.write_text("a file where the folder would be")
    assert FlushPool(1).tuning == of_the_next_process(monkeypatch) == USUAL
    assert measured == []


def test_the_variable_turns_it_off(
    folder: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "usual")
    assert FlushPool(1).tuning == USUAL and measured == []
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ColoError, match=f"{VARIABLE} is 'fast'"):
        FlushPool(1)


@pytest.mark.parametrize("error", [ColoError("no threads"), MemoryError()])
def test_what_cannot_be_measured_is_not_tried_at_once_again(
    folder: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[object] = []

    def fail(*arguments: object) -> Figures:
        tries.append(arguments)
        raise error

    monkeypatch.setattr(here, "measure", fail)
    caplog.set_level(logging.INFO)
    assert FlushPool(1).tuning == of_the_next_process(monkeypatch) == USUAL
    assert len(tries) == 1 and str(error) in caplog.text


# --- what disturbs it -------------------------------------------------------------------------


def flushes(pool: FlushPool) -> bool:
    ram = ColoRam([Block("ram", size=2 * 4096)])
    ram.receive("ram", 1, b"\1" * 4096)
    return pool.flush(ram).copied == 1 and ram.block("ram").host[4096] == 1


def in_the_midst(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[object]:
    """What ``act`` gives when it is called in the middle of a calibration."""
    results: list[object] = []

    def find(*_: object) -> Figures:
        results.append(act())
        return figures(up_to(16 * MIB, "fetching", ""))

    monkeypatch.setattr(here, "measure", find)
    with FlushPool(1) as pool:
        assert pool.tuning.ordinary_below_bytes == 0 and flushes(pool)
    return results


def another_pool() -> bool:
    with FlushPool(2) as pool:
        return pool.tuning == USUAL and flushes(pool)


def in_a_thread() -> bool:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(another_pool()))
    thread.start()
    thread.join()
    return results == [True]


def in_the_child() -> bool:
    def child() -> None:
        assert another_pool()

    return in_a_child(child) == 0


@pytest.mark.parametrize("who", [another_pool, in_a_thread, in_the_child])
def test_who_comes_while_it_runs_has_the_usual_limits(
    folder: Path, who: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler, a second thread, a child after fork."""
    assert in_the_midst(monkeypatch, who) == [True]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", get_args(Kind))
def test_struck_anywhere_the_next_pool_works(
    folder: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch, long_run: bool
) -> None:
    """Ctrl-C and want of memory, at each point of a real calibration; no thread is left behind."""
    monkeypatch.setattr(here, "measure", lambda pools, _: measure.measure(pools, 1, ticking(0.07)))
    threads = set(threading.enumerate())

    def begin() -> None:
        kept.forget()
        here._found.clear()

    points = 0
    for _, strike in struck_everywhere(
        begin,
        lambda _: tuning_here(FlushPool),
        STRIKES[kind],
        kind=kind,
        at_most=None if long_run else 15,
    ):
        points += 1
        found = kept.load()
        with FlushPool(2) as pool:
            assert flushes(pool), str(strike)
            assert found is None or found.settled or pool.tuning == USUAL
        del strike
        for thread in set(threading.enumerate()) - threads:
            thread.join(60)
        assert set(threading.enumerate()) == threads
    assert points >= 15


# --- the command ------------------------------------------------------------------------------


def test_the_command_shows_keeps_and_draws(
    folder: Path, tmp_path: Path, measured: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.svg"
    assert main(["calibrate", "--seconds", "3", "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert measured == [3]
    for part in (
        "16 MiB",
        "never",
        "92 us",
        "one thread",
        "all threads",
        "An empty round: 50.0 us",
    ):
        assert part in said
    assert "<svg" in plot.read_text() and "dirty bytes" in plot.read_text()
    assert main(["calibrate", "--kept"]) == 0
    assert capsys.readouterr().out == said and measured == [3]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            figures(running=0.5),
            "for 50% of the time, so where helpers matter the usual limits hold",
        ),
        (figures(rounds=FEWEST_ROUNDS - 1), "Too few rounds: the usual limits hold"),
    ],
    ids=["busy", "few rounds"],
)
def test_what_was_not_decided_is_said_and_measured_again_after_a_while(
    folder: Path,
    found: Figures,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else a machine that was slow once, as where memory is touched first, would stay as usual."""
    monkeypatch.setattr(here, "measure", lambda *_: found)
    assert main(["calibrate"]) == 1
    assert says in capsys.readouterr().err
    assert kept.load() is not None
    monkeypatch.setattr(kept, "AGAIN_AFTER_SECONDS", 0)
    assert kept.load() is None


def test_nothing_kept_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--kept"]) == 1
    assert "leave out --kept" in capsys.readouterr().err
    kept.keep(made(figures=None, settled=False))
    assert main(["calibrate", "--kept"]) == 1
