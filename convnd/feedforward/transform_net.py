"""A small network that gives fields of any rank one style in a single forward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.feedforward.network_shape import INPUT, NetworkShape
from convnd.nn import ConvNd, interpolate_nd, pad_nd
from convnd.nn.layout import channels_last

__all__ = ["FieldStatistics", "TransformNet", "field_statistics"]

_FLOOR = 0.02
"""Standard deviation that is added to that of a field, so that a flat one stays flat."""

_EPSILON = 1e-3
"""Number that is added to the variance of a layer, so that a flat field stays flat."""

_WAVES, _SHORTEST_WAVE, _LONGEST_WAVE = 12, 3.0, 24.0
"""Number of plane waves, and their wavelengths in positions of the lowest resolution."""


class FieldStatistics(NamedTuple):
    """Mean and standard deviation of a layer over its positions.

    Args:
        mean: mean ``(B, C)``.
        deviation: standard deviation ``(B, C)``.
    """

    mean: Tensor
    deviation: Tensor


class _Normalization(nn.Module):
    r"""Gives each channel a mean and a deviation that are learnt (Ulyanov et al., 2016).

    .. math:: y = \gamma\,(x - \mu) / \sqrt{\sigma^2 + \varepsilon} + \beta

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, statistics: FieldStatistics | None) -> Tensor:
        """Normalise ``(B, C, *S)`` by known statistics, or by its own."""
        axes, ones = tuple(range(2, x.ndim)), (1,) * (x.ndim - 2)
        if statistics is None:
            # With channels innermost, torch.var_mean takes five times as long.
            mean = x.mean(axes, keepdim=True)
            variance = (x - mean).square().mean(axes, keepdim=True)
        else:
            mean = statistics.mean.reshape(-1, x.shape[1], *ones)
            variance = statistics.deviation.square().reshape(mean.shape)
        scale = self.weight.view(-1, *ones) * (variance + _EPSILON).rsqrt()
        return torch.addcmul(self.bias.view(-1, *ones) - mean * scale, x, scale)


class TransformNet(nn.Module):
    r"""An image transformation network (Johnson et al., 2016) over any number of axes.

    The input is standardised by its mean :math:`\mu_x` and deviation :math:`\sigma_x` over
    positions, in a fixed orthonormal basis :math:`Q` of its channels (for three of them grey and
    two colour differences). The output has the style's, plus a change that the layers compute:

    .. math:: z = (Q x - \mu_x) / (\sigma_x + \varepsilon), \qquad
              y = Q^T \big(\mu_s + \sigma_s\,(z + f(z))\big)

    :math:`f` is an encoder of strided convolutions, residual blocks, and a decoder of nearest
    neighbour resizing and convolutions (Odena et al., 2016), with sums across from the encoder. All
    convolutions replicate the outermost samples. In the decoder each channel is normalised over the
    positions (Ulyanov et al., 2016), so that the contrast of the pattern does not depend on that of
    the content.

    The means and deviations of the normalisations are the only numbers that depend on the whole
    field, and they are sums over positions. So the tiles of a field first add up what one
    normalisation after the other reads, see `features`. With these statistics, a tile with a halo
    of the receptive field has the values of the whole field.

    Args:
        shape: the numbers that determine the layers.

    >>> net = TransformNet(NetworkShape.for_rank(1, 1))
    >>> tuple(net(torch.zeros(2, 1, 50)).shape)
    (2, 1, 50)
    """

    basis: Tensor
    waves: Tensor
    style_mean: Tensor
    style_deviation: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        rank, end = shape.spatial_dims, shape.end_kernel

        def conv(inputs: int, outputs: int, kernel: int = 3, **more: Any) -> ConvNd:
            more |= {"padding": kernel // 2, "padding_mode": "replicate", "spatial_dims": rank}
            return ConvNd(inputs, outputs, kernel, **more)

        widths = [shape.width * 2**level for level in range(shape.levels + 1)]
        self.first = conv(shape.channels, widths[0], end)
        self.down = nn.ModuleList(
            conv(wide, narrow, stride=2) for wide, narrow in itertools.pairwise(widths)
        )
        deepest = widths[-1]
        self.register_buffer("waves", wave_vectors(rank))
        self.pattern = ConvNd(2 * len(self.waves), deepest, 1, spatial_dims=rank)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(deepest, deepest), nn.ReLU(), conv(deepest, deepest))
            for _ in range(shape.blocks)
        )
        self.up = nn.ModuleList(
            conv(narrow, wide, bias=False)  # the normalisation would take it away
            for wide, narrow in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
        )
        self.norms = nn.ModuleList(_Normalization(wide) for wide in reversed(widths[:-1]))
        self.last = conv(widths[0], shape.channels, end)
        self.register_buffer("basis", channel_basis(shape.channels))
        self.register_buffer("style_mean", torch.zeros(shape.channels))
        self.register_buffer("style_deviation", torch.ones(shape.channels))

    def initialize(self, seed: int) -> None:
        """Draw the weights at random; the output then is the input with the style's statistics.

        Args:
            seed: seed of the weights.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 1:
                    weight.fill_(0.0 if name.endswith("bias") else 1.0)
                    continue
                deviation = math.sqrt(2 / math.prod(weight.shape[1:]))
                if name.startswith("last"):
                    deviation *= 0.1
                elif name.startswith("pattern"):  # the content should count more than the position
                    deviation *= 0.3
                elif name.startswith("blocks") and ".2." in name:
                    deviation /= math.sqrt(self.shape.blocks)
                weight.normal_(0, deviation, generator=generator)

    def set_style(self, style: Sequence[Tensor]) -> None:
        """Set the mean and the deviation of outputs to those of a style.

        Args:
            style: ``(B, C, *S_i)`` each; the statistics of all have the same weight.
        """
        statistics = [field_statistics(values, self.basis) for values in style]
        self.style_mean.copy_(torch.cat([one.mean for one in statistics]).mean(0))
        self.style_deviation.copy_(torch.cat([one.deviation for one in statistics]).mean(0))

    def forward(
        self,
        x: Tensor,
        statistics: Mapping[str, FieldStatistics] | None = None,
        origin: Sequence[int] = (),
    ) -> Tensor:
        """Transform a batch of fields.

        Args:
            x: ``(B, C, *S)``, values of about ``[0, 1]``.
            statistics: statistics of the fields that ``x`` is a part of, by name of the
                normalisation; those that are left out are computed from ``x``.
            origin: position of the first sample of ``x`` in that field, a multiple of
                `NetworkShape.stride` along each axis; empty is 0.

        Returns:
            ``(B, C, *S)``.

        Raises:
            ShapeError: ``x`` has another number of axes or channels than the network.
        """
        statistics = {} if statistics is None else statistics
        values = self._standardize(x, statistics)
        features = self._decode(self._encode(values, origin), statistics)
        change = _crop(self.last(features), x.shape[2:])
        ones = (1,) * self.shape.spatial_dims
        styled = (values + change) * self.style_deviation.view(-1, *ones)
        return _change_basis(styled + self.style_mean.view(-1, *ones), self.basis.mT)

    def features(
        self,
        x: Tensor,
        name: str,
        statistics: Mapping[str, FieldStatistics],
        origin: Sequence[int] = (),
    ) -> Tensor:
        """Compute the features that a normalisation reads.

        Args:
            x: ``(B, C, *S)``, values of about ``[0, 1]``.
            name: name of the normalisation, one of `NetworkShape.normalized_layers`.
            statistics: as for `forward`, of all normalisations before this one.
            origin: as for `forward`.

        Returns:
            ``(B, C_l, *S_l)``.
        """
        if name == INPUT:
            return _change_basis(x, self.basis)
        return self._decode(
            self._encode(self._standardize(x, statistics), origin), statistics, name
        )

    def _standardize(self, x: Tensor, statistics: Mapping[str, FieldStatistics]) -> Tensor:
        """Change the basis of a field, and standardise it."""
        rank, channels = self.shape.spatial_dims, self.shape.channels
        if x.ndim != rank + 2 or x.shape[1] != channels:
            raise ShapeError(
                "TransformNet",
                expected=f"values (B, {channels}, *S) with {rank} spatial axes",
                got=tuple(x.shape),
                remedy="use a network of this rank",
            )
        known = statistics.get(INPUT) or field_statistics(x, self.basis)
        ones = (1,) * rank
        mean = known.mean.reshape(-1, channels, *ones)
        deviation = (known.deviation + _FLOOR).reshape(-1, channels, *ones)
        return (_change_basis(x, self.basis) - mean) / deviation

    def _encode(self, values: Tensor, origin: Sequence[int]) -> list[Tensor]:
        """Compute the features at each resolution, from full to lowest."""
        step, size = self.shape.stride, values.shape[2:]
        padded = pad_nd(values, [(0, (-extent) % step) for extent in size], mode="replicate")
        features = [self.first(channels_last(padded)).relu_()]
        for down in self.down:
            features.append(down(features[-1]).relu_())
        start = [position // step for position in origin] or [0] * len(size)
        x = features[-1] + self.pattern(plane_waves(features[-1], self.waves, start))
        for block in self.blocks:
            x = x + block(x)
        return [*features[:-1], x]

    def _decode(
        self,
        features: Sequence[Tensor],
        statistics: Mapping[str, FieldStatistics],
        last: str | None = None,
    ) -> Tensor:
        """Compute features at full resolution, or what the normalisation ``last`` reads."""
        *skips, x = features
        for level, (up, norm) in enumerate(zip(self.up, self.norms, strict=True)):
            name = f"up{level}"
            x = up(interpolate_nd(x, scale_factor=2)) + skips.pop()
            if name == last:
                break
            x = norm(x, statistics.get(name)).relu_()
        return x


def _crop(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, extent in enumerate(size, 2):
        x = x.narrow(axis, 0, extent)
    return x


def channel_basis(channels: int) -> Tensor:
    """Return an orthonormal basis ``(C, C)`` of channels.

    The basis of three channels is grey and two colour differences; others have the unit matrix.

    >>> channel_basis(1)
    tensor([[1.]])
    """
    if channels != 3:
        return torch.eye(channels)
    # On the device "meta" of a network that is loaded, torch would import its compiler for this.
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], device="cpu")
    basis: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return basis


def field_statistics(x: Tensor, basis: Tensor) -> FieldStatistics:
    """Compute mean and standard deviation over the positions of each field of a batch.

    Args:
        x: ``(B, C, *S)``.
        basis: basis ``(C, C)`` of the channels.
    """
    flat = x.flatten(2)
    means = flat.mean(2)
    centred = flat - means[..., None]
    covariance = centred @ centred.mT / flat.shape[2]
    variance = ((basis @ covariance) * basis).sum(2)
    return FieldStatistics(means @ basis.mT, variance.clamp_min(0).sqrt())


def wave_vectors(spatial_dims: int) -> Tensor:
    """Return wave vectors ``(K, N)`` of plane waves of all directions, in radians per position.

    Their wavelengths are spread over 3 to 24 positions of the lowest resolution.

    Args:
        spatial_dims: number of axes N.
    """
    generator = torch.Generator().manual_seed(26)
    directions = torch.randn(_WAVES, spatial_dims, generator=generator, device="cpu")
    directions /= directions.norm(dim=1, keepdim=True)
    shares = torch.arange(_WAVES, device="cpu").remainder(4) / 3
    wavelengths = _SHORTEST_WAVE * (_LONGEST_WAVE / _SHORTEST_WAVE) ** shares
    vectors: Tensor = directions * (2 * math.pi / wavelengths)[:, None]
    return vectors


def plane_waves(x: Tensor, waves: Tensor, origin: Sequence[int]) -> Tensor:
    """Compute sines and cosines ``(1, 2 K, *S)`` of plane waves at the positions of a field.

    Args:
        x: the field ``(B, C, *S)``.
        waves: result of `wave_vectors`.
        origin: position of its first sample along each axis.
    """
    ndim = x.ndim - 2
    phase = x.new_zeros((len(waves), *(1,) * ndim))
    for axis, (extent, start) in enumerate(zip(x.shape[2:], origin, strict=True)):
        places = torch.arange(extent, device=x.device).to(x) + start
        along = [1] * (ndim + 1)
        along[axis + 1] = extent
        vector = waves[:, axis].view(-1, *(1,) * ndim)
        phase = phase + vector * places.view(along)
    return torch.cat([phase.sin(), phase.cos()])[None]


def _change_basis(x: Tensor, basis: Tensor) -> Tensor:
    if basis.shape[0] == 1:
        return x
    return (basis @ x.flatten(2)).view(x.shape)
