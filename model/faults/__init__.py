"""What is broken on purpose, by name: ``FAULTS``; the model with one of them: ``broken``."""

from model.faults import check_in, definitions  # they register theirs
from model.faults.registry import FAULTS, Fault, broken

__all__ = ["FAULTS", "Fault", "broken", "check_in", "definitions"]
