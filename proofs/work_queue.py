"""One searcher, any number of copiers: every dirty word is flushed exactly once, and a round ends.

Dirty words are numbered in order: ``place[w]`` is how many lie below word w, ``entries[e]`` is the word
with number e. The invariants are about one arbitrary *entry*, one arbitrary word and two arbitrary
copiers, so they hold for all. HEAD and TAIL start from 0 in each round and do not wrap.
"""

from typing import NamedTuple, TypeAlias

from model.protocols import work_queue
from model.protocols.work_queue import (
    CLOSE,
    FINISHED,
    FLUSH,
    LOOK_FIRST,
    LOOK_ON,
    QUEUE,
    READ_CLOSED,
    READ_HEAD,
    READ_SLOT,
    READ_TAIL,
    SEARCHED,
    SEARCHER_STEPS,
    SLOTS,
    STEPS,
    SWAP,
    CopierOf,
    QueueOf,
    SearcherOf,
)
from proofs.prover import symbolic
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.ranks import Rank, among, falls, not_raised
from proofs.prover.symbolic import (
    Bitmap,
    Natural,
    Sequence,
    Truth,
    every,
    forall,
    implies,
    natural,
    select,
    truth,
)

Queue: TypeAlias = QueueOf[Natural, Sequence]
Copier: TypeAlias = CopierOf[Natural]
Searcher: TypeAlias = SearcherOf[Natural]


class State(NamedTuple):
    """The queue; searcher; the copier that moves and another; an entry, and whether it is flushed.

    ``holding``: how many of the copiers that are not spelled out have taken the entry and not flushed
    it. ``was`` are the words that were dirty at the start, below ``end``; ``dirty`` those that are now;
    ``word`` is any word.
    """

    queue: Queue
    searcher: Searcher
    me: Copier
    other: Copier
    entry: Natural
    done: Truth
    holding: Natural
    word: Natural
    dirty: Bitmap
    was: Bitmap
    end: Natural
    place: Sequence
    entries: Sequence

    @property
    def total(self) -> Natural:
        """How many words are to be flushed."""
        return self.place[self.end]


def a_state(p: Proof) -> State:
    """Any of it."""
    head, tail, closed = p.naturals("head tail closed")
    slots, place, entries = p.sequences("slots place entries")
    searcher = Searcher(*p.naturals("searcher_step searcher_word searcher_looked"))
    me, other = (
        Copier(*p.naturals(" ".join(f"{who}_{field}" for field in Copier._fields)))
        for who in ("me", "other")
    )
    entry, holding, word, end = p.naturals("entry holding word end")
    (done,) = p.truths("done")
    dirty, was = p.bitmaps("dirty was")
    now = Queue(head, tail, closed, slots)
    of_an_entry = (entry, done, holding)
    return State(now, searcher, me, other, *of_an_entry, word, dirty, was, end, place, entries)


# How words are numbered.


def counts(place: Sequence, was: Bitmap) -> Truth:
    """``place`` counts the dirty words below each."""
    return (place[0] == 0) & forall(lambda k: place[k + 1] == place[k] + was[k].as_number())


def never_falls(n: Natural, place: Sequence, was: Bitmap, word: Natural) -> Truth:
    """No fewer dirty words lie below a word than below an earlier one."""
    return implies(counts(place, was), place[word] <= place[word + n])


def entry_is_a_word(w: State, entry: Natural) -> Truth:
    """The word of an entry is dirty, below the end, and has that number."""
    word = w.entries[entry]
    return implies(
        (entry >= 0) & (entry < w.total),
        every(word >= 0, word < w.end, w.was[word], w.place[word] == entry),
    )


def word_is_an_entry(w: State, word: Natural) -> Truth:
    """A dirty word is the word of its number."""
    dirty = (word >= 0) & (word < w.end) & w.was[word]
    return implies(dirty, w.entries[w.place[word]] == word)


def numbered(p: Proof, w: State) -> None:
    """Assume so, of those words and entries that a proof is about: quantifiers slow z3 down."""
    name, place = "dirty words are numbered in order", w.place
    p.assume(name, place[0] == 0, w.total >= 0)
    words = (w.word, w.searcher.word, w.searcher.looked, w.me.word, w.other.word)
    for word in words:
        p.assume(name, place[word + 1] == place[word] + w.was[word].as_number())
        p.assume(name, implies(word < w.end, place[word + 1] <= w.total))
        p.assume(name, word_is_an_entry(w, word))
        for other in (natural(0), *words, w.end):
            p.assume(name, implies(word <= other, place[word] <= place[other]))
            p.assume(name, implies(other <= word, place[other] <= place[word]))
    for entry in (w.entry, w.me.head, w.other.head, w.queue.tail):
        p.assume(name, entry_is_a_word(w, entry))


# The invariant.


def queue_is_right(w: State, entry: Natural) -> Truth:
    """HEAD and TAIL are in order, no more than the ring apart, and an entry queued is in its slot."""
    now = w.queue
    return every(
        now.head <= now.tail,
        now.tail <= now.head + SLOTS,
        now.tail <= w.total,
        now.closed <= 1,
        implies(
            (now.head <= entry) & (entry < now.tail), now.slots[entry % SLOTS] == w.entries[entry]
        ),
    )


def searcher_is_right(w: State) -> Truth:
    """What is queued is what it has left behind; between its word and where it looks none is dirty."""
    me, tail, place = w.searcher, w.queue.tail, w.place
    has_a_word = (me.step == LOOK_ON) | (me.step == QUEUE)
    return every(
        me.step <= SEARCHED,
        me.looked <= w.end,
        implies(me.step == LOOK_FIRST, (tail == 0) & (place[me.looked] == 0)),
        implies(
            has_a_word,
            every(
                me.word < me.looked,
                w.was[me.word],
                tail == place[me.word],
                place[me.looked] == tail + 1,
            ),
        ),
        implies(me.step == QUEUE, (me.looked == w.end) | w.was[me.looked]),
        implies(me.step >= CLOSE, tail == w.total),
        (w.queue.closed == 1) == (me.step == SEARCHED),
    )


def bitmap_is_right(w: State, word: Natural) -> Truth:
    """A word is as it was until it is queued."""
    me = w.searcher
    unqueued = select(me.step == LOOK_FIRST, 0, select(me.step < CLOSE, me.word, w.end))
    return implies((unqueued <= word) & (word < w.end), w.dirty[word] == w.was[word])


def copier_is_right(w: State, it: Copier) -> Truth:
    """What a copier knows at each step."""
    now = w.queue
    return every(
        it.step <= FINISHED,
        it.closed <= 1,
        implies(it.closed == 1, now.closed == 1),
        implies((it.step >= READ_TAIL) & (it.step <= SWAP), it.head <= now.head),
        implies((it.step >= READ_SLOT) & (it.step <= SWAP), it.head < now.tail),
        implies((it.step == SWAP) & (it.head == now.head), it.word == w.entries[it.head]),
        implies(it.step == FLUSH, (it.head < now.head) & (it.word == w.entries[it.head])),
        implies(it.step == FINISHED, (now.closed == 1) & (now.head == w.total)),
    )


def holds(it: Copier, entry: Natural) -> Truth:
    """Has the copier taken the entry, and not flushed it yet?"""
    held: Truth = (it.step == FLUSH) & (it.head == entry)
    return held


def all_is_right(w: State) -> Truth:
    """The invariant: of queue, searcher, two copiers, any word, and any entry, which is flushed once."""
    now, me, other, entry = w.queue, w.me, w.other, w.entry
    held = holds(me, entry).as_number() + holds(other, entry).as_number() + w.holding
    return every(
        *(queue_is_right(w, at) for at in (entry, me.head, other.head)),
        *(copier_is_right(w, it) for it in (me, other)),
        searcher_is_right(w),
        bitmap_is_right(w, w.word),
        ~(holds(me, other.head) & (other.step == FLUSH)),
        # An entry that has been taken is held by one copier, or flushed.
        w.done.as_number() + held == (entry < now.head).as_number(),
    )


def is_held(w: State) -> Truth:
    """Has a copier taken the entry, and not flushed it yet?"""
    return holds(w.me, w.entry) | holds(w.other, w.entry) | (w.holding > 0)


def stepped(p: Proof, w: State) -> State:
    """The state after a step of the copier ``me``."""
    turned, moved = p.lift(work_queue.copier_step)(w.queue, w.me)
    flushed = select(w.me.step == FLUSH, symbolic.clear(w.dirty, w.me.word), w.dirty)
    return w._replace(queue=turned, me=moved, done=w.done | holds(w.me, w.entry), dirty=flushed)


def prove_invariant(p: Proof) -> State:
    """Prove the invariant, by induction over the steps; return any state, in which it holds."""
    w = a_state(p)
    now, me = w.queue, w.me
    p.scenario("queued words", words=3, dirty=[0, 1, 2], copiers=1, slots=1)
    p.by_induction("places never fall", never_falls, w.place, w.was, w.word)
    numbered(p, w)

    with p.case():
        fresh = Copier(*map(natural, (READ_CLOSED, 0, 0, 0)))
        begun = w._replace(
            queue=Queue(natural(0), natural(0), natural(0), now.slots),
            searcher=Searcher(*map(natural, (LOOK_FIRST, 0, 0))),
            me=fresh,
            other=fresh,
            done=truth(False),
            holding=natural(0),
            dirty=w.was,
        )
        p.prove("it holds at the start", all_is_right(begun))
    p.assume("between two steps", all_is_right(w))
    for at in (me.head, now.head):
        p.assume("of every entry", queue_is_right(w, at))
    p.assume("of every word", bitmap_is_right(w, w.searcher.looked))

    searched, moved = p.lift(work_queue.searcher_step)(now, w.dirty, w.end, w.searcher)
    after = w._replace(queue=searched, searcher=Searcher(*map(natural, moved)))
    for step, name in enumerate(SEARCHER_STEPS):
        with p.case():
            p.assume("the searcher's step", w.searcher.step == step)
            p.prove(f"the searcher preserves it: {name}", all_is_right(after))

    after = stepped(p, w)
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("the step", me.step == step)
            p.prove(f"a copier preserves it: {name}", all_is_right(after))
    return w


# The claims.


@claim(
    faulty("an entry taken without comparing", refutes="a copier preserves it: swap"),
    faulty("a copier leaves too early", refutes="a copier preserves it: read tail"),
    faulty("a full queue is overwritten", refutes="the searcher preserves it: queue"),
    faulty("the searcher looks on too late", refutes="the searcher preserves it: queue"),
    faulty(
        "the searcher skips a word", refutes="the searcher preserves it: look for the first word"
    ),
    faulty("queueing moves no tail", refutes="the searcher preserves it: queue"),
)
def every_word_is_flushed_once(p: Proof) -> None:
    """Every dirty word is flushed exactly once, and all are when the copiers have finished.

    For any bitmap, any number of copiers and interleavings of their steps with the searcher's. The
    searcher looks on while copiers clear what it has queued.
    """
    w = prove_invariant(p)
    p.prove("nothing is flushed twice", implies(holds(w.me, w.entry), ~w.done))
    flushes = w.me.step == FLUSH
    p.prove("only a dirty word is flushed", implies(flushes, w.was[w.me.word]))
    _, after = p.lift(work_queue.copier_step)(w.queue, w.me)
    stays = implies(w.me.step == FINISHED, after.step == FINISHED)
    p.prove("who has finished does not begin again", stays)
    nobody_holds_it = w.holding == 0
    p.assume("all have finished", *(it.step == FINISHED for it in (w.me, w.other)), nobody_holds_it)
    dirty = (w.word < w.end) & w.was[w.word]
    p.assume("the entry of a dirty word", dirty, w.entry == w.place[w.word])
    p.prove("its word is flushed", w.done, w.entries[w.entry] == w.word)


def rank_of_searcher(w: State, me: Searcher) -> Rank:
    """Lowered by the searcher's steps, except while it finds no room."""
    return w.end - me.looked, among({LOOK_FIRST: 4, LOOK_ON: 3, QUEUE: 2, CLOSE: 1}, me.step)


def rank_of_copier(w: State, now: Queue, me: Copier) -> Rank:
    """Lowered by a copier's steps, except while it finds neither an entry nor that the search is over.

    First how many entries are left to take; then whether it has seen the search closed. A copier
    whose HEAD is no longer the queue's goes back to read it again.
    """
    late = (me.step >= READ_TAIL) & (me.step <= SWAP) & (me.head != now.head)
    to_go = {READ_HEAD: 6, READ_TAIL: 5, READ_SLOT: 4, SWAP: 3, FLUSH: 8}
    has_seen = me.closed == 1
    begins = select(has_seen, 7, 2)
    return (
        w.total - now.head,
        select(has_seen, 0, 1),
        select(me.step == READ_CLOSED, begins, among(to_go, me.step)) + late.as_number() * 10,
    )


@claim(
    faulty("copiers never leave", refutes="a copier goes on: read tail"),
)
def a_round_off_the_queue_ends(p: Proof) -> None:
    """A round off the queue ends if searcher and copiers go on being scheduled.

    The searcher goes on unless the queue is full; then whoever copies, the caller itself, takes an
    entry before it is round. A copier goes round without one only while the search is going on.
    """
    w = prove_invariant(p)
    now, me = w.queue, w.me
    searched, moved = p.lift(work_queue.searcher_step)(now, w.dirty, w.end, w.searcher)
    room = p.lift(work_queue.has_room)(now)
    p.prove(
        "the searcher goes on",
        implies(
            (w.searcher.step < SEARCHED) & (room | (w.searcher.step != QUEUE)),
            falls(rank_of_searcher(w, w.searcher), rank_of_searcher(w, moved)),
        ),
    )
    rank = rank_of_copier(w, now, me)
    p.prove("and throws no copier back", not_raised(rank, rank_of_copier(w, searched, me)))
    turned, after = p.lift(work_queue.copier_step)(now, me)
    goes_round = (me.step == READ_CLOSED) & (now.closed == 0)
    for step, name in enumerate(STEPS[:FINISHED]):
        goes_on = falls(rank, rank_of_copier(w, turned, after))
        p.prove(f"a copier goes on: {name}", implies(me.step == step, goes_on | goes_round))
    p.prove(
        "nobody finds a full queue empty",
        implies(~room & (me.step == READ_TAIL), after.step == READ_SLOT),
    )
    turned, _ = p.lift(work_queue.copier_step)(now, w.other)
    p.prove("another throws no copier back", not_raised(rank, rank_of_copier(w, turned, me)))
