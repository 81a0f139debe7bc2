"""What the proofs found, as a table that fills in while they run, as plain lines, and as JSON."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import z3
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proofs.prover.obligation import Claim, Control, Proof
from proofs.prover.verdict import Outcome, Verdict

Key = tuple[str, str | None]
# A narrower terminal gets lines, which it may break, in place of the table.
TABLE_WIDTH = 70
STYLE = {True: "green", False: "bold red"}


class Report:
    """Collects the outcomes of ``claims`` and their controls and shows each as it comes.

    On a terminal a live table; on a narrow one, or anywhere else, plain lines in the catalogue's order.
    """

    def __init__(self, claims: Sequence[Claim], console: Console) -> None:
        self.claims = claims
        self.outcomes: dict[Key, Outcome] = {}
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, vertical_overflow="visible")
        self._printed = 0
        self._in_place = console.is_terminal and console.width >= TABLE_WIDTH

    def __enter__(self) -> "Report":
        if self._in_place:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def add(self, outcome: Outcome) -> None:
        """Take an outcome and show it."""
        self.outcomes[outcome.claim, outcome.control] = outcome
        if self._in_place:
            self._live.update(self._table())
            return
        keys = [(claim.name, part.name if part else None) for claim, part in parts(self.claims)]
        while self._printed < len(keys) and keys[self._printed] in self.outcomes:
            self._console.print(line(self.outcomes[keys[self._printed]]), soft_wrap=True)
            self._printed += 1

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("verdict", "claim", "obligations", "controls", "seconds"):
            table.add_column(heading, justify="right" if heading == "seconds" else "left")
        for claim in self.claims:
            table.add_row(*self._row(claim))
        waiting = sum(1 for _ in parts(self.claims)) - len(self.outcomes)
        return Group(table, Text(f"{waiting} to go" if waiting else ""))

    def _row(self, claim: Claim) -> tuple[Text, ...]:
        mine = self.outcomes.get((claim.name, None))
        controls = [self.outcomes.get((claim.name, control.name)) for control in claim.controls]
        done = [control for control in controls if control]
        good = all(control.good for control in done)
        seconds = sum(outcome.seconds for outcome in (mine, *done) if outcome)
        return (
            Text(mine.verdict, style=STYLE[mine.good]) if mine else Text("..."),
            Text.assemble((claim.name, "bold"), "\n", (claim.sentence, "dim")),
            Text(str(mine.obligations) if mine else ""),
            Text(f"{sum(c.good for c in done)} of {len(controls)} refuted", style=STYLE[good]),
            Text(f"{seconds:.2f}"),
        )


def parts(claims: Iterable[Claim]) -> Iterable[tuple[Claim, Control | None]]:
    """Each claim itself, then each of its controls."""
    return ((claim, part) for claim in claims for part in (None, *claim.controls))


def line(outcome: Outcome) -> Text:
    """One outcome in one line."""
    text = Text(f"{outcome.verdict:8}", style=STYLE[outcome.good])
    if outcome.control is None:
        text.append(
            f" {outcome.claim}  ({outcome.obligations} obligations, {outcome.seconds:.2f} s)"
        )
    else:
        found = outcome.counterexample
        text.append(
            f"   control: {outcome.control}; at: {outcome.at}"
            f"{'; on the model: ' + found.failure if found else ''}  ({outcome.seconds:.2f} s)"
        )
    return text


def complaints(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each outcome that is not as it must be."""
    return [
        f"{o.claim}{f', control {o.control!r}' if o.control else ''}: {o.complaint}"
        for o in _wrong(outcomes)
    ]


def _wrong(outcomes: Iterable[Outcome]) -> list[Outcome]:
    wrong = [o for o in outcomes if not o.good]
    unknown = {o.claim for o in wrong if o.control is None and o.verdict is Verdict.UNKNOWN}
    return [o for o in wrong if o.control is None or o.claim not in unknown]


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The last line."""
    claims = [o for o in outcomes if o.control is None]
    controls = [o for o in outcomes if o.control is not None]
    proved = [o for o in claims if o.good]
    return (
        f"{len(proved)} of {len(claims)} claims proved "
        f"({sum(o.obligations for o in proved)} obligations), "
        f"{sum(o.good for o in controls)} of {len(controls)} controls refuted as they must be; "
        f"z3 {z3.get_version_string()}, {seconds:.1f} s"
    )


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0: all is as it must be. 3: a claim is vacuous. 2: one is unknown. 1: anything else is wrong.

    The controls of an unknown claim say nothing.
    """
    wrong = _wrong(outcomes)
    if any(o.verdict is Verdict.REFUTED or o.control is not None for o in wrong):
        return 1
    if any(o.verdict is Verdict.VACUOUS for o in wrong):
        return 3
    return 2 if wrong else 0


def second_exit_code(answers: Collection[str]) -> int:
    """0: the second solver agrees on all. 1: it disagrees on one. 2: it has no answer to one."""
    if "sat" in answers:
        return 1
    return 2 if any(answer != "unsat" for answer in answers) else 0


def as_markdown(proofs: Mapping[Claim, Proof]) -> str:
    """The catalogue, as CATALOGUE.md has it: of each claim, in order, its obligations."""
    obligations = sum(len(proof.obligations) for proof in proofs.values())
    controls = sum(len(claim.controls) for claim in proofs)
    lines = [
        "# The claims",
        "",
        f"{len(proofs)} claims, {obligations} obligations, {controls} controls. Made by",
        "`python -m proofs --catalogue`; a test compares. What *runs* and *mirrors* say, and what an",
        "obligation and a control are: [README.md](README.md).",
    ]
    subject = ""
    for claim, proof in proofs.items():
        here, _, name = claim.name.partition(".")
        if here != subject:
            subject = here
            lines += ["", f"## {subject}"]
        lines += ["", f"### {name}", "", claim.sentence, "", *_details(claim, proof)]
    return "\n".join(lines)


def _details(claim: Claim, proof: Proof) -> Iterable[str]:
    """What a claim assumes, what it is about, how much is asked, and what must fail."""
    yield f"- assumes: {'; '.join(proof.assumptions) or 'nothing'}"
    functions = sorted(name for name in proof.functions if "._" not in name)
    which = "runs" if runs(proof) else "mirrors"
    yield f"- about: {', '.join(f'`{name}`' for name in functions) or 'no function'} (*{which}*)"
    how = " (*enumerated*: every case of finitely many; no solver)" if proof.enumerated else ""
    yield f"- obligations: {len(proof.obligations)}{how}"
    for control in claim.controls:
        yield f"- must fail: {control.name}, at *{control.refutes}*"


#: The modules of ``model/`` whose functions the kernels call; of others they follow the steps.
RUN = {"shares", "words"}


def runs(proof: Proof) -> bool:
    """Is a claim about the very functions that are compiled, and only those?"""
    if proof.compiled:
        return True
    return bool(proof.functions) and {name.split(".")[0] for name in proof.functions} <= RUN
