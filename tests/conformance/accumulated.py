"""One hash over many cases, for those who cannot load a library: only the hash need be compared.

    python -m tests.conformance.accumulated             writes vectors/accumulated.json
    python -m tests.conformance.accumulated --check     recomputes all of it; exits 1 if it differs

README.md specifies the generator in full; this is the same in Python.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import write_text
from tests.conformance.call import Block, Call, Outcome
from tests.conformance.expected import expect

FILE = Path(__file__).parent / "vectors" / "accumulated.json"
CHECKPOINTS = (1_000, 10_000, 100_000)
SEED = 2016
MASK = 2**64 - 1


class SplitMix64:
    """Steele, Lea and Flood's generator, the one of Java's SplittableRandom."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def next(self) -> int:
        """The next 64-bit number."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """``next() mod bound``."""
        return self.next() % bound


def cases() -> Iterator[Call]:
    """The calls, without end."""
    random = SplitMix64(SEED)
    while True:
        yield _case(random)


def _case(random: SplitMix64) -> Call:
    size = 1024 << random.below(3)
    blocks, bit = [], random.below(70)
    for _ in range(random.below(4)):
        pages, spare = random.below(150), random.below(8)
        blocks.append(Block(bit, pages * size, (pages + spare) * size, bit * size))
        bit += pages
        if random.below(3) == 0:
            bit += random.below(100)
    words = -(-bit // 64) + random.below(2)
    used = sum(((1 << b.used_length // size) - 1) << b.first_bit for b in blocks)
    if random.below(2) == 1:
        blocks.reverse()
    cache, host = [], []
    for w in range(words):
        cache.append(random.next() & random.next() & used >> 64 * w & MASK)
        host.append(random.next() & random.next() & used >> 64 * w & MASK)
    if random.below(8) == 0 and words:
        stray = random.below(64 * words)
        host[stray // 64] |= 1 << stray % 64
    dirty = sum(word.bit_count() for word in cache)
    if random.below(8) == 0:
        dirty = (dirty + random.below(5) - 2) & MASK
    return Call(size, tuple(blocks), tuple(cache), tuple(host), dirty, random.below(9))


def absorb(hasher: "hashlib._Hash", outcome: Outcome) -> None:
    """Add one case's result: status, bitmaps, count, stats, then a byte a page, 1 if copied."""
    hasher.update(outcome.status.to_bytes(4, "little", signed=True))
    for value in (*outcome.cache, *outcome.host, outcome.dirty_pages, *outcome.stats):
        hasher.update(value.to_bytes(8, "little"))
    hasher.update("".join(outcome.pages).translate(_COPIED).encode())


_COPIED = str.maketrans({"c": "\x01", "h": "\x00"})


def hashes(checkpoints: Sequence[int]) -> dict[str, str]:
    """The hash after each of these numbers of cases, by the model."""
    hasher = hashlib.sha256()
    found = {}
    for number, call in enumerate(cases(), 1):
        absorb(hasher, expect(call))
        if number in checkpoints:
            found[str(number)] = hasher.hexdigest()
        if number == max(checkpoints):
            return found
    raise AssertionError("the cases have no end")


def recorded() -> dict[str, str]:
    """The hashes on file."""
    found: dict[str, str] = json.loads(FILE.read_text())["sha256_after"]
    return found


def main(arguments: Sequence[str]) -> int:
    """Write the hashes, or with ``--check`` recompute and compare them."""
    parser = Parser(prog="python -m tests.conformance.accumulated", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing: 1 if a file is stale")
    check = parser.parse_args(arguments).check
    fresh = hashes(CHECKPOINTS)
    if check:
        return 0 if fresh == recorded() else 1
    content = {"generator": "README.md, 'The accumulated vector'", "seed": SEED}
    write_text(FILE, json.dumps({**content, "sha256_after": fresh}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
