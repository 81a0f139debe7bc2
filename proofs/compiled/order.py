"""The order of accesses to shared memory: on every path through a kernel it is the model's.

What the explorer of memory orders and the proof of data-race freedom stand on: that the kernels access
what ``model/protocols/accesses.py`` lists at each step of the protocol, in that order, as strongly, and
nothing else. *Enumerated*: every path through the LLVM IR is walked (``accesses.py``) beside an automaton
that is made of the model's own steps; no solver is asked.

Between two atomic accesses plain ones have no order that another thread could see. So they are heard as
a set, and each must be listed for a step that the model passes on the way to the next atomic access.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import z3

from model.boundary.docstring import docstring
from model.faults.check_in import ACCESSES
from model.protocols import accesses as a
from model.protocols import check_in as h
from model.protocols import node_cursors
from model.protocols import work_queue as q
from model.protocols.accesses import IN_THE_KERNEL, IN_THE_QUEUE, Whose
from model.transitions import ENDED
from proofs.check_in_invariant import any_state, steps_of
from proofs.compiled import accesses, source
from proofs.compiled.accesses import CURSORS, PLACE_OF, SEQ_CST, Sum, Walk
from proofs.compiled.loops import Change
from proofs.prover.obligation import CLAIMS, Claim, Control, Proof, faulty
from proofs.prover.symbolic import natural
from proofs.work_queue import a_state

KERNELS = "impl.kernels."
# What each claim says, obligation by obligation.
ORDER = "atomic accesses come in the order of the model"
STRONG = "each is as strong as the table says"
PLAIN = "plain accesses stay where nothing races for them"
LEFT_OUT = "no access is left out"

# Kinds of rounds, by the number that STRATEGY holds (``impl/kernels/strategies.py``).
SERIAL, STATIC, DYNAMIC, QUEUE, BACKUP, INDEX, BY_NODE, INDEX_BY_NODE = range(8)
KINDS = dict(
    enumerate(
        ("serial", "static", "dynamic", "queue", "backup", "index", "by_node", "index_by_node")
    )
)
#: In which the caller may have had a round before, for the index.
_INDEXED = {DYNAMIC: INDEX, BY_NODE: INDEX_BY_NODE}

#: Whom a futex_wake of the model is for; its list of accesses has none.
_WAKES = {h.WAKE_HELPERS: a.DOORBELL, h.WAKE_TO_QUIT: a.DOORBELL, h.WAKE_CALLER: a.STATE}
_FENCE, _COMPLETED = "complete fence_stores", "complete atomic_store COMPLETED"
_YIELD = "give_way"
#: What must have been stored where the model stores a word that stands for several.
_PARAMETERS = ("ROUND", "STRATEGY", "JOB", "THREADS", "TO_HAND_OUT")
_REWOUND = (a.CURSOR, "HEAD", "TAIL", "CLOSED")
#: The caller's own: it alone writes and reads the totals.
_TOTALS = a.Access("store", "TOTALS")


class OutOfOrder(Exception):  # not an error of whoever asks
    """What was heard is not what the model does: which obligation that refutes, and how."""

    def __init__(self, obligation: str, how: str) -> None:
        super().__init__(how)
        self.obligation = obligation


class Moment(NamedTuple):
    """A moment of the model: what may be accessed plainly until its atomic access, and what must be.

    ``rows`` are the atomic accesses of which one then comes; none: it passes by itself.
    """

    where: str
    rows: frozenset[str] = frozenset()
    plain: tuple[a.Access, ...] = ()
    must: frozenset[tuple[str, str]] = frozenset()


class Way(NamedTuple):
    """From one atomic access of the model to the next: its moment, and what may and must be between."""

    to: Hashable
    plain: frozenset[a.Access]
    must: frozenset[tuple[str, str]]


#: An atomic access, the next one, and what must be accessed between.
Passage: TypeAlias = tuple[Hashable, Hashable, frozenset[tuple[str, str]]]


@dataclass
class Automaton:
    """The model's accesses: moments by a key, and which may follow which. It begins at ``BEGIN``."""

    moments: dict[Hashable, Moment] = field(default_factory=dict)
    following: dict[Hashable, list[Hashable]] = field(default_factory=dict)
    last: dict[Hashable, Hashable] = field(default_factory=dict)
    _ways: dict[Hashable, list[Way]] = field(default_factory=dict)

    def chain(self, name: Hashable, *moments: Moment) -> None:
        """Moments one after the other; ``name`` is the key of the first, (name, i) of the others."""
        keys: list[Hashable] = [name, *((name, i) for i in range(1, len(moments)))]
        self.moments |= zip(keys, moments, strict=True)
        self.following |= {key: [after] for key, after in pairwise(keys)}
        self.last[name] = keys[-1]

    def then(self, name: Hashable, *names: Hashable) -> None:
        """What follows the last moment of a chain."""
        self.following.setdefault(self.last[name], []).extend(names)

    def ways(self, key: Hashable) -> list[Way]:
        """Every way on from an atomic access to the next, or to the end."""
        if key not in self._ways:
            found: dict[Way, None] = {}
            todo = [Way(after, frozenset(), frozenset()) for after in self.following.get(key, ())]
            seen = set(todo)
            while todo:
                to, plain, must = todo.pop()
                moment = self.moments[to]
                here = Way(to, plain | set(moment.plain), must | moment.must)
                if moment.rows or to == END:
                    found[here] = None
                    continue
                for after in self.following.get(to, ()):
                    way = here._replace(to=after)
                    if way not in seen:
                        seen.add(way)
                        todo.append(way)
            self._ways[key] = list(found)
        return self._ways[key]

    @cached_property
    def passages(self) -> set[Passage]:
        """Which atomic access follows which, of those that can be reached, and what must be between."""
        found = set[Passage]()
        todo: list[Hashable] = [BEGIN]
        while todo:
            key = todo.pop()
            for way in self.ways(key):
                if (key, way.to, way.must) not in found:
                    found.add((key, way.to, way.must))
                    todo.append(way.to)
        return found


BEGIN, END = "begin", "end"

Heard = tuple[frozenset[Hashable], frozenset[accesses.Access]]


@dataclass
class Beside:
    """Listens to a walk, and goes along the automaton: in every way that what was heard allows."""

    automaton: Automaton
    taken: set[Passage] = field(default_factory=set)

    first: Heard = (frozenset({BEGIN}), frozenset())

    def heard(self, so_far: Hashable, access: accesses.Access) -> Hashable:
        at, plain = _heard(so_far)
        if access.is_plain:
            return at, plain | {access._replace(text="", site="")}
        if access.order != SEQ_CST:
            raise OutOfOrder(STRONG, f"{access.row} is {access.order}: {access.text.strip()}")
        return self._passed(at, plain, access.row, access), frozenset()

    def ended(self, so_far: Hashable) -> None:
        self._passed(*_heard(so_far), "", None)

    def _passed(
        self,
        at: frozenset[Hashable],
        plain: frozenset[accesses.Access],
        row: str,
        access: accesses.Access | None,
    ) -> frozenset[Hashable]:
        ways = [(key, way) for key in at for way in self.automaton.ways(key)]
        there = [(key, way) for key, way in ways if self._is_there(way, row, access)]
        if not there:
            expected = sorted({self._name(way) for _, way in ways})
            raise OutOfOrder(
                ORDER,
                f"after {', '.join(sorted(self._where(key) for key in at))} comes "
                f"{row or 'the end'}, and in the model {' or '.join(expected)}",
            )
        fit = [(key, way) for key, way in there if all(_allowed(one, way.plain) for one in plain)]
        if not fit:
            wrong = next(one for one in plain if not all(_allowed(one, w.plain) for _, w in there))
            raise OutOfOrder(
                PLAIN,
                f"{wrong.kernel} has a plain {wrong.access} of {wrong.word} ({wrong.whose.name.lower()}) "
                f"before {row or 'the end'}: that is not listed there",
            )
        done = {(one.access, one.word) for one in plain}
        whole = [(key, way) for key, way in fit if way.must <= done]
        if not whole:
            access_, word = sorted(fit[0][1].must - done)[0]
            raise OutOfOrder(LEFT_OUT, f"there is no {access_} of {word} before {row or 'the end'}")
        self.taken |= {(key, way.to, way.must) for key, way in whole}
        return frozenset(way.to for _, way in whole)

    def never(self) -> str:
        """An access of the model's that has not been heard after another, as a sentence; "" if none."""
        missing = self.automaton.passages - self.taken
        if not missing:
            return ""
        key, after, must = min(missing, key=_in_order)
        rows = " or ".join(sorted(self.automaton.moments[after].rows)) or "the end"
        between = "".join(f", with a {access} of {word}" for access, word in sorted(must))
        return f"after {self._where(key)} never comes {rows}{between}"

    def _is_there(self, way: Way, row: str, access: accesses.Access | None) -> bool:
        if access is None:
            return way.to == END
        rows = self.automaton.moments[way.to].rows
        # Of a family of words: a worker publishes its own, and awaits those of others.
        own = access.word != a.COMPLETED or (access.whose is Whose.OWN) == (
            access.access in ("atomic_store", "futex_wake")
        )
        return row in rows and own

    def _name(self, way: Way) -> str:
        return " or ".join(sorted(self.automaton.moments[way.to].rows)) or "the end"

    def _where(self, key: Hashable) -> str:
        return self.automaton.moments[key].where


def _in_order(passage: Passage) -> str:
    key, to, must = passage
    return f"{key} {to} {sorted(must)}"


def _heard(so_far: Any) -> Heard:
    at, plain = so_far
    return at, plain


def _allowed(one: accesses.Access, listed: Iterable[a.Access]) -> bool:
    """Is a plain access listed? To load is less than to store, and one's own is one of all."""
    return any(
        one.group == it.word
        and (one.access == "load" or it.writes)
        and (it.whose is Whose.ALL or it.whose is one.whose)
        for it in listed
    )


# The model's steps.


def protocol(p: Proof, who: str, kind: int) -> Automaton:
    """The caller's or a helper's program in rounds of a kind, as the model has it now.

    Before a dynamic round the caller may have had one for the index.
    """
    made = Automaton()
    made.chain(END, Moment("the end"))
    made.chain(BEGIN, Moment("the beginning"))
    _add_round(p, made, who, kind, lambda pc: pc, {"over"})
    if who == "helper":
        made.chain("arrive", Moment("arriving", frozenset({"helper atomic_add ARRIVED"})))
        made.then(BEGIN, "arrive")
        made.then("arrive", h.READ_DOORBELL)
        return made
    begins: list[Hashable] = [h.WRITE_JOB, h.SET_QUIT]
    if kind in _INDEXED:
        indexes = _INDEXED[kind]
        _add_round(p, made, who, indexes, _of_the_index, {_after_the_index(h.WRITE_JOB)})
        _add_round(p, made, who, indexes, _after_the_index, set(), _WRITES)
        begins.append(_of_the_index(h.WRITE_JOB))
    # Between two flushes the caller has all of it: as it does where the model writes the job. A flush
    # may be refused: then there is no round. A backup is not.
    if kind != BACKUP:
        begins.append(END)
    for name in ("before", "over"):
        made.chain(name, Moment("between flushes", plain=_plain(h.WRITE_JOB, who)))
    made.then(BEGIN, "before")
    made.then("before", *begins)
    made.then("over", END)
    if kind == STATIC:
        made.chain("asleep", Moment("waiting for all", _park(a.COMPLETED), (a.READ_JOB,)))
        waits = made.last[h.AWAIT_ALL]
        made.then(h.AWAIT_ALL, waits, "asleep")
        made.then("asleep", waits)
    return made


def _of_the_index(pc: Hashable) -> Hashable:
    """The key of a step in the round that indexes, before the one that flushes."""
    return "index", pc


#: Where the caller writes a round's parameters.
_WRITES = (h.WRITE_JOB, h.REWIND)


def _after_the_index(pc: Hashable) -> Hashable:
    """The key of a step in the round that follows. Only that this one is never the caller's alone."""
    return ("indexed", pc) if pc in _WRITES else pc


def _add_round(
    p: Proof,
    made: Automaton,
    who: str,
    kind: int,
    key: Callable[[Hashable], Hashable],
    over: set[Hashable],
    only: Container[Hashable] | None = None,
) -> None:
    """A program's steps in a round of a kind; ``over`` is what comes when the caller has returned."""
    for pc, step in steps_of(h.CALLER if who == "caller" else h.HELPER):
        if only is not None and pc not in only:
            continue
        made.chain(key(pc), *_moments(pc, step.act.__name__.replace("_", " "), who, kind))
        goes = set(_following(p, step.act, who, kind))
        if step.spurious:
            goes |= set(_following(p, step.spurious, who, kind))
        if kind == QUEUE:  # to copy is a part of it there
            goes -= {h.COPY, h.CALLER_COPY}
        if kind == BY_NODE and pc in (h.TAKE_BATCH, h.CALLER_TAKE_BATCH) and _asks_on(p):
            goes.add(pc)
        after = (END if to == ENDED else key(to) for to in sorted(goes, key=str))
        made.then(key(pc), *(over if pc == h.RETURN else after))


def _following(p: Proof, act: Callable[..., object], who: str, kind: int) -> Iterator[Hashable]:
    """Where a step of the model may lead, in rounds of a kind: the leaves of the term that says so."""
    state = any_state(p)
    at: Any = state.at
    at = at._replace(awaited=natural(int(kind == STATIC)))
    if kind in (SERIAL, BACKUP, INDEX, INDEX_BY_NODE):
        at = at._replace(alone=natural(int(kind == SERIAL)))
    _, after = p.lift(act)(at, getattr(state, who))
    yield from _leaves(after.pc)


def _asks_on(p: Proof) -> bool:
    """In a round by node, may a worker that finds a cursor used up take from the next one?"""
    first, last, used_up, nodes = p.naturals("first last used_up nodes")
    after, _ = p.lift(node_cursors.after_taking)(first, last, used_up, nodes)
    return node_cursors.TAKE in set(_leaves(after))


def _park(word: str) -> frozenset[str]:
    """To wait: asleep, or, before that, by letting others run."""
    return frozenset({f"futex_wait {word}", _YIELD})


def _plain(pc: Hashable, who: str) -> tuple[a.Access, ...]:
    listed = tuple(access for access in ACCESSES[pc] if not access.row)
    return (*listed, _TOTALS) if who == "caller" else listed


def _moments(pc: int, name: str, who: str, kind: int) -> list[Moment]:
    """A step of the model as moments: its atomic accesses, as listed, with what the kernel's own are."""
    plain = _plain(pc, who)
    atomic = [access for access in ACCESSES[pc] if access.row]
    rows = [access.row.partition(",")[0] for access in atomic if access.row != IN_THE_QUEUE]
    whole = partial(Moment, name)
    says = [
        whole(frozenset({_FENCE}), plain, frozenset({("store", "END")})),
        whole(frozenset({_COMPLETED})),
    ]
    if pc in (h.TAKE_BATCH, h.CALLER_TAKE_BATCH) and kind in (STATIC, QUEUE):
        return _instead_of_batches(pc, name, who, kind)
    if pc == h.COMPLETE:
        woken = whole(frozenset({f"futex_wake {a.COMPLETED}"}), (a.READ_JOB,))
        return [*says, woken] if kind == STATIC else says
    if pc == h.FLUSH_ALONE:
        return says
    if pc == h.AWAIT_ALL:
        return [*says, whole(frozenset({"wait_for_all atomic_load COMPLETED"}), (a.READ_JOB,))]
    if pc == h.CLOSE_JOB:
        close = whole(frozenset({"run_round atomic_and STATE"}), (a.READ_JOB,))
        return [close] if kind == STATIC else [*says, close]
    if pc in _WAKES:
        return [whole(frozenset({f"futex_wake {_WAKES[pc]}"}), plain)]
    if rows == [IN_THE_KERNEL]:
        return [whole(_park(atomic[0].word), plain)]
    return [whole(frozenset(rows), plain, _must(pc))]


def _instead_of_batches(pc: int, name: str, who: str, kind: int) -> list[Moment]:
    """Off the queue a word is taken like a batch; in a static round the caller has its own share.

    (To the model it finds no batch there: of its share nothing is seen by others.)
    """
    if kind == QUEUE:
        asked = ("search", "copy_queued") if who == "caller" else ("copy_queued",)
        return [Moment(name, frozenset({f"work {kernel}"}), _plain(pc, who)) for kernel in asked]
    share = _plain(h.CALLER_COPY, who)
    return [Moment(name, frozenset(), share)]


def _must(pc: int) -> frozenset[tuple[str, str]]:
    stored = {
        h.WRITE_JOB: _PARAMETERS,
        h.REWIND: _REWOUND,
        h.COPY: (a.PAGE,),
        h.CALLER_COPY: (a.PAGE,),
    }
    must = {("store", word) for word in stored.get(pc, ())}
    return frozenset(must | ({("load", "ROUND")} if pc == h.READ_JOB else set()))


# Rounds off the queue.

_COPIER = (
    "copy_queued atomic_load CLOSED",
    *(
        f"copy_one {rest}"
        for rest in (
            "atomic_load HEAD",
            "atomic_load TAIL",
            "atomic_load SLOTS",
            "compare_and_swap HEAD",
        )
    ),
)
_LOOKS = (a.READ_JOB, a.Access("load", a.PAGE, whose=Whose.ALL))
_TAIL = a.Access("load", a.QUEUE)


def queue(p: Proof, who: str) -> Automaton:
    """The searcher's program, or a copier's; the searcher copies too when the queue is full."""
    made = Automaton()
    made.chain(BEGIN, Moment("the beginning"))
    made.chain(END, Moment("the end"))
    if who == "copier":
        _add_copier(p, made, "", q.FINISHED)
        made.then(BEGIN, ("", q.READ_CLOSED))
        made.then(("", q.FINISHED), END)
        return made
    texts = q.SEARCHER_STEPS
    put, publish, close = (f"search atomic_store {word}" for word in ("SLOTS", "TAIL", "CLOSED"))
    for step in (q.LOOK_FIRST, q.LOOK_ON):
        made.chain(("search", step), Moment(texts[step], plain=_LOOKS))
    made.chain(
        ("search", q.QUEUE),
        Moment(texts[q.QUEUE], frozenset({"search atomic_load HEAD"}), (_TAIL, a.READ_JOB)),
        Moment("put the word into its slot", frozenset({put})),
        Moment("publish it", frozenset({publish})),
    )
    made.chain(("search", q.CLOSE), Moment(texts[q.CLOSE], frozenset({close}), (a.READ_JOB,)))
    made.chain(("search", q.SEARCHED), Moment(texts[q.SEARCHED]))
    made.then(BEGIN, ("search", q.LOOK_FIRST))
    for step in range(q.SEARCHED):
        goes = set(_after_search(p, step))
        if step == q.QUEUE:  # no room
            goes.remove(q.QUEUE)
            made.following["search", q.QUEUE].append(("help", q.READ_HEAD))
        made.then(("search", step), *(("search", to) for to in sorted(goes)))
    made.then(("search", q.SEARCHED), END)
    _add_copier(p, made, "help", None)
    return made


def _add_copier(p: Proof, made: Automaton, name: str, ends: int | None) -> None:
    """A copier's steps; without an end it goes on searching once it has copied a word, or found none."""
    for step in range(q.FINISHED + 1):
        plain = tuple(access for access in ACCESSES[h.COPY] if not access.row)
        if step < q.FLUSH:
            moment = Moment(q.STEPS[step], frozenset({_COPIER[step]}))
        elif step == q.FLUSH:
            moment = Moment(q.STEPS[step], plain=plain, must=frozenset({("store", a.PAGE)}))
        else:
            moment = Moment(q.STEPS[step])
        made.chain((name, step), moment)
    made.chain((name, "yield"), Moment("letting others run", frozenset({_YIELD})))
    made.then((name, "yield"), (name, q.READ_CLOSED))
    for step in range(q.FINISHED):
        for to in sorted(_after_copying(p, step)):
            if ends is None and to in (q.READ_CLOSED, q.FINISHED):
                made.then((name, step), ("search", q.QUEUE))
            elif step == q.READ_TAIL and to == q.READ_CLOSED:
                made.then((name, step), (name, "yield"))
            else:
                made.then((name, step), (name, to))


def _after_search(p: Proof, step: int) -> set[int]:
    w = a_state(p)
    me = w.searcher._replace(step=natural(step))
    _, after = p.lift(q.searcher_step)(w.queue, w.dirty, w.end, me)
    return set(_leaves(after.step))


def _after_copying(p: Proof, step: int) -> set[int]:
    w = a_state(p)
    _, after = p.lift(q.copier_step)(w.queue, w.me._replace(step=natural(step)))
    return set(_leaves(after.step))


def _leaves(value: Any) -> Iterator[int]:
    """What a term of constants may be."""
    todo = [z3.simplify(natural(value).z)]
    while todo:
        term: Any = todo.pop()
        if z3.is_int_value(term):
            yield term.as_long()
        elif term.decl().kind() == z3.Z3_OP_ITE:
            todo += term.children()[1:]
        else:
            raise ValueError(f"a step of the model leads to {term}")


# The claims.

_CONTROL, _JOB = (Sum(0, ((name, 1),)) for name in ("control", "job"))
_HELPER, _CALLER = Sum(0, (("worker", 1),)), Sum(0)


@dataclass(frozen=True)
class Broken:
    """One thing broken in one kernel's text."""

    kernel: str
    change: Change


#: What must be refused, of each claim.
BROKEN: dict[str, tuple[Broken, ...]] = {}


class Walked(NamedTuple):
    """One kernel, walked in rounds of one kind: its name, its arguments, whose it is, what is known."""

    kernel: str
    arguments: tuple[Sum, ...]
    worker: Sum = _CALLER
    known: Mapping[str, int] = {}


def _a_number(name: str) -> Sum:
    return Sum(0, ((name, 1),))


def compare(walks: Iterable[tuple[Automaton, list[Walked]]], *, queue: bool) -> dict[str, str]:
    """Walk kernels beside automata: how each obligation is refuted that is."""
    failures: dict[str, str] = {}
    for automaton, of_one in walks:
        beside = Beside(automaton)
        for walked in of_one:
            try:
                walk(walked, beside, Beside.first, queue=queue)
            except OutOfOrder as error:
                failures.setdefault(error.obligation, f"{walked.kernel}: {error}")
        if not failures and (never := beside.never()):
            failures[LEFT_OUT] = never
    return failures


def walk(walked: Walked, listener: accesses.Listener, first: Hashable, *, queue: bool) -> None:
    """Walk one kernel. Raises UnknownIR."""
    kernels = source.kernels()
    walk_ = Walk(kernels, listener, walked.worker, walked.known, queue=queue)
    walk_.run(kernels.symbol(walked.kernel), list(walked.arguments), first)


def _state(
    name: str,
    walks: Callable[[Proof], Iterable[tuple[Automaton, list[Walked]]]],
    queue: bool,
    p: Proof,
) -> None:
    p.compiled = p.enumerated = True
    p.assume("no exception is raised: no number of threads is 0")
    p.assume("the process is the one that has made the pool")
    p.assume("what is given no control block touches none")
    p.assume("a node has a number below the number of nodes")
    p.assume("an index of places stays within their stretches")
    with source.replaced(_texts(name, p.mutant)):
        failures = compare(walks(p), queue=queue)
    for obligation in (STRONG, ORDER, PLAIN, LEFT_OUT):
        p.found(obligation, failures.get(obligation, ""))


def _texts(name: str, mutant: str | None) -> dict[str, str]:
    """The texts that a control breaks, by symbol."""
    kernels = source.kernels()
    return {
        symbol: one.change.made(kernels.texts[source.AS_MADE][symbol])
        for one in BROKEN[name]
        if one.change.name == mutant
        for symbol in [kernels.symbol(KERNELS + one.kernel)]
    }


def _helpers(p: Proof) -> Iterator[tuple[Automaton, list[Walked]]]:
    """A helper, as compiled, accesses what the threads share in the model's order, on every path.

    From its first step to its last, in rounds of each kind; what it copies in a round off the queue is
    two claims more.
    """
    for kind in (DYNAMIC, BY_NODE, STATIC, QUEUE, BACKUP, INDEX, INDEX_BY_NODE):
        walked = Walked(
            KERNELS + "check_in.helper", (_CONTROL, _HELPER), _HELPER, {"STRATEGY": kind}
        )
        yield protocol(p, "helper", kind), [walked]


def _callers(p: Proof) -> Iterator[tuple[Automaton, list[Walked]]]:
    """The caller's kernels, as compiled, access what the threads share in the model's order.

    A flush, a backup and the dismissal of the helpers: on every path, in rounds of each kind, and where
    none is opened.
    """
    threads, grain = _a_number("threads"), _a_number("grain")
    dismiss = Walked(KERNELS + "check_in.dismiss", (_CONTROL,))
    for kind in (SERIAL, STATIC, DYNAMIC, BY_NODE, QUEUE):
        arguments = (_CONTROL, _JOB, Sum(kind), threads)
        yield (
            protocol(p, "caller", kind),
            [Walked(KERNELS + "check_in.flush_once", arguments), dismiss],
        )
    backup = Walked(KERNELS + "check_in.back_up_once", (_CONTROL, _JOB, grain, threads))
    yield protocol(p, "caller", BACKUP), [backup, dismiss]


def _searchers(p: Proof) -> Iterator[tuple[Automaton, list[Walked]]]:
    """Who searches for the queue, as compiled, accesses it in the model's order, on every path."""
    yield queue(p, "searcher"), [Walked(KERNELS + "strategies.search", (_CONTROL,))]


def _copiers(p: Proof) -> Iterator[tuple[Automaton, list[Walked]]]:
    """Who copies off the queue, as compiled, accesses it in the model's order, on every path."""
    yield (
        queue(p, "copier"),
        [Walked(KERNELS + "strategies.copy_queued", (_CONTROL, _HELPER), _HELPER)],
    )


@dataclass(frozen=True)
class Claimed:
    """What a claim walks beside what, and whether a round off the queue is one access there."""

    walks: Callable[[Proof], Iterable[tuple[Automaton, list[Walked]]]]
    queue: bool


#: The claims, by their names.
CLAIMED: dict[str, Claimed] = {}


def _claim(
    name: str,
    walks: Callable[[Proof], Iterable[tuple[Automaton, list[Walked]]]],
    *controls: Broken | Control,
    queue: bool,
) -> None:
    CLAIMED[name] = Claimed(walks, queue)
    BROKEN[name] = tuple(one for one in controls if isinstance(one, Broken))
    made = Claim(
        f"compiled.order.{name}",
        " ".join(docstring(walks).split("\n\n")[0].split()),
        partial(_state, name, walks, queue),
        tuple(
            one
            if isinstance(one, Control)
            else Control(one.change.name, refutes=one.change.refutes, mutant=one.change.name)
            for one in controls
        ),
        slow=True,
    )
    CLAIMS[made.name] = made


_FENCED = r"  (?:call void @llvm\.x86\.sse\.sfence\(\)|fence seq_cst)\n"

_claim(
    "helper",
    _helpers,
    faulty("parameters read early", refutes=ORDER),
    Broken(
        "check_in.helper",
        Change(
            "a swap that orders nothing",
            "(cmpxchg .*) seq_cst seq_cst",
            r"\1 monotonic monotonic",
            STRONG,
        ),
    ),
    Broken(
        "check_in.helper",
        Change(
            "the round's number loaded before the check-in",
            r"(  %\S+ = cmpxchg)",
            rf"""  %early.control = load i64, ptr %control, align 8
  %early.word = add i64 %early.control, {PLACE_OF["ROUND"]}
  %early.place = inttoptr i64 %early.word to ptr
  %early = load i64, ptr %early.place, align 8
\1""",
            PLAIN,
        ),
    ),
    Broken("check_in.complete", Change("no fence", _FENCED, "", ORDER)),
    Broken(
        "check_in.complete",
        Change(
            "the fence behind what it fences",
            rf"({_FENCED})((?:.*\n)*?)(  store atomic .*\n)",
            r"\2\3\1",
            ORDER,
        ),
    ),
    Broken(
        "check_in.check_out",
        Change(
            "checks out twice",
            r"(  )(%\S+)( = atomicrmw .*\n)",
            r"\1\2\3\1%again\3",
            ORDER,
        ),
    ),
    Broken(
        "strategies.take_batch",
        Change("a batch taken in passing", "(atomicrmw add .*) seq_cst", r"\1 monotonic", STRONG),
    ),
    Broken(
        "strategies.work_off_nodes",
        Change(
            "a batch of a node taken and not flushed",
            r"(  %\S+ = )call i32 @\S*flush_places\S*\(.*\)",
            r"\1add i32 0, 0",
            LEFT_OUT,
        ),
    ),
    Broken(
        "strategies.end_line",
        Change(
            "the end of its work not noted",
            r"  store i64 %\S+, ptr %\S+, align 8\n((?:.*\n)*?  ret i32 0)",
            r"\1",
            LEFT_OUT,
        ),
    ),
    queue=True,
)
_claim(
    "caller",
    _callers,
    faulty("rings first", refutes=ORDER),
    Broken(
        "check_in.run_round", Change("the job is never opened", "  store atomic .*\n", "", ORDER)
    ),
    Broken(
        "check_in.run_round",
        Change("closed in passing", "(atomicrmw and .*) seq_cst", r"\1 monotonic", STRONG),
    ),
    Broken(
        "check_in.start_round",
        Change(
            "CURSOR not rewound",
            rf"(add i64 %\S+, {CURSORS}\n(?:  .*\n)*?)  store i64 0, ptr %\S+, align 8\n",
            r"\1",
            LEFT_OUT,
        ),
    ),
    Broken(
        "check_in.run_round",
        Change(
            "a parameter stored in an open round",
            r"(  store atomic .*\n)",
            rf"""\1  %late.control = load i64, ptr %control, align 8
  %late.word = add i64 %late.control, {PLACE_OF["ROUND"]}
  %late.place = inttoptr i64 %late.word to ptr
  store i64 0, ptr %late.place, align 8
""",
            PLAIN,
        ),
    ),
    queue=True,
)
_claim(
    "searcher",
    _searchers,
    Broken(
        "strategies.search",
        Change("a slot stored plainly", r"store atomic (.*) seq_cst", r"store \1", ORDER),
    ),
    Broken(
        "strategies.search",
        Change(
            "TAIL published without a release",
            r"(store atomic (?:.*\n)*?  store atomic .*) seq_cst",
            r"\1 monotonic",
            STRONG,
        ),
    ),
    queue=False,
)
_claim(
    "copier",
    _copiers,
    Broken(
        "strategies.copy_one",
        Change(
            "TAIL loaded without an acquire",
            r"(load atomic (?:.*\n)*?  %\S+ = load atomic .*) seq_cst",
            r"\1 monotonic",
            STRONG,
        ),
    ),
    Broken(
        "strategies.copy_one",
        Change(
            "an entry taken twice",
            r"(  )(%\S+)( = cmpxchg .*\n)",
            r"\1\2\3\1%again\3",
            ORDER,
        ),
    ),
    queue=False,
)
