"""One worker: what is proved of it is what is explored and what the scenario kills."""

from model.explore.catalogue import dynamic
from model.explore.search import explore
from model.faults import broken
from model.scenarios import SCENARIOS


def lost() -> list[str]:
    """How small flushes that are killed lose pages."""
    killed = SCENARIOS["killed"]
    return [line for values in killed.cases() for line in killed.run(**values) if "FAILS" in line]


def test_a_killed_flush_of_ours_loses_nothing() -> None:
    assert lost() == []


def test_a_fault_of_the_worker_shows_where_it_is_killed() -> None:
    with broken("clear before copy"):
        assert lost()


def test_a_fault_of_the_worker_shows_where_it_is_explored() -> None:
    assert explore(dynamic(2, 2)).failure is None
    with broken("the window turns round"):
        assert explore(dynamic(2, 2)).failure is not None
