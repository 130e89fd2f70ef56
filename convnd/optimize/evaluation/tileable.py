"""Check that a network has the same features on tiles, and the requirements on its tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from convnd.backbones import Backbone, ModuleBackbone
from convnd.errors import UsageError
from convnd.losses import tile_index
from convnd.nn import PadNd
from convnd.optimize.evaluation.tiles import tile_features
from convnd.shapes import ReceptiveField, Tiling

__all__ = ["WHOLE", "check_tileable", "min_crop", "tile_alignment"]

WHOLE = "leave tiles out (--tile off), which takes one process"
"""Remedy for an input that cannot be cut."""


def tile_alignment(backbone: Backbone, layers: Sequence[str]) -> list[int]:
    """Return the numbers of samples along each axis whose multiples tiles must start at.

    They are the least common multiples of the strides of all layers that these ones depend on, as
    far as they are known: a layer may have a smaller stride than one before it.
    """
    fields: list[ReceptiveField] = []
    for group in backbone.independent_groups(backbone.layers):
        deepest = max((group.index(name) for name in layers if name in group), default=-1)
        fields += [
            backbone.receptive_fields[name]
            for name in group[: deepest + 1]
            if name in backbone.receptive_fields
        ]
    return [
        math.lcm(*(field.stride[axis].as_integer_ratio()[0] for field in fields))
        for axis in range(backbone.spatial_dims)
    ]


def min_crop(backbone: Backbone) -> list[int]:
    """Return the smallest crop that the backbone can be run on, in samples along each axis.

    Padding that repeats samples may take them from further inside than the receptive field shows,
    and what a user's layers need beyond their receptive fields is unknown.
    """
    if not isinstance(backbone, ModuleBackbone):
        return [0] * backbone.spatial_dims
    factor = 2 if _padding_modes(backbone) - {"zeros", "constant"} else 1
    fields = backbone.receptive_fields.values()
    return [
        factor * max(field.span[axis] for field in fields) for axis in range(backbone.spatial_dims)
    ]


def check_tileable(backbone: Backbone, layers: Sequence[str]) -> None:
    """Refuse a backbone whose features would differ in tiles.

    Users' networks are run on noise, whole and in tiles, and compared.

    Raises:
        UsageError: the features of a layer depend on more than its receptive field.
    """
    if "circular" in _padding_modes(backbone):
        raise UsageError(
            "tiles",
            expected="padding with zeros, reflect or replicate",
            got="circular padding, which joins the ends of the whole input",
            remedy=WHOLE,
        )
    if isinstance(backbone, ModuleBackbone):
        for axis in range(backbone.spatial_dims):
            _compare_tiles_of_noise(backbone, layers, axis)


def _padding_modes(backbone: nn.Module) -> set[str]:
    modes = set()
    for module in backbone.modules():
        kind = type(module).__name__
        if isinstance(module, PadNd):
            modes.add(module.mode)
        elif isinstance(mode := getattr(module, "padding_mode", None), str):
            modes.add(mode)
        else:
            prefixes = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}
            modes |= {mode for prefix, mode in prefixes.items() if kind.startswith(f"{prefix}Pad")}
    return modes


def _compare_tiles_of_noise(backbone: Backbone, layers: Sequence[str], axis: int) -> None:
    parameter = next(backbone.parameters(), torch.zeros(()))
    size, tiling = _tiling_along(backbone, layers, axis)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, backbone.in_channels, *size), generator=generator).to(parameter)
    tolerance = torch.finfo(parameter.dtype).eps ** 0.5

    def features(crop: torch.Tensor) -> Mapping[str, torch.Tensor]:
        result: Mapping[str, torch.Tensor] = backbone(crop.contiguous(), layers)
        return result

    with torch.no_grad():
        whole = backbone(noise, layers)
        for tile, tiled in tile_features(features, noise, tiling):
            for name, values in tiled.items():
                expected = whole[name][tile_index(tile.windows[name])]
                largest = whole[name].abs().max()
                if values.shape != expected.shape or not bool(
                    ((values - expected).abs() <= tolerance * largest).all()
                ):
                    raise UsageError(
                        "tiles",
                        expected=f"features of {name} that depend on no more than their "
                        "receptive field",
                        got="others",
                        remedy="correct the receptive field, keep to networks without means over "
                        f"positions, or {WHOLE}",
                    )


def _tiling_along(backbone: Backbone, layers: Sequence[str], axis: int) -> tuple[list[int], Tiling]:
    """Return a size with several tiles along one axis, and these tiles."""
    fields = {name: backbone.receptive_fields[name] for name in layers}
    align, least = tile_alignment(backbone, layers), min_crop(backbone)
    spans = [
        max(samples, *(field.span[axis] for field in fields.values()))
        for axis, samples in enumerate(least)
    ]
    size = [max(2, -(-span // step) * step) for span, step in zip(spans, align, strict=True)]
    tile = list(size)
    tile[axis] = -(-spans[axis] // align[axis]) * align[axis]
    size[axis] = 5 * size[axis] + 1
    return size, Tiling.cut(size, tile, fields, min_crop=least, align=align)
