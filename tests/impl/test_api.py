"""Every parameter of every public callable, with everything that somebody may hand it by mistake.

Either the call means what the plain value of that argument means (``np.uint8(3)`` is 3), with the same
result. Or it is refused by a ColoError that names the argument, nothing has changed, and all goes on.
Found by introspection: a new public method without an entry in :data:`PARAMETERS` fails here.
"""

import array
import contextlib
import ctypes
import enum
import inspect
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import impl
from impl import (
    Block,
    ColoError,
    ColoRam,
    FlushPool,
    FlushStats,
    KernelDirtyLog,
    Tuning,
    WorkerStats,
)
from impl.dirtylog import Watched
from impl.kernels.events import EventLog
from impl.pool import STRATEGIES
from impl.traces import format as traces
from model import ram as model
from tests.support.needs import kernel_keeps_a_log

PAGE = 4096
PAGES = 8

# --- what may be handed in by mistake ------------------------------------------------------------


class OwnError(Exception):
    """Out of the argument's own code: comes through as it is."""


class Hostile:
    """Whatever is asked of it, it raises."""

    def fail(self, *_: object) -> Any:
        raise OwnError

    __index__ = __int__ = __float__ = __bool__ = __len__ = __iter__ = __getitem__ = fail
    __eq__ = __hash__ = __repr__ = __str__ = __fspath__ = __array__ = __call__ = fail


class Index:
    def __index__(self) -> int:
        return 1


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def closed_mmap() -> mmap.mmap:
    memory = mmap.mmap(-1, PAGE)
    memory.close()
    return memory


def released_view() -> memoryview:
    view = memoryview(bytearray(PAGE))
    view.release()
    return view


def read_only() -> Any:
    words = np.zeros(1, np.uint64)
    words.flags.writeable = False
    return words


def nested() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


#: Made anew for each call, since some can be read only once.
EVIL: dict[str, Callable[[], Any]] = {
    name: (lambda value=value: value)  # type: ignore[misc]
    for name, value in {
        "None": None,
        "True": True,
        "False": False,
        "numpy True": np.True_,
        **{f"int {n}": n for n in (0, 1, -1, 7, 8, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 2**64)},
        "int below": -(2**63) - 1,
        "int of 5000 digits": 10**5000,
        "enum": Number.ONE,
        "index": Index(),
        **{f"numpy {kind}": np.dtype(kind).type(1) for kind in "bBhHiIqQ"},
        "numpy uint8 200": np.uint8(200),
        "numpy int8 -1": np.int8(-1),
        "numpy uint64 most": np.uint64(2**64 - 1),
        "float 1.0": 1.0,
        "float 1.5": 1.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "numpy float64": np.float64(1),
        "numpy float16": np.float16(1),
        "complex": 1j,
        "Decimal": Decimal(1),
        "Fraction": Fraction(1),
        "time span": np.timedelta64(1),
        "date": np.datetime64("2020-01-01"),
        "text": "x",
        "text of a number": "1",
        "empty text": "",
        "text with escape codes": "\x1b[2J",
        "text with a NUL": "a\0b",
        "half a character": "\ud800",
        "long text": "x" * 256,
        "numpy text": np.str_("ram"),
        "text of a type of its own": Text("ram"),
        "bytes": b"ram",
        "numpy bytes": np.bytes_(b"ram"),
        "a page of bytes": b"\1" * PAGE,
        "half a page": bytearray(PAGE // 2),
        "view": memoryview(bytearray(PAGE)),
        "list": [],
        "list of 1": [1],
        "list of 1.5": [1.5],
        "list of True": [True],
        "list of text": ["x"],
        "list of None": [None],
        "tuple": (1, 2),
        "dict": {1: 2},
        "set": {1, 2},
        "frozenset": frozenset({"x"}),
        "range": range(3),
        "long range": range(10**12, 10**12 + 3),
        "array.array": array.array("Q", [1, 2]),
        "nested": nested(),
        "0-d": np.array(1),
        "0-d float": np.array(1.5),
        "0-d text": np.array("ram"),
        "0-d object": np.array(None),
        "empty array": np.array([]),
        "array of 1": np.array([1]),
        "array of 1.5": np.array([1.5]),
        "array of bools": np.array([True, False]),
        "array of text": np.array(["x"]),
        "array of objects": np.array([None] * (PAGE // 8)),
        "array of 2-d": np.zeros((2, 2), np.uint64),
        "array of a word": np.ones(1, np.uint64),
        "array of a big-endian word": np.ones(1, ">u8"),
        "array of a signed word": np.ones(1, np.int64),
        "array of two words": np.ones(2, np.uint64),
        "array of every other": np.zeros(2 * PAGE, np.uint8)[::2],
        "structured array": np.zeros(1, [("x", np.uint64)]),
        "masked": np.ma.masked,
        "void": np.void(b"x"),
        "ctypes": (ctypes.c_uint64 * 1)(),
        "pointers": (ctypes.c_void_p * (PAGE // 8))(),
        "object": object(),
        "type": Block,
        "function": len,
        "module": os,
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "hostile": Hostile(),
        "path": Path("x"),
        "error": ValueError("x"),
    }.items()
}
EVIL |= {
    "generator": lambda: (number for number in (1, 2)),
    "generator of text": lambda: (text for text in "ab"),
    "iterator": lambda: iter([1]),
    "closed mmap": closed_mmap,
    "released view": released_view,
    "read-only array": read_only,
    "another block": lambda: Block("another", size=PAGE),
    "block of another RAM": lambda: ColoRam([Block("taken", size=PAGE)]).block("taken"),
    "released RAM": lambda: _released(),
    "closed pool": lambda: _closed(),
    "log": KernelDirtyLog,
    "event log": EventLog,
}


def _released() -> ColoRam:
    ram = ColoRam([])
    ram.release()
    return ram


def _closed() -> FlushPool:
    pool = FlushPool(1)
    pool.close()
    return pool


# --- what each parameter means by a value --------------------------------------------------------


class Refused(Exception):
    """No plain value stands for this one."""


def number(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise Refused
    if isinstance(value, int | np.signedinteger | np.unsignedinteger | Index) and not isinstance(
        value, np.timedelta64
    ):
        return value.__index__() + 0
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu":
        return int(value)
    raise Refused


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused
    return "".join(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise Refused
    return value is True or bool(value)


def pages(value: Any) -> Any:
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        return number(value)
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return number(value)
    return [number(one) for one in value]


def a(*kinds: type) -> Callable[[Any], Any]:
    """An instance of one of these, as it is."""

    def means(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise Refused
        return value

    return means


def optional(means: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else means(value)


def content(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | np.ndarray | ctypes.Array | array.array):
        view = memoryview(cast(Any, value))  # to mypy an array is a buffer from Python 3.12 on
        if view.c_contiguous and not set("OP") & set(view.format):
            return view.tobytes()
    if isinstance(value, np.bytes_ | np.generic) and not isinstance(value, np.str_):
        return value.tobytes()
    if isinstance(value, memoryview):
        return value.tobytes()
    raise Refused


def words(value: Any) -> Any:
    """A bitmap to copy."""
    if isinstance(value, np.ndarray | ctypes.Array | array.array):
        copy = np.array(value)
        if copy.dtype == np.uint64 and copy.ndim == 1:
            return copy
    raise Refused


def words_in_place(value: Any) -> Any:
    """A bitmap to set bits in."""
    if words(value).shape and isinstance(value, np.ndarray) and value.flags.carray:
        return value
    raise Refused


def memory(value: Any) -> Any:
    """Writable memory: taken as it stands, so there is no plainer value."""
    if isinstance(value, bytearray | ctypes.Array | array.array | memoryview):
        return value
    if isinstance(value, np.ndarray) and value.flags.carray and value.dtype.kind not in "OMm":
        return value
    raise Refused


def bitmap(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype not in (np.uint64, np.uint8):
        raise Refused
    return memory(value)


def blocks(value: Any) -> list[Block]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Refused
    return [a(Block)(one) for one in value]


def path(value: Any) -> str:
    found: str = os.fspath(a(str, os.PathLike)(value))
    return found


def nothing(value: Any) -> Any:
    """Nothing that anybody hands in by mistake is right."""
    raise Refused


def places(value: Any) -> list[str]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Refused
    return [path(one) for one in value]


def model_blocks(value: Any) -> list[model.Block]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Refused
    return [a(model.Block)(one) for one in value]


def all_watched(value: Any) -> list[Watched]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Refused
    return [a(Watched)(one) for one in value]


def one_of(*allowed: str) -> Callable[[Any], str]:
    def means(value: Any) -> str:
        if text(value) not in allowed:
            raise Refused
        return text(value)

    return means


# --- a stage on which each call is made ----------------------------------------------------------


class Stage:
    """A RAM with something dirty in it, and all that the public callables take."""

    pool: FlushPool

    def __init__(self) -> None:
        self.ram = ColoRam([Block("ram", size=PAGES * PAGE, max_size=2 * PAGES * PAGE)])
        self.ram.block("ram").host[:] = 3
        self.ram.receive("ram", 2, b"\5" * PAGE)
        self.ram.mark_host_dirty("ram", [2, 3])
        self.block = Block("spare", size=PAGE)
        self.events = EventLog(64)
        self.events.attach(np.zeros((2, 8), np.uint64))
        layout = model.Layout((model.Block("a", 0, PAGE, PAGE),), PAGE)
        words = np.ones((1, 1), np.uint64)
        self.trace = traces.Trace(layout, words, words, np.array([1.0]), "a test")

    @cached_property
    def log(self) -> KernelDirtyLog:
        """A log that watches memory of its own."""
        log = KernelDirtyLog()
        log.start([watched("watched")])
        return log

    def state(self) -> Any:
        """All that a call can change, in a form that can be compared."""
        log = seen(self.log) if "log" in vars(self) else [seen(watched("watched"))]
        return seen([self.ram, self.block, self.pool, log])

    def works(self) -> None:
        """A flush finds what is marked and nothing else."""
        self.ram.receive("ram", 1, b"\7" * PAGE)
        marked = np.unpackbits((self.ram.cache_dirty | self.ram.host_dirty).view(np.uint8)).sum()
        self.ram.recount()
        assert self.pool.flush(self.ram).copied == marked
        assert (self.ram.block("ram").host[PAGE : 2 * PAGE] == 7).all()
        self.ram.receive("ram", 2, b"\5" * PAGE)


def watched(name: str) -> Watched:
    memory = np.frombuffer(mmap.mmap(-1, PAGES * mmap.PAGESIZE), np.uint8)
    return Watched(name, memory, 0, memory.nbytes)


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    with FlushPool(2, serial_below_bytes=0) as Stage.pool:
        yield


def seen(value: Any) -> Any:
    """What there is to see of a result: equal for equal ones."""
    if isinstance(value, ColoRam):
        now = (
            value.layout,
            value.dirty_pages,
            *(seen(value.block(b.name)) for b in value.layout.blocks),
        )
        bits = value.cache_dirty.tobytes(), value.host_dirty.tobytes()
        return [*now, *bits, seen(value.dirty_log)]
    if isinstance(value, Block):
        where = value.name, value.offset, value.size, value.max_size
        return [*where, value.host.tobytes(), value.cache.tobytes()]
    if isinstance(value, FlushPool):
        return value.threads
    if isinstance(value, FlushStats):
        return [value.copied, value.host_dirty, value.cache_dirty, value.both_dirty]
    if isinstance(value, BaseException):
        return [type(value), str(value)]
    if isinstance(value, KernelDirtyLog):
        blocks = value.blocks._blocks.values() if value.running and value.blocks else ()
        return [seen(block) for block in blocks]
    if isinstance(value, Watched):
        return [value.name, value.first_bit, value.used_length]
    if isinstance(value, traces.Trace):
        return [value.layout, value.cache_dirty.tobytes(), value.host_dirty.tobytes(), value.source]
    if isinstance(value, dict):
        return [(name, seen(one)) for name, one in value.items()]
    if isinstance(value, EventLog):
        return type(value)
    if isinstance(value, list | tuple):
        return [seen(one) for one in value]
    return [type(value), hex(value) if isinstance(value, int) else repr(value)]


# --- the public callables, and what is right for each of their parameters ------------------------


@dataclass(frozen=True)
class Parameter:
    """A right value, what a value means, and how an error calls the parameter."""

    right: Callable[[Stage], Any]
    means: Callable[[Any], Any]
    called: str = ""


PARAMETERS: dict[str, Parameter] = {
    "name": Parameter(lambda _: "ram", text, "name|block"),
    "page": Parameter(lambda _: 1, number),
    "pages": Parameter(lambda _: [1], pages, "page"),
    "size": Parameter(lambda _: PAGE, number, "size|length"),
    "Block.size": Parameter(lambda _: PAGE, optional(number), "size"),
    "max_size": Parameter(lambda _: PAGES * PAGE, optional(number), "max.size"),
    "offset": Parameter(lambda _: 0, optional(number)),
    "first_bit": Parameter(lambda _: None, optional(number)),
    "host": Parameter(lambda _: bytearray(PAGES * PAGE), optional(memory), "host|neither memory"),
    "cache": Parameter(lambda _: bytearray(PAGES * PAGE), optional(memory)),
    "Block.name": Parameter(lambda _: "new", text, "name"),
    "blocks": Parameter(lambda stage: [stage.block], blocks, "block"),
    "page_size": Parameter(lambda _: PAGE, number, "page.size"),
    "layout": Parameter(lambda _: "global", one_of("global", "per-block")),
    "cache_dirty": Parameter(lambda _: bytearray(PAGE), optional(bitmap)),
    "host_dirty": Parameter(lambda _: bytearray(PAGE), optional(bitmap)),
    "block": Parameter(lambda stage: stage.block, a(Block)),
    "data": Parameter(lambda _: b"\4" * PAGE, content, "data|bytes"),
    "cache_words": Parameter(lambda _: np.zeros(1, np.uint64), words),
    "host_words": Parameter(lambda _: np.zeros(1, np.uint64), words),
    "dirty_pages": Parameter(lambda _: 3, number),
    "dirty_log": Parameter(lambda _: None, optional(a(KernelDirtyLog)), "log"),
    "ram": Parameter(lambda stage: stage.ram, a(ColoRam), "ram|released"),
    "pool": Parameter(lambda stage: stage.pool, a(FlushPool), "pool|released"),
    "populate": Parameter(lambda _: False, flag),
    "strategy": Parameter(lambda _: "static", one_of(*STRATEGIES)),
    "threads": Parameter(lambda _: 1, optional(number)),
    "serial_below_bytes": Parameter(lambda _: 0, optional(number)),
    "tuning": Parameter(lambda _: Tuning(), optional(a(Tuning))),
    **{
        f"Tuning.{limit.name}": Parameter(lambda _: 0, number, limit.name)
        for limit in fields(Tuning)
        if limit.type is int
    },
    "Tuning.fetching_host": Parameter(lambda _: False, flag),
    "event_log": Parameter(lambda _: None, optional(a(EventLog)), "event.log"),
    "capacity": Parameter(lambda _: 64, number),
    "lines": Parameter(lambda _: np.zeros((2, 8), np.uint64), nothing),
    "totals": Parameter(lambda _: np.zeros(8, np.uint64), nothing),
    "worker": Parameter(lambda _: 0, number),
    "path": Parameter(lambda _: "out", path, "path|cannot be written|cannot be read"),
    "load.path": Parameter(lambda _: "in.npz", path, "path|cannot be read|whole trace"),
    "paths": Parameter(lambda _: ["in.npz"], places, "path|cannot be read|whole trace"),
    "trace": Parameter(lambda stage: stage.trace, a(traces.Trace)),
    "Layout.blocks": Parameter(lambda _: [model.Block("a", 0, 0, PAGE)], model_blocks, "block"),
    "kind": Parameter(lambda _: "global", one_of("global", "per-block"), "layout"),
    "watched": Parameter(lambda _: [], all_watched),
    "KernelDirtyLog.watch.watched": Parameter(lambda _: watched("another"), a(Watched)),
    "instead_of": Parameter(lambda _: None, optional(a(KernelDirtyLog)), "instead_of|running"),
    "KernelDirtyLog.name": Parameter(lambda _: "watched", text, "block"),
    "KernelDirtyLog.host_dirty": Parameter(lambda _: np.zeros(1, np.uint64), words_in_place),
    "KernelDirtyLog.pages": Parameter(lambda _: range(3), a(range), "pages"),
    "used_length": Parameter(lambda _: PAGE, number, "used_length|bytes"),
    **{
        name: Parameter(lambda _: 0, number)
        for name in ("copied", "both_dirty", "begin_ns", "end_ns")
    },
    "WorkerStats.host_dirty": Parameter(lambda _: 0, number),
    "WorkerStats.cache_dirty": Parameter(lambda _: 0, number),
    "work": Parameter(lambda _: lambda: 1, nothing),
}

#: Each public class, with one of it to call.
CLASSES: dict[type, Callable[[Stage], Any]] = {
    Block: lambda stage: stage.block,
    ColoRam: lambda stage: stage.ram,
    FlushPool: lambda stage: stage.pool,
    FlushStats: lambda stage: stage.pool.flush(stage.ram),
    WorkerStats: lambda stage: stage.pool.flush(stage.ram).workers[0],
    KernelDirtyLog: lambda stage: stage.log,
    EventLog: lambda stage: stage.events,
    Tuning: lambda stage: stage.pool.tuning,
    model.Layout: lambda stage: stage.ram.layout,
}
#: Methods of another one of its class than the others.
OTHERS: dict[str, Callable[[Stage], Any]] = {
    "EventLog.attach": lambda _: EventLog(64),
    "KernelDirtyLog.start": lambda _: KernelDirtyLog(),
}
FUNCTIONS = (traces.load, traces.load_named, traces.save)


@dataclass(frozen=True)
class Call:
    """A public callable: its name, how it is called on a stage, and its parameters."""

    name: str
    call: Callable[[Stage, dict[str, Any]], Any]
    parameters: tuple[str, ...]

    def parameter(self, name: str) -> Parameter:
        owner = self.name.split(".")[0]
        names = f"{self.name}.{name}", f"{owner}.{name}", name
        known = [PARAMETERS[each] for each in names if each in PARAMETERS]
        assert known, f"{self.name} has a parameter {name} that PARAMETERS does not know"
        return known[0]

    def arguments(self, stage: Stage, changed: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006
        right = {
            name: self.parameter(name).right(stage)
            for name in self.parameters
            if name not in changed
        }
        return right | changed


def parameters(function: Any) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(function).parameters if name != "self")


def calls_of(kind: type, of: Callable[[Stage], Any]) -> Iterator[Call]:
    """The constructor, the public methods and the properties that can be set."""
    yield Call(kind.__name__, lambda _stage, given: kind(**given), parameters(kind))
    for name, member in inspect.getmembers(kind):
        if name.startswith("_"):
            continue
        if isinstance(member, FunctionType) and parameters(member):
            whole_name = f"{kind.__name__}.{name}"
            owner = OTHERS.get(whole_name, of)
            yield Call(whole_name, method(owner, name), parameters(member))
        elif isinstance(member, property) and member.fset is not None:
            yield Call(f"{kind.__name__}.{name}", setter(of, name), (name,))


def method(of: Callable[[Stage], Any], name: str) -> Callable[[Stage, dict[str, Any]], Any]:
    return lambda stage, given: getattr(of(stage), name)(**given)


def setter(of: Callable[[Stage], Any], name: str) -> Callable[[Stage, dict[str, Any]], Any]:
    return lambda stage, given: setattr(of(stage), name, given[name])


def calls_of_function(function: Callable[..., Any]) -> Iterator[Call]:
    yield Call(function.__name__, lambda _stage, given: function(**given), parameters(function))


ALL = [
    *(call for kind, of in CLASSES.items() for call in calls_of(kind, of)),
    *(call for function in FUNCTIONS for call in calls_of_function(function)),
]
CALLS = {
    call.name: call
    for call in ALL
    if call.name.split(".")[0] != "KernelDirtyLog" or kernel_keeps_a_log()
}


def findings(call: Call, name: str) -> Iterator[str]:
    """What is wrong with how a callable takes one of its parameters."""
    refusing = Stage()
    for label, make in EVIL.items():
        if name == "work" and callable(make()):
            continue  # what it does is its own
        wanted = plainly(call, name, make)
        stage = refusing if wanted is None else Stage()
        before = stage.state()
        try:
            result = call.call(stage, call.arguments(stage, {name: make()}))
        except OwnError:
            continue
        except ColoError as error:
            if not re.search(call.parameter(name).called or name, str(error), re.IGNORECASE):
                yield f"{label}: {error}: does not name {name}"
            if stage.state() != before:
                yield f"{label}: refused, and something has changed"
            stage.works()
            if wanted is not None and wanted != seen(error):
                yield f"{label}: refused, its plain value not, or otherwise: {error}"
        except Exception as error:
            yield f"{label}: {type(error).__name__}, which is no ColoError: {error}"
        else:
            if wanted is None:
                yield f"{label}: accepted, and means nothing"
                refusing = Stage()
            elif wanted != seen([result, stage.state()]):
                yield f"{label}: accepted, and does something else than its plain value"


def plainly(call: Call, name: str, make: Callable[[], Any]) -> Any:
    """What comes of the plain value, for all to see; None if no plain value stands for this one."""
    stage = Stage()
    try:
        plain = call.parameter(name).means(make())
    except (Refused, OwnError, TypeError, ValueError):
        return None
    try:
        result = call.call(stage, call.arguments(stage, {name: plain}))
    except ColoError as error:
        return seen(error)
    except Exception:  # noticed when it is called with the other value
        return None
    return seen([result, stage.state()])


@pytest.fixture(scope="module", autouse=True)
def files(pool: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what is written, with a trace to read."""
    with contextlib.chdir(tmp_path_factory.mktemp("api")):
        traces.save(Stage().trace, "in.npz")
        yield


def test_every_public_class_is_called_here() -> None:
    public = {getattr(impl, name) for name in impl.__all__}
    assert {kind for kind in public if not issubclass(kind, Exception)} <= CLASSES.keys()


@pytest.mark.parametrize("name", CALLS)
def test_the_right_arguments_are_right(name: str) -> None:
    stage = Stage()
    CALLS[name].call(stage, CALLS[name].arguments(stage))


@pytest.mark.parametrize(
    ("call", "name"), [(call, name) for call in CALLS for name in CALLS[call].parameters]
)
def test_every_wrong_argument(call: str, name: str) -> None:
    assert "\n".join(findings(CALLS[call], name)) == ""


@given(data=st.data())
def test_several_wrong_arguments_at_once(data: st.DataObject) -> None:
    """Whichever is looked at first: refused with nothing changed, or accepted."""
    call = CALLS[data.draw(st.sampled_from(sorted(CALLS)))]
    wrong = {
        name: data.draw(st.one_of(st.none(), st.sampled_from(sorted(EVIL))), label=name)
        for name in call.parameters
    }
    stage = Stage()
    before = stage.state()
    given = {name: EVIL[label]() for name, label in wrong.items() if label is not None}
    if callable(given.get("work")):
        return
    try:
        call.call(stage, call.arguments(stage, given))
    except (ColoError, OwnError):
        assert stage.state() == before
        stage.works()


class Careless(ColoRam):
    """Control: methods that look at nothing, or only at some of it."""

    def forget(self, page: int) -> None:
        """Wraps at the number's width, takes 1.5 as 1, raises whatever comes."""
        self.host_dirty[0] &= ~np.uint64(1 << int(page * 1))

    def grow(self, size: int) -> None:
        """Changes something before it looks."""
        self.mark_host_dirty("ram", 0)
        self.resize("ram", size)

    def tell(self, page: int) -> int:
        """Says nothing of what is wrong."""
        if not isinstance(page, int):
            raise ColoError("wrong")
        return page


def test_a_method_that_looks_at_nothing_is_noticed() -> None:
    def careless(stage: Stage) -> Careless:
        stage.ram.__class__ = Careless
        return stage.ram  # type: ignore[return-value]

    calls = {call.name: call for call in calls_of(Careless, careless)}
    forget, grow, tell = (
        "\n".join(findings(calls[f"Careless.{name}"], parameter))
        for name, parameter in (("forget", "page"), ("grow", "size"), ("tell", "page"))
    )
    assert "float 1.5: accepted, and means nothing" in forget
    assert "True: accepted, and means nothing" in forget
    assert "None: TypeError, which is no ColoError" in forget
    assert "numpy" in forget and "does something else than its plain value" not in grow
    assert "float 1.5: refused, and something has changed" in grow
    assert "float 1.5: wrong: does not name page" in tell
    assert "numpy B: refused, its plain value not" in tell
