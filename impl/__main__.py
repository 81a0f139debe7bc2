"""The command line: ``python -m impl COMMAND --help``."""

from impl import demo, llvm_ir
from impl.bench import command as bench
from impl.calibration import command as calibration
from impl.recorder import record
from impl.traces import plot, replay
from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import run_command

#: One module a command; each registers itself with add_command.
COMMANDS = (replay, demo, record, plot, bench, calibration, llvm_ir)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 success, 1 a failed check or bad input, 2 bad usage, 130 Ctrl-C."""
    parser = Parser(prog="python -m impl", description="Flush COLO's RAM cache.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    chosen = parser.parse_args(arguments)
    return run_command(lambda: chosen.run(chosen))


if __name__ == "__main__":
    run(main)
