"""QEMU's ``QemuEvent`` from its parts: one word, compare-and-swap, exchange, and a futex.

The word is SET, FREE (not set, nobody waits) or BUSY (not set, somebody waits). ``set`` wakes only
if it finds BUSY. As it was in 2016, ``wait`` called the futex once and did not look again: a futex
may return for no reason, and then ``wait`` returned with the event not set. Mended upstream in 2025
by a loop. Both are here.

Each operation is a fragment of a program: steps of one access to shared memory each, entered at its
``pc`` and left through ``then``, which says where the process goes on.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from model.transitions import Invariant, Step

SET, FREE, BUSY = 0, 1, -1

Then = Callable[[Any], Any]
Fragment = Mapping[Hashable, Step]


class Event(NamedTuple):
    """``value`` and whether its one waiter is asleep on it."""

    value: int = FREE
    asleep: bool = False


class Place(NamedTuple):
    """Where a process finds the event it works on: a field of shared memory, at its ``thread``."""

    field: str

    def get(self, at: Any, me: Any) -> Event:
        """The event, as shared memory has it."""
        event: Event = getattr(at, self.field)[me.thread]
        return event

    def put(self, at: Any, me: Any, **changes: Any) -> Any:
        """Shared memory with the event changed."""
        events = list(getattr(at, self.field))
        events[me.thread] = events[me.thread]._replace(**changes)
        return at._replace(**{self.field: tuple(events)})

    @property
    def exists(self) -> Invariant:
        """What must hold before any access."""
        return Invariant(
            "events are made before they are used",
            lambda at, me: me.thread < len(getattr(at, self.field)),
        )


def set_event(place: Place, pc: str, then: Then) -> Fragment:
    """``qemu_event_set``."""
    swap, wake = f"{pc}, exchange", f"{pc}, wake"

    def load(at: Any, me: Any) -> Any:
        return at, then(me) if place.get(at, me).value == SET else me._replace(pc=swap)

    def exchange(at: Any, me: Any) -> Any:
        waited_for = place.get(at, me).value == BUSY
        return place.put(at, me, value=SET), me._replace(pc=wake) if waited_for else then(me)

    def futex_wake(at: Any, me: Any) -> Any:
        return place.put(at, me, asleep=False), then(me)

    return _fragment(
        place,
        (pc, f"{place.field}: set: load", load),
        (swap, f"{place.field}: set: exchange for SET", exchange),
        (wake, f"{place.field}: set: futex_wake", futex_wake),
    )


def reset_event(place: Place, pc: str, then: Then) -> Fragment:
    """``qemu_event_reset``."""
    clear = f"{pc}, or"

    def load(at: Any, me: Any) -> Any:
        return at, me._replace(pc=clear) if place.get(at, me).value == SET else then(me)

    def fetch_or(at: Any, me: Any) -> Any:
        return place.put(at, me, value=place.get(at, me).value | FREE), then(me)

    return _fragment(
        place,
        (pc, f"{place.field}: reset: load", load),
        (clear, f"{place.field}: reset: fetch-or FREE", fetch_or),
    )


def wait_event(place: Place, pc: str, then: Then, *, looks_again: bool) -> Fragment:
    """``qemu_event_wait``; as in 2016 unless it ``looks_again`` after the futex."""
    swap, doze, asleep = f"{pc}, compare-and-swap", f"{pc}, futex", f"{pc}, asleep"

    def load(at: Any, me: Any) -> Any:
        value = place.get(at, me).value
        return at, then(me) if value == SET else me._replace(pc=swap if value == FREE else doze)

    def compare_and_swap(at: Any, me: Any) -> Any:
        value = place.get(at, me).value
        after = place.put(at, me, value=BUSY) if value == FREE else at
        return after, then(me) if value == SET else me._replace(pc=doze)

    def futex_wait(at: Any, me: Any) -> Any:
        if place.get(at, me).value != BUSY:
            return at, returned(me)
        return place.put(at, me, asleep=True), me._replace(pc=asleep)

    def wakes(at: Any, me: Any) -> Any:
        return place.put(at, me, asleep=False), returned(me)

    def returned(me: Any) -> Any:
        return me._replace(pc=pc) if looks_again else then(me)

    fragment = _fragment(
        place,
        (pc, f"{place.field}: wait: load", load),
        (swap, f"{place.field}: wait: compare-and-swap FREE to BUSY", compare_and_swap),
        (doze, f"{place.field}: wait: futex_wait while BUSY", futex_wait),
    )
    sleep = Step(
        f"{place.field}: wait: futex_wait returns",
        wakes,
        ready=lambda at, me: not place.get(at, me).asleep,
        spurious=wakes,
    )
    return {**fragment, asleep: sleep}


def _fragment(place: Place, *steps: tuple[str, str, Any]) -> Fragment:
    return {pc: Step(text, act, invariants=(place.exists,)) for pc, text, act in steps}
