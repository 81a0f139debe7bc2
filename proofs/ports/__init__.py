"""Ports in C, explored up to a bound: clang's LLVM IR, by the translator of ``compiled``."""
