"""Recorded traces: the dual bitmaps of a sequence of checkpoints, in an ``.npz`` without pickles.

Nothing in a file is believed before it has been checked, sizes first: no array is allocated that the
file does not hold.
"""

import math
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from impl.bitmap import set_bits
from impl.errors import TraceError
from model.arguments import shown
from model.flush import stray_error
from model.output import printable, whole_file
from model.ram import PAGES_PER_WORD, Block, ColoError, Layout

Words = npt.NDArray[np.uint64]

LENGTHS = ("offset", "used_length", "max_length")
# Member: the dtype kinds accepted, the number of dimensions.
MEMBERS = {
    "page_size": ("iu", 0),
    "block_name": ("U", 1),
    "block_offset": ("iu", 1),
    "block_used_length": ("iu", 1),
    "block_max_length": ("iu", 1),
    "cache_dirty": ("u", 2),
    "host_dirty": ("u", 2),
    "flush_seconds": ("f", 1),
    "source": ("U", 0),
}
DTYPES = {"iu": "integers", "u": "uint64", "f": "float64", "U": "text"}
#: What NumPy writes before an array, in bytes.
NPY_HEADER = 128
#: No trace is larger than this when unpacked: bitmaps of 64 epochs of a 1 TiB guest.
LARGEST_TRACE = 4 << 30


@dataclass(frozen=True)
class Trace:
    """Bitmaps of a secondary just before each flush.

    ``cache_dirty`` and ``host_dirty`` are uint64 (epochs, words) over the global address space,
    ``flush_seconds`` float64 (epochs,) is the recorder's own time, NaN where unknown.
    """

    layout: Layout
    cache_dirty: Words
    host_dirty: Words
    flush_seconds: npt.NDArray[np.float64]
    source: str

    @property
    def epochs(self) -> int:
        """How many checkpoints were recorded."""
        return len(self.cache_dirty)


def load(path: str | PathLike[str]) -> Trace:
    """Read and check a trace. Raises TraceError saying what is wrong and where."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_list(archive)
            members = {name: _read(archive, name) for name in MEMBERS}
        return _checked(members)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ColoError as error:
        raise TraceError(f"{path}: {error}") from error
    except Exception as error:
        # Whatever the zip and npy readers raise on damaged bytes is one thing to the user.
        raise TraceError(f"{path}: not a whole trace ({error}): copy or record it again") from error


def load_named(paths: Iterable[Path]) -> dict[str, Trace]:
    """Traces by the names to show: the files', or whole paths where two files have the same name."""
    wanted = list(paths)
    alike = Counter(path.stem for path in wanted)
    return {printable(path.stem if alike[path.stem] == 1 else path): load(path) for path in wanted}


def save(trace: Trace, path: str | PathLike[str]) -> None:
    """Write a trace, compressed, into exactly this file. OutputError if that cannot be.

    TraceError, and no file, for a trace that would not load as it is.
    """
    members = _members(trace)
    with whole_file(Path(path)) as file:
        np.savez_compressed(file, **members)


def _members(trace: Trace) -> dict[str, Any]:
    """A trace as the arrays of its file, checked as if they had been read from one."""
    if not isinstance(trace, Trace) or not isinstance(trace.layout, Layout):
        raise TraceError(f"a trace is {shown(trace)}: give a Trace with a Layout")
    if trace.layout.kind != "global":
        raise TraceError(
            "the layout is per-block, and a trace's bitmaps lie over the global address space: "
            "place the bits by Layout(blocks, page_size).regions"
        )
    blocks = trace.layout.blocks
    members = {
        "page_size": np.array(trace.layout.page_size, np.uint64),
        "block_name": np.array([b.name for b in blocks], np.str_),
        "block_offset": np.array([b.offset for b in blocks], np.uint64),
        "block_used_length": np.array([b.used_length for b in blocks], np.uint64),
        "block_max_length": np.array([b.max_length for b in blocks], np.uint64),
        "cache_dirty": _array(trace.cache_dirty, "cache_dirty"),
        "host_dirty": _array(trace.host_dirty, "host_dirty"),
        "flush_seconds": _array(trace.flush_seconds, "flush_seconds"),
        "source": _array(trace.source, "source"),
    }
    for name, member in members.items():
        _check_kind(name, member.shape, member.dtype)
    _check_size(sum(member.nbytes + NPY_HEADER for member in members.values()))
    read_back = _checked(members)
    if read_back.layout != trace.layout or read_back.source != trace.source:
        raise TraceError("the source would not load as it is: write plain text")
    return members


def _array(values: Any, name: str) -> npt.NDArray[Any]:
    """As the loader takes it: in C order."""
    try:
        return np.asarray(values, order="C")
    except (TypeError, ValueError) as error:
        raise TraceError(f"{name} is no array ({error})") from error


def _check_list(archive: zipfile.ZipFile) -> None:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    if missing := [name for name in MEMBERS if f"{name}.npy" not in sizes]:
        raise TraceError(f"{', '.join(missing)} missing: not a trace of dirty bitmaps")
    _check_size(sum(sizes.values()))


def _check_size(size: int) -> None:
    if size > LARGEST_TRACE:
        raise TraceError(f"unpacks to {size} bytes, more than {LARGEST_TRACE}: cut it")


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """One member, its declared shape held against its real size before anything is allocated."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if fortran:
            raise TraceError(f"{name} is in Fortran order: save it in C order")
        _check_kind(name, shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - file.tell():
            raise TraceError(f"{name} claims {size} bytes but holds {info.file_size - file.tell()}")
        return np.frombuffer(file.read(size), dtype=dtype).reshape(shape)


def _check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    kinds, dimensions = MEMBERS[name]
    if dtype.kind not in kinds or len(shape) != dimensions:
        raise TraceError(f"{name} is {dtype} {shape}: expected {DTYPES[kinds]} in {dimensions}-d")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise TraceError(f"npy format {version} is unknown: save with NumPy's default")
    return read(file)


def _checked(members: dict[str, npt.NDArray[Any]]) -> Trace:
    columns = [members[f"block_{what}"].tolist() for what in ("name", *LENGTHS)]
    if len({len(column) for column in columns}) != 1:
        raise TraceError("the block_ arrays differ in length: give one entry a block")
    blocks = tuple(Block(*row) for row in zip(*columns, strict=True))
    layout = Layout(blocks, int(members["page_size"]))

    cache, host = members["cache_dirty"], members["host_dirty"]
    if cache.dtype != np.uint64 or host.dtype != np.uint64:
        raise TraceError(f"bitmaps are {cache.dtype} and {host.dtype}: expected uint64 words")
    if cache.shape != host.shape or cache.shape[1] != layout.words:
        raise TraceError(
            f"bitmaps are {cache.shape} and {host.shape}: the blocks need (epochs, {layout.words})"
        )
    if not len(cache):
        raise TraceError("there are no epochs in it: record at least one flush")
    seconds = members["flush_seconds"].astype(np.float64)
    if len(seconds) != len(cache):
        raise TraceError(f"flush_seconds has {len(seconds)} entries for {len(cache)} epochs")
    if np.isinf(seconds).any() or (seconds < 0).any():
        raise TraceError("flush_seconds has an infinite or negative time: use NaN for unknown")
    _check_no_stray(layout, cache, host)
    source = str(members["source"])
    if not all(text.isprintable() for text in (source, *(block.name for block in blocks))):
        raise TraceError("the source or a block's name is not printable: write plain text")
    return Trace(layout, cache, host, seconds, source)


def _check_no_stray(layout: Layout, cache: Words, host: Words) -> None:
    used = np.zeros(layout.words, np.uint64)
    inside = [region.bits for region in layout.regions if region.used_pages]
    first = np.array([bits.start for bits in inside], np.uint64)
    last = np.array([bits.stop - 1 for bits in inside], np.uint64)
    set_bits(used, first, last)
    outside = ~used
    for epoch in range(len(cache)):
        stray = (cache[epoch] | host[epoch]) & outside
        if words := np.flatnonzero(stray).tolist():
            bits = int(stray[words[0]])
            page = words[0] * PAGES_PER_WORD + (bits & -bits).bit_length() - 1
            raise TraceError(f"epoch {epoch}: {stray_error(page, layout)}")
