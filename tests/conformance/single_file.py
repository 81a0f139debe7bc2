"""python -m tests.conformance.single_file > vectors.c: every vector in one C file, which needs no other.

For cross builds, valgrind, qemu-user, sanitizers, and wherever there is no Python: compile it, link the
port, run it. Exit status 1 if a vector fails. The expected results are the model's; the oracle in the
file, which judges the calls, is compared with them first.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from model.boundary.command import run
from model.boundary.options import Parser
from tests.conformance import VERSION
from tests.conformance.expected import expect
from tests.conformance.programs import ABI, HERE
from tests.conformance.repeating import calls_as_c
from tests.conformance.vectors import Vector, all_vectors

_INCLUDE = re.compile(r'^#include "(.+)"\n', re.MULTILINE)

MAIN = """\
/* Does the oracle say of a call what the model says? */
static void compare(const kit_call *call, int status, uint64_t dirty_pages, uint64_t copied)
{
    kit_expected expected = kit_expect(call);
    uint64_t counted = status == -EINVAL ? 0 : expected.stats[0];

    if (expected.status != status || expected.dirty_pages != dirty_pages || counted != copied) {
        printf("the oracle and the model differ: %s\\n", call->name);
        exit(2);
    }
}

int main(void)
{
    size_t failed = 0;

    kit_begin();
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        for (size_t call = vectors[i].first; call < vectors[i].first + vectors[i].calls; call++) {
            compare(&calls[call], results[call].status, results[call].dirty_pages, results[call].copied);
            kit_failures = 0;
            kit_make(&calls[call]);
            if (kit_failures) {
                printf("FAIL %s, call %zu\\n", vectors[i].id, call - vectors[i].first);
                failed++;
                break;
            }
        }
    }
    printf("%zu vectors, %zu failed\\n", sizeof vectors / sizeof *vectors, failed);
    return failed != 0;
}
"""


def single_file() -> str:
    """The text of the file."""
    vectors = [vector for group in all_vectors().values() for vector in group]
    calls = [call for vector in vectors for call in vector.calls]
    head = f"/* Vectors of a COLO flush, ABI version 1, kit {VERSION}: generated, do not edit.\n"
    head += " * cc -std=gnu11 -pthread vectors.c PORT.so -o vectors && ./vectors */\n"
    return "\n".join(
        (
            head + "#define _GNU_SOURCE",
            _inlined(HERE / "kit.h", set()),
            *calls_as_c(calls),
            "",
            *_results(vectors),
            "",
            MAIN,
        )
    )


def _inlined(header: Path, seen: set[str]) -> str:
    """A header with those of the project's that it includes, each once."""

    def other(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _inlined(HERE / name if (HERE / name).exists() else ABI / name, seen)

    return _INCLUDE.sub(other, header.read_text())


def _results(vectors: Sequence[Vector]) -> Iterator[str]:
    yield "static const struct {\n    int status;\n    uint64_t dirty_pages, copied;\n} results[] = {"
    for vector in vectors:
        for call in vector.calls:
            result = expect(call)
            copied = 0 if result.status == -22 else result.stats[0]
            yield f"    {{{result.status}, UINT64_C({result.dirty_pages}), {copied}}},"
    yield "};\n\nstatic const struct {\n    const char *id;\n    size_t first, calls;\n} vectors[] = {"
    first = 0
    for vector in vectors:
        yield f'    {{"{vector.id}", {first}, {len(vector.calls)}}},'
        first += len(vector.calls)
    yield "};"


def main(arguments: Sequence[str], name: str = "python -m tests.conformance.single_file") -> int:
    """Print the file. ``name``: what the command is called in its help."""
    Parser(prog=name, description=__doc__).parse_args(arguments)
    print(single_file())
    return 0


def console() -> NoReturn:
    """The command ``colo-vectors``, where the kit is installed by itself."""
    run(lambda arguments: main(arguments, "colo-vectors"))


if __name__ == "__main__":
    run(main)
