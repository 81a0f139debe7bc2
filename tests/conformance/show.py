"""A failure for people: the layout and bitmaps drawn as words."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.conformance.call import WORD, Block, Call, Outcome, letters

MOST_WORDS = 12
KEY = (
    "dirty: C in the cache bitmap, H in the host bitmap, B in both; - no page",
    "pages: c has the cache's content, h still the host's own, x neither",
)
BLOCK_NAMES = "abcdefghijklmnopqrstuvwxyz"


def picture(call: Call, expected: Outcome, got: Outcome | None) -> str:
    """One line a word and row: whose page each bit is, what is dirty, what was wanted and seen.

    Bit 0 is on the left. Shown are the words in which something is wrong; if no page or bit is
    wrong, those in which something is dirty.
    """
    lines = list(_header(call))
    shown = _words_to_show(call, expected, got)
    for word in shown[:MOST_WORDS]:
        lines += ["", *_word(call, expected, got, word)]
    if len(shown) > MOST_WORDS:
        lines.append(f"... and {len(shown) - MOST_WORDS} words more")
    if shown:
        lines += ["", *KEY]
    return "\n".join(lines)


def as_rows(call: Call, expected: Outcome, got: Outcome | None) -> dict[str, Any]:
    """The same picture for programs: ``head``, ``words`` with rows of 64 letters, and the ``key``."""
    return {
        "head": list(_header(call)),
        "words": [
            {"word": word, "rows": _rows(call, expected, got, word)}
            for word in _words_to_show(call, expected, got)[:MOST_WORDS]
        ],
        "key": "; ".join(KEY),
    }


def _header(call: Call) -> Iterator[str]:
    nulls = f", NULL: {', '.join(sorted(call.null))}" if call.null else ""
    yield (
        f"page_size {call.page_size}, threads {call.threads}, {len(call.cache)} words, "
        f"dirty_pages {_number(call.dirty_pages)}, memory placed {call.place}{nulls}"
    )
    for i, block in enumerate(call.blocks):
        yield (
            f"block {i} '{_name(i)}': bits from {_number(block.first_bit)}, "
            f"used {_length(block.used_length, call)}, max {_length(block.max_length, call)}, "
            f"offset {block.offset:#x}"
        )


def _word(call: Call, expected: Outcome, got: Outcome | None, word: int) -> Iterator[str]:
    for i, (title, row) in enumerate(_rows(call, expected, got, word).items()):
        lead = f"word {word}" if i == 0 else ""
        if row.strip():
            yield f"{lead:<10}{title:<8}{row}".rstrip()


def _rows(call: Call, expected: Outcome, got: Outcome | None, word: int) -> dict[str, str]:
    bits = range(word * WORD, (word + 1) * WORD)
    rows = {
        "blocks": "".join(_owner(call, bit) for bit in bits),
        "dirty": "".join(_dirt(call.cache, call.host, bit) for bit in bits),
        "expect": "".join(_page(call, expected, bit) for bit in bits),
    }
    if got:
        rows["got"] = "".join(_page(call, got, bit) for bit in bits)
        rows["left"] = "".join(_dirt(got.cache, got.host, bit) for bit in bits)
        wrong = [_is_wrong(call, expected, got, bit) for bit in bits]
        rows["wrong"] = "".join("^" if bad else " " for bad in wrong)
    return rows


def _words_to_show(call: Call, expected: Outcome, got: Outcome | None) -> list[int]:
    words = range(len(call.cache))
    wrong = [
        word
        for word in words
        if got and any(_is_wrong(call, expected, got, word * WORD + bit) for bit in range(WORD))
    ]
    return wrong or [word for word in words if call.cache[word] | call.host[word]]


def _is_wrong(call: Call, expected: Outcome, got: Outcome, bit: int) -> bool:
    return _page(call, expected, bit) != _page(call, got, bit) or (
        _dirt(expected.cache, expected.host, bit) != _dirt(got.cache, got.host, bit)
    )


def _owner(call: Call, bit: int) -> str:
    owners = [i for i, block in enumerate(call.blocks) if bit in _bits(block, call)]
    return "-" if not owners else _name(owners[0]) if len(owners) == 1 else "#"


def _page(call: Call, outcome: Outcome, bit: int) -> str:
    for i, block in enumerate(call.blocks):
        if bit in _bits(block, call) and bit - block.first_bit < letters(call, block):
            return outcome.pages[i][bit - block.first_bit]
    return "-"


def _bits(block: Block, call: Call) -> range:
    return range(block.first_bit, block.first_bit + block.used_length // max(call.page_size, 1))


def _dirt(cache: Sequence[int], host: Sequence[int], bit: int) -> str:
    in_cache, in_host = (words[bit // WORD] >> bit % WORD & 1 for words in (cache, host))
    return ".CHB"[in_cache + 2 * in_host]


def _name(block: int) -> str:
    return BLOCK_NAMES[block % len(BLOCK_NAMES)]


def _number(value: int) -> str:
    return str(value) if value < 1 << 32 else f"{value:#x}"


def _length(length: int, call: Call) -> str:
    size = call.page_size
    whole = size > 0 and length % size == 0 and length < 1 << 40
    return f"{length // size} pages" if whole else f"{length:#x} bytes"
