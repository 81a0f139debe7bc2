"""A calibration on disk, beside the compiled kernels: by the processor's model, the CPUs and all sources.

Whatever else lies in the file's place, a damaged file or one of another version, is none.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from impl.calibration.figures import Figures
from impl.kernels import kernel_cache
from impl.machine.cpus import processor_model, usable_cpus
from impl.tuning import Tuning
from model.errors import ColoError

#: A calibration that was not to be had, on a busy machine, is tried again after so long.
AGAIN_AFTER_SECONDS = 3600

# What content of another kind, under the right key, comes out as.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, ColoError)


@dataclass(frozen=True)
class Calibration:
    """What was decided and what it was decided from; without figures it is only begun, or failed."""

    tuning: Tuning
    figures: Figures | None
    settled: bool
    """decided by measuring, and to be kept; else what was undecided is as usual for a while"""
    at: float
    """seconds since 1970"""


def load() -> Calibration | None:
    """The calibration that was kept for this machine; None if there is none, or one to be done again."""
    for path in _files():
        content = kernel_cache.read(path, _key())
        with suppress(*UNREADABLE):
            found = _parsed(content or b"")
            if found.settled or 0 <= time.time() - found.at < AGAIN_AFTER_SECONDS:
                return found
    return None


def keep(calibration: Calibration) -> bool:
    """Keep it in the first place that takes it; False if none does."""
    content = json.dumps(asdict(calibration)).encode()
    for path in _files():
        with suppress(OSError):
            kernel_cache.write(path, _key(), content)
            return True
    return False


def forget() -> None:
    """As if nothing had ever been kept, where that can be."""
    for path in _files():
        with suppress(OSError):
            path.unlink()


def _parsed(content: bytes) -> Calibration:
    members = json.loads(content)
    figures = members["figures"]
    if figures is not None:
        copying, helping = (
            {int(size): times for size, times in figures[part].items()}
            for part in ("copying", "helping")
        )
        others = figures["sleeping"], figures["apart"], float(figures["running"])
        figures = Figures(copying, helping, *others)
    tuning = Tuning(**members["tuning"])
    return Calibration(tuning, figures, bool(members["settled"]), float(members["at"]))


def _files() -> Iterator[Path]:
    name = hashlib.sha256(_machine().encode()).hexdigest()[:12]
    return (folder / f"tuning-{name}.json" for folder in kernel_cache.places())


def _key() -> bytes:
    return hashlib.sha256(_machine().encode() + kernel_cache.version()).digest()


def _machine() -> str:
    return f"{processor_model()}; {usable_cpus()} CPUs"
