"""Tests of the proofs and of the tool around them."""
