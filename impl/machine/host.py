"""What a machine must be for the kernels to run on it; checked before anything is compiled."""

import platform
import re
import sys

import numba

from impl.errors import UnsupportedHost

MACHINE = platform.machine()
#: futex(2) by machine: its system call number on Linux.
FUTEX_CALL_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}

_32_BIT = re.compile(
    r"i[3-6]86|x86|arm(v.*|el|hf)?|mips(el)?|ppc(le)?|riscv32|s390|sparc|parisc|m68k"
)
_BIG_ENDIAN = re.compile(r"s390x?|ppc(64)?|mips(64)?|sparc(64)?|parisc(64)?|m68k|.*(_be|eb)")


def lack(
    *,
    system: str = sys.platform,
    machine: str = MACHINE,
    word_bits: int = sys.maxsize.bit_length() + 1,
    byte_order: str = sys.byteorder,
    jit: bool = True,
) -> str | None:
    """Why the kernels cannot run on such a machine, and what to do about it; None if they can."""
    if system != "linux":
        return f"colo-flush needs Linux, whose futexes its workers sleep on; this is {system}"
    if word_bits < 64 or _32_BIT.fullmatch(machine):
        return (
            f"colo-flush needs a 64-bit machine, and a Python built for it; this is {machine} with "
            f"{word_bits}-bit addresses (linux32 and setarch also make a machine look like one of 32)"
        )
    if byte_order != "little" or _BIG_ENDIAN.fullmatch(machine):
        return (
            f"colo-flush needs a little-endian machine, and {machine} is big-endian: bit b of a "
            "bitmap's word must be bit b % 8 of its byte b // 8"
        )
    if machine not in FUTEX_CALL_NUMBERS:
        return (
            f"colo-flush has run on {', '.join(FUTEX_CALL_NUMBERS)}, and this is {machine}: add the "
            "number of its system call futex to FUTEX_CALL_NUMBERS in impl/machine/host.py, then run "
            "the tests"
        )
    if not jit:
        return (
            "colo-flush cannot run with NUMBA_DISABLE_JIT: its kernels read memory by address, and "
            "its workers run without the GIL, which only compiled code can; unset it, or use model/, "
            "which is plain Python"
        )
    return None


def check() -> None:
    """Raise UnsupportedHost unless the kernels can run here."""
    reason = lack(jit=not numba.config.DISABLE_JIT)
    if reason:
        raise UnsupportedHost(reason)
