"""The functions of ``model/`` that numba compiles: each is the model's, for all 64-bit words.

What the kernels call is not a translation that was tested: the LLVM IR of each function is run on terms
(``machine.py``), as numba makes it and as LLVM has optimised it, and its result is the model's own, read
over words. It is never poison, nothing on the way is undefined, and no exception is raised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from model import nodes, shares, words
from model.domain import select
from model.protocols import check_in, node_cursors
from proofs.compiled import source
from proofs.compiled.ir import Integer, Many, Pointer, UnknownIR
from proofs.compiled.machine import Machine, State
from proofs.compiled.mutants import RESULT_FLIPPED, flipped_result
from proofs.compiled.values import Bits, Datum, Opaque, Slot, bits, number, slot
from proofs.prover import symbolic
from proofs.prover.obligation import CLAIMS, Claim, Control, Proof, without
from proofs.prover.symbolic import Truth, Word

Function = Callable[..., Any]

#: Every function of the model that is compiled, and what divides in it.
DIVISORS: dict[Function, tuple[str, ...]] = {
    words.word_of: (),
    words.pages_below: (),
    words.pages_between: (),
    words.window_mask: (),
    words.either: (),
    words.both: (),
    words.cleared: (),
    words.next_page: (),
    words.without_next: (),
    shares.cut_at_word: (),
    shares.chunk: ("threads",),
    shares.share: ("threads",),
    shares.is_last: (),
    shares.in_reach: (),
    shares.clip: (),
    shares.batch: (),
    shares.batch_words: (),
    shares.stretch_of: (),
    shares.end_of_stretch: (),
    nodes.node_in_turn: (),
    node_cursors.after_taking: (),
    node_cursors.is_over: (),
    check_in.is_open: (),
    check_in.has_quit: (),
    check_in.inside: (),
    check_in.checked_in: (),
    check_in.checked_out: (),
    check_in.caller_must_be_woken: (),
}
#: The kernel behind the one primitive that is itself a loop: in the optimised IR it stands inlined.
SEARCH = "impl.kernels.flush.first_word_with"
#: What that search finds, of a table and a number: nothing else is known of it here.
_found = z3.Function("first_word_with", *[z3.BitVecSort(64)] * 3)

KINDS = {source.AS_MADE: "as numba makes it", source.OPTIMISED: "as LLVM optimises it"}


@dataclass(frozen=True)
class Summary:
    """What a compiled function does: its results, and whether all on the way is defined."""

    results: tuple[Bits, ...]
    defined: z3.BoolRef
    visits: Mapping[tuple[str, str], Sequence[Sequence[z3.BoolRef]]]


def kinds(function: Function) -> list[str]:
    """The texts in which a function has no loop."""
    return [source.AS_MADE] if function is shares.batch_words else list(KINDS)


def full_name(function: Function) -> str:
    """``model.shares.chunk``."""
    return f"{function.__module__}.{function.__name__}"


def arguments_of(function: Function) -> list[str]:
    """The names of its parameters."""
    code = function.__code__
    return list(code.co_varnames[: code.co_argcount])


def summary(
    function: Function, kind: str, arguments: list[Word], want: list[Any], text: str | None = None
) -> Summary:
    """Run a compiled function on terms; ``text`` stands for its own, to see what a mutant does.

    ``want`` are the model's results: how many there are, and which of them are truths. Raises UnknownIR.
    """
    kernels = source.kernels()
    symbol = kernels.symbol(full_name(function))
    texts = {**kernels.module(full_name(function), kind), **({symbol: text} if text else {})}
    contracts = {}
    if function is shares.batch_words:
        contracts[kernels.symbol(SEARCH)] = _search
    machine = Machine(texts, contracts)
    widths = [8 if isinstance(result, Truth) else 64 for result in want]
    layout = Many(len(widths), Integer(widths[0]))
    result, exception = machine.place("result", layout), machine.place("exception", Pointer())
    start = State(slots={exception: Opaque()})
    outcomes = list(
        machine.run(symbol, [result, exception, *(Bits(a.z) for a in arguments)], start)
    )
    if not outcomes:
        raise UnknownIR(f"{full_name(function)} never returns")
    found = [_read_back(state, code, widths) for state, code in outcomes]
    defined = [_implied(o.path, o.goal) for o in machine.obligations]
    defined += [
        _implied(state.path, z3.And(returned.z == 0, *(z3.Not(r.poison) for r in results)))
        for (state, _), (returned, results) in zip(outcomes, found, strict=True)
    ]
    last = found[-1][1]
    for (state, _), (_, results) in zip(outcomes[-2::-1], found[-2::-1], strict=True):
        taken = z3.And(*state.path)
        last = [
            Bits(z3.If(taken, one.z, other.z)) for one, other in zip(results, last, strict=True)
        ]
    return Summary(tuple(last), z3.And(*defined), machine.visits)


def _implied(path: Any, goal: z3.BoolRef) -> z3.BoolRef:
    return z3.Implies(z3.And(*path), goal) if path else goal


def _read_back(state: State, code: Datum, widths: list[int]) -> tuple[Bits, list[Bits]]:
    """The code that a function returns (0: no exception), and what it has written as its result."""
    places = [Slot("result", index * width // 8) for index, width in enumerate(widths)]
    poison = [Bits(number(0, width).z, z3.BoolVal(True)) for width in widths]
    results = [
        bits(state.slots.get(place, nothing), "a result")
        for place, nothing in zip(places, poison, strict=True)
    ]
    return bits(code, "what is returned"), results


def _search(_machine: Machine, state: State, arguments: list[Datum]) -> Datum:
    result, _, table, pages = arguments
    state.slots[slot(result, SEARCH)] = Bits(_found(bits(table, SEARCH).z, bits(pages, SEARCH).z))
    return number(0, 32)


def model_results(p: Proof, function: Function, arguments: list[Word]) -> list[Word | Truth]:
    """What the model says, lifted to 64-bit words."""
    lift = p.lift_words.lift
    if function is shares.batch_words:
        of_table: dict[Function, Any] = {
            shares.first_word_with: lambda table, pages: Word(_found(table.z, pages.z)),
            select: symbolic.select,
        }
        lift = p.domain(symbolic.word, of_table).lift
    results = lift(function)(*arguments)
    return list(results) if isinstance(results, tuple) else [results]


def agrees(found: Summary, want: list[Word | Truth]) -> z3.BoolRef:
    """Is all defined, and every result the model's? A truth is 1 or 0."""
    same = [
        result.z == (z3.If(w.z, number(1, 8).z, number(0, 8).z) if isinstance(w, Truth) else w.z)
        for result, w in zip(found.results, want, strict=True)
    ]
    return z3.And(found.defined, *same)


_divide, _multiply = (
    z3.Function(name, *[z3.BitVecSort(64)] * 3) for name in ("divide", "multiply")
)


def with_names(statement: z3.BoolRef) -> z3.BoolRef:
    """The statement with each division and each product a name of which little is known.

    It is enough: what holds of any such function holds of division. LLVM splits a division of 64 bits
    into one of 32 where both numbers are small, and to compare the circuits of both is beyond z3.
    SMT-LIB's division, of any width, is that of natural numbers: so one name does for all widths.
    """
    known: dict[int, z3.ExprRef] = {}
    facts: list[z3.BoolRef] = []

    def named(term: z3.ExprRef) -> z3.ExprRef:
        if term.get_id() not in known:
            parts = [named(part) for part in term.children()]
            known[term.get_id()] = _named(term, parts, facts)
        return known[term.get_id()]

    with_all_named = named(statement)
    return z3.Implies(z3.And(*facts), with_all_named) if facts else with_all_named


def _named(term: z3.ExprRef, parts: list[z3.ExprRef], facts: list[z3.BoolRef]) -> z3.ExprRef:
    kind = term.decl().kind()
    if kind in (z3.Z3_OP_BUDIV, z3.Z3_OP_BUDIV_I) and not z3.is_bv_value(parts[1]):
        width = term.size()
        a, b = (z3.ZeroExt(64 - width, part) if width < 64 else part for part in parts)
        quotient = _divide(a, b)
        facts.append(z3.Or(b == 0, z3.ULE(quotient, a)))
        return z3.Extract(width - 1, 0, quotient) if width < 64 else quotient
    of_words = kind == z3.Z3_OP_BMUL and len(parts) == 2 and term.size() == 64
    if of_words and not any(map(z3.is_bv_value, parts)):
        return _multiply(*sorted(parts, key=lambda part: part.sexpr()))
    return term.decl()(*parts) if parts else term


def _state(function: Function, p: Proof) -> None:
    p.compiled = True
    arguments = p.words(" ".join(arguments_of(function)))
    by_name = dict(zip(arguments_of(function), arguments, strict=True))
    for divisor in DIVISORS[function]:
        p.assume(f"{divisor} is not 0", by_name[divisor] != 0)
    want = model_results(p, function, arguments)
    shown: dict[str, Any] = {}
    for kind in kinds(function):
        text = None
        if p.mutant == RESULT_FLIPPED:
            symbol = source.kernels().symbol(full_name(function))
            text = flipped_result(source.kernels().texts[kind][symbol])
        found = summary(function, kind, arguments, want, text)
        statement = agrees(found, want)
        p.prove(KINDS[kind], Truth(statement), enough=Truth(with_names(statement)), keep=False)
        shown[kind] = [
            Word(z3.ZeroExt(64 - r.width, r.z) if r.width < 64 else r.z) for r in found.results
        ]
        shown[f"{kind}_defined"] = Truth(found.defined)
    if function is shares.batch_words:
        table, *pages = arguments
        shown["searches"] = [[n, Word(_found(table.z, n.z))] for n in pages]
    name = full_name(function).removeprefix("model.")
    p.scenario("a compiled function", function=name, arguments=arguments, **shown)


def _claim(function: Function) -> Claim:
    name = ".".join(full_name(function).split(".")[-2:])
    controls = [Control(RESULT_FLIPPED, refutes=KINDS[source.AS_MADE], mutant=RESULT_FLIPPED)]
    controls += [
        without(f"{divisor} is not 0", refutes=KINDS[source.AS_MADE])
        for divisor in DIVISORS[function]
    ]
    search = ", whatever its search finds" if function is shares.batch_words else ""
    sentence = f"{name}, compiled, is the model's, for all 64-bit words, in LLVM IR{search}."
    return Claim(f"compiled.{name}", sentence, lambda p: _state(function, p), tuple(controls))


for _claimed in map(_claim, DIVISORS):
    CLAIMS[_claimed.name] = _claimed
