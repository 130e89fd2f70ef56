"""Lets a child process decode signal files whose libraries are written in C or parse XML.

The functions `decode_…` of the formats run in that child, see `convnd.io.signals.decoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.reading import translate_errors
from convnd.io.signals.limits import sample_limit
from convnd.io.worker.client import request

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_TEXT", "NUMBERS", "Content", "Expect", "request_arrays"]

LARGEST_TEXT = 2**27
"""Bytes of the largest array of text, which is JSON."""

NUMBERS = "biuf"
"""Kinds of arrays that are sent."""

_MOST_ARRAYS = 100_000

Expect = Callable[[int], None]
"""A decoder calls it with the number of samples, once it is known to be allowed."""

Content = Iterator[tuple[str, "NDArray[Any] | None", Mapping[str, Any]]]
"""What a decoder yields: named arrays of at most four axes, and in the end None with fields."""


def request_arrays(
    path: Path, what: str, description: str, max_samples: int | None
) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """Let a child decode a file.

    Args:
        path: an existing file.
        what: name of the decoder in `convnd.io.signals.decoder.DECODERS`.
        description: what the file should be, with its article, for messages.
        max_samples: largest number of samples; None for the default.

    Returns:
        Arrays by name, and the fields that the decoder gives with them.

    Raises:
        InputFileError: the decoder refused the file, hung, died, or took too much memory or time.
        DependencyError: its package is missing.
    """
    limit = sample_limit(max_samples)
    parameters = {"decoder": "signals.decoder", "what": what, "max_samples": limit}
    arrays: dict[str, NDArray[Any]] = {}
    count = 0
    with (
        translate_errors(path, description),
        request(path, parameters, max_values=max(limit, LARGEST_TEXT), reuse=True) as messages,
    ):
        for message, array in messages:
            if message["kind"] == "end":
                return arrays, message
            if array is not None:
                count += array.size
                arrays[str(message["name"])] = array
            if len(arrays) > _MOST_ARRAYS or count > limit + 16 * LARGEST_TEXT:
                raise ValueError("more arrays than a file holds")
    raise ValueError("no content")
