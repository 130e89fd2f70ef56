"""What FFmpeg leaves out of animated GIF: how often it plays, and how long its last frame lasts.

Source: CompuServe, Graphics Interchange Format, version 89a; Netscape's application extension.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["loop_count", "set_last_delay"]

_EXTENSION, _IMAGE = 0x21, 0x2C
_CONTROL, _APPLICATION = 0xF9, 0xFF


def loop_count(path: Path) -> int:
    """Return how many times an animation plays; 0 means forever.

    It plays once if the file does not say, or is not a GIF.
    """
    with path.open("rb") as file:
        for kind, position in _blocks(file):
            if kind == _APPLICATION:
                file.seek(position)
                text = file.read(17)  # length, name, length, 1, loops
                if text[1:12] in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and text[13:14] == b"\x01":
                    repeats = int.from_bytes(text[14:16], "little")
                    return repeats + 1 if repeats else 0
    return 1


def set_last_delay(path: Path, hundredths: int) -> None:
    """Write the duration of the last frame of a GIF.

    Args:
        path: a GIF that has a control block for each frame.
        hundredths: of a second, at most 65535.
    """
    with path.open("r+b") as file:
        last = max((place for kind, place in _blocks(file) if kind == _CONTROL), default=None)
        if last is not None:
            file.seek(last + 2)  # after length and flags
            file.write(min(hundredths, 65535).to_bytes(2, "little"))


def _blocks(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the label of each extension, and the position behind the label."""
    header = file.read(13)
    if len(header) < 13 or header[:3] != b"GIF":
        return
    _skip_colors(file, header[10])
    while True:
        start = file.read(1)
        if start == bytes([_EXTENSION]):
            label = file.read(1)
            if not label:
                return
            position = file.tell()
            yield label[0], position
            file.seek(position)
        elif start == bytes([_IMAGE]):
            frame = file.read(9)
            if len(frame) < 9:
                return
            _skip_colors(file, frame[8])
            file.seek(1, 1)  # code size
        else:
            return
        while (length := file.read(1)) not in (b"", b"\x00"):
            file.seek(length[0], 1)


def _skip_colors(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)
