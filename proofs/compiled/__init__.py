"""The compiled kernels against the model, in LLVM IR. Importing this registers the claims."""

from proofs.compiled import flush, functions, order, ranges, whole_ram, window

__all__ = ["flush", "functions", "order", "ranges", "whole_ram", "window"]
