"""The numbers on a command line: one spelling everywhere, and nothing else passes."""

import argparse
import ast
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl.__main__ import main as impl
from impl.bench.nodes import node_count
from model.boundary import options
from proofs.__main__ import main as proofs
from tests.conformance.__main__ import main as conformance
from tests.guest.__main__ import main as guest
from tests.kit_tests import thread_sanitizer
from tests.mutation.__main__ import main as mutation
from tests.mutation.__main__ import shard

Main = Callable[[list[str]], int]

RECORD = ("record", "--qmp", "q", "--ram", "r", "-o", "t")
#: Every option of every command that takes a number, and its type.
NUMBERS: list[tuple[Main, tuple[str, ...], str, Callable[[str], object]]] = [
    (impl, ("flush", "t"), "--threads", options.count),
    (impl, ("demo",), "--checkpoints", options.count),
    (impl, ("demo",), "--ram", options.size),
    (impl, ("demo",), "--interval", options.seconds),
    (impl, ("demo",), "--threads", options.count),
    (impl, RECORD, "--epoch", options.duration),
    (impl, RECORD, "--epochs", options.count),
    (impl, RECORD, "--threads", options.count),
    (impl, ("bench",), "--ram", options.size),
    (impl, ("bench",), "--threads", options.count),
    (impl, ("bench",), "--seconds", options.seconds),
    (impl, ("bench",), "--nodes", node_count),
    (impl, ("bench",), "--remote", options.factor),
    (impl, ("calibrate",), "--seconds", options.seconds),
    (proofs, (), "--jobs", options.count),
    (conformance, ("--implementation", "impl"), "--effort", options.factor),
    (conformance, ("--implementation", "impl"), "--seed", options.seed),
    (conformance, ("--implementation", "impl"), "--patience", options.factor),
    (guest, ("rollback",), "--times", options.count),
    (guest, ("rollback",), "--threads", options.count),
    (guest, ("colo",), "--epochs", options.count),
    (guest, ("colo",), "--threads", options.count),
    (thread_sanitizer.main, (), "--rounds", options.count),
    (mutation, ("model",), "--jobs", options.count),
    (mutation, ("model",), "--shard", shard),
]
EVIL = [
    *(
        "",
        " ",
        "-1",
        "+1",
        "1 ",
        " 1",
        "1\n",
        "0x1",
        "1_0",
        "1e3",
        "1e-400",
        "1e400",
        "1e",
        ".",
        ".5",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "NaN",
        "None",
        "x",
        "१",
        "²",
        "1.5.5",
        "5.",
        "5,5",
        "9" * 5000,
        "M",
        "ms",
    ),
    *(
        "-0.0",
        "1K",
        "1T",
        "1MM",
        "1 M",
        "-1M",
        "1.5M",
        "0M",
        "1ms s",
        "1sms",
        "-1s",
        "0s",
        "nans",
    ),
    *("\0", "\ud800", "1\0", "\x1b[31m", "1" * 13, "1" * 20 + "M", "1" * 20 + "s"),
]


@pytest.mark.parametrize(
    ("main", "words", "option", "kind"), NUMBERS, ids=lambda x: getattr(x, "__name__", str(x))
)
def test_every_numeric_option_refuses_what_is_no_number_for_it(
    main: Main,
    words: tuple[str, ...],
    option: str,
    kind: Callable[[str], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text in EVIL:
        with pytest.raises(SystemExit) as refused:
            main([*words, f"{option}={text}"])
        said = capsys.readouterr().err
        assert refused.value.code in (2, 64), text
        assert option in said and "write" in said and "\x1b" not in said and "\0" not in said


def test_no_numeric_option_is_left_out() -> None:
    """The control of the list above: argparse's own ``int`` and ``float`` are used nowhere."""
    root = Path(__file__).parents[2]
    files = [
        path
        for name in ("impl", "model", "proofs", "tests")
        for path in (root / name).rglob("*.py")
    ]
    listed, found = {(words[0] if words else "", option) for _, words, option, _ in NUMBERS}, 0
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
            ):
                continue
            kind = next((ast.unparse(k.value) for k in node.keywords if k.arg == "type"), "Path")
            assert kind not in ("int", "float"), f"{path}: {ast.unparse(node)}"
            found += kind != "Path"
    # ``--threads`` of the guest's two commands is added by one line.
    assert found == len(listed) - 1


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (options.count, "1", 1),
        (options.count, "007", 7),
        (options.seed, "0", 0),
        (options.size, "512M", 512 << 20),
        (options.size, "2g", 2 << 30),
        (options.factor, "0.2", 0.2),
        (options.seconds, "8", 8.0),
        (options.duration, "500ms", 0.5),
        (options.duration, "1.5s", 1.5),
    ],
)
def test_right_numbers(kind: Callable[[str], object], text: str, value: float) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    "kind",
    [options.count, options.seed, options.size, options.factor, options.seconds, options.duration],
)
@given(text=st.text(alphabet="0123456789.eE+-_ msMGnaif\n", max_size=8) | st.text(max_size=8))
def test_any_text_is_a_finite_number_in_range_or_refused(
    kind: Callable[[str], float], text: str
) -> None:
    try:
        number = kind(text)
    except argparse.ArgumentTypeError as error:
        assert str(error).isprintable()
        return
    assert math.isfinite(number) and number >= 0
    assert number or kind in (options.seed, options.seconds)


KIT = ("--library", "PORT.so")
#: What would not be heeded, and what is said of it.
UNREAD: list[tuple[Main, tuple[str, ...], str]] = [
    (impl, ("bench", "--nodes", "2"), "--nodes: is computed, not measured"),
    (impl, ("bench", "--scaling", "--remote", "2"), "--remote: is computed, not measured"),
    (impl, ("bench", "--simulate", "--remote", "2"), "--remote: there is one node"),
    (impl, ("bench", "--simulate", "--only", "idle"), "--only: means nothing with --simulate"),
    (impl, ("bench", "--predict", "--json", "F"), "--json: means nothing with --predict"),
    (impl, ("bench", "--report", "--name", "N"), "--name: means nothing with --report"),
    (impl, ("calibrate", "--kept", "--seconds", "2"), "--seconds: not allowed with"),
    (proofs, ("--catalogue", "--json", "F"), "--json: --catalogue proves nothing"),
    (proofs, ("--catalogue", "--mutants"), "--mutants: --catalogue proves nothing"),
    (conformance, ("--list", "--html", "F"), "--html: --list runs nothing"),
    (conformance, ("--list", "--keep-going"), "--keep-going: --list runs nothing"),
    (conformance, (*KIT, "--strategy", "queue"), "--strategy: is our own flush's"),
    (conformance, (*KIT, "--replay", "F", "--seed", "1"), "--seed: is that of the file"),
]


@pytest.mark.parametrize(("main", "words", "says"), UNREAD)
def test_an_option_that_would_not_be_heeded_is_refused(
    main: Main, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(list(words))
    assert refused.value.code in (2, 64) and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (proofs, ("--only", "nix", "--catalogue")),
        (conformance, ("--only", "nix", "--list")),
        (impl, ("bench", "--ram", "16M", "--only", "nix", "--traces")),
        (mutation, ("model", "--only", "nix")),
    ],
)
def test_a_name_that_nothing_has_is_refused(
    main: Main, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(list(words))
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = "".join(capsys.readouterr())
    assert status in (1, 2, 64) and "nix" in said and said.count("\n") < 9
