"""Noise with the spectrum of a style: the start of a texture, and the detail of a finer size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.nn import resize_nd

__all__ = ["missing_detail", "random_phase_noise"]


def random_phase_noise(
    styles: Sequence[Tensor],
    size: Sequence[int],
    *,
    weights: Sequence[float] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return Gaussian noise with the styles' mean, power spectrum and covariance of channels.

    .. math:: x = \sum_i w_i \mu_i + \sum_i \sqrt{w_i}\; t_i * W_i

    with white noise :math:`W_i` that all channels share, and the style's deviation from its mean
    :math:`\mu_i`, windowed, as :math:`t_i`: the asymptotic discrete spot noise of Galerne et al.
    (2011), "Random phase textures: theory and synthesis", for any number of axes. A grey style
    gives grey noise.

    Args:
        styles: ``(B, C, *S_i)``; of a style larger than ``size`` the middle part is used.
        size: samples of the noise along each axis.
        weights: one weight for each style; empty gives all the same weight.
        generator: source of the white noise, on the CPU.

    Returns:
        ``(B, C, *size)`` on the device of the styles.

    >>> generator = torch.Generator().manual_seed(0)
    >>> style = torch.tensor([2.0, 3.0]).repeat(20).view(1, 1, 40).expand(1, 2, 40)
    >>> noise = random_phase_noise([style], (64,), generator=generator)
    >>> bool((noise[:, 0] == noise[:, 1]).all()), round(noise.mean().item(), 1)
    (True, 2.5)
    """
    shares = [weight / sum(weights) for weight in weights] or [1 / len(styles)] * len(styles)
    noise: Tensor | float = 0.0
    for style, share in zip(styles, shares, strict=True):
        mean = style.mean([*range(2, style.ndim)], keepdim=True)
        noise = noise + share * mean
        if share > 0:
            noise = noise + math.sqrt(share) * _spot_noise(style - mean, size, generator)
    assert isinstance(noise, Tensor)
    return noise


def missing_detail(
    styles: Sequence[Tensor],
    content: Tensor,
    coarse: Sequence[int],
    *,
    weights: Sequence[float] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return noise of the frequencies that a coarser size lacks, where styles have more of it.

    Added to the content, it gives each channel the variance of the styles above those frequencies.
    A channel in which the content has at least as much stays.

    Args:
        styles: ``(B, C, *S_i)``, with the spacing of the content.
        content: ``(B, C, *S)``.
        coarse: samples of the coarser size along each axis.
        weights: one weight for each style; empty gives all the same weight.
        generator: source of the noise, on the CPU.

    Returns:
        ``(B, C, *S)``.

    >>> generator = torch.Generator().manual_seed(0)
    >>> rough, smooth = torch.randn(1, 1, 400, generator=generator), torch.zeros(1, 1, 400)
    >>> detail = missing_detail([rough], smooth, [200], generator=generator)
    >>> bool(detail.var() > 0.3), missing_detail([smooth], rough, [200]).any().item()
    (True, False)
    """
    size, axes = content.shape[2:], [*range(2, content.ndim)]
    noise = random_phase_noise(styles, size, weights=weights, generator=generator)

    def detail(values: Tensor) -> Tensor:
        smooth = resize_nd(values, coarse, mode="linear", antialias=True)
        return values - resize_nd(smooth, size, mode="cubic")

    fine = detail(noise)
    power = fine.square().mean(axes, keepdim=True)
    lacking = power - detail(content).square().mean(axes, keepdim=True)
    return fine * (lacking.clamp_min(0) / power.clamp_min(1e-20)).sqrt()


def _spot_noise(
    deviation: Tensor, size: Sequence[int], generator: torch.Generator | None
) -> Tensor:
    """Filter white noise with a spot, and scale it to the spot's variance over all channels."""
    white = torch.randn(tuple(size), generator=generator).to(deviation)
    axes = [*range(2, deviation.ndim)]
    spot = deviation
    for axis, extent in zip(axes, size, strict=True):
        length = min(extent, spot.shape[axis])
        spot = spot.narrow(axis, (spot.shape[axis] - length) // 2, length)
        if length > 1:
            # Without a window, the jump between the ends would be the strongest edge.
            window = torch.hann_window(length + 2, periodic=False)[1:-1].sqrt().to(spot)
            spot = spot * window.view([-1 if other == axis else 1 for other in range(spot.ndim)])
    spot = spot - spot.mean(axes, keepdim=True)
    spectrum = torch.fft.rfftn(spot, s=tuple(size), dim=axes)
    spectrum *= torch.fft.rfftn(white, dim=[*range(white.ndim)])
    noise: Tensor = torch.fft.irfftn(spectrum, s=tuple(size), dim=axes)
    power = noise.square().mean([1, *axes], keepdim=True)
    variance = deviation.square().mean([1, *axes], keepdim=True)
    return noise * (variance / power.clamp_min(1e-20)).sqrt()
