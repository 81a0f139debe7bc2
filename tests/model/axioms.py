"""Small programs of loads and stores, and what they may do: by a memory of the model, run in every
way, and by the axioms of its memory model, over every candidate execution enumerated.

The axioms are written here without a look at the machines: RC11 without load buffering (Lahav et al.,
Repairing Sequential Consistency in C/C++11, PLDI 2017; release sequences as in C++20), and x86-TSO with
streaming stores (Raad, Maranget, Vafeiadis, Extending Intel-x86 Consistency and Persistency, POPL 2022).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations, product
from typing import NamedTuple

from model.explore.weak.memory import DataRace, Fence, Memory, Order, Value

Pairs = set[tuple[int, int]]


class Store(NamedTuple):
    word: str
    value: Value
    order: Order


class Load(NamedTuple):
    word: str
    register: str
    order: Order


class Exchange(NamedTuple):
    word: str
    value: Value
    register: str
    order: Order


Instruction = Store | Load | Exchange | Fence
Program = Sequence[Sequence[Instruction]]
#: The registers' values, and each word's in the end.
Outcome = frozenset[tuple[str, Value]]
MakeMemory = Callable[[Mapping[str, Value], int], Memory]


def words_of(program: Program) -> list[str]:
    return sorted({i.word for thread in program for i in thread if not isinstance(i, Fence)})


# By a machine.


class Machine(NamedTuple):
    """What a program did, in all its runs."""

    outcomes: set[Outcome]
    raced: bool


def by_machine(make: MakeMemory, program: Program) -> Machine:
    """Run the program on a memory in every way."""
    memory = make(dict.fromkeys(words_of(program), 0), len(program))
    start = memory.start(), (0,) * len(program), Outcome()
    seen, waiting, found = {start}, [start], Machine(set(), False)
    while waiting:
        state, places, registers = waiting.pop()
        after = [(drained, places, registers) for _, drained in memory.drains(state)]
        if not after and all(p == len(t) for p, t in zip(places, program, strict=True)):
            last = {(word, memory.last(state, word)) for word in words_of(program)}
            found.outcomes.add(registers | last)
        for thread, place in enumerate(places):
            if place < len(program[thread]):
                moved = (*places[:thread], place + 1, *places[thread + 1 :])
                try:
                    for seen_values, then in run(memory, state, thread, program[thread][place]):
                        after.append((then, moved, registers | seen_values))
                except DataRace:
                    found = found._replace(raced=True)
        fresh = [now for now in after if now not in seen]
        seen.update(fresh)
        waiting += fresh
    return found


def run(
    memory: Memory, state: object, thread: int, instruction: Instruction
) -> Iterator[tuple[Outcome, object]]:
    """(what is read, the state after) for every way in which a memory may do an instruction."""
    match instruction:
        case Store(word, value, order):
            for after in memory.stores(state, thread, word, value, order):
                yield Outcome(), after
        case Load(word, register, order):
            for value, after in memory.loads(state, thread, word, order):
                yield Outcome({(register, value)}), after
        case Exchange(word, value, register, order):
            for old, write in memory.updates(state, thread, word, order):
                if (after := write(value)) is not None:
                    yield Outcome({(register, old)}), after
        case Fence():
            for after in memory.fences(state, thread, instruction):
                yield Outcome(), after


# By axioms.


class Event(NamedTuple):
    """One access or fence of a thread; thread -1 has written every word's first value."""

    thread: int
    reads: bool
    writes: bool
    word: str
    value: Value
    register: str
    order: Order | None
    fence: Fence | None = None


def events_of(program: Program) -> list[Event]:
    found = [Event(-1, False, True, word, 0, "", Order.PLAIN) for word in words_of(program)]
    for thread, instructions in enumerate(program):
        for i in instructions:
            match i:
                case Store():
                    found.append(Event(thread, False, True, i.word, i.value, "", i.order))
                case Load():
                    found.append(Event(thread, True, False, i.word, 0, i.register, i.order))
                case Exchange():
                    found.append(Event(thread, True, True, i.word, i.value, i.register, i.order))
                case Fence():
                    found.append(Event(thread, False, False, "", 0, "", None, i))
    return found


class Execution(NamedTuple):
    """A candidate: the events, program order, who reads from whom, the order of each word's writes,
    and ``rb``: a read comes before the writes that come after the one it reads."""

    events: Sequence[Event]
    po: Pairs
    rf: Pairs
    mo: Pairs
    rb: Pairs


def by_axioms(program: Program, consistent: Callable[[Execution], bool]) -> set[Outcome]:
    """The outcomes of all consistent executions."""
    events = events_of(program)
    n = range(len(events))
    po = {
        (a, b)
        for a in n
        for b in n
        if a < b and events[b].thread >= 0 and events[a].thread in (-1, events[b].thread)
    }
    writes = {
        w: [e for e in n if events[e].writes and events[e].word == w] for w in words_of(program)
    }
    reads = [e for e in n if events[e].reads]
    found = set[Outcome]()
    orders = (
        [(first, *rest) for rest in permutations(others)] for first, *others in writes.values()
    )
    for order in product(*orders):
        mo = {(w[i], w[j]) for w in order for i in range(len(w)) for j in range(i + 1, len(w))}
        place = {write: i for w in order for i, write in enumerate(w)}
        if any((b, a) in po for a, b in mo):
            continue
        for sources in product(*([w for w in writes[events[r].word] if w != r] for r in reads)):
            rf = set(zip(sources, reads, strict=True))
            # An exchange reads the write right before its own.
            if any(events[r].writes and place[r] != place[w] + 1 for w, r in rf):
                continue
            rb = {(r, later) for w, r in rf for w1, later in mo if w1 == w and later != r}
            execution = Execution(events, po, rf, mo, rb)
            if coherent(execution) and consistent(execution):
                read = {(events[r].register, events[w].value) for w, r in rf}
                found.add(
                    Outcome(read | {(events[w[-1]].word, events[w[-1]].value) for w in order})
                )
    return found


def coherent(x: Execution) -> bool:
    """Each word by itself is sequentially consistent."""
    same_word = {(a, b) for a, b in x.po if x.events[a].word == x.events[b].word != ""}
    return acyclic(len(x.events), same_word | x.rf | x.mo | x.rb)


def rc11(x: Execution) -> bool:
    """RC11, of accesses up to acquire and release, without fences."""
    n, events = len(x.events), x.events
    if not acyclic(n, x.po | x.rf):
        return False
    source = {r: w for w, r in x.rf}

    def heads(write: int) -> set[int]:
        """Where the release sequences begin that this write is in."""
        order = events[write].order
        found = {write} if order and order.releases else set()
        return found | heads(source[write]) if events[write].reads else found

    synchronises = {
        (head, read)
        for write, read in x.rf
        for head in heads(write)
        if (order := events[read].order) and order.acquires
    }
    happens_before = closure(n, x.po | synchronises)
    eco = closure(n, x.rf | x.mo | x.rb)
    return not any(a == b or (b, a) in eco for a, b in happens_before)


def x86(x: Execution) -> bool:
    """x86-TSO with streaming stores: what of program order is kept, and nothing that contradicts it."""
    events = x.events

    def drains(event: int) -> bool:
        """A locked instruction, xchg or mfence."""
        e = events[event]
        return (
            (e.reads and e.writes)
            or e.fence is Fence.MFENCE
            or (e.writes and e.order is Order.SEQ_CST)
        )

    def kept(a: int, b: int) -> bool:
        one, other = events[a], events[b]
        if one.thread < 0 or drains(a) or drains(b) or one.reads:
            return True
        between = [e for e in range(a + 1, b) if events[e].thread == one.thread]
        if any(map(drains, between)):
            return True
        if other.reads:
            return False
        if any(events[e].fence is Fence.SFENCE for e in between) or one.word == other.word:
            return True
        return Order.STREAMING not in (one.order, other.order)

    accesses = {(a, b) for a, b in x.po if not events[a].fence and not events[b].fence}
    external = {(a, b) for a, b in x.rf if events[a].thread != events[b].thread}
    return acyclic(
        len(events), {(a, b) for a, b in accesses if kept(a, b)} | external | x.mo | x.rb
    )


def closure(n: int, pairs: Iterable[tuple[int, int]]) -> Pairs:
    """All that can be reached in one step or more."""
    reach = [0] * n
    for a, b in pairs:
        reach[a] |= 1 << b
    for k in range(n):
        for a in range(n):
            if reach[a] >> k & 1:
                reach[a] |= reach[k]
    return {(a, b) for a in range(n) for b in range(n) if reach[a] >> b & 1}


def acyclic(n: int, pairs: Iterable[tuple[int, int]]) -> bool:
    return all(a != b for a, b in closure(n, pairs))
