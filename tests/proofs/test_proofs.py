"""The proofs: a sample of them as they are run, the tool around them, and what it must not let pass."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import z3

from model.faults import FAULTS
from model.protocols import check_in
from model.replay import load, replay
from model.scenarios import SCENARIOS
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import (
    CLAIMS,
    Claim,
    Control,
    Obligation,
    Proof,
    faulty,
    stated,
    without,
)
from proofs.prover.report import as_markdown, exit_code, second_exit_code
from proofs.prover.smtlib import ask_cvc5, export, script
from proofs.prover.symbolic import Natural
from proofs.prover.verdict import WORK, Asked, Outcome, Verdict, check
from tests.support.claims import as_it_stands
from tests.support.needs import LONG_RUN
from tests.support.started import children, ctrl_c, is_gone, started

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "counterexamples"

HEADLINES = (
    "shares.no_word_shared",
    "blocks.every_page_of_a_block_has_one_window",
    "count.the_dirty_count_reaches_zero",
)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proofs", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def made(state: object, *controls: Control) -> Claim:
    return Claim("test.made", "A claim made for a test.", state, controls)  # type: ignore[arg-type]


def only(outcome: Outcome) -> int:
    return exit_code([outcome])


# The headline claims, in process.


@pytest.mark.parametrize("name", HEADLINES)
def test_headline_claims_hold_and_their_controls_fail(name: str) -> None:
    (claim,) = catalogue([name])
    assert check(claim).verdict is Verdict.PROVED
    assert len(claim.controls) >= 2
    for control in claim.controls:
        outcome = check(claim, control)
        assert outcome.good, outcome.complaint
        assert outcome.counterexample is not None
        assert outcome.counterexample.failure


# The catalogue.


def test_every_claim_has_a_sentence_and_a_control() -> None:
    for claim in catalogue():
        assert claim.sentence.endswith("."), claim.name
        assert claim.controls, claim.name
        assert as_it_stands(claim).scenario_name in SCENARIOS, claim.name
        for control in claim.controls:
            assert control.fault is None or control.fault in FAULTS, control.name


def test_the_catalogue_is_written_down() -> None:
    """Brought up to date by ``python -m proofs --catalogue > proofs/CATALOGUE.md``."""
    written = (ROOT / "proofs" / "CATALOGUE.md").read_text(encoding="utf-8")
    proofs = {claim: as_it_stands(claim) for claim in catalogue()}
    assert written == as_markdown(proofs) + "\n"


def test_the_catalogue_names_every_control() -> None:
    """One control more, and what is written down is out of date."""
    claim = catalogue()[0]
    more = replace(claim, controls=(*claim.controls, without("a page", refutes="nothing")))
    proof = as_it_stands(claim)
    assert as_markdown({claim: proof}) != as_markdown({more: proof})


def test_a_control_with_a_fault_that_there_is_not_is_refused_where_it_stands() -> None:
    with pytest.raises(
        LookupError, match=r"no fault 'shares not cut at word' .*'shares not cut at words'"
    ):
        faulty("shares not cut at word", refutes="a chunk is whole words")


def test_every_left_out_assumption_is_one_that_the_claim_makes() -> None:
    for claim in catalogue():
        for control in claim.controls:
            if control.without:
                dropped = stated(claim, control).obligations[-1].assumed
                assert len(dropped) < len(as_it_stands(claim).obligations[-1].assumed), control.name


def test_every_fault_is_used() -> None:
    """Those of the check-in protocol that no proof uses are explored (``model.explore``)."""
    used = {control.fault for claim in catalogue() for control in claim.controls}
    here = {name for name, fault in FAULTS.items() if fault.target is not check_in.program}
    assert here <= used


# Counterexamples of the controls, named claim.control.json by `python -m proofs --record`.


def recorded() -> list[Path]:
    return sorted(RECORDED.glob("*.*.json"))


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_a_recorded_counterexample_fails_as_recorded(path: Path) -> None:
    found = load(str(path))
    assert found.failure
    assert replay(found) == found


def test_every_control_is_recorded() -> None:
    controls = {(c.name, control.name) for c in catalogue() for control in c.controls}
    assert {(found.claim, found.control) for found in map(load, map(str, recorded()))} == controls


# What must not pass.


def test_vacuous_assumptions_are_no_proof() -> None:
    def state(p: Proof) -> None:
        (n,) = p.naturals("n")
        p.assume("impossible", n < 0)
        p.prove("anything", n == n + 1)

    outcome = check(made(state))
    assert outcome.verdict is Verdict.VACUOUS
    assert only(outcome) == 3


def test_a_question_too_hard_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofs.prover.verdict.WORK", 100_000)
    monkeypatch.setattr("proofs.prover.verdict.QUICK_WORK", 100_000)

    def state(p: Proof) -> None:
        a, b, c = p.naturals("a b c")
        p.assume("positive", a >= 1, b >= 1, c >= 1)
        p.prove("Fermat, cubes", a * a * a + b * b * b != c * c * c)

    outcome = check(made(state))
    assert outcome.verdict is Verdict.UNKNOWN
    assert only(outcome) == 2


def test_a_false_claim_is_refuted() -> None:
    def state(p: Proof) -> None:
        pages, threads, page = p.naturals("pages threads page")
        p.assume("sizes", threads >= 1)
        p.scenario("owners", pages=pages, threads=threads, page=page)
        p.prove("false", page != 5)

    outcome = check(made(state))
    assert outcome.verdict is Verdict.REFUTED
    assert only(outcome) == 1


def _page_is_small(p: Proof) -> None:
    (page,) = p.naturals("page")
    p.assume("small", page < 10)
    p.scenario("one page", page=page)
    p.prove("it is below 64", page < 64)
    p.prove("and below 10", page < 10)


@pytest.mark.parametrize(
    ("control", "complaint"),
    [
        (faulty("bit 63 is lost", refutes="it is below 64"), "is proved"),
        (without("small", refutes="and below 10"), "but is at 'it is below 64'"),
        (without("small", refutes="it is below 64"), "does not fail on the model"),
    ],
)
def test_a_control_must_fail_for_its_reason_and_on_the_model(
    control: Control, complaint: str
) -> None:
    outcome = check(made(_page_is_small, control), control)
    assert complaint in outcome.complaint
    assert only(outcome) == 1


def test_a_proposition_cannot_be_taken_for_true() -> None:
    with pytest.raises(TypeError, match="select"):
        bool(Natural(z3.Int("x")) > 0)


def test_a_lemma_may_not_lean_on_what_is_assumed_around_it() -> None:
    def state(p: Proof) -> None:
        (n,) = p.naturals("n")
        p.assume("small", n < 10)
        p.lemma("numbers are small", lambda m: m < 10, n)

    assert check(made(state)).verdict is Verdict.REFUTED


def test_what_is_assumed_in_a_case_does_not_leak() -> None:
    def state(p: Proof) -> None:
        (n,) = p.naturals("n")
        with p.case():
            p.assume("small", n < 10)
            p.prove("in the case", n < 10)
        p.prove("after it", n < 10)

    outcome = check(made(state))
    assert outcome.verdict is Verdict.REFUTED
    assert outcome.at == "after it"


# The same verdict on any machine, however busy.


def work_for(obligation: Obligation) -> int:
    """How much work z3 has with an obligation, in its own units."""
    asked = Asked(obligation.question, WORK)
    assert asked.check() == z3.unsat
    statistics = asked._solver.statistics()
    return int(statistics.get_key_value("rlimit count"))


def test_no_verdict_is_limited_by_time() -> None:
    """``timeout`` and ``tlimit`` are z3's and cvc5's limits in seconds; work is counted instead."""
    for source in (ROOT / "proofs").rglob("*.py"):
        assert not re.search("timeout|tlimit", source.read_text(encoding="utf-8")), source.name


def test_what_was_proved_before_makes_no_difference() -> None:
    (claim,) = catalogue(["count.the_counters_are_right"])
    first = [work_for(obligation) for obligation in stated(claim).obligations]
    (other,) = catalogue(["shares.no_word_shared"])
    assert check(other).good
    z3.FreshInt()
    assert [work_for(obligation) for obligation in stated(claim).obligations] == first
    assert max(first) < WORK / 2


def test_busy_processes_make_no_difference(long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)  # a minute beside twenty busy processes
    (claim,) = catalogue(["count.the_counters_are_right"])
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(20)]
    try:
        assert check(claim).good
        assert all(check(claim, control).good for control in claim.controls)
    finally:
        for process in busy:
            process.kill()
            process.wait()


# A second solver.


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], 0),
        (["unsat", "unsat"], 0),
        (["unsat", "unknown"], 2),
        (["unsat", ""], 2),
        (["unknown", "sat"], 1),
    ],
)
def test_a_second_solver_must_agree_on_every_obligation(answers: list[str], code: int) -> None:
    assert second_exit_code(answers) == code


def test_every_script_is_smt_lib() -> None:
    """Conjunctions of nothing, and whatever else z3 writes in a dialect of its own."""
    for claim in catalogue():
        for obligation in as_it_stands(claim).obligations[-1:]:  # it has all that was proved before
            text = script(obligation)
            assert not re.search(r"\((and|or)\)|\(_ \w+ 0\)", text), (claim.name, obligation.name)


def test_a_question_too_hard_for_the_second_solver_has_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proofs.prover.smtlib.SECOND_WORK", 10)
    (claim,) = catalogue(["shares.no_word_shared"])
    answers = {ask_cvc5(path) for path in export(claim, tmp_path)}
    assert second_exit_code(answers) == 2


# The command.


def test_the_command_writes_what_it_found(tmp_path: Path) -> None:
    done = run(
        *("--only", "shares.no_word_shared", "--json", str(tmp_path / "found.json")),
        *("--export", str(tmp_path / "smt"), "--second", "cvc5"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 claims proved" in done.stdout
    assert "\x1b" not in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    [claim] = found["claims"]
    assert claim["verdict"] == "proved"
    assert {control["verdict"] for control in claim["controls"]} == {"refuted"}
    exported = sorted((tmp_path / "smt" / "shares.no_word_shared").glob("*.smt2"))
    assert len(exported) == len(claim["obligations"])
    for path in exported:
        solver = z3.Solver()
        solver.from_file(str(path))
        assert solver.check() == z3.unsat
    assert f"agrees on {len(exported)} of {len(exported)} obligations" in done.stdout
    assert f"z3 {z3.get_version_string()}" in done.stdout
    assert f"cvc5 {version('cvc5')}" in done.stdout


def test_the_command_line_is_checked() -> None:
    assert run("--only", "nothing.*").returncode == 64
    assert run("--jobs", "0").returncode == 64
    assert run("--nonsense").returncode == 64


def test_a_mutant_of_the_source_is_found_and_its_counterexample_replays(tmp_path: Path) -> None:
    for package in ("model", "proofs"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shares = tmp_path / "model" / "shares.py"
    text = shares.read_text()
    assert text.count("return pages & ~LAST_BIT") == 1
    shares.write_text(text.replace("return pages & ~LAST_BIT", "return pages & ~(LAST_BIT >> ONE)"))
    done = subprocess.run(
        [sys.executable, "-m", "proofs", "--only", "shares.no_word_shared"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED shares.no_word_shared: refuted" in done.stdout
    assert not list(tmp_path.glob("*.json"))
    _, _, written = done.stdout.partition("python -m model.replay ")
    path = Path(written.splitlines()[0])
    assert path.name == "shares.no_word_shared.json"
    again = subprocess.run(
        [sys.executable, "-m", "model.replay", str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert again.returncode == 0
    assert "FAILS: threads" in again.stdout
    shutil.rmtree(path.parent)


#: The first claim is proved at once, and those behind it take many times as long.
BEGUN_SOON = ("--only", "blocks.*", "check_in.*", "race_free.*")


def test_an_interrupt_ends_it_at_once_and_leaves_nothing() -> None:
    with started("-m", "proofs", *BEGUN_SOON) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        assert ctrl_c(process) == (130, "interrupted: nothing is concluded\n")
        while not is_gone(process.pid):
            time.sleep(0.1)


def test_a_process_that_is_killed_is_an_error_and_no_traceback() -> None:
    """As the kernel does it where memory is short."""
    with started("-m", "proofs", "--jobs", "2", *BEGUN_SOON) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        provers = {child for child in children(process.pid) if "spawn_main" in command_line(child)}
        assert len(provers) == 2
        os.kill(provers.pop(), signal.SIGKILL)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2
        assert re.fullmatch(r"error: a process was killed, .*; nothing is concluded\n", said), said
        while not is_gone(process.pid):
            time.sleep(0.1)


def test_a_command_that_is_killed_leaves_nothing() -> None:
    """As when a job is cancelled: the command alone is told, and here not even that."""
    with started("-m", "proofs", "--jobs", "2", *BEGUN_SOON) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        process.kill()
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while not is_gone(process.pid):
            assert time.monotonic() < deadline, "its processes go on"
            time.sleep(0.1)


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def test_claims_are_registered_once() -> None:
    assert len(catalogue(slow=True)) == len(CLAIMS)
