"""The end of a track of MP4 or QuickTime files; FFmpeg gives only the sum of its samples.

Source: ISO/IEC 14496-12, boxes ``mvhd``, ``tkhd``, ``mdhd`` and ``elst``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

__all__ = ["track_end"]

_MAX_BOXES, _MAX_EDITS = 10_000, 10_000
_FOLDERS = (b"moov", b"trak", b"mdia", b"edts")


def track_end(path: Path, track: int) -> tuple[Fraction, Fraction] | None:
    """Return the second at which the edit list of a track ends, and the precision of that.

    Args:
        path: the file.
        track: number of the track.

    Returns:
        None if the file has no edit list, or one of another kind.
    """
    scale, is_track = 0, False
    media: Fraction | None = None
    edits: int | None = None
    with path.open("rb") as file:
        boxes = _boxes(file, 0, path.stat().st_size)
        for kind, start, end in itertools.islice(boxes, _MAX_BOXES):
            if kind == b"mvhd":
                scale, _ = _times(file, start)
            elif kind == b"tkhd":
                is_track = _track_number(file, start) == track
            elif kind == b"mdhd" and is_track:
                media_scale, duration = _times(file, start)
                media = Fraction(duration, media_scale) if media_scale else None
            elif kind == b"elst" and is_track:
                edits = _edited(file, start, end)
    if not scale or not edits:
        return None
    finish, precision = Fraction(edits, scale), Fraction(1, scale)
    if media is not None and abs(media - finish) <= precision:
        return media, precision
    return finish, precision


def _times(file: BinaryIO, start: int) -> tuple[int, int]:
    """Ticks a second and duration, of ``mvhd`` or ``mdhd``."""
    file.seek(start)
    fields = file.read(32)
    if fields[:1] == b"\x01":
        return int.from_bytes(fields[20:24], "big"), int.from_bytes(fields[24:32], "big")
    return int.from_bytes(fields[12:16], "big"), int.from_bytes(fields[16:20], "big")


def _track_number(file: BinaryIO, start: int) -> int:
    file.seek(start)
    fields = file.read(24)
    place = 20 if fields[:1] == b"\x01" else 12
    return int.from_bytes(fields[place : place + 4], "big")


def _edited(file: BinaryIO, start: int, end: int) -> int:
    """The sum of all edits, in ticks of the film."""
    file.seek(start)
    header = file.read(8)
    wide = header[:1] == b"\x01"
    length = 20 if wide else 12
    count = min(int.from_bytes(header[4:8], "big"), _MAX_EDITS, (end - start - 8) // length)
    total = 0
    for _ in range(count):
        total += int.from_bytes(file.read(length)[: 8 if wide else 4], "big")
    return total


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the contents of each box, boxes inside boxes as well."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind, begin = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if size == 1:
            size, begin = int.from_bytes(header[8:16], "big"), start + 16
        stop = end if size == 0 else start + size
        if stop < begin or stop > end:
            return
        yield kind, begin, stop
        if kind in _FOLDERS:
            yield from _boxes(file, begin, stop)
        start = stop
