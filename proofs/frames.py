"""What each step of each transition system may change; all else it leaves as it was.

That a number "never changes" is easily believed and as easily wrong. So it is proved, of every step of
every system, from any state whatever: no invariant is assumed here.
"""

from collections.abc import Iterator

from model import walk, worker
from model.faults.check_in import ACCESSES
from model.protocols import accesses, work_queue
from model.protocols import check_in as h
from model.protocols.work_queue import READ_CLOSED, READ_SLOT, SWAP
from model.worker import COPY, LOAD_CACHE, LOAD_HOST, STEPS, STORE_CACHE, STORE_HOST
from proofs.check_in_invariant import any_state, in_domain, name_of, schedule_scenario, steps_of
from proofs.prover.obligation import Proof, claim, faulty
from proofs.prover.symbolic import every, implies
from proofs.walk import a_walk, a_window
from proofs.work_queue import a_state
from proofs.worker import a_memory, a_worker

#: The fields that stand for a word of ``model.protocols.accesses``. Pages are known by whether the
#: watched claim has been flushed.
FIELDS = {
    accesses.STATE: ("state",),
    accesses.DOORBELL: ("doorbell",),
    accesses.CURSOR: ("cursor",),
    accesses.JOB: ("job", "words", "awaited", "alone"),
    accesses.COMPLETED: ("completed",),
    accesses.PAGE: ("times",),
}
#: Besides: what a futex call does in the kernel, what only invariants read, and the count of threads.
BESIDES = {
    h.WRITE_JOB: ("live", "completed", "took_part"),
    h.READ_JOB: ("took_part",),
    h.RETURN: ("live",),
    h.CHECK_IN: ("working",),
    h.CHECK_OUT: ("working",),
    h.WAKE_HELPERS: ("wakeups",),
    h.WAKE_TO_QUIT: ("wakeups",),
    h.CALLER_PARK: ("caller_asleep",),
    h.CALLER_PARKED: ("caller_asleep",),
    h.WAKE_CALLER: ("caller_asleep",),
    h.END: ("running",),
}


def written(pc: int) -> Iterator[str]:
    """The fields that a step may write: those of the words that it is listed to write."""
    for access in ACCESSES[pc]:
        if access.writes:
            yield from FIELDS.get(access.word, ())
    yield from BESIDES.get(pc, ())


@claim(faulty("rewinds in passing", refutes="helper park writes no more than is listed"))
def a_step_of_the_protocol_writes_what_is_listed(p: Proof) -> None:
    """A step of the check-in protocol writes those words that are listed for it, and no others.

    The list (``model.protocols.accesses``) is what ``race_free`` rests on.
    """
    w = any_state(p)
    schedule_scenario(p)
    for who, program in (("caller", h.CALLER), ("helper", h.HELPER)):
        for pc, step in steps_of(program):
            at, _ = p.lift(step.act)(w.at, getattr(w, who))
            name = f"{name_of(pc, step)} writes no more than is listed"
            p.prove_frame(name, w.at, in_domain(at), may_change=set(written(pc)))


@claim(
    faulty("the window turns round", refutes="a worker keeps its window"),
    faulty("the host bitmap for both", refutes="only load host reads the host bitmap"),
)
def a_worker_writes_its_word(p: Proof) -> None:
    """A worker reads or writes one word a step, the one that the step is for, where it is at work."""
    memory, me = a_memory(p), a_worker(p, "me")
    (elsewhere,) = p.words("elsewhere")
    cache, host = p.words("cache host")
    p.scenario("word flush", cache=cache, host=host, first=me.first, last=me.last, differs=0)
    after, moved = p.lift_words(worker.step)(memory, me)
    changing = set(moved._fields) - {"first", "last"}
    p.prove_frame("a worker keeps its window", me, moved, may_change=changing)
    writes = {COPY: "copied", STORE_CACHE: "cache", STORE_HOST: "host"}
    for step, name in enumerate(STEPS):
        with p.case():
            p.assume("the step", me.step == step)
            may_change = {writes[step]} if step in writes else set[str]()
            p.prove_frame(f"only what it is for: {name}", memory, after, may_change=may_change)
    for load, bitmap in ((LOAD_CACHE, "cache"), (LOAD_HOST, "host")):
        (other,) = p.word_arrays(f"other_{bitmap}")
        _, moved_there = p.lift_words(worker.step)(memory._replace(**{bitmap: other}), me)
        same = every(*(a == b for a, b in zip(moved, moved_there, strict=True)))
        name = f"only load {bitmap} reads the {bitmap} bitmap"
        p.prove(name, implies(me.step != load, same))
    p.prove(
        "no other word",
        implies(
            elsewhere != me.word,
            every(
                *(was[elsewhere] == now[elsewhere] for was, now in zip(memory, after, strict=True))
            ),
        ),
    )


@claim(
    faulty("closing drops what is queued", refutes="closing writes CLOSED"),
    faulty("a slot is read before it is written", refutes="only read slot reads a slot"),
)
def the_queue_keeps_what_it_has(p: Proof) -> None:
    """Who queues writes a slot and TAIL, who closes CLOSED, who takes HEAD; nobody anything else."""
    state = a_state(p)
    now, me = state.queue, state.me
    (word, slot) = p.naturals("word slot")
    p.scenario("queued words", total=3, copiers=2, slots=1)
    offered = p.lift(work_queue.offer)(now, word)
    p.prove_frame("queueing writes a slot and TAIL", now, offered, may_change={"slots", "tail"})
    same = offered.slots[slot] == now.slots[slot]
    p.prove("no other slot", implies(slot != now.tail % work_queue.SLOTS, same))
    closed = p.lift(work_queue.close)(now)
    p.prove_frame("closing writes CLOSED", now, closed, may_change={"closed"})
    searched, _ = p.lift(work_queue.searcher_step)(now, state.dirty, state.end, state.searcher)
    writes = {"slots", "tail", "closed"}
    p.prove_frame("the searcher leaves HEAD alone", now, searched, may_change=writes)
    after, _ = p.lift(work_queue.copier_step)(now, me)
    p.prove_frame("a copier writes HEAD", now, after, may_change={"head"})
    p.prove("when it takes an entry", implies(me.step != SWAP, after.head == now.head))

    _, moved = p.lift(work_queue.copier_step)(now, me)
    (other_slots,) = p.sequences("other_slots")
    (other_closed,) = p.naturals("other_closed")
    for load, elsewhere, what in (
        (READ_CLOSED, now._replace(closed=other_closed), "only read closed reads CLOSED"),
        (READ_SLOT, now._replace(slots=other_slots), "only read slot reads a slot"),
    ):
        _, moved_there = p.lift(work_queue.copier_step)(elsewhere, me)
        same = every(*(a == b for a, b in zip(moved, moved_there, strict=True)))
        p.prove(what, implies(me.step != load, same))


@claim(
    faulty("the host search counts", refutes="the host search moves its cursor and clears a bit")
)
def an_iteration_of_the_walk_keeps_to_its_own(p: Proof) -> None:
    """Either search of the patch's walk moves one cursor and clears in one bitmap; a copy neither."""
    window, state = a_window(p), a_walk(p)
    searched = p.lift(walk.search_cache)(state, window.used, window.limit)
    p.prove_frame(
        "the cache search moves its cursor, clears a bit, counts down",
        *(state, searched),
        may_change={"cache_next", "cache_dirty", "dirty_pages"},
    )
    searched = p.lift(walk.search_host)(state, window.limit)
    p.prove_frame(
        "the host search moves its cursor and clears a bit",
        *(state, searched),
        may_change={"host_next", "host_dirty"},
    )
    copied = p.lift(walk.copy_next)(state, window.limit)
    p.prove_frame(
        "the copy moves the offset and counts",
        *(state, copied),
        may_change={"offset", "copied", "host_count", "both_count"},
    )
