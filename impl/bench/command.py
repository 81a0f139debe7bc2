"""``python -m impl bench``: our flush, the C ports and the copy limit, side by side in one run.

Every figure is a median of ratios within a round (impl.bench.paired). A flush is timed in native code,
ours and the ports' alike, from its first instruction to its last: what a hypervisor would see. The
copy limit copies a list of pages known beforehand, by threads that are already running.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from impl.bench import (
    charts,
    copy_limit,
    guests,
    maps,
    measures,
    patterns,
    predict,
    report,
    simulate,
)
from impl.bench import nodes as numa
from impl.bench.bound_port import BoundPort
from impl.bench.copy_limit import BEST_MODE, MODES
from impl.bench.figures import told
from impl.bench.measures import Measure, ours
from impl.bench.paired import Contender, PairedRuns
from impl.bench.patterns import Pattern
from impl.bench.rows import COPY_LIMIT_ALONE, Row
from impl.bench.scaling import KINDS_IN_C, Scaling, best_possible, show, thread_numbers
from impl.block import Block
from impl.display.figure import check_matplotlib
from impl.display.terminal import Table, console
from impl.errors import TooLittleMemory
from impl.machine.cpus import processor, processor_model, usable_cpus
from impl.machine.memory import check_memory
from impl.pool import FlushPool
from impl.ports.build import (
    CEILING,
    CHECK_IN,
    CHECK_IN_RUST,
    COALESCING,
    PATCH,
    SERIAL,
    BuildError,
    NoCompilerError,
    build,
)
from impl.ram import ColoRam
from impl.traces import format as traces
from impl.traces.holes import without_holes
from impl.traces.stamped_ram import ram_for
from model.boundary import options
from model.boundary.output import check_outputs, printable
from model.page.document import Document, document, save
from model.page.page import write_page
from model.ram import Layout

# A pipe has no width of its own.
TABLE_WIDTH = 110
# What needs a C compiler.
IN_C = (
    *("the C ports", "the same design in C", "the copy limit", "the scan against a plain read"),
    "the whole-buffer copy",
)
# What needs rustc, and then a linker.
IN_RUST = ("the same design in Rust",)
# What only a measurement reads, and only what is computed of nodes; what each way to run does not read.
MEASURED, OF_NODES = ("ram", "threads", "seconds", "only"), ("nodes", "remote")
ALL = (*MEASURED, *OF_NODES, "traces", "name", "json", "html", "plot")
UNREAD = {"simulate": MEASURED, "predict": ALL, "report": ALL}


class LeftOut(NamedTuple):
    """What cannot be measured on this machine, and why."""

    what: tuple[str, ...]
    why: str


class Bench:
    """The contenders on one RAM after another, ours with 1, 2, 4... and all threads."""

    def __init__(self, threads: int, seconds: float) -> None:
        self.threads, self.seconds = threads, seconds
        self.left_out = _why_it_does_not_build(CEILING)
        no_rust = self.left_out or _why_it_does_not_build(CHECK_IN_RUST)
        self.twins = {"C": CHECK_IN} if no_rust else {"C": CHECK_IN, "Rust": CHECK_IN_RUST}
        self.lacks = LeftOut(IN_C if self.left_out else IN_RUST, no_rust) if no_rust else None
        self.pools = {number: FlushPool(number) for number in thread_numbers(threads)}

    def contenders(self, ram: ColoRam) -> list[Contender]:
        """Ours by strategy and threads; what is written in C, with both kinds of memcpy."""
        made = [ours("serial", self.pools[1], ram, "serial")]
        for threads, pool in self.pools.items():
            made.append(ours(f"dynamic, {threads}", pool, ram, "dynamic"))
        made.append(ours(f"static, {self.threads}", self.pools[self.threads], ram, "static"))
        made.append(ours(f"queue, {self.threads}", self.pools[self.threads], ram, "queue"))
        return made if self.left_out else [*made, *self._in_c(ram)]

    def _in_c(self, ram: ColoRam) -> list[Contender]:
        made = []
        for what, source, threads in (
            ("serial walk", SERIAL, 1),
            ("patch", PATCH, self.threads),
            ("coalescing", COALESCING, 1),
        ):
            for memcpy in ("called", "inlined"):
                port = BoundPort(build(source, memcpy=memcpy), ram, threads)
                made.append(port.contender(f"C {what}, {threads}, memcpy {memcpy}", "C"))
        for language, source in self.twins.items():
            twin = BoundPort(build(source), ram, self.threads)
            made.append(twin.contender(f"the same design in {language}, {self.threads}", "twin"))
        for mode in MODES:
            made.append(copy_limit.contender(f"copy limit: {mode}", ram, self.threads, mode))
        # What the other threads can gain at all: often little, where the memory is the limit.
        made.append(copy_limit.contender(COPY_LIMIT_ALONE, ram, 1, BEST_MODE))
        return made

    def row(self, runs: PairedRuns, pattern: Pattern) -> Row:
        """All contenders on one pattern."""
        contenders = self.contenders(runs.ram)
        times = runs.run(pattern, contenders, self.seconds)

        def fastest(group: str) -> str | None:
            names = [contender.name for contender in contenders if contender.group == group]
            return times.fastest(names) if names else None

        return Row(
            times,
            best_c=fastest("C"),
            copy_limit=fastest("copy limit"),
            default=f"dynamic, {self.threads}",
            one_thread="serial",
        )

    def close(self) -> None:
        """End the pools."""
        for pool in self.pools.values():
            pool.close()


def _why_it_does_not_build(source: Path) -> str | None:
    """Why what is written in this language cannot be measured on this machine; None if it can."""
    try:
        build(source)
    except (NoCompilerError, BuildError) as error:
        return str(error)
    return None


def add_command(commands: Any) -> None:
    """Register ``bench`` with the command line."""
    parser = commands.add_parser("bench", help="compare with the C ports and the copy limit")
    parser.add_argument(
        "--ram", type=options.size, default=2 << 30, help="size of the synthetic RAM: 512M, 2G"
    )
    parser.add_argument("--threads", type=options.count, default=usable_cpus())
    parser.add_argument(
        "--seconds", type=options.seconds, default=8, help="about so long for each pattern"
    )
    parser.add_argument("--traces", type=Path, nargs="*", default=None, metavar="TRACE.npz")
    parser.add_argument("--only", help="patterns whose name contains this, and nothing else")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--simulate", action="store_true", help="only compute: scaling past this machine"
    )
    what.add_argument(
        "--predict",
        action="store_true",
        help="measure what passes and wake-ups cost, and compute what other ways would take",
    )
    what.add_argument(
        "--scaling",
        action="store_true",
        help="measure 1, 2, 4 ... threads on every pattern instead, beside what is computed",
    )
    what.add_argument(
        "--report",
        action="store_true",
        help="measure nothing: write RESULTS.md, its plot and README.md's table from results/*.json",
    )
    parser.add_argument(
        "--nodes",
        type=numa.node_count,
        default=1,
        metavar="N",
        help="with --simulate: also with the guest's memory on N NUMA nodes",
    )
    parser.add_argument(
        "--remote",
        type=options.factor,
        default=1.6,
        metavar="R",
        help="with --nodes: how many times as long a page of another node takes to copy",
    )
    parser.add_argument(
        "--name", default=processor(), help="what this machine is called in tables and plots"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="draw all of it, to look at")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print tables and the summary; 0 whatever was measured."""
    _check_options(arguments)
    if arguments.report:
        report.write()
        return 0
    if arguments.predict:
        predict.run()
        return 0
    if arguments.plot:
        check_matplotlib()
    outputs = arguments.json, arguments.html, arguments.plot
    check_outputs(*outputs, inputs=arguments.traces or ())
    recorded = _traces(arguments.traces)
    if arguments.simulate:
        speed_ups = simulate.run(recorded, arguments.plot)
        if arguments.nodes > 1:
            numa.run(recorded, arguments.nodes, arguments.remote)
        _write(arguments, _document(_machine(arguments), recorded, speed_ups))
        return 0
    return (_scaling if arguments.scaling else _contest)(arguments, recorded)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse an option that this way to run does not read."""
    parser = arguments.parser
    for way, unread in UNREAD.items():
        if getattr(arguments, way):
            options.refuse_unread(parser, arguments, unread, f"means nothing with --{way}")
    if not arguments.simulate:
        computed = "is computed, not measured: add --simulate"
        options.refuse_unread(parser, arguments, OF_NODES, computed)
    if arguments.nodes == 1:
        options.refuse_unread(parser, arguments, ("remote",), "there is one node: add --nodes 2")


def _contest(arguments: argparse.Namespace, recorded: dict[str, traces.Trace]) -> int:
    """Everybody side by side, with all threads."""
    wanted = _wanted(arguments, recorded)
    bench = Bench(arguments.threads, arguments.seconds)
    machine, rows, found = _machine(arguments), list[Row](), list[Measure]()
    for runs, pattern in wanted:
        rows.append(bench.row(runs, pattern))
        found += rows[-1].measures()
        _keep(arguments, _document(machine, {}, {}, **_measured(rows, found, bench.lacks)))
    if arguments.only is None:
        found += _single_measures(bench, arguments.ram)
    bench.close()
    _print(rows, found, bench.lacks)
    if arguments.json or arguments.html or arguments.plot:
        speed_ups = {name: list(simulate.speed_ups(trace)) for name, trace in recorded.items()}
        measured = _measured(rows, found, bench.lacks)
        made = _document(machine, recorded, speed_ups, **measured)
        _write(arguments, made)
        if arguments.plot:
            charts.draw_ratios({arguments.name: made}, arguments.plot)
    return 0


def _scaling(arguments: argparse.Namespace, recorded: dict[str, traces.Trace]) -> int:
    """1, 2, 4 ... threads on every pattern. Without a compiler, ours alone."""
    wanted = _wanted(arguments, recorded)
    why = _why_it_does_not_build(CEILING)
    lacks = LeftOut(KINDS_IN_C, why) if why else None
    left_out = lacks._asdict() if lacks else None
    scaling = Scaling(arguments.threads, arguments.seconds, in_c=lacks is None)
    machine, speed_ups, computed = _machine(arguments), {}, {}
    for runs, pattern in wanted:
        speed_ups[pattern.name] = scaling.measure(runs, pattern)
        pages = runs.ram.layout.pages
        computed[pattern.name] = best_possible(pattern, pages, scaling.numbers)
        measured = {"speed_ups": speed_ups, "left_out": left_out}
        _keep(arguments, _document(machine, {}, computed, **measured))
    scaling.close()
    show(speed_ups, computed)
    if lacks:
        print(f"Left out: {', '.join(lacks.what)}. {printable(lacks.why)}")
    made = _document(machine, recorded, computed, speed_ups=speed_ups, left_out=left_out)
    _write(arguments, made)
    if arguments.plot:
        charts.draw_measured_scaling(made, arguments.plot)
    return 0


def _wanted(
    arguments: argparse.Namespace, recorded: dict[str, traces.Trace]
) -> Iterator[tuple[PairedRuns, Pattern]]:
    """The patterns to measure, each on a RAM; an error if there is none of such a name."""
    size, only = arguments.ram, arguments.only or ""
    check_memory(2 * size, f"a RAM of {size >> 20} MiB and its cache")
    runs = PairedRuns(ColoRam([Block("ram", size=size)]))
    synthetic = list(patterns.synthetic(runs.ram.layout.pages))
    names = *(pattern.name for pattern in synthetic), *recorded, *map(guests.title, guests.LARGE)
    wanted = {name for name in names if only in name}
    if not wanted:
        arguments.parser.error(
            f"argument --only: no pattern has {only!r} in its name: {', '.join(names)}"
        )
    return _patterns(wanted, runs, synthetic, recorded)


def _patterns(
    wanted: Set[str],
    runs: PairedRuns,
    synthetic: list[Pattern],
    recorded: dict[str, traces.Trace],
) -> Iterator[tuple[PairedRuns, Pattern]]:
    """One after the other, with progress; large guests where there is memory."""
    with Progress(transient=True, console=console(stderr=True)) as progress:
        task = progress.add_task("flushing", total=len(wanted))
        for pattern in synthetic:
            if pattern.name in wanted:
                yield runs, pattern
                progress.advance(task)
        for name, trace in recorded.items():
            if name in wanted:
                trace = without_holes(trace)
                check_memory(_contest_memory(trace.layout), f"trace {name}")
                runs = PairedRuns(ram_for(trace))
                yield runs, patterns.recorded(name, trace)
                progress.advance(task)
        for name in guests.LARGE:
            if guests.title(name) in wanted and _there_is_memory(name):
                pattern = guests.pattern(name)
                runs = PairedRuns(guests.sparse_ram(guests.LARGE[name]), pattern.epochs[0].pages)
                yield runs, pattern
                progress.advance(task)


def _there_is_memory(guest: str) -> bool:
    """If not it is said: one guest that is too large is no reason to lose what was measured."""
    try:
        check_memory(guests.memory(guest), f"a guest of {guest}")
    except TooLittleMemory as error:
        print(f"left out: {printable(str(error))}", file=sys.stderr)
        return False
    return True


def _contest_memory(layout: Layout) -> int:
    """What host and cache of such a guest take, and the stamps of their pages."""
    used = sum(region.used_pages for region in layout.regions)
    return used * (2 * layout.page_size + 16)


def _single_measures(bench: Bench, size: int) -> Iterator[Measure]:
    pool = bench.pools[bench.threads]
    yield from measures.dispatch(pool)
    if not bench.left_out:
        yield from measures.scan(pool)
        yield from measures.copy_bandwidth(pool, size)
    yield from measures.backup(pool, size)
    yield from measures.first_flush(pool, size // 4)
    if bench.threads > 1:
        runs = PairedRuns(ColoRam([Block("ram", size=size // 2)]))
        pattern = next(
            p for p in patterns.synthetic(runs.ram.layout.pages) if p.name == "10 % random"
        )
        yield from measures.busy_core(runs, pattern, pool)


def _print(rows: list[Row], found: list[Measure], lacks: LeftOut | None) -> None:
    screen = console()
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = TABLE_WIDTH
    for row in rows:
        times = row.times
        title = f"{times.pattern.name}: {times.pattern.pages} dirty pages"
        table = Table(title=title, title_justify="left")
        reference = "fastest C port" if row.best_c else "one thread"
        for column in ("", "median us", f"{reference} = 1 [quartiles]"):
            table.add_column(column, justify="left" if column == "" else "right")
        for name in times.by_name:
            if times.pattern.pages or not name.startswith("copy limit"):
                ratio = str(row.ratio(name))
                mark = "  <- fastest C" if name == row.best_c else ""
                table.add_row(name + mark, f"{times.median(name) / 1e3:.1f}", ratio)
        screen.print(table)
    table = Table(title="Against the targets", title_justify="left")
    for column in ("what", "measured", "target", ""):
        table.add_column(column)
    for measure in found:
        verdict = {True: "met", False: "MISSED", None: ""}[measure.met]
        value = f"{told(measure.value, measure.target)} {measure.unit}"
        table.add_row(measure.what, value, measure.target, verdict)
    screen.print(table)
    lost = [measure.what for measure in found if measure.met is False]
    print("Targets missed: " + ("; ".join(lost) if lost else "none"))
    if lacks:
        print(f"Left out: {', '.join(lacks.what)}. {printable(lacks.why)}")
    beside_c = [row for row in rows if row.best_c]
    slower = [row.times.pattern.name for row in beside_c if row.ratio(row.default).median < 1]
    if beside_c:
        print("Slower than the fastest C port: " + ("; ".join(slower) if slower else "nowhere"))


def _machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and what was measured."""
    return {
        "processor": printable(arguments.name),
        "model": processor_model(),
        "cpus": usable_cpus(),
        "threads": arguments.threads,
        "ram_bytes": arguments.ram,
        "commit": report.commit(),
    }


def _document(
    machine: dict[str, Any],
    recorded: dict[str, traces.Trace],
    computed: simulate.SpeedUps,
    **measured: Any,
) -> Document:
    """What was measured, if anything, and what was computed of the patterns or traces."""
    return document(
        "bench",
        machine=machine,
        **measured,
        scaling=computed,
        maps=[maps.dirty_map(name, trace) for name, trace in recorded.items()],
    )


def _keep(arguments: argparse.Namespace, made: Document) -> None:
    """What was measured so far: it stays if a later pattern fails, or whoever waits has enough."""
    if arguments.json:
        # The maps are of the traces, and a megabyte: --simulate writes them, not each machine's result.
        save(arguments.json, made if arguments.simulate else {**made, "maps": []})


def _write(arguments: argparse.Namespace, made: Document) -> None:
    _keep(arguments, made)
    if arguments.html:
        write_page(arguments.html, made)


def _measured(rows: list[Row], found: list[Measure], lacks: LeftOut | None) -> dict[str, Any]:
    patterns_found = [
        {
            "pattern": row.times.pattern.name,
            "pages": row.times.pattern.pages,
            "fastest_c": row.best_c,
            "best_copy_limit": row.copy_limit,
            "median_ns": {name: row.times.median(name) for name in row.times.by_name},
            "ratio_to_one_thread": {
                name: vars(row.times.ratio(name, to=row.one_thread)) for name in row.times.by_name
            },
            "ratio_to_fastest_c": {
                name: vars(row.ratio(name)) for name in row.times.by_name if row.best_c
            },
        }
        for row in rows
    ]
    return {
        "patterns": patterns_found,
        "measures": [m.as_json() for m in found],
        "left_out": lacks._asdict() if lacks else None,
    }


def _traces(paths: list[Path] | None) -> dict[str, traces.Trace]:
    """The traces named, or those recorded with this project if it runs from its own folder."""
    if paths is None:
        paths = sorted(Path("tests/traces").glob("*.npz"))
        if not paths:
            print("no traces in tests/traces: give --traces to include some", file=sys.stderr)
    return traces.load_named(paths)
