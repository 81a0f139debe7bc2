"""What holds the three folders against each other. See README.md."""

import model.boundary.command  # noqa: F401  (Ctrl-C in what follows ends a command as it does later)
