"""The functions that napari calls; ``napari.toml`` names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari.types
    from numpy.typing import NDArray

    from convnd.grid import Grid

    Values = NDArray[Any]
    Layer = tuple[Values, dict[str, Any], str]

__all__ = ["SUFFIXES", "get_reader", "stylize_image"]

SUFFIXES = (
    *(".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"),
    *(".png", ".tif", ".tiff", ".jpg", ".webp"),
)
"""Endings of the files that are read; those in the manifest."""

_RGB = ("R", "G", "B")


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Layer]] | None:
    """Return the reader of pictures and volumes; None for files of other kinds.

    Args:
        path: path of a file, or paths of several.
    """
    paths = [path] if isinstance(path, str) else path
    return _read if all(name.lower().endswith(SUFFIXES) for name in paths) else None


def _read(path: str | Sequence[str]) -> list[Layer]:
    """Read files as layers of napari."""
    from convnd import io

    paths = [path] if isinstance(path, str) else path
    return [_layer(io.read(name), Path(name).name) for name in paths]


def _layer(grid: Grid, name: str) -> Layer:
    """Make the layer of a grid; several channels that are no colours become the first axis."""
    values = grid.values[0].numpy()
    scale = [*grid.spacing]
    if grid.channels == _RGB:
        return values.transpose(1, 2, 0), {"name": name, "scale": scale, "rgb": True}, "image"
    if len(values) == 1:
        return values[0], {"name": name, "scale": scale}, "image"
    return values, {"name": name, "scale": [1.0, *scale]}, "image"


def stylize_image(
    content: napari.types.ImageData,
    style: napari.types.ImageData,
    strength: float = 1.0,
    steps: int = 85,
) -> napari.types.ImageData:
    """Give one layer the style of another; napari makes a form of the parameters.

    Args:
        content: a picture ``(Y, X)`` or ``(Y, X, 3)``, or a scan ``(Z, Y, X)``.
        style: the same kind of layer.
        strength: from 0, the content, to 1, the style.
        steps: steps of the optimisation of pictures; scans need none.

    Returns:
        A layer like the content; pictures have values in ``[0, 1]``.
    """
    import numpy as np

    import convnd

    content, style = np.asarray(content), np.asarray(style)
    if content.ndim == 3 and content.shape[-1] > 4:
        scan = convnd.stylize(content, style, spacing=(1.0, 1.0, 1.0), strength=strength)
        return np.asarray(scan.values[0, 0])
    pictures = [_as_picture(values) for values in (content, style)]
    picture = convnd.stylize(*pictures, dim=2, size=0, steps=steps, strength=strength)
    values = np.asarray(picture.values[0])
    return values[0] if content.ndim == 2 else values.transpose(1, 2, 0)


def _as_picture(values: Values) -> Values:
    """Return a picture ``(C, Y, X)`` in ``[0, 1]``, without transparency."""
    import numpy as np

    largest = float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0
    picture = values.astype(np.float32) / largest
    return picture[None] if picture.ndim == 2 else picture[..., :3].transpose(2, 0, 1)
