"""The line that ends pytest's output: what the skipped tests need. Nobody takes a part for the whole."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Add the line below everything else, failures included."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    if line := summary(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reports):
        terminalreporter.write_line(line)


def summary(reasons: Iterable[str]) -> str:
    """One line for the reasons of all skipped tests, the most frequent first; or nothing."""
    counted = Counter(reasons).most_common()
    parts = [f"{n} {reason if n == 1 else _plural(reason)}" for reason, n in counted]
    return f"{sum(n for _, n in counted)} skipped: {'; '.join(parts)}" if parts else ""


def _plural(reason: str) -> str:
    return "need " + reason.removeprefix("needs ") if reason.startswith("needs ") else reason
