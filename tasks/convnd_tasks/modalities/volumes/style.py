"""A style as the work sees it: slices of whatever pixel size is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.modalities.volumes.orientation import Orientation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.volumes.grain import View

__all__ = ["SlicedStyle"]


class SlicedStyle:
    """A volume or a picture whose slices are a style.

    Args:
        grid: of two or three axes.
        low: value that becomes 0; colours are brought to grey instead.
        high: value that becomes 1.
        scale: of its patterns relative to what they are in millimetres.
    """

    def __init__(self, grid: Grid, low: float, high: float, *, scale: float) -> None:
        self._grid, self._low, self._high, self._scale = grid, low, high, scale

    def slices(self, view: View, device: torch.device) -> Tensor:
        """Slices across the view's axis, at its pixel size ``(n, 1, H, W)``.

        Raises:
            InputFileError: a volume has no slices that are large enough.
        """
        from convnd.nn import resize_nd
        from convnd_tasks.modalities.volumes.grain import square_pixels

        grid, low, high = self._grid, self._low, self._high
        values = grid.values
        if grid.ndim == 2:
            if values.shape[1] == 3:
                luma = values.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
                values = (values * luma).sum(1, keepdim=True)
                low, high = 0.0, 1.0
            factor = self._scale * max(view.size) / max(grid.shape)
            slices = ((values - low) / (high - low)).clamp(0, 1)
        else:
            axes = Orientation(grid)
            values = (values[:, :1] - low).div_(high - low).clamp_(0, 1)
            views = square_pixels(axes.shape, axes.spacing)
            if not views:
                raise InputFileError(
                    "style: expected slices of at least 16 x 16 square pixels along some axis, "
                    f"got {' x '.join(map(str, grid.shape))}; use a larger volume"
                )
            # Across an axis where the style is too thin, its best slices stand in.
            same = next((each for each in views if each.axis == view.axis), views[0])
            slices = same.slices(axes.turned(values))
            factor = self._scale * same.pixel / view.pixel
        size = [max(16, round(extent * factor)) for extent in slices.shape[2:]]
        return resize_nd(slices.to(device), size, mode="linear", antialias=True)
