"""Docstrings that are part of what the program says: a step's text, a claim's sentence.

``python -OO`` leaves docstrings out of what it runs. They are still in the source.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def docstring(function: Callable[..., Any]) -> str:
    """What a function's docstring says; where there is no source either, its name in words."""
    if function.__doc__:
        return inspect.cleandoc(function.__doc__)
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except OSError:
        definition = ast.Pass()
    said = ast.get_docstring(definition) if isinstance(definition, ast.FunctionDef) else None
    return said or function.__name__.replace("_", " ")
