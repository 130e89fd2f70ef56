"""A small network that gives scans the sharpness and noise of another scan in one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.feedforward.network_shape import OUTPUT
from convnd.nn import ConvNd
from convnd.options import Range, check_range
from convnd.shapes import Layer, ReceptiveField

__all__ = ["LookChannels", "LookNet", "LookShape"]

_DILATIONS = (1, 2, 4)
"""Distances between the taps of the layers that see the tissue around a sample."""

_MOST = {"spatial_dims": 8, "width": 64, "noises": 32}


@dataclass(frozen=True, kw_only=True)
class LookShape:
    """The numbers that determine the layers of a `LookNet`.

    Args:
        spatial_dims: number of spatial axes.
        width: channels of the layers that see the tissue.
        noises: number of noises that are mixed.
        taps: taps of the filters of sharpness and noise along each axis, an odd number.
        thick: axes along which these filters have one tap, as the sum of 2 to the power of each.

    Raises:
        UsageError: a number is outside its range.
        ShapeError: the number of taps is even.

    >>> LookShape(spatial_dims=3, taps=9).receptive_field.size
    (17, 17, 17)
    """

    spatial_dims: int
    width: int = 8
    noises: int = 4
    taps: int = 9
    thick: int = 0

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            check_range(name, getattr(self, name), Range(1, most))
        check_range("taps", self.taps, Range(1, 31))
        check_range("thick", self.thick, Range(0, (1 << self.spatial_dims) - 1))
        if self.taps % 2 == 0:
            raise ShapeError("LookShape", expected="odd taps", got=self.taps, remedy="add one")

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps of the filters of sharpness and noise along each axis.

        >>> LookShape(spatial_dims=3, thick=1).kernel
        (1, 9, 9)
        """
        axes = range(self.spatial_dims)
        return tuple(1 if self.thick >> axis & 1 else self.taps for axis in axes)

    @property
    def receptive_field(self) -> ReceptiveField:
        """The samples that one sample of the output depends on."""
        reach = max(self.taps // 2, 1 + sum(_DILATIONS))
        layer = Layer.build(
            "conv", self.spatial_dims, kernel=2 * reach + 1, padding=reach, channels=1
        )
        return ReceptiveField.identity(self.spatial_dims).compose(layer)

    @property
    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """The receptive field by layer, as tiles need it."""
        return {OUTPUT: self.receptive_field}

    def record(self) -> dict[str, int]:
        """Return the numbers by name."""
        return dataclasses.asdict(self)


class LookChannels(NamedTuple):
    """The parts of a change, ``(B, 1, *S)`` each, and gains ``(B, K, *S)``.

    Args:
        sharpness: change of the sharpness.
        removed: noise that is taken away, as a change.
        added: noise that is added.
        gains: gain of each of K noises at each sample.
    """

    sharpness: Tensor
    removed: Tensor
    added: Tensor
    gains: Tensor


class LookNet(nn.Module):
    r"""Changes the sharpness and the noise of scans, over any number of axes.

    .. math:: y = x + \sum_j h_j w_j (x_j - x_i) + r(x) + \sum_k g_k(x)\,(b_k * n)

    The sharpness is one linear filter :math:`h`, as the kernel of a reconstruction is. It reads
    differences from the sample itself and only valid samples (:math:`w`), so it keeps constant
    fields, and padding changes nothing. The noise is white noise :math:`n`, filtered by
    :math:`b_k` and mixed with gains that layers with taps at growing distances compute from the
    scan, as tissues have noise of different power and spectrum. :math:`r` removes noise.

    No layer depends on more than the samples around its output, so tiles are exact.

    Args:
        shape: the numbers that determine the layers.

    >>> net, x = LookNet(LookShape(spatial_dims=1)), torch.randn(1, 1, 50)
    >>> bool((net(x, torch.ones_like(x), torch.randn(1, 1, 50)) == x).all())
    True
    """

    def __init__(self, shape: LookShape) -> None:
        super().__init__()
        self.shape = shape

        rank = shape.spatial_dims

        def conv(
            inputs: int, outputs: int, kernel: int | Sequence[int], dilation: int = 1, **more: Any
        ) -> ConvNd:
            taps = (kernel,) * rank if isinstance(kernel, int) else tuple(kernel)
            padding = tuple(dilation * (count // 2) for count in taps)
            more |= {"padding": padding, "dilation": dilation, "spatial_dims": rank}
            return ConvNd(inputs, outputs, taps, **more)

        width = shape.width
        self.filter = conv(1, 1, shape.kernel, bias=False)
        self.noises = conv(1, shape.noises, shape.kernel, bias=False)
        self.first = conv(2, width, 3)
        self.context = nn.ModuleList(conv(width, width, 3, distance) for distance in _DILATIONS)
        self.last = conv(width, shape.noises + 1, 1)
        self.initialize(0)

    def initialize(self, seed: int) -> None:
        """Draw the weights at random; the network then changes nothing.

        Args:
            seed: seed of the weights.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 1 or name.startswith(("filter", "last")):
                    weight.zero_()
                else:
                    deviation = 1 / math.sqrt(math.prod(weight.shape[1:]))
                    weight.normal_(0, deviation, generator=generator)

    def forward(self, x: Tensor, valid: Tensor, noise: Tensor) -> Tensor:
        """Change scans.

        Args:
            x: ``(B, 1, *S)``, finite, in units of about the contrast of tissues.
            valid: ``(B, 1, *S)``; 1, and 0 for padding, which stays as it is.
            noise: ``(B, 1, *S)``; white noise of variance 1.

        Returns:
            ``(B, 1, *S)``.

        Raises:
            ShapeError: the fields have another number of axes than the network.
        """
        parts = self.channels(x, valid, noise)
        return x + valid * (parts.sharpness + parts.removed + parts.added)

    def channels(self, x: Tensor, valid: Tensor, noise: Tensor) -> LookChannels:
        """Compute the parts of the change; the arguments are those of `forward`."""
        rank = self.shape.spatial_dims
        if x.ndim != rank + 2 or x.shape[1] != 1:
            raise ShapeError(
                "LookNet",
                expected=f"values (B, 1, *S) with {rank} spatial axes",
                got=tuple(x.shape),
                remedy="use a network of this rank",
            )
        known = x * valid
        sharpness = self.filter(known) - x * self.filter(valid)
        features = torch.relu(self.first(torch.cat([known, valid], 1)))
        for layer in self.context:
            features = features + torch.relu(layer(features))
        mixed = self.last(features)
        gains, removed = mixed[:, 1:], mixed[:, :1]
        added = (gains * self.noises(noise)).sum(1, keepdim=True)
        return LookChannels(sharpness, removed, added, gains)
