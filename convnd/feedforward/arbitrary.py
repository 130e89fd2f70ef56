"""A network that gives a picture the style of any other in one pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.backbones import Backbone, Precision, load
from convnd.backbones.kernels import ConvOptions
from convnd.backbones.operations import Convolution
from convnd.feedforward.matching import AffineMap, StylePatches, monge_map
from convnd.losses import INPUT, tile_index
from convnd.nn.layout import channels_last
from convnd.optimize import Tiler
from convnd.optimize.evaluation.targets import tiled_sums
from convnd.optimize.evaluation.tiles import tile_features, write_tiles
from convnd.optimize.evaluation.two_pass import add_sums
from convnd.shapes import Layer, ReceptiveField, Tiling
from convnd.stats import CovarianceStatistic, Sums, blend

__all__ = ["IMAGE", "LEVELS", "ArbitraryStyleNet", "StyleTargets"]

LEVELS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""The layers of the encoder that the decoder reads, from shallow to deep."""

IMAGE = "image"
"""Name of the decoder's output."""

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


@dataclass(frozen=True)
class StyleTargets:
    """Statistics and patches of styles, which are all that the network reads of them.

    Args:
        sums: sums of the values and of each level by name, see `convnd.stats.CovarianceStatistic`.
        patches: features of the styles in blocks.
    """

    sums: Mapping[str, Sums]
    patches: StylePatches


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
        self.reductions = _convolutions(state, "reduce")
        for name, reduction in self.reductions.items():
            projection = self.encoder.projection(name)
            if projection is not None:  # one linear map instead of two
                weight = reduction.get_parameter("weight")
                weight.data = (weight.data.flatten(1) @ projection)[:, :, None, None]
        self.decoder = _convolutions(state, "decode")
        self.receptive_fields = _receptive_fields(self.encoder)
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
        reduced = {name: _convolve(self.reductions[name], features[name]) for name in levels}
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
            totals = add_sums(totals, [_COVARIANCE.sums(features[name]) for name in _READ])
            levels = {name: features[name] for name in LEVELS}
            patches.append(StylePatches.cut(levels, LEVELS[-1], _BLOCK_EXTENTS).every(step))
        return dict(zip(_READ, totals, strict=True)), patches

    @torch.no_grad()
    def match(
        self, contents: Sequence[Tensor], targets: StyleTargets, tiler: Tiler
    ) -> dict[str, AffineMap]:
        """Compute the maps that give contents together the statistics of the styles.

        Args:
            contents: ``(1, 3, H, W)`` each, such as frames of a video.
            targets: statistics and patches of the styles.
            tiler: cuts the contents into tiles.

        Returns:
            The map of the values and of each level, by name.
        """
        totals: list[Sums] = []
        for content in contents:
            read = partial(self._read_content, content)
            sums = tiler.run_with_retries(read, self, _READ, content.shape[2:])
            totals = add_sums(totals, [sums[name] for name in _READ])
        return _maps(dict(zip(_READ, totals, strict=True)), targets.sums)

    def _read_content(self, content: Tensor, tiling: Tiling) -> dict[str, Sums]:
        statistics = dict.fromkeys(_READ, _COVARIANCE)
        return tiled_sums(partial(self, layers=_READ), content, tiling, statistics)

    @torch.no_grad()
    def stylize(
        self,
        content: Tensor,
        targets: StyleTargets,
        tiler: Tiler,
        *,
        seed: int = 0,
        maps: Mapping[str, AffineMap] | None = None,
    ) -> Tensor:
        """Give a content the style.

        Args:
            content: ``(1, 3, H, W)``, values of about ``[0, 1]``.
            targets: statistics and patches of the styles.
            tiler: cuts the content into tiles.
            seed: seed of the noise in the choice of patches.
            maps: result of `match`; None computes it for this content.

        Returns:
            ``(1, 3, H, W)``; values may lie a little outside of ``[0, 1]``.
        """
        noise = self.draw_noise(content.shape[2:], torch.Generator().manual_seed(seed))
        work = partial(self._stylize, content, targets, noise.to(content), maps)
        return tiler.run_with_retries(work, self, (*_READ, IMAGE), content.shape[2:])

    def _stylize(
        self,
        content: Tensor,
        targets: StyleTargets,
        noise: Tensor,
        maps: Mapping[str, AffineMap] | None,
        tiling: Tiling,
    ) -> Tensor:
        if len(tiling) == 1:
            return self.stylize_whole(content, targets, noise, maps)
        if maps is None:
            maps = _maps(self._read_content(content, tiling), targets.sums)

        def decode(crop: Tensor, origin: Sequence[int]) -> Tensor:
            features = self(crop, _READ)
            first = [start // _STRIDES[LEVELS[-1]] for start in origin]
            extent = features[LEVELS[-1]].shape[2:]
            part = noise[tile_index([slice(n, n + m) for n, m in zip(first, extent, strict=True)])]
            return self._decode(features, maps, targets.patches, part)

        return write_tiles(decode, content, tiling, IMAGE, torch.empty_like(content))

    def stylize_whole(
        self,
        content: Tensor,
        targets: StyleTargets,
        noise: Tensor,
        maps: Mapping[str, AffineMap] | None = None,
    ) -> Tensor:
        """Stylise in one piece, differentiably with respect to the decoder's weights.

        Args:
            content: ``(1, 3, H, W)``.
            targets: statistics and patches of the styles.
            noise: result of `draw_noise`.
            maps: as for `stylize`.

        Returns:
            ``(1, 3, H, W)``.
        """
        with torch.no_grad():
            features = self(content, _READ)
            if maps is None:
                sums = {name: _COVARIANCE.sums(features[name]) for name in _READ}
                maps = _maps(sums, targets.sums)
        return self._decode(features, maps, targets.patches, noise)

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
        self,
        features: Mapping[str, Tensor],
        maps: Mapping[str, AffineMap],
        patches: StylePatches,
        noise: Tensor,
    ) -> Tensor:
        """Compute the picture from the features of a content."""
        matched = {name: maps[name](features[name]) for name in LEVELS}
        nearest = patches.nearest(matched[LEVELS[-1]], noise)
        hidden: list[Tensor] = []
        for level in reversed(LEVELS):
            size = matched[level].shape[2:]
            detail = _extend(nearest[level], size)
            parts = [*(_extend(_double(x), size) for x in hidden), matched[level], detail]
            x = channels_last(torch.cat(parts, 1))
            for name in _DECODER[level]:
                x = _convolve(self.decoder[name], x, relu=True)
            hidden = [x]
        change = _convolve(self.decoder[IMAGE], hidden[0])
        return maps[INPUT](features[INPUT]) + change


_READ = (INPUT, *LEVELS)
_COVARIANCE = CovarianceStatistic()
_STRIDES = {name: 1 << depth for depth, name in enumerate(LEVELS)}
_BLOCK_EXTENTS = {name: _STRIDES[LEVELS[-1]] // stride for name, stride in _STRIDES.items()}
_DECODER: Mapping[str, Sequence[str]] = {
    **{name: (name,) for name in LEVELS},
    "relu3_1": ("relu3_1", "relu3_1b"),
}
"""The decoder's convolutions at each level."""


def _convolutions(state: Mapping[str, Tensor], group: str) -> nn.ModuleDict:
    """Make the convolutions whose weights are stored as ``group.NAME.weight``."""
    modules = nn.ModuleDict()
    for key, weight in state.items():
        start, _, rest = key.partition(".")
        name, _, kind = rest.rpartition(".")
        if start == group and kind == "weight":
            bias = state.get(f"{group}.{name}.bias")
            module = Convolution(tuple(weight.shape), None, bias=bias is not None)
            module.weight.data = weight.float()
            if module.bias is not None and bias is not None:
                module.bias.data = bias.float()
            modules[name] = module
    return modules


def _convolve(convolution: nn.Module, x: Tensor, *, relu: bool = False) -> Tensor:
    y: Tensor
    y, _ = convolution(x, (), x.dtype, ConvOptions(relu=relu, winograd=True))
    return y


def _maps(content: Mapping[str, Sums], style: Mapping[str, Sums]) -> dict[str, AffineMap]:
    """Compute the map of the values and of each level."""
    return {
        name: monge_map(
            _COVARIANCE.summary(content[name])[0],
            _COVARIANCE.summary(style[name])[0],
            ridge=ridge,
        )
        for name, ridge in _RIDGES.items()
    }


def _double(x: Tensor) -> Tensor:
    """Double the positions along both axes, by linear interpolation."""
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def _extend(x: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last row and column up to a size, since poolings round sizes down."""
    for axis, extent in enumerate(size, 2):
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        x = torch.cat([x, *[last] * (extent - x.shape[axis])], axis)
    return x


def _receptive_fields(encoder: Backbone) -> dict[str, ReceptiveField]:
    """Compute receptive field and stride of each level and of the output."""
    fields = {name: encoder.receptive_fields[name] for name in LEVELS}
    conv = Layer.build("conv", 2, kernel=3, padding=1, channels=1)
    field = fields[LEVELS[-1]]
    for level in reversed(LEVELS):
        for _ in _DECODER[level]:
            field = field.compose(conv)
        if level != LEVELS[0]:
            field = _doubled(field)
    fields[IMAGE] = field.compose(conv)
    return fields


def _doubled(field: ReceptiveField) -> ReceptiveField:
    """Return the field after `_double`: positions 2k and 2k + 1 lie between k - 1 and k + 1."""
    stride = [int(step) for step in field.stride]
    return ReceptiveField(
        tuple(size + 3 * step // 2 for size, step in zip(field.size, stride, strict=True)),
        tuple(step // 2 for step in stride),
        tuple(offset - step for offset, step in zip(field.offset, stride, strict=True)),
    )
