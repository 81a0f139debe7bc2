"""Could a flush that dies be finished by flushing again? Runs in the child.

Only if each page is marked, in either bitmap, until it has been copied. So all host memory is made
read-only, and whenever the port is about to write a page that was dirty, its bits are looked at.
"""

from tests.conformance.call import ALL_ONES, OS_PAGE, WORD, Block, Call, Outcome
from tests.conformance.guarded import catching_faults
from tests.conformance.port import Bench, Placed
from tests.conformance.rules import Violation


def _call(page_size: int, threads: int, *pages: int) -> Call:
    """Blocks of so many pages, one right behind the other: pages dirty in one bitmap or both."""
    blocks, bit = [], 0
    for used in pages:
        blocks.append(Block(bit, used * page_size, used * page_size, bit * page_size))
        bit += used
    words = -(-bit // WORD)
    used_bits = [min(bit - word * WORD, WORD) for word in range(words)]
    cache = tuple(0x5555_5555_7F7F_0FF5 & ALL_ONES >> WORD - bits for bits in used_bits)
    host = tuple(0x3333_3333_F7F7_FF06 & ALL_ONES >> WORD - bits for bits in used_bits)
    count = sum(word.bit_count() for word in cache)
    return Call(page_size, tuple(blocks), cache, host, count, threads, place="low")


CALLS = {
    "three-pages": _call(OS_PAGE, 1, 3),
    "one-thread": _call(OS_PAGE, 1, 200),
    "threads": _call(OS_PAGE, 3, 500),
    "blocks": _call(OS_PAGE, 2, 100, 90, 70),
    "large-pages": _call(4 * OS_PAGE, 2, 130),
}


def watched(bench: Bench, call: Call) -> tuple[list[Violation], Outcome]:
    """Make the call; what was written after its bits had been cleared, and what is seen at the end."""
    placed = Placed(bench, call, 0)
    hosts = [bench.buffers[f"host memory of block {i}"] for i in range(len(call.blocks))]
    found: dict[int, Violation] = {}

    def look(address: int) -> bool:
        for host, block in zip(hosts, call.blocks, strict=True):
            at = address - host.address
            if 0 <= at < block.used_length:
                page = at // call.page_size
                word, bit = divmod(block.first_bit + page, WORD)
                was, now = (
                    call.cache[word] | call.host[word],
                    placed.cache[word] | placed.host[word],
                )
                if was & ~int(now) & 1 << bit:
                    detail = f"{host.name}: neither bit of page {page} is set when it is written"
                    found.setdefault(
                        block.first_bit + page, Violation("marked-until-copied", detail)
                    )
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
