"""MATLAB and HDF5 files of signals: ``.mat``, ``.h5`` and ``.hdf5``, read only.

A ``.mat`` of version 7.3 is an HDF5 file. The meaning of its arrays is given by
`convnd.io.signals.arrays`. Objects are not loaded, and links to other files are not followed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convnd.errors import InputFileError
from convnd.io.reading import check_limit, import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.arrays import NamedArrays, recording_of
from convnd.io.signals.limits import check_held, check_samples
from convnd.io.signals.request import NUMBERS, Content, Expect, request_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["FORMATS", "decode_hdf5", "decode_mat", "read_hdf5", "read_mat"]

_BLOCK = 2**20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_DEEPEST = 4  # levels of nested structures
_LONGEST_TEXT, _LARGEST_TEXT = 10_000, 2**22  # entries and bytes of an array of words
_MOST_DATASETS = 2000
_MOST_AXES = 4
_COMPRESSED = 15  # the type of a compressed element in a MATLAB file
# Bytes that any MATLAB file may unpack into, and for each byte of its length.
_FREE, _PACKED = 2**23, 32


def read_mat(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a MATLAB file of any version.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all arrays.

    Returns:
        Values ``(1, C, T)``.

    Raises:
        InputFileError: no recording in it, several, damaged, or too large.
        DependencyError: scipy is missing, or h5py for version 7.3.
    """
    with translate_errors(path, "a MATLAB file"), path.open("rb") as file:
        head = file.read(520)
    if _HDF5 in (head[:8], head[512:520]):
        return read_hdf5(path, max_pixels=max_pixels)
    arrays, fields = request_arrays(path, "MATLAB", "a MATLAB file", max_pixels)
    with translate_errors(path, "a MATLAB file"):
        return recording_of(path, NamedArrays(arrays, _texts(fields)), "MATLAB")


def decode_mat(path: Path, max_samples: int, expect_samples: Expect) -> Content:
    """Decode a MATLAB file of version 4 to 7, in a child process.

    Yields:
        Arrays of numbers; then ``texts``.
    """
    scipy_io = import_optional("scipy.io", f"read {path}")
    with translate_errors(path, "a MATLAB file"):
        _check_unpacked(path)
        count = 0
        for _, shape, kind in scipy_io.whosmat(str(path)):
            if kind != "struct":
                size = 1
                for extent in shape:
                    size *= int(extent)
                count += size
        check_samples(path, count, max_samples)
        # scipy allocates arrays of objects before it reads any.
        check_held(path, count, path.stat().st_size, free=_FREE, per_byte=_PACKED)
        expect_samples(count)
        yield from _content(*_gather(scipy_io.loadmat(str(path), simplify_cells=True)))


def _content(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, tuple[str, ...]]) -> Content:
    """Yield arrays without their axes of length 1, then texts."""
    import numpy as np

    for name, array in arrays.items():
        squeezed = np.squeeze(array)
        if squeezed.ndim <= _MOST_AXES and array.dtype.kind in NUMBERS:
            number = squeezed.astype(np.float64) if array.dtype.itemsize > 8 else squeezed
            yield name, np.atleast_1d(number), {}
    size = sum(len(text) + 8 for words in texts.values() for text in words)
    if size > _LARGEST_TEXT:
        raise ValueError(f"{size:,} letters of text")
    yield "", None, {"texts": texts}


def _texts(fields: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {str(name): tuple(map(str, words)) for name, words in fields["texts"].items()}


def _check_unpacked(path: Path) -> None:
    """Refuse a file whose compressed elements unpack into many times its length."""
    length, unpacked = path.stat().st_size, 0
    limit = _FREE + _PACKED * length
    with path.open("rb") as file:
        order: Literal["little", "big"] = "little" if file.read(128)[126:] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            kind, size = (int.from_bytes(tag[k : k + 4], order) for k in (0, 4))
            end = file.tell() + size
            unpacker = zlib.decompressobj()
            while kind == _COMPRESSED and unpacked <= limit and not unpacker.eof:
                block = unpacker.unconsumed_tail or file.read(min(_BLOCK, end - file.tell()))
                if not block:
                    break
                unpacked += len(unpacker.decompress(block, _BLOCK))
            what = "bytes in a file of its length"
            check_limit(path, unpacked, limit, what, "save it without compression")
            file.seek(end)


def _gather(loaded: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[str, ...]]]:
    """Arrays and texts of nested structures."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    texts: dict[str, tuple[str, ...]] = {}

    def collect(name: str, value: Any, depth: int) -> None:
        if isinstance(value, dict) and depth < _DEEPEST:
            for key, item in value.items():
                if not str(key).startswith("__"):
                    collect(f"{name}.{key}" if name else str(key), item, depth + 1)
        elif isinstance(value, str):
            texts[name] = (value,)
        elif isinstance(value, int | float | np.number | np.ndarray):
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                arrays[name] = array
            elif array.size <= _LONGEST_TEXT and all(isinstance(x, str) for x in array.reshape(-1)):
                texts[name] = tuple(str(text).strip() for text in array.reshape(-1))

    collect("", loaded, 0)
    return arrays, texts


def read_hdf5(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read an HDF5 file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all arrays.

    Returns:
        Values ``(1, C, T)``; the sampling rate may be a dataset or an attribute.

    Raises:
        InputFileError: no recording in it, several, damaged, or too large.
        DependencyError: h5py is missing.
    """
    arrays, fields = request_arrays(path, "HDF5", "an HDF5 file", max_pixels)
    with translate_errors(path, "an HDF5 file"):
        return recording_of(path, NamedArrays(arrays, _texts(fields)), "HDF5")


def decode_hdf5(path: Path, max_samples: int, expect_samples: Expect) -> Content:
    """Decode an HDF5 file, in a child process.

    Yields:
        Arrays of numbers; then ``texts``.
    """
    h5py = import_optional("h5py", f"read {path}", "tables")
    with translate_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
        datasets = dict(_datasets(h5py, file))
        numbers = {k: d for k, d in datasets.items() if d.dtype.kind in NUMBERS}
        count = sum(dataset.size for dataset in numbers.values())
        check_samples(path, count, max_samples)
        # Nothing is stored of chunks that nobody wrote; one chunk is read at least.
        chunks = sum(math.prod(dataset.chunks or ()) for dataset in numbers.values())
        check_held(path, max(count, chunks), path.stat().st_size)
        expect_samples(max(count, chunks))
        arrays = {name: dataset[()] for name, dataset in numbers.items()}
        texts = {
            name: tuple(_text(item) for item in dataset[()].reshape(-1))
            for name, dataset in datasets.items()
            if dataset.dtype.kind in "SO" and 0 < dataset.size <= _LONGEST_TEXT and dataset.shape
            if dataset.size * dataset.dtype.itemsize <= _LARGEST_TEXT
            if math.prod(dataset.chunks or ()) * dataset.dtype.itemsize <= _LARGEST_TEXT
        }
        for owner in (file, *datasets.values()):
            for key, value in owner.attrs.items():
                _add_attribute(key, value, arrays, texts)
    if not numbers:
        raise InputFileError(
            f"read {path}", expected="arrays of numbers", got="none", remedy="check the file"
        )
    yield from _content(arrays, texts)


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Datasets that lie in the file itself; `visititems` follows no links."""
    datasets: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        is_local = isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external
        if len(datasets) > _MOST_DATASETS:
            raise ValueError(f"more than {_MOST_DATASETS:,} arrays")
        if is_local and item.dtype.kind in "biufSO" and not name.startswith("#"):
            datasets.append((name.replace("/", "."), item))

    file.visititems(visit)
    return iter(datasets)


def _add_attribute(
    key: str, value: Any, arrays: dict[str, Any], texts: dict[str, tuple[str, ...]]
) -> None:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind in "iuf" and array.size == 1:
        arrays.setdefault(f"attributes.{key}", array)
    elif array.dtype.kind in "SOU" and array.size <= _LONGEST_TEXT:
        texts.setdefault(f"attributes.{key}", tuple(_text(item) for item in array.reshape(-1)))


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace").strip() if isinstance(item, bytes) else str(item).strip()


FORMATS = (
    Format(name="MATLAB", suffixes=(".mat",), spatial_dims=1, read=read_mat, write=None),
    Format(name="HDF5", suffixes=(".h5", ".hdf5"), spatial_dims=1, read=read_hdf5, write=None),
)
