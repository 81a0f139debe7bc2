"""The injector strikes everywhere where Python really looks for signals, and finds a lock left held."""

import threading
from collections.abc import Callable

import pytest

from tests.support.injector import (
    Blow,
    Kind,
    Search,
    Strike,
    raise_interrupt,
    raise_memory_error,
    run,
    struck_everywhere,
)


class Held:
    """A lock that is taken without waiting, let go by whoever is written below."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        assert self.lock.acquire(blocking=False)

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def in_c(held: Held) -> None:
    with held.lock:
        len("the lock is taken and let go by instructions that do not look for signals")


def in_python(held: Held) -> None:
    with held:
        len("the first instruction of __exit__ looks, and has not let go")


def taken_before_the_try(held: Held) -> None:
    held.lock.acquire(blocking=False)
    try:
        len("a call looks once it is over, and what it returned is lost")
    finally:
        held.lock.release()


@pytest.mark.parametrize(
    ("act", "leaks"), [(in_c, False), (in_python, True), (taken_before_the_try, True)]
)
def test_a_lock_that_an_interrupt_leaves_held_is_found(
    act: Callable[[Held], None], leaks: bool
) -> None:
    points = list(struck_everywhere(Held, act))
    assert len(points) >= 2
    assert all(isinstance(strike.error, KeyboardInterrupt) for _, strike in points)
    assert any(held.lock.locked() for held, _ in points) == leaks


def tour(_: object) -> int:
    """One of everything that may look for signals: calls of each kind, loops, generators."""
    total = 0
    for number in range(3):
        total += len(str(number))
    while total < 6:
        total += callee(*[1], **{"more": 1})
    numbers = [callee(number) for number in (1, 2)]
    total += sum(callee(number) for number in numbers)
    try:
        return max(total, int("3"))
    finally:
        Held().lock.locked()


def callee(number: int, more: int = 0) -> int:
    return number + more


def test_no_signal_point_is_left_out() -> None:
    """Those found by making it pending before each instruction in turn, with none skipped."""
    search = Search("signals")
    run(tour, None, search)
    every = []
    for number in range(1, search.passed + 1):
        blow = Blow(number, raise_interrupt, "signals")
        run(tour, None, blow)
        if blow.struck is not None:
            every.append(Strike(*blow.struck, None))
    found = [strike for _, strike in struck_everywhere(lambda: None, tour)]
    assert {str(strike) for strike in found} == {str(strike) for strike in every}
    assert 15 < len(found) < len(every), "several instructions lead to one point"


@pytest.mark.parametrize("kind", ["signals", "steps"])
def test_a_strike_need_not_raise(kind: Kind) -> None:
    struck = []
    points = list(
        struck_everywhere(lambda: None, project_code, lambda: struck.append(1), kind=kind)
    )
    assert all(strike.error is None for _, strike in points)
    assert len(struck) == len(points) > 0


def project_code(_: object) -> None:
    from model.shares import share

    share(1000, 3, 1)


def test_steps_are_more_than_signal_points() -> None:
    kinds: tuple[Kind, Kind] = ("signals", "steps")
    signals, steps = (
        list(struck_everywhere(lambda: None, project_code, raise_memory_error, kind=kind))
        for kind in kinds
    )
    assert len(steps) > len(signals)
    assert all(isinstance(strike.error, MemoryError) for _, strike in [*signals, *steps])
    assert "shares.py" in str(steps[0][1])
