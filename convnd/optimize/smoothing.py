r"""A preconditioner with which L-BFGS needs fewer steps, since low frequencies change sooner.

Convolutions and poolings of single samples make the gradient of a loss of features rough. High
frequencies dominate it, and the low frequencies of a field take many steps to change. The gradient
in a Sobolev space, :math:`(1 - \Delta / (2 \pi f_0)^2)^{-p} \nabla f`, is smoother
(Neuberger, *Sobolev gradients and differential equations*, 1997). Here :math:`p = 1/2`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

__all__ = ["CUTOFF", "Smoothing"]

CUTOFF = 1 / 128
"""Cycles per sample :math:`f_0` above which frequencies are scaled down."""

_POWER = 0.5

_CHUNK = 1 << 22
"""Samples that are transformed at a time, which limits the memory for it."""


class Smoothing:
    r"""The symmetric operator :math:`(1 - \Delta / (2 \pi f_0)^2)^{-1/2}` on fields of one size.

    It multiplies each frequency :math:`f`, in cycles per sample, by
    :math:`(1 + (f / f_0)^2)^{-1/2}`. The frequencies are those of a cosine transform (DCT-II), in
    which a field goes on beyond its borders as its mirror image.

    Args:
        size: samples along each axis.
        fixed_axes: axes along which nothing is smoothed.
        periodic: whether a field goes on with its other end instead. The frequencies are then those
            of a Fourier transform.

    >>> smooth = Smoothing((16, 16))
    >>> rough, even = torch.randn(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    >>> bool(smooth(rough).std() < 0.5 * rough.std()), torch.allclose(smooth(even), even)
    (True, True)
    """

    def __init__(
        self, size: Sequence[int], *, fixed_axes: Collection[int] = (), periodic: bool = False
    ) -> None:
        self._periodic = periodic
        self._axes = [n for n, extent in enumerate(size) if extent > 1 and n not in fixed_axes]

    def __call__(self, values: Tensor) -> Tensor:
        """Return a smoothed copy.

        Args:
            values: ``(B, C, *size)``.
        """
        if self._periodic:
            return self._smooth_periods(values)
        values = values.clone()
        for axis in self._axes:
            _transform(values, 2 + axis, inverse=False)
        values.mul_(self._response(values))
        for axis in self._axes:
            _transform(values, 2 + axis, inverse=True)
        return values

    def _smooth_periods(self, values: Tensor) -> Tensor:
        if not self._axes:
            return values.clone()
        axes, smoothed = self._axes, []
        for item in values.flatten(0, 1):  # channel by channel, which limits the memory
            spectrum = torch.fft.rfftn(item, dim=axes)
            squares = item.new_ones([1] * item.ndim)
            for axis in axes:
                extent = item.shape[axis]
                cycles = torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq
                shape = [-1 if n == axis else 1 for n in range(item.ndim)]
                frequencies = cycles(extent, dtype=item.dtype, device=item.device)
                squares = squares + (frequencies / CUTOFF).square().view(shape)
            spectrum *= squares.pow_(-_POWER)
            extents = [item.shape[axis] for axis in axes]
            smoothed.append(torch.fft.irfftn(spectrum, extents, dim=axes))
        return torch.stack(smoothed).view(values.shape)

    def _response(self, values: Tensor) -> Tensor:
        """The factor of each frequency; not kept, since it may be as large as the values."""
        squares = values.new_ones([1] * (values.ndim - 2))
        for axis in self._axes:
            extent = values.shape[2 + axis]
            shape = [extent if n == axis else 1 for n in range(values.ndim - 2)]
            frequencies = torch.arange(extent, dtype=values.dtype, device=values.device)
            squares = squares + (frequencies / (2 * extent * CUTOFF)).square_().view(shape)
        return squares.pow_(-_POWER)


def _transform(values: Tensor, axis: int, *, inverse: bool) -> None:
    """Change values to their unnormalised cosine transform along an axis, or back, in place."""
    rows = values.movedim(axis, -1)
    turn = _quarter_turns(values.shape[axis], values.device, values.dtype)
    change = _from_frequencies if inverse else _to_frequencies
    longest = max(range(rows.ndim - 1), key=lambda n: rows.shape[n])
    count = max(1, _CHUNK * rows.shape[longest] // rows.numel())
    for part in rows.split(count, longest):
        part.copy_(change(part, turn))


def _quarter_turns(extent: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    angles = torch.arange(extent // 2 + 1, dtype=torch.float64) * (-math.pi / (2 * extent))
    whole = torch.polar(torch.ones_like(angles), angles)
    return whole.to(device, dtype.to_complex())


def _to_frequencies(rows: Tensor, turn: Tensor) -> Tensor:
    """The cosine transform along the last axis by one Fourier transform (Makhoul, 1980)."""
    extent = rows.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([rows[..., ::2], rows[..., 1::2].flip(-1)], -1)) * turn
    mirrored = spectrum.imag[..., 1 : (extent + 1) // 2].neg().flip(-1)
    return torch.cat([spectrum.real, mirrored], -1)


def _from_frequencies(rows: Tensor, turn: Tensor) -> Tensor:
    """The inverse of `_to_frequencies`."""
    extent = rows.shape[-1]
    real = rows[..., : extent // 2 + 1]
    imaginary = torch.zeros_like(real)
    imaginary[..., 1:] = rows[..., (extent + 1) // 2 :].flip(-1).neg()
    order = torch.fft.irfft(torch.complex(real, imaginary) * turn.conj(), extent)
    result = torch.empty_like(rows)
    half = (extent + 1) // 2
    result[..., ::2] = order[..., :half]
    result[..., 1::2] = order[..., half:].flip(-1)
    return result
