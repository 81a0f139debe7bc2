"""The page in a real browser: it opens, filters, steps to the step that fails, by keyboard alone.

``.ci/run page`` has all that these need.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.page.document import Document
from model.page.page import page as page_of
from model.page.page import write_page
from proofs.prover.rests_on import RESTS_ON
from tests.page import browser
from tests.page.browser import Watched
from tests.page.documents import COUNTEREXAMPLES, hostile
from tests.support.needs import skip_unless

pytestmark = skip_unless(browser.is_here(), browser.NEEDS)

NEVER_CLOSES = "schedule-check-in-never-closes"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def report(every: dict[str, Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a document of each kind."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, *every.values())
    return path


@pytest.fixture
def opened(chromium: Any, report: Path) -> Iterator[Watched]:
    """The report, open. In the end it must have complained of nothing and asked nobody for anything."""
    watched = Watched(chromium, report)
    yield watched
    assert watched.complaints == []
    assert {url.partition("#")[0] for url in watched.asked} == {report.as_uri()}
    watched.page.close()


def texts(watched: Watched, selector: str) -> list[str]:
    found: list[str] = watched.page.locator(selector).all_inner_texts()
    return found


def test_the_first_screen_is_the_theorem_its_map_and_what_is_trusted(opened: Watched) -> None:
    assert "A flush is the spec" in opened.page.locator("p.theorem").inner_text()
    assert "proved" in opened.page.locator("p.theorem").inner_text()
    assert len(texts(opened, ".map li")) == len(RESTS_ON)
    assert len(texts(opened, ".map path")) > 10
    assert opened.page.get_by_role("rowheader", name="S1").count() == 1


def test_from_the_first_screen_to_why_shares_are_cut_at_words(opened: Watched) -> None:
    """Who has never seen the project finds the question, the claim, and what happens if not."""
    opened.page.get_by_text("Why are shares cut at whole words").wait_for()
    opened.page.get_by_role("link", name="shares not cut at words").click()
    opened.page.keyboard.press("End")
    assert (
        opened.page.locator(".said").inner_text()
        == "\u2717 Fails: threads 0 and 1 both write word 0"
    )
    opened.page.get_by_role("link", name="shares.no_word_shared").click()
    assert "No 64-bit word" in opened.page.locator("p.theorem").inner_text()
    assert "def no_word_shared(p: Proof)" in opened.page.locator("pre").first.inner_text()


def test_claims_are_filtered(opened: Watched) -> None:
    opened.go("claims")
    rows = opened.page.locator("tbody tr")
    everything = rows.count()
    opened.page.get_by_label("Filter").fill("next page of a word")
    assert 0 < rows.count() < everything
    opened.page.get_by_label("Filter").fill("no such claim")
    assert rows.count() == 0 and texts(opened, "[role=status]") == [f"0 of {everything}"]
    opened.page.get_by_label("Filter").fill("")
    opened.page.get_by_label("Show").select_option("wrong")
    assert rows.count() == 0


def test_stepping_to_the_failure_by_keyboard_alone(opened: Watched) -> None:
    """From the tabs: to the counterexamples, to one of them, to the step that breaks the property."""
    press = opened.page.keyboard.press
    for _ in range(20):
        press("Tab")
        if opened.page.evaluate("document.activeElement.textContent") == "Counterexamples":
            break
    press("Enter")
    opened.page.get_by_label("Filter").focus()
    opened.page.keyboard.type("never closes")
    link = opened.page.get_by_role("link", name="fault=never closes").first
    link.focus()
    press("Enter")
    press("Tab")
    assert opened.page.locator(".count").inner_text() == "step 0 of 14"
    for _ in range(13):
        press("ArrowRight")
    said = opened.page.locator(".said")
    assert "one more inside" in said.inner_text() and "failing" not in str(
        said.get_attribute("class")
    )
    changed = texts(opened, "tr.changed")
    assert "state\tOPEN, 1 inside\twas OPEN, 0 inside" in changed
    assert "Load the job's parameters" in opened.page.locator("li[aria-current]").last.inner_text()
    press("ArrowRight")
    assert "failing" in str(said.get_attribute("class"))
    assert (
        said.inner_text()
        == "\u2717 Fails: flush returns only when every checked-in helper has finished"
    )
    press("ArrowRight")
    assert opened.page.locator(".count").inner_text() == "step 14 of 14"
    press("Home")
    assert opened.page.locator(".count").inner_text() == "step 0 of 14"


def test_it_plays_to_the_end_and_stops(opened: Watched) -> None:
    opened.go("replay", "shares.no_word_shared.shares-not-cut-at-words")
    opened.page.get_by_role("button", name="Play").click()
    opened.page.get_by_role("button", name="Pause").wait_for()
    opened.page.locator(".said.failing").wait_for()
    opened.page.get_by_role("button", name="Play").wait_for()


def test_a_step_has_an_address(opened: Watched) -> None:
    opened.go("replay", NEVER_CLOSES, "5")
    assert opened.page.locator(".count").inner_text() == "step 5 of 14"
    opened.page.keyboard.press("Tab")
    opened.page.get_by_role("button", name="Forward").click()
    while not opened.page.url.endswith(f"#/replay/{NEVER_CLOSES}/6"):
        opened.page.wait_for_timeout(50)
    opened.go("replay", "no-such-one")
    assert "no such counterexample" in opened.page.locator("main").inner_text()


def test_every_counterexample_is_drawn_at_every_step(opened: Watched) -> None:
    names = [path.stem for path in COUNTEREXAMPLES]
    ends = opened.page.evaluate(STEP_THROUGH, names)
    assert [
        name for name, end in zip(names, ends, strict=True) if not end.startswith("\u2717")
    ] == []


STEP_THROUGH = """async (names) => {
  const ends = [];
  for (const name of names) {
    const there = new Promise((done) => addEventListener("hashchange", done, { once: true }));
    location.hash = `#/replay/${encodeURIComponent(name)}`;
    await there;
    const forward = document.querySelector("[title^='one step forward']");
    const steps = Number(document.querySelector(".count").textContent.split(" ").pop());
    for (let step = 0; step < steps; step += 1) forward.click();
    ends.push(document.querySelector(".said").textContent);
  }
  return ends;
}"""


def test_bits_are_told_by_more_than_colour(opened: Watched) -> None:
    opened.go("replay", "worker.a_range_of_words_is_flushed.clear-before-copy", "99")
    lost = opened.page.locator("td.lost")
    assert lost.inner_text() == "!" and texts(opened, "td.set")[0] == "1"
    assert "nothing marks it" in opened.page.locator(".key").inner_text()


def test_a_failing_port_and_its_program(opened: Watched) -> None:
    opened.go("conformance")
    assert (
        "page 5 of block 0 is dirty and was not copied" in opened.page.locator("main").inner_text()
    )
    wrong = opened.page.locator(
        "table.bits tr", has=opened.page.get_by_role("rowheader", name="wrong")
    )
    assert [text.strip() for text in wrong.locator("td").all_inner_texts()].index("^") == 5
    opened.page.get_by_role("button", name="Copy the program").click()
    assert "int main(void)" in opened.page.evaluate("getSelection().toString()")


def test_ratios_scaling_and_dirty_maps(opened: Watched) -> None:
    opened.go("bench")
    assert opened.page.locator("svg.chart").count() == 2
    table = opened.page.get_by_role("table", name="static shares")
    before = table.inner_text()
    opened.page.get_by_role("slider", name="Epoch").focus()
    opened.page.keyboard.press("End")
    assert table.inner_text() != before
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, 720, 256).data.some(Boolean)"
    assert opened.page.locator("canvas").evaluate(drawn)


def test_what_was_explored_leads_to_its_replay(opened: Watched) -> None:
    opened.go("explored")
    opened.page.locator("tbody a").first.click()
    assert opened.page.locator(".count").inner_text().startswith("step 0 of ")


def test_tables_have_captions_and_headers(opened: Watched) -> None:
    for part in ("", "claims", "replays", "explored", "bench"):
        opened.go(part)
        bare = "table => !table.caption || !table.querySelector('th[scope]')"
        tables = f"[...document.querySelectorAll('table')].filter({bare}).length"
        assert opened.page.evaluate(tables) == 0, part
        assert opened.page.locator("table").count() > 0, part
        assert opened.page.locator("nav a[aria-current=page]").count() == 1


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read_in_either_scheme(chromium: Any, report: Path, scheme: str) -> None:
    """The contrast of what is written: at least 4.5, as WCAG 2.2 asks for."""
    watched = Watched(chromium, report, color_scheme=scheme)
    watched.go("replay", NEVER_CLOSES, "14")
    contrasts = watched.page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [found for found in contrasts if found[1] < 4.5] == []
    watched.page.close()


CONTRASTS = """() => {
  const parsed = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parsed(getComputedStyle(e).backgroundColor); if (c.length === 3) return c; } };
  return [...document.querySelectorAll("main *, nav *")].filter((e) => e.checkVisibility() &&
      [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((e) => {
    const [a, b] = [light(parsed(getComputedStyle(e).color)), light(ground(e))].sort((x, y) =>
    y - x); return [e.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)];
  });
}"""


def test_on_paper_there_are_no_controls(opened: Watched) -> None:
    opened.go("replay", NEVER_CLOSES, "14")
    assert opened.page.locator("nav").is_visible()
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("nav").is_visible()
    assert not opened.page.locator(".controls").is_visible()
    assert opened.page.locator(".said").is_visible()


def parts_of(every: dict[str, Document]) -> list[tuple[str, ...]]:
    return [
        ("",),
        ("claims",),
        ("claim", "shares.no_word_shared"),
        ("replays",),
        *[("replay", replay["id"]) for replay in every["replays"]["replays"][::20]],
        ("explored",),
        ("conformance",),
        ("bench",),
    ]


def test_hostile_text_does_nothing(
    chromium: Any, every: dict[str, Document], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.html"
    write_page(path, *map(hostile, every.values()))
    watched = Watched(chromium, path)
    for part in parts_of(every):
        watched.go(*part)
        assert "window.hacked = 1" in watched.page.locator("main").inner_text(), part
        assert watched.page.locator("main img, main script").count() == 0
    assert watched.page.evaluate("window.hacked") is None
    assert watched.complaints == []
    assert {url.partition("#")[0] for url in watched.asked} == {path.as_uri()}
    watched.page.close()


def test_a_document_that_is_none_is_told(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    write_page(path, {"format": "colo-flush 1", "kind": "proofs", "claims": [{}]})
    watched = Watched(chromium, path)
    assert "is not as schema.json says" in watched.page.locator("main").inner_text()
    watched.go("claims")
    assert watched.page.locator("nav a").count() == 2
    watched.page.close()


def test_the_policy_stops_what_would_get_in(chromium: Any, tmp_path: Path) -> None:
    """And without it the same script runs: the control."""
    text = page_of([]).replace("<main", "<script>window.hacked = 1</script><main")
    ran = []
    for name, content in (
        ("with", text),
        ("without", text.replace("Content-Security-Policy", "X")),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(content)
        watched = Watched(chromium, path)
        ran.append(watched.page.evaluate("window.hacked"))
        watched.page.close()
    assert ran == [None, 1]
