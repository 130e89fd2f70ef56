"""`convnd.SignalLook`: the spectrum of other recordings as an augmentation of training data."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convnd import io
from convnd.errors import InputFileError, ShapeError, UsageError
from convnd.grid import Grid
from convnd_tasks.modalities.augmentation import Data, StyleAugmentation
from convnd_tasks.modalities.tensors import as_tensor

__all__ = ["SignalLook"]

_BANDS_PER_OCTAVE = 2
_MAX_GAIN = 10.0
"""Largest change of an amplitude, 20 dB: what a recording lacks, no filter can bring back."""
_MIN_SAMPLES = 32


class _Spectrum(NamedTuple):
    """Mean power of a recording in bands ``(C, F)``, and their centres in Hz ``(F,)``."""

    power: Tensor
    centres: Tensor


class SignalLook(StyleAugmentation[_Spectrum]):
    r"""An augmentation that gives recordings the spectrum of other recordings.

    In every half octave, the amplitudes of a recording are multiplied by
    :math:`g = (P_s / P_x)^{s/2}` with the mean powers of style and recording and the strength
    :math:`s`; between the centres of the bands the logarithm of :math:`g` is linear. A factor is at
    most 10 and at least 1/10. The filter has no phase: every wave stays at its time, so that labels
    and R peaks stay valid. Mean and mean power of each lead do not change, and units do not matter.

    Objects take whole batches, in which every item draws a style and a strength of its own. They
    draw from torch's global generator, which data loaders seed differently in each worker, and they
    are differentiable.

    Args:
        styles: one recording or several: paths, `convnd.Grid`, or tensors and arrays ``(T,)`` or
            ``(C, T)``.
        rate: samples per second of the data, and of styles that are tensors or arrays.
        strength: strength from 0 to 1, or a range from which it is drawn uniformly.
        probability: probability that an item changes.
        keys: names of the entries of a dictionary to change; empty if calls get recordings.

    Raises:
        InputFileError: a style cannot be read, is no recording, or has gaps.
        UsageError: a number is out of range.
        ShapeError: a style has fewer than 32 samples.

    A style with as many leads as the data gives each lead the spectrum of its own; otherwise all
    get the mean of its leads.

    >>> style = torch.randn(2000, generator=torch.Generator().manual_seed(0)).cumsum(0)
    >>> look = SignalLook(style, rate=250, strength=1.0)
    >>> batch = torch.randn(8, 12, 1000)
    >>> changed = look(batch)
    >>> steps = changed.diff().std() / changed.std(), batch.diff().std() / batch.std()
    >>> tuple(changed.shape), bool(steps[0] < 0.5 * steps[1])
    ((8, 12, 1000), True)
    """

    def __init__(
        self,
        styles: Data | Sequence[Data],
        *,
        rate: float,
        strength: float | tuple[float, float] = (0.0, 1.0),
        probability: float = 1.0,
        keys: Sequence[str] = (),
    ) -> None:
        if not 0 < rate < math.inf:
            raise UsageError(
                "SignalLook", expected="a rate above 0", got=rate, remedy="in samples per second"
            )
        self.rate = float(rate)
        super().__init__(styles, strength=strength, probability=probability, keys=keys)

    def __call__(self, data: Any) -> Any:
        """Return a changed copy of recordings, or of a dictionary of them.

        Args:
            data: ``(T,)``, ``(C, T)`` or ``(B, C, T)``, or a dictionary. Each item of a batch draws
                a style and a strength, and changes by chance; the entries of a dictionary are
                treated alike, if they are recordings of one length.
        """
        if self.keys:
            return super().__call__(data)
        values = self._check(data, 0, 0.0)
        items = len(values) if values.ndim == 3 else 1
        styles = torch.randint(len(self._styles), (items,))
        low, high = self.strength
        strengths = low + (high - low) * torch.rand(items)
        strengths = strengths * (torch.rand(items) < self.probability)
        return self._change(data, values, styles, strengths)

    def apply(self, data: Any, style: int = 0, strength: float = 1.0) -> Any:
        """Return a copy of recordings with the spectrum of a given style.

        Args:
            data: ``(T,)``, ``(C, T)`` or ``(B, C, T)``, a tensor or an array, of at least 32
                samples.
            style: index of the style.
            strength: from 0 to 1.

        Returns:
            The same shape and type; float32 for integers.

        Raises:
            ShapeError: another number of axes, or too few samples.
            UsageError: values are missing; or there is no such style or strength.
        """
        values = self._check(data, style, strength)
        items = len(values) if values.ndim == 3 else 1
        return self._change(
            data, values, torch.full((items,), style), torch.full((items,), float(strength))
        )

    def _change(self, data: Any, values: Tensor, styles: Tensor, strengths: Tensor) -> Any:
        """Change each item of a batch by a style and a strength of its own."""
        if not 1 <= values.ndim <= 3 or values.shape[-1] < _MIN_SAMPLES:
            raise ShapeError(
                "SignalLook",
                expected=f"(T,), (C, T) or (B, C, T) of at least {_MIN_SAMPLES} samples",
                got=tuple(values.shape),
                remedy="give recordings with time as the last axis",
            )
        batch = values[(None,) * (3 - values.ndim)]
        batch = batch if batch.dtype in (torch.float32, torch.float64) else batch.float()
        if not bool(torch.isfinite(batch).all()):
            raise UsageError(
                "SignalLook",
                expected="values without gaps",
                got="values that are not finite",
                remedy="interpolate them before",
            )
        results = []
        for item, style, strength in zip(batch, styles.tolist(), strengths.tolist(), strict=True):
            results.append(
                self._filtered(item, self._styles[style], strength) if strength else item
            )
        result = torch.stack(results).reshape(values.shape)
        result = result.to(values.dtype) if values.is_floating_point() else result
        return result if isinstance(data, Tensor) else result.numpy()

    def _filtered(self, leads: Tensor, style: _Spectrum, strength: float) -> Tensor:
        """Give the leads ``(C, T)`` of a recording the spectrum of a style."""
        length = leads.shape[-1]
        own = _spectrum(leads.detach(), self.rate)
        power = style.power if len(style.power) == len(leads) else style.power.mean(0, keepdim=True)
        power = _at(own.centres, style.centres, power.to(leads)).clamp_min(1e-30)
        gain = (power / own.power.clamp_min(1e-30)).log() / 2
        # The mean power stays: what counts is the shape of the spectrum.
        gain = gain - gain.mean(1, keepdim=True)
        gain = gain.clamp(-math.log(_MAX_GAIN), math.log(_MAX_GAIN)) * strength
        mean = leads.mean(1, keepdim=True)
        margin = min(length - 1, round(self.rate))
        padded = torch.nn.functional.pad(leads - mean, (margin, margin), mode="reflect")
        spectrum = torch.fft.rfft(padded)
        frequencies = torch.fft.rfftfreq(padded.shape[-1], 1 / self.rate).to(leads)
        factors = _at(frequencies.clamp_min(1e-9), own.centres, gain).exp()
        changed = torch.fft.irfft(spectrum * factors, padded.shape[-1])
        changed = changed[:, margin : margin + length]
        changed = changed - changed.mean(1, keepdim=True)
        before, after = (part.norm(dim=1, keepdim=True) for part in (leads - mean, changed))
        result: Tensor = mean + changed * (before / after.clamp_min(1e-30))
        return result

    def _open(self, style: Any) -> _Spectrum:
        rate = self.rate
        if isinstance(style, str | os.PathLike):
            style = io.read(style)
        if isinstance(style, Grid):
            if style.ndim != 1:
                raise InputFileError(
                    "SignalLook",
                    expected="styles of one axis",
                    got=style.ndim,
                    remedy="give recordings",
                )
            rate = 1 / style.spacing[0] if style.units[0] == "s" else rate
            leads = style.values[0]
        else:
            leads = as_tensor(style, "SignalLook").detach().float()
            leads = leads[None] if leads.ndim == 1 else leads
        if leads.ndim != 2 or leads.shape[-1] < _MIN_SAMPLES:
            raise ShapeError(
                "SignalLook",
                expected=f"styles (T,) or (C, T) of at least {_MIN_SAMPLES} samples",
                got=tuple(leads.shape),
                remedy="give recordings with time as the last axis",
            )
        if not bool(torch.isfinite(leads).all()):
            raise InputFileError(
                "SignalLook",
                expected="styles without gaps",
                got="values that are not finite",
                remedy="interpolate them before, or cut out a part without gaps",
            )
        return _spectrum(leads, rate)


def _spectrum(leads: Tensor, rate: float) -> _Spectrum:
    """Mean power of leads ``(C, T)`` in half octaves, of one second or longer waves at most.

    Args:
        leads: values without gaps.
        rate: samples per second.
    """
    length = leads.shape[-1]
    window = torch.hann_window(length, dtype=leads.dtype, device=leads.device)
    values = (leads - leads.mean(1, keepdim=True)) * window
    power = torch.fft.rfft(values).abs().square()
    frequencies = torch.fft.rfftfreq(length, 1 / rate).to(leads)
    lowest = max(0.5, 4 * rate / length)  # Hz; at least a few frequencies in the first band
    count = max(1, math.floor(_BANDS_PER_OCTAVE * math.log2(rate / 2 / lowest)))
    ratio = 2 ** (1 / _BANDS_PER_OCTAVE)
    edges = [lowest * ratio**band for band in range(count + 1)]
    edges[0], edges[-1] = 0.0, rate / 2
    bands = [
        (frequencies >= low) & (frequencies <= high) for low, high in itertools.pairwise(edges)
    ]
    centres = [lowest * ratio ** (band + 0.5) for band in range(count)]
    means = [power[:, band].mean(1) for band in bands]
    return _Spectrum(torch.stack(means, 1) / length, leads.new_tensor(centres))


def _at(frequencies: Tensor, centres: Tensor, values: Tensor) -> Tensor:
    """Interpolate values ``(C, F)`` at other frequencies, linearly over their logarithms.

    Args:
        frequencies: in Hz, above 0, ``(G,)``.
        centres: in Hz, ``(F,)``; beyond the ends values are constant.
        values: the values at the centres.
    """
    centres = centres.to(values)
    if len(centres) == 1:
        return values.expand(-1, len(frequencies))
    places, targets = centres.log(), frequencies.to(values).log()
    upper = torch.searchsorted(places, targets).clamp(1, len(places) - 1)
    share = ((targets - places[upper - 1]) / (places[upper] - places[upper - 1])).clamp(0, 1)
    return values[:, upper - 1] * (1 - share) + values[:, upper] * share
