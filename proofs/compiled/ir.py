"""What LLVM IR is made of: types, values, instructions, functions and their loops."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from proofs.prover.obligation import CannotBeStated


class UnknownIR(CannotBeStated):
    """Something in the IR that has no meaning here; nothing can be proved of such a function."""


# Types.


@dataclass(frozen=True)
class Integer:
    """``i64``."""

    bits: int


@dataclass(frozen=True)
class Pointer:
    """``ptr``."""


@dataclass(frozen=True)
class Void:
    """``void``."""


@dataclass(frozen=True)
class Many:
    """``[2 x i64]`` or ``<8 x i64>``: both are a row of the same."""

    count: int
    of: "Type"


@dataclass(frozen=True)
class Structure:
    """``{ i64, i1 }``."""

    parts: tuple["Type", ...]


Type = Integer | Pointer | Void | Many | Structure


def parts_of(aggregate: Type) -> tuple[Type, ...]:
    """The types of an aggregate's members."""
    if isinstance(aggregate, Many):
        return (aggregate.of,) * aggregate.count
    if isinstance(aggregate, Structure):
        return aggregate.parts
    raise UnknownIR(f"members of {aggregate}, in the LLVM IR")


def alignment_of(kind: Type) -> int:
    """In bytes, on every target of ours."""
    if isinstance(kind, Integer):
        return max(1, kind.bits // 8)
    if isinstance(kind, Many):
        return alignment_of(kind.of)
    return (
        max((alignment_of(part) for part in kind.parts), default=1)
        if isinstance(kind, Structure)
        else 8
    )


def size_of(kind: Type) -> int:
    """In bytes, with what pads the members of a structure."""
    if isinstance(kind, Integer):
        return max(1, kind.bits // 8)
    if isinstance(kind, Many):
        return kind.count * size_of(kind.of)
    if isinstance(kind, Structure):
        return _round_up(offset_of(kind, len(kind.parts)), alignment_of(kind))
    return 8


def offset_of(aggregate: Type, index: int) -> int:
    """Where a member begins."""
    if isinstance(aggregate, Many):
        return index * size_of(aggregate.of)
    offset = 0
    for number, part in enumerate(parts_of(aggregate)):
        offset = _round_up(offset, alignment_of(part))
        if number == index:
            return offset
        offset += size_of(part)
    return offset


def _round_up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


# Values as they stand in the text.


@dataclass(frozen=True)
class Register:
    """``%name``."""

    name: str


@dataclass(frozen=True)
class Global:
    """``@name``."""

    name: str


@dataclass(frozen=True)
class Number:
    """``-64``, ``true``."""

    value: int


@dataclass(frozen=True)
class Undefined:
    """``undef`` or ``poison``: taken for poison, the worse of the two."""


@dataclass(frozen=True)
class Zero:
    """``zeroinitializer`` or ``null``."""


Value = Register | Global | Number | Undefined | Zero


@dataclass(frozen=True)
class Operand:
    """A value with its type; ``defined`` where the text says ``noundef``."""

    type: Type
    value: Value
    defined: bool = False


@dataclass(frozen=True)
class Instruction:
    """One line. Which fields say something depends on ``op``.

    ``type`` is the result's, or what is stored; ``name`` a comparison's predicate, a callee, an ordering;
    ``labels`` where a branch leads or a phi comes from; ``numbers`` the indices of a member, the values
    of a switch; ``align`` in bytes; ``range`` what a result must lie in.
    """

    text: str
    op: str
    result: str | None = None
    type: Type = field(default_factory=Void)
    operands: tuple[Operand, ...] = ()
    flags: frozenset[str] = frozenset()
    name: str = ""
    labels: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    align: int = 1
    range: tuple[int, int] | None = None


@dataclass(frozen=True)
class Function:
    """A function's parameters and its blocks, by label, the first one first."""

    symbol: str
    parameters: tuple[str, ...]
    blocks: Mapping[str, tuple[Instruction, ...]]
    range: tuple[int, int] | None

    @property
    def entry(self) -> str:
        """The label of the first block."""
        return next(iter(self.blocks))

    @cached_property
    def loops(self) -> dict[str, frozenset[str]]:
        """The header of each loop with the blocks of it. A jump into the midst of one is refused."""
        order = self._reachable()
        before = {
            label: [b for b in order if label in self.blocks[b][-1].labels] for label in order
        }
        dominators = {label: set(order) for label in order}
        dominators[self.entry] = {self.entry}
        changed = True
        while changed:
            changed = False
            for label in order[1:]:
                common = set.intersection(*(dominators[b] for b in before[label])) | {label}
                changed |= common != dominators[label]
                dominators[label] = common
        loops: dict[str, set[str]] = {}
        place = {label: number for number, label in enumerate(order)}
        for label in order:
            for target in self.blocks[label][-1].labels:
                if target in dominators[label]:
                    body, todo = loops.setdefault(target, {target}), [label]
                    while todo:
                        block = todo.pop()
                        if block not in body:
                            body.add(block)
                            todo += before[block]
                elif place[target] <= place[label]:
                    raise UnknownIR(
                        f"{self.symbol}: a loop that is entered in its midst, at {target}"
                    )
        return {header: frozenset(body) for header, body in loops.items()}

    @cached_property
    def live(self) -> dict[str, frozenset[str]]:
        """The registers that are used from each block on and were set before it."""
        found = {label: frozenset[str]() for label in self.blocks}
        changed = True
        while changed:
            changed = False
            for label, body in reversed(list(self.blocks.items())):
                live = {name for target in body[-1].labels for name in found[target]}
                for target in body[-1].labels:
                    for phi in self.blocks[target]:
                        if phi.op == "phi":
                            live |= _registers(phi.operands[phi.labels.index(label)])
                for what in reversed(body):
                    live -= {what.result or ""}
                    if what.op != "phi":
                        live |= _registers(*what.operands)
                changed |= live != found[label]
                found[label] = frozenset(live)
        return found

    def _reachable(self) -> list[str]:
        """Blocks in reverse postorder."""
        seen, order = {self.entry}, []
        stack = [(self.entry, iter(self.blocks[self.entry][-1].labels))]
        while stack:
            label, targets = stack[-1]
            target = next((t for t in targets if t not in seen), None)
            if target is None:
                order.append(label)
                stack.pop()
            else:
                seen.add(target)
                stack.append((target, iter(self.blocks[target][-1].labels)))
        return order[::-1]


def _registers(*operands: Operand) -> set[str]:
    return {o.value.name for o in operands if isinstance(o.value, Register)}
