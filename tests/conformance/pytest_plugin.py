"""pytest -p tests.conformance.pytest_plugin --colo-port ./libmine.so: each check of the kit is a test.

Selected by -k, spread by -n, written by --junitxml like any others. No other tests are collected.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.finding import Finding, NotRun
from tests.conformance.process import PATIENCE, Subject
from tests.conformance.report import explain
from tests.conformance.sanitizers import needs_preloaded
from tests.conformance.suite import Check, Effort, Session, all_checks


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("colo", "conformance of a COLO flush")
    group.addoption("--colo-port", metavar="PORT.so", help="the port: run the kit's checks on it")
    group.addoption("--colo-effort", type=float, default=1.0, help="as --effort of the kit")
    group.addoption("--colo-seed", type=int, default=0, help="as --seed of the kit")
    group.addoption(
        "--colo-patience", type=float, default=PATIENCE, help="as --patience of the kit"
    )


def pytest_configure(config: pytest.Config) -> None:
    port = config.getoption("--colo-port")
    if port is None:
        return
    if not Path(port).is_file():
        raise pytest.UsageError(f"no file {port}: build the port first")
    if remedy := needs_preloaded(Path(port)):
        raise pytest.UsageError(f"{port} does not load: {remedy}")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whatever tests lie in this folder, they are not about the port."""
    return True if config.getoption("--colo-port") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    if port := config.getoption("--colo-port"):
        effort = Effort(
            config.getoption("--colo-effort"),
            config.getoption("--colo-seed"),
            patience=config.getoption("--colo-patience"),
        )
        kit = Kit.from_parent(session, name="colo", nodeid="colo")
        kit.session_with_port = Session(Subject(str(Path(port).resolve())), effort)
        items[:] = kit.collect()


class Kit(pytest.Collector):
    """All checks, which share a process with the port in it."""

    session_with_port: Session

    def collect(self) -> Iterator[pytest.Item]:
        for check in all_checks():
            item = CheckItem.from_parent(self, name=check.name)
            item.check = check
            yield item

    def teardown(self) -> None:
        self.session_with_port.restart()


class CheckItem(pytest.Item):
    """One check."""

    check: Check
    parent: Kit

    def runtest(self) -> None:
        found = self.check.run(self.parent.session_with_port)
        if isinstance(found, NotRun):
            pytest.skip(found.why)
        if isinstance(found, Finding):
            raise BrokenRule(found)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        if isinstance(excinfo.value, BrokenRule):
            session = self.parent.session_with_port
            return explain(excinfo.value.finding, session.subject, session.effort)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.config.rootpath / "colo", None, self.name


class BrokenRule(Exception):
    """A check has failed."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.rule}: {finding.violations[0].detail}")
        self.finding = finding
