"""The rules of a flush, by name, and which of them an outcome breaks."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.call import WORD, Call, Outcome

RULES = {
    "abi": "the library loads and is of ABI version 1",
    "refuses": "a call that no flush can be right about gets -EINVAL",
    "refusal-changes-nothing": "-EINVAL leaves every byte, bit, count and stat as it was",
    "accepts": "a call that can be flushed is flushed",
    "status": "0 if the dirty count reached 0, else -ERANGE",
    "copies-dirty": "every page dirty in either bitmap is copied, whole",
    "clean-pages-untouched": "no page that is clean in both bitmaps is written, not even for a moment",
    "copies-right": "a page is copied from its own page in the cache",
    "clears": "both bits of every flushed page are cleared",
    "clear-after-copy": "a page stays marked until it is copied: a flush that died can be repeated",
    "no-spurious-bits": "no bit of a page that was clean is ever set",
    "count": "the dirty count falls by the cache bits cleared",
    "stats": "the stats are this flush's, in pages",
    "bounds": "no byte outside the memory passed in is read or written",
    "read-only": "the cache and the block list are only read",
    "no-crash": "a call returns",
    "no-hang": "a call returns in good time",
    "no-leak": "call after call, neither threads nor memory nor open files grow without end",
    "at-rest": "between calls the port's threads sleep",
    "after-return": "when the call has returned nobody touches its memory",
    "caller-state": "signal mask, CPUs, floating-point controls are the caller's again",
    "missing-resources": "without threads or memory a flush is done with what there is, or refused whole",
    "plan-cover": "the ranges of all threads cover [0, pages), none twice, lower <= upper",
    "plan-words": "the ranges of different threads share no 64-page word",
    "plan-refuses": "a thread not below threads, or a NULL pointer, gets -EINVAL, any other gets 0",
}


@dataclass(frozen=True)
class Violation:
    """A rule broken, and how, in one line."""

    rule: str
    detail: str


def named(status: int) -> str:
    """A status as the ABI names it: 0, -EINVAL, -ERANGE; any other as C has it, or by its number."""
    name = errno.errorcode.get(abs(status))
    return str(status) if name is None else f"-{name}" if status < 0 else name


def violations(call: Call, expected: Outcome, got: Outcome) -> list[Violation]:
    """Every rule that the outcome of ``call`` breaks, most telling first."""
    return [Violation(rule, detail) for rule, detail in _broken(call, expected, got)]


def _broken(call: Call, expected: Outcome, got: Outcome) -> Iterator[tuple[str, str]]:
    for sentence in got.damage:
        yield "read-only" if "read-only" in sentence else "bounds", sentence
    if expected.status == -errno.EINVAL:
        yield from _broken_refusal(expected, got)
        return
    flushed = got.status in (0, -errno.ERANGE)
    if not flushed:
        yield "accepts", f"returned {named(got.status)}, not {named(expected.status)}"
    yield from _wrong_pages(expected, got)
    yield from _wrong_bits(call, got)
    if got.dirty_pages != expected.dirty_pages:
        yield "count", f"dirty_pages is {got.dirty_pages:#x}, not {expected.dirty_pages:#x}"
    if flushed and got.status != expected.status:
        yield "status", f"returned {named(got.status)}, not {named(expected.status)}"
    if "stats" not in call.null and got.stats != expected.stats:
        names = ("copied", "host_dirty", "cache_dirty", "both_dirty")
        wrong = [
            f"{name} is {mine}, not {theirs}"
            for name, mine, theirs in zip(names, got.stats, expected.stats, strict=True)
            if mine != theirs
        ]
        yield "stats", "; ".join(wrong)


def _broken_refusal(expected: Outcome, got: Outcome) -> Iterator[tuple[str, str]]:
    if got.status != expected.status:
        yield "refuses", f"returned {named(got.status)}, not {named(expected.status)}"
    changed = [
        what
        for what in ("pages", "cache", "host", "dirty_pages", "stats")
        if getattr(got, what) != getattr(expected, what)
    ]
    if changed:
        names = {"pages": "host memory", "cache": "cache bitmap", "host": "host bitmap"}
        yield "refusal-changes-nothing", "changed: " + ", ".join(names.get(w, w) for w in changed)


def _wrong_pages(expected: Outcome, got: Outcome) -> Iterator[tuple[str, str]]:
    for i, (want, have) in enumerate(zip(expected.pages, got.pages, strict=True)):
        for page, (w, h) in enumerate(zip(want, have, strict=True)):
            where = f"page {page} of block {i}"
            if w == "c" and h == "h":
                yield "copies-dirty", f"{where} is dirty and was not copied"
            elif w == "c" and h == "x":
                yield "copies-right", f"{where} holds neither its old content nor the cache's"
            elif w != h:
                yield "clean-pages-untouched", f"{where} is clean and was written"


def _wrong_bits(call: Call, got: Outcome) -> Iterator[tuple[str, str]]:
    for name, before, after in (("cache", call.cache, got.cache), ("host", call.host, got.host)):
        left = _bits(b & a for b, a in zip(before, after, strict=True))
        made = _bits(a & ~b for b, a in zip(before, after, strict=True))
        if left:
            yield "clears", f"{name} bitmap: {len(left)} bit(s) left set, the first {left[0]}"
        if made:
            yield (
                "no-spurious-bits",
                f"{name} bitmap: {len(made)} bit(s) appeared, the first {made[0]}",
            )


def _bits(words: Iterator[int]) -> list[int]:
    return [w * WORD + b for w, word in enumerate(words) for b in range(WORD) if word >> b & 1]
