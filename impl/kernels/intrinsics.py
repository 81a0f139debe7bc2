"""The machine instructions that numba has no spelling for, on raw addresses.

Every function here takes and gives uint64. Addresses are byte addresses of live memory; whoever calls
keeps that memory alive. Little here is x86 only: LLVM lowers a non-temporal store, a prefetch or an
atomic to whatever the target has; the one instruction that has an x86 name has a portable twin.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from impl.machine.host import FUTEX_CALL_NUMBERS, MACHINE, check

check()
#: The x86 name of the fence is used; False also on x86 would be right, if slower.
IS_X86 = MACHINE == "x86_64"
LINE_BYTES = 64
STRIDE_WORDS = 32

# Linux: futex(2) on memory of this process only.
_FUTEX_WAIT_PRIVATE = 128
_FUTEX_WAKE_PRIVATE = 129
_SYS_FUTEX = FUTEX_CALL_NUMBERS[MACHINE]
_CLOCK_MONOTONIC = 1

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_LINE = ir.VectorType(ir.IntType(8), LINE_BYTES)


def _instruction(emit: Callable[..., Any]) -> Any:
    """Make ``emit(builder, *uint64 values) -> uint64 value`` callable from numba kernels."""
    names = list(inspect.signature(emit).parameters)[1:]
    signature = types.uint64(*[types.uint64] * len(names))

    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        result = emit(builder, *values)
        return _I64(0) if result is None else result

    def definition(_typing: Any, *_arguments: Any) -> Any:
        return signature, codegen

    # numba reads the number of arguments off the signature.
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, keyword) for name in ["typing", *names]]
    vars(definition)["__signature__"] = inspect.Signature(parameters)
    definition.__name__, definition.__doc__ = emit.__name__, emit.__doc__
    return intrinsic(definition)


def _pointer(builder: Any, address: Any, to: Any = _I64) -> Any:
    return builder.inttoptr(address, to.as_pointer())


def _external(
    builder: Any, name: str, result: Any, arguments: list[Any], vararg: bool = False
) -> Any:
    function = ir.FunctionType(result, arguments, var_arg=vararg)
    return builder.module.globals.get(name) or ir.Function(builder.module, function, name)


# Bits.


@_instruction
def trailing_zeros(builder: Any, word: Any) -> Any:
    """Zeros below the lowest set bit; 64 for 0."""
    return builder.cttz(word, _I1(0))


@_instruction
def population(builder: Any, word: Any) -> Any:
    """How many bits are set."""
    return builder.ctpop(word)


# Plain and atomic memory.


@_instruction
def load(builder: Any, address: Any) -> Any:
    """The 64-bit word at an 8-byte aligned address."""
    return builder.load(_pointer(builder, address), align=8)


@_instruction
def word_at(builder: Any, array: Any, index: Any) -> Any:
    """Word ``index`` of the array at an 8-byte aligned address, in a form that LLVM vectorises."""
    return builder.load(builder.gep(_pointer(builder, array), [index], inbounds=True), align=8)


@_instruction
def dirty_in_stride(builder: Any, one: Any, other: Any, index: Any) -> Any:
    """Bit ``i``: has word ``index + i`` of one of two arrays a bit set? For STRIDE_WORDS words."""
    words = ir.VectorType(_I64, STRIDE_WORDS)
    places = (builder.gep(_pointer(builder, array), [index]) for array in (one, other))
    loaded = [builder.load(builder.bitcast(p, words.as_pointer()), align=8) for p in places]
    dirty = builder.icmp_unsigned("!=", builder.or_(*loaded), words(None))
    return builder.zext(builder.bitcast(dirty, ir.IntType(STRIDE_WORDS)), _I64)


@_instruction
def store(builder: Any, address: Any, value: Any) -> None:
    """Write the 64-bit word at an 8-byte aligned address."""
    builder.store(value, _pointer(builder, address), align=8)


@_instruction
def atomic_load(builder: Any, address: Any) -> Any:
    """Sequentially consistent load."""
    return builder.load_atomic(_pointer(builder, address), "seq_cst", 8)


@_instruction
def atomic_store(builder: Any, address: Any, value: Any) -> None:
    """Sequentially consistent store."""
    builder.store_atomic(value, _pointer(builder, address), "seq_cst", 8)


@_instruction
def atomic_add(builder: Any, address: Any, value: Any) -> Any:
    """Add, modulo 2^64, and return what was there before; sequentially consistent."""
    return builder.atomic_rmw("add", _pointer(builder, address), value, "seq_cst")


@_instruction
def atomic_and(builder: Any, address: Any, value: Any) -> Any:
    """And, and return what was there before; sequentially consistent."""
    return builder.atomic_rmw("and", _pointer(builder, address), value, "seq_cst")


@_instruction
def atomic_or(builder: Any, address: Any, value: Any) -> Any:
    """Or, and return what was there before; sequentially consistent."""
    return builder.atomic_rmw("or", _pointer(builder, address), value, "seq_cst")


@_instruction
def compare_and_swap(builder: Any, address: Any, expected: Any, desired: Any) -> Any:
    """Write ``desired`` if ``expected`` is there; return what was there; sequentially consistent."""
    pair = builder.cmpxchg(_pointer(builder, address), expected, desired, "seq_cst", "seq_cst")
    return builder.extract_value(pair, 0)


# Copying past the cache.


@_instruction
def stream_line(builder: Any, to: Any, source: Any) -> None:
    """Copy 64 bytes to a 64-byte aligned address with a non-temporal store."""
    line = builder.load(_pointer(builder, source, _LINE), align=1)
    written = builder.store(line, _pointer(builder, to, _LINE), align=LINE_BYTES)
    written.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))


@_instruction
def copy_bytes(builder: Any, to: Any, source: Any, length: Any) -> None:
    """``memcpy``: any alignment, no overlap."""
    byte = ir.IntType(8).as_pointer()
    memcpy = _external(builder, "memcpy", byte, [byte, byte, _I64])
    arguments = [builder.inttoptr(to, byte), builder.inttoptr(source, byte), length]
    builder.call(memcpy, arguments)


@_instruction
def prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address, soon to be read; any address is harmless."""
    byte = ir.IntType(8).as_pointer()
    function = _external(builder, "llvm.prefetch.p0i8", ir.VoidType(), [byte, _I32, _I32, _I32])
    builder.call(function, [builder.inttoptr(address, byte), _I32(0), _I32(3), _I32(1)])


@_instruction
def fence_stores(builder: Any) -> None:
    """Everything stored before, non-temporally too, is visible before anything stored after."""
    if IS_X86:
        builder.call(_external(builder, "llvm.x86.sse.sfence", ir.VoidType(), []), [])
    else:
        builder.fence("seq_cst")


# Sleeping, waking, time.


@_instruction
def this_process(builder: Any) -> Any:
    """The number of this process: another one in a child after ``fork``."""
    return builder.zext(builder.call(_external(builder, "getpid", _I32, []), []), _I64)


@_instruction
def this_cpu(builder: Any) -> Any:
    """The number of the CPU that runs this thread just now; a huge number if the kernel does not say."""
    return builder.sext(builder.call(_external(builder, "sched_getcpu", _I32, []), []), _I64)


@_instruction
def give_way(builder: Any) -> None:
    """Let another thread that waits for this processor run first (``sched_yield``)."""
    builder.call(_external(builder, "sched_yield", _I32, []), [])


def _futex(builder: Any, address: Any, operation: int, value: Any) -> Any:
    syscall = _external(builder, "syscall", _I64, [_I64], vararg=True)
    zero = _I64(0)
    return builder.call(
        syscall, [_I64(_SYS_FUTEX), address, _I64(operation), value, zero, zero, zero]
    )


@_instruction
def futex_wait(builder: Any, address: Any, seen: Any) -> Any:
    """Sleep while the low 32 bits at ``address`` equal those of ``seen``; may wake spuriously."""
    return _futex(builder, address, _FUTEX_WAIT_PRIVATE, seen)


@_instruction
def futex_wake(builder: Any, address: Any, count: Any) -> Any:
    """Wake at most ``count`` threads asleep on ``address``."""
    return _futex(builder, address, _FUTEX_WAKE_PRIVATE, count)


@_instruction
def nanoseconds(builder: Any) -> Any:
    """The monotonic clock."""
    time = ir.ArrayType(_I64, 2)
    clock = _external(builder, "clock_gettime", _I32, [_I32, time.as_pointer()])
    with builder.goto_entry_block():
        now = builder.alloca(time)
    builder.call(clock, [_I32(_CLOCK_MONOTONIC), now])
    value = builder.load(now)
    seconds, rest = builder.extract_value(value, 0), builder.extract_value(value, 1)
    return builder.add(builder.mul(seconds, _I64(10**9)), rest)
