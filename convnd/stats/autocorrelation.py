"""What a field has to do with itself further on: autocorrelation and power spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.stats.base import Sums

__all__ = ["LAGS", "AutocorrelationStatistic", "SpectrumStatistic"]

LAGS = 256
"""Largest distance along an axis, in samples."""

_DIRECT = 16  # lags up to which their products one by one take less time than transforms
_FLOOR = 1e-8  # of power: an amplitude of 1e-4 where values span about 1


class AutocorrelationStatistic:
    r"""Autocovariance of each channel along each axis, at lags 0 … `LAGS`.

    .. math:: r_a(\tau) = \frac{1}{N_\tau} \sum_p x_p\, x_{p + \tau e_a} - \mu^2

    A Gram matrix knows nothing of an order that goes beyond the receptive field; this does.
    Autocorrelation is one of the stylised facts of El-Laham and Vyetrenko (2022, "StyleTime");
    the averages here are over all pairs of positions, so that they add up over tiles, a pair
    belonging to the tile of its first position.

    Args:
        lags: largest lag in samples.
        keep_all_axes: keep axes that hold no pairs, with autocovariances of 0; for weighted
            positions, which may lie along one axis here and along another in the style.
        taper: positions at both ends of an axis over which pairs come to count; none where there
            are shares.

    >>> x = torch.tensor([[[1.0, -1.0] * 8]])
    >>> statistic = AutocorrelationStatistic(lags=2)
    >>> statistic.summary(statistic.sums(x)).flatten().tolist()
    [1.0, -1.0, 1.0]
    """

    def __init__(self, lags: int = LAGS, *, keep_all_axes: bool = False, taper: int = 0) -> None:
        self.lags = lags
        self.keep_all_axes = keep_all_axes
        self.taper = taper
        self.overlap = lags + taper
        # It adds up over tiles that look `overlap` positions further, and over no others.
        self.additive = False

    def sums(
        self,
        features: Tensor,
        tile_shape: Sequence[int] | None = None,
        tile_offset: Sequence[int] | None = None,
        *,
        weights: Tensor | None = None,
    ) -> Sums:
        """Sum of values, and for each axis and lag products and their number.

        Args:
            features: ``(B, C, *S)``.
            tile_shape: extent of the tile along each axis; positions behind it belong to the next
                tile. None: all of ``features``.
            tile_offset: first position of the tile in the whole field; None: 0 along each axis.
            weights: ``(B, 1, *S)``, how much a position counts, in ``[0, 1]``; a pair counts by the
                product of its two. None: all alike.

        Returns:
            Sums ``(B, 1 + 2 A (lags + 1), C)`` for ``A`` spatial axes.
        """
        # Products about a large mean cancel; half precision and float32 would lose small power.
        exact = torch.float32 if features.device.type == "mps" else torch.float64
        whole = features.to(exact)
        if weights is not None:
            return self._shared(whole, weights.to(exact))
        extents = tuple(whole.shape[2:]) if tile_shape is None else tuple(tile_shape)
        mine = _first(whole, extents)
        rows = [mine.flatten(2).sum(2)[:, None]]
        for axis, extent in enumerate(extents):
            # Along this axis a pair may reach behind the tile, along the others not.
            reach = list(extents)
            reach[axis] = min(whole.shape[axis + 2], extent + self.overlap)
            seen = _first(whole, reach).movedim(axis + 2, -1)
            weight = self._weight(
                reach[axis], extent, 0 if tile_offset is None else tile_offset[axis]
            ).to(whole)
            seen = seen[..., : len(weight)] * weight
            rows.append(self._products(seen[..., :extent], seen))
            across = math.prod(extents[:axis]) * math.prod(extents[axis + 1 :])
            pairs = across * self._products(weight[None, None, :extent], weight[None, None])
            rows.append(pairs.expand(len(whole), -1, whole.shape[1]))
        return Sums(torch.cat(rows, 1), math.prod(extents))

    def _weight(self, seen: int, own: int, at: int) -> Tensor:
        """How much positions count that a tile has or looks at; of a pair, the product of both.

        An end of the field that is not in sight is further off than pairs reach.
        """
        position = torch.arange(min(seen, own + self.lags), dtype=torch.float64)
        if not self.taper:
            return torch.ones_like(position)
        nearest = torch.minimum(position + at, seen - 1 - position)
        part = ((nearest + 0.5) / self.taper).clamp(max=1)
        return 0.5 - 0.5 * torch.cos(math.pi * part)

    def sums_in_blocks(self, features: Tensor, positions: int = 2**18) -> Sums:
        """`sums` block by block along the longest axis: the same numbers, bounded memory.

        The transforms take about 20 times the memory of what they are made of.

        Args:
            features: ``(B, C, *S)``.
            positions: of a block, about; one axis across is never cut.

        >>> statistic, x = AutocorrelationStatistic(lags=2), torch.arange(9.0)[None, None]
        >>> parts, whole = statistic.sums_in_blocks(x, 4), statistic.sums(x)
        >>> torch.allclose(parts.total, whole.total), parts.count
        (True, 9)
        """
        extents = list(features.shape[2:])
        axis = max(range(len(extents)), key=extents.__getitem__)
        across = math.prod(extents) // extents[axis]
        step = max(self.overlap, positions // across, 1)
        found: Sums | None = None
        for start in range(0, extents[axis], step):
            own = list(extents)
            own[axis] = min(step, extents[axis] - start)
            at = [0] * len(extents)
            at[axis] = start
            reach = min(step + self.overlap, extents[axis] - start)
            part = self.sums(features.narrow(axis + 2, start, reach), own, at)
            found = part if found is None else found + part
        assert found is not None
        return found

    def _shared(self, whole: Tensor, share: Tensor) -> Sums:
        counted = whole * share
        rows = [counted.flatten(2).sum(2)[:, None]]
        for axis in range(whole.ndim - 2):
            line, counts = counted.movedim(axis + 2, -1), share.movedim(axis + 2, -1)
            pairs = self._products(counts, counts)
            # What a transform leaves of none is not quite 0; told here, where pairs are numbers
            # of pairs: those of a blend are a position's share.
            some = pairs > 0.5
            rows += [
                self._products(line, line) * some,
                (pairs * some).expand(-1, -1, whole.shape[1]),
            ]
        return Sums(torch.cat(rows, 1), share.sum().item())  # type: ignore[arg-type]

    def summary(self, sums: Sums) -> Tensor:
        """Autocovariances ``(B, A (lags + 1), C)`` for ``A`` axes along which there is anything."""
        return self._covariances(sums).flatten(1, 2)

    def peak_bytes(self, extent: Sequence[int]) -> int:
        """See `convnd.stats.peak_bytes_of`: transforms along each axis, in float64; measured."""
        longer = sum((each + min(self.lags, each - 1)) / each for each in extent)
        return int(math.prod(extent) * (30 + 40 * longer))

    def _products(self, mine: Tensor, others: Tensor) -> Tensor:
        """``(B, C, *R, n)`` and ``(B, C, *R, m)`` to sums over pairs ``(B, lags + 1, C)``."""
        if mine.numel() == 0 or others.numel() == 0:  # a tile may end before its layer begins
            return mine.new_zeros((len(mine), self.lags + 1, mine.shape[1]))
        reach = min(self.lags, others.shape[-1] - 1)  # where it is short, no room for more
        if reach <= _DIRECT:
            extents = [min(mine.shape[-1], others.shape[-1] - lag) for lag in range(reach + 1)]
            sums = [
                (mine[..., :extent] * others[..., lag : lag + extent]).flatten(2).sum(2)
                for lag, extent in enumerate(extents)
            ]
            return torch.nn.functional.pad(torch.stack(sums, 1), (0, 0, 0, self.lags - reach))
        length = others.shape[-1] + reach
        spectrum = torch.fft.rfft(mine, length).conj() * torch.fft.rfft(others, length)
        spectrum = spectrum.flatten(2, -2).sum(2) if spectrum.ndim > 3 else spectrum
        found: Tensor = torch.fft.irfft(spectrum, length)[..., : reach + 1]
        return torch.nn.functional.pad(found, (0, self.lags - reach)).mT

    def _covariances(self, sums: Sums) -> Tensor:
        """``(B, A, lags + 1, C)``."""
        total = sums.total
        mean = total[:, :1, None] / sums.count  # (B, 1, 1, C)
        tables = total[:, 1:].reshape(len(total), -1, 2, self.lags + 1, total.shape[-1])
        products, pairs = tables.unbind(2)
        if not self.keep_all_axes:
            # Only the whole tells along which axes there is anything: a tile may end with one
            # position.
            long = (pairs[:, :, 1:] > 0).flatten(2).any(2).any(0)
            long[0] |= not bool(long.any())
            products, pairs = products[:, long], pairs[:, long]
        known = pairs > 0
        covariances: Tensor = (products / pairs.where(known, 1.0) - mean.square()) * known
        return covariances


def _first(values: Tensor, extents: Sequence[int]) -> Tensor:
    """The first so many positions along each spatial axis."""
    for axis, extent in enumerate(extents):
        values = values.narrow(axis + 2, 0, min(extent, values.shape[axis + 2]))
    return values


class SpectrumStatistic(AutocorrelationStatistic):
    r"""Power spectrum of each channel along each axis, in decades.

    .. math:: P(f) = \log_{10}\Big(1 + \frac{1}{\varepsilon} \sum_\tau w(\tau)\, r(\tau)
              \cos 2\pi f \tau\Big)

    at ``lags + 1`` frequencies from 0 to Nyquist: Blackman and Tukey's (1958) estimate, the cosine
    transform of the autocovariance :math:`r`, with Parzen's window :math:`w`, whose transform is
    positive and falls by 24 dB an octave. Phases are forgotten, so it fixes what noise is like
    and leaves rhythm to the content. Logarithms let noise count beside waves a thousand times as
    strong; :math:`\varepsilon` is 1e-8, far below the noise of recorders where values span about 1.

    Pairs come to count smoothly at the ends of an axis. Where all count alike, ends leak into
    frequencies of little power with either sign, and an iterate hides noise behind its own ends.

    What was recorded at a slower rate and resampled says nothing above its own Nyquist frequency,
    rather than that there is silence. Two fields are compared up to the lower of the two
    (`highest`), and the frequencies above are in no summary.

    Args:
        lags: largest lag in samples.
        keep_all_axes: see `AutocorrelationStatistic`.
        taper: likewise; None is half of the lags.
        highest: of the frequencies in the summary, as a share of Nyquist, in ``(0, 1]``.

    Raises:
        UsageError: ``highest`` lies elsewhere.

    >>> statistic = SpectrumStatistic(lags=8)
    >>> tone = torch.sin(torch.arange(64) * torch.pi / 4)[None, None]  # a quarter of Nyquist
    >>> statistic.summary(statistic.sums(tone)).flatten().argmax().item()
    2
    """

    def __init__(
        self,
        lags: int = LAGS,
        *,
        keep_all_axes: bool = False,
        taper: int | None = None,
        highest: float = 1.0,
    ) -> None:
        if not 0 < highest <= 1:
            raise UsageError(
                "SpectrumStatistic",
                expected="0 < highest <= 1",
                got=f"{highest:g}",
                remedy="correct it",
            )
        taper = lags // 2 if taper is None else taper
        super().__init__(lags, keep_all_axes=keep_all_axes, taper=taper)
        self.count = math.floor(highest * lags) + 1

    def summary(self, sums: Sums) -> Tensor:
        """Decades above the floor ``(B, A (lags + 1), C)``, or up to `highest` of each axis."""
        covariances = self._covariances(sums)
        lag = torch.arange(self.lags + 1, dtype=covariances.dtype, device=covariances.device)
        part = lag / (self.lags + 1)
        window = torch.where(
            part <= 0.5, 1 - 6 * part**2 * (1 - part), 2 * (1 - part).clamp_min(0) ** 3
        )
        both = torch.where(lag > 0, 2.0, 1.0) * window  # negative lags are the same
        turns = torch.cos(torch.pi / self.lags * lag[: self.count, None] * lag)  # (frequency, lag)
        power = torch.einsum("fl,balc->bafc", turns * both, covariances)
        decades: Tensor = torch.log1p(power.clamp_min(0) / _FLOOR) / math.log(10)
        return decades.flatten(1, 2)
