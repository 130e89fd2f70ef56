"""Style and content energies of batches, as a training balances them."""

from __future__ import annotations

import torch
from torch import Tensor

from convnd.backbones import choose_precision, load
from convnd.nn.layout import channels_last
from convnd.stats import gram_matrix

__all__ = ["Energies", "Features", "shifts"]

Features = dict[str, Tensor]
"""Features and Gram matrices by name, each with a batch axis."""

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"


class Energies:
    """Energies in the features of a network; those of ``convnd evaluate`` with "vgg19".

    Args:
        backbone: name of the network.
        device: device of the pictures; where bfloat16 is fast, features are computed in it.
    """

    def __init__(self, backbone: str, device: torch.device) -> None:
        self.network = load(backbone, layers=[*STYLE, CONTENT]).to(device)
        self.precision = choose_precision(device)
        self.precision.apply(self.network)

    @torch.no_grad()
    def of_content(self, values: Tensor) -> Features:
        """The features of contents ``(B, 3, H, W)`` that a result is compared with."""
        return {CONTENT: self.network(channels_last(values), (CONTENT,))[CONTENT].bfloat16()}

    @torch.no_grad()
    def of_style(self, values: Tensor) -> Features:
        """Mean Gram matrices of styles ``(B, 3, H, W)``."""
        features = self.network(channels_last(values), STYLE)
        return {f"gram of {name}": mean_gram(features[name]) for name in STYLE}

    def __call__(
        self, results: Tensor, content: Features, style: Features
    ) -> tuple[Tensor, Tensor]:
        """Style energy of each layer ``(B, 5)``, and content energy ``(B,)``."""
        features = self.network(channels_last(results), (*STYLE, CONTENT))
        layers = [relative(mean_gram(features[name]), style[f"gram of {name}"]) for name in STYLE]
        target = content[CONTENT].float()
        return torch.stack(layers, 1), relative(features[CONTENT].float(), target)


def mean_gram(features: Tensor) -> Tensor:
    """Products of channels averaged over positions, ``(B, C, C)``."""
    return gram_matrix(features) / features[0, 0].numel()


def relative(values: Tensor, target: Tensor) -> Tensor:
    """Squared distance to the target over the target's sum of squares, for each item."""
    axes = tuple(range(1, values.ndim))
    return (values - target).square().sum(axes) / target.square().sum(axes).clamp_min(1e-12)


def shifts(results: Tensor, start: Tensor) -> Tensor:
    """Estimate by how many pixels the edges of results lie beside those they started from.

    Both energies hardly change if all edges move by a fraction of a pixel, so that nothing else
    holds them in place. A shifted picture differs from the first one by the shift times its slope.

    Args:
        results: ``(B, 3, H, W)``.
        start: the same pictures without the decoder's change.

    Returns:
        ``(B, 2)``, along the rows and the columns.
    """
    change, grey = (results - start).mean(1), start.mean(1)
    slopes = torch.stack(torch.gradient(grey, dim=(1, 2)), 1)
    power = slopes.square().sum((2, 3)).clamp_min(1e-9)
    return (change[:, None] * slopes).sum((2, 3)) / power
