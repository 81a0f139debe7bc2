"""A C program of the kit run in a Python process, on our own flush: its calls come back into Python."""

import ctypes
import os
import shlex
import sys
import tempfile
from pathlib import Path

from tests.conformance.port import Arguments
from tests.conformance.programs import HERE, Result, build_library, run_program

ROOT = Path(__file__).parents[2]
_START = "import sys; from tests.conformance.inside import run; sys.exit(run(*sys.argv[1:]))"

_address, _size = ctypes.c_void_p, ctypes.c_size_t
_FLUSH = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(
        _address,
        _size,
        ctypes.c_uint64,
        _address,
        _address,
        _size,
        _address,
        ctypes.c_uint32,
        _address,
    ),
)


def run_inside(
    source: Path, case: str, strategy: str, patience: float, seed: int, effort: float
) -> Result:
    """What the program finds in our own flush. Raises NoCompilerError, CannotRunError."""
    program, port = build_library(source), build_library(HERE / "ours.c")
    command = [sys.executable, "-c", _START, strategy, str(program)]
    with tempfile.TemporaryDirectory(prefix="colo-kit-") as folder:
        again = Path(folder) / "again"  # the program may start itself once more
        again.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        again.chmod(0o700)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        more = {"COLO_KIT_AGAIN": str(again), "PYTHONPATH": paths}
        return run_program([*command, case], str(port), patience, seed, effort, more)


def run(strategy: str, program: str, *arguments: str) -> int:
    """In that process: the program's exit code."""
    from tests.conformance.implementation import Implementation

    implementation = Implementation(strategy)
    flush = _FLUSH(lambda *given: implementation.flush(Arguments(*given)))
    ctypes.CDLL(os.environ["COLO_KIT_PORT"]).colo_use(flush)
    argv = (ctypes.c_char_p * (len(arguments) + 2))(
        program.encode(), *(one.encode() for one in arguments), None
    )
    code: int = ctypes.CDLL(program).main(len(arguments) + 1, argv)
    return code
