"""Recorded traces: the dual bitmaps of a sequence of checkpoints, in an ``.npz`` without pickles.

Nothing in a file is believed before it has been checked, sizes first: no array is allocated that the
file does not hold. A file may unpack to a thousand times its size, so the bitmaps are read in pieces,
and only those with a bit set take memory: as much as the dirty pages of the guest, not its address
space.
"""

import io
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from impl.bitmap import set_bits, untouched_zeros
from impl.errors import TraceError
from model.boundary.arguments import file_path, listed, shown
from model.boundary.input import open_descriptor
from model.boundary.output import printable, whole_file
from model.errors import ColoError
from model.flush import stray_error
from model.ram import PAGES_PER_WORD, Block, Layout

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
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: What NumPy writes before an array, in bytes.
NPY_HEADER = 128
BITMAPS = ("cache_dirty", "host_dirty")
#: No trace is larger than this when unpacked: bitmaps of 64 epochs of a 1 TiB guest.
LARGEST_TRACE = 4 << 30
#: Nor is any of its other members, which take memory several times this.
LARGEST_TABLE = 16 << 20
MOST_BLOCKS = 1 << 14
LONGEST_SOURCE = 4000
# Read in one go, at most: pieces of a bitmap, the zip's list of members.
_PIECE_BYTES = 1 << 20
# Of these, the ones without a dirty bit are left out; as large as a page of memory.
_PART_WORDS = 512


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
    path = file_path(path, "path", TraceError)
    name = printable(path)
    try:
        with _InPieces(open_descriptor(path)) as file, zipfile.ZipFile(file) as archive:
            _check_list(archive)
            members = {member: _read(archive, member) for member in MEMBERS}
        return _checked(members)
    except OSError as error:
        reason = printable(error.strerror or error)
        raise TraceError(f"{name}: cannot be read: {reason}") from error
    except ColoError as error:
        raise TraceError(f"{name}: {error}") from error
    except MemoryError as error:
        raise TraceError(f"{name}: there is not enough memory for it: cut it") from error
    except Exception as error:
        # Whatever the zip and npy readers raise on damaged bytes is one thing to the user.
        reason = printable(error, 200)
        raise TraceError(
            f"{name}: not a whole trace ({reason}): copy or record it again"
        ) from error


class _InPieces(io.FileIO):
    """A file of which nobody reads much at once: not a list of millions of members, say."""

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, or all that are left. Raises TraceError if that is too much."""
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > _PIECE_BYTES:
            raise TraceError(f"a list or header of {size} bytes: not a trace of dirty bitmaps")
        return super().read(size)


def load_named(paths: Iterable[Path]) -> dict[str, Trace]:
    """Traces by the names to show: the files', or whole paths where two files have the same name."""
    wanted = [file_path(path, "path", TraceError) for path in listed(paths, "paths", TraceError)]
    alike = Counter(path.stem for path in wanted)
    return {printable(path.stem if alike[path.stem] == 1 else path): load(path) for path in wanted}


def save(trace: Trace, path: str | PathLike[str]) -> None:
    """Write a trace, compressed, into exactly this file. OutputError if that cannot be.

    TraceError, and no file, for a trace that would not load as it is.
    """
    place = file_path(path, "path", TraceError)
    members = _members(trace)
    with whole_file(place) as file:
        np.savez_compressed(file, **members)


def check(trace: Trace) -> None:
    """Raise TraceError if a trace would not load as it is."""
    _members(trace)


def most_epochs(layout: Layout) -> int:
    """How many epochs a trace of these blocks may have, so that it can be loaded."""
    of_one = 2 * 8 * layout.words + 8
    return min((LARGEST_TRACE - 2 * LARGEST_TABLE) // of_one, (LARGEST_TABLE - NPY_HEADER) // 8)


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
    _check_sizes({name: member.nbytes + NPY_HEADER for name, member in members.items()})
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
    listed = {info.filename: info for info in archive.infolist()}
    if missing := [name for name in MEMBERS if f"{name}.npy" not in listed]:
        raise TraceError(f"{', '.join(missing)} missing: not a trace of dirty bitmaps")
    if any(info.compress_type not in COMPRESSIONS for info in listed.values()):
        raise TraceError("a member is packed in another way than NumPy does: save it with NumPy")
    _check_sizes({name: listed[f"{name}.npy"].file_size for name in MEMBERS})


def _check_sizes(sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if name not in BITMAPS and size > LARGEST_TABLE:
            raise TraceError(f"{name} unpacks to {size} bytes, more than {LARGEST_TABLE}: cut it")
    if (size := sum(sizes.values())) > LARGEST_TRACE:
        raise TraceError(
            f"unpacks to {size} bytes, more than {LARGEST_TRACE}: cut it into fewer epochs"
        )


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
        if name in BITMAPS:
            return _read_bitmap(file, shape, dtype)
        return np.frombuffer(file.read(size), dtype=dtype).reshape(shape)


def _read_bitmap(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Words:
    """The bitmaps of all epochs; of their words, only the parts with a bit set take memory."""
    if dtype != np.uint64:
        raise TraceError(f"bitmaps are {dtype}: expected uint64 words")
    epochs, words = shape
    bitmaps = untouched_zeros(epochs, words)
    flat = bitmaps.reshape(-1)
    for first in range(0, len(flat), _PIECE_BYTES // 8):
        piece = flat[first : first + _PIECE_BYTES // 8]
        data = np.frombuffer(file.read(piece.nbytes), np.uint64)
        if len(data) != len(piece):
            raise TraceError("a bitmap ends early: copy or record it again")
        whole = len(data) // _PART_WORDS * _PART_WORDS
        parts = data[:whole].reshape(-1, _PART_WORDS)
        dirty = parts.any(axis=1)
        piece[:whole].reshape(-1, _PART_WORDS)[dirty] = parts[dirty]
        if data[whole:].any():
            piece[whole:] = data[whole:]
    bitmaps.flags.writeable = False
    return bitmaps


def _check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    kinds, dimensions = MEMBERS[name]
    if dtype.kind not in kinds or len(shape) != dimensions:
        raise TraceError(f"{name} is {dtype} {shape}: expected {DTYPES[kinds]} in {dimensions}-d")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # others say how long they are in 32 bits
        raise TraceError(f"npy format {version} is unknown: save with NumPy's default")
    return np.lib.format.read_array_header_1_0(file)


def _checked(members: dict[str, npt.NDArray[Any]]) -> Trace:
    columns = [members[f"block_{what}"].tolist() for what in ("name", *LENGTHS)]
    if len({len(column) for column in columns}) != 1:
        raise TraceError("the block_ arrays differ in length: give one entry a block")
    if len(columns[0]) > MOST_BLOCKS:
        raise TraceError(f"there are {len(columns[0])} blocks, more than {MOST_BLOCKS}")
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
    if len(source) > LONGEST_SOURCE:
        raise TraceError(f"the source has {len(source)} characters: use at most {LONGEST_SOURCE}")
    return Trace(layout, cache, host, seconds, source)


def _check_no_stray(layout: Layout, cache: Words, host: Words) -> None:
    (used,) = untouched_zeros(1, layout.words)
    inside = [region.bits for region in layout.regions if region.used_pages]
    first = np.array([bits.start for bits in inside], np.uint64)
    last = np.array([bits.stop - 1 for bits in inside], np.uint64)
    set_bits(used, first, last)
    for epoch in range(len(cache)):
        for bitmap in (cache[epoch], host[epoch]):
            dirty = np.flatnonzero(bitmap)
            stray = bitmap[dirty] & ~used[dirty]
            if len(outside := np.flatnonzero(stray)):
                word, bits = int(dirty[outside[0]]), int(stray[outside[0]])
                page = word * PAGES_PER_WORD + (bits & -bits).bit_length() - 1
                raise TraceError(f"epoch {epoch}: {stray_error(page, layout)}")
