"""``python -m model.explore``: every interleaving of the protocols."""

from model.boundary.command import run
from model.explore.catalogue import main

if __name__ == "__main__":
    run(main)
