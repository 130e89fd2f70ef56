"""A perceptual loss between two batches, as a module for training loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from convnd.backbones import Backbone, MultiPlanar, load
from convnd.backbones.module import copy_module
from convnd.errors import ShapeError, UsageError
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

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of a batch from another.

        Args:
            input: ``(B, C, *S)``.
            target: the same shape; gets a gradient if it requires one.

        Returns:
            A scalar, or ``(B,)`` without reduction; float32 at least.

        Raises:
            ShapeError: the shapes differ, do not fit ``spatial_dims``, or are too small.
        """
        if input.shape != target.shape or input.ndim != self.spatial_dims + 2:
            raise ShapeError(
                "PerceptualLoss",
                expected=f"two batches (B, C, *S) of one shape with {self.spatial_dims} axes",
                got=f"{tuple(input.shape)} and {tuple(target.shape)}",
                remedy="bring both to one size",
            )
        batch = len(input)
        features = self._features(input)
        with torch.set_grad_enabled(torch.is_grad_enabled() and target.requires_grad):
            targets = self._features(target)
        total = torch.zeros(batch, device=input.device)
        for name, weight in self.content.items():
            total = total + weight * self._distance(features[name], targets[name], batch)
        for name, weight in self.style.items():
            summary, reference = (self._summary(layers[name]) for layers in (features, targets))
            total = total + weight * self._distance(summary, reference, batch)
        if self.reduction == "none":
            return total
        return total.sum() if self.reduction == "sum" else total.mean()

    def _features(self, x: Tensor) -> dict[str, Tensor]:
        if x.shape[1] != self.network.in_channels:
            x = x.flatten(0, 1).unsqueeze(1)
            x = x.expand(-1, self.network.in_channels, *x.shape[2:])
        features: dict[str, Tensor] = self.network(x, list({**self.content, **self.style}))
        return features

    def _summary(self, features: Tensor) -> Tensor:
        with full_precision(features):
            return self.statistic.summary(self.statistic.sums(features))

    def _distance(self, values: Tensor, target: Tensor, batch: int) -> Tensor:
        """The distance of every example ``(B,)``."""
        values, target = accumulable(values), accumulable(target)
        squared_errors = (values - target).square().reshape(batch, -1)
        if self.normalization == "mean":
            return squared_errors.mean(1)
        energy = target.detach().square().reshape(batch, -1).sum(1)
        return squared_errors.sum(1) / energy.where(energy > 0, 1.0)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return (
            f"content={list(self.content)}, style={list(self.style)}, "
            f"normalization={self.normalization!r}, reduction={self.reduction!r}"
        )


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
