"""Copies titles, dates, places and chapters to a result, and names those that it cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from convnd.io.provenance import parse_provenance
from convnd.io.video.codecs import ANIMATIONS
from convnd.io.video.types import VideoInfo

__all__ = ["copy_tags", "lost_tags"]

# What FFmpeg writes into MP4; Matroska and WebM hold any key.
_MP4_KEYS = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "location", "creation_time"),
    )
)
# About the file rather than about the film; the writer has its own.
_OF_CONTAINER = frozenset(
    (
        *("major_brand", "minor_version", "compatible_brands", "encoder", "software", "duration"),
        *("com.android.version", "hw", "is_interlaced", "vendor_id", "handler_name"),
    )
)
_MP4 = ("mp4", "mov")
_APPLE = "com.apple.quicktime."
_APPLE_KEYS = {"location.iso6709": "location", "creationdate": "date"}


def copy_tags(
    out: Any,
    kind: str,
    info: VideoInfo,
    *,
    origin: int,
    end: Fraction | None,
    provenance: Mapping[str, str] | None,
) -> None:
    """Give a result the tags and chapters of its source, and its provenance as comment.

    Args:
        out: the opened result.
        kind: its container.
        info: description of the source.
        origin: time of the source that becomes 0 in the result, in ticks of ``info.time_base``.
        end: seconds after the first frame where the result ends; None is the end of the source.
        provenance: how the result was made.
    """
    tags, _ = _split_tags(kind, info)
    if provenance:
        tags["comment"] = json.dumps(dict(provenance))
    out.metadata.update(tags)
    if kind in ANIMATIONS:
        return
    begin = origin * info.time_base
    limit = None if end is None else info.start * info.time_base + end - begin
    chapters: list[dict[str, Any]] = []
    for chapter in info.chapters:
        first, last = max(Fraction(0), chapter.start - begin), chapter.end - begin
        last = last if limit is None else min(last, limit)
        if last > first:
            chapters.append(
                {
                    "id": len(chapters) + 1,
                    "start": round(first * 1000),
                    "end": round(last * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": chapter.title} if chapter.title else {},
                }
            )
    if chapters:
        out.set_chapters(chapters)


def lost_tags(kind: str, info: VideoInfo, *, provenance: bool) -> list[str]:
    """Name the tags of a source that a container does not hold.

    Args:
        kind: the container; "" is a folder of pictures.
        info: description of the source.
        provenance: whether the comment holds how the result was made.
    """
    tags, lost_names = _split_tags(kind, info)
    if provenance and "comment" in tags:
        lost_names.append("comment")
    if info.chapters and kind in ("", *ANIMATIONS):
        lost_names.append("chapters")
    return lost_names


def _split_tags(kind: str, info: VideoInfo) -> tuple[dict[str, str], list[str]]:
    """The tags that a container holds, and the names of the others."""
    tags: dict[str, str] = {}
    lost_names: list[str] = []
    for key, value in info.tags.items():
        name = key.lower()
        base = name.partition("-")[0]  # "title-eng" stands beside "title"
        if name in _OF_CONTAINER or (base != name and base in map(str.lower, info.tags)):
            continue
        if name == "comment" and parse_provenance(value):
            continue
        if kind in _MP4 and name.startswith(_APPLE):
            name = _APPLE_KEYS.get(name.removeprefix(_APPLE), name)
        if kind in ("matroska", "webm") or (kind in _MP4 and name in _MP4_KEYS):
            tags.setdefault(name, value)
        else:
            lost_names.append(name.removeprefix(_APPLE))
    return tags, lost_names
