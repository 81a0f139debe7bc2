"""Every mutant of every compiled function, and what became of it: refused, or equivalent for a reason.

A mutant that is accepted has been proved to be the model's function: it is equivalent. That there are
such for a reason that can be read, and no others, is what this list is for.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import z3

from proofs.compiled import reader, reordered, source
from proofs.compiled.functions import (
    DIVISORS,
    Function,
    Summary,
    agrees,
    arguments_of,
    full_name,
    kinds,
    model_results,
    summary,
    with_names,
)
from proofs.compiled.ir import Function as Lowered
from proofs.compiled.ir import Register, UnknownIR
from proofs.compiled.loops import CLAIM_OF
from proofs.compiled.mutants import Mutant, mutants
from proofs.compiled.order import CLAIMED
from proofs.prover.obligation import CLAIMS, Obligation, Proof, stated
from proofs.prover.symbolic import Word
from proofs.prover.verdict import QUICK_WORK, Asked

REFUSED = "refused"
NOT_REACHED = "no path leads there"
NOT_USED = "its result is used for nothing"
ONLY_AHEAD = "it decides only what is fetched ahead"
NO_REASON = "equivalent, for no reason that is listed"

_BELOW_0 = (
    ".*",
    r"icmp \w+ \S.* %\S+, (0|zeroinitializer)$",
    "ule for eq|ugt for ne",
    "nothing is below 0",
)
#: Why an accepted mutant is equivalent: its function, its instruction, what was done to it, and why.
EQUIVALENT = (
    (
        ".*",
        r"store \S+ (0|false|null), ptr",
        ".*",
        "numba sets a variable to 0 before it is written, and after its last use",
    ),
    (
        ".*",
        r"icmp \w+ i32 %\S+, -?\d|or i1 %",
        ".*",
        "it asks which exception a callee has raised: none",
    ),
    ("chunk|share", "ret i32 %", "0 returned", "no exception is raised, as threads is not 0"),
    _BELOW_0,
    (".*", "icmp eq i64 (64|4096), 0", ".*", "that is not 0, however it is asked"),
    (".*", "zext i1", "sext for zext", "it is asked only whether it is 0"),
    (
        ".*",
        "icmp u",
        "ule for ult|ult for ule|ugt for uge|uge for ugt",
        "where both are equal, both sides give the same",
    ),
    (".*", "add|sub", "n[us]w promised", "where it wraps it is not selected, or it never does"),
    ("window_mask", "sub i64", "add for sub", "modulo 64, and base is a multiple of 64"),
    ("window_mask", "icmp eq i64", "ule for eq", "where it is used, stop is not below base"),
    ("window_mask", "select i1 .*, i64 0", "1 for 0", "where stop is base, no bit is selected"),
    ("window_mask", "or disjoint", "xor for or", "no bit is in both"),
    (
        "chunk|share",
        "udiv|load i64, ptr %quot|zext i32",
        "its lowest bit flipped",
        "cut_at_word drops it",
    ),
    (
        "chunk|share",
        r"or i64|and i64 %\S+, -4294967296|icmp (eq|ult) i64 %\d+|trunc i64|udiv i32|zext i32",
        ".*",
        "it chooses between a division of 32 bits and one of 64, which agree",
    ),
    (
        "caller_must_be_woken",
        "and i64 .* 4611686018427387904",
        "4611686018427387905 for .*",
        "whether bit 0 is set is asked as well",
    ),
)
#: The same of kernels with loops; their functions of the model are taken as proved.
_OVER_WORDS = ".*(count_words|index_stretch|add_up_stretches|clear_bitmaps)"
EQUIVALENT_IN_LOOPS = (
    *EQUIVALENT[:2],
    (".*fetch", "icmp|load i64, ptr %end|br i1", ".*", ONLY_AHEAD),
    (".*", "store .* zeroinitializer, ptr", "left out", EQUIVALENT[0][-1]),
    _BELOW_0,
    (".*", "icmp eq i64 2, 0", ".*", "2 is not 0, however that is asked"),
    (".*", "add i64 .*, 0$", "sub for add", "nothing is added"),
    (".*", "add|sub|mul", "n[us]w promised", "it never wraps: addresses end below 2^57"),
    (".*", "icmp u", "sl(t|e) for ul(t|e)", "neither number reaches 2^63"),
    (".*", r"add i64 %\S+, 63|ptr %first,", "its lowest bit flipped", "word_of drops it"),
    (".*window", "load i64, ptr %", "its lowest bit flipped", ONLY_AHEAD),
    (
        ".*(stream|first_stray)",
        r"load i64, ptr %(to|gap)\.1,",
        "its lowest bit flipped",
        "it is asked only whether it is below what lies a multiple of 16 bytes away",
    ),
    (
        _OVER_WORDS,
        r"store i64 %\S+, ptr %\.\d+,|getelementptr .* i32 1$|sub i64 %",
        "left out|2 for 1|add for sub",
        "a range's end is not asked again, and its variable holds 0 before it begins there",
    ),
    (
        _OVER_WORDS,
        r"sub i64 0|select|sdiv|icmp sgt|add i64 %\S+, %\S+$",
        ".*",
        "what makes a range of any step and of how many numbers there are, where the step is 1",
    ),
    (
        ".*(first_word_with|index_words)",
        r"load i64, ptr %(middle|word\.2),",
        "its lowest bit flipped",
        "stretch_of drops it",
    ),
    (
        ".*count_either",
        r"ptr %(total|total\.[23]|enough),",
        "left out|its lowest bit flipped",
        "0 is 0 already, and above no number; or it is written again before it is read",
    ),
    (
        ".*count_either",
        r"ptr %(word|word\.[123]|last|last\.[46]),",
        "left out|its lowest bit flipped",
        "it is written again before it is read; or more words are counted at once, or named, as rightly",
    ),
    (
        ".*count_either",
        "icmp u",
        "ule for ult|uge for ugt",
        "where both are equal, both sides give the same",
    ),
    (
        ".*fetching",
        "store i64|getelementptr|sub i64|add i64|icmp|select|sdiv",
        ".*",
        "what makes a range of any first number and step, where they are 0 and 64",
    ),
)
_EDGES = (0, 1, 2, 31, 32, 62, 63, 64, 65, 66, 127, 128, 129, 200, 1000, 2**31, 2**32 - 1, 2**32)
_HIGH = (2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 64, 2**64 - 2, 2**64 - 1)
_TRIALS = 12
#: The kernels with loops of which instructions are broken, the longest first: how many there are to one
#: that is. Not copy_pages and flush_range: their paths are too many to be stated that often.
BROKEN_LOOPS = {
    f"impl.kernels.flush.{name}": one_of
    for name, one_of in {
        "flush_window": 1,
        "next_dirty_word": 1,
        "back_up_range": 4,
        "first_word_with": 1,
        "first_row": 1,
        "first_dirty": 1,
        "count_either": 1,
        "first_stray": 1,
        "count_words": 1,
        "index_stretch": 1,
        "index_words": 1,
        "add_up_stretches": 1,
        "clear_bitmaps": 1,
        "rows_end": 1,
        "stream_fetching": 1,
        "stream": 1,
        "fetch": 1,
    }.items()
}
#: A kernel about which there is no claim of its own is broken in the midst of another.
_WITHIN = {"impl.kernels.flush.rows_end": "impl.kernels.flush.first_stray"}
#: The claims about the order of accesses, of which each is broken.
ORDERS = {f"order.{name}": name for name in CLAIMED}
#: Arguments that say no more than what is to be fetched ahead.
FETCHED_AHEAD = {
    "copy_pages": (6,),
    "stream_fetching": (5,),
    "fetch": (2,),
    "llvm.prefetch.p0": (0,),
}


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: ``why`` is REFUSED, or the reason why it is equivalent."""

    function: str
    kind: str
    mutant: Mutant
    why: str


def fates(function: Function, kind: str) -> Iterator[Fate]:
    """What becomes of each mutant of a compiled function. Raises UnknownIR if itself is not known."""
    kernels = source.kernels()
    symbol = kernels.symbol(full_name(function))
    text = kernels.texts[kind][symbol]
    arguments = [Word(z3.BitVec(name, 64)) for name in arguments_of(function)]
    by_name = dict(zip(arguments_of(function), arguments, strict=True))
    want = model_results(Proof(), function, arguments)
    assumed = [(by_name[divisor] != 0).z for divisor in DIVISORS[function]]
    whole = summary(function, kind, arguments, want)
    lowered = reader.read(text)
    reached = {label for label in lowered.blocks if _is_reached(whole, symbol, label, assumed)}
    used = _used(lowered, reached)
    for mutant in mutants(text):
        try:
            found = summary(function, kind, arguments, want, mutant.text)
        except UnknownIR:
            why = REFUSED
        else:
            refused = _refused(agrees(found, want), arguments, assumed)
            why = REFUSED if refused else _reason(function.__name__, mutant, reached, used)
        yield Fate(full_name(function), kind, mutant, why)


def _is_reached(whole: Summary, symbol: str, label: str, assumed: Sequence[z3.BoolRef]) -> bool:
    paths = whole.visits.get((symbol, label), ())
    return any(Asked((*assumed, *path), QUICK_WORK).check() != z3.unsat for path in paths)


def _refused(
    statement: z3.BoolRef, arguments: Sequence[Word], assumed: Sequence[z3.BoolRef]
) -> bool:
    """Is it not proved? Numbers are tried first: most mutants fail with the first of them."""
    for numbers in _trials(len(arguments)):
        values = [(a.z, z3.BitVecVal(n, 64)) for a, n in zip(arguments, numbers, strict=True)]
        fails = z3.And(*assumed, z3.Not(statement))
        if z3.is_true(z3.simplify(z3.substitute(fails, *values))):
            return True
    answer = Asked((*assumed, z3.Not(with_names(statement))), QUICK_WORK).check()
    return bool(answer != z3.unsat)


def _trials(count: int) -> Iterator[list[int]]:
    draw = random.Random(count)
    for _ in range(_TRIALS):
        yield [draw.choice((*_EDGES, *_HIGH)) for _ in range(count)]
        word = draw.randrange(5)
        yield [word, *(max(0, 64 * word + draw.randrange(-70, 140)) for _ in range(count - 1))]


def loop_fates(name: str, one_of: int = 1) -> Iterator[Fate]:
    """What becomes of mutants of a kernel with loops: each instruction broken in one way, turn about.

    Or one in ``one_of`` instructions. z3 is asked only what it is not asked of the kernel itself. What
    makes the claim vacuous is refused.
    """
    own = source.kernels().symbol(name)
    text = source.kernels().texts[source.AS_MADE][own]
    claim = CLAIMS[CLAIM_OF[_WITHIN.get(name, name)]]
    kernel = stated(claim)
    known = {_identity(obligation) for obligation in kernel.obligations}
    lowered = reader.read(text)
    reached = {label for symbol, label in kernel.reached if symbol == own}
    used, needed = _used(lowered, reached), _used(lowered, reached, _fetched_ahead())
    for mutant in islice(_one_each(mutants(text)), 0, None, one_of):
        why = NOT_REACHED
        if mutant.label in reached:
            try:
                with source.replaced({own: mutant.text}):
                    asked = stated(claim).obligations
            except UnknownIR:
                why = REFUSED
            else:
                new = [o for o in asked if _identity(o) not in known]
                refused = not all(map(_holds, sorted(new, key=_is_possible)))
                why = REFUSED if refused else _reason(name, mutant, reached, used, needed)
        yield Fate(name, source.AS_MADE, mutant, why)


def _one_each(found: Iterable[Mutant]) -> Iterator[Mutant]:
    """One mutant of each instruction: of the first its first, of the second its second, and so on."""
    by_place = groupby(found, key=lambda mutant: (mutant.label, mutant.index))
    for number, (_, ways) in enumerate(by_place):
        of_one = list(ways)
        yield of_one[number % len(of_one)]


def _identity(obligation: Obligation) -> tuple[object, ...]:
    """Equal for what asks the same: z3 has each term once."""
    terms = (*obligation.assumed, *obligation.proved, obligation.statement)
    return obligation.name, *(term.z.get_id() for term in terms)


def _is_possible(obligation: Obligation) -> bool:
    """Does it ask whether what is assumed can be? That takes longest, and most mutants fail before it."""
    return bool(z3.is_true(obligation.statement.z))


def _holds(obligation: Obligation) -> bool:
    if _is_possible(obligation):
        assumed = tuple(truth.z for truth in obligation.assumed)
        return bool(Asked(assumed, QUICK_WORK).check() == z3.sat)
    answers = (
        Asked(obligation.question, QUICK_WORK, preprocessed=preprocessed).check()
        for preprocessed in (True, False)
    )
    return next((answer == z3.unsat for answer in answers if answer != z3.unknown), False)


def _fetched_ahead() -> dict[str, tuple[int, ...]]:
    """Which arguments of a call only say what is fetched ahead, by the callee's symbol."""
    symbols = source.kernels().symbols
    return {
        symbol: operands
        for name, operands in FETCHED_AHEAD.items()
        for symbol in symbols.get(f"impl.kernels.flush.{name}", (name,))
    }


def _reason(
    function: str,
    mutant: Mutant,
    reached: set[str],
    used: set[tuple[str, int]],
    needed: set[tuple[str, int]] | None = None,
) -> str:
    if mutant.label not in reached:
        return NOT_REACHED
    if (mutant.label, mutant.index) not in used:
        return NOT_USED
    if needed is not None and (mutant.label, mutant.index) not in needed:
        return ONLY_AHEAD
    text = mutant.instruction.text
    for name, instruction, change, why in EQUIVALENT if needed is None else EQUIVALENT_IN_LOOPS:
        is_it = re.fullmatch(name, function), re.search(instruction, text)
        if all(is_it) and re.fullmatch(change, mutant.change):
            return why
    return NO_REASON


def _used(
    function: Lowered, reached: set[str], but: Mapping[str, tuple[int, ...]] = {}
) -> set[tuple[str, int]]:
    """The instructions whose result may matter: from what is returned, stored or branched on, back.

    ``but`` are operands of calls, by the callee's symbol, that do not count.
    """
    here = {
        (label, index): instruction
        for label in reached
        for index, instruction in enumerate(function.blocks[label])
    }
    made = {instruction.result: place for place, instruction in here.items() if instruction.result}
    variables = {i.result for i in here.values() if i.op == "alloca"}
    stores: dict[str, list[tuple[str, int]]] = {}
    todo = []
    for place, instruction in here.items():
        target = instruction.operands[-1].value if instruction.operands else None
        if instruction.op == "store" and isinstance(target, Register) and target.name in variables:
            stores.setdefault(target.name, []).append(place)
        elif instruction.op in ("store", "ret", "br", "switch", "call"):
            todo.append(place)
    used: set[tuple[str, int]] = set()
    while todo:
        place = todo.pop()
        if place not in used:
            used.add(place)
            dropped = but.get(here[place].name, ())
            for index, operand in enumerate(here[place].operands):
                if isinstance(operand.value, Register) and index not in dropped:
                    todo += stores.get(operand.value.name, ())
                    todo += [made[operand.value.name]] if operand.value.name in made else []
    return used


@dataclass(frozen=True)
class Row:
    """What became of the mutants of a function in one text: how many by why, and what has no reason.

    ``unknown`` says why there are none: the function itself is not known. One in ``one_of`` instructions
    has been broken.
    """

    function: str
    kind: str
    ends: Mapping[str, int]
    unexplained: tuple[str, ...]
    unknown: str = ""
    one_of: int = 1

    @property
    def good(self) -> bool:
        """Every mutant is refused, or equivalent for a reason that is listed.

        An optimised text is another on every processor, and so are its mutants: there an accepted one
        is equivalent because it has been proved to be.
        """
        return not self.unknown and (self.kind == source.OPTIMISED or not self.unexplained)


def rows(*, loops: bool = False) -> list[tuple[str, str]]:
    """What there is to break: each compiled function by its name, in each text.

    With ``loops`` those with loops, too, and the accesses of which the order is claimed.
    """
    of_loops = [(name, source.AS_MADE) for name in (*ORDERS, *BROKEN_LOOPS)] if loops else []
    of_functions = [(full_name(f), kind) for f in DIVISORS for kind in kinds(f)]
    return [*of_loops, *of_functions]


def row_of(name: str, kind: str, *, whole: bool = False) -> Row:
    """The row of a function, by its name; ``whole`` if every instruction of it is to be broken."""
    try:
        if name in ORDERS:
            return _order_row(name)
        if name in BROKEN_LOOPS:
            one_of = 1 if whole else BROKEN_LOOPS[name]
            return replace(_row(name, kind, loop_fates(name, one_of)), one_of=one_of)
        (function,) = (each for each in DIVISORS if full_name(each) == name)
        return _row(name, kind, fates(function, kind))
    except UnknownIR as error:  # of the function itself, not of a mutant
        return Row(name, kind, {}, (), str(error))


def _order_row(name: str) -> Row:
    """What became of the accesses that a claim about their order is about."""
    found = list(reordered.fates(ORDERS[name]))
    ends = Counter(REFUSED if fate.why == reordered.REFUSED else fate.why for fate in found)
    unexplained = tuple(
        f"{fate.access.row}, {fate.way}" for fate in found if fate.why == reordered.NO_REASON
    )
    return Row(name, source.AS_MADE, dict(ends), unexplained)


def _row(name: str, kind: str, found: Iterable[Fate]) -> Row:
    ends: dict[str, int] = {}
    unexplained = []
    for fate in found:
        ends[fate.why] = ends.get(fate.why, 0) + 1
        if fate.why == NO_REASON:
            unexplained.append(f"{fate.mutant.instruction.text}: {fate.mutant.change}")
    short = name.removeprefix("model.").removeprefix("impl.kernels.")
    return Row(short, kind, ends, tuple(unexplained))
