"""RAM that is added, resized or removed between flushes: the patch's defects, as claims and controls."""

from model import resize, shares
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import implies
from proofs.shares import a_split


@claim(faulty("bounds computed once", refutes="the last share ends where the RAM ends"))
def hot_added_ram_is_flushed(p: Proof) -> None:
    """Every page there is at a flush lies in some thread's share, whatever there was at the start."""
    now, threads = a_split(p)
    at_start, page = p.naturals("at_start page")
    p.assume("a page there is now", page < now)
    p.scenario("hot added", at_start=at_start, threads=threads, now=now, page=page)
    p.prefer(threads < 9, at_start >= 64 * threads, now % 64 == 0, page >= at_start)
    pages = p.lift(resize.pages_shared_out)(at_start, now)
    share = p.lift(shares.share)
    _, end = share(pages, threads, threads - 1)
    p.prove("the last share ends where the RAM ends", end == now)

    owner = p.lift(shares.owner)(pages, threads, page)
    lower, upper = share(pages, threads, owner)
    p.prove("its owner holds it", owner < threads, lower <= page, page < upper)


@claim(faulty("cache sized by used length", refutes="the cache has the page"))
def the_cache_covers_every_size(p: Proof) -> None:
    """A block's cache holds each page that the block has at any later size up to its maximum."""
    used_at_first, most, used, page = p.naturals("used_at_first most used page")
    p.assume("sizes", used_at_first <= most, used <= most, page < used)
    p.scenario("grown", used_at_first=used_at_first, most=most, used=used, page=page)
    p.prove("the cache has the page", page < p.lift(resize.cache_pages)(used_at_first, most))


@claim(faulty("bits beyond a shrunk block stay", refutes="no page beyond the end is marked"))
def shrinking_drops_what_goes(p: Proof) -> None:
    """After a resize a page is marked if and only if it was and is still part of the block."""
    used, page = p.naturals("used page")
    (before,) = p.bitmaps("before")
    after = before[page] & p.lift(resize.stays_marked)(page, used)
    p.scenario("shrunk", before=page + 1, used=used, cache_dirty=[page], host_dirty=[])
    p.prove("no page beyond the end is marked", implies(after, page < used))
    p.prove("nothing else is lost", implies(before[page] & (page < used), after))


@claim(
    faulty("bits of a removed block stay", refutes="no bit of the block is left"),
    faulty("a removed block takes whole words", refutes="no other block loses a bit"),
)
def removing_drops_only_its_own(p: Proof) -> None:
    """After a block was removed a bit is set if and only if it was and is not one of that block's."""
    first, most, bit = p.naturals("first most bit")
    (before,) = p.bitmaps("before")
    after = before[bit] & p.lift(resize.outlives)(bit, first, most)
    its_own = (first <= bit) & (bit < first + most)
    p.scenario("removed", first=first, most=most, cache_dirty=[bit], host_dirty=[])
    p.prove("no bit of the block is left", implies(its_own, ~after))
    p.prove("no other block loses a bit", implies(before[bit] & ~its_own, after))
