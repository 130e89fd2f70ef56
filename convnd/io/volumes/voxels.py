"""Voxels that are written, and the voxels of NRRD and MetaImage files.

The reader checks length and checksum, and unpacks no more than the header declares.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from convnd.errors import InputFileError, NumericalError
from convnd.io.volumes.gzip_members import allowed_members
from convnd.io.volumes.header import VolumeHeader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["count_missing", "read_voxels", "size_error", "voxels_to_write"]

_BLOCK = 2**20
_DEFLATE_LIMIT = 1100  # deflate packs at most 1032 bytes into one
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


def voxels_to_write(grid: Grid) -> NDArray[Any]:
    """Return the voxels of a volume, ``(T, I, J, K)`` in float32.

    Raises:
        NumericalError: some are not finite, though all were when the volume was read.
    """
    import numpy as np

    volume: NDArray[Any] = grid.values.detach().to("cpu").float()[0].numpy()
    if not grid.header.get("non_finite", False) and not np.isfinite(volume).all():
        raise NumericalError(
            "write",
            expected="finite voxels, as they were read",
            got="NaN or infinity",
            remedy="divide huge values of the input; an optimisation may need a smaller "
            "learning rate",
        )
    return volume


def read_voxels(path: Path, header: VolumeHeader) -> NDArray[Any]:
    """Read voxels in the type that the file holds.

    Args:
        path: the file of the header.
        header: what it says.

    Returns:
        ``(I, J, K)``, in Fortran order.

    Raises:
        InputFileError: the file holds fewer or more bytes than the header promises, the checksum is
            wrong, or text among the voxels is not a number.
    """
    import numpy as np

    path = header.data or path
    dtype = np.dtype(header.dtype)
    size = math.prod(header.shape) * dtype.itemsize
    with path.open("rb") as file:
        file.seek(path.stat().st_size - size if header.offset is None else header.offset)
        if header.encoding == "raw":
            content: bytes | bytearray = file.read(size)
            if len(content) < size:
                raise size_error(path, size, "fewer")
        elif header.encoding == "gzip":
            content = _inflate(path, file, size)
        elif header.encoding == "hex":
            content = _from_hex(path, file, size)
        else:
            content = _from_text(path, file, dtype, math.prod(header.shape))
    return np.frombuffer(content, dtype).reshape(header.shape, order="F")


def count_missing(path: Path, volume: NDArray[Any]) -> int:
    """Count voxels that are not finite.

    Raises:
        InputFileError: no voxel is finite.
    """
    import numpy as np

    missing = int(np.count_nonzero(~np.isfinite(volume)))
    if missing == volume.size:
        raise InputFileError(
            f"read {path}",
            expected="finite voxels",
            got=f"none among {missing}",
            remedy="check how the file was made",
        )
    return missing


def _inflate(path: Path, file: IO[bytes], size: int) -> bytearray:
    if size > _DEFLATE_LIMIT * path.stat().st_size:
        raise size_error(path, size, "fewer")
    content, filled, members = bytearray(size), 0, allowed_members(size)
    unpacker, block = zlib.decompressobj(_ZLIB_OR_GZIP), b""
    while True:
        block = block or file.read(_BLOCK)
        if not block:
            raise size_error(path, size, "fewer: the file is cut short")
        part = unpacker.decompress(block, _BLOCK)
        if filled + len(part) > size:
            raise size_error(path, size, "more")
        content[filled : filled + len(part)] = part
        filled += len(part)
        block = unpacker.unconsumed_tail
        if unpacker.eof and filled == size:
            return content
        if unpacker.eof:  # gzip allows several members in a row
            members -= 1
            if members < 0:
                raise size_error(path, size, "fewer in many parts")
            block, unpacker = unpacker.unused_data, zlib.decompressobj(_ZLIB_OR_GZIP)


def _from_hex(path: Path, file: IO[bytes], size: int) -> bytes:
    digits = file.read(4 * size + _BLOCK)  # two for a byte, and line breaks
    content = bytes.fromhex(digits.decode("ascii"))
    if len(content) != size:
        raise size_error(path, size, "fewer" if len(content) < size else "more")
    return content


def _from_text(path: Path, file: IO[bytes], dtype: Any, count: int) -> bytes:
    import numpy as np

    values = np.empty(min(count, path.stat().st_size), dtype.newbyteorder("="))
    if len(values) < count:
        raise size_error(path, count, "fewer", "numbers")
    filled, rest = 0, b""
    while block := file.read(_BLOCK):
        words = (rest + block).split()
        # The last word may go on in the next block.
        rest = words.pop() if words and not block[-1:].isspace() else b""
        if len(rest) > 1000 or filled + len(words) + bool(rest) > count:
            raise size_error(path, count, "more", "numbers")
        values[filled : filled + len(words)] = [_number(word, dtype) for word in words]
        filled += len(words)
    if rest:
        values[filled] = _number(rest, dtype)
        filled += 1
    if filled < count:
        raise size_error(path, count, "fewer", "numbers")
    return values.astype(dtype).tobytes()


def _number(word: bytes, dtype: Any) -> float | int:
    return float(word) if dtype.kind == "f" else int(word)


def size_error(path: Path, size: int, got: str, unit: str = "bytes") -> InputFileError:
    """Return the error for a file that does not hold all voxels, or more.

    Args:
        path: the file.
        size: number of bytes or numbers that its header declares.
        got: what it holds, for example "fewer".
        unit: plural noun for what is counted.
    """
    return InputFileError(
        f"read {path}", expected=f"{size:,} {unit} of voxels", got=got, remedy="save it again"
    )
