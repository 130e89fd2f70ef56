"""Small pictures of inputs and results of any kind, as JPEG."""

from __future__ import annotations

import io as streams
from typing import TYPE_CHECKING

from convnd_tasks.runtime.thumbnails import draw_thumbnail

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["jpeg"]

_LARGEST = 1024
_QUALITY = 85
_PLANE = 384
"""Height of the planes of a volume, the frames of a video and the trace of a signal."""


def jpeg(grid: Grid, side: int = _LARGEST) -> bytes:
    """Draw a grid, with its longer side at most as long as given.

    A colour picture keeps its pixels if it is small enough; other data are drawn by
    `convnd_tasks.runtime.thumbnails.draw_thumbnail`.

    Args:
        grid: a grid of any kind.
        side: pixels of the longer side.
    """
    from PIL import Image

    from convnd.nn import resize_nd

    values = grid.values[:1].detach().float()
    if grid.ndim == 2:
        ratio = side / max(values.shape[2:])
        if ratio < 1:
            size = [max(1, round(extent * ratio)) for extent in values.shape[2:]]
            values = resize_nd(values, size, mode="linear", antialias=True)
        if values.shape[1] != 3:
            low, high = float(values.nan_to_num().min()), float(values.nan_to_num().max())
            values = ((values[:, :1] - low) / ((high - low) or 1.0)).expand(-1, 3, -1, -1)
        pixels = values[0].nan_to_num().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    else:
        extents = [range(extent) for extent in values.shape[2:]]
        low, high = float(values.nan_to_num().min()), float(values.nan_to_num().max())
        pixels = draw_thumbnail(
            (values - low) / ((high - low) or 1.0),
            min(side, _PLANE),
            window=extents,
            region=[slice(0, extent) for extent in values.shape[2:]],
            axes=grid.axes,
            spacing=grid.spacing,
        )
    stream = streams.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
