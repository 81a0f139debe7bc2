"""Hostile traces: whatever the bytes, the loader gives a trace that is right or a TraceError.

110,000 inputs in the long profile: ``pytest --hypothesis-profile=long tests/impl/test_fuzz_trace.py``.
"""

import io
import os
import random
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl import TraceError
from impl.traces import format as traces
from tests.impl.test_bad_input import members
from tests.support.bits import pages_of
from tests.support.endings import Tell

# A trace of a few hundred bytes has no business with more memory than this.
MOST_MEMORY = 32 << 20


def npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


SMALL = npz(members())


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A file in memory: thousands are written."""
    descriptor = os.memfd_create("trace")
    path = Path(f"/proc/self/fd/{descriptor}")
    path.write_bytes(SMALL)
    traces.load(path)  # compiled here, which takes half a minute where memory is traced
    tracemalloc.start()
    yield path
    tracemalloc.stop()
    os.close(descriptor)


def load(scratch: Path, data: bytes) -> traces.Trace | None:
    """Load ``data``: None if refused. Only TraceError may come out, and little memory go in."""
    scratch.write_bytes(data)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        trace = traces.load(scratch)
    except TraceError as error:
        assert str(error).startswith(str(scratch)), "says which file"
        trace = None
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < MOST_MEMORY
    return trace


def check(trace: traces.Trace) -> None:
    """What a loaded trace promises, looked up page by page."""
    used = [region.bits for region in trace.layout.regions]  # a set of 2^32 pages takes minutes
    for bitmap in (trace.cache_dirty, trace.host_dirty):
        assert (bitmap.dtype, bitmap.shape) == (
            np.dtype(np.uint64),
            (trace.epochs, trace.layout.words),
        )
        for epoch in bitmap:
            for bit in pages_of(epoch):
                assert any(bit in pages for pages in used)
    assert trace.flush_seconds.shape == (trace.epochs,)
    assert trace.epochs
    assert trace.source.isprintable()


@given(data=st.binary(max_size=400))
def test_any_bytes(scratch: Path, data: bytes) -> None:
    assert load(scratch, data) is None
    assert load(scratch, b"PK\x03\x04" + data) is None


def edited(data: bytearray, at: int, how: str, patch: bytes) -> None:
    """Overwrite bytes, cut some out, or insert some."""
    if how == "flip":
        data[at : at + len(patch)] = patch
    elif how == "cut":
        del data[at : at + len(patch)]
    else:
        data[at:at] = patch


HOWS = ["flip", "cut", "insert"]
edits = st.lists(
    st.tuples(st.integers(0, len(SMALL) - 1), st.sampled_from(HOWS), st.binary()),
    min_size=1,
    max_size=6,
)


@given(edits=edits)
def test_a_valid_file_damaged(scratch: Path, edits: list[tuple[int, str, bytes]]) -> None:
    """In zip structures, npy headers and data alike."""
    data = bytearray(SMALL)
    for edit in edits:
        edited(data, *edit)
    if (trace := load(scratch, bytes(data))) is not None:
        check(trace)


sizes = st.sampled_from(
    [0, 1, 2, 63, 64, 65, 2**31, 2**32, 2**40, 2**63 - 1, 2**64 - 1]
) | st.integers(0, 300).map(lambda pages: pages * 1024)
numbers = st.lists(sizes, max_size=3).map(lambda values: np.array(values, np.uint64))
bitmaps = st.builds(
    lambda epochs, words, fill: np.full((epochs, words), fill, np.uint64),
    st.integers(0, 3),
    st.integers(0, 12),
    st.sampled_from([0, 1, 2**63, 2**64 - 1]),
)
odd = st.sampled_from(
    [
        np.array(None, object),
        np.zeros(3, np.float32),
        np.array("x"),
        np.array(["a", "b"]),
        np.zeros((2, 2, 2), np.uint64),
        np.asfortranarray(np.zeros((3, 2), np.uint64)),
        np.array([float("nan"), float("inf"), -1.0]),
        np.zeros(2, [("a", "<u8"), ("b", "<f4")]),
        np.array(-1, np.int64),
        np.zeros(2, "<M8[ns]"),
    ]
)
members_drawn = st.fixed_dictionaries(
    {},
    optional={
        "page_size": st.sampled_from([0, 1, 512, 1024, 4096, 2**21, 2**22, 2**63]).map(np.uint64)
        | odd,
        "block_name": st.lists(st.text(max_size=3), max_size=3).map(lambda n: np.array(n, np.str_))
        | odd,
        "block_offset": numbers | odd,
        "block_used_length": numbers | odd,
        "block_max_length": numbers | odd,
        "cache_dirty": bitmaps | odd,
        "host_dirty": bitmaps | odd,
        "flush_seconds": st.lists(st.floats(), max_size=3).map(lambda s: np.array(s, np.float64))
        | odd,
        "source": st.text(max_size=5).map(np.array) | odd,
    },
)


@given(changed=members_drawn)
def test_a_whole_file_of_odd_members(scratch: Path, changed: dict[str, Any]) -> None:
    """Well-formed files in which sizes, shapes and types don't fit together."""
    if (trace := load(scratch, npz(members(**changed)))) is not None:
        check(trace)


shapes = st.lists(st.sampled_from([-1, 0, 1, 2, 3, 2**20, 2**31, 2**40, 2**63, 10**30]), max_size=4)
types = st.sampled_from(
    ["<u8", "|u1", ">u8", "<U0", "<U999999999", "|O", "|V8", "<u8\\0", "u", "<m8"]
)


@given(
    name=st.sampled_from(sorted(members())),
    shape=shapes,
    dtype=types,
    fortran=st.booleans(),
    body=st.binary(max_size=64),
    listed_size=st.sampled_from([None, 0, 64, 2**31, 2**32 - 1]),
)
def test_headers_that_lie(
    scratch: Path,
    name: str,
    shape: list[int],
    dtype: str,
    fortran: bool,
    body: bytes,
    listed_size: int | None,
) -> None:
    """An npy header by hand over bytes that don't match it, in a zip whose list may lie as well."""
    header = (
        repr({"descr": dtype, "fortran_order": fortran, "shape": tuple(shape)}).encode() + b"\n"
    )
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
    file = io.BytesIO(SMALL)
    with zipfile.ZipFile(io.BytesIO(SMALL)) as whole, zipfile.ZipFile(file, "w") as lying:
        for one in whole.namelist():
            lying.writestr(one, member if one == f"{name}.npy" else whole.read(one))
        if listed_size is not None:
            lying.getinfo(f"{name}.npy").file_size = listed_size
    if (trace := load(scratch, file.getvalue())) is not None:
        check(trace)


def test_very_many_damaged_files(scratch: Path, long_run: bool, tell: Tell) -> None:
    """Edits like above, from a seed each, half of them small changes of single bytes."""
    loaded = 0
    for seed in range(100_000 if long_run else 2000):
        dice, data = random.Random(seed), bytearray(SMALL)
        for _ in range(dice.randint(1, 4)):
            patch = dice.randbytes(1 if seed % 2 else dice.randint(1, 40))
            edited(data, dice.randrange(len(data)), dice.choice(HOWS), patch)
        if (trace := load(scratch, bytes(data))) is not None:
            check(trace)
            loaded += 1
    tell(f"{seed + 1} damaged files: {loaded} still valid, the others refused")
    assert 0 < loaded < seed
