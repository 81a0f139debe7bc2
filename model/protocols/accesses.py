"""What each step of the check-in protocol does to which word of memory, the plain accesses included.

``model.protocols.check_in`` has the atomic accesses; around them workers read the job's parameters, copy
pages and count, and the guest runs between two flushes, all by plain loads and stores. Here is the
whole list. Four readers: ``proofs/race_free.py`` proves that no two processes are ever about to
race for a plain word, ``model.explore.weak.check_in`` lets each step do to a memory just what the list
says, ``proofs/compiled/order.py`` holds every path through the compiled kernels against it, and
``tests/impl/test_memory_order.py`` the rows against ``impl/README.md``.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple, TypeAlias

from model.protocols import check_in as h
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED

Truth: TypeAlias = bool


class Whose(Enum):
    """Which one of a family of words: a worker's line, a page."""

    THE = "there is only one"
    OWN = "the process's own"
    TAKEN = "of the pages that the process has taken; in a static round, of its own share"
    ALL = "any of them"


class Access(NamedTuple):
    """One access. ``row`` is its row in ``impl/README.md``, or says why it has none; plain if empty."""

    kind: str
    """load, store, or update: both in one, as fetch-add and compare-and-swap do"""
    word: str
    row: str = ""
    whose: Whose = Whose.THE

    @property
    def writes(self) -> bool:
        """Does it write?"""
        return self.kind != "load"


# The words. COMPLETED and LINE, its times and counters, are a family: one a worker. QUEUE stands for
# HEAD, TAIL and CLOSED, JOB for the round's number and all other parameters, CURSOR, in a round by node
# (``model.protocols.node_cursors``), for the cursors of all nodes.
STATE, DOORBELL, CURSOR, QUEUE, JOB = "STATE", "DOORBELL", "CURSOR", "QUEUE", "JOB"
COMPLETED, LINE, PAGE = "COMPLETED", "LINE", "PAGE"

IN_THE_KERNEL = "futex_wait"
IN_THE_QUEUE = "model.explore.weak.work_queue"

READ_JOB = Access("load", JOB)
COUNT = Access("store", LINE, whose=Whose.OWN)
_TAKE_BATCH = Access("update", CURSOR, "take_batch atomic_add CURSOR")
_LOOK_AT_RING = Access("load", DOORBELL, "helper atomic_load DOORBELL, again")
#: A worker says that it has done its part. (The caller, too: nobody looks at its word, or waits for it.)
_COMPLETE = (COUNT, Access("store", COMPLETED, "complete atomic_store COMPLETED", Whose.OWN))
#: A round off the queue: the same step, other words.
_COPY = (
    READ_JOB,
    Access("load", PAGE, whose=Whose.TAKEN),
    Access("store", PAGE, whose=Whose.TAKEN),
    COUNT,
    Access("update", QUEUE, IN_THE_QUEUE),
)
#: Whoever owns the RAM between two flushes may write all of it.
_GUEST = Access("store", PAGE, whose=Whose.ALL)

ACCESSES: Mapping[Hashable, tuple[Access, ...]] = {
    # The caller.
    h.WRITE_JOB: (_GUEST, Access("store", JOB)),
    h.REWIND: (Access("store", CURSOR), Access("store", QUEUE)),
    h.FLUSH_ALONE: (
        READ_JOB,
        Access("load", PAGE, whose=Whose.ALL),
        Access("store", PAGE, whose=Whose.ALL),
        *_COMPLETE,
    ),
    h.OPEN_JOB: (Access("store", STATE, "run_round atomic_store STATE"),),
    # It notes what is handed out, which stands among the parameters.
    h.RING_DOORBELL: (READ_JOB, Access("update", DOORBELL, "run_round atomic_add DOORBELL")),
    h.WAKE_HELPERS: (),
    h.CALLER_TAKE_BATCH: (READ_JOB, COUNT, _TAKE_BATCH),
    h.CALLER_COPY: _COPY,
    # Static rounds only; there its own part is done when it waits, in others when it closes.
    h.AWAIT_ALL: (
        Access("load", COMPLETED, "wait_for_all atomic_load COMPLETED", Whose.ALL),
        *_COMPLETE,
        READ_JOB,
    ),
    h.CLOSE_JOB: (*_COMPLETE, READ_JOB, Access("update", STATE, "run_round atomic_and STATE")),
    h.LOOK_INSIDE: (Access("load", STATE, "run_round atomic_load STATE"),),
    h.CALLER_PARK: (Access("load", STATE, IN_THE_KERNEL),),
    h.CALLER_PARKED: (),
    h.RETURN: (
        Access("load", COMPLETED, whose=Whose.ALL),
        Access("load", LINE, whose=Whose.ALL),
        Access("load", PAGE, whose=Whose.ALL),
        _GUEST,
    ),
    h.SET_QUIT: (_GUEST, Access("update", STATE, "dismiss atomic_or STATE")),
    h.RING_TO_QUIT: (_GUEST, Access("update", DOORBELL, "dismiss atomic_add DOORBELL")),
    h.WAKE_TO_QUIT: (_GUEST,),
    h.JOIN: (_GUEST,),
    # A helper.
    h.READ_DOORBELL: (Access("load", DOORBELL, "helper atomic_load DOORBELL"),),
    h.READ_STATE: (Access("load", STATE, "helper atomic_load STATE"),),
    h.CHECK_IN: (Access("update", STATE, "helper compare_and_swap STATE"),),
    h.READ_JOB: (READ_JOB,),
    h.TAKE_BATCH: (READ_JOB, COUNT, _TAKE_BATCH),
    h.COPY: _COPY,
    h.COMPLETE: _COMPLETE,
    # It reads the strategy once more: is anybody to be woken for COMPLETED?
    h.CHECK_OUT: (READ_JOB, Access("update", STATE, "check_out atomic_add STATE")),
    h.WAKE_CALLER: (),
    h.LOOK_AT_DOORBELL: (_LOOK_AT_RING,),
    h.HELPER_PARK: (Access("load", DOORBELL, IN_THE_KERNEL),),
    h.HELPER_PARKED: (),
    h.END: (),
    ENDED: (_GUEST,),
}


def conflict(one: Access, other: Access) -> bool:
    """Would two of these race: on one word, one of them writing, one of them plain?"""
    return (
        one.word == other.word and (one.writes or other.writes) and (not one.row or not other.row)
    )


class Race(NamedTuple):
    """Two processes that would race for a word if both stood where they are said to stand."""

    word: str
    pc: int
    other_pc: int
    one: Whose
    other: Whose


def races(
    program: Iterable[int],
    others: Iterable[int],
    accesses: Mapping[Hashable, tuple[Access, ...]],
) -> Iterator[Race]:
    """Every way in which a process of one program and one of another may race, by what steps access."""
    other_pcs = list(others)
    for pc in program:
        for other_pc in other_pcs:
            for one in accesses[pc]:
                for other in accesses[other_pc]:
                    own_only = one.whose is other.whose is Whose.OWN
                    if conflict(one, other) and not own_only:
                        yield Race(one.word, pc, other_pc, one.whose, other.whose)


def same_word(at: ControlBlock, race: Race, me: Process, other: Process) -> Truth:
    """Do the two reach for the same one of a family of words?

    In a static round no two workers share a word of the bitmaps or a page: that is proved of shares.
    """
    if race.one is race.other is Whose.TAKEN:
        return (at.awaited == h.ZERO) & (me.batch == other.batch)
    return True
