"""Contact sheets: the patches of each unit in a square, units side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Thumbnails = Mapping[str, Sequence[NDArray[np.uint8] | None]]

__all__ = ["draw_sheet"]

_GAP, _SPACE, _LABEL, _MARGIN = 3, 16, 18, 14
_MAX_WIDTH = 1800
_PANEL_COLOR = (176, 182, 189)
"""Gray behind the patches of a unit, so that white patches have an edge."""
_EMPTY_COLOR, _TITLE_COLOR, _LABEL_COLOR = (232, 235, 238), (28, 33, 39), (70, 78, 88)


@dataclass(frozen=True)
class _Layout:
    """Sizes of a sheet, in pixels and in counts.

    Args:
        tile: height and width of a patch.
        gap: distance between patches.
        grid: rows and columns of patches of a unit.
        block: width and height of a unit, with its label.
        cell: width and height of a unit with the space around it.
        counts: units along the width and the height of the sheet.
    """

    tile: tuple[int, int]
    gap: int
    grid: tuple[int, int]
    block: tuple[int, int]
    cell: tuple[int, int]
    counts: tuple[int, int]


def draw_sheet(
    tiles: Thumbnails, *, top: int = 9, title: str = "", across: int | None = None
) -> NDArray[np.uint8]:
    """Arrange thumbnails as in figure 2 of Zeiler and Fergus (2013).

    Args:
        tiles: thumbnails ``(H, W, 3)`` for each label, strongest first; None leaves a place empty.
        top: places for each label.
        title: title of the sheet.
        across: labels in a row; None chooses as many as give a sheet of usual shape.

    Returns:
        ``(H, W, 3)``, 8-bit.

    >>> tile = np.zeros((8, 8, 3), np.uint8)
    >>> draw_sheet({"unit 0": [tile] * 9, "unit 1": [tile]}).shape
    (82, 116, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    layout = _lay_out(tiles, top, across)
    font = ImageFont.load_default(12)
    header = _LABEL + _GAP if title else 0
    across, down = layout.counts
    size = (
        max(across * layout.cell[0] - _SPACE, math.ceil(font.getlength(title)), 1) + 2 * _MARGIN,
        max(down * layout.cell[1] - _SPACE, 1) + header + 2 * _MARGIN,
    )
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN - _GAP), title, fill=_TITLE_COLOR, font=font)
    (rows, columns), (high, wide), gap = layout.grid, layout.tile, layout.gap
    for number, (label, row) in enumerate(tiles.items()):
        left = _MARGIN + number % across * layout.cell[0]
        upper = _MARGIN + header + number // across * layout.cell[1]
        if not any(tile is not None for tile in row):
            label += ": none"
        draw.text((left, upper), label, fill=_LABEL_COLOR, font=font)
        upper += _LABEL
        corner = left + layout.block[0] - 1, upper + layout.block[1] - _LABEL - 1
        draw.rectangle((left, upper, *corner), fill=_PANEL_COLOR)
        for place in range(rows * columns):
            x = left + gap + place % columns * (wide + gap)
            y = upper + gap + place // columns * (high + gap)
            tile = row[place] if place < min(len(row), top) else None
            if tile is None:
                draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=_EMPTY_COLOR)
            else:
                canvas.paste(Image.fromarray(tile), (x, y))
    return np.asarray(canvas)


def _lay_out(tiles: Thumbnails, top: int, fixed: int | None) -> _Layout:
    shapes = [tile.shape for row in tiles.values() for tile in row if tile is not None]
    # The planes of scans of different spacing have different widths.
    high = max((shape[0] for shape in shapes), default=32)
    wide = max((shape[1] for shape in shapes), default=32)
    # Rows of planes and frames need a wider gap between patches than they have within one.
    gap = 2 * _GAP if wide > 2 * high else _GAP
    columns = math.ceil(math.sqrt(top))
    rows = math.ceil(top / columns)
    block = columns * (wide + gap) + gap, rows * (high + gap) + gap + _LABEL
    cell = max(block[0], 34) + _SPACE, block[1] + _SPACE
    if fixed is not None:
        down = math.ceil(len(tiles) / fixed)
        return _Layout((high, wide), gap, (rows, columns), block, cell, (fixed, down))
    across = max(1, min(len(tiles), (_MAX_WIDTH - 2 * _MARGIN) // cell[0]))
    # About three units wide for two high.
    across = min(across, max(1, math.ceil(math.sqrt(len(tiles) * 1.6 * cell[1] / cell[0]))))
    down = math.ceil(len(tiles) / across)
    across = max(1, math.ceil(len(tiles) / max(1, down)))  # no row is nearly empty
    return _Layout((high, wide), gap, (rows, columns), block, cell, (across, down))
