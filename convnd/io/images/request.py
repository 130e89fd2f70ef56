"""Asks a child process for the pixels of a picture.

Pillow and OpenCV decode with C libraries. Whatever a file makes them do, the caller gets one error.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convnd.io.images.decoding import Decoded
from convnd.io.reading import translate_errors
from convnd.io.worker.client import request

__all__ = ["header_to_json", "request_pixels", "request_provenance"]

_CHANNELS = (1, 2, 3, 4)


@contextlib.contextmanager
def request_pixels(path: Path, max_pixels: int) -> Iterator[Callable[[], Decoded]]:
    """Start to decode a picture in a child process.

    Args:
        path: an existing file.
        max_pixels: largest ``H · W``.

    Yields:
        A function that waits for the pixels and metadata, see
        `convnd.io.images.decoding.decode`.

    Raises:
        InputFileError: see `convnd.io.images.decoding.decode`; or the decoder hangs, dies, or asks
            for too much memory.
    """
    parameters = {"decoder": "images.decoder", "what": "pixels", "max_pixels": max_pixels}
    limit = max_pixels * _CHANNELS[-1]
    with request(path, parameters, max_values=limit, reuse=True) as messages:

        def receive() -> Decoded:
            with translate_errors(path, "a picture"):
                _, pixels = next(messages)
                last, _ = next(messages)
                if pixels is None or pixels.shape[2:] not in [(n,) for n in _CHANNELS]:
                    raise ValueError("no pixels")
                return Decoded(pixels, header_from_json(last["header"]))

        yield receive


def request_provenance(path: Path) -> dict[str, str]:
    """Let a child read provenance from the metadata of a picture.

    Raises:
        InputFileError: see `request_pixels`.
    """
    parameters = {"decoder": "images.decoder", "what": "provenance"}
    with request(path, parameters, max_values=0, reuse=True) as messages:
        fields, _ = next(messages)
    return {str(key): str(text) for key, text in fields["text"].items()}


def header_to_json(header: Mapping[str, object]) -> dict[str, Any]:
    r"""Return the metadata of a picture in types of JSON.

    >>> header_from_json(header_to_json({"icc": b"\0", "dpi": (72.0, 72.0), "text": {"a": "b"}}))
    {'dpi': (72.0, 72.0), 'text': {'a': 'b'}, 'icc': b'\x00'}
    """
    encoded = {
        key: base64.b64encode(value).decode()
        for key, value in header.items()
        if isinstance(value, bytes)
    }
    plain_entries = {key: value for key, value in header.items() if key not in encoded}
    return {"base64": encoded, "others": plain_entries}


def header_from_json(fields: Mapping[str, Any]) -> dict[str, object]:
    """Return metadata from the result of `header_to_json`."""
    header: dict[str, object] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in fields["others"].items()
    }
    return header | {key: base64.b64decode(text) for key, text in fields["base64"].items()}
