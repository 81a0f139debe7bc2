"""One HTML file to look at: what commands write with ``--json``, drawn. See ``page.py``."""
