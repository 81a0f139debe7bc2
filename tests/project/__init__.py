"""Tests of the project as a whole: commands, packages, README."""
