"""A QEMU that lies: every answer, wrong in every way, is an error that says what is wrong, or no harm.

Several thousand lies in the long profile, a sample of them otherwise. Each is told once, at a moment
that the recorder has to live with; the guest must run on whatever it was.
"""

import copy
import json
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from impl.recorder import qmp, watched_guest
from impl.recorder.qemu import ram_blocks
from impl.recorder.qmp import LONGEST_MESSAGE, Monitor, MonitorError
from impl.traces import format as trace
from model.boundary.output import OutputError
from model.errors import ColoError
from tests.project.test_foreign_text import assert_harmless
from tests.recorder.fake_qemu import BLOCKS, Make, fake_qemus
from tests.recorder.test_record import run
from tests.support.endings import Tell

make = fake_qemus

#: Each answer that a recording asks for, and how often it gets it (of those it gets often, at least).
ANSWERS = {
    **dict.fromkeys(("greeting", "qmp_capabilities", "query-memdev", "qom-get", "qom-list"), 1),
    **dict.fromkeys(("query-version", "query-kvm"), 1),
    "human-monitor-command": 2,
    **dict.fromkeys(("query-migrate", "stop", "cont"), 3),
    "query-status": 10,
}
WRONG: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 10**30, 1.5, float("inf"), float("nan"), 10**5000),
    *("", "x", "\x1b[31mred", "a\nb", "\u202e", "\ud800", "\0", "y" * 100_000, " " * 30_000),
    *([], [[]], {}, {"a": 1}, [None], [1], ["x"], {"return": {}}),
]
#: What can go wrong with the bytes of a message.
BYTES: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "cut": lambda line: [line[: len(line) // 2] + b"\n"],
    "cut, and no line end": lambda line: [line[: len(line) // 2]],
    "silence": lambda line: [],
    "empty lines": lambda line: [b"\n\r\n \n" * 1000, line],
    "no JSON": lambda line: [b"hello\n"],
    "no UTF-8": lambda line: [b'{"return": "\xff\xfe"}\n'],
    "NULs": lambda line: [b"\0" * 1000 + b"\n"],
    "deeply nested": lambda line: [b"[" * 100_000 + b"\n"],
    "deeply nested objects": lambda line: [b'{"return":' * 100_000 + b"\n"],
    "a list": lambda line: [b"[]\n"],
    "a number": lambda line: [b"7\n"],
    "null": lambda line: [b"null\n"],
    "twice": lambda line: [line, line],
    "another number": lambda line: [b'{"return": {"running": false}, "id": 99}\n', line],
    "an id that is a list": lambda line: [b'{"return": {}, "id": []}\n', line],
    "neither answer nor error": lambda line: [b"{}\n"],
    "an error of no form": lambda line: [b'{"error": 7}\n'],
    "an error in escape codes": lambda line: [b'{"error": {"desc": "\\u001b[31m\\n[/x]"}}\n'],
    "events before": lambda line: [b'{"event": "NIC_RX_FILTER_CHANGED"}\n' * 1000, line],
    "events of no form": lambda line: [b'{"event": null}\n{"event": [1]}\n', line],
    "a stop in 1970": lambda line: [
        b'{"event": "STOP", "timestamp": {"seconds": 0, "microseconds": 0}}\n',
        line,
    ],
    "a stop at no time": lambda line: [b'{"event": "STOP", "timestamp": "now"}\n', line],
    "too long": lambda line: [b'"' + b"x" * (1 << 20)] * 9 + [b'"\n'],
    "in drops": lambda line: (line[at : at + 1] for at in range(len(line))),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced in a message, itself included."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(message: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    changed = copy.deepcopy(message)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = wrong
    return changed


def without(message: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(message)
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]
    return changed


class Lie:
    """Told once, at the ``nth`` time that the command is answered; drawn from a seed."""

    def __init__(self, command: str, nth: int, dice: random.Random) -> None:
        self.command, self.nth, self.dice = command, nth, dice
        self.told = ""
        self._times = 0

    def __call__(self, command: str, line: bytes) -> Iterable[bytes]:
        if command != self.command:
            return [line]
        self._times += 1
        if self._times != self.nth:
            return [line]
        if self.dice.random() < 0.4:
            self.told = self.dice.choice(sorted(BYTES))
            return BYTES[self.told](line)
        message = json.loads(line)
        path = self.dice.choice(list(places(message)))
        if path and self.dice.random() < 0.3:
            self.told = f"without {path}"
            message = without(message, path)
        else:
            wrong = self.dice.choice(WRONG)
            self.told = f"{path}: {repr(wrong)[:40] if wrong != 10**5000 else '10^5000'}"
            if wrong == 10**5000:
                text = json.dumps(replaced(message, path, "LARGE"))
                return [text.replace('"LARGE"', "1" + "0" * 5000).encode() + b"\n"]
            message = replaced(message, path, wrong)
        return [json.dumps(message).encode() + b"\n"]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(watched_guest, "PATIENCE_SECONDS", 1.0)


@pytest.mark.parametrize("command", ANSWERS)
def test_any_lie(
    tmp_path: Path,
    make: Make,
    command: str,
    long_run: bool,
    capsys: pytest.CaptureFixture[str],
    tell: Tell,
) -> None:
    outcomes = {"harmless": 0, "refused": 0}
    for seed in range(400 if long_run else 10):
        dice = random.Random(f"{command} {seed}")
        qemu = make(f"{seed}")
        lie = qemu.lie = Lie(command, dice.randint(1, ANSWERS[command]), dice)
        output = tmp_path / f"{seed}.npz"
        try:
            assert run(tmp_path, qemu, epochs=2, threads=1, output=output) == 0
            outcomes["harmless"] += 1
        except ColoError as error:
            assert not isinstance(error, OutputError)
            assert_harmless(str(error))
            outcomes["refused"] += bool(lie.told)
        assert_harmless("".join(capsys.readouterr()))
        # Only who is told that it stopped, was never stopped or is gone can leave it standing.
        if lie.command != "query-status":
            assert qemu.running, f"{command}, time {lie.nth}: {lie.told}"
        if output.exists():
            assert trace.load(output).epochs <= 2
        qemu.close()
    tell(f"{outcomes}")
    assert sum(outcomes.values()) >= 4


def test_the_truth_is_no_lie(tmp_path: Path, make: Make) -> None:
    """The control: what is not changed is recorded."""
    qemu = make()
    qemu.lie = Lie("nothing", 1, random.Random(0))
    assert run(tmp_path, qemu, epochs=2, threads=1) == 0


def test_a_line_of_100_mebibytes(make: Make) -> None:
    """No more is kept of it than any message may have, and the next answer is understood."""
    qemu = make()
    piece = b"x" * (1 << 20)
    qemu.lie = lambda command, line: (
        [b'"', *[piece] * 100, b'"\n'] if command == "query-kvm" else [line]
    )
    qmp.TIMEOUT_SECONDS = 20
    with Monitor(qemu.socket) as monitor:
        tracemalloc.start()
        with pytest.raises(MonitorError, match=f"more than {LONGEST_MESSAGE >> 20} MiB"):
            monitor.ask("query-kvm")
        assert monitor.ask("query-status").part("running", bool)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * LONGEST_MESSAGE


def test_no_answer_but_events_without_end(make: Make) -> None:
    qemu = make()
    qemu.lie = lambda command, line: (
        iter(lambda: b'{"event": "X"}\n' * 1000, b"") if command == "query-kvm" else [line]
    )
    with Monitor(qemu.socket) as monitor, pytest.raises(MonitorError, match="has not answered"):
        monitor.ask("query-kvm")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(make: Make) -> None:
    qemu = make()
    late: list[bytes] = []

    def hold_back(command: str, line: bytes) -> list[bytes]:
        if command == "query-kvm":
            late.append(line)
            return []
        return [*late, line]

    qemu.lie = hold_back
    with Monitor(qemu.socket) as monitor:
        with pytest.raises(MonitorError, match="has not answered"):
            monitor.ask("query-kvm")
        assert monitor.ask("query-status").part("status", str) == "running"


TABLES = {
    "30,000 blanks": BLOCKS + " " * 30_000,
    "blanks in a name": BLOCKS.replace("pc.ram", "pc" + " " * 30_000 + "ram"),
    "blanks between": BLOCKS.replace("4 KiB", "4" + " " * 30_000 + "KiB"),
    "100,000 lines of blanks": BLOCKS + " \n" * 100_000,
    "no numbers": BLOCKS.replace("0x", ""),
    "a name that looks like a size": "Block Name\n" + "4 KiB " * 200_000,
    "digits": BLOCKS.replace("0x0000000000200000", "0x" + "9" * 100_000),
    "another head": "KiB " * 100_000,
    "nothing": "",
    "half": BLOCKS[: len(BLOCKS) // 2 + 30],
    "escape codes": BLOCKS.replace("4 KiB", "\x1b[2J 4 KiB"),
    "line ends of all kinds": BLOCKS.replace("pc.ram", "pc\u2028ram\x0bx"),
}


#: These are tables of three blocks, if odd ones; names are judged later.
READABLE = {"30,000 blanks", "100,000 lines of blanks", "escape codes"}


@pytest.mark.parametrize("what", TABLES)
def test_tables_of_ram_blocks(make: Make, what: str) -> None:
    """The work is in proportion to the table: squares and cubes of these would be hours."""
    qemu = make()
    qemu.blocks = TABLES[what]
    with Monitor(qemu.socket) as monitor:
        if what in READABLE:
            assert len(ram_blocks(monitor)) == 3
            return
        with pytest.raises(MonitorError) as refused:
            ram_blocks(monitor)
        assert_harmless(str(refused.value))
