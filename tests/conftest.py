"""Hypothesis profiles, pools that tests share, and a last line about what was skipped.

``pytest`` runs the default profile; ``pytest --hypothesis-profile=long`` the long campaigns, which also
run when COLO_LONG is set.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from impl import FlushPool
from tests.support.endings import (
    is_long,
    pytest_configure,
    pytest_terminal_summary,
    pytest_xdist_auto_num_workers,
    tell,
)
from tests.support.workers import pytest_xdist_make_scheduler

# Hooks and a fixture: pytest finds them here.
__all__ = [
    "pytest_configure",
    "pytest_terminal_summary",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "tell",
]

# What this machine is good at decides no test, also in the processes that tests start.
os.environ["COLO_FLUSH_TUNING"] = "usual"

# A shell's background jobs ignore Ctrl-C, and those of nohup that the terminal is gone. Tests that send
# such signals would wait for ever for what comes of them.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        _heeded = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _heeded)

COMMON = settings(
    deadline=None,  # machines are shared; nothing here is judged by its time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("short", COMMON, max_examples=60)
settings.register_profile("long", COMMON, max_examples=2500)
settings.load_profile("long" if os.environ.get("COLO_LONG") else "short")


def pytest_collection_finish() -> None:
    """What has been imported stays: Python's collector of cycles is spared looking through it."""
    gc.freeze()


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    """Whether the long campaigns are to run."""
    return is_long(request.config)


@pytest.fixture(scope="session")
def pools() -> Iterator[dict[int, FlushPool]]:
    """Pools of 1 to 9 threads, all of which come to every flush, however small."""
    made = {threads: FlushPool(threads, serial_below_bytes=0) for threads in range(1, 10)}
    yield made
    for pool in made.values():
        pool.close()
