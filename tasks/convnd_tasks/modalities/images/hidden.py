"""Replaces the invisible colours of transparent pixels by those of visible neighbours."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["fill_hidden", "fill_hidden_pixels", "mask_by_opacity", "visible_weight"]

_MIN_OPACITY = 0.5 / 255
"""Opacity below which a pixel counts as hidden: every nonzero opacity of 8 bits is above it."""

_MAX_ROUNDS = 64  # each round at least doubles the distance to which colours are known


def fill_hidden_pixels(grid: Grid, label: str) -> Grid:
    """Replace the colours of transparent pixels by mirror images of visible ones.

    A hidden pixel gets the colour of the visible pixel on the other side of the edge, at the same
    distance from it, so that features and statistics are those of the visible texture. The result
    does not depend on hidden colours.

    Args:
        grid: the picture.
        label: role and name of the picture, for messages.

    Returns:
        The grid itself if all of it is visible.

    Raises:
        InputFileError: no pixel is visible.
    """
    hidden_mask = _hidden_pixels(grid)
    if hidden_mask is None:
        return grid
    if bool(hidden_mask.all()):
        raise InputFileError(
            label,
            expected="visible pixels",
            got="a picture that is transparent everywhere",
            remedy="give another picture",
        )
    return dataclasses.replace(grid, values=fill_hidden(grid.values, hidden_mask))


def fill_hidden(values: Tensor, hidden_mask: NDArray[Any]) -> Tensor:
    """Replace the values of hidden pixels by mirror images of visible ones.

    Args:
        values: ``(1, C, H, W)``.
        hidden_mask: mask of the hidden pixels ``(H, W)``, not true everywhere.

    >>> import numpy as np, torch
    >>> row = torch.tensor([[[[1.0, 2.0, 3.0, 9.0, 9.0]]]])
    >>> fill_hidden(row, np.array([[False, False, False, True, True]])).flatten().tolist()
    [1.0, 2.0, 3.0, 3.0, 2.0]
    """
    import torch

    if not hidden_mask.any():
        return values
    return values.flatten(2)[..., torch.from_numpy(_sources(hidden_mask))].view(values.shape)


def visible_weight(grid: Grid) -> Tensor | None:
    """Return the opacity of each pixel, ``(1, 1, H, W)``; None if all are opaque."""
    from convnd.io.images.formats import opacity

    alpha = opacity(grid)
    return None if alpha is None or bool((alpha == 1).all()) else alpha


def mask_by_opacity(grid: Grid) -> Grid:
    """Set a mask to 0 where its picture is transparent."""
    alpha = visible_weight(grid)
    if alpha is None:
        return grid
    header = {key: value for key, value in grid.header.items() if key != "alpha"}
    return dataclasses.replace(grid, values=grid.values * alpha, header=header)


def _hidden_pixels(grid: Grid) -> NDArray[Any] | None:
    """Mask of the hidden pixels ``(H, W)``; None if there are none."""
    alpha = visible_weight(grid)
    if alpha is None:
        return None
    hidden_mask: NDArray[Any] = (alpha[0, 0] < _MIN_OPACITY).numpy()
    return hidden_mask if hidden_mask.any() else None


def _sources(hidden_mask: NDArray[Any]) -> NDArray[Any]:
    """Find the visible pixel that each pixel gets its colour from; indices ``(H · W,)``."""
    import numpy as np

    height, width = hidden_mask.shape
    sources = np.arange(height * width, dtype=np.int32)
    unknown = hidden_mask.copy()
    for _ in range(_MAX_ROUNDS):
        pixels = np.flatnonzero(unknown).astype(np.int32)
        if pixels.size == 0:
            break
        nearest = _nearest_known(unknown)
        (y, x), (near_y, near_x) = np.divmod(pixels, width), np.divmod(nearest, width)
        # Mirrored at the edge between the known pixel and its unknown neighbour.
        y, x = 2 * near_y - y + np.sign(y - near_y), 2 * near_x - x + np.sign(x - near_x)
        is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        mirror = y[is_inside] * width + x[is_inside]
        is_inside[is_inside] = ~unknown.flat[mirror]
        sources[pixels[is_inside]] = sources[y[is_inside] * width + x[is_inside]]
        unknown.flat[pixels[is_inside]] = False
    if unknown.any():
        sources[unknown.ravel()] = sources[_nearest_known(unknown)]
    return sources


def _nearest_known(unknown: NDArray[Any]) -> NDArray[Any]:
    """Find the nearest known pixel of each unknown one; indices."""
    import cv2
    import numpy as np

    _, labels = cv2.distanceTransformWithLabels(
        unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.flatnonzero(~unknown).astype(np.int32)
    pixel_of_label = np.zeros(labels.max() + 1, np.int32)
    pixel_of_label[labels.flat[known]] = known
    nearest: NDArray[Any] = pixel_of_label[labels[unknown]]
    return nearest
