"""What becomes of a mutant of a kernel: which case, run as plain Python, it does not survive.

Each case is a small run on a :class:`~tests.mutation.machine.Machine`, compared with the model. No case
looks at a clock or depends on who is quicker: a schedule says who goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import combinations_with_replacement, islice, pairwise, product
from typing import Any, Literal

from impl import bitmap
from impl.kernels import check_in, events, flush, job_table, nodes, strategies
from impl.kernels import control as c
from impl.kernels.compile import kernels
from model.nodes import Run, index_by_node
from model.protocols import check_in as check_in_protocol
from model.ram import Layout
from tests.mutation.machine import (
    LINE,
    U64,
    Anyhow,
    CallerFirst,
    Fault,
    HelpersFirst,
    InTurn,
    LateHelper,
    LateOpening,
    Machine,
    Schedule,
    Stalling,
)
from tests.mutation.mutants import SURVIVES, Fate, Mutant, mutants
from tests.mutation.plain import COUNTED_AT_ONCE, STRETCH, Plain
from tests.mutation.rig import FETCHING, Epoch, Nodes, Rig, Ways, Wrong, layout, require
from tests.trace import TAKES, explain

#: Who refuses a mutant of a kernel.
CASE = "a case"
ALL = ("dynamic", "static", "queue", "serial")
SMALL = layout((0, 70, 70), (73, 64, 64), (140, 3, 30), (170, 0, 10), (200, 400, 400))
#: Blocks of words of their own, in no order; more of them than a search by halves takes two looks at.
MANY = layout(
    *((1400, 65, 70), (0, 1, 60), (128, 64, 64), (192, 130, 192), (400, 0, 10), (450, 63, 63)),
    *((640, 10, 10), (650, 54, 60), (1000, 128, 300)),
)
#: More dirty words than the queue has slots, with a page each.
LONG = layout((0, 300 * 64, 300 * 64))
#: The words between are searched many at a time.
SPARSE = layout((0, 64 * 77, 64 * 77), (64 * 77, 61, 61), (64 * 77 + 61, 64 * 70 + 3, 64 * 70 + 3))


# With these, and the ones that a rig has, the one way of copying or the other falls to few pages.
_ORDINARY, _EACH = Ways(1000, 0), Ways(500, 1000)
_CACHE_ONLY, _EACH_CACHE_ONLY = Ways(0, 0, host=False), Ways(500, 1000, host=False)
_LARGEST_FETCHED_WHOLE = 128


@cache
def _plain() -> Plain:
    """The kernels on a machine, where a small page is a large one already."""
    plain = Plain(Machine())
    names = plain.function(flush.choose_copy).__globals__
    names["_LARGEST_FETCHED_WHOLE"] = U64(_LARGEST_FETCHED_WHOLE)
    return plain


#: They have kernels of their own.
_ELSEWHERE = ("impl.traces.", "impl.recorder.")


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Every mutant of every kernel of a pool and its RAM, in the order of definition.

    Other modules, once imported, have kernels too: which of them are is not to decide what is broken.
    """
    of_a_pool = [one for one in kernels if not one.py_func.__module__.startswith(_ELSEWHERE)]
    return tuple(
        mutant for one in of_a_pool for mutant in mutants(one.py_func, _plain().function(one))
    )


def fate(mutant: Mutant) -> Fate:
    """The case that the mutant does not survive, and what is wrong in it."""
    with mutant.applied():
        where = first_failure()
    return Fate(CASE, where) if where else SURVIVES


def first_failure() -> str | None:
    """The first case that the kernels, as they are now, do not pass, and what is wrong in it; or None."""
    for name, case in CASES.items():
        try:
            case()
        except (Fault, Wrong) as wrong:
            return f"{name}: {wrong}"
        except Exception as error:
            return f"{name}: cannot run ({type(error).__name__}: {error})"
    return None


CASES: dict[str, Callable[[], None]] = {}


def _case(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(run: Callable[[], None]) -> Callable[[], None]:
        CASES[name] = run
        return run

    return register


def _epoch(strategy: str, where: Layout, one: int = 3, other: int = 5) -> Epoch:
    """Every third used page dirty in one bitmap, every fifth in the other."""
    used = sorted(where.used())
    return Epoch(strategy, frozenset(used[::one]), frozenset(used[1::other]))


def _halves(strategy: str, where: Layout) -> Epoch:
    """All pages dirty: the lower ones in the cache bitmap, the upper ones in the host bitmap."""
    used = sorted(where.used())
    half = len(used) // 2
    return Epoch(strategy, frozenset(used[:half]), frozenset(used[half:]))


# Kernels by themselves: the quicker cases, so they come first.


def _alone(**options: Any) -> Rig:
    return Rig(_plain(), Schedule(), SMALL, 1, page_bytes=LINE, **options)


@_case("a log that is full")
def _log() -> None:
    rig = _alone()
    words = rig.machine.words(rig.logs[0])
    words[1] = rig.logs[0] + 32 + 2 * 24
    for number in range(4):
        rig.kernel(events.record, rig.control, 0, 3 + number, 10 + number, 20 + number)
    require(list(words[4:10]) == [3, 10, 20, 4, 11, 21], "the events")
    require(words[2] == 2 and words[0] == words[1] and not any(words[10:]), "the full log")


@_case("marks")
def _marks() -> None:
    rig = _alone()
    rig.dirty(Epoch("serial", frozenset({5}), frozenset()))
    for bit in (5, 63, 64, 200, 63):
        rig.kernel(flush.mark_received, rig.job, bit)
    model = rig.model
    model.cache_dirty, model.dirty_pages = {5, 63, 64, 200}, 4
    rig.check()


@_case("a range is cleared")
def _cleared() -> None:
    for first, last in ((0, 1), (5, 64), (63, 65), (64, 128), (70, 300), (100, 100), (600, 640)):
        rig = _alone()
        rig.dirty(_epoch("serial", SMALL, 2, 3))
        rig.kernel(flush.clear_range, rig.job, first, last)
        model = rig.model
        model.cache_dirty -= set(range(first, last))
        model.host_dirty -= set(range(first, last))
        model.dirty_pages = len(model.cache_dirty)
        rig.check()


@_case("bitmaps are replaced, and cleared")
def _replaced() -> None:
    rig = _alone()
    rig.dirty(_epoch("serial", SMALL, 2, 3))
    given = [rig.machine.allocate(name, 8 * SMALL.words) for name in ("one", "other")]
    for address, word in zip(given, (0b1011, 1 << 63 | 1), strict=True):
        for index in range(SMALL.words):
            rig.machine.words(address)[index] = word if index in (0, SMALL.words - 2) else 0
    rig.kernel(flush.replace_bitmaps, rig.job, *given)
    model, at = rig.model, 64 * (SMALL.words - 2)
    model.cache_dirty = {0, 1, 3, at, at + 1, at + 3}
    model.host_dirty = {0, 63, at, at + 63}
    model.dirty_pages = 6
    rig.check()
    n_dirty = rig.kernel(flush.count_dirty, rig.cache_bitmap, SMALL.words)
    require(n_dirty == 6, f"{n_dirty} bits are counted")
    rig.kernel(flush.clear_bitmaps, rig.job)
    model.cache_dirty, model.host_dirty, model.dirty_pages = set(), set(), 0
    rig.check()


@_case("runs of bits")
def _runs() -> None:
    rig = _alone()
    end = 64 * SMALL.words - 1
    runs = ((0, 0), (3, 7), (60, 70), (128, 191), (300, 520), (end, end))
    firsts, lasts = (rig.machine.allocate(name, 8 * len(runs)) for name in ("firsts", "lasts"))
    for index, (first, last) in enumerate(runs):
        rig.machine.words(firsts)[index], rig.machine.words(lasts)[index] = first, last
    rig.dirty(Epoch("serial", frozenset({50}), frozenset()))
    rig.kernel(bitmap.set_runs, rig.cache_bitmap, firsts, lasts, len(runs))
    rig.model.cache_dirty = {50}.union(*(range(first, last + 1) for first, last in runs))
    rig.check()


@_case("the first row that a bit may be in")
def _first_row() -> None:
    for where in (SMALL, MANY):
        rig = Rig(_plain(), Schedule(), where, 1, page_bytes=LINE)
        ends = [region.first_bit + region.used_pages for region in rig.regions]
        for bit in range(0, 64 * where.words + 1):
            wanted = next((row for row, end in enumerate(ends) if end > bit), len(ends))
            row = rig.kernel(flush.first_row, rig.job, bit) - rig.job - 8 * job_table.JOB_FIELDS
            require(row == 8 * job_table.REGION_FIELDS * wanted, f"the row of bit {bit}")


@_case("a clean bitmap is passed over many words at a time")
def _passed_over() -> None:
    """As many strides as there are, then word by word, and never past the end."""
    machine = _plain().machine
    for end, accesses in ((1, 2), (31, 62), (32, 1), (33, 3), (64, 2), (65, 4), (97, 5)):
        machine.restart(Schedule())
        one, other = (machine.allocate(f"a bitmap of {end} words", 8 * end) for _ in range(2))
        found = _plain().function(flush.next_dirty_word)(one, other, U64(0), U64(end))
        require(found == end, f"word {found} is not dirty")
        require(machine.accesses == accesses, f"{machine.accesses} looks")
        for which, dirty in product((one, other), range(end)):
            machine.store(which + 8 * dirty, 1 << 63)
            found = _plain().function(flush.next_dirty_word)(one, other, U64(0), U64(end))
            require(found == dirty, f"word {found} is found, and not {dirty}")
            machine.store(which + 8 * dirty, 0)


@_case("the size of a batch")
def _batch() -> None:
    rig = _alone()
    for dirty, threads, wanted in (
        *((0, 2, 32), (1023, 2, 32), (1056, 2, 33), (2048, 2, 64), (2048, 4, 32)),
        *((4096, 2, 128), (4095, 2, 127), (10**6, 2, 128)),
    ):
        found = rig.kernel(check_in.batch_size, dirty, threads)
        require(found == wanted, f"{dirty} pages, {threads} threads: {found}")


@_case("a search by halves")
def _by_halves() -> None:
    for where in (SMALL, layout((0, 64 * 2 * STRETCH + 1, 64 * 2 * STRETCH + 1))):
        _search(Rig(_plain(), Schedule(), where, 1, page_bytes=LINE))


def _search(rig: Rig) -> None:
    n_words = rig.layout.words
    rig.dirty(_epoch("serial", rig.layout, 7, 64))
    for first in range(0, n_words, 2 * STRETCH):
        last = min(first + 2 * STRETCH, n_words)
        rig.kernel(flush.index_words, rig.job, first, last)
    union = rig.model.cache_dirty | rig.model.host_dirty
    require(rig.kernel(flush.add_up_stretches, rig.job) == len(union), "how many there are")
    within, below = map(rig.machine.words, (rig.index, rig.stretches))
    before = [int(below[word // STRETCH]) + int(n) for word, n in enumerate(within)]
    counts = [sum(bit < 64 * word for bit in union) for word in range(n_words + 1)]
    require(before == counts[:-1], "the index")
    for pages in range(len(union) + 1):
        wanted = next(word for word, count in enumerate(counts) if count >= pages)
        found = rig.kernel(flush.first_word_with, rig.job, pages)
        require(found == wanted, f"{pages} pages below word {found}")


@_case("what is counted, and in which words it lies")
def _counted() -> None:
    """Some words at once, from a dirty one on; with enough counted, and more behind, to the RAM's end."""
    n_words = 3 * COUNTED_AT_ONCE + 1
    rig = Rig(_plain(), Schedule(), layout((0, 64 * n_words, 64 * n_words)), 1, page_bytes=LINE)
    edges = range(0, 64 * n_words, 63)
    for one, other in product(edges, edges):
        pages = frozenset({one, other}), frozenset({other, min(other + 64, 64 * n_words - 1)})
        for epoch in (Epoch("serial", *pages), Epoch("serial", pages[1], frozenset())):
            rig.dirty(epoch)
            union = epoch.cache_dirty | epoch.host_dirty
            for enough in range(4):
                found = _plain().function(flush.count_either)(rig.job, U64(enough))
                wanted = _as_counted(union, n_words, enough)
                require(found == wanted, f"of {sorted(union)} {found} is counted, not {wanted}")
    rig.dirty(Epoch("serial", frozenset(), frozenset()))
    found = _plain().function(flush.count_either)(rig.job, U64(0))
    require(found == (0, n_words, n_words), f"of nothing {found} is counted")


def _as_counted(union: frozenset[int], n_words: int, enough: int) -> tuple[int, int, int]:
    left = sorted(union)
    first = last = left[0] // 64
    while left and len(union) - len(left) <= enough:
        last = min(left[0] // 64 + COUNTED_AT_ONCE, n_words)
        left = [bit for bit in left if bit >= 64 * last]
    return len(union) - len(left), first, n_words if left else last


@_case("the words that the caller flushes alone")
def _alone_from_to() -> None:
    """Those and no others; in a static round all, by whatever words are named."""
    union = set(range(0, 64 * SMALL.words)) & set(SMALL.used())
    for strategy, first, last in (
        *((strategies.SERIAL, *words) for words in combinations_with_replacement(range(5), 2)),
        *((strategies.SERIAL, 0, SMALL.words), (strategies.STATIC, 1, 2)),
        *((strategies.STATIC, 0, 0), (strategies.SERIAL, SMALL.words, SMALL.words)),
    ):
        rig = Rig(_plain(), Schedule(), SMALL, 2, page_bytes=LINE)
        rig.dirty(Epoch("serial", frozenset(union), frozenset(union)))

        def caller(
            rig: Rig = rig, strategy: int = int(strategy), first: int = first, last: int = last
        ) -> None:
            rig.kernel(check_in.start_round, rig.control, rig.job, strategy, 2)
            rig.kernel(check_in.flush_alone, rig.control, 2, first, last)

        rig.machine.run(caller)
        whole = strategy == strategies.STATIC
        done = {bit for bit in union if whole or first <= bit // 64 < last}
        model = rig.model
        model.host = {bit: (model.cache if bit in done else model.host)[bit] for bit in model.host}
        model.cache_dirty, model.host_dirty = union - done, union - done
        rig.check()
        require(rig.copied(0) == len(done), "how many pages the caller says that it has copied")


def _on_nodes(where: Layout, in_all: int, threads: Sequence[int], row: int = 2) -> Nodes:
    """Words lie on the nodes in turn, ``row`` at a time; of a last one there is no word."""
    return Nodes([(word // row + 1) % in_all for word in range(where.words)], threads)


@_case("words by node")
def _by_node() -> None:
    """The index, word by word; dirty words that lie in a row, one row after the other; one's own node."""
    for of_threads, own in (([1], 1), ([], 0)):
        rig = _alone(nodes=_on_nodes(SMALL, 2, of_threads))
        require(rig.kernel(nodes.own_node, rig.job) == own, "the node of the CPU")
    for in_all, row in ((2, 2), (3, 1), (2, 5)):
        rig = _alone(nodes=_on_nodes(SMALL, in_all, [1], row))
        rig.dirty(Epoch("by node", frozenset({66, 330, 331, 590}), frozenset({3, 331, 400})))
        rig.kernel(nodes.index_places, rig.job, 0, SMALL.words)
        dirty = rig.kernel(flush.add_up_stretches, rig.job)
        rig.kernel(nodes.number_nodes, rig.job, dirty)
        union = rig.model.cache_dirty | rig.model.host_dirty
        words = [sum(1 << bit % 64 for bit in union if bit // 64 == w) for w in range(SMALL.words)]
        runs = [Run((w // row + 1) % in_all, 64 * w, 64 * w + 64) for w in range(SMALL.words)]
        wanted = index_by_node(words, runs, in_all)
        within, below = map(rig.machine.words, (rig.index, rig.stretches))
        before = [below[place // STRETCH] + n for place, n in enumerate(within)]
        require([*before, dirty] == wanted.before, "the index")
        begins = [rig.kernel(nodes.first_page_of_node, rig.job, n) for n in range(in_all + 1)]
        require(begins == list(wanted.begins), "where the nodes begin")
        require(rig.kernel(nodes.number_of_nodes, rig.job) == in_all, "how many nodes")
        for place in range(SMALL.words + 1):
            for end in range(place, SMALL.words + 1):
                found = _plain().function(nodes.next_dirty_words)(rig.job, U64(place), U64(end))
                in_a_row = _in_a_row(wanted.words, wanted.before, place, end)
                require(found == in_a_row, f"of places {place} to {end}: {found}, not {in_a_row}")


def _in_a_row(
    order: Sequence[int], before: Sequence[int], place: int, end: int
) -> tuple[int, int, int]:
    dirty = [p for p in range(place, end) if before[p] < before[p + 1]]
    if not dirty:
        return 0, 0, end
    last = next(p for p in range(dirty[0] + 1, end + 1) if p == end or order[p] != order[p - 1] + 1)
    return order[dirty[0]], order[last - 1] + 1, last


@_case("how pages are copied")
def _ways() -> None:
    ways = flush.ORDINARY, flush.STREAMING, flush.STREAMING_CACHE_ONLY, flush.STREAMING_FETCHING
    ordinary, streaming, cache_only, fetching = map(int, ways)
    for limits, page_bytes, dirty, wanted in (
        *(
            (FETCHING, 64, 15, fetching),
            (FETCHING, 64, 16, streaming),
            (FETCHING, 128, 1, fetching),
        ),
        *(
            (FETCHING, 192, 1, streaming),
            (FETCHING, 192, 0, ordinary),
            (FETCHING, 100, 10, fetching),
        ),
        *((FETCHING, 91, 11, streaming), (FETCHING, 129, 1, streaming), (_EACH, 64, 7, ordinary)),
        *((_EACH, 100, 5, ordinary), (_EACH, 64, 8, fetching), (_EACH, 64, 16, streaming)),
        *((_ORDINARY, 64, 15, ordinary), (_ORDINARY, 64, 16, streaming)),
        *((_ORDINARY, 91, 11, streaming), (_ORDINARY, 100, 10, ordinary)),
        *((_EACH_CACHE_ONLY, 64, 7, ordinary), (_EACH_CACHE_ONLY, 64, 8, fetching)),
        *((_EACH_CACHE_ONLY, 64, 16, cache_only), (_CACHE_ONLY, 64, 1, cache_only)),
    ):
        rig = Rig(_plain(), Schedule(), SMALL, 1, page_bytes=page_bytes, ways=limits)
        rig.kernel(flush.choose_copy, rig.control, rig.job, dirty)
        require(rig.field(job_table.COPYING) == wanted, f"{dirty} pages of {page_bytes} bytes")


@_case("what is fetched ahead")
def _fetched() -> None:
    """Of the next page the beginning, or all, and a line of its host, or none; where it lies apart."""
    page_bytes, where = 2 * LINE, SMALL
    for limits, few, skew in (
        *((FETCHING, True, 0), (FETCHING, False, 0), (_ORDINARY, True, 0)),
        *((_ORDINARY, False, 0), (_ORDINARY, True, 8), (_CACHE_ONLY, True, 0)),
    ):
        rig = Rig(_plain(), Schedule(), where, 1, page_bytes=page_bytes, skew=skew, ways=limits)
        pages = [0, 2, 3, 69, 73]
        pages += [] if few else [63, 64, 100, 136, 140, 200, 264, 599]
        rig.live([Epoch("serial", frozenset(pages), frozenset())])
        way = rig.field(job_table.COPYING) if not skew else int(flush.ORDINARY)
        fetched = [*_of_every_flush(rig), *_wanted(rig, sorted(pages), way)]
        require(rig.machine.fetched == fetched, "what is fetched")


def _of_every_flush(rig: Rig) -> Iterator[int]:
    """The lines that every flush looks at, fetched when it begins."""
    yield from (rig.control + int(word) for word in (c.UNFORKED, c.ROUND, c.SERIAL_BELOW))
    yield rig.control + rig.line(0)
    yield from (rig.job + at for at in (0, LINE, int(job_table.ROWS)))


def _wanted(rig: Rig, pages: list[int], way: int) -> Iterator[int]:
    """The lines that should be fetched, in order."""
    for region in rig.regions:
        mine = [bit for bit in pages if bit in region.bits]
        first = region.first_bit
        for bit, soon in pairwise(mine):
            if soon != bit + 1:
                at, host = (
                    memory[first] + (soon - first) * rig.page_bytes
                    for memory in (rig.cache, rig.host)
                )
                whole = way == int(flush.STREAMING_FETCHING)
                length = rig.page_bytes if whole else 8 * LINE
                if way == int(flush.ORDINARY):
                    yield from range(at, at + length, LINE)
                    yield from range(host, host + length, LINE)
                else:
                    yield from () if way == int(flush.STREAMING_CACHE_ONLY) else (host,)
                    yield from range(at, at + length, LINE)


# Pools.


def _pool(schedule: Schedule, threads: int, where: Layout = SMALL, *, skew: int = 0) -> Rig:
    """Two flushes by each strategy, then the pool is closed; the model explains what it has logged."""
    rig = Rig(_plain(), schedule, where, threads, page_bytes=LINE, skew=skew)
    rig.live([_epoch(s, where) for s in ALL] + [_halves(s, where) for s in ALL], _as_dealt)
    _explained(rig)
    return rig


def _explained(rig: Rig, *, static: bool = True) -> None:
    """The model explains what is logged; and whoever has gone to sleep has said so."""
    events = rig.events()
    found = explain(events)
    require(found.accepted, f"the model does not explain {', '.join(found.unexplained)}")
    for thread, logged in zip(rig.machine.threads, events, strict=True):
        said = sum(event.name in ("helper park", "caller park") for event in logged)
        # In a static round the caller also sleeps on COMPLETED, and has no event for it.
        require(
            said == thread.sleeps or (static and not thread.number), "a sleep that is not logged"
        )


def _as_dealt(rig: Rig, epoch: Epoch) -> None:
    """In a static round each worker flushes its share."""
    union = epoch.cache_dirty | epoch.host_dirty
    if epoch.strategy == "static" and rig.opened:
        for worker in range(rig.threads):
            require(
                rig.copied(worker) == rig.share_of(worker, union), "a share is not its worker's"
            )


@_case("alone")
def _by_itself() -> None:
    _pool(Schedule(), 1)


@_case("three threads, the caller first")
def _caller_first() -> None:
    _pool(CallerFirst(), 3)


@_case("two threads, the helper first")
def _helper_first() -> None:
    rig = _pool(HelpersFirst(), 2)
    woken = [event.values["woken"] for event in rig.events()[0] if event.name == "wake"]
    require(1 in woken, "who is woken is not logged")


@_case("by node")
def _pool_by_node() -> None:
    """Each asks its own node first, and then all; a thread of a CPU that is not known, the first."""
    for schedule, where, in_all, threads in (
        *((InTurn(40), SMALL, 2, (1, 0)), (CallerFirst(), SMALL, 3, (2,))),
        *((HelpersFirst(), MANY, 4, (0, 1, 3)), (Anyhow(1), SMALL, 2, (1, 1, 0))),
    ):
        on = _on_nodes(where, in_all, threads)
        workers = len(threads) + 1
        rig = Rig(_plain(), schedule, where, workers, page_bytes=LINE, nodes=on)
        rig.live([_epoch("by node", where), _halves("by node", where), _epoch("dynamic", where)])
        _explained(rig)
        for worker, logged in enumerate(rig.events()):
            own = threads[worker] if worker < len(threads) else 0
            first = [
                event.values["node"]
                for before, event in pairwise(logged)
                if event.name == TAKES and before.name not in (TAKES, "done")
            ]
            require(set(first) <= {own}, f"worker {worker} begins with {first}")
            asked = {event.values["node"] for event in logged if event.name == TAKES}
            require(asked in (set(), set(range(in_all))), f"worker {worker} asks {asked}")


@_case("three threads, in turn, many blocks")
def _in_turn() -> None:
    _pool(InTurn(40), 3, MANY)


@_case("not on a line's boundary")
def _skewed() -> None:
    _pool(InTurn(90), 2, skew=8)
    _pool(Schedule(), 1, skew=1)


@_case("who looks before it sleeps")
def _spinning() -> None:
    """For a number of nanoseconds; with none it does not look around at all. (Copiers of a queue do.)"""
    for strategy in ("dynamic", "static"):
        for spin, schedule in (
            *((60, InTurn(25)), (10**6, InTurn(25))),
            *((0, InTurn(25)), (0, CallerFirst())),
        ):
            rig = Rig(_plain(), schedule, SMALL, 2, page_bytes=LINE, spin=spin, alone=1)
            rig.live([_halves(strategy, SMALL)] * 4)
            for thread in rig.machine.threads:
                looks = thread.gave_way
                require(looks if spin else not looks, f"thread {thread.number} looks {looks} times")
                enough = spin > rig.machine.clock - 10**9
                require(not (enough and thread.sleeps), "it sleeps although it may look for long")


@_case("many short rounds, anyhow")
def _short_rounds() -> None:
    used = sorted(SMALL.used())
    few = [frozenset(used[start::97]) for start in range(6)]
    for seed in range(6):
        schedule = Stalling(seed, 3) if seed % 3 else Anyhow(seed, 0.6)
        rig = Rig(_plain(), schedule, SMALL, 3, page_bytes=LINE)
        strategies = ("dynamic", "queue", "static") if seed % 2 else ("dynamic", "queue")
        rig.live([Epoch(s, pages, frozenset()) for pages in few for s in strategies], _as_dealt)
        _explained(rig, static=bool(seed % 2))


def _has_rung(rig: Rig) -> bool:
    return rig.get(c.DOORBELL) > 0


@_case("a helper comes twice in a round")
def _twice() -> None:
    """It has looked at the doorbell before it rang: so it looks again, and has nothing to do."""
    for looks in range(2, 5):
        schedule = LateOpening(looks)
        rig = Rig(_plain(), schedule, SMALL, 2, page_bytes=LINE)
        schedule.opened = partial(_has_rung, rig)
        rig.live([_halves("dynamic", SMALL)] * 2)
        _explained(rig)


@_case("a helper comes too late")
def _too_late() -> None:
    """The round is closed, though somebody is inside: it does not check in."""
    schedule = LateHelper()
    rig = Rig(_plain(), schedule, SMALL, 3, page_bytes=LINE)

    def state() -> Literal["nobody inside", "open", "closed"]:
        word = rig.get(c.STATE)
        if not word & check_in_protocol.INSIDE:
            return "nobody inside"
        return "open" if word & check_in_protocol.OPEN else "closed"

    schedule.state = state
    rig.live([_halves("dynamic", SMALL)] * 2)
    _explained(rig)
    names = [[event.name for event in worker] for worker in rig.events()]
    require("check in" in names[1], "the first helper is inside")
    require("check in" not in names[2], "the second helper is not")


@_case("three threads, anyhow")
def _anyhow() -> None:
    for seed in range(3):
        _pool(Anyhow(seed), 3)


@_case("sparse")
def _sparse() -> None:
    where = SPARSE
    used = sorted(where.used())
    for first, last in ((0, len(used) - 1), (64, 64 * 40), (64 * 33 + 5, 64 * 76 + 63)):
        rig = Rig(_plain(), Schedule(), where, 1, page_bytes=LINE)
        rig.live([Epoch("serial", frozenset({used[first]}), frozenset({used[last]}))])


@_case("everybody works")
def _shared() -> None:
    where = LONG
    pages = frozenset(range(0, 300 * 64, 33))
    epochs = [Epoch(strategy, pages, frozenset()) for strategy in ("dynamic", "queue", "static")]

    def share(rig: Rig, epoch: Epoch) -> None:
        done = [rig.copied(worker) for worker in range(rig.threads)]
        require(min(done) > len(pages) // 10, f"{epoch.strategy}: the workers have copied {done}")

    for schedule in (InTurn(150), InTurn(11)):
        rig = Rig(_plain(), schedule, where, 3, page_bytes=LINE)
        rig.live(epochs, share)


@_case("a large flush")
def _large() -> None:
    """Its batches are larger; and it chooses how to copy by what is dirty now."""

    def chosen(rig: Rig, epoch: Epoch) -> None:
        many = len(epoch.cache_dirty) > 100
        require(rig.get(c.GRAIN) == (120 if many else 32), "the size of a batch")
        way = flush.STREAMING if many else flush.STREAMING_FETCHING
        require(rig.field(job_table.COPYING) == int(way), "how pages are copied")

    rig = Rig(_plain(), Schedule(), LONG, 2, page_bytes=LINE)
    sizes = (range(0, 300 * 64, 5), range(0, 640, 64))
    rig.live([Epoch("dynamic", frozenset(pages), frozenset()) for pages in sizes], chosen)


@_case("a wrong count")
def _wrong_count() -> None:
    rig = Rig(_plain(), Schedule(), SMALL, 1, page_bytes=LINE)
    rig.dirty(_epoch("serial", SMALL))
    rig.machine.words(rig.job)[job_table.place(job_table.DIRTY_PAGES)] += 5
    flush_it = partial(rig.kernel, check_in.flush_once, rig.control, rig.job)
    rig.machine.run(partial(flush_it, int(strategies.SERIAL), 1))
    left = rig.get(int(c.TOTALS) + int(c.LEFT)), rig.field(job_table.DIRTY_PAGES)
    require(left == (5, 5), f"{left} are left, of 5 that were too many")


@_case("a full queue")
def _full() -> None:
    pages = frozenset(range(0, 300 * 64, 64))

    def by_whom(rig: Rig, epoch: Epoch) -> None:
        want = {CallerFirst: rig.copied(0), HelpersFirst: rig.copied(1)}[type(rig.machine.schedule)]
        require(want == len(pages), "a worker that is never held up does not do it all")

    for schedule in (CallerFirst(), HelpersFirst()):
        rig = Rig(_plain(), schedule, LONG, 2, page_bytes=LINE)
        rig.live([Epoch("queue", pages, frozenset())] * 2, by_whom)


@_case("few pages")
def _few() -> None:
    def opened(rig: Rig, epoch: Epoch) -> None:
        dirty = len(epoch.cache_dirty | epoch.host_dirty)
        few = dirty <= 10 and epoch.strategy != "static"
        alone = few or epoch.strategy == "serial"
        rounds = 0 if alone else 2 if epoch.strategy == "dynamic" else 1
        require(rig.opened == rounds, f"{epoch.strategy}: {rig.opened} rounds are opened")
        require(not alone or rig.copied(0) == dirty, "the caller flushes alone")

    used = sorted(SMALL.used())
    sizes = (0, 1, 10, 11, 200)
    for of_host in (False, True):
        pages = [frozenset(islice(used, n)) for n in sizes]
        each = [(frozenset[int](), some) if of_host else (some, frozenset[int]()) for some in pages]
        rig = Rig(_plain(), InTurn(40), SMALL, 2, page_bytes=LINE, alone=10 * LINE)
        rig.live([Epoch(s, *both) for s in ALL for both in each], opened)
        _explained(rig)


@_case("who makes the index")
def _indexed() -> None:
    for words, rounds in ((2 * STRETCH, 1), (2 * STRETCH + 1, 2), (5 * STRETCH, 2)):

        def opened(rig: Rig, epoch: Epoch, rounds: int = rounds) -> None:
            require(rig.opened == rounds, f"{rig.opened} rounds are opened")

        where = layout((0, 64 * words, 64 * words))
        for kind, on in (("dynamic", None), ("by node", _on_nodes(where, 2, (0, 1)))):
            rig = Rig(_plain(), InTurn(3), where, 3, page_bytes=LINE, nodes=on)
            # Of one word only: by an index of other places it would be passed over.
            one_page = Epoch(kind, frozenset({1}), frozenset())
            rig.live([_epoch(kind, where), _halves(kind, where), one_page], opened)
            _explained(rig)


@_case("how much is counted")
def _enough() -> None:
    for ways, alone, page_bytes in (
        *((Ways(1000, 500), 0, LINE), (Ways(500, 1000), 700, LINE), (Ways(0, 64), 700, 100)),
        *((Ways(700, 700), 699, 100), (Ways(0, 0), 0, LINE)),
    ):
        rig = Rig(_plain(), Schedule(), SMALL, 2, page_bytes=page_bytes, ways=ways, alone=alone)
        most = rig.kernel(check_in.most_that_matters, rig.control, rig.job)
        require(most == max(ways.ordinary, ways.fetching, alone) // page_bytes, f"{most} pages")


@_case("a forked child")
def _forked() -> None:
    last = max(SMALL.used())
    few = [Epoch(s, frozenset({last}), frozenset()) for s in ALL]
    epochs = [*(_epoch(s, SMALL) for s in ALL), *few]
    for zeroed in (False, True):
        rig = Rig(_plain(), Schedule(), SMALL, 3, page_bytes=LINE, forked=True)
        rig.put(c.STATE, int(c.OPEN) + 2)
        # Where Linux zeroes a child's memory, and where it does not.
        for word in (c.STATE, c.DOORBELL, c.OWNER, c.HELPERS, c.ARRIVED) if zeroed else ():
            rig.put(word, 0)

        def life(rig: Rig = rig) -> None:
            for epoch in epochs:
                rig.flush(epoch)

        rig.machine.run(life)
        _is_the_childs(rig)


@_case("a process that made its pool")
def _unforked() -> None:
    """It asks Linux for its number only where Linux would not tell its children."""
    for tells in (1, 0):
        rig = Rig(_plain(), InTurn(3), SMALL, 3, page_bytes=LINE)
        rig.put(c.UNFORKED, tells)
        rig.live([_epoch("dynamic", SMALL), _epoch("static", SMALL)])
        require(rig.get(c.HELPERS) == 2, "its helpers stay")
        require(rig.machine.asked_who == (0 if tells else 2), "how often it asks")
        _explained(rig)


@_case("a forked child backs up")
def _forked_backup() -> None:
    rig = Rig(_plain(), Schedule(), SMALL, 3, page_bytes=LINE, forked=True)
    rig.dirty(_epoch("dynamic", SMALL))
    backup = partial(rig.kernel, check_in.back_up_once, rig.control, rig.job, 1, rig.threads)
    rig.machine.run(backup)
    _is_the_childs(rig)


def _is_the_childs(rig: Rig) -> None:
    owner, helpers = rig.get(c.OWNER), rig.get(c.HELPERS)
    require(owner == rig.machine.process and helpers == 0, "whose helpers")
    require(rig.get(c.STATE) == 0, "STATE is the parent's")
    require(rig.machine.words(rig.logs[0])[0] == rig.logs[0] + 32, "the parent's log is written")


@_case("stray bits")
def _stray() -> None:
    tight = layout((0, 60, 60), (65, 64, 64), (130, 3, 64))
    for where, strays in (
        (SMALL, (71, 72, 137, 150, 199, 600, 639)),
        (MANY, (1, 320, 449, 1466)),
        (tight, (60, 63, 64, 129, 133, 255)),
    ):
        for stray in strays:
            rig = Rig(_plain(), Schedule(), where, 2, page_bytes=LINE)
            whole = _epoch("dynamic", where)
            later = {64 * where.words - 1}
            rig.live(
                [
                    Epoch("dynamic", whole.cache_dirty | {stray}, whole.host_dirty),
                    Epoch("static", whole.cache_dirty, whole.host_dirty | {stray} | later),
                ]
            )


@_case("a backup")
def _backup() -> None:
    for schedule, threads, skew in (
        (InTurn(30), 3, 0),
        (CallerFirst(), 2, 8),
        (Schedule(), 1, 1),
        (HelpersFirst(), 2, 0),
    ):
        for where, grain in ((SMALL, 1), (MANY, 2), (layout((0, 128, 128)), 1), (LONG, 9)):
            rig = Rig(_plain(), schedule, where, threads, page_bytes=LINE, skew=skew)

            def caller(
                rig: Rig = rig, where: Layout = where, grain: int = grain, skew: int = skew
            ) -> None:
                rig.dirty(_epoch("dynamic", where))
                rings = rig.get(c.DOORBELL)
                rig.kernel(check_in.back_up_once, rig.control, rig.job, grain, rig.threads)
                model = rig.model
                model.cache = dict(model.host)
                model.cache_dirty, model.host_dirty, model.dirty_pages = set(), set(), 0
                rig.check()
                pages = sum(region.used_pages for region in where.regions)
                require(rig.machine.copied == pages * LINE, "not every page is copied once")
                require(rig.machine.streamed == (0 if skew else pages * LINE), "how it is copied")
                require(rig.get(c.DOORBELL) == rings + 1, "nobody was called")
                rig.kernel(check_in.dismiss, rig.control)

            for worker in range(1, threads):
                rig.machine.start(partial(rig.kernel, check_in.helper, rig.control, worker))
            rig.machine.run(caller)
