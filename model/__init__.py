"""What a flush of COLO's RAM cache is. Standard library only; see README.md for the reading order."""

import model.boundary.command  # noqa: F401  (Ctrl-C in what follows ends a command as it does later)
