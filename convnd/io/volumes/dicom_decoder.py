"""Decodes compressed pixels of DICOM, in the child process of `convnd.io.worker.client`.

pydicom calls the codecs that are installed: Pillow, and libraries in C of other packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.silence import silence_libraries
from convnd.io.volumes.dicom_dataset import damage_error, declared_size, read_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MEMORY", "SECONDS", "serve"]

MEMORY = 2**29
"""Bytes of addresses that decoding may take in addition to those for the pixels: the file, codecs
that are loaded when they are needed, and stacks of threads."""

SECONDS = 15
"""Seconds of computing that a file may take, besides the time for its pixels."""

_COPIES = 16  # of the pixels, while they are decoded

# The code of libraries does not count as memory of a file.
for _name in ("numpy", "pydicom.pixels"):
    importlib.import_module(_name)


def serve(
    path: Path, _parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield the stored numbers of a file."""
    import numpy as np

    with silence_libraries():
        dataset = read_dataset(path)
        reserve_memory(_COPIES * declared_size(dataset))
        try:
            pixels = np.ascontiguousarray(dataset.pixel_array)
        except MemoryError:
            raise
        except Exception as error:
            raise damage_error(path, path, error, what="pixels that can be decoded") from error
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    yield "array", {}, pixels
    yield "end", {}, None
