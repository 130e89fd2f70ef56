"""Answers requests for videos, in the child process of `convnd.io.worker.client`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.video.decoding import VideoDecoder
from convnd.io.video.webp import WebpDecoder, is_webp

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["serve"]

MEMORY = 2**30
"""Bytes that decoding may take in addition to those that it reserves for frames."""


def serve(
    path: Path, parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield a video's description, comment or frames; see `convnd.io.worker.worker`."""
    largest = int(parameters["max_frame"])
    decoder: VideoDecoder | WebpDecoder
    if is_webp(path):
        decoder = WebpDecoder(path, largest, reserve_memory)
    else:
        decoder = VideoDecoder(
            path,
            largest,
            reserve_memory,
            deinterlace=bool(parameters.get("deinterlace")),
            tone_map=bool(parameters.get("tone_map")),
        )
    if parameters["what"] == "describe":
        yield "info", decoder.describe(), None
    elif parameters["what"] == "comment":
        yield "comment", {"text": decoder.comment()}, None
    else:
        end = None if parameters["end"] is None else Fraction(parameters["end"])
        frames = decoder.frames(
            Fraction(parameters["start"]),
            end,
            origin=int(parameters["origin"]),
            every=int(parameters["every"]),
        )
        for pts, duration, pixels in frames:
            kind = "alive" if pixels is None else "array"
            yield kind, {"pts": pts, "duration": duration}, pixels
        yield "end", {"damage": decoder.damage}, None
