"""The page without a browser: what is in it, and that nothing in it can be taken for anything else."""

import copy
import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from graphlib import TopologicalSorter
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.page import page as made
from model.page.document import KINDS, Document, NotADocument, Replays, document, frames, load, save
from model.page.page import FOLDER, MODULES, embedded, page, write_page
from model.page.picture import MOST_PAGES, Picture, Place, drawn, of_pages
from model.page.schema import difference
from model.replay import TRAPS, traps
from model.replay import load as load_counterexample
from model.replay import replay as run_again
from proofs.__main__ import main as proofs
from proofs.prover.catalogue import catalogue
from proofs.prover.document import SOUNDNESS, trusted
from proofs.prover.rests_on import BEGIN_HERE, RESTS_ON
from tests.page.documents import COUNTEREXAMPLES, HOSTILE, hostile

VALID = jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text()))
#: An object with more than these is a table.
MOST_FIELDS = 16
#: Of a page with all of it, in bytes: it is mailed, and opened on a telephone.
LARGEST_PAGE = 2_000_000


class Elements(HTMLParser):
    """What a browser sees: each start tag with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag in ("script", "style"):
            self.inside.append("")

    def handle_data(self, data: str) -> None:
        if self.open in ("script", "style"):
            self.inside[-1] += data


# The documents.

#: What may be empty.
PARTS = (
    "replays",
    "programs",
    "code",
    "claims",
    "systems",
    "checks",
    "traps",
    "map",
    "scaling",
    "maps",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_as_the_schema_says(every: dict[str, Document], kind: str) -> None:
    VALID.validate(every[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_with_a_part_too_few_or_too_many_is_not(
    every: dict[str, Document], kind: str
) -> None:
    small = {
        name: type(value)() if isinstance(value, list | dict) and name in PARTS else value
        for name, value in every[kind].items()
    }
    VALID.validate(small)
    wrong = [{**small, "more": 1}, {**small, "format": "colo-flush 0"}]
    for name in small:
        if name not in ("measures", "patterns", "left_out"):  # not measured: not there
            wrong.append({key: value for key, value in small.items() if key != name})
    for one in wrong:
        assert not VALID.is_valid(one)


def test_what_proofs_writes_is_as_the_schema_says(tmp_path: Path) -> None:
    """Of a real run, to its end: the same claims in --json and in --html."""
    json_file, html_file = tmp_path / "proofs.json", tmp_path / "proofs.html"
    only = ["--only", "words.no_shift_by_64", "--jobs", "1"]
    assert proofs([*only, "--json", str(json_file), "--html", str(html_file)]) == 0
    found = load(json_file)
    VALID.validate(found)
    [claim] = found["claims"]
    assert claim["verdict"] == "proved" and claim["obligations"]
    assert [control["verdict"] for control in claim["controls"]] == ["refuted"]
    assert found["code"][claim["code"]]["source"].startswith("@claim(")
    assert embedded([found]) in html_file.read_text()


def test_every_counterexample_is_drawn(every: dict[str, Document]) -> None:
    """Each has its steps, then its failure; and every one of the proofs' is there under its link."""
    by_name = {replay["id"]: replay for replay in every["replays"]["replays"]}
    assert set(by_name) == {path.stem for path in COUNTEREXAMPLES}
    for path in COUNTEREXAMPLES:
        replay, seen = by_name[path.stem], run_again(load_counterexample(str(path)))
        texts = [frame["text"] for frame in replay["frames"]]
        assert seen.failure and texts == [*seen.steps, seen.failure], path.stem
    links = [
        control["replay"] for claim in every["proofs"]["claims"] for control in claim["controls"]
    ]
    proved = {path.stem for path in COUNTEREXAMPLES if "." in path.stem}
    assert len(links) >= 100
    assert set(links) == {name for name in proved if not name.startswith("compiled.")}


def test_schedules_have_memory_programs_and_code(every: dict[str, Document]) -> None:
    found = every["replays"]
    replay = next(r for r in found["replays"] if r["id"] == "schedule-check-in-never-closes")
    first, last = replay["frames"][0], replay["frames"][-2]
    assert first["memory"]["state"] == "0 inside" and last["memory"]["state"] == "OPEN, 1 inside"
    assert last["moved"] == "process 1" and set(last["processes"]) == {"process 1"}
    program = {step["step"]: step for step in found["programs"][replay["program"]]}
    here = program[last["processes"]["process 1"]["step"]]
    assert here["of"] == ["process 1"] and "def read_job(" in found["code"][here["code"]]["source"]


def test_scenarios_on_bits_have_bitmaps(every: dict[str, Document]) -> None:
    """The page that is neither marked nor copied can be read off the words."""
    name = "worker.a_range_of_words_is_flushed.clear-before-copy"
    frames = next(r for r in every["replays"]["replays"] if r["id"] == name)["frames"]
    bitmaps: dict[str, int] = {}
    for frame in frames:
        bitmaps |= {row: int(words[0], 16) for row, words in frame.get("bitmaps", {}).items()}
    lost = (
        bitmaps["differs"] & ~bitmaps["copied"] & ~bitmaps["cache-dirty"] & ~bitmaps["host-dirty"]
    )
    assert lost == 1


def test_frames_say_what_has_changed_and_no_more() -> None:
    pictures = [
        Picture(2, {"a": (1,)}, {}, {"x": "0", "y": "0"}, {"p": Place("1")}),
        Picture(2, {"a": (1,)}, {}, {"x": "1"}, {"p": Place("2", {"v": "7"})}, moved="p"),
    ]
    told = list(frames([drawn("one", pictures[0]), "a text", drawn("two", pictures[1])]))
    assert told[1] == {"text": "a text"}
    assert told[2] == {
        "text": "two",
        "memory": {"x": "1"},
        "gone": ["y"],
        "processes": {"p": {"step": "2", "locals": {"v": "7"}}},
        "moved": "p",
    }


def test_no_picture_is_larger_than_anybody_looks_at() -> None:
    """Numbers in a counterexample are from outside: 2^60 pages are no list of words."""
    assert of_pages(MOST_PAGES, dirty=[MOST_PAGES - 1]).bitmaps
    assert not of_pages(1 << 60, dirty=[1]).bitmaps
    assert not of_pages(1, dirty=[1 << 60]).bitmaps


# The map, the traps, what is trusted: taken from elsewhere, whole.


def test_the_map_has_every_subject_and_no_circle() -> None:
    subjects = {claim.name.split(".")[0] for claim in catalogue()}
    assert set(RESTS_ON) == subjects
    assert {name for below in RESTS_ON.values() for name in below} <= subjects
    assert set(TopologicalSorter(RESTS_ON).static_order()) == subjects


def test_who_begins_here_finds_a_claim_and_its_control() -> None:
    controls = {(claim.name, control.name) for claim in catalogue() for control in claim.controls}
    assert {(claim, control) for _, _, claim, control in BEGIN_HERE} <= controls


def test_all_that_is_trusted_is_told() -> None:
    text = SOUNDNESS.read_text()
    rows = re.findall(r"^\| ([A-Z]\d+) \|", text, re.MULTILINE)
    assert [row["id"] for row in trusted(text)] == rows and len(rows) > 10


def test_every_trap_is_told_with_its_counterexamples() -> None:
    text = TRAPS.read_text()
    found = traps(text)
    sections = re.findall(r"^## (\d+)", text, re.MULTILINE)
    assert [str(trap["number"]) for trap in found] == sections
    named = {name for trap in found for name in trap["replays"]}
    assert named <= {path.stem for path in COUNTEREXAMPLES} and len(named) >= 15


# The page.


def test_all_of_it_is_one_small_file(every: dict[str, Document]) -> None:
    text = page(list(every.values()))
    assert len(text.encode()) < LARGEST_PAGE
    tags = Elements(text).tags
    assert [attributes for _, attributes in tags if {"src", "href"} & set(attributes)] == [
        {"class": "skip", "href": "#view"}
    ]
    assert (
        "http" not in {name for name, _ in tags}
        and "url(" not in (FOLDER / "style.css").read_text()
    )


def test_hostile_text_stays_text(every: dict[str, Document]) -> None:
    """Whatever is in a document, the browser finds the same elements, and the same document in one."""
    evil = [hostile(one) for one in every.values()]
    assert all(part in str(evil[-1]) for part in HOSTILE[:2])
    plain, attacked = Elements(page(list(every.values()))), Elements(page(evil))
    assert attacked.tags == plain.tags
    assert json.loads(attacked.inside[1]) == evil
    assert attacked.inside[0] == plain.inside[0] and attacked.inside[2] == plain.inside[2]


def test_hostile_text_would_do_harm_as_it_is(every: dict[str, Document]) -> None:
    """The control: the same JSON without its escapes ends the element that holds it."""
    evil = [hostile(every["bench"])]
    text = page(evil).replace(embedded(evil), json.dumps(evil))
    assert Elements(text).tags != Elements(page(evil)).tags


def test_the_policy_lets_in_this_script_and_this_style_only() -> None:
    elements = Elements(page([]))
    policy = elements.tags[3][1]["content"]
    style, _, script = elements.inside

    def digest(text: str) -> str:
        return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy == (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


# The script.


def modules() -> dict[str, str]:
    return {name: (FOLDER / f"{name}.js").read_text() for name in MODULES}


def names_made(source: str) -> list[str]:
    """What a module defines for itself or others at its top."""
    return re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", source, re.MULTILINE
    )


def test_every_module_is_joined_after_those_it_imports_from() -> None:
    assert {path.stem for path in FOLDER.glob("*.js")} == set(MODULES)
    known: dict[str, set[str]] = {}
    for name, source in modules().items():
        importing = r'^import \{ (.*) \} from "\./(\w+)\.js";$'
        for wanted, other in re.findall(importing, source, re.MULTILINE):
            assert set(wanted.split(", ")) <= known[other], (name, other)
        exported = re.findall(r"^export function (\w+)", source, re.MULTILINE)
        known[name] = set(exported)
    script = made.joined(*modules().values())
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)


def test_joined_modules_have_no_name_twice() -> None:
    names = [name for source in modules().values() for name in names_made(source)]
    names = [name for name in names if name]
    assert sorted(names) == sorted(set(names))
    assert len(names_made("function a() {}\nconst a = 1;\n")) == 2


@pytest.mark.parametrize(
    "way",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch(",
     "XMLHttpRequest", "WebSocket", "import(", "DOMParser", "srcdoc", "Worker", "sendBeacon"],
)  # fmt: skip
def test_the_script_makes_text_only_and_asks_nobody(way: str) -> None:
    assert [name for name, source in modules().items() if way in source] == []


# Files.


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", '{"format": "colo-flush 1", "kind": "news"}', '{"kind": "bench"}', "x"],
)
def test_what_is_no_document_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(NotADocument, match=r"x\.json: not a document"):
        load(path)


@pytest.fixture(scope="module")
def few(every: dict[str, Document]) -> dict[str, Document]:
    """A document of each kind, with few of anything in a row, and of all the code that it shows."""

    def cut(found: Any) -> Any:
        if isinstance(found, list):
            return [cut(item) for item in found[:3]]
        if isinstance(found, dict):
            return {k: cut(v) for k, v in islice(found.items(), MOST_FIELDS)}
        return found

    return {kind: cut(found) for kind, found in every.items()}


def changed(found: Any, data: st.DataObject) -> Any:
    """The value with one thing in it replaced, left out or added."""
    inner = (
        list(found)
        if isinstance(found, dict)
        else list(range(len(found or ())))
        if isinstance(found, list)
        else []
    )
    ways = ["replaced", "more"] + ["inside"] * 8 * bool(inner) + ["left out"] * bool(inner)
    way = data.draw(st.sampled_from(ways))
    copied = copy.copy(found)
    match way:
        case "inside":
            at = data.draw(st.sampled_from(inner))
            copied[at] = changed(found[at], data)
        case "left out":
            del copied[data.draw(st.sampled_from(inner))]
        case "more" if isinstance(found, dict):
            copied["more"] = None
        case "more" if isinstance(found, list):
            copied.append(data.draw(st.sampled_from([None, *found])))
        case _:
            return data.draw(st.sampled_from(ODD))
    return copied


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.0,
    1.5,
    2**70,
    "",
    "x",
    "0x10",
    [],
    [[]],
    [None],
    {},
    {"x": None},
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_document_is_refused_as_json_schema_has_it(
    few: dict[str, Document], kind: str, data: st.DataObject
) -> None:
    """By the schema's meaning: jsonschema's. The file that is refused is told where."""
    found = changed(few[kind], data)
    if isinstance(found, dict) and found.get("kind") == kind:
        assert (difference(found, kind) is None) == VALID.is_valid(found), difference(found, kind)


@pytest.mark.parametrize("number", [1, 1.0, 0])
def test_a_number_is_no_truth(few: dict[str, Document], number: float) -> None:
    """Python has 1 == True; JSON has not."""
    found = copy.deepcopy(few["conformance"])
    found["checks"][0]["passed"] = number
    assert not VALID.is_valid(found)
    assert difference(found, "conformance")


def test_a_document_of_another_form_is_refused_with_its_place(
    every: dict[str, Document], tmp_path: Path
) -> None:
    """What the script cannot draw would be an empty page."""
    save(tmp_path / "x.json", {**every["replays"], "replays": [None]})
    with pytest.raises(NotADocument, match=r"replays\.0: null is no object: write it anew"):
        load(tmp_path / "x.json")


def test_a_keyword_that_is_not_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    root = {"oneOf": [{"properties": {"kind": {"const": "bench"}}, "maxItems": 1}], "$defs": {}}
    monkeypatch.setattr("model.page.schema._root", lambda: root)
    with pytest.raises(LookupError, match="maxItems"):
        difference({}, "bench")


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    wrong = document("replays", replays=[float("nan")])
    for write in (save, lambda path, found: write_page(path, found)):
        with pytest.raises(NotADocument, match="not finite"):
            write(tmp_path / "x", wrong)
    assert not (tmp_path / "x").exists()


def test_a_program_and_a_source_are_told_once() -> None:
    replays = Replays()
    for name in ("one", "two"):
        replays.add(
            name, [drawn("a", Picture(memory={"x": name}))], "fails", claim="c", control=None
        )
    found = document("replays", traps=[], **replays.parts())
    VALID.validate(found)
    assert replays.code(load) == replays.code(load) == "page.document.load"
    assert replays.parts()["code"]["page.document.load"]["source"].startswith("def load(")


def test_a_document_is_not_changed_by_being_drawn(every: dict[str, Document]) -> None:
    before: Mapping[str, Any] = copy.deepcopy(every)
    page(list(every.values()))
    assert every == before
