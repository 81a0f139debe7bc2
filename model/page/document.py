"""The documents that commands write with ``--json`` and that the page draws: one schema for all of them.

``schema.json`` says what each kind holds. A replay is told as frames, each of which says only what has
changed since the one before: a schedule of a hundred steps is mostly words that stay as they are.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.boundary.input import read_text
from model.boundary.output import write_text
from model.errors import ColoError
from model.page.picture import NOTHING, Instruction, Picture, picture_of
from model.page.schema import difference
from model.words import ALL_PAGES

FORMAT = "colo-flush 1"
KINDS = ("proofs", "explored", "replays", "conformance", "bench")
ROOT = Path(__file__).parents[2]
REMEDY = "write it anew with a command's --json"

Document = dict[str, Any]


class NotADocument(ColoError, ValueError):
    """A file that no command of this version has written with ``--json``."""


def document(kind: str, **content: Any) -> Document:
    """A document of one of :data:`KINDS`."""
    return {"format": FORMAT, "kind": kind, **content}


def load(path: Path) -> Document:
    """Read a document. Raises NotADocument."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise NotADocument(f"{path}: not a document: {error}") from error
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or found.get("kind") not in KINDS
    ):
        raise NotADocument(f"{path}: not a document of this version: {REMEDY}")
    if wrong := difference(found, found["kind"]):
        raise NotADocument(f"{path}: not a document of this version: {wrong}: {REMEDY}")
    return found


def save(path: Path, found: Document) -> None:
    """Write a document whole. Raises OutputError, NotADocument."""
    write_text(path, as_json(found, indent=1) + "\n")


def as_json(found: Any, **form: Any) -> str:
    """What can be read as JSON by anybody. Raises NotADocument: Python's has NaN and Infinity."""
    try:
        return json.dumps(found, allow_nan=False, **form)
    except ValueError as error:
        raise NotADocument("a number that is not finite cannot be written: see values") from error


class Replays:
    """Replays for a document, with the programs and the source code that they have in common."""

    def __init__(self) -> None:
        self._replays: dict[str, Document] = {}
        self._programs: dict[str, list[Document]] = {}
        self._code: dict[str, Document] = {}

    def add(self, name: str, lines: Sequence[str], failure: str, **about: Any) -> str:
        """Add one under the ``name`` that links have for it: its lines, and its failure ("": none).

        ``about`` may say the claim, control, what is broken, scenario, values and what it is about.
        """
        told = list(lines) + [failure] * bool(failure)
        self._replays[name] = {
            "id": name,
            **about,
            "failure": failure,
            "program": self._program(told),
            "frames": list(frames(told)),
        }
        return name

    def code(self, function: Callable[..., Any]) -> str | None:
        """The name under which a function's source is in the document; None if there is no source."""
        while isinstance(function, partial):
            function = function.func
        name = f"{function.__module__.removeprefix('model.')}.{function.__qualname__}"
        if name not in self._code:
            try:
                lines, first = inspect.getsourcelines(function)
                file = Path(inspect.getsourcefile(function) or "").relative_to(ROOT)
            except (OSError, TypeError, ValueError):
                return None
            text = textwrap.dedent("".join(lines))
            self._code[name] = {"source": text, "file": str(file), "line": first}
        return name

    def parts(self) -> Document:
        """The parts of a document that hold all of this."""
        return {
            "replays": list(self._replays.values()),
            "programs": self._programs,
            "code": self._code,
        }

    def _program(self, lines: Sequence[str]) -> str | None:
        steps = next((picture_of(line).program for line in lines if picture_of(line).program), ())
        if not steps:
            return None
        told = [self._instruction(step) for step in steps]
        same = (name for name, program in self._programs.items() if program == told)
        name = next(same, f"program {len(self._programs) + 1}")
        self._programs[name] = told
        return name

    def _instruction(self, step: Instruction) -> Document:
        told: Document = {"step": step.step, "text": step.text}
        if step.of is not None:
            told["of"] = list(step.of)
        if step.act is not None and (name := self.code(step.act)):
            told["code"] = name
        return told


def frames(lines: Iterable[str]) -> Iterable[Document]:
    """Each line with what its picture has that the one before had not. Without one: nothing new."""
    lines = list(lines)
    pictures = [NOTHING]
    for line in lines:
        pictures.append(picture_of(line) if picture_of(line) is not NOTHING else pictures[-1])
    for line, (before, now) in zip(lines, pairwise(pictures), strict=True):
        yield {"text": str(line), **_changes(before, now)}


def _changes(before: Picture, now: Picture) -> Document:
    if before is now:
        return {}
    words = {name: [hex(word & ALL_PAGES) for word in bits] for name, bits in now.bitmaps.items()}
    were = {name: [hex(word & ALL_PAGES) for word in bits] for name, bits in before.bitmaps.items()}
    places = {name: place._asdict() for name, place in now.processes.items()}
    stood = {name: place._asdict() for name, place in before.processes.items()}
    changed: Document = {
        "pages": now.pages if now.pages != before.pages else None,
        "bitmaps": _new(were, words),
        "ranges": _new(before.ranges, now.ranges),
        "memory": _new(before.memory, now.memory),
        "gone": [name for name in before.memory if name not in now.memory],
        "processes": _new(stood, places),
        "moved": now.moved,
    }
    return {name: value for name, value in changed.items() if value not in (None, {}, [], "")}


def _new(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in now.items() if before.get(name) != value}


def slug(*words: str | None) -> str:
    """The name of a claim's, or a control's, counterexample: of its file, and in links."""
    text = ".".join(word for word in words if word).lower()
    return re.sub(r"[^a-z0-9_.]+", "-", text).strip("-")
