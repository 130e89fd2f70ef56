"""A network that gives a picture the style of any other in one pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones import Backbone, Precision, load
from convnd.feedforward.decoder import (
    IMAGE,
    LEVELS,
    convolve,
    decode,
    load_convolutions,
    receptive_fields,
)
from convnd.feedforward.matching import COVARIANCE, AffineMap, StylePatches, monge_maps
from convnd.feedforward.style_parts import (
    StylePart,
    StyleTargets,
    blend_parts,
    with_shares_of_1,
)
from convnd.losses import INPUT, tile_index
from convnd.nn.layout import channels_last
from convnd.optimize import Tiler
from convnd.optimize.evaluation.tiles import (
    CropFeatures,
    OnTile,
    TileCounter,
    tile_features,
    write_tiles,
)
from convnd.optimize.evaluation.two_pass import add_sums
from convnd.shapes import Tile, Tiling
from convnd.stats import Sums, blend

__all__ = ["ArbitraryStyleNet"]

_RIDGES = {INPUT: 1e-3, **dict.fromkeys(LEVELS, 1e-2)}
"""Ridge of `monge_map` for the values and for each level."""

_NOISE = 0.5
"""Noise in the choice of patches, in standard deviations of the style's features, see
`StylePatches.nearest`."""

_MOST_PATCHES = 4096
"""Largest number of positions of the styles that the content's positions are compared with."""

_BYTES_PER_PIXEL = 900
"""Peak memory of one pass. 760 to 833 bytes were measured, in the encoder's first block and the
decoder's last."""

_FIXED_BYTES = 320 << 20
"""Memory of one pass at any size: patches of the style, buffers of convolutions, and what the
allocator keeps."""


class ArbitraryStyleNet(Backbone):
    r"""A network that gives a picture any style in one pass.

    1. The encoder, the shipped network "compact", computes features of four layers, which are
       reduced to principal components.
    2. `monge_map` gives the features the style's mean and covariance, in closed form.
    3. For each position of the deepest layer, `StylePatches` finds the most similar position of
       the style, and reads the style's features there in all layers (as Kolkin et al., "Neural
       neighbor style transfer", 2022, with another distance).
    4. A decoder computes a change of the content from both kinds of features. The change is added
       to the content, whose colours have the style's mean and covariance by `monge_map`. Only the
       decoder was trained for this.

    The network reads sums over positions and patches of a style, so that the content can be cut
    into tiles: a first pass adds up the content's sums, and a second decodes each tile.

    Args:
        state: weights by name, see ``convnd/backbones/data/PROVENANCE.md``.

    Attributes:
        layers: the levels of the encoder, and "image".
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.spatial_dims, self.in_channels = 2, 3
        self.layers = (*LEVELS, IMAGE)
        self.encoder = load("compact", layers=LEVELS)
        self.encoder.padding = "replicate"
        Precision(winograd=True).apply(self.encoder)
        self.reductions = load_convolutions(state, "reduce")
        for name, reduction in self.reductions.items():
            projection = self.encoder.projection(name)
            if projection is not None:  # one linear map instead of two
                weight = reduction.get_parameter("weight")
                weight.data = (weight.data.flatten(1) @ projection)[:, :, None, None]
        self.decoder = load_convolutions(state, "decode")
        self.receptive_fields = receptive_fields(self.encoder)
        self.requires_grad_(False).eval()

    def forward(
        self,
        x: Tensor,
        layers: Sequence[str],
        *,
        raw: Collection[str] = (),  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Compute the principal components of the encoder's features.

        Args:
            x: ``(1, 3, H, W)``, values of about ``[0, 1]``.
            layers: levels of the encoder; `convnd.losses.INPUT` is ``x`` itself.
            raw: not used, since no layer has a `projection`.

        Returns:
            ``(1, C_l, H_l, W_l)`` by layer.
        """
        levels = [name for name in layers if name != INPUT]
        features = self.encoder(channels_last(x), levels, raw=levels)
        reduced = {name: convolve(self.reductions[name], features[name]) for name in levels}
        return {name: x if name == INPUT else reduced[name] for name in layers}

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """See `Backbone.peak_bytes`; no gradient is computed."""
        return _FIXED_BYTES + _BYTES_PER_PIXEL * math.prod(size)

    @torch.no_grad()
    def read_styles(
        self, styles: Sequence[Tensor], weights: Sequence[float], tiler: Tiler
    ) -> StyleTargets:
        """Read the statistics and the patches of styles.

        Args:
            styles: ``(1, 3, H_i, W_i)`` each.
            weights: one weight for each style, for the mean of the sums and for the share of the
                patches.
            tiler: cuts the styles into tiles.
        """
        sums: list[Mapping[str, Sums]] = []
        patches: list[StylePatches] = []
        for style, weight in zip(styles, weights, strict=True):
            if weight:
                read = partial(self._read_style, style, _MOST_PATCHES * weight / sum(weights))
                size = style.shape[2:]
                style_sums, style_patches = tiler.run_with_retries(read, self, _READ, size)
                sums.append(style_sums)
                patches += style_patches
        used = [weight for weight in weights if weight]
        blended = {name: blend([part[name] for part in sums], used) for name in _READ}
        return StyleTargets(blended, StylePatches.join(patches))

    def _read_style(
        self, style: Tensor, most: float, tiling: Tiling
    ) -> tuple[Mapping[str, Sums], list[StylePatches]]:
        """Return the sums of one style, and at most about ``most`` of its patches."""
        positions = math.prod(style.shape[2:]) / _STRIDES[LEVELS[-1]] ** 2
        step = max(1, math.ceil(positions / most))
        totals: list[Sums] = []
        patches: list[StylePatches] = []
        for _, features in tile_features(partial(self, layers=_READ), style, tiling):
            totals = add_sums(totals, [COVARIANCE.sums(features[name]) for name in _READ])
            levels = {name: features[name] for name in LEVELS}
            patches.append(StylePatches.cut(levels, LEVELS[-1], _BLOCK_EXTENTS).every(step))
        return dict(zip(_READ, totals, strict=True)), patches

    @torch.no_grad()
    def match(
        self,
        contents: Sequence[Tensor],
        targets: StyleTargets,
        tiler: Tiler,
        *,
        masks: Sequence[Tensor] = (),
    ) -> dict[str, AffineMap]:
        """Compute the maps that give contents together the statistics of the styles.

        Args:
            contents: ``(1, 3, H, W)`` each, such as frames of a video.
            targets: statistics and patches of the styles.
            tiler: cuts the contents into tiles.
            masks: for each content, shares of positions in ``[0, 1]``, ``(1, 1, H, W)``. Only the
                statistics of positions with at least half of its largest share are matched. Empty
                is all positions.

        Returns:
            The map of the values and of each level, by name.
        """
        totals: list[Sums] = []
        shares: Sequence[Tensor | None] = masks or [None] * len(contents)
        for content, mask in zip(contents, shares, strict=True):
            compute: CropFeatures = partial(self, layers=_READ)
            read = partial(self._read_content, compute, content, [mask])
            (sums,) = tiler.run_with_retries(read, self, _READ, content.shape[2:])
            totals = add_sums(totals, [sums[name] for name in _READ])
        return monge_maps(dict(zip(_READ, totals, strict=True)), targets.sums, _RIDGES)

    def _read_content(
        self,
        compute: CropFeatures,
        content: Tensor,
        masks: Sequence[Tensor | None],
        tiles: Iterable[Tile],
    ) -> list[dict[str, Sums]]:
        """Compute the sums of a content inside each of some masks; None is all of it."""
        inside = [None if mask is None else _inside(mask) for mask in masks]
        totals: list[list[Sums]] = [[] for _ in masks]
        for tile, features in tile_features(compute, content, tiles):
            for number, chosen in enumerate(inside):
                sums = []
                for name, values in features.items():
                    if chosen is not None:
                        window = tile_index(tile.windows[name])
                        values = values[:, :, chosen[name][window][0, 0]].contiguous()
                    sums.append(COVARIANCE.sums(values))
                totals[number] = add_sums(totals[number], sums)
        return [dict(zip(_READ, total, strict=True)) for total in totals]

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        parts: Sequence[StylePart],
        tiler: Tiler,
        *,
        seed: int = 0,
        on_tile: OnTile | None = None,
    ) -> Tensor:
        """Give a content a style, or each part of it a style of its own.

        Args:
            content: ``(1, 3, H, W)``, values of about ``[0, 1]``.
            parts: the parts. Where several are, their features are averaged by their shares before
                the decoder reads them; where none is, the first one counts.
            tiler: cuts the content into tiles.
            seed: seed of the noise in the choice of patches.
            on_tile: is called after each tile of both passes, if there are several.

        Returns:
            ``(1, 3, H, W)``; values may lie a little outside of ``[0, 1]``.
        """
        noise = self.draw_noise(content.shape[2:], torch.Generator().manual_seed(seed))
        work = partial(self._stylize, content, parts, noise.to(content), on_tile)
        return tiler.run_with_retries(work, self, (*_READ, IMAGE), content.shape[2:])

    def _stylize(
        self,
        content: Tensor,
        parts: Sequence[StylePart],
        noise: Tensor,
        on_tile: OnTile | None,
        tiling: Tiling,
    ) -> Tensor:
        compute = self._crop_features(content, tiling)
        unmatched = [part.share for part in parts if part.maps is None]
        passes = 2 if unmatched else 1
        counter = TileCounter(passes * len(tiling), on_tile if len(tiling) > 1 else None)
        found: Iterator[Mapping[str, Sums]] = iter(())
        if unmatched:
            tiles = counter.over(tiling)
            found = iter(self._read_content(compute, content, unmatched, tiles))
        matched = [
            part
            if part.maps is not None
            else replace(part, maps=monge_maps(next(found), part.targets.sums, _RIDGES))
            for part in parts
        ]
        matched = with_shares_of_1(matched, content)

        def decode(crop: Tensor, origin: Sequence[int]) -> Tensor:
            features = compute(crop)
            first = [start // _STRIDES[LEVELS[-1]] for start in origin]
            window = _window(origin, crop.shape[2:])
            of_crop = noise[tile_index(_window(first, features[LEVELS[-1]].shape[2:]))]
            return self._decode(features, [part.cut(window) for part in matched], of_crop)

        return write_tiles(decode, content, counter.over(tiling), IMAGE, torch.empty_like(content))

    def _crop_features(self, content: Tensor, tiling: Tiling) -> CropFeatures:
        """Return what computes the features of a crop; of one piece, they are computed once."""
        if len(tiling) > 1:
            return partial(self, layers=_READ)
        features = self(content, _READ)
        return lambda _: features

    def draw_noise(self, size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw noise that varies the choice of patches, so that flat areas show no lattice.

        Args:
            size: pixels of the content along each axis.
            generator: source of the noise, on the CPU, so that a seed gives the same noise on every
                device.

        Returns:
            ``(1, C, *S)``, one value for each channel and position of the deepest level.
        """
        extent = [n // _STRIDES[LEVELS[-1]] for n in size]
        channels = self.reductions[LEVELS[-1]].get_parameter("weight").shape[0]
        return _NOISE * torch.randn((1, channels, *extent), generator=generator)

    def _decode(
        self, features: Mapping[str, Tensor], parts: Sequence[StylePart], noise: Tensor
    ) -> Tensor:
        """Compute the picture from the features of a content."""
        matched: dict[str, Tensor] = {}
        nearest: list[dict[str, Tensor]] = []
        shares: dict[str, list[Tensor | None]] = {}
        for name in reversed(_READ):  # the deepest level first
            own = [part.maps[name](features[name]) for part in parts if part.maps is not None]
            shares[name] = [_pooled(part.share, name) for part in parts]
            if not nearest:
                nearest = [
                    part.targets.patches.nearest(values, noise, share)
                    for part, values, share in zip(parts, own, shares[name], strict=True)
                ]
            matched[name] = blend_parts(own, shares[name])
        detail = {
            name: blend_parts([one[name] for one in nearest], shares[name]) for name in LEVELS
        }
        return matched[INPUT] + decode(self.decoder, matched, detail)


_READ = (INPUT, *LEVELS)
_STRIDES = {name: 1 << depth for depth, name in enumerate(LEVELS)}
_BLOCK_EXTENTS = {name: _STRIDES[LEVELS[-1]] // stride for name, stride in _STRIDES.items()}


def _pooled(share: Tensor | None, level: str) -> Tensor | None:
    """Average shares ``(1, 1, H, W)`` over the area of each position of a level."""
    return share if share is None or level == INPUT else F.avg_pool2d(share, _STRIDES[level])


def _inside(mask: Tensor) -> dict[str, Tensor]:
    """Return which positions of the values and of each level a mask ``(1, 1, H, W)`` covers."""
    covered: dict[str, Tensor] = {}
    for name in _READ:
        share = _pooled(mask, name)
        assert share is not None
        covered[name] = share >= 0.5 * share.max().clamp_min(1e-9)
    return covered


def _window(first: Sequence[int], size: Sequence[int]) -> list[slice]:
    """Return the positions of a crop along each axis."""
    return [slice(start, start + count) for start, count in zip(first, size, strict=True)]
