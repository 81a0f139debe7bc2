"""A port built with a sanitizer needs its runtime loaded first: said before it is loaded, not after."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.conformance.programs import without_preload

_RUNTIME = re.compile(rb"lib(?:asan|tsan|hwasan|lsan)\.so[.\d]*|libclang_rt\.\w+[-\w]*\.so")
_STATIC = re.compile(rb"__(asan|tsan)_init\0")


def needs_preloaded(library: Path) -> str | None:
    """What to do for a library whose sanitizer is not loaded; None if nothing is needed."""
    content = library.read_bytes()
    found = _RUNTIME.search(content)
    if found is None:
        static = _STATIC.search(content)
        if static is None or b"libclang_rt" in _mapped():
            return None
        name = f"libclang_rt.{static[1].decode()}"
        return (
            f"it is built with a sanitizer whose runtime ({name}) it does not name: build it with "
            "-shared-libsan, and set LD_PRELOAD to that runtime"
        )
    runtime = found[0].decode()
    if found[0] in _mapped():
        return None
    options = "ASAN_OPTIONS=detect_leaks=0 " if "asan" in runtime else ""
    return f"it is built with a sanitizer: run the kit with {options}LD_PRELOAD={_path_of(runtime)}"


def a_sanitizer_is_loaded() -> bool:
    """Is one preloaded here, as it then is in every process of the kit?"""
    return _RUNTIME.search(_mapped()) is not None


def _mapped() -> bytes:
    return Path("/proc/self/maps").read_bytes()


def _path_of(runtime: str) -> str:
    """Where a compiler found here keeps it, or its name alone."""
    short = runtime.split(".so")[0] + ".so"
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            command = [name, f"-print-file-name={short}"]
            said = subprocess.run(command, capture_output=True, text=True, env=without_preload())
            path = Path(said.stdout.strip())
            if path.is_absolute() and path.exists():
                return str(path.resolve())
    return runtime
