"""Trained networks that take the place of a style, and the styles that their files store."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from convnd.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from convnd.feedforward.network_file import StyleNetwork
    from convnd.grid import Grid

__all__ = [
    "NO_INSTANT_NETWORK",
    "UNUSED_OPTIONS",
    "is_network",
    "no_instant_network_error",
    "no_style_network_error",
    "open_network",
    "restore_style",
    "stored_style",
]

_SUFFIX = ".safetensors"

UNUSED_OPTIONS = (
    *("style_weight", "content_weight", "style_scale", "style_weights", "tv_weight"),
    *("affine_weight", "seamless", "stroke_size"),
    *("backbone", "content_layers", "style_layers", "style_layer_weights", "style_loss"),
    *("value_statistics", "value_statistics_weight", "normalization", "pooling", "padding"),
    *("inflation", "steps", "tolerance", "scales", "optimizer", "learning_rate", "init"),
    *("precision", "seed", "passes", "temporal_weight", "references", "frame_steps"),
    *("settle_over", "settle_tolerance", "block_frames", "block_overlap", "temporal_decay"),
    *("style_motion",),
)
"""Options of the optimisation, which have no meaning if a trained network makes the result."""

NO_INSTANT_NETWORK = (
    "no network for any style is shipped for them; convnd train makes one for a style"
)
"""Reason why ``instant`` does not apply to kinds of data other than pictures and videos."""

_MAX_SAMPLES = {1: 30_000, 2: 512 * 512, 3: 96**3}
"""Largest number of samples of a style in the file of a network, by number of axes."""


def is_network(name: str) -> bool:
    """Whether the name of a style is that of a file with a trained network.

    >>> is_network("waves.safetensors"), is_network("waves.png")
    (True, False)
    """
    return name.lower().endswith(_SUFFIX)


def no_instant_network_error(kind: str) -> UsageError:
    """Make the error of a kind of data that no network for any style takes."""
    return UsageError(
        "instant",
        expected="pictures or videos, which its network was trained for",
        got=kind,
        remedy="give another --init, or train a network for your style (convnd train)",
    )


def no_style_network_error() -> InputFileError:
    """Make the error of a network that was trained for the look of scans."""
    return InputFileError(
        "network",
        expected="one for patterns of a style",
        got="one for the look of scans",
        remedy="use it with convnd stylize-volume",
    )


def open_network(name: str, kind: str, spatial_dims: int) -> StyleNetwork:
    """Read a trained network for a kind of data.

    Args:
        name: path of the file.
        kind: kind of the data, a name in `convnd_tasks.modalities.MODALITIES`.
        spatial_dims: number of axes of the data.

    Raises:
        InputFileError: the file is no such network, or it was trained for other data.
    """
    from convnd.feedforward.network_file import read_network

    trained = read_network(name)
    if kind == "videos":  # frame by frame
        kind, spatial_dims = "pictures", 2
    rank = trained.network.shape.spatial_dims
    if trained.kind != kind or rank != spatial_dims:
        raise InputFileError(
            f"network {name}",
            expected=f"one for {kind} of {spatial_dims} axes",
            got=f"one for {trained.kind[:40]} of {rank}",
            remedy="train one for such data (convnd train)",
        )
    styles = [restore_style(style) for style in trained.styles]
    return dataclasses.replace(trained, styles=styles)


def stored_style(style: Grid) -> Grid:
    """Reduce a style to the size and the metadata that the file of a network stores."""
    from convnd.io.signals.signal import value_units
    from convnd.nn import resize_nd

    values, rank = style.values, style.ndim
    limit, count = _MAX_SAMPLES.get(rank, 20**rank), math.prod(style.shape)
    if rank == 1:
        values = values[:, :, :limit]
    elif count > limit and rank == 2:
        ratio = (limit / count) ** 0.5
        size = [max(16, round(extent * ratio)) for extent in style.shape]
        return _without_header(style.with_values(resize_nd(values, size, antialias=True)))
    elif count > limit:  # cut out the middle, so that patterns keep their size in samples
        side = int(limit ** (1 / rank))
        starts = [max(0, (extent - side) // 2) for extent in style.shape]
        window = [slice(start, start + side) for start in starts]
        values = values[(slice(None), slice(None), *window)]
    header = {"value_units": list(value_units(style))} if rank == 1 else {}
    return dataclasses.replace(style, values=values.contiguous(), header=header)


def restore_style(style: Grid) -> Grid:
    """Convert a style in the file of a network to a grid as a file of its kind would give it.

    Raises:
        InputFileError: the style does not have one unit for each of its channels.
    """
    from convnd.io.signals.signal import describe

    units = style.header.get("value_units")
    plain = _without_header(style)
    if style.ndim != 1 or units is None:
        return plain
    if not isinstance(units, list) or len(units) != len(style.channels):
        raise InputFileError(
            "network",
            expected=f"units of {len(style.channels)} channels",
            got=f"{str(units)[:60]!r}",
            remedy="train it again",
        )
    return describe(plain, units=tuple(str(unit) for unit in units))


def _without_header(style: Grid) -> Grid:
    return dataclasses.replace(style, header={})
