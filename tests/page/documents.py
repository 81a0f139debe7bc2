"""Documents for tests: the whole catalogue, every recorded counterexample, a failing port, a trace."""

import contextlib
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from impl.__main__ import main as impl
from model.explore.catalogue import REFUTED, Found, lines
from model.explore.search import explore
from model.page.document import Document, document, slug
from model.replay import Counterexample, load
from model.replay import main as replay
from proofs.prover.catalogue import catalogue
from proofs.prover.document import as_document
from proofs.prover.obligation import Claim, Control
from proofs.prover.verdict import Decided, Outcome, Verdict
from tests.conformance.call import Outcome as Seen
from tests.conformance.expected import expect
from tests.conformance.finding import Finding
from tests.conformance.report import result_of
from tests.conformance.rules import violations
from tests.conformance.suite import Check
from tests.conformance.vectors import all_vectors
from tests.support.needs import ROOT

COUNTEREXAMPLES = sorted((ROOT / "tests" / "counterexamples").glob("*.json"))
TRACE = ROOT / "tests" / "traces" / "colo-idle-512m.npz"
#: Of a claim, about: their own names are the prover's to say.
OBLIGATIONS = 13
#: What does anything if it is ever taken for HTML, for JSON's end or for a script.
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<!--<script>",
    "\u2028\ud800\x00]]>&lt;",
    "${window.hacked = 1}",
)


def written(main: Callable[[list[str]], int], *arguments: str, to: Path) -> Document:
    """What a command writes with ``--json``."""
    with contextlib.redirect_stdout(io.StringIO()):
        main([*arguments, "--json", str(to)])
    found: Document = json.loads(to.read_text())
    return found


@cache
def proofs_document() -> Document:
    """The catalogue as if all had been proved just now, with the counterexamples on record.

    But for what is about compiled code, which would have to be compiled.
    """
    claims = [claim for claim in catalogue() if not claim.name.startswith("compiled.")]
    outcomes = {
        (claim.name, part.name if part else None): _outcome(claim, part)
        for claim in claims
        for part in (None, *claim.controls)
    }
    return as_document(claims, outcomes, seconds=1.0)


def _outcome(claim: Claim, control: Control | None) -> Outcome:
    if control is None:
        names = [f"obligation {number}" for number in range(OBLIGATIONS)]
        decided = tuple(Decided(name, Verdict.PROVED, 0.01) for name in names)
        return Outcome(claim.name, None, len(names), decided, 0.1, None, "")
    path = ROOT / "tests" / "counterexamples" / f"{slug(claim.name, control.name)}.json"
    found: Counterexample = load(str(path))
    decided = (Decided(control.refutes, Verdict.REFUTED, 0.01),)
    return Outcome(claim.name, control.name, 1, decided, 0.1, found, "")


def replays_document(folder: Path) -> Document:
    """Every recorded counterexample."""
    return written(replay, *map(str, COUNTEREXAMPLES), to=folder / "replays.json")


def explored_document() -> Document:
    """Two systems that fail, as ``model.explore`` has them."""
    found = Found()
    for one in REFUTED[:2]:
        seen = explore(one.make())
        assert seen.failure
        told = lines(one.system, seen.failure.schedule, **one.options)
        found.add(one.title, seen.failure, True, told, seen, 0.1)
    return document("explored", systems=found.systems, **found.replays.parts())


def conformance_document() -> Document:
    """A port that copies nothing, at the first vector that asks for a page."""
    (vector,) = [v for v in all_vectors()["copying"] if v.id == "copying/host-page"]
    (call,) = vector.calls
    seen = Seen(0, call.cache, call.host, call.dirty_pages, (0, 0, 0, 0), ("h" * 130,))
    finding = Finding(tuple(violations(call, expect(call), seen)), (call,), seen)
    passed = Check("vector/copying/no-blocks", lambda session: 1)
    failed = Check("vector/copying/host-page", lambda session: finding)
    return document(
        "conformance",
        subject="a port",
        checks=[result_of(passed, 1, 0.1), result_of(failed, finding, 0.1)],
    )


def bench_document(folder: Path) -> Document:
    """Two machines, one of them with figures made up; scaling and a map of a recorded trace."""
    simulated = written(
        impl, "bench", "--simulate", "--traces", str(TRACE), to=folder / "bench.json"
    )
    ratio = {"median": 1.2, "low": 1.1, "high": 1.4}
    names = ("dynamic, 2", "C patch, 2, memcpy called", "copy limit: streaming")
    pattern = {
        "pattern": "10 % random",
        "pages": 52428,
        "fastest_c": names[1],
        "best_copy_limit": names[2],
        "median_ns": dict.fromkeys(names, 1e6),
        "ratio_to_one_thread": dict.fromkeys(names, ratio),
        "ratio_to_fastest_c": dict.fromkeys(names, ratio),
    }
    measure = {
        "what": "dispatch",
        "value": 5.7,
        "unit": "us",
        "target": "at most 10",
        "met": True,
    }
    return {
        **simulated,
        "patterns": [pattern],
        "measures": [measure],
        "left_out": {"what": ["the C ports"], "why": "made up for a test"},
    }


def hostile(found: Document) -> Document:
    """The document with hostile text wherever a text may be anything; what is looked up stays."""
    kept = {"format", "kind", "id", "program", "code", "replay", "functions", "theorem", "subject"}
    kept |= {"verdict", "which", "step", "name"}

    def made(value: object, key: str) -> object:
        if isinstance(value, dict):
            return {name: made(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [made(part, key) for part in value]
        if isinstance(value, str) and key not in kept and not value.startswith("0x"):
            return f"{value} {' '.join(HOSTILE)}"
        return value

    return {name: made(value, name) for name, value in found.items()}
