"""The choice of tiles for a network, a size and the memory that is free."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from convnd.backbones import Backbone
from convnd.errors import ResourceError, UsageError, is_out_of_memory
from convnd.losses import INPUT
from convnd.optimize.evaluation.tileable import WHOLE, check_tileable, min_crop, tile_alignment
from convnd.shapes import ReceptiveField, Tiling

__all__ = ["FitsMemory", "SpareBytes", "Tiler"]

FitsMemory = Callable[[tuple[int, ...], Sequence[str]], bool]
"""Returns whether a crop of some extent can be computed up to some layers."""

SpareBytes = Callable[[tuple[int, ...], Sequence[str]], float]
"""Returns the bytes that are free while a crop is computed up to some layers."""

T = TypeVar("T")

_CACHE_POSITIONS = 2**18
"""Positions of a crop whose features stay in the processor's cache; smaller tiles cost nothing."""


class Tiler:
    """Chooses tiles on which a backbone gives the features of the whole input.

    Args:
        tile: samples of a tile along each axis, without its halo; None chooses the tiles with the
            least halo among those that ``fits`` accepts.
        fits: tells whether a crop fits in memory, see `FitsMemory`. None accepts every crop, so
            that nothing is cut before memory runs out.
        spare_bytes: memory that a crop leaves free, see `SpareBytes`; None is no bytes.
        on_shrink: is called with the tiles that did not fit when memory ran out.
        workers: number of processes that share the work: there are as many tiles along an axis
            without halo, or else along the longest axis, as far as strides allow.
        deep_tiler: tiles for the deep part of a network that can be split, see
            `convnd.optimize.evaluation.split`; None does not split it.

    Attributes:
        shrunk: number of times that memory ran out.

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
            raise UsageError(
                "tile",
                expected="at least 1 sample",
                got=str(tile),
                remedy="None chooses one that fits",
            )
        self._tile = tile
        self._fits = fits
        self._spare_bytes = spare_bytes
        self._on_shrink = on_shrink
        self._workers = workers
        self.deep_tiler = deep_tiler
        self.shrunk = 0
        self._max_samples: int | None = None  # of a crop, after memory ran out
        self._tilings: dict[object, Tiling] = {}
        self._checked: set[tuple[Backbone, tuple[str, ...]]] = set()

    def make_tiling(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int] | None = None,
    ) -> Tiling:
        """Return the tiles for an input.

        Args:
            backbone: the network.
            layers: the layers that are computed; `convnd.losses.INPUT` is the input itself.
            size: extent of the input along each axis.
            overlaps: positions behind its own that a tile needs, by layer.

        Raises:
            UsageError: several tiles are needed, but a receptive field is unknown, or features
                depend on more than their receptive field.
        """
        key = backbone, tuple(layers), tuple(size), tuple(sorted((overlaps or {}).items()))
        if key not in self._tilings:
            self._tilings[key] = self._make(backbone, layers, size, overlaps or {})
        return self._tilings[key]

    def spare_bytes(self, tiling: Tiling, layers: Sequence[str]) -> float:
        """Return the bytes that the first pass may keep for the second while it works on a tile.

        Args:
            tiling: a tiling of `make_tiling`.
            layers: the layers that are computed.
        """
        if self._spare_bytes is None or self.shrunk:  # the estimate was too low
            return 0.0
        network_layers = [name for name in layers if name != INPUT]
        return max(0.0, self._spare_bytes(tiling.largest_crop, network_layers))

    def run_with_retries(
        self,
        work: Callable[[Tiling], T],
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int] | None = None,
    ) -> T:
        """Call a function with a tiling; if memory runs out, call it again with smaller tiles.

        Args:
            work: the function.
            backbone: as for `make_tiling`.
            layers: as for `make_tiling`.
            size: as for `make_tiling`.
            overlaps: as for `make_tiling`.

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
            self._shrink(tiling)  # here, outside of `except`, the failed call's tensors are freed

    def _shrink(self, tiling: Tiling) -> None:
        samples = math.prod(tiling.largest_crop)
        if self._max_samples is not None and samples > self._max_samples:
            crop = "x".join(map(str, tiling.largest_crop))
            raise ResourceError(
                "tiles",
                expected=f"memory for a crop of {crop}, the smallest that this network allows",
                got="too little",
                remedy="use --backbone compact, or free some",
            )
        self._max_samples = samples // 2
        self.shrunk += 1
        self._tilings.clear()
        if self._on_shrink is not None:
            self._on_shrink(tiling)

    def _make(
        self,
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        overlaps: Mapping[str, int],
    ) -> Tiling:
        network_layers = [name for name in layers if name != INPUT]

        def fits(crop: tuple[int, ...]) -> bool:
            if self._max_samples is not None and math.prod(crop) > self._max_samples:
                return False
            return self._fits is None or self._fits(crop, network_layers)

        large = self._tile is None or self._tile >= max(size)
        fits_whole = large and self._workers == 1 and fits(tuple(size))
        unbounded = [name for name in network_layers if name not in backbone.receptive_fields]
        if unbounded and fits_whole:
            return _one_piece(size, layers)
        if unbounded:
            raise UsageError(
                "tiles",
                expected=f"the receptive field of {unbounded[0]}",
                got=f"none from {type(backbone).__name__}",
                remedy=f"give it its receptive fields, or {WHOLE}",
            )
        fields = {name: backbone.receptive_fields[name] for name in network_layers}
        fields[INPUT] = ReceptiveField.identity(len(size))
        cutting = _Cutting.of(backbone, network_layers, size, fields, overlaps, self._workers)
        # The first strategy that applies decides; the last one always does.
        tiling = self._thin_slabs(cutting, fits)
        if tiling is None and fits_whole:
            return _one_piece(size, layers)
        if tiling is None and self._tile is not None:
            tiling = cutting.fixed_tiles(self._tile, fits)
        if tiling is None:
            tiling = Tiling.choose(size, fields, fits, **cutting.options)
        if len(tiling) > 1:
            self._check(backbone, network_layers)
        return tiling

    def _thin_slabs(
        self, cutting: _Cutting, fits: Callable[[tuple[int, ...]], bool]
    ) -> Tiling | None:
        """Slabs without halo that fit in the processor's cache, if some can be kept in memory."""
        if self._tile is not None or self._spare_bytes is None:
            return None
        tiling = cutting.slabs_without_halo()
        return None if tiling is None or not fits(tiling.largest_crop) else tiling

    def _check(self, backbone: Backbone, layers: Sequence[str]) -> None:
        key = backbone, tuple(layers)
        if layers and key not in self._checked:
            check_tileable(backbone, layers)
            self._checked.add(key)


@dataclass(frozen=True)
class _Cutting:
    """An input to be cut into tiles.

    Attributes:
        size: extent along each axis.
        fields: receptive fields of the layers and of the input.
        options: keyword arguments of `Tiling.cut`.
        free_axis: an axis along which no layer needs a halo; None if there is none.
    """

    size: Sequence[int]
    fields: Mapping[str, ReceptiveField]
    options: Mapping[str, Any]
    free_axis: int | None

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        layers: Sequence[str],
        size: Sequence[int],
        fields: Mapping[str, ReceptiveField],
        overlaps: Mapping[str, int],
        workers: int,
    ) -> _Cutting:
        """Collect what tiles of these layers need."""
        free_axis = _halo_free_axis(size, fields)
        shared = free_axis
        if shared is None or size[shared] < workers:
            shared = _longest_axis(size)
        options = {
            "overlaps": overlaps,
            "min_crop": min_crop(backbone),
            "align": tile_alignment(backbone, layers),
            "periodic": backbone.periodic,
            "pieces": [workers if axis == shared else 1 for axis in range(len(size))],
        }
        return cls(size, fields, options, free_axis)

    def slabs_without_halo(self) -> Tiling | None:
        """Slabs across the axis without halo; None if there is no such axis, or only one slab."""
        overlaps = self.options["overlaps"]
        halo = any(overlaps.get(name) for name in self.fields) and len(self.fields) > 1
        if halo or self.free_axis is None:
            return None
        # `Tiling.cut` rounds down to multiples of the strides; the other axes must stay whole.
        tile = [
            extent + step - 1 for extent, step in zip(self.size, self.options["align"], strict=True)
        ]
        tile[self.free_axis] = max(
            1, _CACHE_POSITIONS * self.size[self.free_axis] // math.prod(self.size)
        )
        tiling = Tiling.cut(self.size, tile, self.fields, **self.options)
        return tiling if len(tiling) > 1 else None

    def fixed_tiles(self, samples: int, fits: Callable[[tuple[int, ...]], bool]) -> Tiling:
        """Tiles of a given extent along each axis, halved along the longest one until they fit."""
        tile, align = [samples] * len(self.size), self.options["align"]
        while True:
            tiling = Tiling.cut(self.size, tile, self.fields, **self.options)
            longest = _longest_axis(tiling.tile)
            if fits(tiling.largest_crop) or tiling.tile[longest] <= align[longest]:
                return tiling
            tile[longest] = max(1, tiling.tile[longest] // 2)


def _one_piece(size: Sequence[int], layers: Sequence[str]) -> Tiling:
    """One tile, for layers whose receptive fields may be unknown."""
    fields = {name: ReceptiveField.identity(len(size)) for name in (*layers, INPUT)}
    return Tiling.cut(size, max(size), fields)


def _longest_axis(size: Sequence[int]) -> int:
    return max(range(len(size)), key=size.__getitem__)


def _halo_free_axis(size: Sequence[int], fields: Mapping[str, ReceptiveField]) -> int | None:
    """Return the first axis along which every receptive field is one sample; None without one."""
    for axis, extent in enumerate(size):
        if extent > 1 and all(field.size[axis] == 1 for field in fields.values()):
            return axis
    return None
