"""The dirty count: how it stays equal to the number of set cache bits, and reaches zero."""

import z3

from model import walk
from proofs.prover import symbolic
from proofs.prover.obligation import Listed, Proof, claim, faulty, without
from proofs.prover.symbolic import Bitmap, Natural, Truth, every, forall, implies, natural, select
from proofs.shares import a_split
from proofs.walk import a_walk, a_window, any_iteration, begun

_ONES = z3.RecFunction("ones", symbolic.BITMAP, z3.IntSort(), z3.IntSort())
_bits, _n = z3.Const("bits", symbolic.BITMAP), z3.Int("n")
_last = z3.If(_bits[_n - 1], z3.IntVal(1), z3.IntVal(0))
z3.RecAddDefinition(_ONES, [_bits, _n], z3.If(_n <= 0, z3.IntVal(0), _ONES(_bits, _n - 1) + _last))


def ones(bitmap: Bitmap, pages: Natural) -> Natural:
    """How many of the first ``pages`` bits are set, by recursion: what a recount would find."""
    return Natural(_ONES(bitmap.z, pages.z))


def one_fewer(pages: Natural, bitmap: Bitmap, page: Natural) -> Truth:
    """Clearing a bit below ``pages`` lowers the number of set bits by one if it was set."""
    was_set = (page >= 0) & (page < pages) & bitmap[page]
    after = ones(symbolic.clear(bitmap, page), pages)
    return after + was_set.as_number() == ones(bitmap, pages)


def none_set(pages: Natural, bitmap: Bitmap) -> Truth:
    """If no bit below ``pages`` is set their number is zero."""
    return implies(no_page(bitmap, natural(0), pages), ones(bitmap, pages) == 0)


@claim(
    faulty("lost decrement", refutes="an iteration clears the bit it counts"),
    without("the count is right at the start", refutes="the dirty count is zero"),
    without("no stray bit", refutes="no page is dirty at the end"),
)
def the_dirty_count_reaches_zero(p: Proof) -> None:
    """After a flush the dirty count is zero, whatever the blocks, the pages and the threads.

    Every iteration of every walk keeps the difference between the count and the number of set cache bits;
    every page in use has been walked (``blocks.every_page_of_a_block_has_one_window``) and is clear
    (``walk.a_window_is_flushed``); so in the end none is set.
    """
    pages, threads = a_split(p)
    (dirty_pages,) = p.naturals("dirty_pages")
    at_start, in_use, at_end = p.bitmaps("at_start in_use at_end")
    (left,) = p.naturals("left")
    p.witness(pages == 2, threads == 1)
    p.scenario(
        "whole flush",
        pages=pages,
        threads=threads,
        in_use=Listed(in_use, pages),
        cache_dirty=Listed(at_start, pages),
        host_dirty=[],
        dirty_pages=dirty_pages,
    )
    each_turn_keeps_the_count(p, pages)

    p.assume("the count is right at the start", dirty_pages == ones(at_start, pages))
    p.assume("no stray bit", forall(lambda k: implies(at_start[k], in_use[k])))
    p.assume("pages in use are walked", forall(lambda k: at_end[k] == (at_start[k] & ~in_use[k])))
    p.assume("iterations", left - ones(at_end, pages) == dirty_pages - ones(at_start, pages))
    p.prove("no page is dirty at the end", no_page(at_end, natural(0), pages))
    zero = p.by_induction("no bit set, none counted", none_set, at_end)
    zero(pages, at_end)
    p.prove("the dirty count is zero", left == 0)


def each_turn_keeps_the_count(p: Proof, pages: Natural) -> None:
    """An iteration of a walk over any block lowers the count by as many cache bits as it clears."""
    first, used, limit = p.naturals("first used limit")
    before, after = p.bitmaps("before after")
    fewer = p.by_induction("clearing a set bit lowers the number by one", one_fewer, before, first)
    iteration = a_walk(p)

    def inside(k: Natural) -> Truth:
        return (first <= k) & (k < first + used)

    with p.case():
        p.assume("a block of the RAM", first + used <= pages, limit <= used)
        p.assume(
            "its part",
            forall(
                lambda k: implies(
                    (k >= 0) & (k < used), iteration.cache_dirty[k] == before[first + k]
                )
            ),
        )
        done = p.lift(walk.step)(iteration, used, limit)
        p.assume(
            "its part after the iteration",
            forall(lambda k: after[k] == select(inside(k), done.cache_dirty[k - first], before[k])),
        )
        found = first + done.cache_next
        same = (after == before) & (done.dirty_pages == iteration.dirty_pages)
        lowered = every(
            found < pages,
            before[found],
            after == symbolic.clear(before, found),
            done.dirty_pages == iteration.dirty_pages - 1,
        )
        p.prove("an iteration clears the bit it counts", same | lowered)
        fewer(pages, before, found)
        p.prove(
            "each iteration keeps the count",
            done.dirty_pages - ones(after, pages) == iteration.dirty_pages - ones(before, pages),
        )


def no_page(bitmap: Bitmap, start: Natural, end: Natural) -> Truth:
    """No bit is set in ``[start, end)``."""
    return forall(lambda k: implies((k >= start) & (k < end), ~bitmap[k]))


def none_between(n: Natural, bitmap: Bitmap, start: Natural) -> Truth:
    """If none of the ``n`` bits from ``start`` is set, they add nothing to the number of set bits."""
    clear = no_page(bitmap, start, start + n)
    return implies((start >= 0) & clear, ones(bitmap, start + n) == ones(bitmap, start))


@claim(
    faulty("pages in both not counted", refutes="each iteration counts its page: both_dirty"),
    faulty("host pages counted when behind", refutes="each iteration counts its page: host_dirty"),
    faulty("counters not reset", refutes="the counters begin at zero"),
)
def the_counters_are_right(p: Proof) -> None:
    """``host_dirty`` and ``both_dirty`` come out as the pages of the window that are set there.

    Between two iterations a counter is the number of such pages up to ``offset``.
    """
    window = a_window(p)
    hosts, boths = p.bitmaps("host_window both_window")
    p.assume(
        "what is to be counted",
        forall(lambda k: hosts[k] == (window.holds(k) & window.host[k])),
        forall(lambda k: boths[k] == (hosts[k] & window.cache[k])),
    )
    with p.case():
        (given,) = p.naturals("given")
        start = begun(p, window, given)
        p.prove(
            "the counters begin at zero",
            start.dirty_pages == given,
            natural(start.host_count) == 0,
            natural(start.both_count) == 0,
        )
    iteration = any_iteration(p, window)
    seen = select(iteration.fresh, iteration.before.offset, iteration.before.offset + 1)
    reached = select(iteration.finished, window.limit, iteration.after.offset)
    none = p.by_induction("no bit set, none counted", none_set, hosts)
    nothing = p.by_induction("no bit between, none counted", none_between, hosts, seen)
    for name, bits, before, after in (
        ("host_dirty", hosts, iteration.before.host_count, iteration.after.host_count),
        ("both_dirty", boths, iteration.before.both_count, iteration.after.both_count),
    ):
        counted = select(iteration.finished, ones(bits, window.limit), ones(bits, reached + 1))
        none(window.start, bits)
        p.prove(f"it begins at zero: {name}", ones(bits, window.start) == 0)
        p.assume("counted so far", before == ones(bits, seen))
        p.prove(f"no page is passed over: {name}", no_page(bits, seen, reached))
        nothing(reached - seen, bits, seen)
        p.prove(f"each iteration counts its page: {name}", after == counted)
