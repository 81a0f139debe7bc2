"""The check-in protocol over a weak memory: its own steps, with the pages, counts and words around them.

``model.protocols.check_in`` has one count of the helpers that have COMPLETED a round and no pages. Here
each helper has a COMPLETED word and a line of counters, as in the pool, and there are pages: the guest
writes all of them, a worker copies each, and when the flush returns the guest must read the copies.
What the kernel keeps (who sleeps, who is woken), and what only invariants read, stays apart from the
memory; a futex compares its word under a lock, by a relaxed load and nothing stronger.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from model.explore.weak.memory import Fence, Memory, Order, SequentiallyConsistent, Value
from model.explore.weak.search import (
    SPURIOUS,
    STOP,
    UNKNOWN,
    Outcome,
    OverMemory,
    Stage,
    State,
    TouchesAnotherWordError,
    Unknown,
    Wrong,
    with_unknown_words,
)
from model.faults.check_in import ACCESSES
from model.protocols import accesses as a
from model.protocols import check_in as h
from model.protocols.accesses import IN_THE_KERNEL, Access
from model.protocols.check_in import ControlBlock, Process
from model.transitions import ENDED, STOPPED, Step

VISIBLE = "at return the guest sees every copy"
UP_TO_DATE = "a worker sees what the guest wrote before the flush"
COUNTED = "at return the counts are there"
PARAMETERS = "a helper reads the parameters of the round it works in"

#: ControlBlock words in the memory; for the steps, fields of ``ControlBlock``.
WORDS = (a.STATE, a.DOORBELL, a.CURSOR, a.JOB)
_RING_LOCK, _STATE_LOCK, _COMPLETED_LOCK = 0, 1, 2
_LOCKS = {a.DOORBELL: _RING_LOCK, a.STATE: _STATE_LOCK}
_WAKES = {h.WAKE_HELPERS: _RING_LOCK, h.WAKE_TO_QUIT: _RING_LOCK, h.WAKE_CALLER: _STATE_LOCK}
_COPIES = (h.COPY, h.CALLER_COPY)
#: Kept by the caller of a static round while it sleeps on a helper's COMPLETED.
_ASLEEP = -1

#: These read a word that is in the memory here, where no step may look twice. That no batch is lost is
#: seen when the flush returns: VISIBLE.
_ABOUT_MEMORY = (h.STAYS,)

MakeMemory = Callable[[Mapping[str, Value], int, int], Memory]
#: A step of the model, done: what is apart, the process, and the word that it was given.
_Acted = tuple[ControlBlock, Process, Any]


class CheckInOverMemory(OverMemory):
    """The check-in protocol over a memory.

    ``plan``: the words, awaited and alone of each round (``model.protocols.check_in.Round``), if they
    differ. ``orders``: rows of the table whose access is weaker than sequentially consistent. ``split``:
    rows whose read-modify-write is a load and then a store. ``fence``: what ``fence_stores`` is, None for
    nothing. ``stops``: may helpers stop for ever while outside?
    """

    def __init__(
        self,
        memory: MakeMemory,
        helpers: int = 1,
        rounds: int = 2,
        words: int = 1,
        *,
        static: bool = False,
        plan: Sequence[Sequence[int]] = (),
        orders: Mapping[str, Order] | None = None,
        split: Collection[str] = (),
        fence: Fence | None = Fence.SFENCE,
        stops: bool = False,
    ) -> None:
        asked = [h.Round(*of_one) for of_one in plan]
        system = h.check_in_protocol(helpers, rounds, words, static=static, plan=asked)
        self.name = f"{system.name}, over a memory"
        self.orders = dict(orders or {})
        self._split = frozenset(split)
        self._fence = fence
        self._stops = stops
        self._helpers = range(1, helpers + 1)
        pages = [page for of_one in system.shared.plan for page in self._pages_of(of_one)]
        self._steps: Mapping[Any, Step] = system.steps
        lift = with_unknown_words().lift
        self._acts = {pc: lift(step.act) for pc, step in self._steps.items()}
        at_first = {word: getattr(system.shared, word.lower()) for word in WORDS}
        self._pages = list(dict.fromkeys(pages))
        at_first |= dict.fromkeys(pages, 0)
        at_first |= {f"{word} {i}": 0 for word in (a.COMPLETED, a.LINE) for i in self._helpers}
        if any(of_one.alone for of_one in asked):
            at_first[f"{a.COMPLETED} 0"] = 0
        self.memory = memory(at_first, helpers + 1, len(_LOCKS) + 1)
        self._races: dict[tuple[int, int], list[a.Race]] = {}
        self._looks_for_races = isinstance(self.memory, SequentiallyConsistent)
        self._unknown = {word.lower(): UNKNOWN for word in WORDS}
        self._acted: dict[tuple[ControlBlock, Process, str, Value | None], _Acted] = {}
        in_memory: dict[str, Any] = {word.lower(): 0 for word in WORDS}
        apart = system.shared._replace(**in_memory)
        stages = tuple(Stage(process) for process in system.processes)
        self.first = State(apart, stages, self.memory.start())
        self._is_final = system.is_final

    def _pages_of(self, asked: ControlBlock | h.Round) -> list[str]:
        """The pages that are flushed in a round: one a batch; or, static, one in each helper's share.

        Of the caller's own share nothing is to be seen.
        """
        if asked.awaited:
            return [_share(helper) for helper in self._helpers]
        return [_page(number) for number in range(asked.words)]

    def text(self, stage: Stage) -> str:
        """The model's text of the step."""
        return self._steps[stage.me.pc].text

    def shown(self, word: str, value: Value) -> str:
        """STATE, and what was seen of it, by its bits."""
        return h.state_in_words(value) if word.startswith((a.STATE, "seen_state")) else str(value)

    def is_final(self, state: State) -> bool:
        """As in the model."""
        return self._is_final(tuple(stage.me for stage in state.stages))

    def broken(self, state: State) -> str | None:
        """No data race: over a sequentially consistent memory, as the list of accesses says it."""
        if not self._looks_for_races:
            return None
        for number, helper in enumerate(state.stages[1:], start=1):
            for other in state.stages[:number]:
                for race in self._races_between(other.me.pc, helper.me.pc):
                    if a.same_word(state.apart, race, other.me, helper.me):
                        return f"data race on {race.word}"
        return None

    def _races_between(self, pc: int, helper_pc: int) -> list[a.Race]:
        places = pc, helper_pc
        if places not in self._races:
            gone = pc == STOPPED or helper_pc in (STOPPED, ENDED)
            self._races[places] = [] if gone else list(a.races([pc], [helper_pc], ACCESSES))
        return self._races[places]

    def accidents(self, state: State, thread: int) -> Iterator[tuple[str, Outcome]]:
        """A futex returns for no reason; a helper stops for ever."""
        stage = state.stages[thread]
        step = self._steps[stage.me.pc]
        if step.spurious:
            apart, me = step.spurious(state.apart, stage.me)
            yield SPURIOUS, (apart, Stage(me), state.memory)
        if stage.kept == _ASLEEP:
            yield SPURIOUS, (state.apart, stage._replace(kept=0), state.memory)
        if step.stops and self._stops:
            yield STOP, (state.apart, Stage(Process(STOPPED)), state.memory)

    def outcomes(self, state: State, thread: int) -> Iterator[Outcome]:
        """The step, by what it does."""
        apart, stages, memory = state
        stage = stages[thread]
        pc = stage.me.pc
        step = self._steps[pc]
        if step.invariants and not stage.done:
            known = apart._replace(**self._unknown)
            for invariant in step.invariants:
                if invariant not in _ABOUT_MEMORY and not invariant.holds(known, stage.me):
                    raise Wrong(invariant.name)
        main = _main_access(pc)
        if pc == h.CLOSE_JOB and self._fence and not stage.done:
            # The caller's own complete(); its COMPLETED word is nobody else's.
            for fenced in self._fenced(memory, thread):
                yield apart, stage._replace(done=1), fenced
        elif pc in _COPIES:
            yield from self._copies(apart, stage.me, thread, memory)
        elif pc == h.FLUSH_ALONE:
            yield from self._flushes_alone(apart, stage, thread, memory)
        elif pc == h.COMPLETE:
            yield from self._completes(apart, stage, thread, memory)
        elif pc == h.AWAIT_ALL and step.ready:
            yield from self._awaits(state, thread)
        elif pc == h.RETURN:
            yield from self._returns(apart, stage.me, thread, memory)
        elif pc in _WAKES:
            for locked in self.memory.lock(memory, thread, _WAKES[pc]):
                apart, me, _ = self._act(apart, stage.me)
                yield apart, Stage(me), self.memory.unlock(locked, thread, _WAKES[pc])
        elif main is None:
            if step.ready is None or step.ready(apart, stage.me):
                apart, me, _ = self._act(apart, stage.me)
                # A thread's end is the kernel's, and drains what it has stored.
                ended = self.memory.lock(memory, thread, _RING_LOCK) if pc == h.END else [memory]
                yield from ((apart, Stage(me), after) for after in ended)
        elif main.row == IN_THE_KERNEL:
            yield from self._waits(apart, stage.me, thread, memory, main.word)
        elif main.kind == "load":
            yield from self._loads(apart, stage.me, thread, memory, main)
        elif main.kind == "store":
            apart, me, new = self._act(apart, stage.me, main.word, UNKNOWN)
            for after in self.memory.stores(memory, thread, main.word, new, self._order_of(main)):
                yield apart, Stage(me), after
        else:
            yield from self._updates(apart, stage, thread, memory, main)

    def _act(
        self, apart: ControlBlock, me: Process, word: str = "", value: Any = UNKNOWN
    ) -> _Acted:
        """The model's step, given one word: what is apart, the process, and the word after it.

        Worked out once, however many states have the same in them.
        """
        given = apart, me, word, None if value is UNKNOWN else value
        if given not in self._acted:
            self._acted[given] = self._act_anew(apart, me, word, value)
        return self._acted[given]

    def _act_anew(self, apart: ControlBlock, me: Process, word: str, value: Any) -> _Acted:
        given = {**self._unknown, word.lower(): value} if word else self._unknown
        after, me = self._acts[me.pc](apart._replace(**given), me)
        new = None
        for name in WORDS:
            left = getattr(after, name.lower())
            if name == word:
                new = left
            elif left is not UNKNOWN:
                raise TouchesAnotherWordError(f"a step that may touch {word} changes {name}")
        apart = after._replace(**dict.fromkeys(self._unknown, 0))
        if any(isinstance(part, Unknown) for part in (*apart, *me)):
            raise TouchesAnotherWordError(f"a step that may touch {word} depends on another word")
        return apart, me, new

    def _order_of(self, access: Access) -> Order:
        return self.order(access.row) if access.row else Order.PLAIN

    def _loads(
        self, apart: ControlBlock, me: Process, thread: int, memory: Any, main: Access
    ) -> Iterator[Outcome]:
        for value, after in self.memory.loads(memory, thread, main.word, self._order_of(main)):
            if main.word == a.JOB and value != apart.live:
                raise Wrong(PARAMETERS)
            after_apart, after_me, _ = self._act(apart, me, main.word, value)
            yield after_apart, Stage(after_me), after

    def _updates(
        self, apart: ControlBlock, stage: Stage, thread: int, memory: Any, main: Access
    ) -> Iterator[Outcome]:
        me, order = stage.me, self._order_of(main)
        if me.pc == h.CHECK_OUT:
            _, memory = self.one(memory, thread, a.JOB, PARAMETERS)
        fenced = 1 if me.pc == h.CLOSE_JOB and self._fence else 0
        if main.row not in self._split:
            for old, write in self.memory.updates(memory, thread, main.word, order):
                after_apart, after_me, new = self._act(apart, me, main.word, old)
                # What fails to swap writes nothing.
                after = write(new if new != old else None)
                if after is not None:
                    yield after_apart, Stage(after_me), after
        elif stage.done == fenced:
            for old, after in self.memory.loads(memory, thread, main.word, order):
                yield apart, Stage(me, fenced + 1, old), after
        else:
            apart, me, new = self._act(apart, me, main.word, stage.kept)
            stored = [memory]
            if new != stage.kept:
                stored = self.memory.stores(memory, thread, main.word, new, order)
            yield from ((apart, Stage(me), after) for after in stored)

    def _waits(
        self, apart: ControlBlock, me: Process, thread: int, memory: Any, word: str
    ) -> Iterator[Outcome]:
        """The kernel compares the futex with what was seen, and puts the thread to sleep."""
        lock = _LOCKS[word]
        for locked in self.memory.lock(memory, thread, lock):
            for value, after in self.memory.loads(locked, thread, word, Order.RELAXED):
                after_apart, after_me, _ = self._act(apart, me, word, value)
                yield after_apart, Stage(after_me), self.memory.unlock(after, thread, lock)

    def _copies(
        self, apart: ControlBlock, me: Process, thread: int, memory: Any
    ) -> Iterator[Outcome]:
        page = _share(thread) if apart.awaited else _page(me.batch)
        memory = self._copied(me, thread, memory, page)
        apart, me, _ = self._act(apart, me)
        yield apart, Stage(me), memory

    def _flushes_alone(
        self, apart: ControlBlock, stage: Stage, thread: int, memory: Any
    ) -> Iterator[Outcome]:
        """Copy all there is, then the fence; then the word that says so."""
        me = stage.me
        if not stage.done:
            for page in self._pages_of(apart):
                memory = self._copied(me, thread, memory, page)
            for fenced in self._fenced(memory, thread):
                yield apart, stage._replace(done=1), fenced
        else:
            apart, after_me, _ = self._act(apart, me)
            for after in self._reported(memory, thread, me):
                yield apart, Stage(after_me), after

    def _copied(self, me: Process, thread: int, memory: Any, page: str) -> Any:
        """The memory once a page has been copied, as the guest has left it."""
        found, memory = self.one(memory, thread, page, UP_TO_DATE)
        if found != -(me.job - 1):
            raise Wrong(UP_TO_DATE)
        (memory,) = self.memory.stores(memory, thread, page, me.job, Order.STREAMING)
        return memory

    def _fenced(self, memory: Any, thread: int) -> list[Any]:
        """``fence_stores``."""
        return self.memory.fences(memory, thread, self._fence) if self._fence else [memory]

    def _reported(self, memory: Any, thread: int, me: Process) -> list[Any]:
        """COMPLETED = the round."""
        order = self.order(ACCESSES[h.COMPLETE][-1].row)
        return self.memory.stores(memory, thread, f"{a.COMPLETED} {thread}", me.job, order)

    def _completes(
        self, apart: ControlBlock, stage: Stage, thread: int, memory: Any
    ) -> Iterator[Outcome]:
        """Count, then the fence; then the word that says so."""
        me, line = stage.me, f"{a.LINE} {thread}"
        if not stage.done:
            for counted in self.memory.stores(memory, thread, line, me.job, Order.PLAIN):
                for fenced in self._fenced(counted, thread):
                    yield apart, stage._replace(done=1), fenced
            return
        if stage.done == 1:
            done = stage._replace(done=2)
            for after in self._reported(memory, thread, me):
                yield apart, done, after
            return
        apart_after, me, _ = self._act(apart, me)
        if not apart.awaited:
            yield apart_after, Stage(me), memory
            return
        # futex_wake(COMPLETED): see _has_woken.
        for locked in self.memory.lock(memory, thread, _COMPLETED_LOCK):
            yield apart_after, Stage(me), self.memory.unlock(locked, thread, _COMPLETED_LOCK)

    def _has_woken(self, helper: Process, job: Value) -> bool:
        """Is the helper past its futex_wake of this static round?

        Then it has woken a caller that sleeps on its COMPLETED: one that had looked later would have
        seen the round's number, by the lock, and not have gone to sleep.
        """
        return helper.job == job and helper.pc not in (h.COPY, h.COMPLETE)

    def _awaits(self, state: State, thread: int) -> Iterator[Outcome]:
        """The next helper's COMPLETED, until it has this round's number; asleep in between.

        What is kept: that number as seen, plus 1, on the way to sleep; or that the caller is asleep.
        """
        apart, stages, memory = state
        stage = stages[thread]
        helper, me = stage.done + 1, stage.me
        completed = f"{a.COMPLETED} {helper}"
        if stage.kept == _ASLEEP:
            if self._has_woken(stages[helper].me, me.job):
                yield apart, stage._replace(kept=0), memory
        elif stage.kept:
            for locked in self.memory.lock(memory, thread, _COMPLETED_LOCK):
                for value, looked in self.memory.loads(locked, thread, completed, Order.RELAXED):
                    kept = _ASLEEP if value == stage.kept - 1 else 0
                    after = self.memory.unlock(looked, thread, _COMPLETED_LOCK)
                    yield apart, stage._replace(kept=kept), after
        else:
            order = self.order(ACCESSES[h.AWAIT_ALL][0].row)
            for value, after in self.memory.loads(memory, thread, completed, order):
                if value != me.job:
                    yield apart, stage._replace(kept=value + 1), after
                elif helper in self._helpers[:-1]:
                    yield apart, Stage(me, helper), after
                else:
                    after_apart, after_me, _ = self._act(apart, me)
                    yield after_apart, Stage(after_me), after

    def _returns(
        self, apart: ControlBlock, me: Process, thread: int, memory: Any
    ) -> Iterator[Outcome]:
        """Add up the counts of who took part; then the guest reads its pages, and writes them."""
        for helper in self._helpers:
            value, memory = self.one(memory, thread, f"{a.COMPLETED} {helper}", COUNTED)
            if value == me.job:
                value, memory = self.one(memory, thread, f"{a.LINE} {helper}", COUNTED)
                if value != me.job:
                    raise Wrong(COUNTED)
        for page in self._pages_of(apart):
            value, memory = self.one(memory, thread, page, VISIBLE)
            if value != me.job or not self.memory.in_order(memory, thread, page):
                raise Wrong(VISIBLE)
        for page in self._pages:
            (memory,) = self.memory.stores(memory, thread, page, -me.job, Order.PLAIN)
        apart, me, _ = self._act(apart, me)
        yield apart, Stage(me), memory


def _page(number: int) -> str:
    return f"{a.PAGE} {number}"


def _share(helper: int) -> str:
    return f"{a.PAGE} of helper {helper}"


def _main_access(pc: int) -> Access | None:
    """The access that the model's own step makes: the last one to a word of ``ControlBlock``."""
    found = [access for access in ACCESSES[pc] if access.word in WORDS]
    return found[-1] if found else None
