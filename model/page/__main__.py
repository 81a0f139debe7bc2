"""Draw documents in one page: ``python -m model.page FILE.json ... --html FILE.html``.

The files are what other commands have written with ``--json``: proofs, exploration, counterexamples, the
conformance of ports, benchmarks of several machines.
"""

from pathlib import Path

from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import check_outputs, run_command
from model.page.document import load
from model.page.page import write_page


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = Parser(prog="python -m model.page", description=__doc__)
    parser.add_argument("files", metavar="FILE.json", nargs="+", type=Path)
    parser.add_argument("--html", metavar="FILE.html", type=Path, required=True)
    options = parser.parse_args(arguments)
    return run_command(lambda: _draw(options.files, options.html))


def _draw(files: list[Path], html: Path) -> int:
    check_outputs(html, inputs=files)
    write_page(html, *map(load, files))
    return 0


if __name__ == "__main__":
    run(main)
