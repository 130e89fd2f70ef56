"""The picture of a layer: each unit's patches in a square, units side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["sheet"]

_GAP, _SPACE, _LABEL, _MARGIN = 3, 16, 18, 14
_WIDEST = 1800
_PANEL = (176, 182, 189)
"""Grey behind the patches of a unit, so that white ones have an edge."""


def sheet(
    tiles: Mapping[str, Sequence[NDArray[np.uint8] | None]], *, top: int = 9, title: str = ""
) -> NDArray[np.uint8]:
    """Arrange tiles as in figure 2 of Zeiler and Fergus (2013).

    Args:
        tiles: for each label its pictures, strongest first; None, or none at
            all, leaves a place empty.
        top: places for each.
        title: stands above all of them.

    Returns:
        ``(H, W, 3)``, 8-bit.

    >>> tile = np.zeros((8, 8, 3), np.uint8)
    >>> sheet({"unit 0": [tile] * 9, "unit 1": [tile]}).shape
    (82, 116, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    shapes = [tile.shape for row in tiles.values() for tile in row if tile is not None]
    # Planes of scans of another spacing are of another width.
    high = max((shape[0] for shape in shapes), default=32)
    wide = max((shape[1] for shape in shapes), default=32)
    # Rows of planes and frames need a wider gap between patches than there is within them.
    gap = 2 * _GAP if wide > 2 * high else _GAP
    columns = math.ceil(math.sqrt(top))
    rows = math.ceil(top / columns)
    block = columns * (wide + gap) + gap, rows * (high + gap) + gap + _LABEL
    cell = max(block[0], 34) + _SPACE, block[1] + _SPACE
    across = max(1, min(len(tiles), (_WIDEST - 2 * _MARGIN) // cell[0]))
    # About three units wide for two high.
    across = min(across, max(1, math.ceil(math.sqrt(len(tiles) * 1.6 * cell[1] / cell[0]))))
    down = math.ceil(len(tiles) / across)
    across = max(1, math.ceil(len(tiles) / max(1, down)))  # no row nearly empty
    font = ImageFont.load_default(12)
    head = _LABEL + _GAP if title else 0
    size = (
        max(across * cell[0] - _SPACE, math.ceil(font.getlength(title)), 1) + 2 * _MARGIN,
        max(down * cell[1] - _SPACE, 1) + head + 2 * _MARGIN,
    )
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN - _GAP), title, fill=(28, 33, 39), font=font)
    for number, (label, row) in enumerate(tiles.items()):
        left = _MARGIN + number % across * cell[0]
        upper = _MARGIN + head + number // across * cell[1]
        if not any(tile is not None for tile in row):
            label += ": none"
        draw.text((left, upper), label, fill=(70, 78, 88), font=font)
        upper += _LABEL
        panel = (left, upper, left + block[0] - 1, upper + block[1] - _LABEL - 1)
        draw.rectangle(panel, fill=_PANEL)
        for place in range(rows * columns):
            x = left + gap + place % columns * (wide + gap)
            y = upper + gap + place // columns * (high + gap)
            tile = row[place] if place < min(len(row), top) else None
            if tile is None:
                draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=(232, 235, 238))
            else:
                canvas.paste(Image.fromarray(tile), (x, y))
    return np.asarray(canvas)
