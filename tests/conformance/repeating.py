"""C programs that repeat what failed: written from its data, and tried before they are shown."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.call import Call
from tests.conformance.large import Large
from tests.conformance.programs import (
    CannotRunError,
    NoCompilerError,
    build_program,
    build_serial,
    command_for,
    run_program,
)

ROUNDS = 20_000


@dataclass(frozen=True)
class Tried:
    """Did the program fail with the port that it is about, and pass with the one that walks alone?"""

    fails: bool
    passes_with_serial: bool


def calls_program(calls: Sequence[Call]) -> str:
    """Makes the calls in turn, on guarded memory, and judges each whole."""
    return _program(
        "kit.h", calls_as_c(calls), [f"kit_make(&calls[{i}]);" for i in range(len(calls))]
    )


def rounds_program(call: Call) -> str:
    """Makes one call again and again, until it goes wrong: a race."""
    return _program("kit.h", calls_as_c([call]), [f"kit_make_rounds(&calls[0], {ROUNDS});"])


def plan_program(pages: int, threads: int) -> str:
    """Looks at the ranges of all threads."""
    return _program("plan.h", [], [f"check_plan({_number(pages)}, {threads}u);"])


def refused_plans_program(plans: Sequence[tuple[int, int, int, str]]) -> str:
    """Asks for ranges that must be refused: pages, threads, thread, which pointer is NULL."""
    body = [
        f'check_refused_plan({_number(pages)}, {threads}u, {thread}u, "{null}");'
        for pages, threads, thread, null in plans
    ]
    return _program("plan.h", [], body)


def large_program(case: Large) -> str:
    """Makes the call on memory that is only reserved."""
    dirty = f"static const uint64_t dirty[] = {{{_words(case.dirty)}}};"
    stray = "NO_STRAY" if case.stray is None else _number(case.stray)
    numbers = ", ".join(map(_number, (case.page_size, case.first_bit, case.pages)))
    return _program(
        "large.h", [dirty], [f"check_large({numbers}, dirty, {len(case.dirty)}, {stray});"]
    )


def try_program(text: str, port: str, patience: float) -> Tried | str:
    """Builds and runs it with the port, and with the serial one; or why it cannot be built."""
    try:
        with tempfile.TemporaryDirectory(prefix="colo-kit-") as folder:
            source = Path(folder) / "repeat.c"
            source.write_text(text)
            program = build_program(source)
        found = run_program([str(program)], port, patience)
        right = run_program([str(program)], str(build_serial()), patience)
    except (NoCompilerError, CannotRunError) as error:
        return str(error)
    return Tried(bool(found.violations), not right.violations)


def _program(header: str, data: Sequence[str], body: Sequence[str]) -> str:
    lines = [f"/* {command_for(Path('repeat.c'), 'PORT.so')} */", f'#include "{header}"', ""]
    lines += [*data, ""] if data else []
    lines += ["int main(void)", "{", "    kit_begin();", *(f"    {line}" for line in body)]
    return "\n".join((*lines, "    return kit_end();", "}", ""))


def calls_as_c(calls: Sequence[Call]) -> list[str]:
    lines = [line for i, call in enumerate(calls) for line in _data(i, call)]
    lines += ["", "static const kit_call calls[] = {"]
    lines += [f"    {{{_arguments(i, call)}}}," for i, call in enumerate(calls)]
    return [*lines, "};"]


def _data(i: int, call: Call) -> Iterator[str]:
    if call.blocks:
        yield f"static const kit_block blocks_{i}[] = {{   /* first_bit, used, max, offset */"
        for block in call.blocks:
            fields = (block.first_bit, block.used_length, block.max_length, block.offset)
            yield f"    {{{_words(fields)}}},"
        yield "};"
    if call.cache:
        yield f"static const uint64_t cache_{i}[] = {{{_words(call.cache)}}};"
        yield f"static const uint64_t host_{i}[] = {{{_words(call.host)}}};"


def _arguments(i: int, call: Call) -> str:
    words = len(call.cache)
    return ", ".join(
        [
            f'"call {i}"',
            _number(call.page_size),
            f"blocks_{i}" if call.blocks else "NULL",
            str(len(call.blocks)),
            f"cache_{i}" if words else "NULL",
            f"host_{i}" if words else "NULL",
            str(words),
            _number(call.dirty_pages),
            f"{call.threads}u",
            '"' + " ".join(sorted(call.null)) + '"',
            f"KIT_{call.place.upper()}",
        ]
    )


def _words(values: Sequence[int]) -> str:
    return ", ".join(map(_number, values))


def _number(value: int) -> str:
    return f"UINT64_C({value if value < 1 << 16 else hex(value)})"
