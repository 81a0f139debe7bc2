"""The two campaigns: the mutants of each, and what becomes of one."""

from collections.abc import Callable, Mapping

from tests.mutation import of_kernels, of_model
from tests.mutation.harmless import KERNELS, MODEL
from tests.mutation.mutants import Fate, Mutant

MUTANTS: Mapping[str, Callable[[], tuple[Mutant, ...]]] = {
    MODEL: of_model.all_mutants,
    KERNELS: of_kernels.all_mutants,
}
_FATES: Mapping[str, Callable[[Mutant], Fate]] = {
    MODEL: of_model.fate,
    KERNELS: of_kernels.fate,
}


def fate_of(subject: str, number: int) -> Fate:
    """What becomes of the mutant with this number."""
    return _FATES[subject](MUTANTS[subject]()[number])
