"""Tests of the page: what it holds, and, in a real browser, what it does."""
