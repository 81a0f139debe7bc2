"""The vectors: current, valid by their schema, explained, and each of one accord with the model."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conformance import accumulated, vectors
from tests.conformance.call import call_from_json, call_to_json, outcome_to_json
from tests.conformance.expected import expect
from tests.conformance.plan import FIXED, REFUSED
from tests.conformance.probes import PROBES
from tests.conformance.properties import property_vectors

FOLDER = Path(__file__).parents[1] / "conformance"
SCHEMA = json.loads((FOLDER / "schema.json").read_text())
GROUPS = sorted(vectors.all_vectors())
PROPERTIES = sorted(property_vectors())


def load(group: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((vectors.FOLDER / f"{group}.json").read_text())
    return content


def test_the_files_are_what_the_model_gives() -> None:
    assert vectors.stale_files() == []


def test_a_stale_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in vectors.FOLDER.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    counts = tmp_path / "counts.json"
    counts.write_text(counts.read_text().replace('"status": 0', '"status": -34', 1))
    monkeypatch.setattr(vectors, "FOLDER", tmp_path)
    assert vectors.stale_files() == ["counts.json"]


@pytest.mark.parametrize("group", [*GROUPS, *PROPERTIES])
def test_the_schema_holds(group: str) -> None:
    jsonschema.validate(load(group), SCHEMA)


def test_the_schema_can_fail() -> None:
    content = load("counts")
    content["vectors"][0]["result"][0]["dirty_pages"] = 7
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


@pytest.mark.parametrize("group", GROUPS)
def test_calls_survive_the_trip_through_json(group: str) -> None:
    for vector in load(group)["vectors"]:
        for data, result in zip(vector["input"], vector["result"], strict=True):
            call = call_from_json(data)
            assert call_to_json(call) == data
            assert outcome_to_json(expect(call)) == result


def test_every_vector_has_its_own_name_and_every_flag_its_note_and_use() -> None:
    every = [one for group in (*GROUPS, *PROPERTIES) for one in load(group)["vectors"]]
    assert len({one["id"] for one in every}) == len(every)
    assert {flag for one in every for flag in one["flags"]} == set(vectors.FLAGS)


def test_properties_are_those_that_the_kit_looks_at() -> None:
    """The contents are the C program's; the plans are plan.py's own, and may be refused by it."""
    checks = {probe.case for probe in PROBES if probe.program == "contents"}
    assert {one["contents"] for one in load("contents")["vectors"]} == checks
    statuses = [one["result"]["status"] for one in load("plans")["vectors"]]
    assert statuses == [0] * len(FIXED) + [-22] * len(REFUSED)


def test_every_refusal_has_a_vector_in_which_its_reason_is_the_only_one() -> None:
    refused = vectors.all_vectors()["refusals"]
    assert vectors.refused_for_more_than_one_reason(refused) == []
    lacking = [vector for vector in refused if vector.id != "refusals/wrap-to-0-only"]
    assert vectors.refused_for_more_than_one_reason(lacking) == ["refusals/wrap-to-0"]


def test_the_generator_is_splitmix64() -> None:
    """The first outputs for seed 1234567, as published with the algorithm."""
    random = accumulated.SplitMix64(1234567)
    assert [random.next() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_the_accumulated_hash_is_current(long_run: bool) -> None:
    checkpoints = accumulated.CHECKPOINTS if long_run else accumulated.CHECKPOINTS[:1]
    recorded = accumulated.recorded()
    assert accumulated.hashes(checkpoints) == {str(n): recorded[str(n)] for n in checkpoints}


def test_the_accumulated_cases_are_of_every_kind() -> None:
    statuses = [expect(call).status for call in islice(accumulated.cases(), 300)]
    assert {0, -22, -34} == set(statuses)
    assert min(statuses.count(status) for status in (0, -22, -34)) > 10
