"""Every access to shared memory broken in turn: the claims about their order must refuse each.

A kernel's accesses are heard once, as a graph: which may come after which. In the graph each is then made
weaker, left out, made twice, or moved behind the next atomic one, and compared with the model again.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from proofs.compiled.accesses import Access
from proofs.compiled.order import BEGIN, CLAIMED, Automaton, Beside, OutOfOrder, walk
from proofs.prover.obligation import Proof

#: What becomes of an access: the accesses in its place, and whether it comes behind the next atomic one.
Way = Callable[[Access], tuple[list[Access], bool]]

WAYS: dict[str, Way] = {
    "weaker": lambda access: ([access._replace(order="release")], False),
    "left out": lambda access: ([], False),
    "twice": lambda access: ([access, access], False),
    "behind the next": lambda access: ([], True),
}
#: Of a plain access only where it stands is claimed, and that what is stored before a round is stored.
PLAIN_WAYS = ("left out", "behind the next")
#: Why a broken one is accepted: its kernel, the access, what was done to it, and why.
EQUIVALENT = (
    (
        "take_batch",
        "take_batch atomic_add CURSOR",
        "twice",
        "by node one that is used up is followed by the next; whether it was is not asked here",
    ),
    (
        "spin_or_sleep",
        "futex_wait COMPLETED",
        "left out",
        "to look again at once is to wait as well",
    ),
    ("spin_or_sleep", "give_way", "left out", "to look again at once is to wait as well"),
    (
        "wait_for_all",
        "wait_for_all atomic_load COMPLETED",
        "twice",
        "whoever waits may look at any number of words, any number of times",
    ),
)
NOT_ASKED = "it is plain, and no step of the model must make it"
AS_GOOD = "it is plain, and listed there as well"
THE_LAST = "no other comes behind it"
REFUSED, NO_REASON = "refused", "accepted, for no reason that is listed"


@dataclass
class Graph:
    """Listens to a walk: which access comes after which."""

    after: dict[Hashable, set[Access | None]] = field(default_factory=dict)

    def heard(self, so_far: Hashable, access: Access) -> Hashable:
        self.after.setdefault(so_far, set()).add(access)
        return access

    def ended(self, so_far: Hashable) -> None:
        self.after.setdefault(so_far, set()).add(None)

    @property
    def accesses(self) -> list[Access]:
        """All of them, in some order that is the same each time."""
        return sorted({a for after in self.after.values() for a in after if a}, key=str)

    def is_last(self, access: Access) -> bool:
        """Does nothing atomic come behind it on any path?"""
        seen, todo = set[Hashable](), [access]
        while todo:
            for after in self.after.get(todo.pop(), ()):
                if after and not after.is_plain:
                    return False
                if after and after not in seen:
                    seen.add(after)
                    todo.append(after)
        return True

    def run(self, beside: Beside, broken: Access | None = None, way: Way | None = None) -> None:
        """Go along every path of it. Raises OutOfOrder."""
        seen = set[Hashable]()
        todo: list[tuple[Hashable, Hashable, Access | None]] = [(BEGIN, Beside.first, None)]
        while todo:
            at, so_far, late = todo.pop()
            for access in sorted(self.after.get(at, ()), key=str):
                heard, held = so_far, late
                if access is None:
                    for one in [held] if held else []:
                        heard = beside.heard(heard, one)
                    beside.ended(heard)
                    continue
                instead = [access]
                if access == broken and way:
                    instead, is_late = way(access)
                    if is_late:
                        instead, held = ([held] if held else []), access
                for one in instead:
                    heard = beside.heard(heard, one)
                if held and access != broken and not access.is_plain:
                    heard, held = beside.heard(heard, held), None
                if (access, heard, held) not in seen:
                    seen.add((access, heard, held))
                    todo.append((access, heard, held))


def graphs(name: str) -> Iterator[tuple[Automaton, list[Graph]]]:
    """What a claim walks, as graphs, beside what. Raises UnknownIR."""
    claimed = CLAIMED[name]
    for automaton, of_one in claimed.walks(Proof()):
        found = [Graph() for _ in of_one]
        for walked, graph in zip(of_one, found, strict=True):
            walk(walked, graph, BEGIN, queue=claimed.queue)
        yield automaton, found


@dataclass(frozen=True)
class Fate:
    """What became of a broken access: ``why`` is REFUSED, or the reason why it is accepted."""

    access: Access
    way: str
    why: str


def fates(name: str) -> Iterator[Fate]:
    """Every access of what a claim walks, broken in every way. Raises UnknownIR."""
    for automaton, of_one in graphs(name):
        for number, graph in enumerate(of_one):
            others = [other for i, other in enumerate(of_one) if i != number]
            for access in graph.accesses:
                for way in PLAIN_WAYS if access.is_plain else WAYS:
                    refused = _is_refused(automaton, graph, others, access, WAYS[way])
                    yield Fate(access, way, REFUSED if refused else _reason(graph, access, way))


def _is_refused(
    automaton: Automaton, graph: Graph, others: list[Graph], access: Access, way: Way
) -> bool:
    beside = Beside(automaton)
    try:
        for other in others:
            other.run(beside)
        graph.run(beside, access, way)
    except OutOfOrder:
        return True
    return bool(beside.never())


def _reason(graph: Graph, access: Access, way: str) -> str:
    if access.is_plain:
        return NOT_ASKED if way == "left out" else AS_GOOD
    if way == "behind the next" and graph.is_last(access):
        return THE_LAST
    known = (why for *what, why in EQUIVALENT if what == [access.kernel, access.row, way])
    return next(known, NO_REASON)
