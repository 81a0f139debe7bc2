"""A machine, or a setting of numba, on which the kernels cannot run: what it is told."""

import os
import subprocess
import sys

import pytest

from impl.machine.host import FUTEX_CALL_NUMBERS, lack


@pytest.mark.parametrize("machine", FUTEX_CALL_NUMBERS)
def test_known_machines_lack_nothing(machine: str) -> None:
    assert lack(machine=machine) is None


@pytest.mark.parametrize(
    ("other", "told"),
    [
        *[({"machine": name}, "64-bit machine") for name in ("i686", "armv7l", "armhf", "riscv32")],
        *[({"machine": name}, "big-endian") for name in ("s390x", "ppc64", "mips64", "aarch64_be")],
        ({"word_bits": 32}, "64-bit machine"),
        ({"byte_order": "big"}, "big-endian"),
        ({"system": "darwin"}, "Linux"),
        ({"machine": "loongarch64"}, "FUTEX_CALL_NUMBERS"),
        ({"jit": False}, "NUMBA_DISABLE_JIT"),
    ],
)
def test_others_are_told_what_they_lack(other: dict[str, object], told: str) -> None:
    reason = lack(**other)  # type: ignore[arg-type]
    assert reason is not None and told in reason
    assert ("FUTEX" in reason) == (told == "FUTEX_CALL_NUMBERS")


def test_numba_without_its_compiler_is_refused_by_name() -> None:
    """Uncompiled, a kernel reads no memory and a worker holds the GIL: there is no other way."""
    program = """
from model.errors import ColoError
try:
    import impl
except ColoError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unset it" in done.stdout, done.stderr
