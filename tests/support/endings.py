"""How a run of pytest ends: what campaigns have tried, and what the skipped tests need.

Nobody takes a part for the whole.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

Tell = Callable[[str], None]
TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Have a line printed at the end: what a campaign has tried. A worker's own output goes nowhere."""
    return lambda line: record_property(TOLD, line)


def is_long(config: pytest.Config) -> bool:
    """Are the long campaigns to run?"""
    profile = config.getoption("--hypothesis-profile", default=None)
    return profile == "long" or bool(os.environ.get("COLO_LONG"))


def pytest_configure(config: pytest.Config) -> None:
    """After long campaigns hypothesis says how many examples it has tried."""
    if is_long(config):
        config.option.hypothesis_show_statistics = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """With ``-s`` no workers, for what a test prints there is not shown."""
    return 0 if config.option.capture == "no" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Add the lines below everything else, failures included."""
    yield
    config = terminalreporter.config
    if is_long(config) or config.option.capture == "no":
        for line in told(terminalreporter):
            terminalreporter.write_line(line)
    reports = terminalreporter.stats.get("skipped", [])
    if line := summary(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reports):
        terminalreporter.write_line(line)


def told(reporter: pytest.TerminalReporter) -> Iterator[str]:
    """What campaigns have tried, by test."""
    for report in (*reporter.stats.get("passed", []), *reporter.stats.get("failed", [])):
        lines = (text for name, text in report.user_properties if name == TOLD)
        yield from (f"{report.nodeid}: {line}" for line in lines)


def summary(reasons: Iterable[str]) -> str:
    """One line for the reasons of all skipped tests, the most frequent first; or nothing."""
    counted = Counter(reasons).most_common()
    parts = [f"{n} {reason if n == 1 else _plural(reason)}" for reason, n in counted]
    return f"{sum(n for _, n in counted)} skipped: {'; '.join(parts)}" if parts else ""


def _plural(reason: str) -> str:
    return "need " + reason.removeprefix("needs ") if reason.startswith("needs ") else reason
