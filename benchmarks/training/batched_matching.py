"""The matching of `convnd.feedforward.ArbitraryStyleNet` for batches of pairs, on any device.

Instead of decomposing each matrix into eigenvectors, roots of all matrices of a batch are found
together by the iteration of Denman and Beavers in the form of Newton and Schulz (Higham, "Functions
of matrices", 2008, section 6.3), which consists of matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from convnd.feedforward.decoder import LEVELS
from convnd.losses import INPUT

ITERATIONS = 28
RIDGES = {INPUT: 1e-3, **dict.fromkeys(LEVELS, 1e-2)}  # as those of `ArbitraryStyleNet`
NOISE = 0.5  # in the choice of patches, likewise

Features = Mapping[str, Tensor]


def match(
    content: Features, style: Features, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Match features of contents to those of styles, pair by pair.

    Args:
        content: values and features ``(B, C_l, *S_l)`` of the contents.
        style: the same of the styles.
        generator: source of the noise in the choice of patches, on the features' device.

    Returns:
        The content's features with the style's mean and covariance, and the features of the
        style's nearest patches.
    """
    matched = {name: monge(values, style[name], RIDGES[name]) for name, values in content.items()}
    return matched, nearest(matched[LEVELS[-1]], style, generator)


def monge(content: Tensor, style: Tensor, ridge: float) -> Tensor:
    """Give features ``(B, C, *S)`` the mean and covariance of others, see `monge_map`."""
    mean, covariance = moments(content)
    style_mean, target = moments(style)
    count = covariance.shape[1]
    eye = torch.eye(count, dtype=covariance.dtype, device=covariance.device)
    scale = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    covariance = covariance + (ridge * scale)[:, None, None] * eye
    root, inverse = roots(covariance)
    middle = root @ target @ root
    floor = 1e-9 * middle.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-20)
    matrix = inverse @ roots(middle + floor[:, None, None] * eye)[0] @ inverse
    offset = style_mean - matrix @ mean
    flat = content.flatten(2)
    mapped = torch.baddbmm(offset.to(flat), matrix.to(flat), flat)
    return mapped.view(content.shape)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(B, C, 1)`` and covariance ``(B, C, C)`` over positions, in float64."""
    values = features.flatten(2).double()
    mean = values.mean(2, keepdim=True)
    centred = values - mean
    return mean, centred @ centred.mT / values.shape[2]


def roots(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Square roots of positive definite matrices ``(B, C, C)``, and the inverses of the roots."""
    norm = matrices.flatten(1).norm(dim=1)[:, None, None]
    eye = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    y, z = matrices / norm, eye.expand_as(matrices)
    for _ in range(ITERATIONS):
        step = 1.5 * eye - 0.5 * (z @ y)
        y, z = y @ step, step @ z
    return y * norm.sqrt(), z / norm.sqrt()


def nearest(matched: Tensor, style: Features, generator: torch.Generator) -> dict[str, Tensor]:
    """Features of the styles' nearest patches, see `convnd.feedforward.matching.StylePatches`."""
    batch, size = matched.shape[0], matched.shape[2:]
    keys = style[LEVELS[-1]].flatten(2)
    spread = keys.std(2, correction=0, keepdim=True)
    noise = torch.randn(matched.flatten(2).shape, generator=generator, device=matched.device)
    queries = matched.flatten(2) + NOISE * noise * spread
    distances = torch.baddbmm(keys.square().sum(1)[:, None], queries.mT, keys, alpha=-2)
    rows = distances.argmin(2)
    which = torch.arange(batch, device=rows.device)[:, None]
    features = {}
    for depth, name in enumerate(reversed(LEVELS)):
        extent = 1 << depth
        positions = style[LEVELS[-1]].shape[2:]
        values = style[name][:, :, : positions[0] * extent, : positions[1] * extent]
        blocks = values.unflatten(3, (-1, extent)).unflatten(2, (-1, extent))
        blocks = blocks.permute(0, 2, 4, 3, 5, 1).flatten(1, 2)  # (B, K, extent, extent, C)
        if extent > 1:
            blocks = blocks - blocks.mean((2, 3), keepdim=True)
        picked = blocks[which, rows].unflatten(1, tuple(size))
        features[name] = picked.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return features
