"""Claims by node: several cursors, and workers that help the other nodes when their own is used up.

For any number of nodes, words, dirty pages and workers. What is proved of one arbitrary node, one
arbitrary dirty page, the worker that moves and another one holds for all of them.
"""

from typing import NamedTuple, TypeAlias

from model import nodes, shares
from model.protocols import node_cursors
from model.protocols.node_cursors import FINISHED, FLUSH, STEPS, TAKE, TakerOf
from proofs.prover.machine import TWO_TO_THE_64, in_64_bits, number
from proofs.prover.obligation import Proof, claim, faulty, without
from proofs.prover.ranks import Rank, falls, not_raised
from proofs.prover.symbolic import Natural, Sequence, Truth, every, implies, natural, select
from proofs.shares import MOST_GRAIN, MOST_PAGES, MOST_THREADS, rising

Taker: TypeAlias = TakerOf[Natural]
Pages: TypeAlias = tuple[Natural, Natural]

#: As many as a pool has cursors (``impl/kernels/job_table.py``).
MOST_NODES = 64


# Whose a word is.


@claim(
    faulty(
        "a border word on two nodes", refutes="it has the words that begin in it, and no others"
    ),
    without("different pages", refutes="no word is on two nodes"),
)
def a_word_is_on_one_node(p: Proof) -> None:
    """Each bitmap word is on exactly one node: that on which its first page lies.

    A node has runs of pages, and each page is in one run; so each dirty word is in the list of exactly
    one node, wherever in a word the border between two nodes is.
    """
    lower, upper, other_lower, other_upper = p.naturals("lower upper other_lower other_upper")
    (word,) = p.naturals("word")
    p.scenario(
        "two nodes",
        lower=lower,
        upper=upper,
        other_lower=other_lower,
        other_upper=other_upper,
        word=word,
    )
    words_of_run = p.lift(nodes.words_of_run)
    p.prefer(lower < 64 * word, 64 * word < upper, upper == other_lower, upper < 64 * word + 64)

    def holds(lower: Natural, upper: Natural) -> Truth:
        first, last = words_of_run(lower, upper)
        held: Truth = (first <= word) & (word < last)
        return held

    p.prove(
        "it has the words that begin in it, and no others",
        *(
            holds(*run) == ((run[0] <= 64 * word) & (64 * word < run[1]))
            for run in ((lower, upper), (other_lower, other_upper))
        ),
    )
    first, last = words_of_run(lower, upper)
    p.prove("its words are in order", implies(lower <= upper, first <= last))
    p.assume("two runs", lower <= upper, other_lower <= other_upper)
    p.assume("different pages", upper <= other_lower)
    p.prove("no word is on two nodes", ~(holds(lower, upper) & holds(other_lower, other_upper)))
    p.assume("one behind the other", other_lower == upper)
    _, end = words_of_run(other_lower, other_upper)
    p.prove(
        "none is left out between them",
        implies(
            (first <= word) & (word < end), holds(lower, upper) | holds(other_lower, other_upper)
        ),
    )


# Batches off several cursors.


class Part(NamedTuple):
    """A node's part of the order: its words stand at the places ``[low, high)``."""

    low: Natural
    high: Natural

    def pages(self, p: Proof, before: Sequence, number: Natural, grain: Natural) -> Pages:
        """The dirty pages of a batch off the node's cursor, which begins at its first one."""
        begin, end = before[self.low], before[self.high]
        first, last = p.lift(shares.batch)(begin + number * grain, grain, end)
        return first, last


@claim(
    faulty("batches overlap", refutes="no word is in two batches of a node"),
)
def batches_off_several_cursors_share_no_word(p: Proof) -> None:
    """Batches off the cursors of several nodes: no word is in two, each with a dirty page is in one.

    Words stand node by node, and ``before[i]`` dirty pages lie in the words before place i. So this is
    said of places; that each word has one is ``a_word_is_on_one_node``.
    """
    low, high, other_low, other_high = p.naturals("low high other_low other_high")
    number, another, grain, place = p.naturals("number another grain place")
    (before,) = p.sequences("before")
    p.scenario("batches by node")
    p.witness(grain == 1, low == 0, high == 1, other_low == 1, other_high == 2)
    p.assume("a grain", grain >= 1)
    p.assume("dirty pages add up", rising(before), before[0] == 0)
    p.assume("words stand node by node", low <= high, high <= other_low, other_low <= other_high)
    node, other = Part(low, high), Part(other_low, other_high)

    def holds(part: Part, number: Natural) -> Truth:
        """Is the place in the batch?"""
        batch = part.pages(p, before, number, grain)
        first, last = p.lift(shares.batch_words)(before, *batch)
        held: Truth = (first <= place) & (place < last)
        return held

    for part, batch in ((node, number), (other, another)):
        first, last = part.pages(p, before, batch, grain)
        p.prove("a batch begins with its number", batch * grain >= 0)
        p.prove("a node's pages have a beginning and an end", before[part.low] <= before[part.high])
        p.prove(
            "a batch is of its own node's pages",
            before[part.low] <= first,
            first <= last,
            last <= before[part.high],
        )
    p.prove("a later node's pages come later", before[node.high] <= before[other.low])
    p.prove("no word is in batches of two nodes", ~(holds(node, number) & holds(other, another)))
    with p.case():
        p.assume("two batches of a node", number < another)
        p.prove("the later begins later", (number + 1) * grain <= another * grain)
        p.prove(
            "no word is in two batches of a node", ~(holds(node, number) & holds(node, another))
        )

    p.assume("a word of the node", low <= place, place < high)
    p.assume("it is dirty", before[place] < before[place + 1])
    inside = before[place] - before[low]
    mine = inside // grain
    p.prove("its first page is the node's", inside >= 0, before[place + 1] <= before[high])
    p.prove("its batch is the quotient", mine >= 0, mine * grain <= inside)
    p.prove("the next batch begins past its first page", inside < (mine + 1) * grain)
    p.prove("its batch holds it", holds(node, mine))


# Any number of workers, step by step.


class State(NamedTuple):
    """The cursors; the worker that moves and another; a node and a dirty page of it.

    ``times``: how often the page has been copied. ``holding``: how many of the workers that are not
    spelled out have taken it and not copied it yet.
    """

    cursors: Sequence
    begins: Sequence
    nodes: Natural
    grain: Natural
    me: Taker
    other: Taker
    node: Natural
    page: Natural
    times: Natural
    holding: Natural


def a_state(p: Proof) -> State:
    """Any of it."""
    cursors, begins = p.sequences("cursors begins")
    in_all, grain, node, page, times, holding = p.naturals("nodes grain node page times holding")
    me, other = (
        Taker(*p.naturals(" ".join(f"{who}_{field}" for field in Taker._fields)))
        for who in ("me", "other")
    )
    p.assume("a grain", grain >= 1)
    p.assume("a node", node < in_all)
    p.assume("a page of it", begins[node] <= page, page < begins[node + 1])
    return State(cursors, begins, in_all, grain, me, other, node, page, times, holding)


def turn_of(w: State, it: Taker, node: Natural) -> Natural:
    """How many nodes a worker asks before this one."""
    turn: Natural = select(it.own <= node, node - it.own, node + w.nodes - it.own)
    return turn


def holds(it: Taker, page: Natural) -> Truth:
    """Has the worker taken the page, and not copied it yet?"""
    held: Truth = (it.step == FLUSH) & (it.first <= page) & (page < it.last)
    return held


def cursor_is_right(w: State, node: Natural) -> Truth:
    """A node's cursor is not below its first page."""
    right: Truth = w.begins[node] <= w.cursors[node]
    return right


def worker_is_right(w: State, it: Taker) -> Truth:
    """A worker has finished when it has found all nodes used up, and those it has found so are."""
    seen = turn_of(w, it, w.node) < it.used_up
    return every(
        it.step <= FINISHED,
        it.own < w.nodes,
        it.used_up <= w.nodes,
        (it.step == FINISHED) == (it.used_up == w.nodes),
        implies(seen, w.cursors[w.node] >= w.begins[w.node + 1]),
    )


def all_is_right(w: State) -> Truth:
    """The invariant: a page that the cursor has passed is held by one worker, or copied, once."""
    held = holds(w.me, w.page).as_number() + holds(w.other, w.page).as_number() + w.holding
    return every(
        cursor_is_right(w, w.node),
        worker_is_right(w, w.me),
        worker_is_right(w, w.other),
        w.times + held == (w.page < w.cursors[w.node]).as_number(),
    )


def asked(p: Proof, w: State, it: Taker) -> Natural:
    """Whose cursor a worker takes from."""
    node: Natural = p.lift(nodes.node_in_turn)(it.own, it.used_up, w.nodes)
    return node


def stepped(p: Proof, w: State, it: Taker) -> tuple[Sequence, Taker]:
    """The cursors and a worker after its step."""
    cursors, moved = p.lift(node_cursors.step)(w.cursors, w.begins, w.nodes, w.grain, it)
    return cursors, moved


def prove_invariant(p: Proof) -> State:
    """Prove the invariant, by induction over the steps; return any state, in which it holds."""
    w = a_state(p)
    p.scenario("round by node")
    with p.case():
        fresh = (Taker(*map(natural, (TAKE, own, 0, 0, 0))) for own in (w.me.own, w.other.own))
        me, other = fresh
        begun = w._replace(
            cursors=w.begins, me=me, other=other, times=natural(0), holding=natural(0)
        )
        p.assume("each is of a node", me.own < w.nodes, other.own < w.nodes)
        p.prove("it holds at the start", all_is_right(begun))
    p.assume("between two steps", all_is_right(w))
    node = asked(p, w, w.me)
    p.prove("a worker asks a node", node >= 0, implies(w.me.step == TAKE, node < w.nodes))
    p.assume("of every node", cursor_is_right(w, node))
    # Of those two nodes; a quantifier would slow z3 down.
    for one, two in ((node, w.node), (w.node, node)):
        p.assume("dirty pages are numbered node by node", w.begins[one] <= w.begins[one + 1])
        p.assume(
            "dirty pages are numbered node by node",
            implies(one < two, w.begins[one + 1] <= w.begins[two]),
        )
    cursors, moved = stepped(p, w, w.me)
    times = w.times + holds(w.me, w.page).as_number()
    after = w._replace(cursors=cursors, me=moved, times=times)
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("the step", w.me.step == step)
            p.prove(f"a worker preserves it: {name}", all_is_right(after))
    return w


@claim(
    faulty("a thief takes by load and store", refutes="a worker preserves it: take a batch"),
)
def every_dirty_page_is_copied_once(p: Proof) -> None:
    """Off a cursor a node every dirty page is copied exactly once, by the time that all have finished.

    For any number of nodes and workers, whichever nodes they are of, and any interleaving of their steps:
    a node that nobody is of is flushed by the others.
    """
    w = prove_invariant(p)
    p.prove("nothing is copied twice", implies(holds(w.me, w.page), w.times == 0))
    _, after = stepped(p, w, w.me)
    stays = implies(w.me.step == FINISHED, after.step == FINISHED)
    p.prove("who has finished does not begin again", stays)
    p.assume("all have finished", *(it.step == FINISHED for it in (w.me, w.other)), w.holding == 0)
    p.prove("the page is copied", w.times == 1)


@claim(
    faulty("a worker stops after its own node", refutes="a worker preserves it: take a batch"),
)
def who_has_finished_has_seen_every_cursor_used_up(p: Proof) -> None:
    """A worker that has finished has seen every node's cursor used up: all dirty pages have been taken.

    So the caller, when it has finished and closes the round, leaves nothing to a helper that did not
    come.
    """
    w = prove_invariant(p)
    p.assume("it has finished", w.me.step == FINISHED)
    p.prove("the cursor is used up", w.cursors[w.node] >= w.begins[w.node + 1])
    p.prove("the page has been taken", w.page < w.cursors[w.node])


@claim(
    faulty("a worker asks the same node again", refutes="a step keeps it near"),
)
def the_cursors_are_not_far_past_their_ends(p: Proof) -> None:
    """A cursor passes its node's last page by less than a batch, and by one more for each worker.

    For each worker finds a node used up only once. So 64 bits suffice, as for one cursor.
    """
    w = prove_invariant(p)
    others, past_of_others = p.naturals("others past_of_others")
    p.assume("few workers", others + 2 <= MOST_THREADS, w.grain <= MOST_GRAIN)
    p.assume("few pages", w.begins[w.node + 1] < MOST_PAGES)

    def past(it: Taker) -> Natural:
        """By how much a worker has moved the cursor that was past its end: by a batch, or not."""
        found: Natural = select(turn_of(w, it, w.node) < it.used_up, w.grain, 0)
        return found

    def near(cursors: Sequence, me: Taker) -> Truth:
        """Is the cursor near its end?"""
        most = w.begins[w.node + 1] + w.grain + past(me) + past(w.other) + past_of_others
        near: Truth = cursors[w.node] <= most
        return near

    p.prove("it begins there", w.begins[w.node] <= w.begins[w.node + 1] + w.grain)
    p.assume("it is near", near(w.cursors, w.me))
    p.prove("a step keeps it near", near(*stepped(p, w, w.me)))
    p.assume("the others' batches", past_of_others <= others * w.grain)
    p.prove("they are few", others * w.grain <= MOST_THREADS * w.grain)
    p.assume("few nodes", w.nodes <= MOST_NODES)
    lift = in_64_bits(p).lift
    in_turn = map(number, (w.me.own, w.me.used_up, w.nodes))
    p.prove("which cursor comes next is computed right", lift(nodes.node_in_turn)(*in_turn).fits)
    taken = map(number, (w.me.first, w.me.last, w.me.used_up, w.nodes))
    after_taking = lift(node_cursors.after_taking)(*taken)
    p.prove("what comes of a batch is", *(found.fits for found in after_taking))
    p.prove("64 bits suffice", w.cursors[w.node] + w.grain < TWO_TO_THE_64)


def rank_of_worker(w: State, cursors: Sequence, it: Taker, node: Natural) -> Rank:
    """Nodes not yet found used up; pages left where it takes from; whether it has a batch."""
    end = w.begins[node + 1]
    left = select(cursors[node] < end, end - cursors[node], 0)
    return w.nodes - it.used_up, left, (it.step == FLUSH).as_number()


@claim(
    faulty("a worker asks the same node again", refutes="a worker goes on: take a batch"),
)
def a_round_by_node_ends(p: Proof) -> None:
    """A round off a cursor a node ends: each worker finishes by its own steps, whatever the others do.

    It takes a batch, or finds one node more used up; another's steps leave it no more to do than before.
    """
    w = prove_invariant(p)
    node = asked(p, w, w.me)
    rank = rank_of_worker(w, w.cursors, w.me, node)
    cursors, moved = stepped(p, w, w.me)
    after = rank_of_worker(w, cursors, moved, asked(p, w, moved))
    for step, name in enumerate(STEPS[:FINISHED]):
        p.prove(f"a worker goes on: {name}", implies(w.me.step == step, falls(rank, after)))
    cursors, _ = stepped(p, w, w.other)
    p.prove(
        "another throws no worker back", not_raised(rank, rank_of_worker(w, cursors, w.me, node))
    )
