"""Reads one DICOM file with pydicom, an optional package, within limits of memory.

Files without the preamble of 128 bytes or without meta information are read as well.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from convnd.errors import ConvndError, InputFileError
from convnd.io.atomic import error_text
from convnd.io.reading import check_limit, import_optional
from convnd.io.silence import silence_libraries
from convnd.io.worker.client import request

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "damage_error",
    "declared_size",
    "decode_pixels",
    "is_dicom",
    "read_dataset",
    "read_header",
]

_BLOCK = 2**20
_PREAMBLE = 132
_MAX_META = 2**16  # bytes of information about the file
# Types of values whose length has 32 bits.
_LONG_VALUES = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
# Bytes that one byte of compressed pixels can become: runs of RLE are of 128, and a block of 64
# pixels takes at least a bit in a JPEG. Others have no limit.
_RLE_LIMIT, _JPEG_LIMIT = 64, 1100
# Bytes of pixels that a decoder without such a limit may give for a small file.
_MAX_UNBOUNDED = 2**26
_DECODERS = 'pip install "pylibjpeg[all]", or save the series uncompressed (gdcmconv --raw)'
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DEFLATED_FREE = 2**21  # bytes that any deflated file may unpack into
_DEFLATED_LIMIT = 30  # or so many times its length; real data shrink to a half
# Times that pydicom may read from any file, and bytes of the file for each further time. It reads
# two or three times for an element, which takes about 400 bytes of memory; an item takes 1,500.
_FREE_READS, _BYTES_PER_READ = 2**17, 256
# A number in a list takes two bytes of a file and a hundred of memory.
_LARGEST_LIST, _MOST_ITEMS = 2**18, 50_000
_LISTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI")
_ITEM = b"\xfe\xff\0\xe0"
# The first element of a file without information about itself is of group 8: its tag, then its type
# or, if types are implicit, the high half of its length.
_BARE = re.compile(rb"\x08\0[\0-\x18]\0(?:[A-Z]{2}|..\0\0)|\0\x08\0[\0-\x18][A-Z]{2}", re.DOTALL)


def is_dicom(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a DICOM file."""
    return (
        start[_PREAMBLE - 4 : _PREAMBLE] == b"DICM"
        or start.startswith(b"\x02\0\0\0UL")
        or _BARE.match(start) is not None
    )


def read_dataset(file: Path, *, stop_before_pixels: bool = False) -> Any:
    """Read one file with pydicom, unless it unpacks into many times its length.

    Raises:
        InputFileError: it is no DICOM file, or is deflated and unpacks into too much.
        DependencyError: pydicom is not installed.
    """
    pydicom = import_optional("pydicom", f"read {file}", extra="volumes")
    with _CountedFile(file) as stream:
        start = stream.read(_MAX_META)
        if not is_dicom(start):
            raise InputFileError(
                f"read {file}", expected="a DICOM file", got="other content", remedy="check it"
            )
        has_preamble = start[_PREAMBLE - 4 : _PREAMBLE] == b"DICM"
        if _is_deflated(pydicom, stream, start, has_preamble=has_preamble):
            stream.seek(_end_of_meta(file, start, _PREAMBLE if has_preamble else 0))
            _check_deflated(file, stream)
        stream.seek(0)
        dataset = pydicom.dcmread(
            stream, stop_before_pixels=stop_before_pixels, force=not has_preamble
        )
    _check_values(pydicom, file, dataset)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else pydicom.uid.ExplicitVRBigEndian
        )
    return dataset


def read_header(path: Path, file: Path) -> Any:
    """Read a file of a series without its pixels.

    Args:
        path: what was asked for, for messages.
        file: the file.

    Raises:
        InputFileError: it is damaged; the message names it.
    """
    try:
        with silence_libraries():
            return read_dataset(file, stop_before_pixels=True)
    except (ConvndError, MemoryError, FileNotFoundError):
        raise
    except Exception as error:
        raise damage_error(path, file, error) from error


def decode_pixels(path: Path, file: Path) -> tuple[Any, NDArray[Any]]:
    """Read a file with its pixels.

    Args:
        path: what was asked for, for messages.
        file: the file.

    Returns:
        The data set without pixels; and the stored numbers, ``(frames, rows, columns)``.

    Raises:
        InputFileError: the pixels are damaged, or more than the file can hold.
    """
    import numpy as np

    dataset = read_dataset(file)
    _check_pixels(path, file, dataset)
    try:
        pixels = _request_pixels(file, dataset) if _is_packed(dataset) else dataset.pixel_array
    except (ConvndError, MemoryError):
        raise
    except Exception as error:
        raise damage_error(path, file, error, what="pixels that can be decoded") from error
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    pixels = np.reshape(pixels, (-1, rows, columns))
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored", 0))
    if pixels.dtype.kind in "iu" and 0 < stored < allocated == 8 * pixels.dtype.itemsize:
        # Bits above those of the number may hold an overlay, or lack the sign.
        pixels = (pixels << (allocated - stored)) >> (allocated - stored)
    for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if name in dataset:
            del dataset[name]
    return dataset, pixels


def _check_values(pydicom: Any, file: Path, dataset: Any) -> None:
    """Refuse lists of texts and sequences that pydicom would turn into very many objects."""
    most = _MOST_ITEMS + file.stat().st_size // _BYTES_PER_READ
    items, pending = 0, [dataset]
    while pending:
        dataset = pending.pop()
        for element in list(dataset.values()):  # as they stand in the file
            kind = _known_kind(pydicom, element)
            value = element.value
            size = len(value) if isinstance(value, bytes) else 0
            if kind == "SQ":
                items += value.count(_ITEM) if size else len(value or ())
            if items > most or (kind in _LISTS and size > _LARGEST_LIST):
                raise InputFileError(
                    f"read {file}",
                    expected=f"at most {_LARGEST_LIST:,} bytes of text in an element, and "
                    f"{most:,} items",
                    got=f"more in {element.tag}",
                    remedy="the file is damaged",
                )
            if kind == "SQ" and size > _LARGEST_LIST and not element.tag.is_private:
                value = dataset[element.tag].value  # parsed once, whoever asks for it
            if isinstance(value, pydicom.Sequence):
                pending += value


def _known_kind(pydicom: Any, element: Any) -> str | None:
    """The type of an element's values; that of the standard if the file tells none."""
    kind: str | None = element.VR
    if kind in (None, "UN") and pydicom.datadict.dictionary_has_tag(element.tag):
        kind = pydicom.datadict.dictionary_VR(element.tag)
    return kind


class _CountedFile(io.BufferedReader):
    """A file that refuses to be read in too many small pieces."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb", buffering=0))
        self._path = path
        self._reads = _FREE_READS + path.stat().st_size // _BYTES_PER_READ

    def read(self, size: int | None = -1) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise InputFileError(
                f"read {self._path}",
                expected="as many elements as an image of this length has",
                got="many more",
                remedy="the file is damaged",
            )
        return super().read(size)


def _is_deflated(pydicom: Any, stream: IO[bytes], start: bytes, *, has_preamble: bool) -> bool:
    if not has_preamble:
        return _DEFLATED in start
    stream.seek(_PREAMBLE)
    meta = pydicom.filereader._read_file_meta_info(stream)
    return bool(meta.get("TransferSyntaxUID") == _DEFLATED.decode())


def _end_of_meta(file: Path, start: bytes, position: int) -> int:
    """Return where the data set begins, in bytes: after the last element of group 2.

    The length that the file declares is ignored, since pydicom ignores it, too.
    """
    while start[position : position + 2] == b"\x02\0" and position < _MAX_META:
        long = start[position + 4 : position + 6].decode("ascii", "replace") in _LONG_VALUES
        place, size = (8, 4) if long else (6, 2)
        length = start[position + place : position + place + size]
        position += place + size + int.from_bytes(length, "little")
    if position >= len(start):
        raise InputFileError(
            f"read {file}",
            expected="file meta information that ends",
            got="none",
            remedy="check the file",
        )
    return position


def _check_deflated(file: Path, stream: IO[bytes]) -> None:
    """Unpack the rest in blocks to measure it: pydicom would unpack all of it at once."""
    limit = max(_DEFLATED_FREE, _DEFLATED_LIMIT * file.stat().st_size)
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not unpacker.eof and size <= limit:
        block = unpacker.unconsumed_tail or stream.read(_BLOCK)
        if not block:
            break
        size += len(unpacker.decompress(block, _BLOCK))
    what = "bytes in a deflated file of its length"
    check_limit(file, size, limit, what, "save it uncompressed")


def _is_packed(dataset: Any) -> bool:
    """Whether pixels are compressed by themselves."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    return getattr(syntax, "is_compressed", False) and not getattr(syntax, "is_deflated", False)


def declared_size(dataset: Any) -> int:
    """Return the number of bytes of pixels that a header declares."""
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    values = frames * int(dataset.Rows) * int(dataset.Columns)
    return values * max(1, int(dataset.get("BitsAllocated", 8)) // 8)


def _request_pixels(file: Path, dataset: Any) -> NDArray[Any]:
    """Let a child decode compressed pixels, with whatever codecs are installed."""
    size = declared_size(dataset)
    with request(
        file, {"decoder": "volumes.dicom_decoder"}, max_values=size, reuse=True
    ) as messages:
        _, pixels = next(messages)
        next(messages)  # the end
    if pixels is None:
        raise ValueError("no pixels")
    return pixels


def _check_pixels(path: Path, file: Path, dataset: Any) -> None:
    """Refuse compressed pixels that the file is too short for, before memory is taken for them."""
    import pydicom

    if not _is_packed(dataset):
        return
    syntax, size = dataset.file_meta.TransferSyntaxUID, declared_size(dataset)
    limit = max(_MAX_UNBOUNDED, _JPEG_LIMIT * len(dataset.PixelData))
    if syntax == pydicom.uid.RLELossless:
        limit = _RLE_LIMIT * len(dataset.PixelData)
    elif syntax in (pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEGExtended12Bit):
        limit = _JPEG_LIMIT * len(dataset.PixelData)
    what = f"bytes of pixels for the length of {file.name}"
    check_limit(path, size, limit, what, "the file is cut short or damaged")


def damage_error(
    path: Path, file: Path, error: Exception, what: str = "a DICOM file that can be read"
) -> InputFileError:
    """Return the error for a file that pydicom cannot read or decode."""
    name = "" if file == path else f" in {file.name}"
    text = error_text(error)
    lacks_decoder = "Unable to decompress" in text
    return InputFileError(
        f"read {path}",
        expected=what,
        got=f"'{text[:160]}'{name}",
        remedy=_DECODERS if lacks_decoder else "save the series uncompressed, or check the file",
    )
