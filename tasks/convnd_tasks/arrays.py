"""Signals, volumes and grids of any rank: their own units in, their own units out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.kind import Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.options import StyleOptions

__all__ = ["prepare", "value_range"]

_SMALLEST = 16


def prepare(content: Grid | None, styles: Sequence[Grid], options: StyleOptions) -> Prepared:
    """Values in their owner's units as values that span about ``[0, 1]``.

    The range between the 0.5th and 99.5th percentile becomes ``[0, 1]``, for content and style
    each by its own; what comes back is in the content's units, and nothing is clipped. Every
    channel is a field of its own: channels become the batch.

    Args:
        content: ``(1, C, *S)``, or None for a texture.
        styles: ``(1, C, *S_i)``, or one channel that serves all.
        options: reads ``size``.

    Raises:
        InputFileError: an axis is too short, or channels do not match.
    """
    from convnd.nn import resize_nd
    from convnd_tasks.style_transfer import fit

    template = styles[0] if content is None else content
    for name, grid in [("content", content), *(("style", style) for style in styles)]:
        if grid is not None and any(1 < extent < _SMALLEST for extent in grid.shape):
            raise InputFileError(
                f"{name}: expected at least {_SMALLEST} samples along each axis, got "
                f"{'x'.join(map(str, grid.shape))}; use more"
            )
    channels = template.values.shape[1]
    fields = []
    for style in styles:
        if style.values.shape[1] not in (1, channels):
            raise InputFileError(
                f"style: expected {channels} channels as the content has, or 1 for all, got "
                f"{style.values.shape[1]}; select channels"
            )
        low, high = value_range(style.values)
        scaled = ((style.values - low) / (high - low)).movedim(1, 0)  # (C, 1, *S)
        fields.append(scaled.expand(channels, *scaled.shape[1:]))
    low, high = value_range(template.values)
    size = fit(template.shape, options.size)
    working = None
    if content is not None:
        working = ((content.values - low) / (high - low)).movedim(1, 0)
        if size != content.shape:
            working = resize_nd(working, size, mode="linear", antialias=True)

    def restore(values: Tensor) -> Grid:
        return template.with_values(values.movedim(0, 1) * (high - low) + low)

    return Prepared(
        content=working,
        styles=fields,
        size=size,
        restore=restore,
        spacing=tuple(
            step * old / new
            for step, old, new in zip(template.spacing, template.shape, size, strict=True)
        ),
    )


def value_range(values: Tensor) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile, apart by at least a little.

    >>> import torch
    >>> value_range(torch.arange(201.0))
    (1.0, 199.0)
    """
    import numpy as np

    low, high = np.percentile(values.detach().cpu().numpy(), [0.5, 99.5]).tolist()
    return (low, high) if high > low else (low - 0.5, low + 0.5)
