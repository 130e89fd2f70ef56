"""What NRRD and MetaImage files say of themselves, judged before ITK sees their voxels.

ITK guesses where spacing makes no sense, does not look at the checksum of gzip, and does not come
back from some headers.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from convnd.errors import InputFileError

__all__ = ["check_data", "check_geometry", "read_header"]

_LARGEST_HEADER = 2**20
_BLOCK = 2**20


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, lower case, and where the data begin.

    Raises:
        InputFileError: it does not end, or is one that ITK does not come back from.
    """
    with path.open("rb") as file:
        start = file.read(_LARGEST_HEADER)
    bare = False
    metaimage = not start.startswith(b"NRRD")
    fields: dict[str, str] = {}
    place = 0
    while True:
        end = start.find(b"\n", place)
        if end < 0:
            raise InputFileError(
                f"read {path}: expected a header of less than {_LARGEST_HEADER} bytes that ends, "
                "got none; save it again"
            )
        line = start[place:end].decode("utf-8", "replace").strip()
        place = end + 1
        if not metaimage and not line:
            return fields, place
        key, mark, value = line.partition("=" if metaimage else ":")
        bare = bare or (metaimage and line != "" and not mark)
        fields[key.strip().lower()] = value.strip()
        if metaimage and key.strip() == "ElementDataFile":
            if bare:  # ITK would not come back, or abort
                raise InputFileError(
                    f"read {path}: expected a header of lines with '=', got one without; "
                    "check the file"
                )
            return fields, place


def check_geometry(path: Path) -> tuple[float, ...] | None:
    """Spacing as its owner wrote it, where it is written as numbers; ITK would guess for bad ones.

    Raises:
        InputFileError: zero, negative or not finite.
    """
    fields, _ = read_header(path)
    for key in ("elementspacing", "spacings", "elementsize"):
        if key not in fields:
            continue
        try:
            spacing = tuple(float(word) for word in fields[key].split())
        except ValueError:
            spacing = ()
        if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
            raise InputFileError(
                f"read {path}: expected positive finite spacing along 3 axes, got "
                f"{fields[key]!r}; correct the header"
            )
        return spacing
    for key in ("space directions", "space origin", "transformmatrix", "offset"):
        numbers = fields.get(key, "").replace("(", " ").replace(")", " ").replace(",", " ").split()
        bad = [word for word in numbers if word.lower().lstrip("+-") in ("nan", "inf", "none")]
        zero = key == "space directions" and any(
            not any(float(word) for word in vector.strip("()").split(","))
            for vector in fields.get(key, "").split()
            if vector != "none" and not bad
        )
        if bad or zero:
            raise InputFileError(
                f"read {path}: expected finite {key} and none of length 0, got {fields[key]!r}; "
                "correct the header"
            )
    return None


def check_data(path: Path, size: int) -> None:
    """Unpack to the end, keeping nothing: length and checksum must be right.

    Raises:
        InputFileError: they are not, or the voxels are in another file.
    """
    fields, place = read_header(path)
    packed = (
        fields.get("compresseddata", "").lower() == "true"
        or "gz" in fields.get("encoding", "").lower()
    )
    local = fields.get("elementdatafile", "LOCAL").upper() == "LOCAL"
    if not local or "data file" in fields or "datafile" in fields:
        raise InputFileError(
            f"read {path}: expected header and voxels in one file, got a header that names "
            "another; save it as one"
        )
    raw = fields.get("encoding", "raw") in ("raw", "gzip", "gz")
    if not raw:
        return  # text encodings are short and ITK counts them
    found = 0
    with path.open("rb") as file:
        file.seek(place)
        if not packed:
            found = path.stat().st_size - place
        else:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of zlib or gzip
            while not unpacker.eof and found <= size:
                block = unpacker.unconsumed_tail or file.read(_BLOCK)
                if not block:
                    break
                found += len(unpacker.decompress(block, _BLOCK))
            if not unpacker.eof and found <= size:
                raise InputFileError(
                    f"read {path}: expected compressed voxels to their end, got "
                    f"{found:,} bytes; the file is cut short"
                )
    if found != size and (packed or found < size):
        raise InputFileError(
            f"read {path}: expected {size:,} bytes of voxels, got "
            f"{'fewer' if found < size else 'more'}; save it again"
        )
