"""Decodes pictures with Pillow and OpenCV, in the child process of `convnd.io.worker.client`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.images.decoding import decode, image_provenance
from convnd.io.images.request import header_to_json
from convnd.io.reading import check_limit, translate_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MEMORY", "SECONDS", "serve"]

MEMORY = 2**29
"""Bytes of addresses that decoding may take in addition to those for the pixels: metadata, stacks
of threads, and the code of OpenCV, which only deep pixels need."""

SECONDS = 15
"""Seconds of computing that a file may take, besides the time for its pixels."""

_LARGEST_HEADER = 2**23  # characters of JSON

importlib.import_module("PIL.Image")  # the code of a library does not count as memory of a file


def serve(
    path: Path, parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | memoryview | None]]:
    """Yield the pixels and metadata of a picture, or its provenance."""
    if parameters["what"] == "provenance":
        with translate_errors(path, "a picture"):
            fields: dict[str, Any] = {"text": image_provenance(path)}
    else:
        decoded = decode(path, int(parameters["max_pixels"]), reserve_memory)
        yield "array", {}, decoded.pixels
        fields = {"header": header_to_json(decoded.header)}
    size = len(json.dumps(fields))
    check_limit(path, size, _LARGEST_HEADER, "bytes of metadata", "remove some")
    yield "end", fields, None
