"""``python -m model.explore.weak``: every access weakened, and what breaks."""

from model.boundary.command import run
from model.explore.weak.catalogue import main

if __name__ == "__main__":
    run(main)
