"""The LLVM IR of kernels of which a line has been changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.needs import ROOT


def ir_of_changed(folder: Path, file: str, old: str, new: str, *only: str) -> Path:
    """A folder with the IR of the kernels that match, compiled with a kernel changed."""
    for package in ("model", "impl"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    kernels = folder / "impl" / "kernels" / file
    text = kernels.read_text(encoding="utf-8")
    assert old in text
    kernels.write_text(text.replace(old, new), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "impl", "kernels", "--ir", str(folder / "ir"), "--only", *only],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        check=True,
    )
    return folder / "ir"
