"""Ports under ThreadSanitizer: clean as they are, a data race where one has been put in."""

import pytest

from impl.ports.build import CHECK_IN, SERIAL
from tests.kit_tests.thread_sanitizer import RACE, SUBJECTS, Subject, report, sources
from tests.support.needs import LONG_RUN, builds, needs_rustc, skip_unless

needs_thread_sanitizer = skip_unless(
    builds(SERIAL, "-shared", "-fPIC", "-pthread", "-fsanitize=thread"),
    "needs gcc with ThreadSanitizer (Debian: gcc libc6-dev libtsan2)",
)


def cases() -> list[object]:
    return [
        pytest.param(s, id=s.title, marks=needs_rustc if s.source.suffix == ".rs" else ())
        for s in SUBJECTS
    ]


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.changed], ids=lambda s: s.title)
def test_what_a_race_changes_is_there(subject: Subject) -> None:
    """A port that has been renamed would else run unchanged, and be clean."""
    assert sources(subject) != sources(subject._replace(changed=None))
    with pytest.raises(LookupError, match="is in none of"):
        sources(subject._replace(changed=("no such line", "")))


@needs_thread_sanitizer
@pytest.mark.parametrize("subject", cases())
def test_races_are_reported_where_there_are_some(subject: Subject, long_run: bool) -> None:
    """Our own design at all times, the other ports in long runs and in CI."""
    if subject.source != CHECK_IN and not long_run:
        pytest.skip(LONG_RUN)
    found = report(subject, rounds=200 if long_run else 20)
    assert RACE in found if subject.races else not found
