"""The compiled kernels against the model, in LLVM IR. Importing this registers the claims."""

from proofs.compiled import functions

__all__ = ["functions"]
