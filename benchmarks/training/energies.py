"""Style and content energies of batches, as a training balances them."""

from __future__ import annotations

import torch
from torch import Tensor

from convnd.backbones import Precision, load
from convnd.nn.layout import channels_last
from convnd.stats import gram_matrix

__all__ = ["Energies"]

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"


class Energies:
    """Energies in the features of a network; those of ``convnd evaluate`` with "vgg19".

    Args:
        backbone: name of the network.
        device: device of the pictures; a GPU computes features in bfloat16.
    """

    def __init__(self, backbone: str, device: torch.device) -> None:
        self.network = load(backbone, layers=[*STYLE, CONTENT]).to(device)
        is_gpu = device.type == "cuda"
        Precision(torch.bfloat16 if is_gpu else torch.float32, winograd=True).apply(self.network)

    @torch.no_grad()
    def read(self, contents: Tensor, styles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of contents, and mean Gram matrices of styles."""
        features = self.network(channels_last(styles), STYLE)
        content = self.network(channels_last(contents), (CONTENT,))[CONTENT]
        return content, [mean_gram(features[name]) for name in STYLE]

    def __call__(
        self, results: Tensor, content: Tensor, grams: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Style energy of each layer ``(B, 5)``, and content energy ``(B,)``."""
        features = self.network(channels_last(results), (*STYLE, CONTENT))
        layers = [
            relative(mean_gram(features[name]), gram)
            for name, gram in zip(STYLE, grams, strict=True)
        ]
        return torch.stack(layers, 1), relative(features[CONTENT].float(), content.float())


def mean_gram(features: Tensor) -> Tensor:
    """Products of channels averaged over positions, ``(B, C, C)``."""
    return gram_matrix(features) / features[0, 0].numel()


def relative(values: Tensor, target: Tensor) -> Tensor:
    """Squared distance to the target over the target's sum of squares, for each item."""
    axes = tuple(range(1, values.ndim))
    return (values - target).square().sum(axes) / target.square().sum(axes).clamp_min(1e-12)
