"""The tool around the proofs."""
