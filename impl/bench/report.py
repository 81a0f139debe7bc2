"""``python -m impl bench --report``: RESULTS.md, README.md's tables, the plots; from ``results/*.json``.

Each file there is what ``bench --json`` or ``bench --scaling --json`` wrote on one machine. Nothing
measured is typed: what stands between the marks is written here, and a test holds it against the files.
"""

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from impl.bench import charts
from impl.bench.figures import OURS, fastest, in_full, ours_in, ratios_of, told
from impl.bench.rows import ALONE
from model.boundary.input import read_text
from model.boundary.output import write_text
from model.errors import ColoError
from model.page.document import Document, load

HERE = Path(__file__).parent
RESULTS, README = HERE / "RESULTS.md", HERE.parents[1] / "README.md"
FOLDER = HERE / "results"
PLOT, SCALING_PLOT = FOLDER / "speed.svg", FOLDER / "scaling.svg"
#: What README.md shows of the patterns.
SHOWN = (
    "nothing",
    "1 page",
    "100 pages",
    "1 % random",
    "10 % random",
    "100 %",
    "colo-randwrite-2g",
)
#: And in its table of more threads; what the plot shows; with whom it is compared.
SHOWN_SCALED = "16 MiB", "10 % random", "colo-churn-512m", "1 TiB, 0.1 %"
SCALED = (
    "1 MiB",
    "16 MiB",
    "10 % random",
    "100 %",
    "colo-churn-512m",
    "colo-randwrite-2g",
    "64 GiB, 0.1 %",
    "1 TiB, 0.1 %",
)
BESIDE = "static", "C patch", "the same design in C"
BEGIN, END = "<!-- measured: python -m impl bench --report -->", "<!-- end -->"


class NothingToReport(ColoError, ValueError):
    """No result is committed, or a file has no place for what was measured."""


class Results(NamedTuple):
    """What is committed, by the machine's name, in the order of the files' names."""

    contests: Mapping[str, Document]
    scalings: Mapping[str, Document]
    """1, 2, 4 ... threads"""


def results_there() -> Results:
    """Of all machines."""
    found = [load(path) for path in sorted(FOLDER.glob("*.json"))]

    def that_have(what: str) -> dict[str, Document]:
        return {one["machine"]["processor"]: one for one in found if one.get(what)}

    return Results(that_have("patterns"), that_have("speed_ups"))


def write() -> None:
    """Write all that is generated. Raises NothingToReport, or OutputError."""
    found = results_there()
    if not found.contests:
        raise NothingToReport(f"no result is in {FOLDER}: run python -m impl bench --json there")
    texts = {path: with_text(path, make(found)) for path, make in GENERATED.items()}
    charts.draw_ratios(found.contests, PLOT)
    if found.scalings:
        charts.draw_measured_scaling(largest(found.scalings), SCALING_PLOT, SCALED)
    for path, text in texts.items():
        write_text(path, text)


def with_text(path: Path, text: str) -> str:
    """A file's text, with this between its marks. Raises NothingToReport."""
    whole = read_text(path)
    between = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(between.findall(whole)) != 1:
        raise NothingToReport(
            f"{path.name} has no place for a table: write {BEGIN} and {END} in it"
        )
    return between.sub(lambda _: f"{BEGIN}\n{text}\n{END}", whole)


def commit() -> str:
    """The commit of this code, with a + if it was changed since; "" where it is not in a clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(HERE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    with suppress(OSError):
        if git("ls-files", "report.py"):
            changed = git(
                "status", "--porcelain", "--untracked-files=no", "--", "..", "../../model"
            )
            return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
    return ""


# README.md: a row a pattern, a block of columns a machine.


def readme(found: Results) -> str:
    """The tables, what was measured where, and the targets missed."""
    contests = found.contests
    heads = ["dirty pages"]
    for name, one in contests.items():
        threads = one["machine"]["threads"]
        heads += [f"{name}: ours, {threads} threads", "the 2016 patch in C", "copy limit"]
    lines = []
    for pattern in SHOWN:
        cells = [f"recorded: {pattern}" if pattern.startswith("colo-") else pattern]
        for one in contests.values():
            cells += _shown(one, pattern)
        lines.append(cells)
    said = [*_table(heads, lines), "", *_where(contests), *_short(contests)]
    return "\n".join([*said, "", *_past_two_cores(found)])


def _past_two_cores(found: Results) -> Iterator[str]:
    """How it scales on the machine with the most CPUs; and that nothing is known of larger ones."""
    yield from _scaling(largest(found.contests))
    if found.scalings:
        at = _at_commit(largest(found.scalings))
        yield from ("![speed-up by threads](impl/bench/results/scaling.svg)", "")
        yield (
            f"The same by `bench --scaling`, which gives everybody 1, 2, 4 ... threads{at}. "
            "Dotted: the best that the split can give, computed."
        )
        yield ""
    cpus = max(one["machine"]["cpus"] for group in found for one in group.values())
    yield f"* Nothing has been timed on more than {cpus} CPUs, or on more than one NUMA node."


def largest(found: Mapping[str, Document]) -> Document:
    """The one with the most threads."""
    return max(found.values(), key=lambda one: int(one["machine"]["threads"]))


def _threads(found: Document) -> list[int]:
    """The numbers of threads that were measured."""
    return sorted({one["threads"] for rows in found["speed_ups"].values() for one in rows})


def _scaling(found: Document) -> Iterator[str]:
    """Times as fast as one thread of ours: with more and more threads, and others with all."""
    rows = [row for row in found["patterns"] if row["pattern"] in SHOWN_SCALED]
    if not rows:
        return
    names = [name for name in rows[0]["median_ns"] if name.startswith(OURS) and name != ALONE]
    heads = [f"{found['machine']['processor']}: speed-up, by threads"]
    heads += [name.removeprefix(OURS) for name in names]
    heads += [f"{kind}, {found['machine']['threads']}" for kind in (*BESIDE, "copy limit")]
    lines = []
    for row in rows:
        others = *(fastest(row, kind) for kind in BESIDE), row["best_copy_limit"]
        ratios = [row["ratio_to_one_thread"][who] if who else None for who in (*names, *others)]
        lines.append([row["pattern"], *(f"{one['median']:.2f}" if one else "" for one in ratios)])
    yield from (*_table(heads, lines), "")
    yield from ("Times as fast as our own single thread in the same round.", "")


def _shown(found: Document, pattern: str) -> list[str]:
    row = next((row for row in found["patterns"] if row["pattern"] == pattern), None)
    if row is None:
        return ["", "", ""]
    ratios, patch = ratios_of(row), fastest(row, "C patch")
    limit = row["best_copy_limit"] if row["pages"] else None
    ours = f"**{in_full(ratios[ours_in(found)])}**"
    return [ours, *(f"{ratios[name]['median']:.2f}" if name else "" for name in (patch, limit))]


def _at_commit(found: Document) -> str:
    commit = found["machine"]["commit"]
    return f", at commit {commit}" if commit else ""


def _where(found: Mapping[str, Document]) -> Iterator[str]:
    for name, one in found.items():
        machine = one["machine"]
        size = machine["ram_bytes"] / 2**30
        yield f"* {name}: {machine['cpus']} CPUs, {size:g} GiB of RAM flushed{_at_commit(one)}."


def _short(found: Mapping[str, Document]) -> Iterator[str]:
    for name, one in found.items():
        missed = [
            f"*{measure['what']}* {told(measure['value'], measure['target'])} ({measure['target']})"
            for measure in one["measures"]
            if measure["met"] is False
        ]
        yield f"* {name}, targets missed: {'; '.join(missed) or 'none'}."
        if any(row["fastest_c"] for row in one["patterns"]):
            yield f"* {name}, slower than the fastest C port: {'; '.join(_slower(one)) or 'nowhere'}."


def _slower(found: Document) -> list[str]:
    ours = ours_in(found)
    rows = [row for row in found["patterns"] if row["fastest_c"]]
    medians = {row["pattern"]: ratios_of(row)[ours]["median"] for row in rows}
    return [f"*{name}* {median:.2f}" for name, median in medians.items() if median < 1]


# RESULTS.md: everything, a section a machine.


def results(found: Results) -> str:
    """Every row and every measure, and every number of threads."""
    lines = [line for name, one in found.contests.items() for line in _section(name, one)]
    for name, one in found.scalings.items():
        lines += _every_number_of_threads(name, one)
    return "\n".join(lines).rstrip()


def _every_number_of_threads(name: str, found: Document) -> Iterator[str]:
    """A row a pattern and a contender."""
    yield from (f"## {name}: more and more threads", "", *_where({name: found}), "")
    threads = _threads(found)
    lines = []
    for pattern, rows in found["speed_ups"].items():
        for who in dict.fromkeys(one["who"] for one in rows):
            ratios = {one["threads"]: one["ratio"] for one in rows if one["who"] == who}
            lines.append([pattern, who, *(in_full(ratios[number]) for number in threads)])
    yield from (*_table(["times as fast as one thread of ours", "", *map(str, threads)], lines), "")


def _section(name: str, found: Document) -> Iterator[str]:
    yield from (f"## {name}", "", *_where({name: found}), f"* {found['machine']['model']}", "")
    columns = _columns(found)
    heads = ["dirty pages", "", *columns, "fastest C port"]
    yield from (*_table(heads, [_cells(row, columns.values()) for row in found["patterns"]]), "")
    measures = [
        [
            one["what"],
            f"{told(one['value'], one['target'])} {one['unit']}",
            one["target"],
            _verdict(one["met"]),
        ]
        for one in found["measures"]
    ]
    yield from (*_table(["measure", "", "target", ""], measures), "")
    if found["left_out"]:
        yield from (f"Left out: {', '.join(found['left_out']['what'])}.", "")
    yield from (*_short({name: found}), "")


Column = Callable[[dict[str, Any]], str | None]


def _columns(found: Document) -> dict[str, Column]:
    """By heading, whose figure stands in the column, for a row."""
    threads = found["machine"]["threads"]
    return {
        f"dynamic, {threads} threads": lambda _: ours_in(found),
        "static (the patch's split)": lambda _: f"static, {threads}",
        "queue": lambda _: f"queue, {threads}",
        "one thread": lambda _: "serial",
        "patch in C": lambda row: fastest(row, "C patch"),
        "our design in C": lambda row: fastest(row, "the same design in C"),
        "our design in Rust": lambda row: fastest(row, "the same design in Rust"),
        "copy limit": lambda row: row["best_copy_limit"] if row["pages"] else None,
        "copy limit, 1": lambda row: fastest(row, "copy limit: one") if row["pages"] else None,
    }


def _cells(row: dict[str, Any], columns: Iterable[Column]) -> list[str]:
    ratios, names = ratios_of(row), [of(row) for of in columns]
    ours, *others = [ratios[name] if name else None for name in names]
    cells = [f"**{in_full(ours)}**" if ours else ""]
    cells += [f"{ratio['median']:.2f}" if ratio else "" for ratio in others]
    port = (row["fastest_c"] or "").removeprefix("C ").partition(",")[0]
    return [row["pattern"], f"{row['pages']:,}", *cells, port]


def _table(heads: list[str], lines: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for cells in lines:
        yield f"| {' | '.join(cells)} |"


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "missed", None: ""}[met]


#: Each file with what it holds between its marks.
GENERATED: dict[Path, Callable[[Results], str]] = {README: readme, RESULTS: results}
