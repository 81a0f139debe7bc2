"""Vectors whose result is a property, for those who cannot load a library: what plan.py, c/contents.c and
c/repeat.c look at, as data. Written with the others by ``vectors.py``.
"""

from collections.abc import Iterator
from typing import Any

from tests.conformance.call import Call, call_to_json, outcome_to_json
from tests.conformance.expected import expect
from tests.conformance.plan import FIXED, REFUSED
from tests.conformance.rows import SIZE, block, call

FLAGS = {
    "PlanCover": "a page in no range, or in two; pages near 2^64",
    "PlanRefuse": "a thread that is not there gets a range, or a NULL pointer is written through",
    "Contents": "a dirty page is taken for one that need not be copied, by what it holds",
    "ClearFirst": "a bit is cleared before its page is copied: a flush that dies cannot be repeated",
}

MEANINGS = {
    "plans": (
        "Calls of colo_plan. Status 0: ask for every thread from 0 to threads - 1; each gets 0, and "
        "lower <= upper; the ranges [lower, upper) cover [0, pages), none twice, and no two share a word "
        "of 64 pages. Status -22: for this thread, with the pointer that null names NULL."
    ),
    "contents": (
        "As in the other files, but host and cache memory hold before each call what contents says, and "
        "a letter c means that the page holds, whole, what the cache has; where that is what the host "
        "had as well, it cannot be told."
    ),
    "repeats": (
        "The call is stopped at any moment, with all its threads, and looked at; or killed there. Each "
        "page that was dirty then is marked in one bitmap at least or holds, whole, what the cache has; "
        "no page that was clean has a bit set or is written. The bits that are left in the cache bitmap "
        "are counted anew, and the call is made again with them, whoever makes it: then the result is "
        "seen."
    ),
}

#: What c/contents.c fills memory with, by the name of its check.
CONTENTS = {
    "zero-pages": "cache pages are zero, but for one byte in every third; no host page is",
    "to-zero-hosts": "every host page is zero, no cache page is",
    "equal-pages": "all cache pages are equal; every other host page is like them already",
    "first-byte": "each host page differs from its cache page in the first byte alone",
    "last-byte": "each host page differs from its cache page in the last byte alone",
    "one-byte": "each host page differs from its cache page in one byte alone, another in each page",
    "equal-sums": "each host page is its cache page with two words exchanged: sums are equal",
    "changing": "each page is as in the call before, but for its middle byte, in the cache one more",
}
PAGES = 200


def property_vectors() -> dict[str, list[dict[str, Any]]]:
    """By the file they are kept in."""
    return {"plans": [*_plans()], "contents": [*_contents()], "repeats": [*_repeats()]}


def _plans() -> Iterator[dict[str, Any]]:
    for pages, threads in FIXED:
        yield {
            "id": f"plans/{pages}-over-{threads}",
            "comment": f"{pages} pages, {threads} threads",
            "flags": ["PlanCover"],
            "input": {"pages": f"{pages:#018x}", "threads": threads},
            "result": {"status": 0},
        }
    for pages, threads, thread, null in REFUSED:
        yield {
            "id": f"plans/refused-{thread}-of-{threads}-{pages}-pages{f'-null-{null}' * bool(null)}",
            "comment": f"{null} is NULL" if null else f"there is no thread {thread}",
            "flags": ["PlanRefuse"],
            "input": {
                "pages": f"{pages:#018x}",
                "threads": threads,
                "thread": thread,
                "null": [null] * bool(null),
            },
            "result": {"status": -22},
        }


def _contents() -> Iterator[dict[str, Any]]:
    for name, comment in CONTENTS.items():
        for threads in (1, 3):
            calls = [_marked_by_turns(number, threads) for number in range(3)]
            yield {
                "id": f"contents/{name}-{threads}-threads",
                "comment": comment,
                "flags": ["Contents"],
                "contents": name,
                "input": [call_to_json(given) for given in calls],
                "result": [outcome_to_json(expect(given)) for given in calls],
            }


def _marked_by_turns(number: int, threads: int) -> Call:
    """Every page dirty: in the cache bitmap, in the host bitmap, in both, and on."""
    return _marked([1 + (page + number) % 3 for page in range(PAGES)], SIZE, threads)


def _repeats() -> Iterator[dict[str, Any]]:
    for size, pages in ((1024, 4096), (4096, 1000), (2 << 20, 11)):
        for threads in (1, 3):
            kinds = [page % 5 + 1 if page % 5 < 3 else 0 for page in range(pages)]
            given = _marked(kinds, size, threads)
            seen = outcome_to_json(expect(given))
            yield {
                "id": f"repeats/pages-of-{size}-{threads}-threads",
                "comment": f"{pages} pages of {size} bytes, three in five dirty",
                "flags": ["ClearFirst"],
                "input": [call_to_json(given)],
                "result": [
                    {
                        key: seen[key]
                        for key in ("cache_bitmap", "host_bitmap", "dirty_pages", "pages")
                    }
                ],
            }


def _marked(kinds: list[int], size: int, threads: int) -> Call:
    """One block. Its pages are dirty in no bitmap (0), the cache's (1), the host's (2), or both (3)."""
    cache = [page for page, kind in enumerate(kinds) if kind & 1]
    host = [page for page, kind in enumerate(kinds) if kind & 2]
    return call(block(0, len(kinds), size=size), cache=cache, host=host, size=size, threads=threads)
