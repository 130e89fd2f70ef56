"""The drawing of a sheet's cells: pictures as they are, other data as thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convnd_tasks.modalities.value_range import value_range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["draw_cell", "fit_tiles", "value_span"]

_SIDE = 200
"""Height of the drawing of a small result that is no picture, in pixels."""


def value_span(grid: Grid) -> tuple[float, float]:
    """Return the values of a grid that are drawn black and white."""
    finite = bool(grid.values.isfinite().any())
    low, high = value_range(grid.values) if finite else (0.0, 1.0)
    return low, high if high > low else low + 1


def draw_cell(grid: Grid, span: tuple[float, float]) -> NDArray[np.uint8]:
    """Draw a grid as pixels ``(H, W, 3)``.

    Args:
        grid: a picture, which is drawn as it is, or data of any number of axes.
        span: the values that are drawn black and white.
    """
    import numpy as np

    from convnd.io.images.formats import opacity
    from convnd_tasks.runtime.thumbnails import draw_thumbnail

    if grid.channels == ("R", "G", "B"):
        values = grid.values[0].clamp(0, 1)
        alpha = opacity(grid)
        if alpha is not None:
            values = values * alpha[0] + (1 - alpha[0])
        return np.asarray((values.movedim(0, -1) * 255).round().byte().numpy())
    low, high = span
    ranges = [range(extent) for extent in grid.shape]
    return draw_thumbnail(
        (grid.values[:1].float() - low) / (high - low),
        _SIDE,
        window=ranges,
        region=[slice(0, extent) for extent in grid.shape],
        axes=grid.axes,
        spacing=grid.spacing,
    )


def fit_tiles(
    pictures: Mapping[str, NDArray[np.uint8]],
) -> dict[str, Sequence[NDArray[np.uint8]]]:
    """Return the pictures by label, those of styles resized to fit in the size of the results.

    Args:
        pictures: pixels ``(H, W, 3)`` by label; the last is that of a result.
    """
    import numpy as np
    from PIL import Image

    *_, last = pictures.values()
    height, width = last.shape[:2]
    tiles: dict[str, Sequence[NDArray[np.uint8]]] = {}
    for label, pixels in pictures.items():
        picture = Image.fromarray(pixels)
        if pixels.shape != last.shape:
            picture.thumbnail((width, height), Image.Resampling.LANCZOS)
        tiles[label] = [np.asarray(picture)]
    return tiles
