"""The process that a port runs in. Whatever the port does there, the suite lives to tell.

A clean server process forks one child for each port (or for each attempt, when a failure is being
shrunk: that takes a few milliseconds). A crash, a hang, a library that will not load is a verdict.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from model.boundary.command import started_processes_hear_no_ctrl_c
from model.boundary.output import printable
from tests.conformance.call import Call, Outcome
from tests.conformance.guarded import on_fault
from tests.conformance.port import Bench, Library, Target
from tests.conformance.rules import Violation
from tests.conformance.watch import STEP, Watch

# A flush of the little memory here takes microseconds. What is counted is not time: see watch.py.
PATIENCE = 10.0
START_PATIENCE = 240.0

_context = get_context("forkserver")
_context.set_forkserver_preload(
    [f"tests.conformance.{module}" for module in ("process", "stress", "large")]
)


@dataclass(frozen=True)
class Subject:
    """What is being tested: a shared library, or our implementation with one of its strategies."""

    library: str | None = None
    strategy: str = "dynamic"

    def __str__(self) -> str:
        return self.library or f"impl, strategy {self.strategy!r}"

    def load(self) -> Target:
        if self.library:
            return Library(self.library)
        from tests.conformance.implementation import Implementation

        return Implementation(self.strategy)


class PortDiedError(Exception):
    """The port crashed, hung or would not load, during call number ``during`` of a sequence.

    ``calls``: how many it had begun of what it was asked for.
    """

    def __init__(self, violation: Violation, during: int = 0, calls: int = 0) -> None:
        super().__init__(f"{violation.rule}: {violation.detail}")
        self.violation = violation
        self.during = during
        self.calls = calls


class PortProcess:
    """A child process with the port in it; a context manager. It dies with the port."""

    def __init__(self, subject: Subject, patience: float = PATIENCE) -> None:
        """Raises PortDiedError if the port cannot be loaded."""
        self._patience = patience
        self._here, there = _context.Pipe()
        self._heart = _context.RawArray("Q", 2)
        self._process = _context.Process(
            target=_serve, args=(there, subject, self._heart), daemon=True
        )
        with started_processes_hear_no_ctrl_c():
            self._process.start()
        there.close()
        self._ask(None, max(START_PATIENCE, patience))

    def __enter__(self) -> "PortProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """The outcome of each call in turn. Raises PortDiedError."""
        outcomes: list[Outcome] = self._ask(("run", tuple(calls)), self._patience)
        return outcomes

    def ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """``function(bench, *arguments)``, evaluated in the child. Raises PortDiedError."""
        return self._ask((function, arguments), self._patience)

    def _ask(self, request: object, patience: float) -> Any:
        begun = self._calls_begun()
        try:
            return self._answer(request, patience)
        except PortDiedError as death:
            death.calls = self._calls_begun() - begun
            raise

    def _answer(self, request: object, patience: float) -> Any:
        try:
            if request is not None:
                self._here.send(request)
            watch = None  # most calls return before there is anything to watch
            while not self._here.poll(STEP):
                watch = watch or Watch(self._process.pid or 0, self._calls_begun, patience)
                if detail := watch.hangs():
                    raise PortDiedError(Violation("no-hang", detail), self._during)
            kind, answer = self._here.recv()
        except (EOFError, OSError):
            self._process.join()
            raise PortDiedError(Violation("no-crash", self._epitaph()), self._during) from None
        if kind == "died":
            raise PortDiedError(*answer)
        return answer

    def _calls_begun(self) -> int:
        return int(self._heart[BEGUN])

    @property
    def _during(self) -> int:
        """Which call of the sequence was running last."""
        return int(self._heart[RUNNING])

    def _epitaph(self) -> str:
        code = self._process.exitcode or 0
        if code < 0:
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process ended with exit status {code} in the middle of a call"


#: What a child writes while it works: the number of calls begun, and which of a sequence runs.
BEGUN, RUNNING = 0, 1
Heart = MutableSequence[int]


def _serve(pipe: Connection, subject: Subject, heart: Heart) -> None:
    """The child: until it is killed, or the suite is gone."""
    _silence_output()
    with suppress(EOFError, ConnectionError):
        _load_and_answer(pipe, subject, heart)


def _load_and_answer(pipe: Connection, subject: Subject, heart: Heart) -> None:
    def beat() -> None:
        heart[BEGUN] += 1

    try:
        bench = Bench(subject.load(), beat)
    except Exception as error:
        pipe.send(("died", (Violation("abi", printable(f"{type(error).__name__}: {error}")),)))
        return

    def fault(name: str, address: int | None, access: str) -> None:
        if address is None:
            violation = Violation("no-crash", f"{name} inside the port")
        else:
            where = bench.describe(address)
            stray = "far from" not in where
            rule = "no-crash" if not stray else "read-only" if "read-only" in where else "bounds"
            violation = Violation(rule, f"{name}: {access} {where}")
        pipe.send(("died", (violation, heart[RUNNING])))

    on_fault(fault)
    pipe.send(("ready", None))
    while True:
        request = pipe.recv()
        heart[RUNNING] = 0
        if request[0] == "run":
            outcomes = []
            for heart[RUNNING], call in enumerate(request[1]):
                outcomes.append(bench.run(call))
            pipe.send(("ran", outcomes))
        else:
            function, arguments = request
            pipe.send(("answer", function(bench, *arguments)))


def _silence_output() -> None:
    """A port that prints must not spoil the report; what our own code has to say goes to stderr."""
    if sys.stdout is not None:
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.excepthook = lambda *error: traceback.print_exception(*error)
