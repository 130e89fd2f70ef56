"""Similarity of two pictures: structure, colours, edges and borders.

Pictures are ``(1, 3, H, W)`` in ``[0, 1]``, read as sRGB. Each function weighs pixels by an opacity
``(1, 1, H, W)`` in ``[0, 1]``, so that transparent pixels do not count.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd_tasks.modalities.images.codec import LUMA
from convnd_tasks.modalities.structural_similarity import structural_similarity

__all__ = [
    "border_change",
    "color_difference",
    "color_distribution_distance",
    "edge_correlation",
    "luma",
    "luma_similarity",
    "srgb_to_lab",
]

_BORDER, _INSIDE = 2, 8  # px from the edge where the border ends, and where the ring inside it ends
_SAMPLES = 2**18  # largest number of pixels whose colours are sorted
_QUANTILES = 1001


def luma_similarity(one: Tensor, other: Tensor, opacity: Tensor) -> float:
    """Compute the structural similarity of the luma of two pictures, at windows inside them.

    Args:
        one: picture.
        other: picture of the same size.
        opacity: opacity of each pixel; that of the centre weighs a window.

    Returns:
        From -1 to 1, where 1 is equality; NaN if the window does not fit into the picture.
    """
    first, second = luma(one.double())[0, 0], luma(other.double())[0, 0]
    return structural_similarity(first, second, 1.0, opacity[0, 0])


def srgb_to_lab(values: Tensor) -> Tensor:
    """Convert colours to CIELAB (CIE 1976) under the white of sRGB, D65.

    Args:
        values: colours in sRGB (IEC 61966-2-1), ``(B, 3, *S)`` in ``[0, 1]``.

    Returns:
        ``(B, 3, *S)``: lightness from 0 to 100, and the axes a* and b*.

    >>> import torch
    >>> srgb_to_lab(torch.ones(1, 3, 1)).flatten().round().abs().tolist()
    [100.0, 0.0, 0.0]
    """
    linear = torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ],
        dtype=values.dtype,
    )
    matrix /= matrix.sum(1, keepdim=True)  # relative to the white point
    xyz = torch.einsum("ij,bj...->bi...", matrix, linear)
    cube_root = xyz.clamp_min(1e-12) ** (1 / 3)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, cube_root, xyz * (29 / 6) ** 2 / 3 + 4 / 29).unbind(
        1
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def color_difference(one: Tensor, other: Tensor, opacity: Tensor) -> float:
    """Average the distance of the colours of corresponding pixels in CIELAB (ΔE of CIE 1976).

    Args:
        one: picture.
        other: picture of the same size.
        opacity: opacity of each pixel.
    """
    distance = (srgb_to_lab(one) - srgb_to_lab(other)).square().sum(1, keepdim=True).sqrt()
    return _mean(distance, opacity)


def color_distribution_distance(
    one: Tensor, other: Tensor, opacity: Tensor, other_opacity: Tensor
) -> float:
    """Compute the sliced Wasserstein-1 distance of two sets of colours in CIELAB.

    Colours are projected onto 13 directions: the axes of CIELAB, and the diagonals of their planes
    and of the cube. The result is the mean over directions of the distance between the sorted
    projections (Rabin et al., 2011, "Wasserstein barycenter and its application to texture
    mixing"). Large pictures are thinned out to every n-th pixel.

    Args:
        one: picture.
        other: picture of any size.
        opacity: opacity of the pixels of ``one``.
        other_opacity: opacity of the pixels of ``other``.

    Returns:
        Distance in ΔE.
    """
    signs = itertools.product((-1.0, 0.0, 1.0), repeat=3)
    # Opposite directions give the same distance.
    directions = F.normalize(torch.tensor([sign for sign in signs if sign > (0.0, 0.0, 0.0)]))
    first, second = (
        _projection_quantiles(values, weights, directions)
        for values, weights in ((one, opacity), (other, other_opacity))
    )
    return (first - second).abs().mean().item()


def edge_correlation(one: Tensor, other: Tensor, opacity: Tensor) -> float:
    """Compute the Pearson correlation of the luma's gradient magnitudes (Sobel) in two pictures.

    Args:
        one: picture.
        other: picture of the same size.
        opacity: opacity of each pixel.

    Returns:
        From -1 to 1, where 1 means that edges are in the same places and equally strong relative
        to each other; NaN if one of the pictures has no edges.
    """
    smoothing = torch.tensor([1.0, 2.0, 1.0]).view(1, 1, 3, 1) / 4
    slope = torch.tensor([-0.5, 0.0, 0.5]).view(1, 1, 1, 3)
    kernel = smoothing * slope

    def magnitude(values: Tensor) -> Tensor:
        slopes = F.conv2d(luma(values), torch.cat([kernel, kernel.mT]))
        return slopes.square().sum(1, keepdim=True).sqrt()

    weight = opacity[..., 1:-1, 1:-1]
    x, y = (values - _mean(values, weight) for values in (magnitude(one), magnitude(other)))
    power = _mean(x * x, weight) * _mean(y * y, weight)
    if not power > 1e-24:
        return math.nan
    return min(1.0, _mean(x * y, weight) / math.sqrt(power))


def border_change(content: Tensor, result: Tensor, opacity: Tensor) -> dict[str, float]:
    """Compare the change of the outermost pixels with the change of those next to them.

    The border is the outermost 2 pixels, and the inside is the ring from there to 8 pixels. The
    result is 0 if a transfer changes both equally. Paler borders have more lightness and less
    chroma.

    Args:
        content: picture.
        result: picture of the same size.
        opacity: opacity of each pixel.

    Returns:
        Mean change of the border minus mean change of the inside, for ``"lightness"`` (L* of
        CIELAB) and ``"chroma"`` (C*).

    >>> import torch
    >>> content = torch.full((1, 3, 32, 32), 0.5)
    >>> result = content.clone()
    >>> result[..., 0, :] = 1
    >>> border_change(content, result, torch.ones(1, 1, 32, 32))["lightness"] > 1
    True
    """
    ring = torch.zeros_like(opacity)
    ring[..., _BORDER:-_BORDER, _BORDER:-_BORDER] = 1
    border = opacity * (1 - ring)
    if min(opacity.shape[2:]) > 2 * _INSIDE:
        ring[..., _INSIDE:-_INSIDE, _INSIDE:-_INSIDE] = 0
    content_lab, result_lab = srgb_to_lab(content), srgb_to_lab(result)
    lightness = result_lab[:, :1] - content_lab[:, :1]
    chroma = result_lab[:, 1:].norm(dim=1, keepdim=True) - content_lab[:, 1:].norm(
        dim=1, keepdim=True
    )
    return {
        name: _mean(change, border) - _mean(change, opacity * ring)
        for name, change in (("lightness", lightness), ("chroma", chroma))
    }


def luma(values: Tensor) -> Tensor:
    """Compute the luma ``(B, 1, H, W)`` of pictures (ITU-R BT.601)."""
    weights = torch.tensor(LUMA, dtype=values.dtype).view(1, 3, 1, 1)
    return (values * weights).sum(1, keepdim=True)


def _mean(values: Tensor, weight: Tensor) -> float:
    weight = weight.double()
    total = weight.sum()
    return ((values.double() * weight).sum() / total).item() if total > 0 else math.nan


def _projection_quantiles(values: Tensor, opacity: Tensor, directions: Tensor) -> Tensor:
    """Compute quantiles ``(D, Q)`` of the colours along each direction."""
    step = -(-opacity.numel() // _SAMPLES)
    weight = opacity.flatten()[::step].double()
    colors = srgb_to_lab(values.flatten(2)[..., ::step])[0]
    colors, weight = colors[:, weight > 0], weight[weight > 0]
    projections, order = (directions @ colors).sort(1)
    places = weight[order].cumsum(1)
    places /= places[:, -1:].clone()
    levels = ((torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES).expand(
        len(directions), -1
    )
    ranks = torch.searchsorted(places, levels.contiguous()).clamp_max(projections.shape[1] - 1)
    return projections.gather(1, ranks)
