"""Beats of a texture: the style's mean beat, at the style's intervals in random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd_tasks.modalities.signals.beats import (
    WEIGHT,
    BeatTemplate,
    find_peaks,
    style_beats,
    weighted_mean,
)
from convnd_tasks.modalities.signals.rhythm import BEAT, rhythm_lead

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["TextureBeats", "texture_beats"]


@dataclass(frozen=True)
class TextureBeats(BeatTemplate):
    """The positions of beats in a texture, which has no content, and the mean beat.

    Args:
        residue: share ``(B, C, 1)`` of the style's amplitudes that its beats do not explain.
    """

    residue: Tensor

    def insert(self, values: Tensor) -> Tensor:
        """Scale noise of the style's spectrum to the residue, and add the mean beat to it.

        Args:
            values: the noise ``(B, C, T)``.

        Raises:
            InputFileError: no whole beat lies in the texture.
        """
        mean = values.mean(2, keepdim=True)
        return super().insert(mean + (values - mean) * self.residue.to(values))


def texture_beats(
    styles: Sequence[Tensor],
    names: Sequence[str],
    rate: float,
    size: int,
    *,
    seed: int = 0,
    weights: Sequence[float] = (),
    weight: float | None = None,
    labels: Sequence[str] = (),
    periodic: bool = False,
) -> tuple[BeatTemplate | None, str]:
    """Give a texture the mean beat of styles, at intervals of the first style in random order.

    Args:
        styles: ``(K, 1, T_i)`` each, at one sampling rate.
        names: names of the ``K`` leads.
        rate: samples per second.
        size: number of samples of the texture.
        seed: seed of the order of intervals.
        weights: weight of each style's beat; empty weights them equally.
        weight: weight of the loss; None is `WEIGHT` if there are beats, see `are_beats`.
        labels: names of the styles, for messages.
        periodic: whether the texture repeats; the intervals then fill it, and no beat is cut.

    Returns:
        The template, or None if there are no beats; and a message, or "".

    Raises:
        InputFileError: a recording has less than two R peaks, and a weight is given.
        DependencyError: neurokit2 or scipy is missing.
    """
    import numpy as np
    import torch

    lead = rhythm_lead(names)
    required = weight is not None
    labels = labels or ["style"] * len(styles)
    style_peaks = []
    for label, style in zip(labels, styles, strict=True):
        if (peaks := find_peaks(label, style, lead, names, rate, required=required)) is None:
            return None, ""
        style_peaks.append(peaks)
    before, width = round(BEAT[0] * rate), round(sum(BEAT) * rate)
    rhythm = _shuffled_rhythm(style_peaks[0], size, seed)
    if periodic:
        rhythm = _close_rhythm(rhythm, style_peaks[0], size, before)
    if not ((rhythm >= before) & (rhythm - before + width <= size)).any():
        if required:
            raise _too_short_error(size)
        return None, ""
    intervals = np.concatenate([rhythm, rhythm[-1:] + np.diff(style_peaks[0])[:1]])
    recordings = zip(labels, styles, style_peaks, strict=True)
    beats = [style_beats(*recording, intervals, rate) for recording in recordings]
    target = weighted_mean([beat.mean for beat in beats], weights)
    residue = _residue(styles[0], style_peaks[0] - before, target)
    values = [beat.values for beat in beats]
    weight, positions = WEIGHT if weight is None else weight, torch.from_numpy(rhythm)
    message = _rhythm_message(names[lead], len(style_peaks[0]), len(rhythm))
    return TextureBeats(positions, size, target, before, values, weight, residue), message


def _rhythm_message(lead: str, in_style: int, in_texture: int) -> str:
    return (
        f"R peaks by lead {lead}: {in_style} in the style; the texture has {in_texture}, at "
        "intervals of the style in another order"
    )


def _too_short_error(size: int) -> InputFileError:
    return InputFileError(
        "beats",
        expected="room for a whole beat",
        got=f"{size} samples",
        remedy="make the texture longer (--size), or leave --beat-weight out",
    )


def _shuffled_rhythm(peaks: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Draw R peaks for a number of samples, at the intervals of other peaks in random order."""
    import numpy as np

    rng = np.random.default_rng(seed)
    intervals = np.diff(peaks)
    position = int(rng.integers(intervals[0]))
    positions: list[int] = []
    while position < size:
        if not len(positions) % len(intervals):
            order = rng.permutation(intervals)
        positions.append(position)
        position += int(order[(len(positions) - 1) % len(intervals)])
    return np.array(positions, np.int64)


def _close_rhythm(
    rhythm: NDArray[np.int64], peaks: NDArray[np.int64], size: int, before: int
) -> NDArray[np.int64]:
    """Stretch the intervals of R peaks to whole periods of a texture that repeats.

    Args:
        rhythm: R peaks in the texture.
        peaks: R peaks whose mean interval comes after the last one.
        size: samples of the texture.
        before: samples of a beat before its R peak; the first beat begins with the texture.
    """
    import numpy as np

    last = round(float(np.diff(peaks).mean()))
    starts = [int(peak - rhythm[0]) for peak in rhythm] or [0]
    if size - starts[-1] - last > last / 2:  # the first interval began before the texture
        starts.append(starts[-1] + last)
    stretch = size / (starts[-1] + last)
    return np.array([before + round(stretch * start) for start in starts], np.int64)


def _residue(style: Tensor, starts: NDArray[np.int64], target: Tensor) -> Tensor:
    """Compute the share of a style's amplitudes ``(B, C, 1)`` that is left without its beats."""
    width = target.shape[2]
    residual = style - style.median(2, keepdim=True).values
    total = residual.std(2, keepdim=True)
    beat = target - target.median(2, keepdim=True).values
    for start in starts.tolist():
        begin, end = max(start, 0), min(start + width, style.shape[2])
        residual[..., begin:end] -= beat[..., begin - start : end - start]
    return (residual.std(2, keepdim=True) / total.clamp(min=1e-12)).clamp(max=1)
