"""No data race, for any number of helpers, and what that buys: sequential consistency.

Every proof here, and the explorer, takes memory to be sequentially consistent. C, C++, Rust and LLVM
give just that to a program whose atomic accesses are all sequentially consistent and which has no data
race: in none of its *sequentially consistent* executions are two threads about to access one word, one
of them writing and one of them plainly. This is DRF-SC: Boehm and Adve, "Foundations of the C++
Concurrency Memory Model" (PLDI 2008), a note in [intro.races] of the C++ standard; for RC11, the
repaired model, Lahav, Vafeiadis, Kang, Hur and Dreyer, "Repairing Sequential Consistency in C/C++11"
(PLDI 2017). The theorem is trusted. What it asks for is known: ``tests/impl/test_memory_order.py`` looks
at each atomic access, and here it is proved that nothing races. So what is proved of sequentially
consistent memory holds of the program that runs.

Not covered: streaming stores, to which no such language gives a meaning, and the futex's own look at
its word. ``model.protocols.accesses`` is the list of accesses that this is about.
"""

from collections.abc import Iterator

from model.explore.weak.catalogue import SC, shortest_failure
from model.faults.check_in import ACCESSES
from model.protocols import check_in as h
from model.protocols.accesses import Race, Whose, races, same_word
from model.protocols.check_in import Process
from model.protocols.work_queue import FLUSH, LOOK_FIRST, LOOK_ON
from model.transitions import ENDED
from proofs import work_queue
from proofs.check_in_invariant import (
    State,
    batches_are_handed_out_once,
    is_dynamic,
    prove_invariant,
    stands,
    steps_of,
)
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import Truth, every, implies, truth

CALLER, HELPER = "caller", "helper"


def places(who: str) -> Iterator[int]:
    """Where a process may stand, broken steps included if the model has them now."""
    yield from (pc for pc, _ in steps_of(h.CALLER if who == CALLER else h.HELPER))
    if who == CALLER:
        yield ENDED


def no_race(w: State, race: Race, me: Process, other: Process) -> Truth:
    """The two do not both stand there, or reach for different words of a family."""
    here = stands(me, race.pc) & stands(other, race.other_pc)
    return ~(here & truth(same_word(w.at, race, me, other)))


def by_word(w: State, *, pages: bool) -> Iterator[tuple[str, Truth]]:
    """Word for word: nobody races for it, be it the caller and a helper or two helpers.

    ``pages``: those that two workers have taken, and only those; else all other words.
    """
    pairs = ((CALLER, w.caller, w.helper), (HELPER, w.other, w.helper))
    found: dict[str, list[Truth]] = {}
    for who, me, helper in pairs:
        for race in races(places(who), places(HELPER), ACCESSES):
            if (race.one is race.other is Whose.TAKEN) == pages:
                found.setdefault(race.word, []).append(no_race(w, race, me, helper))
    for word, statements in found.items():
        yield word, every(*statements)


def show_races(p: Proof) -> None:
    """Run a counterexample over a memory, where the model notices races."""
    p.scenario(
        "schedule over a memory",
        system="check-in",
        memory=SC,
        helpers=1,
        rounds=2,
        words=1,
        schedule=shortest_failure,
    )


@claim(
    faulty("never closes", refutes="close job preserves it"),
    faulty("parameters read early", refutes="load job preserves it"),
    faulty("no access is atomic", refutes="no race for CURSOR"),
)
def no_two_race_for_a_plain_word(p: Proof) -> None:
    """No data race between caller and helpers, or two helpers, in rounds of any kind.

    Of pages, here, those that a worker and the guest might race for.
    """
    w = prove_invariant(p)
    show_races(p)
    for word, statement in by_word(w, pages=False):
        p.prove(f"no race for {word}", statement)


@claim(faulty("plain cursor", refutes="take batch preserves it"))
def no_two_race_for_a_page(p: Proof) -> None:
    """No data race between two workers for a page or a bitmap's word: they have taken different ones.

    In a dynamic round; in a static one ``shares.no_word_shared`` says it.
    """
    w = prove_invariant(p, batches_are_handed_out_once, batches_exist)
    show_races(p)
    # The invariant holds whichever batch is watched: watch the helper's.
    p.assume("the helper's batch is watched", w.at.watched == w.helper.batch)
    for word, statement in by_word(w, pages=True):
        p.prove(f"no race for {word}", statement)


def batches_exist(p: Proof, w: State) -> Truth:
    """Whoever copies in a dynamic round has one of the batches that there are."""
    copies = ((w.caller, h.CALLER_COPY), (w.helper, h.COPY), (w.other, h.COPY))
    exist = (implies(stands(me, pc), me.batch < w.at.words) for me, pc in copies)
    return implies(is_dynamic(w), every(*exist))


@claim(
    faulty("an entry taken without comparing", refutes="a copier preserves it: swap"),
    faulty("a full queue is overwritten", refutes="the searcher preserves it: queue"),
)
def no_two_race_for_a_queued_word(p: Proof) -> None:
    """No data race off the queue: a copier's word is no other copier's, and the searcher is past it.

    HEAD, TAIL, CLOSED and the slots are atomic, and TAIL is read plainly only by its one writer.
    """
    w = work_queue.prove_invariant(p)
    me, searcher = w.me, w.searcher
    p.assume("a copier flushes", me.step == FLUSH)
    p.prove("no race with another copier", implies(w.other.step == FLUSH, me.word != w.other.word))
    looks = (searcher.step == LOOK_FIRST) | (searcher.step == LOOK_ON)
    p.prove("no race with the searcher", implies(looks, me.word < searcher.looked))
