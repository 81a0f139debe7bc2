"""The properties of ``colo_plan``: how a port that exports it cuts the pages up."""

import errno
from collections.abc import Iterator

from tests.conformance.call import WORD
from tests.conformance.port import Bench
from tests.conformance.rules import Violation

Ranges = list[tuple[int, int, int]]

EDGES: tuple[int, ...]
EDGES = (0, 1, 63, 64, 65, 127, 128, 504, 505, 32_385, 1_048_576, 2**31 + 65, 2**52 + 1, 2**58 + 1)
EDGES += (2**63 - 1, 2**63 + 1, 2**64 - 65, 2**64 - 64, 2**64 - 63, 2**64 - 1)
THREADS = (1, 2, 3, 4, 7, 8, 64, 255, 256, 1000)
FIXED = tuple((pages, threads) for pages in EDGES for threads in THREADS)
#: Pages, threads, a thread that is not there; or a pointer that is NULL.
REFUSED = (
    (100, 4, 4, ""),
    (100, 4, 5, ""),
    (100, 4, 2**32 - 1, ""),
    (100, 1, 1, ""),
    (0, 1, 1, ""),
    (100, 0, 0, ""),
    (100, 4, 1, "lower"),
    (100, 4, 1, "upper"),
    (0, 1, 0, "lower"),
)


def ask_plan(bench: Bench, pages: int, threads: int) -> Ranges | None:
    """(status, lower, upper) of every thread; None if nothing is exported. Runs in the child."""
    answers = [bench.plan(pages, threads, thread) for thread in range(threads)]
    return [answer for answer in answers if answer is not None] if all(answers) else None


def ask_refused(bench: Bench) -> list[tuple[int, int, int] | None]:
    """The answers to calls that name a thread that is not there. Runs in the child."""
    return [bench.plan(*arguments) for arguments in REFUSED]


def plan_violations(pages: int, threads: int, ranges: Ranges) -> list[Violation]:
    """Every rule that a plan breaks."""
    title = f"colo_plan, {pages} pages, {threads} threads"
    return [Violation(rule, f"{title}: {detail}") for rule, detail in _broken(pages, ranges)]


def _broken(pages: int, ranges: Ranges) -> Iterator[tuple[str, str]]:
    for thread, (status, lower, upper) in enumerate(ranges):
        if status:
            yield "plan-refuses", f"thread {thread} got {status}, not 0"
            return
        if lower > upper:
            yield "plan-cover", f"thread {thread} has lower {lower} > upper {upper}"
            return
    filled = sorted((lo, up, thread) for thread, (_, lo, up) in enumerate(ranges) if lo < up)
    end = 0
    for lower, upper, thread in filled:
        if lower != end:
            what = "no thread has" if lower > end else "two threads have"
            yield "plan-cover", f"{what} page {min(lower, end)} (thread {thread} starts at {lower})"
            return
        if lower % WORD:
            yield (
                "plan-words",
                f"thread {thread} starts at page {lower}, inside word {lower // WORD}",
            )
        end = upper
    if end != pages:
        yield "plan-cover", f"the ranges end at page {end}"


def refused_violations(answers: list[tuple[int, int, int] | None]) -> list[Violation]:
    """A plan for a thread that is not there must be refused."""
    return [
        Violation(
            "plan-refuses",
            f"pages {p}, threads {n}, thread {i}{f', {null} NULL' * bool(null)}: got {answer[0]}",
        )
        for (p, n, i, null), answer in zip(REFUSED, answers, strict=True)
        if answer is not None and answer[0] != -errno.EINVAL
    ]
