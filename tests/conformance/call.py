"""One call of ``colo_flush`` as plain data: what goes in, and everything to be seen after it."""

from dataclasses import dataclass
from typing import Any, Literal

WORD = 64
ALL_ONES = 2**64 - 1
OS_PAGE = 4096

# What the stats hold before a call: a port that adds to them, or writes them on a refusal, shows.
STATS_BEFORE = (0x5A5A5A5A,) * 4

# No call asks for more memory than this per block; one that claims to must be refused.
MOST_MEMORY = 48 << 20

Place = Literal["high", "low", "odd", "shifted"]


@dataclass(frozen=True)
class Block:
    """A ``colo_block`` without its pointers. Bytes, but for ``first_bit``."""

    first_bit: int
    used_length: int
    max_length: int
    offset: int


@dataclass(frozen=True)
class Call:
    """The arguments of one call.

    ``cache`` and ``host`` are the bitmaps, 64-bit words, of one length (``n_words``). ``null``
    names the arguments passed as NULL: "blocks", "cache_bitmap", "host_bitmap", "dirty_pages",
    "stats", "host[i]", "cache[i]". ``place``: every buffer ends at a guard page ("high") or starts
    at one ("low"); "odd": low, with host and cache memory one byte off every alignment; "shifted":
    the same, by another odd number of bytes for each.
    """

    page_size: int
    blocks: tuple[Block, ...]
    cache: tuple[int, ...]
    host: tuple[int, ...]
    dirty_pages: int
    threads: int
    null: frozenset[str] = frozenset()
    place: Place = "high"


@dataclass(frozen=True)
class Outcome:
    """Everything visible after a call; what the model expects has the same shape.

    ``pages``: per block a letter a page: ``h`` the host still has its own content, ``c`` it has the
    cache's, ``x`` it has neither. ``damage``: sentences about memory that may never change and did.
    """

    status: int
    cache: tuple[int, ...]
    host: tuple[int, ...]
    dirty_pages: int
    stats: tuple[int, int, int, int]
    pages: tuple[str, ...]
    damage: tuple[str, ...] = ()


def memory_of(block: Block) -> int:
    """Bytes to provide for a block, a token for one that no flush can accept."""
    return block.used_length if block.used_length <= MOST_MEMORY else OS_PAGE


def grain(call: Call) -> int:
    """Bytes behind one letter of ``Outcome.pages``: the page size, if it is one."""
    sane = 1024 <= call.page_size <= 2 << 20 and call.page_size & (call.page_size - 1) == 0
    return call.page_size if sane else OS_PAGE


def letters(call: Call, block: Block) -> int:
    """Length of the block's string in ``Outcome.pages``."""
    return -(-memory_of(block) // grain(call))


def call_to_json(call: Call) -> dict[str, Any]:
    """The form of the vectors: 64-bit words as hex strings, for JSON numbers lose bits."""
    return {
        "page_size": call.page_size,
        "blocks": [
            {
                "first_bit": _hex(block.first_bit),
                "used_length": _hex(block.used_length),
                "max_length": _hex(block.max_length),
                "offset": _hex(block.offset),
            }
            for block in call.blocks
        ],
        "cache_bitmap": [_hex(word) for word in call.cache],
        "host_bitmap": [_hex(word) for word in call.host],
        "dirty_pages": _hex(call.dirty_pages),
        "threads": call.threads,
        "null": sorted(call.null),
        "place": call.place,
    }


def call_from_json(data: dict[str, Any]) -> Call:
    """The inverse of :func:`call_to_json`."""
    return Call(
        page_size=data["page_size"],
        blocks=tuple(
            Block(**{name: int(value, 16) for name, value in block.items()})
            for block in data["blocks"]
        ),
        cache=_words(data["cache_bitmap"]),
        host=_words(data["host_bitmap"]),
        dirty_pages=int(data["dirty_pages"], 16),
        threads=data["threads"],
        null=frozenset(data["null"]),
        place=data["place"],
    )


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """What a vector says must be seen after its call."""
    return {
        "status": outcome.status,
        "cache_bitmap": [_hex(word) for word in outcome.cache],
        "host_bitmap": [_hex(word) for word in outcome.host],
        "dirty_pages": _hex(outcome.dirty_pages),
        "stats": [_hex(value) for value in outcome.stats],
        "pages": list(outcome.pages),
    }


def _hex(value: int) -> str:
    return f"{value:#018x}"


def _words(values: list[str]) -> tuple[int, ...]:
    return tuple(int(value, 16) for value in values)
