"""Which tests go to the same worker of pytest: told by where they stand.

xdist has groups of its own, told by a mark. Its workers write the mark into the names of the tests,
which is without effect since pytest 9.2: nothing is said, and a group is spread over all workers.
"""

import pytest

#: Tests of a row are run by one worker, for what they have in common takes seconds to make.
#: Rows go first, those of most tests before the others: no worker begins one when others have ended.
TOGETHER = (
    # All claims, stated.
    (
        "tests/project/test_mutation.py",
        "tests/proofs/test_proofs.py",
        "tests/model/test_domain.py::test_the_catalogue",
    ),
    # A document of each kind.
    ("tests/page/",),
    # Kernels, compiled as on other machines.
    ("tests/impl/test_assembly.py",),
    # A guest that has booted.
    ("tests/guest/test_guest.py",),
)


def unit(nodeid: str) -> str:
    """What a worker is given as a whole: the first place of a row, or a test alone."""
    rows = (row for row in TOGETHER if nodeid.startswith(row))
    return next(rows, (nodeid,))[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Units for scopes; whoever asks for something else by ``--dist`` gets that."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = unit
    return scheduling
