"""Measures of a stylised array of any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd_tasks.modalities.metrics import Measure, finite_mean
from convnd_tasks.modalities.value_range import value_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from convnd.grid import Grid

__all__ = ["distribution_distance", "measure_all", "spectrum_distance"]

_MAX_BINS = 32  # of frequencies
_QUANTILES = 1001
_FLOOR = 1e-12  # power that is added to every bin, so that decibels of silence are finite


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a stylised array.

    The result is compared with the content sample by sample, and with the style by spectra and
    distributions. Channels are measured separately, and each measure is the mean over channels. The
    style may have other units, so the range between the 0.5th and 99.5th percentile is mapped to
    ``[0, 1]`` in content and style before they are compared. Gaps (NaN) do not count. A content of
    another size than the result is resized to it, and the measures say so.

    Args:
        content: ``(1, C, *S)``.
        result: ``(1, C, *S')``.
        styles: ``(1, C, *S_i)``, or with one channel that serves all; distances are averaged over
            them.

    Raises:
        InputFileError: the arrays have other axes or channels, or nothing is finite.
    """
    _check(content, result, styles)
    result_values = result.values[0].detach().cpu().double()
    content_values = content.values[0].detach().cpu().double()
    resize_note = ""
    if content.shape != result.shape:
        content_values = _resize(content_values, result.shape)
        resize_note = "; the content is resized to " + "x".join(map(str, result.shape))
    common = content_values.isfinite() & result_values.isfinite()
    names = result.channels
    errors, correlations = {}, {}
    for name, one, other, finite in zip(names, content_values, result_values, common, strict=True):
        errors[name] = (other[finite] - one[finite]).square().mean().sqrt().item()  # may be NaN
        correlations[name] = _correlation(one[finite], other[finite])
    measures = [
        Measure(
            "rmse",
            finite_mean(errors.values()),
            better="lower",
            against="content",
            meaning="root mean square of result - content" + resize_note,
            parts=errors,
        ),
        Measure(
            "correlation",
            finite_mean(correlations.values()),
            better="higher",
            against="content",
            meaning="Pearson correlation of the result with the content" + resize_note,
            parts=correlations,
        ),
    ]
    if styles:
        low, high = value_range(content.values)
        pair = (result_values - low) / (high - low), (content_values - low) / (high - low)
        measures += _style_measures(names, pair, styles)
    return measures


def _style_measures(
    names: Sequence[str], pair: tuple[Tensor, Tensor], styles: Sequence[Grid]
) -> list[Measure]:
    """Measure the distances of result and content from the styles."""
    references = []
    for style in styles:
        low, high = value_range(style.values)
        values = (style.values[0].detach().cpu().double() - low) / (high - low)
        references.append(values.expand(len(names), *values.shape[1:]))
    table: list[tuple[str, str, str, Callable[[Tensor, Tensor], float]]] = [
        (
            "spectrum_distance",
            "dB",
            "RMS difference of the power spectra along each axis from the style's",
            spectrum_distance,
        ),
        (
            "distribution_distance",
            "",
            "Wasserstein-1 distance of the values to the style's, both scaled to about [0, 1]",
            distribution_distance,
        ),
    ]
    measures = []
    for measure, unit, meaning, distance in table:
        value, before = (
            {
                name: finite_mean([distance(values[index], style[index]) for style in references])
                for index, name in enumerate(names)
            }
            for values in pair
        )
        measures.append(
            Measure(
                measure,
                finite_mean(value.values()),
                before=finite_mean(before.values()),
                unit=unit,
                better="lower",
                against="style",
                meaning=meaning,
                parts=value,
            )
        )
    return measures


def spectrum_distance(one: Tensor, other: Tensor) -> float:
    """Compute the RMS difference of the power spectra of two fields along each axis, in dB.

    Along an axis, the power of each frequency is the mean over all lines in its direction, after a
    Hann window; frequencies, in cycles per sample, are averaged in at most 32 equal bins. The
    mean does not count, and gaps are filled with it.

    Args:
        one: ``(*S)``.
        other: ``(*S')``, with the same number of axes.

    Returns:
        The root of the mean square over all bins of all axes that are longer than 3 samples in
        both; NaN if there are none.

    >>> import torch
    >>> noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> round(spectrum_distance(10 * noise, noise), 3)
    20.0
    """
    differences = []
    for axis, extents in enumerate(zip(one.shape, other.shape, strict=True)):
        bins = min(_MAX_BINS, min(extents) // 2 - 1)
        if bins > 0:
            first, second = (_axis_spectrum(values, axis, bins) for values in (one, other))
            differences.append((first - second).square())
    return torch.cat(differences).mean().sqrt().item() if differences else math.nan


def distribution_distance(one: Tensor, other: Tensor) -> float:
    """Compute the Wasserstein-1 distance of the finite values of two fields, in their unit.

    Args:
        one: field of any shape.
        other: field of any shape.

    >>> import torch
    >>> round(distribution_distance(torch.arange(9.0), torch.arange(9.0) + 2), 6)
    2.0
    """
    first, second = (_quantiles(values[values.isfinite()]) for values in (one, other))
    return (first - second).abs().mean().item()


def _axis_spectrum(values: Tensor, axis: int, bins: int) -> Tensor:
    finite = values.isfinite()
    lines = torch.where(finite, values, values[finite].mean()).double().movedim(axis, -1)
    window = torch.hann_window(lines.shape[-1], periodic=False, dtype=lines.dtype)
    spectrum = torch.fft.rfft((lines - lines.mean()) * window, dim=-1).abs().square()
    power = spectrum.reshape(-1, spectrum.shape[-1]).mean(0)[1:] / window.square().sum()
    # Frequency k of n samples is k / n cycles per sample, up to one half.
    frequencies = torch.arange(1, len(power) + 1) / lines.shape[-1]
    index = (frequencies * 2 * bins).ceil().long().clamp(1, bins) - 1
    total = torch.zeros(bins, dtype=power.dtype).index_add(0, index, power)
    count = torch.zeros(bins, dtype=power.dtype).index_add(0, index, torch.ones_like(power))
    return 10 * torch.log10(total / count.clamp_min(1) + _FLOOR)


def _quantiles(values: Tensor) -> Tensor:
    if values.numel() == 0:
        return torch.full((_QUANTILES,), math.nan, dtype=torch.float64)
    sorted_values = values.double().sort().values
    ranks = torch.linspace(0, len(sorted_values) - 1, _QUANTILES, dtype=torch.float64)
    low = ranks.long()
    high = (low + 1).clamp_max(len(sorted_values) - 1)
    return sorted_values[low].lerp(sorted_values[high], ranks - low)


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    power = (one.square().sum() * other.square().sum()).sqrt()
    return ((one * other).sum() / power).clamp(-1, 1).item() if power > 0 else math.nan


def _resize(values: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``(C, *S)``; gaps stay gaps."""
    gaps = ~values.isfinite()
    if not bool(gaps.any()):
        return resize_nd(values[None], size, mode="linear")[0]
    filled_values = values.masked_fill(gaps, values[~gaps].mean())
    shrunk = resize_nd(gaps[None].float(), size, mode="nearest")[0] > 0
    return resize_nd(filled_values[None], size, mode="linear")[0].masked_fill(shrunk, math.nan)


def _check(content: Grid, result: Grid, styles: Sequence[Grid]) -> None:
    channels = len(content.channels)
    for role, grid in (("result", result), *(("style", style) for style in styles)):
        channel_counts = (1, channels) if role == "style" else (channels,)
        if grid.ndim != content.ndim or len(grid.channels) not in channel_counts:
            raise InputFileError(
                f"evaluate: {role}",
                expected=f"{content.ndim} axes and {' or '.join(map(str, channel_counts))} "
                "channels, as the content has",
                got=f"{grid.ndim} axes and {len(grid.channels)} channels",
                remedy="give files that belong together",
            )
    for role, grid in (("content", content), ("result", result)):
        if not bool(grid.values.isfinite().any()):
            raise InputFileError(
                f"evaluate: {role}",
                expected="some finite values",
                got="none",
                remedy="check the file",
            )
