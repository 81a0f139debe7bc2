"""The kit as it is installed by itself: the files of a clone, and the commands that find them.

In a clone nothing imports this: there it is ``python -m tests.conformance``.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

#: Holds ``tests.conformance``, ``model`` and the ABI's header. First of all that Python looks into, and
#: only in a process of the kit's.
TREE = Path(__file__).parent / "tree"


def find_the_kit() -> None:
    """From here on ``tests`` and ``model`` are the kit's, here and in the processes started from here.

    Those begin with the folder they are started in, where a project has its own ``tests``.
    """
    sys.path.insert(0, str(TREE))
    paths = [str(TREE), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["PYTHONSAFEPATH"] = "1"


def main() -> NoReturn:
    """The command ``colo-conformance``: ``python -m tests.conformance`` of a clone."""
    find_the_kit()
    from tests.conformance.__main__ import console

    console()


def vectors() -> NoReturn:
    """The command ``colo-vectors``: ``python -m tests.conformance.single_file`` of a clone."""
    find_the_kit()
    from tests.conformance.single_file import console

    console()
