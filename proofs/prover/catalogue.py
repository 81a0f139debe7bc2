"""All claims: every module of ``proofs`` is loaded, and registers those it states."""

import pkgutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

from proofs.prover.obligation import CLAIMS, Claim

#: What all the others are for.
THEOREM = "flush_is_the_spec."


def catalogue(only: Sequence[str] = ("*",), *, slow: bool = False) -> list[Claim]:
    """The claims whose name (``subject.claim``) matches one of the globs: the theorem, then by file.

    Those that take long are left out unless they are asked for.
    """
    for module in pkgutil.iter_modules([str(Path(__file__).parents[1])]):
        if module.name not in ("__main__", "prover"):
            import_module(f"proofs.{module.name}")
    by_subject = sorted(
        CLAIMS.values(),
        key=lambda claim: (not claim.name.startswith(THEOREM), claim.name.split(".")[0]),
    )
    return [
        claim
        for claim in by_subject
        if (slow or not claim.slow) and any(fnmatchcase(claim.name, glob) for glob in only)
    ]
