"""A picture of a page: ``python -m tests.page.screenshot FILE.html -o FILE.png --at replay/NAME/STEP``.

Needs Chromium and Playwright (``.ci/run page``). The picture in the README is of
``python -m model.replay tests/counterexamples/schedule-static-a-word-in-two-shares.json --html FILE``.
"""

from pathlib import Path

from model.boundary.command import run
from model.boundary.options import Parser
from model.boundary.output import check_outputs, run_command, whole_file
from model.errors import ColoError
from tests.page import browser


class NoBrowser(ColoError):
    """There is no browser to look with."""


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = Parser(prog="python -m tests.page.screenshot", description=__doc__)
    parser.add_argument("file", metavar="FILE.html", type=Path)
    parser.add_argument("-o", "--output", metavar="FILE.png", type=Path, required=True)
    parser.add_argument("--at", metavar="PART", default="", help="replay/NAME/STEP, claims, bench")
    parser.add_argument("--dark", action="store_true", help="in the dark scheme")
    options = parser.parse_args(arguments)
    return run_command(lambda: _take(options.file, options.output, options.at, options.dark))


def _take(file: Path, output: Path, at: str, dark: bool) -> int:
    check_outputs(output, inputs=[file])
    if not browser.is_here():
        raise NoBrowser(browser.NEEDS)
    with browser.chromium() as chromium:
        watched = browser.Watched(
            chromium, file.resolve(), color_scheme="dark" if dark else "light"
        )
        watched.go(*at.split("/"))
        watched.page.wait_for_timeout(500)  # what is scrolled to, and fonts
        picture = watched.page.screenshot()
        watched.page.close()
    with whole_file(output) as png:
        png.write(picture)
    return 0


if __name__ == "__main__":
    run(main)
