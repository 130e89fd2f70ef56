"""Beats: the morphology of one electrocardiogram in the rhythm of another.

Statistics do not depend on positions, so they do not keep the content's rhythm: a style that beats
twice as often asks for twice as many beats, and the additional ones appear between those of the
content. Therefore features are compared with the style in the content's rhythm
(`warp_to_rhythm`), and a term (`BeatTemplate.term`) asks for the style's mean beat at the
content's R peaks. Statistics of values, such as the spectrum, are those of the unchanged style,
because the samples that warping adds between beats do not have all of its noise.
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
"""Default weight of the term of beats."""


@dataclass(frozen=True)
class BeatTemplate:
    """The positions of beats in the result, and the mean beat they should have.

    Args:
        peaks: samples of the R peaks ``(E,)``, in a result of ``size`` samples.
        size: samples of the result at its full size.
        target: the mean beat ``(B, C, W)`` at that size.
        before: samples of the mean beat before the R peak.
        styles: the styles in the content's rhythm ``(B, C, T_i)`` each.
        weight: weight of the term.
    """

    peaks: Tensor
    size: int
    target: Tensor
    before: int
    styles: Sequence[Tensor]
    weight: float

    def term(self, extent: int) -> Term:
        """Return the term of an objective at a size.

        Args:
            extent: samples of the iterate.

        Raises:
            InputFileError: no whole beat lies in the recording.
        """
        from convnd.losses import EventLoss, Term

        starts, target = self._windows(extent)
        starts = _whole_windows(starts, target, extent)
        return Term("beats", self.weight, EventLoss(target, starts[:, None], size=[extent]))

    def insert(self, values: Tensor) -> Tensor:
        """Change values so that their mean beat is the target's; the optimisation starts there.

        The difference of the mean beats is added at every R peak, faded at both ends. Beats that
        the recording cuts get it as well, though the term does not see them.

        Args:
            values: ``(B, C, T)``.

        Raises:
            InputFileError: as `term`.
        """
        import torch

        from convnd.losses import mean_event

        extent = values.shape[2]
        starts, target = self._windows(extent)
        width = target.shape[2]
        mean = mean_event(values, _whole_windows(starts, target, extent)[:, None], [width])
        difference = target - mean.to(target)
        edge = torch.linspace(0, torch.pi, max(2, width // 6))
        fade = torch.ones(width)
        fade[: len(edge)] = (1 - edge.cos()) / 2
        fade[-len(edge) :] = (1 + edge.cos()) / 2
        difference = (difference - difference.median(2, keepdim=True).values) * fade
        changed = values.clone()
        for start in starts.tolist():
            begin, end = max(start, 0), min(start + width, extent)
            changed[..., begin:end] += difference[..., begin - start : end - start].to(changed)
        return changed

    def _windows(self, extent: int) -> tuple[Tensor, Tensor]:
        """First samples of the beats ``(E,)``, and the mean beat ``(B, C, W)``, at a size."""
        import torch

        from convnd.nn import resize_nd

        ratio = extent / self.size
        width = max(2, round(self.target.shape[2] * ratio))
        # Edges of samples, and with them those of windows, are where they were at every size.
        starts = ((self.peaks - self.before) * ratio).round().to(torch.int64)
        return starts, resize_nd(self.target, [width], mode="linear", antialias=True)


def _whole_windows(starts: Tensor, target: Tensor, extent: int) -> Tensor:
    """First samples of the windows that lie in the recording."""
    inside = starts[(starts >= 0) & (starts + target.shape[2] <= extent)]
    if not len(inside):
        raise InputFileError(
            "beats",
            expected="a whole beat in the content",
            got=f"none in {extent} samples",
            remedy="use a longer recording or --beat-weight 0",
        )
    return inside


class _StyleBeats(NamedTuple):
    """A style in the content's rhythm ``(B, C, T)``, its mean beat, and how many beats it has."""

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

    R peaks are those of one lead for all leads, see `rhythm_lead` and `r_peaks`. Leads that are
    named like something else than an electrocardiogram keep their own rhythm.

    Args:
        content: ``(K, 1, T)``.
        styles: ``(K, 1, T_i)`` each, at the same sampling rate.
        names: of the ``K`` leads.
        rate: samples per second.
        weights: weight of each style's beat; empty weighs all alike.
        weight: weight of the term; None is `WEIGHT`, if there are beats, see `are_beats`.
        labels: of content and styles, for messages; empty is their roles.

    Returns:
        Beats, or None without beats, and a message, or "".

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
            return None, f"{message}: its statistics alone count"
        beats.append(style_beats(style_label, style, style_peaks, peaks, rate))
    target = weighted_mean([beat.mean for beat in beats], weights)
    warped = [beat.values for beat in beats]
    before = round(BEAT[0] * rate)
    _leave_rhythm(names, content, styles, peaks, before, target, warped)
    if not required and _has_mean_beat(content, peaks, target, before):
        return None, f"lead {names[lead]}: the content has the style's mean beat already"
    weight = WEIGHT if weight is None else weight
    positions = torch.from_numpy(peaks)
    template = BeatTemplate(positions, content.shape[2], target, before, warped, weight)
    counts = ", ".join(str(beat.beats) for beat in beats)
    return template, (
        f"R peaks by lead {names[lead]}: {len(peaks)} in the content, {counts} in the style, which "
        "is given the content's rhythm"
    )


def weighted_mean(beats: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of beats ``(B, C, W)``; no weights weigh all alike."""
    import torch

    shares = weights or (1.0,) * len(beats)
    weighted = [beat * share for beat, share in zip(beats, shares, strict=True)]
    return torch.stack(weighted).sum(0) / sum(shares)


def style_beats(
    label: str, style: Tensor, style_peaks: NDArray[np.int64], peaks: NDArray[np.int64], rate: float
) -> _StyleBeats:
    """Bring a style to the rhythm of R peaks, and average its beats.

    Raises:
        InputFileError: no whole beat lies in the style.
    """
    import numpy as np
    import torch

    from convnd.losses import mean_event

    before, width = round(BEAT[0] * rate), round(sum(BEAT) * rate)
    values, positions = warp_to_rhythm(style, style_peaks, np.diff(peaks), rate)
    starts = torch.from_numpy(positions) - before
    starts = starts[(starts >= 0) & (starts + width <= values.shape[2])]
    if not len(starts):
        raise InputFileError(
            str(label),
            expected="a whole beat",
            got="none",
            remedy="use a longer recording, or --beat-weight 0",
        )
    return _StyleBeats(values, mean_event(values, starts[:, None], [width]), len(style_peaks))


def _leave_rhythm(
    names: Sequence[str],
    content: Tensor,
    styles: Sequence[Tensor],
    peaks: NDArray[np.int64],
    before: int,
    target: Tensor,
    warped: Sequence[Tensor],
) -> None:
    """Exclude leads that are not an electrocardiogram from the beats, in place.

    The target of their mean beat is the content's, and their style keeps its own rhythm.
    """
    import torch

    from convnd.losses import mean_event

    rows = [row for row, name in enumerate(names) if is_other_lead(name, names)]
    if not rows:
        return
    width = target.shape[2]
    starts = torch.from_numpy(peaks) - before
    starts = starts[(starts >= 0) & (starts + width <= content.shape[2])]
    if len(starts):
        target[rows] = mean_event(content, starts[:, None], [width]).to(target)[rows]
    for style, values in zip(styles, warped, strict=True):
        length = style.shape[2]
        positions = torch.arange(values.shape[2]) % max(1, 2 * length - 2)
        positions = torch.minimum(positions, (2 * length - 2 - positions).clamp(min=0))
        values[rows] = style[rows][..., positions.clamp(max=length - 1)]


def find_peaks(
    label: str, values: Tensor, lead: int, names: Sequence[str], rate: float, *, required: bool
) -> NDArray[np.int64] | None:
    """Find the R peaks of one lead in samples; None if these are not beats and none are required.

    Raises:
        InputFileError: less than two are found, and beats are required.
    """
    samples = values[lead, 0].double().numpy()
    peaks = r_peaks(samples, rate)
    if not required:
        return peaks if are_beats(samples, peaks, rate) else None
    if len(peaks) < 2:
        raise InputFileError(
            str(label),
            expected=f"at least 2 R peaks in lead {names[lead]}",
            got=len(peaks),
            remedy="use another recording, or --beat-weight 0",
        )
    return peaks


def _has_mean_beat(content: Tensor, peaks: NDArray[np.int64], target: Tensor, before: int) -> bool:
    """Tell whether the mean beat of the content is the target, up to the rounding of float32."""
    import torch

    from convnd.losses import mean_event

    width = target.shape[2]
    starts = torch.from_numpy(peaks) - before
    starts = starts[(starts >= 0) & (starts + width <= content.shape[2])]
    if not len(starts):
        return False
    return torch.allclose(mean_event(content, starts[:, None], [width]), target, rtol=0, atol=1e-6)
