"""Decodes files of signals with the libraries of their formats, in the child process of a reader.

libsndfile (also for FLAC in WFDB), scipy, HDF5, Arrow and openpyxl decode untrusted files here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.reading import translate_errors
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DECODERS", "MEMORY", "SECONDS", "serve"]

MEMORY = 2**29
"""Bytes of addresses that decoding may take in addition to those for file and samples: the code of
libraries, and stacks of threads."""

SECONDS = 15
"""Seconds of computing that a file may take, besides the time for its length."""

DECODERS = {
    "sound": ("convnd.io.signals.sound", "decode_sound"),
    "sound provenance": ("convnd.io.signals.sound", "decode_provenance"),
    "WFDB": ("convnd.io.signals.wfdb_flac", "decode_record"),
    "MATLAB": ("convnd.io.signals.containers", "decode_mat"),
    "HDF5": ("convnd.io.signals.containers", "decode_hdf5"),
    "Parquet": ("convnd.io.signals.sheets", "decode_parquet"),
    "Excel": ("convnd.io.signals.sheets", "decode_excel"),
}
"""Module and function that decode a file, by the request's ``what``.

A function gets the path, the largest number of samples, and what to call with their number. It
yields `convnd.io.signals.request.Content`.
"""

# Bytes of memory for each byte of a file and for each sample: cells become objects of Python.
_PER_BYTE, _PER_SAMPLE = 160, 160

importlib.import_module("numpy")  # the code of a library does not count as memory of a file


def serve(
    path: Path, parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield the arrays of a file, then texts and other fields."""
    import numpy as np

    module, function = DECODERS[parameters["what"]]
    decode = getattr(importlib.import_module(module), function)
    with silence_libraries(), translate_errors(path, "a file of signals"):
        size = _PER_BYTE * path.stat().st_size

        def expect_samples(count: int) -> None:
            reserve_memory(size + _PER_SAMPLE * count)

        expect_samples(0)
        for name, array, fields in decode(path, int(parameters["max_samples"]), expect_samples):
            if array is None:
                yield "end", dict(fields), None
            elif array.size:
                array = array.astype(array.dtype.newbyteorder("="), copy=False)
                yield "array", {"name": name}, np.ascontiguousarray(array)
