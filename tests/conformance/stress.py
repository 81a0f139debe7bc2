"""Thousands of rounds of flushes made to collide, each checked whole. For races.

What makes threads collide: several of them, little work between the start of a flush and a border
word, bits on both sides of every border, as many threads as words, so that all the time somebody is
at one, more threads than processors, signals that break their waits. Runs in the child, a round in
a fraction of a millisecond; the parent judges the round that looks wrong against the model.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from random import Random
from types import FrameType

from tests.conformance.call import ALL_ONES, WORD, Block, Call, Outcome
from tests.conformance.port import Bench, Placed

ROUNDS_PER_LAYOUT = 100
MOST_ROUNDS_PER_SECOND = 5_000
SIGNAL_PERIOD = 0.0003


@dataclass(frozen=True)
class Scenario:
    """One way to make threads collide: pages of this size, this many words, so dirty.

    ``cuts``: how often the bitmap is cut into blocks, at least and at most.
    """

    name: str
    page_size: int
    words: tuple[int, int]
    dirty: str
    signals: bool = False
    cuts: tuple[int, int] = (0, 4)

    def __str__(self) -> str:
        low, high = self.words
        signals = ", and signals" if self.signals else ""
        return (
            f"{low} to {high} words, pages of {self.page_size} bytes, dirty: {self.dirty}{signals}"
        )


SCENARIOS = (
    Scenario("dense", 1024, (4, 16), "all"),
    Scenario("many-blocks", 1024, (2, 6), "all", cuts=(10, 50)),
    Scenario("borders", 1024, (1, 5), "borders"),
    Scenario("random", 1024, (2, 16), "random"),
    Scenario("one-heavy-share", 16384, (2, 6), "one word"),
    Scenario("signals", 65536, (2, 3), "one word", signals=True),
)


@dataclass(frozen=True)
class Collision:
    """A round that looks wrong: the call, what was seen, and how often all was well before."""

    call: Call
    outcome: Outcome
    rounds_before: int


def stress(
    bench: Bench, scenario: Scenario, seed: tuple[int, ...], seconds: float
) -> Collision | int:
    """Rounds until this process has used ``seconds`` of processor time, or until there were as many
    as take that long where nothing waits: how many; or the first that looks wrong."""
    end = time.process_time() + seconds
    most = max(int(seconds * MOST_ROUNDS_PER_SECOND), 1)
    rounds = 0
    with _signals(scenario.signals):
        for blocks, calls in _layouts(scenario, seed):
            zeros = (0,) * len(calls[0].cache)
            placed = Placed(bench, Call(scenario.page_size, blocks, zeros, zeros, 0, 1), 0)
            for call in calls:
                placed.refill(call)
                status = bench.flush(placed.arguments)
                if not placed.looks_right(status):
                    return Collision(call, placed.outcome(status), rounds)
                rounds += 1
                if rounds >= most or time.process_time() > end:
                    return rounds
    raise AssertionError("there is no last layout")


def nth_call(scenario: Scenario, seed: tuple[int, ...], number: int) -> Call:
    """The call of round ``number``, counted from 1, of the same stress."""
    calls = (call for _, some in _layouts(scenario, seed) for call in some)
    return next(islice(calls, max(number - 1, 0), None))


def _layouts(
    scenario: Scenario, seed: tuple[int, ...]
) -> Iterator[tuple[tuple[Block, ...], list[Call]]]:
    """Layouts without end, and calls over each."""
    random = Random(f"{seed}")
    while True:
        words = random.randint(*scenario.words)
        blocks = _blocks(random, words, scenario)
        yield blocks, [_call(random, scenario, blocks, words) for _ in range(ROUNDS_PER_LAYOUT)]


def _call(random: Random, scenario: Scenario, blocks: tuple[Block, ...], words: int) -> Call:
    cache, host = (_dirty(random, words, scenario.dirty) for _ in range(2))
    return Call(
        page_size=scenario.page_size,
        blocks=blocks,
        cache=cache,
        host=host,
        dirty_pages=sum(word.bit_count() for word in cache),
        threads=random.choice((2, 3, 4, 8, words, words)),
    )


def _blocks(random: Random, words: int, scenario: Scenario) -> tuple[Block, ...]:
    """The whole bitmap, cut into blocks anywhere, so that most borders share a word."""
    pages, page_size = words * WORD, scenario.page_size
    number = random.randint(*scenario.cuts)
    cuts = sorted({0, pages, *(random.randrange(1, pages) for _ in range(number))})
    return tuple(
        Block(low, (high - low) * page_size, (high - low) * page_size, low * page_size)
        for low, high in pairwise(cuts)
    )


def _dirty(random: Random, words: int, kind: str) -> tuple[int, ...]:
    if kind == "all":
        return (ALL_ONES,) * words
    if kind == "borders":
        return tuple(_empty_or_full_or_any(random) for _ in range(words))
    if kind == "one word":
        keep = random.randrange(words)
        return tuple(random.getrandbits(WORD) if word == keep else 0 for word in range(words))
    return tuple(random.getrandbits(WORD) for _ in range(words))


def _empty_or_full_or_any(random: Random) -> int:
    if random.random() < 0.3:
        return ALL_ONES
    return 0 if random.random() < 0.6 else random.getrandbits(WORD)


class _signals:  # noqa: N801 - reads as what it does
    """While inside, the process gets a signal every now and then, which ends its futex waits."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def __enter__(self) -> None:
        if self._wanted:
            signal.signal(signal.SIGALRM, _ignore)
            signal.siginterrupt(signal.SIGALRM, True)
            signal.setitimer(signal.ITIMER_REAL, SIGNAL_PERIOD, SIGNAL_PERIOD)

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing: the interruption is all."""
