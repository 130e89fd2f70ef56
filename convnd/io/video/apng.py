"""What FFmpeg leaves out of animated PNG: how often it plays, and how long its last frame lasts.

Source: W3C, Portable Network Graphics (PNG) Specification (Third Edition), ``acTL`` and ``fcTL``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

__all__ = ["loop_count", "set_last_delay"]

_LARGEST = 65535
_DELAY = 20  # bytes of an fcTL chunk before its delay


def loop_count(path: Path) -> int:
    """Return how many times an animation plays; 0 means forever."""
    with path.open("rb") as file:
        for name, position, length in _chunks(file):
            if name == b"acTL" and length == 8:
                file.seek(position + 4)
                return int.from_bytes(file.read(4), "big")
    return 1


def set_last_delay(path: Path, seconds: Fraction) -> None:
    """Write the duration of the last frame; FFmpeg repeats that of the one before.

    Args:
        path: an animated PNG.
        seconds: rounded to a fraction of whole numbers up to 65535.
    """
    delay = min(seconds, Fraction(_LARGEST)).limit_denominator(_LARGEST)
    while delay.numerator > _LARGEST:
        delay = delay.limit_denominator(max(1, delay.denominator // 2))
    with path.open("r+b") as file:
        last = max((place for name, place, _ in _chunks(file) if name == b"fcTL"), default=None)
        if last is None:
            return
        file.seek(last)
        content = bytearray(file.read(26))
        content[_DELAY : _DELAY + 2] = delay.numerator.to_bytes(2, "big")
        content[_DELAY + 2 : _DELAY + 4] = delay.denominator.to_bytes(2, "big")
        file.seek(last)
        file.write(content + zlib.crc32(b"fcTL" + content).to_bytes(4, "big"))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, position and length of each chunk's content."""
    position = 8
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], position + 8, length
        position += 12 + length
