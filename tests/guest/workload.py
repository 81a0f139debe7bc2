"""What the guest's workload has to print, worked out a second time; and its pages found in RAM.

``workload.c`` is the other half: it fills pages from their number and version, and sums them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.errors import ColoError

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

PAGE_BYTES = 4096
MEBIBYTES = 256
PAGES = (MEBIBYTES << 20) // PAGE_BYTES
MAGIC = 0x434F4C4F50414745
INCREMENT = 0x9E3779B97F4A7C15
HEADER_WORDS, PAGE_WORDS = 3, PAGE_BYTES // 8
RUNS, RUN_PAGES = 512, 16

KINDS = {"round", "files"}
_REPORT = re.compile(r"^colo-guest (round|files) (\d+) (.*)$")
_ROUND_OK = re.compile(r"^pages (\d+) sum ([0-9a-f]{16}) ok$")
_CORRUPT = re.compile(r"^corrupt page (\d+) word \d+$")


@dataclass(frozen=True)
class Report:
    """One line the guest printed: a round of the workload, or of the files beside it."""

    kind: str
    number: int
    text: str

    @property
    def right(self) -> bool:
        """Whether the guest says that all is well and, for a round, whether its sum is the one
        that follows from the round's number."""
        if self.kind == "files":
            return self.text == "ok"
        found = _ROUND_OK.match(self.text)
        return found is not None and (int(found[1]), int(found[2], 16)) == (
            PAGES,
            Expectation.shared().sum_after(self.number),
        )

    @property
    def corrupt_page(self) -> int | None:
        """The workload's page that the guest found wrong, if it found one."""
        found = _CORRUPT.match(self.text)
        return int(found[1]) if found else None

    def __str__(self) -> str:
        return f"{self.kind} {self.number} {self.text}"


def reports(serial: str) -> list[Report]:
    """The complete lines of the guest's serial output that are reports."""
    *lines, _unfinished = serial.split("\n")
    found = (_REPORT.match(line.rstrip("\r")) for line in lines)
    return [Report(m[1], int(m[2]), m[3]) for m in found if m]


class GuestWrong(ColoError):
    """The guest found its memory corrupt, or its history has a gap."""


def check_history(history: Iterable[Report]) -> None:
    """Raise GuestWrong unless rounds and files each count 1, 2, 3, ... and all are right."""
    done = dict.fromkeys(KINDS, 0)
    for report in history:
        done[report.kind] += 1
        if report.number != done[report.kind] or not report.right:
            raise GuestWrong(
                f"expected {report.kind} {done[report.kind]} to be right, got: {report}"
            )


def last_round(history: Iterable[Report]) -> int:
    """The round that the guest finished last; 0 before the first."""
    return max((report.number for report in history if report.kind == "round"), default=0)


class Expectation:
    """The sum of all pages after each round, from the round's number alone."""

    _shared: Self | None = None

    @classmethod
    def shared(cls) -> Self:
        """One for the whole process: each round is worked out once."""
        if cls._shared is None:
            cls._shared = cls()
        return cls._shared

    def __init__(self) -> None:
        self._versions = np.zeros(PAGES, np.uint64)
        self._page_sums = _page_sums(np.arange(PAGES, dtype=np.uint64), self._versions)
        self._totals = [_total(self._page_sums)]

    def sum_after(self, number: int) -> int:
        """The sum (modulo 2^64) that the guest prints for this round."""
        while len(self._totals) <= number:
            written = rewritten(len(self._totals))
            np.add.at(self._versions, written, np.uint64(1))
            pages = np.unique(written)
            self._page_sums[pages] = _page_sums(pages, self._versions[pages])
            self._totals.append(_total(self._page_sums))
        return self._totals[number]


def rewritten(number: int) -> Words:
    """The workload's pages that round ``number`` rewrites, with repetitions."""
    runs = np.arange(RUNS, dtype=np.uint64) + np.uint64(number * RUNS)
    first = np.mod(_mix(runs), np.uint64(PAGES - RUN_PAGES + 1), dtype=np.uint64)
    return (first[:, None] + np.arange(RUN_PAGES, dtype=np.uint64)).ravel()


def _mix(number: Words) -> Words:
    x = number + np.uint64(INCREMENT)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _seed(pages: Words, versions: Words) -> Words:
    return _mix(pages << np.uint64(32) | versions)


def _page_sums(pages: Words, versions: Words) -> Words:
    """The sum of seed + INCREMENT, seed + 2 INCREMENT, ... over the words after the header."""
    words = PAGE_WORDS - HEADER_WORDS
    increments = INCREMENT * (words * (words + 1) // 2) % 2**64
    return _seed(pages, versions) * np.uint64(words) + np.uint64(increments)


def _total(page_sums: Words) -> int:
    return int(page_sums.sum(dtype=np.uint64))


def pages_in(ram: Bytes) -> tuple[NDArray[np.int64], Words]:
    """For each page of RAM, the workload's page that lies there (-1 if none), and its version.

    By its last word, too: the program keeps the same constant in registers, so that a page of its
    stack may begin like a page of the workload. While a page is rewritten, its last word is still
    that of the version before.
    """
    words = ram.view(np.uint64).reshape(-1, PAGE_WORDS)
    magic, numbers, versions = words[:, :HEADER_WORDS].T
    found = np.full(len(words), -1, np.int64)
    like_ours = np.flatnonzero((magic == np.uint64(MAGIC)) & (numbers < np.uint64(PAGES)))
    page, version, last = numbers[like_ours], versions[like_ours], words[like_ours, -1]
    whole = last == _last_word(page, version)
    begun = (version > 0) & (last == _last_word(page, version - np.uint64(1)))
    ours = like_ours[whole | begun]
    found[ours] = numbers[ours]
    return found, versions


def _last_word(pages: Words, versions: Words) -> Words:
    increments = INCREMENT * (PAGE_WORDS - HEADER_WORDS) % 2**64
    return _seed(pages, versions) + np.uint64(increments)
