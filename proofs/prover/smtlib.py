"""Each obligation as an SMT-LIB file, exactly what z3 is asked, and a second solver's answer to it."""

import re
from pathlib import Path

import z3

from model.boundary.output import check_folder, write_text
from proofs.prover.obligation import Claim, Obligation, stated

# Units of cvc5's work, not seconds: the same answer on a busy machine. Most questions take 0.3 million.
SECOND_WORK = 10_000_000


def script(obligation: Obligation) -> str:
    """The question in SMT-LIB 2.6. ``unsat`` means proved.

    z3 prints a recursive function's uses as ``(_ f 0)``, a dialect of its own; here they are plain.
    """
    solver = z3.Solver()
    solver.add(*obligation.easier_question)
    text = solver.to_smt2().replace("; benchmark generated from python API\n", "")
    text = text.replace("(set-info :status unknown)\n", "")
    recursive = re.findall(r"\(define-funs-rec \( \( (\S+) ", text)
    for name in recursive:
        text = text.replace(f"(_ {name} 0)", name)
    return f"; {obligation.name}\n(set-logic ALL)\n{text}"


def export(claim: Claim, folder: Path) -> list[Path]:
    """Write a claim's obligations to ``folder``, numbered in order."""
    into = folder / claim.name
    check_folder(into)
    paths = []
    for number, obligation in enumerate(stated(claim).obligations, start=1):
        name = re.sub(r"[^a-z0-9]+", "-", obligation.name.lower()).strip("-")
        paths.append(into / f"{number:02}-{name}.smt2")
        write_text(paths[-1], script(obligation))
    return paths


def ask_cvc5(path: Path) -> str:
    """cvc5's answer to an exported file: ``unsat``, ``sat`` or ``unknown``."""
    import cvc5  # type: ignore[import-untyped]  # only for a second opinion

    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("rlimit-per", str(SECOND_WORK))
    parser = cvc5.InputParser(solver)
    parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, str(path))
    answer = ""
    while not (command := parser.nextCommand()).isNull():
        answer += command.invoke(solver, parser.getSymbolManager())
    return answer.strip()
