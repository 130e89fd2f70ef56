"""Beats: the morphology of one electrocardiogram in the rhythm of another.

Statistics do not depend on positions, so they do not keep the content's rhythm. A style that beats
twice as often would double the beats, and false ones would appear between those of the content.
Therefore features are compared with the style in the content's rhythm (`warp_to_rhythm`), and a
loss (`BeatTemplate.term`) draws the style's mean beat at the content's R peaks. Statistics of
values, such as the spectrum, are those of the unchanged style, because the samples that warping
adds between beats lack some of its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd_tasks.modalities.signals.leads import is_other_lead
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.rhythm import BEAT, are_beats, rhythm_lead
from convnd_tasks.modalities.signals.rhythm_warp import warp_to_rhythm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from convnd.losses import Term

__all__ = ["WEIGHT", "BeatTemplate", "extract_beats", "find_peaks", "style_beats", "weighted_mean"]

WEIGHT = 3.0
"""Default weight of the loss of beats."""


@dataclass(frozen=True)
class BeatTemplate:
    """The positions of beats in the result, and the mean beat that they should have.

    Args:
        peaks: positions of the R peaks ``(E,)`` in samples of the result at its full size.
        size: number of samples of the result at its full size.
        target: the mean beat ``(B, C, W)`` at that size.
        before: number of samples of the mean beat before its R peak.
        styles: the styles in the content's rhythm, ``(B, C, T_i)`` each.
        weight: weight of the loss.
    """

    peaks: Tensor
    size: int
    target: Tensor
    before: int
    styles: Sequence[Tensor]
    weight: float

    def term(self, extent: int) -> Term:
        """Make the loss of the mean beat for a result of another size.

        Args:
            extent: number of samples of the result.

        Raises:
            InputFileError: no whole beat lies in the recording.
        """
        from convnd.losses import EventLoss, Term

        starts, target = self._windows(extent)
        starts = _check_windows(starts, target.shape[2], extent)
        return Term("beats", self.weight, EventLoss(target, starts[:, None], size=[extent]))

    def insert(self, values: Tensor) -> Tensor:
        """Give values the target's mean beat, as the starting point of the optimisation.

        The difference of the mean beats is added at every R peak, and faded at both ends. Beats
        that the end of the recording cuts get it too, although the loss does not include them.

        Args:
            values: ``(B, C, T)``.

        Raises:
            InputFileError: no whole beat lies in the recording.
        """
        import torch

        from convnd.losses import mean_event

        extent = values.shape[2]
        starts, target = self._windows(extent)
        width = target.shape[2]
        mean = mean_event(values, _check_windows(starts, width, extent)[:, None], [width])
        difference = target - mean.to(target)
        edge = torch.linspace(0, torch.pi, max(2, width // 6))
        fade = torch.ones(width)
        fade[: len(edge)] = (1 - edge.cos()) / 2
        fade[-len(edge) :] = (1 + edge.cos()) / 2
        difference = (difference - difference.median(2, keepdim=True).values) * fade
        result = values.clone()
        for start in starts.tolist():
            begin, end = max(start, 0), min(start + width, extent)
            result[..., begin:end] += difference[..., begin - start : end - start].to(result)
        return result

    def _windows(self, extent: int) -> tuple[Tensor, Tensor]:
        """Scale the first samples of the beats ``(E,)`` and the mean beat ``(B, C, W)``."""
        import torch

        from convnd.nn import resize_nd

        ratio = extent / self.size
        width = max(2, round(self.target.shape[2] * ratio))
        # A window covers the same part of the recording at every size.
        starts = ((self.peaks - self.before) * ratio).round().to(torch.int64)
        return starts, resize_nd(self.target, [width], mode="linear", antialias=True)


def _whole_windows(starts: Tensor, width: int, extent: int) -> Tensor:
    """Select the windows that lie in a recording, by their first samples."""
    return starts[(starts >= 0) & (starts + width <= extent)]


def _check_windows(starts: Tensor, width: int, extent: int) -> Tensor:
    """Select the windows that lie in a recording, and check that there are some."""
    inner_starts = _whole_windows(starts, width, extent)
    if not len(inner_starts):
        raise InputFileError(
            "beats",
            expected="a whole beat in the content",
            got=f"none in {extent} samples",
            remedy="use a longer recording or --beat-weight 0",
        )
    return inner_starts


def _average_beats(
    values: Tensor, peaks: NDArray[np.int64], before: int, width: int
) -> Tensor | None:
    """Average the whole beats around R peaks, ``(B, C, width)``; None if there are none.

    Args:
        values: ``(B, C, T)``.
        peaks: R peaks in samples.
        before: samples of a beat before its R peak.
        width: samples of a beat.
    """
    import torch

    from convnd.losses import mean_event

    starts = _whole_windows(torch.from_numpy(peaks) - before, width, values.shape[2])
    return mean_event(values, starts[:, None], [width]) if len(starts) else None


class _StyleBeats(NamedTuple):
    """A style in the content's rhythm ``(B, C, T)``, its mean beat, and its number of beats."""

    values: Tensor
    mean: Tensor
    beats: int


def extract_beats(
    content: Tensor,
    styles: Sequence[Tensor],
    names: Sequence[str],
    rate: float,
    *,
    weights: Sequence[float] = (),
    weight: float | None = None,
    labels: Sequence[str] = (),
) -> tuple[BeatTemplate | None, str]:
    """Find the content's R peaks, bring the styles to its rhythm, and average their beats.

    The R peaks of one lead count for all leads, see `rhythm_lead` and `r_peaks`. Leads that are
    not of an electrocardiogram, by their names, keep their rhythm.

    Args:
        content: ``(K, 1, T)``.
        styles: ``(K, 1, T_i)`` each, at the same sampling rate.
        names: names of the ``K`` leads.
        rate: samples per second.
        weights: weight of each style's beat; empty weights them equally.
        weight: weight of the loss; None is `WEIGHT` if there are beats, see `are_beats`.
        labels: names of content and styles, for messages; empty is their roles.

    Returns:
        The template, or None if there are no beats; and a message, or "".

    Raises:
        InputFileError: a recording has less than two R peaks, and a weight is given.
        DependencyError: neurokit2 or scipy is missing.
    """
    import torch

    lead = rhythm_lead(names)
    required = weight is not None
    label, *style_labels = labels or ("content", *["style"] * len(styles))
    peaks = find_peaks(label, content, lead, names, rate, required=required)
    if peaks is None:
        return None, ""
    beats = []
    for style_label, style in zip(style_labels, styles, strict=False):
        style_peaks = find_peaks(style_label, style, lead, names, rate, required=required)
        if style_peaks is None:
            message = f"no beats in lead {names[lead]} of {style_label}"
            return None, f"{message}: only its statistics are transferred"
        beats.append(style_beats(style_label, style, style_peaks, peaks, rate))
    target = weighted_mean([beat.mean for beat in beats], weights)
    warped_styles = [beat.values for beat in beats]
    before = round(BEAT[0] * rate)
    _exclude_other_leads(names, content, styles, peaks, before, target, warped_styles)
    if not required and _has_mean_beat(content, peaks, target, before):
        return None, f"lead {names[lead]}: the mean beats of content and style are equal"
    weight = WEIGHT if weight is None else weight
    positions = torch.from_numpy(peaks)
    template = BeatTemplate(positions, content.shape[2], target, before, warped_styles, weight)
    counts = ", ".join(str(beat.beats) for beat in beats)
    return template, (
        f"R peaks by lead {names[lead]}: {len(peaks)} in the content, {counts} in the style, which "
        "is given the content's rhythm"
    )


def weighted_mean(beats: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Average beats ``(B, C, W)`` with weights; empty weights them equally."""
    import torch

    shares = weights or (1.0,) * len(beats)
    weighted_beats = [beat * share for beat, share in zip(beats, shares, strict=True)]
    return torch.stack(weighted_beats).sum(0) / sum(shares)


def style_beats(
    label: str, style: Tensor, style_peaks: NDArray[np.int64], peaks: NDArray[np.int64], rate: float
) -> _StyleBeats:
    """Bring a style to the rhythm of R peaks, and average its beats.

    Args:
        label: name of the style, for messages.
        style: ``(K, 1, T)``.
        style_peaks: R peaks of the style in samples.
        peaks: R peaks of the rhythm in samples.
        rate: samples per second of both.

    Raises:
        InputFileError: no whole beat lies in the style.
    """
    import numpy as np

    before, width = round(BEAT[0] * rate), round(sum(BEAT) * rate)
    values, positions = warp_to_rhythm(style, style_peaks, np.diff(peaks), rate)
    mean = _average_beats(values, positions, before, width)
    if mean is None:
        raise InputFileError(
            label,
            expected="a whole beat",
            got="none",
            remedy="use a longer recording, or --beat-weight 0",
        )
    return _StyleBeats(values, mean, len(style_peaks))


def _exclude_other_leads(
    names: Sequence[str],
    content: Tensor,
    styles: Sequence[Tensor],
    peaks: NDArray[np.int64],
    before: int,
    target: Tensor,
    warped_styles: Sequence[Tensor],
) -> None:
    """Exclude leads that are not of an electrocardiogram from the beats, in place.

    Their target becomes the content's mean beat, and their style keeps its rhythm.
    """
    import torch

    rows = [row for row, name in enumerate(names) if is_other_lead(name, names)]
    if not rows:
        return
    mean = _average_beats(content, peaks, before, target.shape[2])
    if mean is not None:
        target[rows] = mean.to(target)[rows]
    for style, values in zip(styles, warped_styles, strict=True):
        length = style.shape[2]
        positions = torch.arange(values.shape[2]) % max(1, 2 * length - 2)
        positions = torch.minimum(positions, (2 * length - 2 - positions).clamp(min=0))
        values[rows] = style[rows][..., positions.clamp(max=length - 1)]


def find_peaks(
    label: str, values: Tensor, lead: int, names: Sequence[str], rate: float, *, required: bool
) -> NDArray[np.int64] | None:
    """Find the R peaks of one lead, in samples.

    Args:
        label: name of the recording, for messages.
        values: ``(K, 1, T)``.
        lead: index of the lead.
        names: names of the leads, for messages.
        rate: samples per second.
        required: whether the user asked for beats.

    Returns:
        None if the peaks are not beats, see `are_beats`, and beats are not required.

    Raises:
        InputFileError: there are less than two peaks, and beats are required.
    """
    samples = values[lead, 0].double().numpy()
    peaks = r_peaks(samples, rate)
    if not required:
        return peaks if are_beats(samples, peaks, rate) else None
    if len(peaks) < 2:
        raise InputFileError(
            label,
            expected=f"at least 2 R peaks in lead {names[lead]}",
            got=len(peaks),
            remedy="use another recording, or --beat-weight 0",
        )
    return peaks


def _has_mean_beat(content: Tensor, peaks: NDArray[np.int64], target: Tensor, before: int) -> bool:
    """Whether the mean beat of the content is the target, up to the rounding of float32."""
    import torch

    mean = _average_beats(content, peaks, before, target.shape[2])
    return mean is not None and torch.allclose(mean, target, rtol=0, atol=1e-6)
