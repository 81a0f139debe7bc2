"""The compiled kernels against the model, in LLVM IR. Importing this registers the claims."""

from proofs.compiled import (
    backup,
    flush,
    functions,
    index,
    order,
    ranges,
    strays,
    whole_ram,
    window,
)

__all__ = [
    "backup",
    "flush",
    "functions",
    "index",
    "order",
    "ranges",
    "strays",
    "whole_ram",
    "window",
]
