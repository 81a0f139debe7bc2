"""The patch's dual-bitmap walk, over a window of any size: one inductive invariant."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from model import walk
from model.walk import WalkOf
from proofs.prover.obligation import Listed, Proof, claim, faulty, without
from proofs.prover.symbolic import (
    Bitmap,
    Natural,
    Truth,
    every,
    forall,
    implies,
    natural,
    select,
    truth,
)

Walk: TypeAlias = WalkOf[Natural, Bitmap]


class Window(NamedTuple):
    """Pages ``[start, limit)`` of a block of ``used`` pages, and its bitmaps as they were."""

    start: Natural
    limit: Natural
    used: Natural
    cache: Bitmap
    host: Bitmap

    def holds(self, page: Natural) -> Truth:
        """Is the page in the window?"""
        return (self.start <= page) & (page < self.limit)


def a_window(p: Proof) -> Window:
    """Any window of a block of any size, any bitmaps."""
    start, limit, used = p.naturals("start limit used")
    window = Window(start, limit, used, *p.bitmaps("cache host"))
    p.assume("a window of the block", window.start <= window.limit, window.limit <= window.used)
    p.witness(window.start == 1, window.limit == 2, window.used == 2)
    p.scenario(
        "one window",
        start=window.start,
        limit=window.limit,
        used=window.used,
        cache_dirty=Listed(window.cache, window.used),
        host_dirty=Listed(window.host, window.used),
    )
    return window


def a_walk(p: Proof) -> Walk:
    """Any state a walk could be in."""
    offset, cache_next, host_next = p.naturals("offset cache_next host_next")
    cache_now, host_now, copied = p.bitmaps("cache_now host_now copied")
    counts = p.naturals("dirty_pages host_count both_count")
    return Walk(offset, cache_next, host_next, cache_now, host_now, copied, *counts)


def begun(p: Proof, window: Window, dirty_pages: Natural) -> Walk:
    """The walk about to enter the window, with the dirty count as it is."""
    begin = p.lift(walk.begin)
    (nothing,) = p.bitmaps("nothing")
    p.assume("nothing is copied", forall(lambda k: ~nothing[k]))
    start: Walk = begin(window.start, window.cache, window.host, nothing, dirty_pages)
    return start


def walked(state: Walk, fresh: Truth, window: Window) -> Truth:
    """The invariant of the loop in ``colo_flush_thread``, between two iterations.

    ``fresh``: nothing has been searched yet. A cursor has passed, and cleared, the dirty pages up to
    and including the one it stands on; every dirty page up to ``offset`` has been copied.
    """
    at = state.offset

    def settled(cursor: Natural, was: Bitmap, now: Bitmap) -> Truth:
        return every(
            cursor >= at,
            forall(lambda k: now[k] == (was[k] & ~(~fresh & window.holds(k) & (k <= cursor)))),
            forall(lambda k: implies((at < k) & (k < cursor) & (k < window.limit), ~was[k])),
            implies((at < cursor) & (cursor < window.limit), was[cursor]),
        )

    def done(page: Natural) -> Truth:
        passed: Truth = ~fresh & window.holds(page) & (page <= at)
        copied: Truth = state.copied[page]
        return copied == (passed & (window.cache[page] | window.host[page]))

    return every(
        window.start <= at,
        implies(fresh, (at == window.start) & (state.cache_next == at) & (state.host_next == at)),
        settled(state.cache_next, window.cache, state.cache_dirty),
        settled(state.host_next, window.host, state.host_dirty),
        forall(done),
    )


def flushed(state: Walk, window: Window) -> Truth:
    """Exactly the union is copied, both bitmaps are clear in the window and unchanged outside."""
    return every(
        forall(lambda k: state.copied[k] == ((window.cache[k] | window.host[k]) & window.holds(k))),
        forall(lambda k: state.cache_dirty[k] == (window.cache[k] & ~window.holds(k))),
        forall(lambda k: state.host_dirty[k] == (window.host[k] & ~window.holds(k))),
    )


class Iteration(NamedTuple):
    """An iteration of the loop, from any state in which the invariant holds."""

    before: Walk
    fresh: Truth
    after: Walk
    finished: Truth


def any_iteration(p: Proof, window: Window) -> Iteration:
    """An iteration from any state that the invariant allows; proves that it preserves the invariant."""
    state = a_walk(p)
    (fresh,) = p.truths("fresh")
    step, finished = p.lift(walk.step), p.lift(walk.finished)
    p.assume("between two iterations", walked(state, fresh, window))
    p.assume("the walk goes on", fresh | ~finished(state, window.limit))
    after = step(state, window.used, window.limit)
    p.prove("each iteration preserves the invariant", walked(after, truth(False), window))
    return Iteration(state, fresh, after, finished(after, window.limit))


@claim(
    faulty("bulk stage", refutes="each iteration preserves the invariant"),
)
def a_window_is_flushed(p: Proof) -> None:
    """The walk copies exactly the pages of its window dirty in either bitmap, and clears both there.

    Pages and bits outside the window stay as they were.
    """
    window = a_window(p)
    iteration = any_iteration(p, window)
    p.prove("at the end all is done", implies(iteration.finished, flushed(iteration.after, window)))
    p.prove(
        "it holds at the start", walked(begun(p, window, *p.naturals("given")), truth(True), window)
    )


@claim(
    faulty("search does not move on", refutes="each iteration preserves the invariant"),
)
def a_walk_ends(p: Proof) -> None:
    """Every iteration but the first copies a page above the last one, so limit - offset falls to 0."""
    window = a_window(p)
    iteration = any_iteration(p, window)
    last, now = iteration.before.offset, iteration.after.offset
    p.prove(
        "an iteration that does not finish copies a page further on",
        iteration.finished
        | ((now < window.limit) & ((last < now) | (iteration.fresh & (last == now)))),
    )


@claim(
    without("a window of the block", refutes="the same page is found and cleared"),
)
def searching_past_the_limit_is_harmless(p: Proof) -> None:
    """The patch's cache search runs past the window's limit; cut at the limit it would do the same.

    It costs time (each thread reads up to the end of its block), not correctness.
    """
    window, state = a_window(p), a_walk(p)
    search = p.lift(walk.search_cache)
    p.prefer(window.limit == 1, window.used == 0, state.offset == 0, state.cache_next == 0)
    p.prefer(window.start == 0, window.cache[0])
    past, cut = search(state, window.used, window.limit), search(state, window.limit, window.limit)
    beyond = (past.cache_next >= window.limit) & (cut.cache_next >= window.limit)
    p.prove(
        "the same page is found and cleared",
        past.cache_dirty == cut.cache_dirty,
        past.dirty_pages == cut.dirty_pages,
        (past.cache_next == cut.cache_next) | beyond,
    )


class Shared(NamedTuple):
    """What the walks of several threads share: both bitmaps of a block, pages copied, the dirty count."""

    cache_dirty: Bitmap
    host_dirty: Bitmap
    copied: Bitmap
    dirty_pages: Natural


def iterated(p: Proof, shared: Shared, mine: Walk, window: Window) -> tuple[Shared, Walk]:
    """An iteration of one thread's walk on what all share."""
    after = p.lift(walk.step)(mine._replace(**shared._asdict()), window.used, window.limit)
    return Shared(*(getattr(after, name) for name in Shared._fields)), after


def as_far_as_it_goes(mine: Walk, window: Window) -> Iterator[Natural | Truth]:
    """A walk's own numbers; a cursor beyond the window is as good as any other one there."""
    for name in ("offset", "host_count", "both_count"):
        yield getattr(mine, name)
    for cursor in (mine.cache_next, mine.host_next):
        yield select(cursor < window.limit, cursor, window.limit)


@claim(
    without("different windows", refutes="the other walk goes on as it would have"),
)
def walks_in_different_windows_commute(p: Proof) -> None:
    """Two threads' walks, in whichever order: bitmaps, count and both walks come out the same.

    Although the cache search of the one reads on into the window of the other, which clears bits
    there. So the patch's walk, run by several threads on windows of their own, is the serial one. The
    dirty count is lowered by atomic subtractions.
    """
    used, *bounds = p.naturals("used start limit other_start other_limit")
    cache, host, copied = p.bitmaps("cache host copied")
    shared = Shared(cache, host, copied, p.naturals("dirty_pages")[0])
    one, other = (Window(bounds[at], bounds[at + 1], used, cache, host) for at in (0, 2))
    p.scenario(
        "two walks",
        used=used,
        windows=bounds,
        cache_dirty=Listed(cache, used),
        host_dirty=Listed(host, used),
    )
    p.prefer(used <= 4)
    for window in (one, other):
        within = (window.start <= window.limit) & (window.limit <= used)
        p.assume("windows of the block", within)
    apart = (one.limit <= other.start) | (other.limit <= one.start)
    p.assume("different windows", apart)
    # What the control needs: both at the one page of the block.
    p.witness(used == 1, cache[natural(0)], *(bound == at % 2 for at, bound in enumerate(bounds)))
    walks = []
    for name, window in (("one", one), ("other", other)):
        numbers = ("offset", "cache_next", "host_next", "host_count", "both_count")
        its_own = {number: p.naturals(f"{name}_{number}")[0] for number in numbers}
        mine = Walk(**its_own, **shared._asdict())
        p.assume("at work there", window.holds(mine.offset))
        ahead = (mine.offset <= mine.cache_next) & (mine.offset <= mine.host_next)
        p.assume("its cursors are ahead", ahead)
        p.witness(*(number == 0 for number in its_own.values()))
        walks.append(mine)
    between, one_first = iterated(p, shared, walks[0], one)
    after, other_second = iterated(p, between, walks[1], other)
    between, other_first = iterated(p, shared, walks[1], other)
    after_too, one_second = iterated(p, between, walks[0], one)

    def same(mine: Walk, mine_too: Walk, window: Window) -> Truth:
        both = (as_far_as_it_goes(walk, window) for walk in (mine, mine_too))
        return every(*(a == b for a, b in zip(*both, strict=True)))

    p.prove("the other walk goes on as it would have", same(other_second, other_first, other))
    p.prove("and the one", same(one_first, one_second, one))
    p.prove("what they share is the same", *(a == b for a, b in zip(after, after_too, strict=True)))
