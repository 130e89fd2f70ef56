"""The description of a video file, in JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["chapters", "color_tags", "frame_count", "remarks", "texts"]

_MPEG, _JPEG = 1, 2  # limited and full range
_MAX_TAGS, _MAX_TEXT = 256, 2**16


def remarks(container: Any, stream: Any, *, is_interlaced: bool) -> list[str]:
    """One line for each part of a file that is left out, and one for interlaced frames."""
    other_types = {other.type for other in container.streams} - {"video", "audio", "data"}
    lines = [f"left out of the result: {kind} streams" for kind in sorted(other_types)]
    unknown = sum(sound.codec_context is None for sound in container.streams.audio)
    if unknown:
        tracks = "sound track" if unknown == 1 else "sound tracks"
        lines.append(f"left out of the result: {unknown} {tracks} of a codec that is not known")
    if container.streams.video[0] is not stream or len(container.streams.video) > 1:
        lines.append("several video streams: the first is taken")
    if is_interlaced:
        lines.append(
            "interlaced: each frame holds two fields, and moving edges look like combs; "
            "--deinterlace makes one picture of them"
        )
    return lines


def frame_count(stream: Any) -> int | None:
    """Return the number of frames that a file declares, without those that its edit list skips."""
    entries = stream.index_entries
    if stream.frames and len(entries):
        return sum(not entry.is_discard for entry in entries) or None
    return stream.frames or None


def color_tags(context: Any, color_range: int, *, mapped: bool) -> dict[str, Any]:
    """Range, primaries, transfer curve and matrix of the frames that are passed on."""
    if mapped:
        return {"full_range": False, "primaries": 1, "transfer": 1, "matrix": 1}
    return {
        "full_range": {_MPEG: False, _JPEG: True}.get(color_range),
        "primaries": int(context.color_primaries),
        "transfer": int(context.color_trc),
        "matrix": int(context.colorspace),
    }


def texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are short enough to have been typed by people."""
    short = {
        key: value
        for key, value in metadata.items()
        if len(key) <= _MAX_TAGS and len(value) <= _MAX_TEXT
    }
    return dict(list(short.items())[:_MAX_TAGS])


def chapters(container: Any) -> list[dict[str, str]]:
    """Start, end (seconds) and title of each chapter."""
    parts = []
    for chapter in container.chapters()[: 4 * _MAX_TAGS]:
        base = chapter["time_base"]
        parts.append(
            {
                "start": str(chapter["start"] * base),
                "end": str(chapter["end"] * base),
                "title": str(chapter["metadata"].get("title", ""))[:_MAX_TEXT],
            }
        )
    return parts
