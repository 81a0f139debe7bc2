"""Growth in the model: right as it is, and the patch's way refuted with the recorded numbers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import resize
from model.errors import LayoutError
from model.faults import broken
from model.ram import BitmapKind, Block, Layout
from model.replay import load, replay
from model.scenarios import SCENARIOS
from tests.support.cases import layouts

RECORDED = Path(__file__).parents[1] / "counterexamples"
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


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("hot added", "bounds computed once"),
        ("grown", "cache sized by used length"),
        ("shrunk", "bits beyond a shrunk block stay"),
        ("removed", "bits of a removed block stay"),
        ("removed", "a removed block takes whole words"),
    ],
)
def test_small_cases(name: str, fault: str) -> None:
    """None fails as it is; some fail with the fault."""
    scenario = SCENARIOS[name]

    def failing() -> int:
        return sum(
            line.startswith("FAILS") for case in scenario.cases() for line in scenario.run(**case)
        )

    assert failing() == 0
    with broken(fault):
        assert failing() > 0


@given(layouts(), st.data())
def test_removal_leaves_the_others_where_they_are(layout: Layout, data: st.DataObject) -> None:
    before = {region.block.name: region.bits for region in layout.regions}
    while layout.blocks:
        name = data.draw(st.sampled_from([block.name for block in layout.blocks]))
        layout = resize.without(layout, name)
        del before[name]
        assert {region.block.name: region.bits for region in layout.regions} == before


def test_places_of_per_block_bitmaps() -> None:
    """As given, or behind all before; a word has one block."""

    def placed(*first_bits: int | None, kind: BitmapKind = "per-block") -> list[int]:
        blocks = [
            Block(f"b{number}", number << 30, 0, 65 * 4096, first_bit)
            for number, first_bit in enumerate(first_bits)
        ]
        return [region.first_bit for region in Layout(tuple(blocks), 4096, kind).regions]

    assert placed(None, None) == [0, 128]
    assert placed(256, None, 0) == [256, 384, 0]
    with pytest.raises(LayoutError, match="bits of blocks 'b1' and 'b0' overlap at bit 128"):
        placed(128, 64)
    for odd in (1, 63, 65, -64):
        with pytest.raises(LayoutError, match=f"first_bit {odd} is not a multiple of 64"):
            placed(odd)
    with pytest.raises(LayoutError, match="in a global layout"):
        placed(0, kind="global")
