"""A perceptual loss between two batches, as a module for training loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convnd.backbones import Backbone, MultiPlanar, load
from convnd.backbones.module import copy_module
from convnd.errors import ShapeError, UsageError
from convnd.losses.base import relative_distance
from convnd.nn._native import traced_as_leaf
from convnd.nn.transforms import full_precision
from convnd.registry import check_name
from convnd.stats import STATISTICS, accumulable

__all__ = ["PerceptualLoss"]

Layers = Sequence[str] | Mapping[str, float]
"""Names of layers, or weights by name; without weights each counts 1."""


class PerceptualLoss(nn.Module):
    r"""Distance between the features of two batches in a frozen network, for any number of axes.

    .. math:: \sum_l w_l \frac{\lVert a_l(x) - a_l(y) \rVert^2}{\lVert a_l(y) \rVert^2}
              + \sum_l v_l \frac{\lVert G_l(x) - G_l(y) \rVert^2}{\lVert G_l(y) \rVert^2}

    with the features :math:`a_l` of the layers of ``content``, the statistics :math:`G_l` of the
    layers of ``style``, and their weights :math:`w_l, v_l`. Johnson et al. (2016) do not divide by
    the energies of ``y``; the quotients let one weight serve every layer, size and number of axes.
    With ``normalization="mean"``, squared differences are averaged instead.

    The network is a frozen part of the module: `to` moves it, and it stays in evaluation mode. It
    reads values of about 0 to 1. If it takes another number of channels than the batches have, each
    of their channels is compared separately.

    A target or a style of a batch of one is that of every item. Without a style of its own, the
    loss takes the statistics of the target; `fix_style` computes those of a fixed style once, and
    keeps them as buffers, which ``state_dict`` holds.

    Args:
        spatial_dims: number of spatial axes.
        backbone: a name of `convnd.backbones.BACKBONES`, or a backbone.
        content: layers whose features are compared: names, or weights by name.
        style: layers whose statistics are compared: names, or weights by name.
        statistic: one of `convnd.stats.STATISTICS`.
        normalization: ``"balanced"`` as above, or ``"mean"``.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"``.
        inflation: how the weights of pictures become those of ``spatial_dims`` axes, see
            `convnd.backbones.load`; ``"multiplanar"`` compares slices along every pair of axes.

    Raises:
        UnknownNameError: no such backbone, layer, statistic, normalization or reduction.
        UsageError: there is no layer.

    >>> loss = PerceptualLoss(spatial_dims=1, content=["relu2_1"], reduction="none")
    >>> x, y = torch.zeros(2, 1, 64), torch.linspace(0, 1, 64).expand(2, 1, 64)
    >>> loss(x, y).shape, loss(y, y).tolist()
    (torch.Size([2]), [0.0, 0.0])

    A loss for a network that gives pictures one style:

    >>> loss = PerceptualLoss(spatial_dims=2, content=["relu2_2"], style=["relu1_2"])
    >>> loss = loss.fix_style(torch.rand(1, 3, 20, 30))
    >>> pictures = torch.rand(4, 3, 16, 16)
    >>> loss(pictures, pictures).ndim, list(loss.state_dict())[-1]
    (0, 'style_targets.relu1_2')
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        backbone: str | Backbone = "compact",
        content: Layers = ("relu1_2", "relu2_2", "relu3_2", "relu4_2"),
        style: Layers = (),
        statistic: str = "gram",
        normalization: str = "balanced",
        reduction: str = "mean",
        inflation: str = "mean",
    ) -> None:
        super().__init__()
        check_name("PerceptualLoss: normalization", normalization, ["balanced", "mean"])
        check_name("PerceptualLoss: reduction", reduction, ["mean", "sum", "none"])
        names = list(dict.fromkeys((*content, *style)))
        if not names:
            raise UsageError(
                "PerceptualLoss",
                expected="at least one layer in content or style",
                got="none",
                remedy="name one",
            )
        if isinstance(backbone, str):
            backbone = _load(backbone, spatial_dims, names, inflation)
        # A copy that shares the weights: the caller's network stays as it is, trainable or not.
        self.network = copy_module(backbone, "PerceptualLoss").requires_grad_(False).eval()
        self.style_targets = _Buffers()
        self.content = _layer_weights(backbone, content)
        self.style = _layer_weights(backbone, style)
        self.statistic = STATISTICS[statistic]
        self.normalization, self.reduction = normalization, reduction
        self.spatial_dims = spatial_dims

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Set the mode of the module; its network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def fix_style(self, style: Tensor | None) -> PerceptualLoss:
        """Compute the statistics of a style once, and keep them as buffers.

        Args:
            style: ``(B, C, *S)`` or ``(1, C, *S)``, of any size; None removes a fixed style.

        Returns:
            This module.

        Raises:
            ShapeError: the style does not fit ``spatial_dims``.
        """
        self.style_targets = _Buffers()
        if style is not None:
            self._check("style", style, style.shape[1] if style.ndim > 1 else 0, len(style))
            with torch.no_grad():
                for name, values in self._summaries(self._features(style, self.style)).items():
                    values = values.reshape(len(style), -1, *values.shape[1:])
                    self.style_targets.register_buffer(name.replace(".", "/"), values)
        return self

    @traced_as_leaf
    def forward(self, input: Tensor, target: Tensor, style: Tensor | None = None) -> Tensor:
        """Compute the distance of a batch from another.

        Args:
            input: ``(B, C, *S)``.
            target: the same shape, or ``(1, C, *S)`` for every item; gets a gradient if it requires
                one. If only ``style`` has layers, it may have any size.
            style: where the statistics come from, ``(B, C, *S)`` or ``(1, C, *S)`` of any size;
                None is the fixed style if there is one, else the target.

        Returns:
            A scalar, or ``(B,)`` without reduction; float32 at least.

        Raises:
            ShapeError: the shapes differ, do not fit ``spatial_dims``, or are too small.
        """
        batch, channels = input.shape[:2] if input.ndim > 2 else (0, 0)
        self._check("input", input, channels, batch)
        self._check("target", target, channels, batch, tuple(input.shape[2:]))
        features = self._features(input, {**self.content, **self.style})
        own_style = style is not None or self.style_targets.has_any()
        with torch.set_grad_enabled(torch.is_grad_enabled() and target.requires_grad):
            names = self.content if own_style else {**self.content, **self.style}
            targets = self._features(target, names) if names else {}
        total = torch.zeros(batch, device=input.device)
        for name, weight in self.content.items():
            total = total + weight * self._distance(features[name], targets[name], batch)
        summaries = self._summaries(features)
        references = self._style_summaries(targets, style, channels, batch)
        for name, weight in self.style.items():
            total = total + weight * self._distance(summaries[name], references[name], batch)
        if self.reduction == "none":
            return total
        return total.sum() if self.reduction == "sum" else total.mean()

    def _check(
        self, role: str, x: Tensor, channels: int, batch: int, size: tuple[int, ...] | None = None
    ) -> None:
        """Check the shape of an argument; without content layers, sizes may differ."""
        fits_size = size is None or not self.content or tuple(x.shape[2:]) == size
        fits = x.ndim == self.spatial_dims + 2 and x.shape[1] == channels and fits_size
        if not fits or len(x) not in (1, batch):
            raise ShapeError(
                "PerceptualLoss",
                expected=f"batches (B, C, *S) of one shape with {self.spatial_dims} axes; a target "
                "or a style may be (1, C, *S)",
                got=f"{role} {tuple(x.shape)}" + ("" if size is None else f" for {size}"),
                remedy="bring them to one size",
            )

    def _features(self, x: Tensor, layers: Mapping[str, float]) -> dict[str, Tensor]:
        if x.shape[1] != self.network.in_channels:
            x = x.flatten(0, 1).unsqueeze(1)
            x = x.expand(-1, self.network.in_channels, *x.shape[2:])
        features: dict[str, Tensor] = self.network(x, list(layers))
        return features

    def _summaries(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The statistics of the layers of ``style`` that are there."""
        summaries = {}
        for name in self.style:
            if name in features:
                with full_precision(features[name]):
                    sums = self.statistic.sums(features[name])
                    summaries[name] = self.statistic.summary(sums)
        return summaries

    def _style_summaries(
        self, targets: Mapping[str, Tensor], style: Tensor | None, channels: int, batch: int
    ) -> dict[str, Tensor]:
        """The statistics to reach, of a style if there is one, else of the target."""
        if style is not None:
            self._check("style", style, channels, batch)
            with torch.set_grad_enabled(torch.is_grad_enabled() and style.requires_grad):
                return self._summaries(self._features(style, self.style))
        if self.style_targets.has_any():
            return {name: self._fixed_style(name, channels, batch) for name in self.style}
        return self._summaries(targets)

    def _fixed_style(self, name: str, channels: int, batch: int) -> Tensor:
        values = self.style_targets.get(name.replace(".", "/"))
        parts = 1 if channels == self.network.in_channels else channels
        if len(values) not in (1, batch) or values.shape[1] != parts:
            raise ShapeError(
                "PerceptualLoss",
                expected=f"{len(values)} items of as many channels as the fixed style",
                got=f"{batch} of {channels}",
                remedy="fix one style for all items, with their channels",
            )
        return values

    def _distance(self, values: Tensor, target: Tensor, batch: int) -> Tensor:
        """The distance of every example ``(B,)``."""
        values = accumulable(values).reshape(batch, -1)
        target = accumulable(target).reshape(-1, values.shape[1])
        distances = (values - target).square().sum(1)
        energy = target.detach().square().sum(1)
        return relative_distance(
            distances, self.normalization, energy=energy, count=values.shape[1]
        )

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return (
            f"content={list(self.content)}, style={list(self.style)}, "
            f"normalization={self.normalization!r}, reduction={self.reduction!r}"
        )


class _Buffers(nn.Module):
    """Tensors by name, which ``load_state_dict`` also creates."""

    def has_any(self) -> bool:
        return bool(self._buffers)

    def get(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *arguments: Any
    ) -> None:
        for key, values in state_dict.items():
            name = key.removeprefix(prefix)
            if name != key and name not in self._buffers:
                self.register_buffer(name, torch.empty_like(values))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _load(name: str, spatial_dims: int, layers: Sequence[str], inflation: str) -> Backbone:
    planar = inflation == "multiplanar"
    net = load(
        name,
        spatial_dims=min(2, spatial_dims) if planar else spatial_dims,
        layers=layers,
        inflation="mean" if planar else inflation,
    )
    return MultiPlanar(net, spatial_dims=spatial_dims) if planar and spatial_dims > 2 else net


def _layer_weights(backbone: Backbone, layers: Layers) -> dict[str, float]:
    """The weight of every layer, with those of all planes of a 2.5-D network."""
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if isinstance(backbone, MultiPlanar):
        planes = {name: backbone.plane_layers([name]) for name in weights if "@" not in name}
        weights = {
            plane: weight / len(planes.get(name, (name,)))
            for name, weight in weights.items()
            for plane in planes.get(name, (name,))
        }
    for name in weights:
        check_name("layer", name, backbone.layers)
    return weights
