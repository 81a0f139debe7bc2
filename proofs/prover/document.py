"""What the proofs found, as the document that ``--json`` writes and ``--html`` draws."""

import ast
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import z3

from model.boundary.docstring import docstring
from model.page.document import Document, Replays, document, slug
from model.replay import add_to, lines_of
from proofs.prover.catalogue import THEOREM
from proofs.prover.obligation import Claim, stated
from proofs.prover.report import Key, runs
from proofs.prover.rests_on import BEGIN_HERE, RESTS_ON
from proofs.prover.verdict import Outcome

SOUNDNESS = Path(__file__).parents[1] / "SOUNDNESS.md"


def as_document(
    claims: Sequence[Claim], outcomes: Mapping[Key, Outcome], seconds: float
) -> Document:
    """All outcomes of these claims and their controls, with the functions they are about."""
    replays = Replays()
    return document(
        "proofs",
        z3=z3.get_version_string(),
        seconds=round(seconds, 1),
        theorem=f"{THEOREM}a_flush_is_the_spec",
        start=[
            {"question": question, "answer": answer, "claim": claim, "replay": slug(claim, control)}
            for question, answer, claim, control in BEGIN_HERE
        ],
        map=_map(claims),
        trusted=trusted(SOUNDNESS.read_text(encoding="utf-8")),
        claims=[_claim(claim, outcomes, replays) for claim in claims],
        **replays.parts(),
    )


def _map(claims: Sequence[Claim]) -> Document:
    modules = {_subject(claim): claim.state.__module__ for claim in claims}
    return {
        subject: {
            "about": _about(modules[subject]) if subject in modules else "",
            "rests_on": [{"subject": name, "why": why} for name, why in below.items()],
        }
        for subject, below in RESTS_ON.items()
    }


def _subject(claim: Claim) -> str:
    return claim.name.split(".")[0]


def _about(module: str) -> str:
    """The first paragraph of a module's docstring, which ``python -OO`` leaves in the source only."""
    whole = ast.get_docstring(ast.parse(inspect.getsource(importlib.import_module(module))))
    return _one_line((whole or "").split("\n\n")[0])


def trusted(text: str) -> list[Document]:
    """The rows of the tables in SOUNDNESS.md: its number, what is trusted, and two columns more."""
    rows = re.findall(r"^\| ([A-Z]\d+) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    names = ("id", "trusted", "if_wrong", "mitigation")
    return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]


def _plain(markdown: str) -> str:
    return re.sub(r"\*|\[([^]]*)\]\([^)]*\)", r"\1", markdown)


def _claim(claim: Claim, outcomes: Mapping[Key, Outcome], replays: Replays) -> Document:
    proof = stated(claim)
    outcome = outcomes[claim.name, None]
    more = docstring(claim.state).split("\n\n", 1)[1:]
    return {
        "name": claim.name,
        "sentence": claim.sentence,
        "more": _one_line(more[0]) if more else "",
        **_verdict(outcome),
        "assumes": proof.assumptions,
        "functions": sorted(filter(None, map(replays.code, proof.definitions))),
        "which": "runs" if runs(proof) else "mirrors",
        "code": replays.code(claim.state),
        "replay": _replay(outcome, replays),
        "obligations": [
            {
                "name": decided.obligation,
                "verdict": decided.verdict,
                "seconds": round(decided.seconds, 3),
            }
            for decided in outcome.decided
        ],
        "controls": [
            {
                "name": control.name,
                "refutes": control.refutes,
                "fault": control.fault,
                "without": control.without,
                **_verdict(found := outcomes[claim.name, control.name]),
                "at": found.at,
                "failure": found.counterexample.failure if found.counterexample else "",
                "replay": _replay(found, replays),
            }
            for control in claim.controls
        ],
    }


def _verdict(outcome: Outcome) -> Document:
    return {
        "verdict": outcome.verdict,
        "good": outcome.good,
        "complaint": outcome.complaint,
        "seconds": round(outcome.seconds, 3),
    }


def _replay(outcome: Outcome, replays: Replays) -> str | None:
    found = outcome.counterexample
    if found is None:
        return None
    return add_to(replays, slug(found.claim, found.control), found, *lines_of(found))


def _one_line(text: str) -> str:
    return " ".join(text.split())
