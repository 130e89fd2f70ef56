"""Resizing of values and styles to the sizes at which they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.nn import resize_nd, resize_period
from convnd.transfer.scales import compared_style_size

__all__ = ["Resizer"]


@dataclass(frozen=True)
class Resizer:
    """Resizes the inputs of a transfer for each size of its result.

    Args:
        device: device of the resized values.
        fixed_axes: number of leading axes that keep their length.
        style_scale: size of a style's patterns relative to their size in its file.
        shortest: least number of samples of a style along an axis.
        periodic: whether the result, and the content, are one period of a field.
    """

    device: torch.device
    fixed_axes: int = 0
    style_scale: float = 1.0
    shortest: int = 1
    periodic: bool = False

    def resize_field(self, values: Tensor, size: Sequence[int]) -> Tensor:
        """Resize a content or a starting point, which repeat if the result does.

        Args:
            values: ``(B, C, *S)``.
            size: samples of the result along each axis.

        Returns:
            ``(B, C, *size)``; the same values if they have this size.
        """
        if not self.periodic or tuple(values.shape[2:]) == tuple(size):
            return self.resize(values, size)
        return resize_period(values.to(self.device), size, mode="linear", antialias=True)

    def resize(self, values: Tensor, size: Sequence[int]) -> Tensor:
        """Resize values, and move them to the device.

        Args:
            values: ``(B, C, *S)``.
            size: samples of the result along each axis.

        Returns:
            ``(B, C, *size)``; the same values if they have this size.
        """
        if tuple(values.shape[2:]) == tuple(size):
            return values.to(self.device)
        return resize_nd(values.to(self.device), size, mode="linear", antialias=True)

    def style_size(
        self, style: Sequence[int], size: Sequence[int], style_grid: Sequence[int] | None = None
    ) -> list[int]:
        """Return the samples of a style along each axis where it is compared with a result.

        Args:
            style: samples of the style along each axis.
            size: samples of the result along each axis.
            style_grid: full size of the result, if styles have its spacing of samples; or None.
        """
        first = self.fixed_axes
        whole = style if style_grid is None or (first and style[0] == 1) else style_grid
        resized = compared_style_size(
            style[first:],
            size[first:],
            whole[first:],
            scale=self.style_scale,
            shortest=self.shortest,
        )
        return [*style[:first], *resized]

    def style_at(
        self, style: Tensor, size: Sequence[int], style_grid: Sequence[int] | None = None
    ) -> Tensor:
        """Resize a style ``(B, C, *S_i)`` to its `style_size`; the arguments are the same."""
        return self.resize(style, self.style_size(style.shape[2:], size, style_grid))
