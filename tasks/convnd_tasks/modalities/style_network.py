"""Trained networks as styles: their files, the kinds of data they fit, and the styles in them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from convnd.feedforward.network_file import StyleNetwork
    from convnd.grid import Grid

__all__ = ["UNUSED_OPTIONS", "is_network", "open_network", "restore_style", "stored_style"]

_SUFFIX = ".safetensors"

UNUSED_OPTIONS = (
    *("style_weight", "content_weight", "style_scale", "style_weights", "tv_weight"),
    *("backbone", "content_layers", "style_layers", "style_layer_weights", "style_loss"),
    *("value_statistics", "value_statistics_weight", "normalization", "pooling", "padding"),
    *("inflation", "steps", "tolerance", "scales", "optimizer", "learning_rate", "init"),
    *("precision", "seed", "mode", "passes", "temporal_weight", "references", "frame_steps"),
    *("settle_over", "settle_tolerance", "block_frames", "block_overlap", "temporal_decay"),
    *("style_motion",),
)
"""Options of the optimisation, which have no meaning where a trained network makes the result."""

_MOST_SAMPLES = {1: 30_000, 2: 512 * 512, 3: 96**3}
"""Samples of a style that a file of a network keeps."""


def is_network(name: str) -> bool:
    """Whether a style is a file of a trained network, by its name.

    >>> is_network("waves.safetensors"), is_network("waves.png")
    (True, False)
    """
    return name.lower().endswith(_SUFFIX)


def open_network(name: str, kind: str, spatial_dims: int) -> StyleNetwork:
    """Read a trained network for a kind of data.

    Args:
        name: path of the file.
        kind: of the data, see `convnd_tasks.modalities`.
        spatial_dims: number of axes that the network transforms at once.

    Raises:
        InputFileError: the file is no such network, or it was trained for other data.
    """
    from convnd.feedforward.network_file import read_network

    trained = read_network(name)
    expected = {"videos": "pictures"}.get(kind, kind)
    rank = trained.network.shape.spatial_dims
    if trained.kind != expected or rank != spatial_dims:
        raise InputFileError(
            f"network {name}",
            expected=f"one for {expected} of {spatial_dims} axes",
            got=f"one for {trained.kind[:40]} of {rank}",
            remedy="train one for such data (convnd train)",
        )
    styles = [restore_style(style) for style in trained.styles]
    return dataclasses.replace(trained, styles=styles)


def stored_style(style: Grid) -> Grid:
    """A style as the file of a network keeps it: of limited size, with plain metadata."""
    from convnd.io.signals.signal import value_units
    from convnd.nn import resize_nd

    values, rank = style.values, style.ndim
    most = _MOST_SAMPLES.get(rank, 20**rank)
    size = style.shape
    count = 1
    for extent in size:
        count *= extent
    if rank == 1:
        values = values[:, :, :most]
    elif count > most and rank == 2:
        ratio = (most / count) ** 0.5
        size = tuple(max(16, round(extent * ratio)) for extent in size)
        return _plain(style.with_values(resize_nd(values, size, antialias=True)))
    elif count > most:  # the middle, since patterns keep their size in samples
        side = int(most ** (1 / rank))
        window = [
            slice(max(0, (extent - side) // 2), max(0, (extent - side) // 2) + side)
            for extent in size
        ]
        values = values[(slice(None), slice(None), *window)]
    header = {"value_units": list(value_units(style))} if rank == 1 else {}
    return dataclasses.replace(style, values=values.contiguous(), header=header)


def restore_style(style: Grid) -> Grid:
    """A style of a file of a network as a grid that was read from a file of its kind.

    Raises:
        InputFileError: its units are not those of its channels.
    """
    from convnd.io.signals.signal import describe

    units = style.header.get("value_units")
    plain = _plain(style)
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


def _plain(style: Grid) -> Grid:
    return dataclasses.replace(style, header={})
