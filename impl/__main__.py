"""The command line: ``python -m impl COMMAND --help``."""

import argparse
import sys

from impl import bench, demo, plot, record, replay
from model.ram import ColoError

#: One module a command; each registers itself with add_command.
COMMANDS = (replay, demo, record, plot, bench)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 success, 1 a failed check or bad input, 2 bad usage, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m impl", description="Flush COLO's RAM cache.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except ColoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
