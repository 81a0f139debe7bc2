"""Tests of the conformance kit and of the ports."""
