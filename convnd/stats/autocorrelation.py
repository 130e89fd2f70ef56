"""Autocorrelation and power spectrum along each axis."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.nn.transforms import hides_values
from convnd.stats.base import StatisticModule, Sums, count_positions

__all__ = ["LAGS", "AutocorrelationStatistic", "SpectrumStatistic"]

LAGS = 256
"""Default of the largest lag, in samples."""

_DIRECT = 16  # up to this many lags, direct products are faster than Fourier transforms
_LEAST_PAIRS = 1e-9  # of the pairs at lag 0
_FLOOR = 1e-8  # of power; an amplitude of 1e-4 for values that span about 1


class AutocorrelationStatistic(StatisticModule):
    r"""Autocovariance of each channel along each axis, at lags 0 … `LAGS`.

    .. math:: r_a(\tau) = \frac{1}{N_\tau} \sum_p x_p\, x_{p + \tau e_a} - \mu^2

    with the unit step :math:`e_a` along axis ``a``, the number of pairs :math:`N_\tau`, and the
    mean :math:`\mu` of the channel. A Gram matrix sees no order beyond the receptive field; the
    autocovariance does. It is one of the stylised facts of El-Laham and Vyetrenko (2022,
    "StyleTime"). Here it averages over all pairs of positions, so that sums add up over tiles. A
    pair belongs to the tile of its first position.

    Axes of one position have no pairs, and do not count. Under `torch.func.vmap` and
    ``torch.compile`` every axis has to be longer.

    Args:
        lags: largest lag in samples.
        taper: number of positions at both ends of an axis over which the weight of pairs rises
            from 0 to 1.

    >>> x = torch.tensor([[[1.0, -1.0] * 8]])
    >>> statistic = AutocorrelationStatistic(lags=2)
    >>> statistic.summary(statistic.sums(x)).flatten().tolist()
    [1.0, -1.0, 1.0]
    """

    def __init__(self, lags: int = LAGS, *, taper: int = 0) -> None:
        super().__init__()
        self.lags = lags
        self.taper = taper
        self.overlap = lags + taper
        # Only tiles that see `overlap` more positions add up.
        self.additive = False

    def sums(
        self,
        features: Tensor,
        tile_shape: Sequence[int] | None = None,
        tile_offset: Sequence[int] | None = None,
        *,
        weight: Tensor | None = None,
    ) -> Sums:
        """Sum the values, and for each axis and lag the products and the numbers of pairs.

        Args:
            features: ``(B, C, *S)``.
            tile_shape: extent of the tile along each axis; positions after it belong to the next
                tile. None is all of ``features``.
            tile_offset: first position of the tile in the whole field; None is 0 along each axis.
            weight: weight of each position of ``features``, ``(B, 1, *S)`` or ``(1, 1, *S)``; None
                is 1. The weight of a pair is the product of the weights of its positions.

        Returns:
            Sums ``(B, 1 + 2 A (lags + 1), C)`` for ``A`` spatial axes.
        """
        # Products around a large mean cancel, and float32 would lose small powers.
        dtype = torch.float32 if features.device.type == "mps" else torch.float64
        whole = features.to(dtype)
        extents = tuple(whole.shape[2:]) if tile_shape is None else tuple(tile_shape)
        shares = None if weight is None else weight.to(whole)
        if shares is not None:
            whole = whole * shares
        tile = _crop(whole, extents)
        rows = [tile.flatten(2).sum(2)[:, None]]
        for axis, extent in enumerate(extents):
            # Along this axis, the second position of a pair may lie after the tile.
            reach = list(extents)
            reach[axis] = min(whole.shape[axis + 2], extent + self.overlap)
            line = _crop(whole, reach).movedim(axis + 2, -1)
            taper = self._taper(
                reach[axis], extent, 0 if tile_offset is None else tile_offset[axis]
            ).to(whole)
            line = line[..., : len(taper)] * taper
            rows.append(self._products(line[..., :extent], line))
            if shares is None:
                across = math.prod(extents[:axis]) * math.prod(extents[axis + 1 :])
                pairs = across * self._products(taper[None, None, :extent], taper[None, None])
            else:
                line = _crop(shares, reach).movedim(axis + 2, -1)[..., : len(taper)] * taper
                pairs = self._products(line[..., :extent], line)
                # Fourier transforms leave rounding errors where there are no pairs.
                pairs = pairs.where(pairs > _LEAST_PAIRS * pairs[:, :1], 0.0)
            rows.append(pairs.expand(len(whole), -1, whole.shape[1]))
        count = count_positions(tile, None if shares is None else _crop(shares, extents))
        return Sums(torch.cat(rows, 1), count)

    def _taper(self, visible: int, extent: int, offset: int) -> Tensor:
        """Weights of the positions of a tile and its overlap along an axis.

        An end of the field that lies beyond the overlap is too far away to change a weight.

        Args:
            visible: positions of the tile and its overlap.
            extent: positions of the tile.
            offset: first position of the tile in the field.
        """
        position = torch.arange(min(visible, extent + self.lags), dtype=torch.float64)
        if not self.taper:
            return torch.ones_like(position)
        nearest = torch.minimum(position + offset, visible - 1 - position)
        part = ((nearest + 0.5) / self.taper).clamp(max=1)
        return 0.5 - 0.5 * torch.cos(math.pi * part)

    def for_period(self) -> Self:
        """Return this statistic for one period of a field, which has no ends to taper."""
        statistic = copy.copy(self)
        statistic.taper, statistic.overlap = 0, self.lags
        return statistic

    def sums_in_blocks(
        self, features: Tensor, positions: int = 2**18, *, weight: Tensor | None = None
    ) -> Sums:
        """Compute `sums` block by block along the longest axis, which takes less memory.

        Fourier transforms take about 20 times the memory of the features.

        Args:
            features: ``(B, C, *S)``.
            positions: number of positions of a block, approximately.
            weight: as for `sums`.

        >>> statistic, x = AutocorrelationStatistic(lags=2), torch.arange(9.0)[None, None]
        >>> parts, whole = statistic.sums_in_blocks(x, 4), statistic.sums(x)
        >>> torch.allclose(parts.total, whole.total), parts.count
        (True, 9)
        """
        extents = list(features.shape[2:])
        axis = max(range(len(extents)), key=extents.__getitem__)
        across = math.prod(extents) // extents[axis]
        step = max(self.overlap, positions // across, 1)
        total: Sums | None = None
        for start in range(0, extents[axis], step):
            tile_shape = list(extents)
            tile_shape[axis] = min(step, extents[axis] - start)
            tile_offset = [0] * len(extents)
            tile_offset[axis] = start
            reach = min(step + self.overlap, extents[axis] - start)
            part = self.sums(
                features.narrow(axis + 2, start, reach),
                tile_shape,
                tile_offset,
                weight=None if weight is None else weight.narrow(axis + 2, start, reach),
            )
            total = part if total is None else total + part
        assert total is not None
        return total

    def summary(self, sums: Sums) -> Tensor:
        """Compute the autocovariances ``(B, A (lags + 1), C)`` of the ``A`` axes with pairs."""
        return self._covariances(sums).flatten(1, 2)

    def peak_bytes(self, extent: Sequence[int]) -> int:
        """See `convnd.stats.peak_bytes_of`; measured, transforms in float64 along each axis."""
        padded = sum((count + min(self.lags, count - 1)) / count for count in extent)
        return int(math.prod(extent) * (30 + 40 * padded))

    def _products(self, first: Tensor, second: Tensor) -> Tensor:
        """Sum the products of pairs at each lag along the last axis.

        Args:
            first: first values of the pairs, ``(B, C, *R, n)``.
            second: second values, ``(B, C, *R, m)`` with ``m ≥ n``.

        Returns:
            ``(B, lags + 1, C)``.
        """
        if first.numel() == 0 or second.numel() == 0:  # a tile without positions in this layer
            return first.new_zeros((len(first), self.lags + 1, first.shape[1]))
        reach = min(self.lags, second.shape[-1] - 1)  # pairs have no longer lags on a short axis
        if reach <= _DIRECT:
            extents = [min(first.shape[-1], second.shape[-1] - lag) for lag in range(reach + 1)]
            sums = [
                (first[..., :extent] * second[..., lag : lag + extent]).flatten(2).sum(2)
                for lag, extent in enumerate(extents)
            ]
            return torch.nn.functional.pad(torch.stack(sums, 1), (0, 0, 0, self.lags - reach))
        length = second.shape[-1] + reach
        spectrum = torch.fft.rfft(first, length).conj() * torch.fft.rfft(second, length)
        spectrum = spectrum.flatten(2, -2).sum(2) if spectrum.ndim > 3 else spectrum
        products: Tensor = torch.fft.irfft(spectrum, length)[..., : reach + 1]
        return torch.nn.functional.pad(products, (0, self.lags - reach)).mT

    def _covariances(self, sums: Sums) -> Tensor:
        """Compute the autocovariances ``(B, A, lags + 1, C)``."""
        total = sums.total
        mean = total[:, :1, None] / sums.count  # (B, 1, 1, C)
        tables = total[:, 1:].reshape(len(total), -1, 2, self.lags + 1, total.shape[-1])
        products, pairs = tables.unbind(2)
        # Axes with pairs, decided on the sums of the whole field; a tile may be 1 wide.
        if not hides_values(total):  # else all axes count as long
            is_long = (pairs[:, :, 1:] > 0).flatten(2).any(2).any(0)
            is_long[0] |= not bool(is_long.any())
            products, pairs = products[:, is_long], pairs[:, is_long]
        has_pairs = pairs > 0
        covariances: Tensor = (products / pairs.where(has_pairs, 1.0) - mean.square()) * has_pairs
        return covariances


def _crop(values: Tensor, extents: Sequence[int]) -> Tensor:
    """The first ``extents`` positions along each spatial axis."""
    for axis, extent in enumerate(extents):
        values = values.narrow(axis + 2, 0, min(extent, values.shape[axis + 2]))
    return values


class SpectrumStatistic(AutocorrelationStatistic):
    r"""Power spectrum of each channel along each axis, in decades.

    .. math:: P(f) = \log_{10}\Big(1 + \frac{1}{\varepsilon} \sum_\tau w(\tau)\, r(\tau)
              \cos 2\pi f \tau\Big)

    at ``lags + 1`` frequencies from 0 to Nyquist. This is the estimate of Blackman and Tukey
    (1958): the cosine transform of the autocovariance :math:`r`, with Parzen's window :math:`w`,
    whose transform is positive and falls by 24 dB an octave. It has no phases, so that it describes
    noise and leaves rhythm to the content. Logarithms make noise count next to waves a thousand
    times as strong. :math:`\varepsilon` is 1e-8, far below the noise of recorders for values that
    span about 1.

    The weight of pairs rises smoothly at the ends of an axis. With equal weights, the ends leak
    into frequencies of little power, with either sign, and an optimised signal would hide noise
    behind them.

    A recording that was resampled from a slower rate holds no information above the Nyquist
    frequency of that rate. To compare it with another one, ``max_frequency`` leaves out the
    frequencies above.

    Args:
        lags: largest lag in samples.
        max_frequency: highest frequency of the summary, as a share of the Nyquist frequency, in
            ``(0, 1]``.

    Raises:
        UsageError: ``max_frequency`` is out of range.

    >>> statistic = SpectrumStatistic(lags=8)
    >>> tone = torch.sin(torch.arange(64) * torch.pi / 4)[None, None]  # a quarter of Nyquist
    >>> statistic.summary(statistic.sums(tone)).flatten().argmax().item()
    2
    """

    def __init__(self, lags: int = LAGS, *, max_frequency: float = 1.0) -> None:
        if not 0 < max_frequency <= 1:
            raise UsageError(
                "SpectrumStatistic",
                expected="0 < max_frequency <= 1",
                got=f"{max_frequency:g}",
                remedy="1 keeps all frequencies",
            )
        super().__init__(lags, taper=lags // 2)
        self.count = math.floor(max_frequency * lags) + 1

    def summary(self, sums: Sums) -> Tensor:
        r"""Compute the power in decades above :math:`\varepsilon`.

        Returns:
            ``(B, A F, C)`` for ``A`` axes and ``F`` frequencies up to ``max_frequency``.
        """
        covariances = self._covariances(sums)
        lag = torch.arange(self.lags + 1, dtype=covariances.dtype, device=covariances.device)
        part = lag / (self.lags + 1)
        window = torch.where(
            part <= 0.5, 1 - 6 * part**2 * (1 - part), 2 * (1 - part).clamp_min(0) ** 3
        )
        two_sided = torch.where(lag > 0, 2.0, 1.0) * window  # negative lags are the same
        turns = torch.cos(torch.pi / self.lags * lag[: self.count, None] * lag)  # (frequency, lag)
        power = torch.einsum("fl,balc->bafc", turns * two_sided, covariances)
        decades: Tensor = torch.log1p(power.clamp_min(0) / _FLOOR) / math.log(10)
        return decades.flatten(1, 2)
