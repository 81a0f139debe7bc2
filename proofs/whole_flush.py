"""A whole flush, step by step: protocol, workers and memory in one system.

``check_in`` and ``work_queue`` take the copying of a batch, a share or a queued word for one step, and
``worker`` knows of no protocol. Here the two are put together: whoever has the page's part goes
through its word in many steps, block by block, among everybody else's; the page is followed from the
flush's begin to its return. One arbitrary page, and the part (batch, share, entry) that it lies in.
"""

from typing import NamedTuple

from model import flush, words, worker
from model.flush import Page
from model.protocols import check_in as h
from model.protocols import work_queue as q
from model.worker import STEPS, STORE_HOST
from proofs import work_queue
from proofs.check_in_invariant import (
    IN_A_FLUSH,
    State,
    batches_are_handed_out_once,
    each_takes_part_once,
    helpers_work_for_the_round,
    holding_the_batch,
    is_dynamic,
    name_of,
    prove_invariant,
    shares_are_flushed_once,
    stands,
    stepped,
    steps_of,
    taken,
    whoever_took_part_completes,
)
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Truth, Word, every, implies, natural, select, truth, word
from proofs.words import bit
from proofs.worker import Memory, WordBefore, WordNow, Worker, a_memory, a_worker, at, in_progress


class Followed(NamedTuple):
    """A page, bit ``position`` of word ``in_word``, and what its flush has come to.

    ``in_cache`` and ``in_host`` are its bits as the flush begins. ``visiting``: a worker, ``me``, is at
    its word, on a visit for one block; ``visit`` is the word as that visit began, and its mask.
    ``visited``: the visit for the page's own block is over.
    """

    memory: Memory
    in_word: Word
    position: Word
    in_cache: Truth
    in_host: Truth
    me: Worker
    visit: WordBefore
    visiting: Truth
    visited: Truth

    def page(self, now: WordNow) -> tuple[Truth, Truth, Truth]:
        """Of the page: is it set in the cache bitmap, in the host bitmap, is it copied?"""
        cache, host, copied = (bit(part, self.position) for part in now)
        return cache, host, copied

    @property
    def is_its_own(self) -> Truth:
        """Is the visit the one for the page's own block?"""
        return bit(self.visit.mask, self.position)


def any_page(p: Proof) -> Followed:
    """Any page, in any state."""
    index, position = p.words("index position")
    p.assume("a bit", position < 64)
    cache, host, first, last, copied = p.words("cache host first last copied_before")
    mask = p.lift_words(words.window_mask)(index, first, last)
    visit = WordBefore(cache, host, mask, (first, last), copied)
    in_cache, in_host, visiting, visited = p.truths("in_cache in_host visiting visited")
    return Followed(
        *(a_memory(p), index, position, in_cache, in_host),
        *(a_worker(p, "flusher"), visit, visiting, visited),
    )


def is_as_begun(page: Followed, now: WordNow) -> Truth:
    """Nothing has been done to the page yet."""
    cache, host, copied = page.page(now)
    return every(cache == page.in_cache, host == page.in_host, ~copied)


def is_done(page: Followed, now: WordNow) -> Truth:
    """The page is as a flush leaves it."""
    cache, host, copied = page.page(now)
    return every(~cache, ~host, copied == (page.in_cache | page.in_host))


def is_right(page: Followed, held: Truth, over: Truth) -> Truth:
    """The invariant. ``held``: somebody has the page's part; ``over``: it has been worked off."""
    now = at(page.memory, page.in_word)
    first, last = page.visit.window
    begun = WordNow(page.visit.cache, page.visit.host, page.visit.copied)
    return every(
        implies(page.visiting | page.visited, held | over),
        implies(over, page.visited & ~page.visiting),
        implies(
            page.visiting,
            every(
                held,
                page.me.word == page.in_word,
                (page.me.first == first) & (page.me.last == last),
                in_progress(now, page.me, page.visit),
                implies(page.visited, is_done(page, begun) & ~page.is_its_own),
                implies(~page.visited, is_as_begun(page, begun)),
            ),
        ),
        implies(~page.visiting & page.visited, is_done(page, now)),
        implies(~page.visiting & ~page.visited, is_as_begun(page, now)),
    )


def begun(p: Proof, page: Followed) -> Followed:
    """The page as a flush begins: by now the guest may have written whatever it likes."""
    memory = Memory(*p.word_arrays("cache_at_begin host_at_begin copied_at_begin"))
    in_cache, in_host, copied = page.page(at(memory, page.in_word))
    p.assume("nothing is copied yet", ~copied)
    none = truth(False)
    page = page._replace(memory=memory, in_cache=in_cache, in_host=in_host)
    return page._replace(visiting=none, visited=none)


def is_as_the_spec_says(p: Proof, page: Followed) -> None:
    """The page is as ``model/flush.py`` says."""
    host, cache = p.words("host_page cache_page")
    before = Page._make((host, page.in_cache, page.in_host))
    spec = p.lift(flush.page_after)(before, cache)
    in_cache, in_host, copied = page.page(at(page.memory, page.in_word))
    done = select(copied, cache, host), in_cache, in_host
    p.prove(
        "the page is as the spec says", *(got == want for got, want in zip(done, spec, strict=True))
    )


@claim(
    faulty("copies what is in both", refutes="its worker: load host"),
    faulty("clears too much", refutes="its worker: store cache"),
    faulty("a page in both keeps its content", refutes="the page is as the spec says"),
)
def a_part_is_worked_off_in_steps(p: Proof) -> None:
    """Visit by visit its worker brings a page to where the flush leaves it, among others' steps.

    Once for the page's own block, before and after it for any others in its word. Other workers have
    no word in common with it.
    """
    page = any_page(p)
    held, over = p.truths("held over")
    now = at(page.memory, page.in_word)
    dirty = {"cache_dirty": page.in_cache, "host_dirty": page.in_host}
    p.scenario("page of a block", lower=0, upper=192, first=3, used=61, page=0, **dirty)
    p.assume("the page is followed", is_right(page, held, over))
    with p.case():
        p.assume("a visit begins", held & ~over & ~page.visiting)
        window = p.words("next_first next_last")
        mask = p.lift_words(words.window_mask)(page.in_word, *window)
        p.assume("for its own block but once", ~(bit(mask, page.position) & page.visited))
        start = Worker(*map(word, p.lift_words(worker.starting)(page.in_word, *window)))
        visit = WordBefore(now.cache, now.host, mask, (window[0], window[1]), now.copied)
        there = page._replace(me=start, visit=visit, visiting=truth(True))
        p.prove("a visit begins", is_right(there, held, over))

    memory, me = p.lift_words(worker.step)(page.memory, page.me)
    stays = me.word == page.in_word
    visited = page.visited | (~stays & page.is_its_own)
    after = page._replace(memory=memory, me=me, visiting=stays, visited=visited)
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("its worker's step", page.visiting, page.me.step == step)
            p.prove(f"its worker: {name}", is_right(after, held, over))

    other = a_worker(p, "other_worker")
    memory, _ = p.lift_words(worker.step)(page.memory, other)
    with p.case():
        p.assume("another worker's step", other.step <= STORE_HOST)
        p.assume("no word in common", other.word != page.in_word)
        p.prove("another worker", is_right(page._replace(memory=memory), held, over))
    p.assume("its part is worked off", over)
    is_as_the_spec_says(p, page)


@claim(
    faulty("plain cursor", refutes="take batch preserves it"),
    faulty("blind check-in", refutes="check in preserves it"),
)
def every_page_is_as_the_spec_says(p: Proof) -> None:
    """When a flush returns a page is as the spec says, every step of protocol and workers in between.

    Of any number of helpers, in dynamic rounds, static ones and those that the caller flushes alone.
    Whoever has the page's batch, or share, visits its word (``a_part_is_worked_off_in_steps``) before
    it takes the next: so much is program order.
    """
    w = prove_invariant(
        p,
        batches_are_handed_out_once,
        helpers_work_for_the_round,
        each_takes_part_once,
        whoever_took_part_completes,
        shares_are_flushed_once,
    )
    page = any_page(p)

    def follows(w: State, page: Followed) -> Truth:
        right = is_right(page, has_its_part(w), is_worked_off(w))
        return implies(stands(w.caller, *IN_A_FLUSH), right)

    p.assume("the page is followed", follows(w, page))
    for who, program in (("caller", h.CALLER), ("helper", h.HELPER), ("other", h.HELPER)):
        for pc, step in steps_of(program):
            with p.case():
                p.assume("the step is taken", *taken(p, w, who, pc, step))
                after = stepped(p, w, who, pc, step)
                is_over = is_worked_off(after) & ~is_worked_off(w)
                gone_through = page.visited & ~page.visiting
                p.assume("who has a part goes through it", implies(is_over, gone_through))
                followed = begun(p, page) if pc == h.WRITE_JOB else page
                another = "another's " if who == "other" else ""
                name = f"{another}{name_of(pc, step)} leaves the page as it is"
                p.prove(name, follows(after, followed))
    p.assume("the flush returns", stands(w.caller, h.RETURN))
    p.assume("the page's part is there", ~is_dynamic(w) | (w.at.watched < w.at.words))
    is_as_the_spec_says(p, page)


def has_its_part(w: State) -> Truth:
    """Has somebody the page's part: the watched batch, the helper's share, or all there is?"""
    its_batch = (holding_the_batch(w) > 0) | (
        stands(w.caller, h.FLUSH_ALONE) & (w.at.watched < w.at.words)
    )
    its_share = stands(w.helper, h.COPY)
    return (is_dynamic(w) & its_batch) | (~is_dynamic(w) & its_share)


def is_worked_off(w: State) -> Truth:
    """Has the page's part been flushed in this round?"""
    its_batch, its_share = natural(w.at.times) > 0, w.shares.helper > 0
    return (is_dynamic(w) & its_batch) | (~is_dynamic(w) & its_share)


@claim(
    faulty("an entry taken without comparing", refutes="a copier preserves it: swap"),
)
def every_page_off_the_queue_is_too(p: Proof) -> None:
    """When all copiers of a round off the queue have finished a dirty word's page is as the spec says.

    Whoever has taken the page's word visits it before it looks at the queue again.
    """
    w = work_queue.prove_invariant(p)
    page = any_page(p)

    def follows(w: work_queue.State, page: Followed) -> Truth:
        return is_right(page, work_queue.is_held(w), w.done)

    p.assume("the page is followed", follows(w, page))
    for step, name in enumerate(q.STEPS):
        with p.case():
            p.assume("the step", w.me.step == step)
            after = work_queue.stepped(p, w)
            is_over = after.done & ~w.done
            gone_through = page.visited & ~page.visiting
            p.assume("who has a word goes through it", implies(is_over, gone_through))
            p.prove(f"a copier leaves the page as it is: {name}", follows(after, page))
    is_finished = w.me.step == q.FINISHED, w.other.step == q.FINISHED, w.holding == 0
    p.assume("all have finished", *is_finished)
    dirty = (w.word < w.end) & w.was[w.word]
    p.assume("the entry of a dirty word", dirty, w.entry == w.place[w.word])
    is_as_the_spec_says(p, page)
