"""Distances of a picture from its content and styles in the features of the original VGG-19."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones import VGG, choose_device, load
from convnd.optimize import Tiler, tiled_sums
from convnd.stats import GramStatistic

__all__ = ["CONTENT_LAYER", "STYLE_LAYERS", "content_and_style", "mean_grams", "style_distances"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The layers whose Gram matrices are the style, as in Gatys et al. (2016)."""

CONTENT_LAYER = "relu4_2"
"""The layer whose features are the content, as in Gatys et al. (2016)."""

_MAX_CROP = 2**19  # pixels that are computed at once, in about 1 GB


def content_and_style(
    result: Tensor, content: Tensor, opacity: Tensor
) -> tuple[float, dict[str, Tensor]]:
    r"""Compute the relative content energy of a result, and the Gram matrices of both pictures.

    .. math:: E = \frac{\sum_p w_p \lVert F_p(G) - F_p(C) \rVert^2}
        {\sum_p w_p \lVert F_p(C) \rVert^2}

    over the positions :math:`p` of `CONTENT_LAYER` with their opacity :math:`w`.

    Args:
        result: ``(1, 3, H, W)`` in ``[0, 1]``.
        content: picture of the same size.
        opacity: ``(1, 1, H, W)``.

    Returns:
        The energy, NaN if the content has no features; and the mean Gram matrices of result and
        content, ``(2, C, C)`` for each of `STYLE_LAYERS`, see `mean_grams`.
    """
    pictures = torch.cat([torch.cat([result, content]), opacity.expand(2, 1, -1, -1)], 1)
    sums = _sums(pictures, (*STYLE_LAYERS, CONTENT_LAYER))
    change, power = sums.pop(CONTENT_LAYER)[0].diagonal().tolist()
    return (change / power if power > 0 else math.nan), _normalize(sums)


def mean_grams(picture: Tensor, opacity: Tensor) -> dict[str, Tensor]:
    r"""Compute the Gram matrices of a picture's features, averaged over positions.

    .. math:: G_{kk'} = \sum_p w_p\, a_{pk}\, a_{pk'} \Big/ \sum_p w_p

    Args:
        picture: ``(1, 3, H, W)`` in ``[0, 1]``.
        opacity: weights :math:`w`, ``(1, 1, H, W)``, which are averaged to each layer's positions.

    Returns:
        ``(1, C, C)`` for each of `STYLE_LAYERS`.
    """
    return _normalize(_sums(torch.cat([picture, opacity], 1), STYLE_LAYERS))


def style_distances(grams: dict[str, Tensor], targets: Sequence[dict[str, Tensor]]) -> list[float]:
    r"""Compute the relative distance of Gram matrices to the mean of the styles', for each layer.

    .. math:: \lVert G - \bar G(S) \rVert_F^2 \big/ \lVert \bar G(S) \rVert_F^2

    Args:
        grams: Gram matrix ``(1, C, C)`` of each layer.
        targets: Gram matrices of each style, by layer.
    """
    distances = []
    for layer in STYLE_LAYERS:
        target = torch.stack([style[layer] for style in targets]).mean(0)
        power = target.square().sum().item()
        change = (grams[layer] - target).square().sum().item()
        distances.append(change / power if power > 0 else math.nan)
    return distances


@functools.lru_cache(1)
def _network() -> VGG:
    return load("vgg19", layers=[*STYLE_LAYERS, CONTENT_LAYER]).to(choose_device())


def _sums(pictures: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Add up products of features over positions, tile by tile.

    Each position is multiplied by the root of its opacity. The root is also appended as a channel,
    so that the last entry of a Gram matrix is the sum of opacities. The content layer has two
    channels instead: the norm of the difference of the two pictures, and that of the second one.
    """
    network = _network()
    device = next(network.parameters()).device

    def features(values: Tensor) -> dict[str, Tensor]:
        values = values.to(device)
        weighted_features = {}
        for name, layer in network(values[:, :3], layers).items():
            stride = [int(step) for step in network.receptive_fields[name].stride]
            root = F.avg_pool2d(values[:, 3:], stride).sqrt()
            if name == CONTENT_LAYER:
                norms = [part.norm(dim=0, keepdim=True) for part in (layer[0] - layer[1], layer[1])]
                weighted_features[name] = torch.stack(norms, 1) * root[:1]
            else:
                weighted_features[name] = torch.cat([layer * root, root], 1)
        return weighted_features

    tiler = Tiler(fits=lambda crop, _: math.prod(crop) <= _MAX_CROP)
    tiling = tiler.make_tiling(network, layers, pictures.shape[2:])
    statistics = {name: GramStatistic() for name in layers}
    sums = tiled_sums(features, pictures, tiling, statistics)
    return {name: layer.total.double().cpu() for name, layer in sums.items()}


def _normalize(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: total[:, :-1, :-1] / total[:, -1:, -1:].clamp_min(1e-12)
        for name, total in sums.items()
    }
