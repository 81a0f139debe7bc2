"""Ctrl-C while kernels are compiled or loaded: it waits for one kernel, and is never dropped."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.codegen import CPUCodeLibrary

from impl.kernels import compile, kernel_cache
from impl.kernels.compile import compile_kernels, entry
from impl.kernels.uninterrupted import _without, uninterrupted
from tests.support.injector import struck_everywhere


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """As in a terminal, also where the tests run in the background and Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Came(Exception):
    """A handler of the test's own has been called."""


def test_ctrl_c_waits_for_the_end_of_the_work() -> None:
    done = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(work)
    assert len(done) == 1 and done != [signal.default_int_handler]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_there_is_the_result() -> None:
    assert uninterrupted(lambda: 5) == 5


def test_every_handler_is_put_back_though_the_first_to_be_called_raises() -> None:
    """Whoever's they are, for whatever signal."""
    called = []

    def raises(number: int, frame: FrameType | None) -> None:
        called.append(number)
        assert frame is not None
        raise Came

    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
    before = {number: signal.signal(number, raises) for number in numbers}
    try:

        def work() -> None:
            for number in numbers:
                signal.raise_signal(number)
            assert called == []

        with pytest.raises(Came):
            uninterrupted(work)
        assert sorted(called) == sorted(numbers)
        assert {signal.getsignal(number) for number in numbers} == {raises}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uninterrupted(lambda: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_work_that_fails_puts_the_handlers_back() -> None:
    with pytest.raises(Came):
        uninterrupted(lambda: (_ for _ in ()).throw(Came))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("comes", [False, True])
def test_another_handler_that_raises_at_any_moment(comes: bool) -> None:
    """One that is not put off yet, or not any more: ours is put back, and its Ctrl-C not lost."""

    came: list[int] = []

    def work() -> None:
        if comes:
            _thread.interrupt_main(signal.SIGINT)
            came.append(1)

    def act(_: object) -> None:
        _without([(int(signal.SIGINT), signal.default_int_handler)], work)

    def raises() -> None:
        raise Came

    interrupted = 0
    for _, strike in struck_everywhere(came.clear, act, raises):
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, strike
        raised, error = set(), strike.error
        while error is not None:
            raised.add(type(error))
            error = error.__context__
        assert raised >= ({Came, KeyboardInterrupt} if came else {Came}), strike
        interrupted += bool(came)
    assert (interrupted >= 3) == comes


def test_another_thread_works_too() -> None:
    found: list[object] = []
    work = threading.Thread(
        target=lambda: found.append(uninterrupted(lambda: signal.getsignal(signal.SIGINT)))
    )
    work.start()
    work.join()
    assert found == [signal.default_int_handler]


# Kernels.


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[type[BaseException] | None]:
    """Ctrl-C comes whenever LLVM calls back with a compiled object; what is dropped there."""
    found: list[type[BaseException] | None] = []
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile, "kernels", [])
    monkeypatch.setattr(sys, "unraisablehook", lambda error: found.append(error.exc_type))

    def interrupt(library: Any, compiled: bool) -> None:
        vars(library)["_compiled"] = compiled
        if compiled:
            signal.raise_signal(signal.SIGINT)

    there = property(lambda library: vars(library)["_compiled"], interrupt)
    monkeypatch.setattr(CPUCodeLibrary, "_compiled", there, raising=False)
    return found


def double(number: Any) -> Any:
    return number << np.uint64(1)


def test_ctrl_c_in_the_midst_of_compiling_is_raised_after_it(
    dropped: list[type[BaseException] | None],
) -> None:
    made = entry(double)
    with pytest.raises(KeyboardInterrupt):
        made(np.uint64(4))
    assert dropped == []
    assert int(made(np.uint64(4))) == 8


def test_without_that_it_is_dropped(dropped: list[type[BaseException] | None]) -> None:
    """The control: LLVM's callback has nobody to raise to."""
    made = numba.njit(double)
    assert int(made(np.uint64(4))) == 8
    assert KeyboardInterrupt in dropped


def test_ctrl_c_falls_between_two_kernels_and_the_next_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, dropped: list[type[BaseException] | None]
) -> None:
    first, second = entry(double), entry(double)
    with pytest.raises(KeyboardInterrupt):
        compile_kernels.__wrapped__()
    assert (len(first.signatures), len(second.signatures)) == (1, 0)
    compile_kernels.__wrapped__()
    assert len(second.signatures) == 1


def test_ctrl_c_while_a_kernel_is_loaded(
    monkeypatch: pytest.MonkeyPatch, dropped: list[type[BaseException] | None]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        entry(double)(np.uint64(4))

    def read(*arguments: Any) -> bytes | None:
        signal.raise_signal(signal.SIGINT)
        return unpatched(*arguments)

    unpatched = kernel_cache.read
    monkeypatch.setattr(kernel_cache, "read", read)
    made = entry(double)
    with pytest.raises(KeyboardInterrupt):
        made(np.uint64(4))
    assert sum(made.stats.cache_hits.values()) == 1
    assert int(made(np.uint64(4))) == 8
