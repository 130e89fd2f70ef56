"""Which tiles a backbone is run on, and whether it may be run on tiles at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from convnd.backbones import Backbone, ModuleBackbone
from convnd.errors import ResourceError, UsageError, is_out_of_memory
from convnd.losses import INPUT, tile_index
from convnd.nn import PadNd
from convnd.optimize.evaluation.tiles import tile_features
from convnd.shapes import ReceptiveField, Tiling

__all__ = [
    "WHOLE",
    "FitsMemory",
    "Tiler",
]

FitsMemory = Callable[[tuple[int, ...], Sequence[str]], bool]
"""Whether a crop of an extent can be worked on up to some layers."""

SpareBytes = Callable[[tuple[int, ...], Sequence[str]], float]
"""Bytes that are left beside the work on a crop of an extent up to some layers."""

T = TypeVar("T")

_CACHE_POSITIONS = (
    2**18
)  # positions of a crop whose features stay in a cache, where cuts cost nothing

WHOLE = "leave tiles out (--tile off), which takes one process"
"""Remedy where an input cannot be cut."""


class Tiler:
    """Cuts inputs so that a backbone's features come out as those of the whole.

    Args:
        tile: samples of a tile's own along each axis; None chooses the tiles with the least halo
            among those that ``fits`` accepts.
        fits: see `FitsMemory`; None accepts everything, so that nothing is cut before memory runs
            out.
        spare_bytes: see `SpareBytes`; None is nothing.
        on_shrink: is told of new, smaller tiles when memory ran out.
        workers: how many share the work: there are as many tiles along an axis without a halo, or
            else along the longest one, as far as strides allow.
        deep_tiler: cuts what the network sees behind a layer where it can be cut itself, see
            `convnd.optimize.evaluation.split`; None leaves it in one.

    Attributes:
        shrunk: how many times memory ran out.

    Raises:
        UsageError: ``tile`` is less than 1.
    """

    def __init__(
        self,
        *,
        tile: int | None = None,
        fits: FitsMemory | None = None,
        spare_bytes: SpareBytes | None = None,
        on_shrink: Callable[[Tiling], None] | None = None,
        workers: int = 1,
        deep_tiler: Tiler | None = None,
    ) -> None:
        if tile is not None and tile < 1:
            raise UsageError(f"tile: expected at least 1 sample, got {tile}; correct it")
        self._tile = tile
        self._fits = fits
        self._spare_bytes = spare_bytes
        self._on_shrink = on_shrink
        self._workers = workers
        self.deep_tiler = deep_tiler
        self.shrunk = 0
        self._limit: int | None = None  # samples of a crop, after memory ran out
        self._made: dict[object, Tiling] = {}
        self._local: set[tuple[Backbone, tuple[str, ...]]] = set()

    def make_tiling(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int] | None = None,
    ) -> Tiling:
        """The tiles for an input of ``size``.

        Args:
            backbone: whose features are asked for.
            layers: which ones; `convnd.losses.INPUT` is the input itself.
            size: extent along each axis.
            overlaps: positions behind its own that a tile is to have, by layer.

        Raises:
            UsageError: there would be several tiles, but a receptive field is not known, or the
                features depend on more than theirs.
        """
        key = backbone, tuple(layers), tuple(size), tuple(sorted((overlaps or {}).items()))
        if key not in self._made:
            self._made[key] = self._make(backbone, layers, size, overlaps or {})
        return self._made[key]

    def spare_bytes(self, tiling: Tiling, layers: Sequence[str]) -> float:
        """Bytes for what a first pass may keep for the second, beside the work on a tile.

        Args:
            tiling: as `make_tiling` gave it.
            layers: the layers asked for.
        """
        if self._spare_bytes is None or self.shrunk:  # what was planned did not hold
            return 0.0
        named = [name for name in layers if name != INPUT]
        return max(0.0, self._spare_bytes(tiling.largest_crop, named))

    def run_with_retries(
        self,
        work: Callable[[Tiling], T],
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int] | None = None,
    ) -> T:
        """Do some work in tiles; when memory runs out, again from its start in smaller ones.

        Args:
            work: is given the tiles.
            backbone: as for `make_tiling`, like the arguments behind it.
            layers: the layers asked for.
            size: extent along each axis.
            overlaps: by layer.

        Raises:
            UsageError: see `make_tiling`.
            ResourceError: there is too little memory even for the smallest tiles.
        """
        while True:
            tiling = self.make_tiling(backbone, layers, size, overlaps)
            try:
                return work(tiling)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._shrink(tiling)  # out here the failed attempt's tensors are gone

    def _shrink(self, tiling: Tiling) -> None:
        largest = math.prod(tiling.largest_crop)
        if self._limit is not None and largest > self._limit:
            raise ResourceError(
                f"tiles: expected memory for a crop of {_times(tiling.largest_crop)}, the smallest "
                "that this network allows, got too little; use --backbone compact, or free some"
            )
        self._limit = largest // 2
        self.shrunk += 1
        self._made.clear()
        if self._on_shrink is not None:
            self._on_shrink(tiling)

    def _make(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int],
    ) -> Tiling:
        named = [name for name in layers if name != INPUT]
        unknown = [name for name in named if name not in backbone.receptive_fields]
        whole = Tiling.cut(size, max(size), {INPUT: ReceptiveField.identity(len(size))})

        def fits(crop: tuple[int, ...]) -> bool:
            if self._limit is not None and math.prod(crop) > self._limit:
                return False
            return self._fits is None or self._fits(crop, named)

        large = self._tile is None or self._tile >= max(size)
        one = large and self._workers == 1 and fits(tuple(size))
        if unknown and one:
            return _whole(whole, layers)
        if unknown:
            raise UsageError(
                f"tiles: expected the receptive field of {unknown[0]}, got none from "
                f"{type(backbone).__name__}; give it its fields, or {WHOLE}"
            )
        fields = {name: backbone.receptive_fields[name] for name in named}
        fields[INPUT] = ReceptiveField.identity(len(size))
        least = _least(backbone)
        align = _alignment(backbone, named, len(size))
        free_axis = _halo_free_axis(size, fields)
        pieces = [1] * len(size)
        pieces[
            free_axis
            if free_axis is not None and size[free_axis] >= self._workers
            else _longest(size)
        ] = self._workers
        more: dict[str, Any] = {
            "overlaps": overlaps,
            "min_crop": least,
            "align": align,
            "pieces": pieces,
        }
        slabs = self._slabs(size, fields, free_axis, more)
        if slabs is not None and fits(slabs.largest_crop):
            tiling = slabs
        elif one:
            return _whole(whole, layers)
        elif self._tile is not None:
            tile = [self._tile] * len(size)
            while True:
                tiling = Tiling.cut(size, tile, fields, **more)
                longest = max(range(len(size)), key=tiling.tile.__getitem__)
                if fits(tiling.largest_crop) or tiling.tile[longest] <= align[longest]:
                    break
                tile[longest] = max(1, tiling.tile[longest] // 2)
        else:
            tiling = Tiling.choose(size, fields, fits, **more)
        if len(tiling) > 1:
            self._check(backbone, named)
        return tiling

    def _slabs(
        self,
        size: Sequence[int],
        fields: Mapping[str, ReceptiveField],
        free_axis: int | None,
        more: Mapping[str, Any],
    ) -> Tiling | None:
        """Tiles without any halo, small enough for a cache, where there is room to keep some."""
        halo = any(more["overlaps"].get(name) for name in fields) and len(fields) > 1
        if self._tile is not None or self._spare_bytes is None or halo or free_axis is None:
            return None
        # Tiles are rounded down to whole steps, and the others are to stay whole.
        tile = [extent + step - 1 for extent, step in zip(size, more["align"], strict=True)]
        tile[free_axis] = max(1, _CACHE_POSITIONS * size[free_axis] // math.prod(size))
        found = Tiling.cut(size, tile, fields, **more)
        return found if len(found) > 1 else None

    def _check(self, backbone: Backbone, layers: Sequence[str]) -> None:
        """Refuse a network whose features tiles would change."""
        key = backbone, tuple(layers)
        if key in self._local or not layers:
            return
        if "circular" in _padding_modes(backbone):
            raise UsageError(
                "tiles: expected padding with zeros, reflect or replicate, got circular, which "
                f"joins the ends of the whole input; {WHOLE}"
            )
        if isinstance(backbone, ModuleBackbone):  # what others wrote is tried out
            for axis in range(backbone.spatial_dims):
                _try_out(backbone, layers, axis)
        self._local.add(key)


def _longest(size: Sequence[int]) -> int:
    return max(range(len(size)), key=size.__getitem__)


def _halo_free_axis(size: Sequence[int], fields: Mapping[str, ReceptiveField]) -> int | None:
    """The first axis along which nothing but a sample itself is seen, if there is one."""
    for axis, extent in enumerate(size):
        if extent > 1 and all(field.size[axis] == 1 for field in fields.values()):
            return axis
    return None


def _whole(whole: Tiling, layers: Sequence[str]) -> Tiling:
    fields = {name: ReceptiveField.identity(len(whole.size)) for name in (*layers, INPUT)}
    return Tiling.cut(whole.size, max(whole.size), fields)


def _alignment(backbone: Backbone, layers: Sequence[str], ndim: int) -> list[int]:
    """Strides of everything on the way, where it is known: a layer may refine again."""
    known = []
    for way in backbone.independent_groups(backbone.layers):
        deepest = max((way.index(name) for name in layers if name in way), default=-1)
        known += [
            backbone.receptive_fields[name]
            for name in way[: deepest + 1]
            if name in backbone.receptive_fields
        ]
    return [
        math.lcm(*(field.stride[axis].as_integer_ratio()[0] for field in known))
        for axis in range(ndim)
    ]


def _least(backbone: Backbone) -> list[int]:
    """Samples of the smallest crop along each axis.

    Padding that repeats samples may do so from further inside than the fields tell, and what the
    layers of others need beyond their fields is not known.
    """
    if not isinstance(backbone, ModuleBackbone):
        return [0] * backbone.spatial_dims
    mirrors = bool(_padding_modes(backbone) - {"zeros"})
    return [
        (2 if mirrors else 1)
        * max(field.span[axis] for field in backbone.receptive_fields.values())
        for axis in range(backbone.spatial_dims)
    ]


def _padding_modes(backbone: nn.Module) -> set[str]:
    modes = set()
    for module in backbone.modules():
        kind = type(module).__name__
        if isinstance(module, PadNd):
            modes.add(module.mode)
        elif isinstance(mode := getattr(module, "padding_mode", None), str):
            modes.add(mode)
        else:
            words = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}
            modes |= {mode for word, mode in words.items() if kind.startswith(f"{word}Pad")}
    return modes


def _try_out(backbone: Backbone, layers: Sequence[str], axis: int) -> None:
    """Run the network on noise whole and in tiles, and compare."""
    parameter = next(backbone.parameters(), torch.zeros(()))
    fields = {name: backbone.receptive_fields[name] for name in layers}
    align = _alignment(backbone, layers, backbone.spatial_dims)
    least = _least(backbone)
    span = [
        max(need, *(field.span[each] for field in fields.values()))
        for each, need in enumerate(least)
    ]
    size = [max(2, -(-reach // step) * step) for reach, step in zip(span, align, strict=True)]
    tile = list(size)
    tile[axis], size[axis] = -(-span[axis] // align[axis]) * align[axis], 5 * size[axis] + 1
    tiling = Tiling.cut(size, tile, fields, min_crop=least, align=align)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, backbone.in_channels, *size), generator=generator).to(parameter)
    tolerance = torch.finfo(parameter.dtype).eps ** 0.5
    with torch.no_grad():
        whole = backbone(noise, layers)
        for tile_, found in tile_features(
            lambda x: backbone(x.contiguous(), layers), noise, tiling
        ):
            for name, values in found.items():
                expected = whole[name][tile_index(tile_.windows[name])]
                largest = whole[name].abs().max()
                same = values.shape == expected.shape and bool(
                    ((values - expected).abs() <= tolerance * largest).all()
                )
                if not same:
                    raise UsageError(
                        f"tiles: expected features of {name} that depend on no more than their "
                        "receptive field, got others; correct the field, keep to networks "
                        f"without means over positions, or {WHOLE}"
                    )


def _times(extent: Sequence[int]) -> str:
    return "x".join(map(str, extent))
