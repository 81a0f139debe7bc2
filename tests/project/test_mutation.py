"""Mutants of the model and of the kernels: a sample of each is refused, the harmless ones are listed.

All of them: ``python -m tests.mutation model|kernels``, also run by the long profile.
"""

import pkgutil
import subprocess
import sys
from collections.abc import Callable
from types import FunctionType

import pytest

from model import protocols, shares
from model.protocols import marking, patch_events
from model.protocols.check_in import forked_child
from tests.mutation import of_kernels, of_model
from tests.mutation.__main__ import main as command
from tests.mutation.campaign import MUTANTS
from tests.mutation.explored import MADE, SMALL, can_be_changed, made_of, refused_by
from tests.mutation.harmless import HARMLESS, KERNELS, MODEL
from tests.mutation.machine import Fault, HelpersFirst, Machine, Schedule
from tests.mutation.mutants import SURVIVES, Mutant, mutants
from tests.mutation.rig import Wrong
from tests.support.needs import LONG_RUN, ROOT

#: Of the model: those that were once proved right, each for another gap in the claims.
ONCE_PROVED = (
    "worker.worker_after: last=me.last -> last=me.first",
    "worker.worker_after: select(me.step == LOAD_CACHE, loaded(memory.cache, me.word), me.cache) -> "
    "loaded(memory.cache, me.word)",
    "check_in.finish: live=ZERO -> live=ZERO, awaited=OPEN",
    "check_in.rewind: FLUSH_ALONE, OPEN_JOB -> FLUSH_ALONE, REWIND",
    "work_queue.offer: tail=queue.tail + ONE -> tail=queue.head + ONE",
)
#: A list of accesses, and what a race is: no step, and not lifted.
NOT_STEPS = {"model.protocols.accesses"}

#: Of the kernels: those that tests of results did not see.
ONCE_MISSED = (
    # A search that reads a word past the bitmap.
    "flush.next_dirty_word: _STRIDE -> _STRIDE - 1",
    # Dynamic rounds that work serially.
    "flush.index_stretch: store(index + word * _8, before) -> nothing",
    # A queue round without helpers, from the second on.
    "check_in.start_round: store(control + c.CLOSED, _0) -> nothing",
    # Static rounds that wait for one helper only; helpers that enter a closed round, or work twice.
    "check_in.wait_for_all: number + _1 -> _1",
    "check_in.helper: _is_open(state) -> state",
    "check_in.helper: last = current -> nothing",
    # A flush by the caller alone that ends where counting has stopped.
    "flush.count_either: last = n_words -> nothing (2)",
)


def named(subject: str, names: tuple[str, ...]) -> list[Mutant]:
    """The mutants with these names."""
    known = {str(mutant): mutant for mutant in MUTANTS[subject]()}
    return [known[name] for name in names]


# The mutants.


def mutants_of(function: Callable[..., object]) -> list[Mutant]:
    assert isinstance(function, FunctionType)
    return mutants(function)


def test_mutants_of_a_function() -> None:
    made = {str(mutant) for mutant in mutants_of(shares.is_last)}
    assert "shares.is_last: thread + ONE == threads -> thread + ONE != threads" in made
    assert "shares.is_last: thread + ONE -> thread - ONE" in made
    assert "shares.is_last: ONE -> ONE + 1" in made


def test_a_mutant_is_there_within_its_block_only() -> None:
    (mutant,) = [m for m in mutants_of(shares.is_last) if m.new == "thread + ONE != threads"]
    with mutant.applied():
        assert shares.is_last(2, 0) is True
    assert shares.is_last(2, 0) is False


@pytest.mark.parametrize("subject", MUTANTS)
def test_names_are_unique_and_the_list_of_harmless_ones_is_not_stale(subject: str) -> None:
    made = [str(mutant) for mutant in MUTANTS[subject]()]
    assert len(set(made)) == len(made) > 1000
    assert set(HARMLESS[subject]) - set(made) == set()


# Of the model.


def test_all_that_a_claim_reads_or_the_explorer_runs_is_changed() -> None:
    """Derived from the claims and the explorer's systems: a new module cannot be forgotten."""
    changed = {mutant.target for mutant in of_model.all_mutants()}
    explored = {function for function in made_of() if can_be_changed(function)}
    unchanged = {f for f in {*of_model.read_by_claims(), *explored} - changed if mutants(f)}
    assert unchanged == set()
    assert SMALL.keys() == MADE.keys()
    for function in (patch_events.exchange, patch_events.Use.put, marking.mark, forked_child):
        assert function in changed
    of_protocols = {f"{target.__module__}" for target in changed}
    modules = {f"model.protocols.{m.name}" for m in pkgutil.iter_modules(protocols.__path__)}
    assert modules - of_protocols == NOT_STEPS


def test_a_fault_that_is_not_seen_any_more_refuses_a_mutant() -> None:
    """Of an invariant that only the explorer has: weaker, it lets pass what must fail."""
    (mutant,) = [m for m in mutants_of(patch_events.all_are_flushed) if m.new == "done != at.live"]
    with mutant.applied():
        assert refused_by(frozenset({"patch"}), controls=True)
    assert refused_by(frozenset({"patch", "marking", "fork"}), controls=True) == ""


@pytest.mark.parametrize("name", ONCE_PROVED)
def test_what_was_once_proved_is_refused(name: str) -> None:
    (mutant,) = named(MODEL, (name,))
    assert of_model.fate(mutant) != SURVIVES


def test_a_sample_of_the_model_is_refused() -> None:
    listed = HARMLESS[MODEL]
    sample = [m for m in of_model.all_mutants()[::301] if str(m) not in listed]
    assert [str(m) for m in sample if of_model.fate(m) == SURVIVES] == []


# Of the kernels.


@pytest.mark.parametrize("case", of_kernels.CASES)
def test_the_kernels_themselves_survive(case: str) -> None:
    of_kernels.CASES[case]()


@pytest.mark.parametrize("name", ONCE_MISSED)
def test_what_was_once_missed_is_refused(name: str) -> None:
    (mutant,) = named(KERNELS, (name,))
    assert of_kernels.fate(mutant) != SURVIVES


def test_a_sample_of_the_kernels_is_refused() -> None:
    listed = HARMLESS[KERNELS]
    sample = [m for m in of_kernels.all_mutants()[::801] if str(m) not in listed]
    assert [str(m) for m in sample if of_kernels.fate(m) == SURVIVES] == []


@pytest.mark.parametrize("subject", MUTANTS)
def test_a_harmless_one_survives(subject: str) -> None:
    fate = {MODEL: of_model.fate, KERNELS: of_kernels.fate}[subject]
    (mutant,) = named(subject, (next(iter(HARMLESS[subject])),))
    assert fate(mutant) == SURVIVES


def test_a_case_that_fails_anyhow_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise Wrong("as it should be")

    monkeypatch.setattr(of_kernels, "CASES", {"one that fails": fails, **of_kernels.CASES})
    assert command([KERNELS, "--only", "flush.rows_end"]) == 1
    said = capsys.readouterr().out
    assert said == (
        "the kernels as they are fail at one that fails: as it should be: every mutant would\n"
    )


def test_a_campaign_about_nothing_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(["model", "--only", "shrs.*"])
    assert "no function of the model matches 'shrs.*'" in capsys.readouterr().err


# All of them.


@pytest.mark.parametrize("subject", MUTANTS)
def test_every_mutant_is_refused_or_harmless(subject: str, long_run: bool) -> None:
    if not long_run:
        pytest.skip(LONG_RUN)
    command = [sys.executable, "-m", "tests.mutation", subject]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# The machine that the kernels run on.


def on_a_machine(schedule: Schedule, *lives: Callable[[Machine], object]) -> None:
    machine = Machine()
    machine.restart(schedule)
    for life in lives[1:]:
        machine.start(lambda life=life: life(machine))  # type: ignore[misc]
    machine.run(lambda: lives[0](machine))


@pytest.mark.parametrize(
    ("life", "what"),
    [
        (lambda m: m.load(m.allocate("a table", 8) + 8), "past the end of a table"),
        (lambda m: m.store(m.allocate("a table", 16) + 4, 1), "not aligned"),
        (lambda m: m.load(7), "no memory"),
        (
            lambda m: [m.load(m.allocate("a table", 8)) for _ in iter(int, 1)],
            "never comes to an end",
        ),
        (lambda m: m.futex_wait(m.allocate("a futex", 8), 0), "nobody wakes"),
    ],
)
def test_the_machine_finds_a_fault(life: Callable[[Machine], object], what: str) -> None:
    with pytest.raises(Fault, match=what):
        on_a_machine(Schedule(), life)


def test_a_thread_that_sleeps_is_woken() -> None:
    seen: list[str] = []
    machine = Machine()
    machine.restart(HelpersFirst())
    word = machine.allocate("a futex", 8)

    def sleeper() -> None:
        while machine.load(word) == 0:
            machine.futex_wait(word, 0)
        seen.append("awake")

    def caller() -> None:
        machine.store(word, 1)
        seen.append("rung")
        machine.futex_wake(word, 1)

    machine.start(sleeper)
    machine.run(caller)
    assert seen == ["rung", "awake"]
