"""Every mutant of the model, or of the kernels: ``python -m tests.mutation model|kernels``.

Each is refused by a claim (``proofs``), by an exploration (``model.explore``), or by a case that the
kernels run through as plain Python; or it is listed as harmless, with the reason. ``--shard I/N`` takes
every N-th, from the I-th on, so that a campaign spreads over machines.

Exit 0: so it is. 1: a mutant survives that is not listed, or a listed one does not survive; or the
kernels as they are do not pass a case.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial

from model.boundary.command import run, started_processes_hear_no_ctrl_c
from model.boundary.options import Parser, count
from model.boundary.output import run_command
from proofs.prover.parallel import processes
from tests.mutation.campaign import MUTANTS, fate_of
from tests.mutation.harmless import HARMLESS, KERNELS
from tests.mutation.mutants import SURVIVES, Fate, Mutant
from tests.mutation.of_kernels import first_failure


def shard(text: str) -> tuple[int, int]:
    """``I/N``: the I-th of N parts."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError("write I/N, the I-th of N parts, such as 1/4")
    return int(found[1]), int(found[2])


def main(arguments: Sequence[str]) -> int:
    """Run a campaign, or a shard of it, and print its table."""
    parser = Parser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("subject", choices=list(MUTANTS))
    parser.add_argument("--shard", metavar="I/N", type=shard, default=(1, 1))
    parser.add_argument("--only", metavar="GLOB", default="*", help="functions, e.g. 'shares.*'")
    parser.add_argument("--jobs", metavar="N", type=count, default=os.cpu_count(), help="processes")
    options = parser.parse_args(list(arguments))
    (first, step), subject = options.shard, options.subject
    mutants = [
        (number, mutant)
        for number, mutant in enumerate(MUTANTS[subject]())
        if fnmatchcase(mutant.function, options.only)
    ]
    if not mutants:  # nothing would be refused, and nothing survive
        parser.error(f"argument --only: no function of the {subject} matches {options.only!r}")
    return run_command(lambda: _campaign(subject, mutants[first - 1 :: step], options.jobs))


def _campaign(subject: str, mutants: Sequence[tuple[int, Mutant]], jobs: int) -> int:
    if subject == KERNELS and (where := first_failure()):
        print(f"the kernels as they are fail at {where}: every mutant would")
        return 1
    harmless = HARMLESS[subject]
    table: Counter[str] = Counter()
    wrong = 0
    for mutant, (by, where) in _fates(subject, mutants, jobs):
        listed = str(mutant) in harmless
        survives = by == SURVIVES.by
        table["harmless, as listed" if listed and survives else f"refused by {by}"] += 1
        if listed == survives:
            continue
        wrong += 1
        said = "is listed as harmless, but refused at " + where if listed else "survives"
        print(f"{mutant}: {said}", flush=True)
    for fate, number in table.most_common():
        print(f"{number:6} {fate}")
    print(f"{len(mutants):6} mutants of the {subject}, {wrong} of them not as they must be")
    return 1 if wrong else 0


def _fates(
    subject: str, mutants: Sequence[tuple[int, Mutant]], jobs: int
) -> Iterator[tuple[Mutant, Fate]]:
    fate: Callable[[int], Fate] = partial(fate_of, subject)
    with processes(jobs) as pool:
        with started_processes_hear_no_ctrl_c():
            fates = pool.map(fate, [number for number, _ in mutants])
        yield from zip((mutant for _, mutant in mutants), fates, strict=True)


if __name__ == "__main__":
    run(main)
