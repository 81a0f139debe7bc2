"""The memory of an explored call: small objects byte by byte, and pages, which are only copied whole.

All addresses that a term may be on a path are enumerated. One that lies in no object refutes the port; a
byte of a page that is read or written by itself is not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import z3

from proofs.compiled.ir import (
    Instruction,
    Integer,
    Pointer,
    Type,
    UnknownIR,
    offset_of,
    parts_of,
    size_of,
)
from proofs.compiled.machine import Machine, State
from proofs.compiled.values import ALWAYS, Bits, Datum, as_bit, bits, choice, row

#: Objects lie below; from here on the pages of the blocks.
PAGES = 1 << 40
_FIRST, _GAP = 1 << 16, 1 << 12
_BYTE = 8


class Asks(Protocol):
    """Who knows what may be on a path."""

    def must(self, state: State, name: str, goal: z3.BoolRef) -> None: ...
    def addresses(self, state: State, address: z3.BitVecRef) -> list[int]: ...


@dataclass(frozen=True)
class Place:
    """An object: bytes from an address on."""

    name: str
    size: int
    writable: bool


@dataclass
class Bytes:
    """Objects by address, and what was written: of each byte the value that it is a part of, and which.

    A byte that nobody has written is poison. ``written`` is called when a store is done. ``copied`` is
    for whoever minds the pages.
    """

    written: Callable[[Asks, State, int], None]
    copied: z3.BitVecRef
    objects: dict[int, Place] = field(default_factory=dict)
    held: dict[int, tuple[z3.BitVecRef, int]] = field(default_factory=dict)
    end: int = _FIRST

    def copy(self) -> "Bytes":
        """The same, for another path."""
        return replace(self, objects=dict(self.objects), held=dict(self.held))

    def place(self, name: str, size: int, *, writable: bool = True) -> int:
        """A new object's address. After it there is nothing for a while."""
        address = self.end
        self.objects[address] = Place(name, size, writable)
        self.end += -(-size // 64) * 64 + _GAP
        return address

    def put(self, address: int, value: z3.BitVecRef) -> None:
        """Hold a value of whole bytes."""
        for index in range(value.size() // _BYTE):
            self.held[address + index] = (value, index)

    def word(self, address: int, size: int = 8) -> Bits:
        """The value of some bytes; poison if one of them was never written."""
        parts = [self.held.get(address + index) for index in range(size)]
        found = [part for part in parts if part is not None]
        if len(found) < size:
            return Bits(z3.BitVecVal(0, _BYTE * size), ALWAYS)
        whole = found[0][0]
        if whole.size() == _BYTE * size and all(
            part is whole and index == at for at, (part, index) in enumerate(found)
        ):
            return Bits(whole)
        pieces = [z3.Extract(_BYTE * i + 7, _BYTE * i, part) for part, i in reversed(found)]
        return Bits(cast(z3.BitVecRef, z3.simplify(z3.Concat(*pieces) if size > 1 else pieces[0])))

    def load(self, machine: Machine, state: State, what: Instruction, at: Bits) -> Datum:
        """What an access reads."""
        first, *others = self.places(
            cast(Asks, machine), state, at.z, size_of(what.type), what.text, writes=False
        )
        value = self._read(first, what.type, what.text)
        for other in others:
            there = Bits(as_bit(at.z == other))
            value = choice(there, self._read(other, what.type, what.text), value)
        return value

    def store(
        self, machine: Machine, state: State, what: Instruction, at: Bits, value: Datum
    ) -> None:
        """Write to the one place, or to each of a few if it is the one."""
        places = self.places(
            cast(Asks, machine), state, at.z, size_of(what.type), what.text, writes=True
        )
        for place in places:
            if len(places) > 1:
                kept = self._read(place, what.type, what.text)
                new = choice(Bits(as_bit(at.z == place)), value, kept)
                machine.defined(state, "what is stored", new)
                self._write(place, what.type, new, what.text)
            else:
                self._write(place, what.type, value, what.text)
        for place in places:
            self.written(cast(Asks, machine), state, place)

    def places(
        self,
        machine: Asks,
        state: State,
        address: z3.BitVecRef,
        size: int,
        text: str,
        *,
        writes: bool,
    ) -> list[int]:
        """All that an address may be, each in an object."""
        found = machine.addresses(state, address)
        for place in found:
            if place >= PAGES:
                raise UnknownIR(f"a byte of a page, not a copied page, in the LLVM IR: {text}")
            if not self.holds(place, size, writes=writes):
                verb = "writes to" if writes else "reads"
                machine.must(state, f"{verb} no memory of its own: {text}", address != place)
        return found

    def holds(self, address: int, size: int, *, writes: bool) -> bool:
        """Do these bytes lie in one object that may be read, or written?"""
        return any(
            first <= address and address + size <= first + found.size
            for first, found in self.objects.items()
            if found.writable or not writes
        )

    def _read(self, address: int, kind: Type, text: str) -> Datum:
        if isinstance(kind, Integer | Pointer):
            value = self.word(address, size_of(kind))
            width = kind.bits if isinstance(kind, Integer) else 64
            narrow = z3.Extract(width - 1, 0, value.z) if width < value.width else value.z
            return Bits(narrow, value.poison)
        members = (
            self._read(address + offset_of(kind, index), part, text)
            for index, part in enumerate(parts_of(kind))
        )
        return tuple(members)

    def _write(self, address: int, kind: Type, value: Datum, text: str) -> None:
        if isinstance(kind, Integer | Pointer):
            new = bits(value, text)
            wide = size_of(kind) * _BYTE - new.width
            self.put(address, cast(z3.BitVecRef, z3.simplify(z3.ZeroExt(wide, new.z))))
            return
        members = row(value, text)
        for index, part in enumerate(parts_of(kind)):
            self._write(address + offset_of(kind, index), part, members[index], text)
