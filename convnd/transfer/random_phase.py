"""Noise with the spectrum of a style: the start of a texture, and the detail of a finer size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.nn import resize_nd, resize_period

__all__ = ["detail_change", "random_phase_noise"]

_LEAST_POWER = 1e-20
"""Mean square of values, of a channel without detail."""


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


def detail_change(
    styles: Sequence[Tensor],
    content: Tensor,
    coarse: Sequence[int],
    *,
    bandwidth: float = 1.0,
    weights: Sequence[float] = (),
    generator: torch.Generator | None = None,
    periodic: bool = False,
) -> Tensor:
    r"""Return the change that gives the detail of a content the power of the styles' detail.

    Detail :math:`d` are the frequencies that a coarser size lacks, up to those that the styles
    contain. For each channel with the mean squares :math:`P_c` of the content's detail,
    :math:`P_s` of the styles' and :math:`P_n` of that of noise :math:`n` with the styles'
    spectrum, the change is

    .. math:: \sqrt{(P_s - P_c) / P_n}\; d(n) \quad (P_s > P_c), \qquad
              \big(\sqrt{P_s / P_c} - 1\big)\, d(c) \quad (P_s \le P_c).

    Args:
        styles: ``(B, C, *S_i)``, with the spacing of the content.
        content: ``(B, C, *S)``.
        coarse: samples of the coarser size along each axis.
        bandwidth: share of the content's frequencies, from 0 to its Nyquist frequency, that the
            styles contain.
        weights: one weight for each style; empty gives all the same weight.
        generator: source of the noise, on the CPU.
        periodic: whether the content is one period of a field.

    Returns:
        ``(B, C, *S)``.

    >>> generator = torch.Generator().manual_seed(0)
    >>> rough, smooth = torch.randn(2, 1, 1, 400, generator=generator)
    >>> smooth = smooth / 10
    >>> louder = smooth + detail_change([rough], smooth, [200], generator=generator)
    >>> quieter = rough + detail_change([smooth], rough, [200], generator=generator)
    >>> bool(0.4 < louder.var() < 0.8), bool(0.3 < quieter.var() < 0.7)
    (True, True)
    """
    size = content.shape[2:]
    shares = [extent / whole for extent, whole in zip(coarse, size, strict=True)]
    if bandwidth <= min(shares):
        return torch.zeros_like(content)  # the coarser size had all that the styles contain

    def detail(values: Tensor, *, periodic: bool = False) -> Tensor:
        known = [bandwidth] * len(shares)
        return _up_to(values, known, periodic=periodic) - _up_to(values, shares, periodic=periodic)

    own = detail(content, periodic=periodic)
    total = sum(weights) or len(styles)
    powers = [
        weight / total * _power(detail(style))
        for weight, style in zip(weights or [1.0] * len(styles), styles, strict=True)
    ]
    power, own_power = torch.stack(powers).sum(0), _power(own)
    noise = random_phase_noise(styles, size, weights=weights, generator=generator)
    noise = detail(noise, periodic=periodic)
    added = noise * ((power - own_power).clamp_min(0) / _power(noise)).sqrt()
    return added + own * ((power / own_power).clamp_max(1).sqrt() - 1)


def _power(values: Tensor) -> Tensor:
    """Average the squares of each channel; a channel of zeros has a little power."""
    return values.square().mean([*range(2, values.ndim)], keepdim=True).clamp_min(_LEAST_POWER)


def _up_to(values: Tensor, shares: Sequence[float], *, periodic: bool) -> Tensor:
    """Keep a share of the frequencies along each axis, which a smaller size can show."""
    extent = values.shape[2:]
    size = [max(1, round(share * whole)) for share, whole in zip(shares, extent, strict=True)]
    if tuple(size) == tuple(extent):
        return values
    resize = resize_period if periodic else resize_nd
    smaller = resize(values, size, mode="linear", antialias=True)
    return resize(smaller, extent, mode="cubic")


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
    return noise * (variance / power.clamp_min(_LEAST_POWER)).sqrt()
