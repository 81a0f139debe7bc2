"""Growth in the model: right as it is, and the patch's way refuted with the recorded numbers."""

from pathlib import Path

import pytest

from model.faults import broken
from model.replay import load, replay
from model.scenarios import SCENARIOS

RECORDED = Path(__file__).parent / "counterexamples"
# The defects 1 and 2 of the patch: file, and what must be seen.
PATCH = {
    "patch-hot-added-ram.json": "no thread visits page 1048576",
    "patch-grown-block.json": "the flush reads page 63, past the end of the cache",
    "patch-shrunk-block.json": "pages [40] are never found; the dirty count stays 1",
}


@pytest.mark.parametrize("file", PATCH)
def test_the_patchs_defect_is_seen_again(file: str) -> None:
    recorded = load(str(RECORDED / file))
    assert replay(recorded) == recorded, "the steps and the failure as recorded"
    assert PATCH[file] in recorded.failure


@pytest.mark.parametrize("file", PATCH)
def test_our_way_survives_the_same_numbers(file: str) -> None:
    recorded = load(str(RECORDED / file))
    scenario = SCENARIOS[recorded.scenario]
    with broken(None):
        assert not [line for line in scenario.run(**recorded.values) if line.startswith("FAILS")]


@pytest.mark.parametrize("name", ["hot added", "grown", "shrunk"])
def test_small_cases(name: str) -> None:
    """None fails as it is; some fail the patch's way."""
    fault = {
        "hot added": "bounds computed once",
        "grown": "cache sized by used length",
        "shrunk": "bits beyond a shrunk block stay",
    }[name]
    scenario = SCENARIOS[name]

    def failing() -> int:
        return sum(
            line.startswith("FAILS") for case in scenario.cases() for line in scenario.run(**case)
        )

    assert failing() == 0
    with broken(fault):
        assert failing() > 0
