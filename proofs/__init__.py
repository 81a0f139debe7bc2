"""Why a flush is right: claims about ``model``, proved by z3. See README.md."""

import importlib.util
from pathlib import Path

# "model" is an everyday name. What else is called so, in the current folder or on the path, is not run.
_found = importlib.util.find_spec("model")
_place = _found.origin if _found else None
if Path(_place or "").resolve() != Path(__file__).resolve().parents[1] / "model" / "__init__.py":
    raise ImportError(
        f"colo-flush needs its own package `model`, but what Python finds first is {_place}: run in "
        "another folder or with `python -P`, and give colo-flush a venv of its own"
    )

import model.boundary.command  # noqa: F401, E402  (Ctrl-C in what follows ends a command as it does later)
