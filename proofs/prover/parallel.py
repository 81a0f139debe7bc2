"""Claims and controls checked, and obligations put to cvc5, in as many processes as wanted."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from model.boundary.command import started_processes_hear_no_ctrl_c
from model.errors import ColoError
from proofs.prover.catalogue import catalogue
from proofs.prover.obligation import Claim
from proofs.prover.report import parts
from proofs.prover.smtlib import ask_cvc5
from proofs.prover.verdict import Outcome, check


class ProcessKilled(ColoError, RuntimeError):
    """One of the processes has been ended from outside."""


@contextmanager
def processes(
    number: int, begin: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, each of which does ``begin`` first; gone at the end, however that comes.

    Raises ProcessKilled.
    """
    first = partial(_begin, begin)
    pool = ProcessPoolExecutor(number, get_context("spawn"), initializer=first)
    try:
        yield pool
    except BaseException as error:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise ProcessKilled(
                "a process was killed, for want of memory perhaps: --jobs 1 takes the least"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(then: Callable[[], None] | None) -> None:
    Thread(target=_end_with_the_command, daemon=True).start()
    if then:
        then()


def _end_with_the_command() -> None:
    """A command that is killed tells nobody, and its processes would prove on for minutes."""
    if command := parent_process():
        wait([command.sentinel])
        os._exit(1)


def outcomes(pool: ProcessPoolExecutor, claims: Sequence[Claim]) -> Iterator[Outcome]:
    """The outcome of every claim and control, as they come."""
    with started_processes_hear_no_ctrl_c():
        waiting = [
            pool.submit(_check, claim.name, claim.controls.index(part) if part else None)
            for claim, part in parts(claims)
        ]
    return (done.result() for done in as_completed(waiting))


def second_answers(pool: ProcessPoolExecutor, paths: Sequence[Path]) -> dict[Path, str]:
    """cvc5's answer to each exported obligation."""
    with started_processes_hear_no_ctrl_c():
        answers = pool.map(ask_cvc5, paths)
    return dict(zip(paths, answers, strict=True))


def _check(name: str, control: int | None) -> Outcome:
    (claim,) = catalogue([name], slow=True)
    try:
        return check(claim, None if control is None else claim.controls[control])
    except Exception as error:
        error.add_note(f"claim {name} cannot be stated or checked")
        raise
