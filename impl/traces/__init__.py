"""Recorded traces: read, replayed, drawn."""
