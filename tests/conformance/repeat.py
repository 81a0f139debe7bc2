"""Could a flush that dies be finished by flushing again? Runs in the child.

Only if each page is marked, in either bitmap, until it has been copied. So all host memory is made
read-only, and whenever the port is about to write a page that was dirty, its bits are looked at.
"""

from collections.abc import Sequence
from itertools import accumulate

from tests.conformance.call import OS_PAGE, WORD, Call, Outcome
from tests.conformance.guarded import catching_faults
from tests.conformance.port import Bench, Placed
from tests.conformance.rules import Violation
from tests.conformance.vectors import block, call


def _call(size: int, threads: int, *pages: int) -> Call:
    """Blocks of so many pages of ``size`` bytes, each right behind the one before. Of five pages
    one is dirty in the cache bitmap, one in the host bitmap, one in both."""
    blocks = [
        block(first, used, size=size)
        for first, used in zip(accumulate(pages, initial=0), pages, strict=False)
    ]
    cache, host = (
        [bit for bit in range(sum(pages)) if bit % 5 in dirty] for dirty in ((0, 2), (1, 2))
    )
    return call(*blocks, cache=cache, host=host, threads=threads, size=size, place="low")


CALLS = {
    "three-pages": _call(OS_PAGE, 1, 3),
    "one-thread": _call(OS_PAGE, 1, 200),
    "threads": _call(OS_PAGE, 3, 500),
    "blocks": _call(OS_PAGE, 2, 100, 90, 70),
    "large-pages": _call(4 * OS_PAGE, 2, 130),
}


def watched(bench: Bench, made: Call) -> tuple[list[Violation], Outcome]:
    """Make the call; what was written after its bits had been cleared, and what is seen at the end."""
    placed = Placed(bench, made, 0)
    hosts = [bench.buffers[f"host memory of block {i}"] for i in range(len(made.blocks))]
    found: dict[int, Violation] = {}

    def look(address: int) -> bool:
        for host, part in zip(hosts, made.blocks, strict=True):
            at = address - host.address
            if 0 <= at < part.used_length:
                page = at // made.page_size
                bit = part.first_bit + page
                was, now = (_is_marked(bit, c.cache, c.host) for c in (made, placed))
                if was and not now:
                    detail = f"{host.name}: neither bit of page {page} is set when it is written"
                    found.setdefault(bit, Violation("marked-until-copied", detail))
                host.allow_write_at(at)
                return True
        return False

    for host in hosts:
        host.forbid_writes()
    with catching_faults(look):
        status = bench.target.flush(placed.arguments)
        for host in hosts:
            host.allow_writes()
    return list(found.values()), placed.outcome(status)


def _is_marked(bit: int, cache: Sequence[int], host: Sequence[int]) -> bool:
    word, position = divmod(bit, WORD)
    return bool((int(cache[word]) | int(host[word])) >> position & 1)
