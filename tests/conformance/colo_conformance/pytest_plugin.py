"""pytest --noconftest -p colo_conformance.pytest_plugin --colo-port ./libmine.so

Without conftest files, for they may lie in a package ``tests``, and here that is the kit's.
"""

from colo_conformance import find_the_kit

find_the_kit()

from tests.conformance.pytest_plugin import (  # noqa: E402, F401
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_ignore_collect,
)
