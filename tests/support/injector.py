"""Something that strikes a piece of work at every point where it may be struck, one point at a time.

    for world, strike in struck_everywhere(prepare, act, raise_interrupt):
        ...  # what ``act(world)`` has left behind, ended there by ``strike.error``

Two kinds of points:

- *signal points*, where Python runs the handler of a signal, in every frame, also in those of the
  standard library. They differ from version to version, and nothing here knows them: a signal is made
  pending just before an instruction, watching ends, and the interpreter itself delivers it where it looks
  next.
- *steps*: before every bytecode instruction of this project. More than can happen, since Python does not
  look between two loads; so what holds there holds wherever an error comes from, a MemoryError say.

The main thread only: no other runs the handlers of signals.
"""

import _thread
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal, TypeVar

World = TypeVar("World")
Kind = Literal["signals", "steps"]

PROJECT = tuple(str(Path(__file__).parents[2] / folder) for folder in ("impl", "model"))
SIGNAL = signal.SIGUSR1


# ``MakePending[number]``: as if that signal had just arrived. No call, since Python looks for signals
# after a call, and would find it in here.
MakePending: Any = type("MakePending", (), {"__class_getitem__": _thread.interrupt_main})


@dataclass(frozen=True)
class Strike:
    """Where a piece of work was struck, and the exception that it ended with, if any.

    The exception has its traceback, and with it every frame that it passed: as in an ``except`` block.
    """

    code: CodeType
    offset: int
    error: BaseException | None

    def __str__(self) -> str:
        lines = [line for start, end, line in self.code.co_lines() if start <= self.offset < end]
        where = f"{Path(self.code.co_filename).name}:{lines[0] if lines else '?'}"
        return f"{self.code.co_qualname} ({where})"


def raise_interrupt() -> None:
    """The strike of Ctrl-C."""
    raise KeyboardInterrupt


def raise_memory_error() -> None:
    """The strike of an allocation that fails."""
    raise MemoryError


def struck_everywhere(
    prepare: Callable[[], World],
    act: Callable[[World], object],
    strike: Callable[[], object] = raise_interrupt,
    *,
    kind: Kind = "signals",
    at_most: int | None = None,
) -> Iterator[tuple[World, Strike]]:
    """Run ``act`` on a new world for each point, calling ``strike`` there; ends after the last point.

    ``act`` must take the same way each time. It runs twice before, which does whatever is done only once
    (imports, caches) and finds the points. ``at_most``: a sample of that size, spread evenly.
    """
    run(act, prepare(), Search(kind))
    search = Search(kind)
    run(act, prepare(), search)
    for number in sample(search.points, at_most):
        world, blow = prepare(), Blow(number, strike, kind)
        # No name here holds the exception, whose traceback holds this frame: once the caller drops
        # it, everything is gone.
        made = [run(act, world, blow)]
        if blow.struck is not None:
            yield world, Strike(*blow.struck, made.pop())
        made.clear()


def paused_everywhere(
    prepare: Callable[[], World],
    act: Callable[[World], object],
    *,
    at_most: int | None = None,
) -> Iterator[tuple[World, Strike]]:
    """Run ``act`` in another thread, which stands still at one step after the other meanwhile."""
    search = Search("steps")
    run(act, prepare(), search)
    for number in sample(search.points, at_most):
        world, pause = prepare(), Pause(number)
        thread = threading.Thread(target=pause.run, args=(act, world))
        thread.start()
        try:
            pause.reached.wait()
            if pause.struck is not None:
                yield world, Strike(*pause.struck, None)
        finally:
            pause.over.set()
            thread.join()


def sample(points: list[int], at_most: int | None) -> list[int]:
    """At most ``at_most`` of the points, spread evenly."""
    if at_most is None or len(points) <= at_most:
        return points
    return [points[i * len(points) // at_most] for i in range(at_most)]


class Search:
    """Passes instructions by number and finds the points: those before which a strike can be made.

    A signal is made pending before each. Python has looked before the next one if the handler is not
    called in here, by the call that announces the next.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.passed = 0
        self.points: list[int] = []

    def step(self, code: CodeType, _offset: int) -> None:
        """An instruction is about to run."""
        if is_meant(code, self.kind):
            self.passed += 1
            if self.kind == "steps":
                self.points.append(self.passed)
            else:
                MakePending[SIGNAL]

    def handle(self, _number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if frame is not None and frame.f_code.co_filename != __file__:
            self.points.append(self.passed)


class Blow:
    """Passes instructions and strikes once, at a given one of the points."""

    def __init__(self, at: int, strike: Callable[[], object], kind: Kind) -> None:
        self.at, self.strike, self.kind = at, strike, kind
        self.passed = 0
        self.struck: tuple[CodeType, int] | None = None

    def step(self, code: CodeType, offset: int) -> None:
        """An instruction is about to run."""
        if is_meant(code, self.kind):
            self.passed += 1
            if self.passed == self.at:
                stop_watching()
                if self.kind == "steps":
                    self.struck = code, offset
                    self.strike()
                else:
                    MakePending[SIGNAL]

    def handle(self, _number: int, frame: FrameType | None) -> None:
        """The signal handler. In here, the work is over already."""
        if frame is not None and frame.f_code.co_filename != __file__:
            self.struck = frame.f_code, frame.f_lasti
            self.strike()


class Pause:
    """Passes instructions and stands still at a given one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0
        self.struck: tuple[CodeType, int] | None = None
        self.reached, self.over = threading.Event(), threading.Event()

    def run(self, act: Callable[[World], object], world: World) -> None:
        """``act(world)``, with the pause."""
        try:
            watch(self.step)
            act(world)
        finally:
            stop_watching()
            self.reached.set()

    def step(self, code: CodeType, offset: int) -> None:
        """An instruction is about to run."""
        if is_meant(code, "steps"):
            self.passed += 1
            if self.passed == self.at:
                self.struck = code, offset
                stop_watching()
                self.reached.set()
                self.over.wait()


def is_meant(code: CodeType, kind: Kind) -> bool:
    """Are the instructions of this code passed? Never those of the injector itself."""
    if kind == "steps":
        return code.co_filename.startswith(PROJECT)
    return code.co_filename != __file__


def run(
    act: Callable[[World], object], world: World, watcher: Search | Blow
) -> BaseException | None:
    """``act(world)``, watched; the exception it ended with."""
    with _to_itself(watcher):
        try:
            watch(watcher.step)
            act(world)
        except BaseException as error:
            return error
        finally:
            stop_watching()
    return None


@contextmanager
def _to_itself(watcher: Search | Blow) -> Iterator[None]:
    """Nobody else's handler or garbage collection in between.

    An exception that is raised inside a destructor reaches nobody: Python would print it.
    """
    hook, collects = sys.unraisablehook, gc.isenabled()
    handler = signal.signal(SIGNAL, watcher.handle)
    sys.unraisablehook = lambda _: None
    gc.disable()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(SIGNAL, handler)
        if collects:
            gc.enable()


Step = Callable[[CodeType, int], object]

if sys.version_info >= (3, 12):
    EVENTS = sys.monitoring.events.PY_START | sys.monitoring.events.INSTRUCTION
    TOOL = 4  # one of those that have no owner
    sys.monitoring.use_tool_id(TOOL, __name__)

    def watch(step: Step) -> None:
        """Call ``step`` before each instruction of this thread, and at the start of each function."""
        me = threading.get_ident()

        def mine(code: CodeType, offset: int) -> None:
            if threading.get_ident() == me:
                step(code, offset)

        for event in (sys.monitoring.events.PY_START, sys.monitoring.events.INSTRUCTION):
            sys.monitoring.register_callback(TOOL, event, mine)
        sys.monitoring.set_events(TOOL, EVENTS)

    def stop_watching() -> None:
        """Call it no more."""
        sys.monitoring.set_events(TOOL, 0)

else:

    def watch(step: Step) -> None:
        """Call ``step`` before each instruction of this thread, and at the start of each function."""

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "call":
                frame.f_trace_lines, frame.f_trace_opcodes = False, True
            # Each event calls this function, in which Python looks: so each must be passed.
            step(frame.f_code, frame.f_lasti)
            return trace

        sys.settrace(trace)

    def stop_watching() -> None:
        """Call it no more."""
        sys.settrace(None)
