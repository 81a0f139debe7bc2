"""Has a process stopped getting anywhere? Told by its own clocks, however busy the machine is.

A call that hangs does one of two things. It burns processor time, or all of its threads sleep and
nobody wakes them. A process that waits for a processor does neither: it is runnable. So what is
counted is the processor time that a call has used, and the looks at which every thread slept and none
had run since the look before. A right port on a machine with twenty busy processes passes like one on
an idle machine; it takes longer.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STEP = 0.1  # seconds from look to look

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Activity:
    """What the threads of a process have done so far, and whether all of them sleep now."""

    switches: int
    threads: int
    cpu_seconds: float
    asleep: bool


class Watch:
    """Looks at a process every :data:`STEP` seconds while a call is awaited."""

    def __init__(self, pid: int, calls_begun: Callable[[], int], patience: float) -> None:
        """``patience``: the seconds that one call may burn, or sleep through with nobody awake."""
        self._pid, self._calls_begun, self._patience = pid, calls_begun, patience
        self._begin()

    def _begin(self, now: Activity | None = None) -> None:
        """From here on, or from the beginning of another call, the counts start at nothing."""
        self._calls = self._calls_begun()
        self._first = self._last = now or activity(self._pid) or Activity(0, 0, 0.0, asleep=False)
        self._looks_asleep = 0

    def hangs(self) -> str | None:
        """How the call that runs now hangs; None if it may still return. Call once a step."""
        now = activity(self._pid)
        if now is None:
            return None  # it has ended, which is another verdict
        if self._calls_begun() != self._calls:
            self._begin(now)
            return None
        burnt = now.cpu_seconds - self._first.cpu_seconds
        if burnt > self._patience:
            return f"after {burnt:.1f} s of processor time the call had not returned"
        quiet = now.asleep and (now.switches, now.threads) == (
            self._last.switches,
            self._last.threads,
        )
        self._looks_asleep = self._looks_asleep + 1 if quiet else 0
        self._last = now
        if self._looks_asleep * STEP >= self._patience:
            slept = self._looks_asleep * STEP
            return f"for {slept:.1f} s every thread slept, and none was woken"
        return None


def activity(pid: int) -> Activity | None:
    """Of a process and those that it has started; None if it is no more."""
    switches = threads = 0
    seconds = 0.0
    asleep = True
    try:
        for one in _family(pid):
            seconds += _cpu_seconds(_stat(Path(f"/proc/{one}/stat")))
            for task in Path(f"/proc/{one}/task").iterdir():
                with suppress(FileNotFoundError, ProcessLookupError):
                    asleep = asleep and _stat(task / "stat")[0] == "S"
                    switches += _switches(task)
                    threads += 1
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Activity(switches, threads, seconds, asleep and threads > 0)


def _family(pid: int) -> Iterator[int]:
    """The process, and those below it: a probe may run its port in a process of its own."""
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> list[int]:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    try:
        return [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN, or a thread that ended
        return [one for one in _every_process() if _parent(one) == pid]


def _every_process() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        return int(_stat(Path(f"/proc/{pid}/stat"))[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _stat(path: Path) -> list[str]:
    """The fields after the name, which may hold anything: the state is the first."""
    return path.read_text(errors="replace").rpartition(") ")[2].split()


def _cpu_seconds(fields: list[str]) -> float:
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _switches(task: Path) -> int:
    lines = (task / "status").read_text(errors="replace").splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
