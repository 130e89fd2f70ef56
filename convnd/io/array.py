"""NumPy arrays: ``.npy`` and ``.npz``, channels first.

An array of shape ``(C, *S)`` becomes values ``(1, C, *S)``; an array of one axis is one channel.
``.npz`` holds it as ``values`` (or as its only array, under any name), and may add ``spacing``,
``units``, ``axes`` and ``channels`` of `Grid`, and ``signal``: units, start and annotations of a
signal as JSON. An archive of leads with a sampling rate (``fs``) or a vector of times is read as a
recording, see `convnd.io.signals.arrays`. Values keep their units and gaps (NaN), and become
float32; arrays of floating point are written back in the type of the input, and values of float64
that did not change keep all digits. Pickles are never loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.provenance import parse_provenance
from convnd.io.quantization import IntegerEncoding, integer_header, plain_integers
from convnd.io.reading import check_limit, check_positions, size_limit, translate_errors
from convnd.io.registry import SIGNAL_METADATA, Format
from convnd.io.signals.arrays import RATE_NAMES, NamedArrays, recording_of, simple_name
from convnd.io.signals.signal import from_json, signal_of, to_json
from convnd.io.signals.time_names import SECONDS, parse_name

if TYPE_CHECKING:
    import zipfile

    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VALUES", "read_npy", "read_npz", "without_channels"]

MAX_VALUES = 2**30  # 4 GiB as float32
_NO_CHANNELS = "without_channels"  # key of a header
_EXACT = "exact_values"  # key of a header: the float64 ``(C, *S)`` of a file
_LONGEST_START = 2**16
_LABELS = ("units", "axes", "channels")
_MAX_LABELS = 2**16
_MAX_TABLE = 2**20  # bytes of the table of entries of an archive
_DEFLATE_LIMIT = 1100  # deflate packs at most 1032 bytes into one
_MAX_TEXT = 2**23  # bytes of an array of text, four for each character


def read_npy(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read ``.npy``.

    Args:
        path: an existing file.
        max_pixels: largest number of values over all channels; None for `MAX_VALUES`.

    Returns:
        Values ``(1, C, *S)``, spacing 1 px. ``header["dtype"]`` is the type to write back.

    Raises:
        InputFileError: not an array of real numbers, damaged, empty, or too large.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "a NumPy array"), path.open("rb") as file:
        length = path.stat().st_size
        return _grid(path, _load(path, file, length, size_limit(max_pixels, MAX_VALUES)))


def read_npz(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read ``.npz``; the documentation of this module lists its entries.

    Args:
        path: an existing file.
        max_pixels: largest number of values over all channels; None for `MAX_VALUES`.

    Returns:
        Values ``(1, C, *S)``, with spacing and names of the file.

    Raises:
        InputFileError: not exactly one array, not real numbers, damaged, empty, too large, or
            spacing and names that do not fit the values.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "an .npz archive"), _open_archive(path) as archive:
        entries = {Path(name).stem: name for name in archive.namelist() if name.endswith(".npy")}
        extras = {"spacing", *_LABELS, "record", "signal"}
        candidates = [name for name in entries if name == "values"] or [
            name for name in entries if name not in extras
        ]
        if "values" not in entries and _is_recording(entries):
            return _recording(path, archive, entries, size_limit(max_pixels, MAX_VALUES))
        if len(candidates) != 1:
            raise InputFileError(
                f"read {path}",
                expected="an array called values, or one array alone",
                got=", ".join(entries) or "none",
                remedy="save it as values",
            )

        def load(name: str, kinds: str, limit: int) -> NDArray[Any]:
            return _load_entry(path, archive, entries[name], limit, kinds)

        values = load(candidates[0], "biuf", size_limit(max_pixels, MAX_VALUES))
        metadata: dict[str, Any] = {
            name: tuple(str(label) for label in load(name, "U", _MAX_LABELS))
            for name in _LABELS
            if name in entries
        }
        if "spacing" in entries:
            spacing = load("spacing", "iuf", _MAX_LABELS)
            metadata["spacing"] = tuple(float(step) for step in spacing)
        grid = _in_seconds(_grid(path, values, **metadata))
        if "signal" not in entries:
            return grid
        signal = from_json(str(load("signal", "U", 1)))
        return dataclasses.replace(grid, header={**grid.header, "signal": signal})


def _is_recording(entries: Mapping[str, str]) -> bool:
    """Whether the names of arrays are those of a recording: one is a sampling rate or a time."""
    return len(entries) > 1 and any(
        simple_name(name) in RATE_NAMES or parse_name(name, None).is_time for name in entries
    )


def _recording(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, str], limit: int
) -> Grid:
    """Return the recording that the arrays hold, see `convnd.io.signals.arrays`."""
    arrays, texts = {}, {}
    for name, entry in entries.items():
        array = _load_entry(path, archive, entry, limit, "biufU")
        limit = max(0, limit - array.size)
        if array.dtype.kind == "U":
            texts[name] = tuple(str(text) for text in array.reshape(-1))
        else:
            arrays[name] = array
    return recording_of(path, NamedArrays(arrays, texts), "npz")


def _in_seconds(grid: Grid) -> Grid:
    """The grid with its spacing in seconds, if that is in another unit of time."""
    if grid.ndim != 1 or grid.units[0].lower() not in SECONDS:
        return grid
    step = Fraction(str(grid.spacing[0])) * SECONDS[grid.units[0].lower()]
    return dataclasses.replace(grid, spacing=(float(step),), units=("s",))


class _ArchiveFile(io.FileIO):
    """A zip archive that refuses a long table of entries, each of which takes much memory."""

    table_is_read = False

    def read(self, size: int | None = -1) -> bytes:
        size = -1 if size is None else size
        if not self.table_is_read:
            if size > _MAX_TABLE:
                raise ValueError(f"more than {_MAX_TABLE:,} bytes of names")
            size = size if size >= 0 else _MAX_TABLE
        return super().read(size)


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    import zipfile

    with _ArchiveFile(path) as file, zipfile.ZipFile(file) as archive:
        file.table_is_read = True
        size, file_size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        what = "bytes in a file of its length"
        check_limit(path, size, _DEFLATE_LIMIT * file_size, what, "save it again")
        yield archive


def _load_entry(
    path: Path, archive: zipfile.ZipFile, name: str, limit: int, kinds: str
) -> NDArray[Any]:
    """Read an array of an archive; refuse compression that NumPy does not write."""
    import zipfile

    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputFileError(
            f"read {path}",
            expected="entries that are stored or deflated",
            got=f"compression {entry.compress_type} of {name}",
            remedy="save it with numpy.savez_compressed",
        )
    with archive.open(entry) as file:
        return _load(path, file, entry.file_size, limit, kinds=kinds)


def _load(
    path: Path, file: IO[bytes], length: int, limit: int, *, kinds: str = "biuf"
) -> NDArray[Any]:
    """Read an array from ``length`` bytes, after comparing them with what its header declares."""
    import numpy as np
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    start = io.BytesIO(file.read(_LONGEST_START))  # a header may declare any length
    version = npy.read_magic(start)
    if version not in readers:
        raise InputFileError(
            f"read {path}", expected=".npy version 1 or 2", got=version, remedy="save it again"
        )
    shape, fortran, dtype = readers[version](start)
    file.seek(start.tell())
    if dtype.kind not in kinds:
        content = "text" if kinds == "U" else "real numbers"
        raise InputFileError(
            f"read {path}", expected=f"an array of {content}", got=dtype, remedy="convert it"
        )
    check_positions(path, shape, limit)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind == "U":
        check_limit(path, size, _MAX_TEXT, "bytes of text", "shorten it")
    remaining = length - file.tell()
    data = file.read(size) if remaining == size else b""
    # Reading past the end is also what makes a zip archive compare its checksum.
    if len(data) != size or file.read(1):
        raise InputFileError(
            f"read {path}",
            expected=f"{size:,} bytes for an array of shape {shape}",
            got="more" if remaining > size else "fewer",
            remedy="save it again",
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _grid(path: Path, array: NDArray[Any], **metadata: Any) -> Grid:
    import numpy as np
    import torch

    if array.ndim == 0:
        raise InputFileError(
            f"read {path}",
            expected="an array of shape (C, *S)",
            got="a single number",
            remedy="add axes",
        )
    if array.ndim == 1:
        array = array[None]
    with np.errstate(over="raise"):  # float64 beyond float32
        values = torch.from_numpy(np.array(array, np.float32, order="C"))[None]
    floating = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    header: dict[str, object] = {"dtype": array.dtype.name if floating else "float32"}
    if array.dtype.kind in "iu":
        header |= integer_header(array, IntegerEncoding(array.dtype.newbyteorder("=").name))
    elif header["dtype"] == "float64" and not np.array_equal(values[0], array, equal_nan=True):
        header[_EXACT] = array
    return Grid(values=values, header=header, **metadata)


def without_channels(grid: Grid) -> Grid:
    """Read the first axis of an array as a spatial one; the array then has a single channel.

    Args:
        grid: the array, as `read_npy` gives it.

    Returns:
        Values ``(1, 1, C, *S)``. As ``.npy`` and ``.npz`` they are written without channels, too.

    >>> import torch
    >>> without_channels(Grid(values=torch.zeros(1, 8, 5, 6))).shape
    (8, 5, 6)
    """
    header = {**grid.header, _NO_CHANNELS: True}
    for key in header.keys() & {"integer_codes", _EXACT}:
        header[key] = cast("NDArray[Any]", header[key])[None]
    return Grid(values=grid.values[:, None], header=header)


def _array(grid: Grid) -> NDArray[Any]:
    """Return values of the shape and, unless they exceed its range, the type of the input."""
    array = _channels_first(grid)
    return array[0] if grid.header.get(_NO_CHANNELS) and len(array) == 1 else array


def _channels_first(grid: Grid) -> NDArray[Any]:
    import numpy as np

    integers = plain_integers(grid)
    if integers is not None:
        return integers
    values = grid.values.detach().to("cpu").float()[0].numpy()
    dtype = str(grid.header.get("dtype", "float32"))
    if dtype not in {"float16", "float64"}:
        return values
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    exact = grid.header.get(_EXACT)
    if isinstance(exact, np.ndarray) and exact.shape == cast.shape:  # unchanged values keep digits
        np.copyto(cast, exact, where=exact.astype(np.float32) == values)
    return cast if np.array_equal(np.isfinite(cast), np.isfinite(values)) else values


def _write_npy(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: npy cannot store it.
    import numpy as np

    with path.open("wb") as file:
        np.save(file, _array(grid), allow_pickle=False)


def _write_npz(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    import numpy as np

    entries: dict[str, Any] = {"values": _array(grid), "spacing": np.array(grid.spacing)}
    entries |= {name: np.array(getattr(grid, name)) for name in _LABELS}
    signal = signal_of(grid)
    if signal.units or signal.start or signal.annotations:
        entries["signal"] = np.array(to_json(signal))
    if provenance:
        entries["record"] = np.array(json.dumps(dict(provenance)))
    with path.open("wb") as file:
        np.savez_compressed(file, **entries)


def _read_provenance(path: Path) -> dict[str, str]:
    with _open_archive(path) as archive:
        if "record.npy" not in archive.namelist():
            return {}
        return parse_provenance(str(_load_entry(path, archive, "record.npy", 1, "U")))


FORMATS = (
    Format(
        name="npy",
        suffixes=(".npy",),
        spatial_dims=None,
        read=read_npy,
        write=_write_npy,
        unsupported_metadata=("sampling rate", *SIGNAL_METADATA),
    ),
    Format(
        name="npz",
        suffixes=(".npz",),
        spatial_dims=None,
        read=read_npz,
        write=_write_npz,
        unsupported_metadata=("gain and baseline", "leads of other rates"),
        read_provenance=_read_provenance,
    ),
)
