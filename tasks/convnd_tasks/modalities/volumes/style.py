"""A style as slices of any pixel size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.modalities.volumes.orientation import Orientation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.volumes.slabs import View

__all__ = ["SlicedStyle"]


class SlicedStyle:
    """A volume or a picture whose slices are a style.

    Args:
        grid: has two or three axes.
        low: value that becomes 0. Colours become grey values instead.
        high: value that becomes 1.
        scale: size of its patterns relative to their size in millimetres.
    """

    def __init__(self, grid: Grid, low: float, high: float, *, scale: float) -> None:
        self._grid, self._low, self._high, self._scale = grid, low, high, scale

    def extract(self, view: View, device: torch.device) -> Tensor:
        """Slices ``(n, 1, H, W)`` across the view's axis, of its pixel size.

        Raises:
            InputFileError: a volume has no slices that are large enough.
        """
        from convnd.nn import resize_nd

        slices, factor = self._picture(view) if self._grid.ndim == 2 else self._slices(view)
        size = [max(16, round(extent * factor)) for extent in slices.shape[2:]]
        return resize_nd(slices.to(device), size, mode="linear", antialias=True)

    def _picture(self, view: View) -> tuple[Tensor, float]:
        values, low, high = self._grid.values, self._low, self._high
        if values.shape[1] == 3:
            luma = values.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            values = (values * luma).sum(1, keepdim=True)
            low, high = 0.0, 1.0
        factor = self._scale * max(view.size) / max(self._grid.shape)
        return ((values - low) / (high - low)).clamp(0, 1), factor

    def _slices(self, view: View) -> tuple[Tensor, float]:
        from convnd_tasks.modalities.volumes.slabs import square_pixel_views

        low, high = self._low, self._high
        axes = Orientation(self._grid)
        views = square_pixel_views(axes.shape, axes.spacing)
        if not views:
            raise InputFileError(
                "style: expected slices of at least 16 x 16 square pixels along some axis, "
                f"got {' x '.join(map(str, self._grid.shape))}; use a larger volume"
            )
        # A style that is too thin across this axis shows its finest slices.
        finest = next((same for same in views if same.axis == view.axis), views[0])
        values = (self._grid.values[:, :1] - low).div_(high - low).clamp_(0, 1)
        return finest.extract(axes.to_canonical(values)), self._scale * finest.pixel / view.pixel
