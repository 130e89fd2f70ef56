"""Every layer of `convnd.nn` beside torch's layers of the same arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convnd import nn as cn


@dataclass(frozen=True)
class Case:
    """One layer with arguments.

    Args:
        ours: our class.
        theirs: torch's class by rank; None where torch has none of this rank.
        arguments: positional ones, in torch's order.
        options: named ones, for both.
        own: named ones for ours alone.
        size: extent along every axis.
        channels: of the input.
        shape: of the input by rank, if it is not ``(2, channels, size, …)``.
    """

    ours: Callable[..., nn.Module]
    theirs: Callable[[int], Callable[..., nn.Module] | None]
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    extra: tuple[tuple[str, Any], ...] = ()
    size: int = 6
    channels: int = 4
    shape: Callable[[int], tuple[int, ...]] | None = None

    def input(self, ndim: int, generator: torch.Generator) -> Tensor:
        grid = (2, self.channels, *[self.size] * ndim)
        return torch.rand(self.shape(ndim) if self.shape else grid, generator=generator)

    def make(self, ndim: int) -> nn.Module:
        options = dict(self.options) | dict(self.extra)
        return self.ours(*self.arguments, **options, spatial_dims=ndim)

    def make_torchs(self, ndim: int) -> nn.Module | None:
        kind = self.theirs(ndim)
        return None if kind is None else kind(*self.arguments, **dict(self.options))


def _named(name: str) -> Callable[[int], Callable[..., nn.Module] | None]:
    return lambda ndim: getattr(nn, f"{name}{ndim}d", None)


def _two_axes(kind: Callable[..., nn.Module]) -> Callable[[int], Callable[..., nn.Module] | None]:
    return lambda ndim: kind if ndim == 2 else None


def _upsample(_ndim: int) -> Callable[..., nn.Module]:
    return nn.Upsample


CASES: dict[str, Case] = {
    "conv": Case(cn.ConvNd, _named("Conv"), (4, 6, 3, 2, 1, 1, 2)),
    "conv_same": Case(cn.ConvNd, _named("Conv"), (4, 2, 2, 1, "same", 2)),
    "conv_causal": Case(cn.ConvNd, lambda _: None, (4, 2, 3, 2, "causal")),
    "conv_separable": Case(cn.DepthwiseSeparableConvNd, lambda _: None, (4, 6, 3, 2, 1)),
    "conv_reflect": Case(
        cn.ConvNd, _named("Conv"), (4, 2, 3, 1, 1), (("padding_mode", "reflect"), ("bias", False))
    ),
    "conv_transpose": Case(
        cn.ConvTransposeNd, _named("ConvTranspose"), (4, 6, 3, 2, 1, 1, 2), size=3
    ),
    "max_pool": Case(cn.MaxPoolNd, _named("MaxPool"), (3, 2, 1)),
    "max_pool_ceil": Case(cn.MaxPoolNd, _named("MaxPool"), (2, 2, 0, 2, False, True), size=6),
    "avg_pool": Case(cn.AvgPoolNd, _named("AvgPool"), (3, 2, 1)),
    "avg_pool_ceil": Case(cn.AvgPoolNd, _named("AvgPool"), (3, 2, 1, True, False)),
    "adaptive_avg_pool": Case(cn.AdaptiveAvgPoolNd, _named("AdaptiveAvgPool"), (4,)),
    "adaptive_max_pool": Case(cn.AdaptiveMaxPoolNd, _named("AdaptiveMaxPool"), (4,)),
    "batch_norm": Case(cn.BatchNormNd, _named("BatchNorm"), (4,)),
    "instance_norm": Case(cn.InstanceNormNd, _named("InstanceNorm"), (4, 1e-5, 0.1, True)),
    "pad_constant": Case(cn.PadNd, _named("ConstantPad"), (2,), (("value", 3.0),)),
    "pad_zero": Case(cn.PadNd, _named("ZeroPad"), (-1,)),
    "pad_reflect": Case(cn.PadNd, _named("ReflectionPad"), (2,), extra=(("mode", "reflect"),)),
    "pad_replicate": Case(cn.PadNd, _named("ReplicationPad"), (2,), extra=(("mode", "replicate"),)),
    "pad_circular": Case(cn.PadNd, _named("CircularPad"), (2,), extra=(("mode", "circular"),)),
    "upsample_nearest": Case(cn.UpsampleNd, _upsample, (None, 1.7)),
    "upsample_exact": Case(cn.UpsampleNd, _upsample, (5, None, "nearest-exact")),
    "upsample_area": Case(cn.UpsampleNd, _upsample, (4, None, "area")),
    "upsample_linear": Case(cn.UpsampleNd, lambda _: None, (None, 1.7, "linear")),
    "upsample_corners": Case(cn.UpsampleNd, lambda _: None, (9, None, "linear", True)),
    "upsample_cubic": Case(cn.UpsampleNd, lambda _: None, (9, None, "cubic")),
    "unfold": Case(cn.UnfoldNd, _two_axes(nn.Unfold), (3, 1, 1, 2), size=4),
    "fold": Case(
        cn.FoldNd,
        _two_axes(nn.Fold),
        (4, 3, 1, 1, 2),
        shape=lambda ndim: (2, 2 * 3**ndim, 2**ndim),
    ),
    "gaussian_blur": Case(cn.GaussianBlurNd, lambda _: None, (0.6,)),
    "pixel_shuffle": Case(cn.PixelShuffleNd, _two_axes(nn.PixelShuffle), (2,), size=2, channels=16),
    "pixel_unshuffle": Case(cn.PixelUnshuffleNd, _two_axes(nn.PixelUnshuffle), (2,), size=4),
}
