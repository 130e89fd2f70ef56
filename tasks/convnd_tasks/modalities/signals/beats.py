"""Beats: the morphology of one electrocardiogram in the rhythm of another.

Statistics do not depend on positions, so they do not keep the content's rhythm: a style that beats
twice as often asks for twice as many beats, and the additional ones appear between those of the
content. Therefore features are compared with the style in the content's rhythm
(`warp_to_rhythm`), and a term (`BeatTemplate.term`) asks for the style's mean beat at the
content's R peaks. Statistics of values, such as the spectrum, are those of the unchanged style,
because the samples that warping adds between beats do not have all of its noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnd.errors import InputFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from convnd.losses import Term

__all__ = ["WEIGHT", "BeatTemplate", "extract_beats", "warp_to_rhythm"]

WEIGHT = 3.0
"""How much beats count where nothing else is asked for."""

BEFORE, AFTER = 0.25, 0.45
"""Seconds around an R peak that are its beat."""

_KEPT = (0.4, 0.25)  # s behind one R peak and before the next that no rhythm changes
_MOST = (12, 6)  # twentieths of an interval, so that there is something between
_FADE = 0.1  # s


@dataclass(frozen=True)
class BeatTemplate:
    """Where beats are in the result, and what they are to be like.

    Args:
        peaks: samples of the R peaks ``(E,)``, in a field of ``size``.
        size: samples of the result at its full size.
        target: the mean beat ``(B, C, W)`` at that size.
        before: samples of it before the R peak.
        styles: in the content's rhythm ``(B, C, T_i)`` each.
        weight: how much the term counts.
    """

    peaks: Tensor
    size: int
    target: Tensor
    before: int
    styles: Sequence[Tensor]
    weight: float

    def term(self, extent: int) -> Term:
        """The term of an objective at a size.

        Args:
            extent: samples of the iterate.

        Raises:
            InputFileError: no beat lies in the recording as a whole.
        """
        from convnd.losses import EventLoss, Term

        first, target = self._at(extent)
        first = _whole(first, target, extent)
        return Term("beats", self.weight, EventLoss(target, first[:, None], size=[extent]))

    def insert(self, values: Tensor) -> Tensor:
        """Values whose mean beat is the target's: something to start from.

        What their own mean beat lacks is added at every R peak, faded at both ends; to beats that
        the recording cuts as well, which the term does not see.

        Args:
            values: ``(B, C, T)``.

        Raises:
            InputFileError: as `term`.
        """
        import torch

        from convnd.losses import mean_event

        extent = values.shape[2]
        first, target = self._at(extent)
        width = target.shape[2]
        mean = mean_event(values, _whole(first, target, extent)[:, None], [width])
        lacks = target - mean.to(target)
        edge = torch.linspace(0, torch.pi, max(2, width // 6))
        fade = torch.ones(width)
        fade[: len(edge)] = (1 - edge.cos()) / 2
        fade[-len(edge) :] = (1 + edge.cos()) / 2
        lacks = (lacks - lacks.median(2, keepdim=True).values) * fade
        found = values.clone()
        for start in first.tolist():
            begin, end = max(start, 0), min(start + width, extent)
            found[..., begin:end] += lacks[..., begin - start : end - start].to(found)
        return found

    def _at(self, extent: int) -> tuple[Tensor, Tensor]:
        """Where windows begin ``(E,)``, and the mean beat ``(B, C, W)``, at a size."""
        import torch

        from convnd.nn import resize_nd

        ratio = extent / self.size
        width = max(2, round(self.target.shape[2] * ratio))
        # Edges of samples, and with them those of windows, are where they were at every size.
        first = ((self.peaks - self.before) * ratio).round().to(torch.int64)
        return first, resize_nd(self.target, [width], mode="linear", antialias=True)


def _whole(first: Tensor, target: Tensor, extent: int) -> Tensor:
    """Of the windows those that lie in the field."""
    found = first[(first >= 0) & (first + target.shape[2] <= extent)]
    if not len(found):
        raise InputFileError(
            f"beats: expected a whole beat in the content, got none in {extent} samples; use a "
            "longer recording or --beat-weight 0"
        )
    return found


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
    """The content's R peaks, the styles in its rhythm, and their mean beat.

    R peaks are those of one lead (II, or the first) for all leads, see `r_peaks`.

    Args:
        content: ``(K, 1, T)``.
        styles: ``(K, 1, T_i)`` each, at the same sampling rate.
        names: of the ``K`` leads.
        rate: samples per second.
        weights: how much each style's beat counts; empty is all alike.
        weight: how much the term counts; None is `WEIGHT`, where there are beats, see `are_beats`.
        labels: of content and styles, for messages; empty is their roles.

    Returns:
        Beats, or None where there are none, and a line for people, or "".

    Raises:
        InputFileError: less than two R peaks in one of them, and a weight is given.
        DependencyError: neurokit2 or scipy is missing.
    """
    import numpy as np
    import torch

    from convnd.losses import mean_event
    from convnd_tasks.modalities.signals.rhythm import rhythm_lead

    lead = rhythm_lead(names)
    before, width = round(BEFORE * rate), round((BEFORE + AFTER) * rate)
    label, *style_labels = labels or ("content", *["style"] * len(styles))
    peaks = _find_peaks(label, content, lead, names, rate, required=weight is not None)
    if peaks is None:
        return None, ""
    warped, events, counts = [], [], []
    for style_label, style in zip(style_labels, styles, strict=False):
        style_peaks = _find_peaks(
            style_label, style, lead, names, rate, required=weight is not None
        )
        if style_peaks is None:
            message = f"no beats in lead {names[lead]} of {style_label}"
            return None, f"{message}: its statistics alone count"
        counts.append(str(len(style_peaks)))
        values, positions = warp_to_rhythm(style, style_peaks, np.diff(peaks), rate)
        starts = torch.from_numpy(positions) - before
        starts = starts[(starts >= 0) & (starts + width <= values.shape[2])]
        if not len(starts):
            raise InputFileError(
                f"{style_label}: expected a whole beat, got none; use a longer recording, or "
                "--beat-weight 0"
            )
        warped.append(values)
        events.append(mean_event(values, starts[:, None], [width]))
    shares = weights or (1.0,) * len(events)
    weighted = [event * share for event, share in zip(events, shares, strict=True)]
    target = torch.stack(weighted).sum(0) / sum(shares)
    if _has_mean_beat(content, peaks, target, before) and weight is None:
        return None, f"lead {names[lead]}: the content has the style's mean beat already"
    length, term_weight = content.shape[2], WEIGHT if weight is None else weight
    beats = BeatTemplate(torch.from_numpy(peaks), length, target, before, warped, term_weight)
    remark = (
        f"R peaks by lead {names[lead]}: {len(peaks)} in the content, {', '.join(counts)} in "
        "the style, which is given the content's rhythm"
    )
    return beats, remark


def _find_peaks(
    label: str, values: Tensor, lead: int, names: Sequence[str], rate: float, *, required: bool
) -> NDArray[np.int64] | None:
    """R peaks of one lead in samples; None where they are no beats and none are required."""
    from convnd_tasks.modalities.signals.peaks import r_peaks
    from convnd_tasks.modalities.signals.rhythm import are_beats

    samples = values[lead, 0].double().numpy()
    peaks = r_peaks(samples, rate)
    if not required:
        return peaks if are_beats(samples, peaks, rate) else None
    if len(peaks) < 2:
        raise InputFileError(
            f"{label}: expected at least 2 R peaks in lead {names[lead]}, got {len(peaks)}; "
            "use another recording, or --beat-weight 0"
        )
    return peaks


def _has_mean_beat(content: Tensor, peaks: NDArray[np.int64], target: Tensor, before: int) -> bool:
    """Whether the mean beat of the content is the target, up to the rounding of float32."""
    import torch

    from convnd.losses import mean_event

    width = target.shape[2]
    first = torch.from_numpy(peaks) - before
    first = first[(first >= 0) & (first + width <= content.shape[2])]
    if not len(first):
        return False
    return torch.allclose(mean_event(content, first[:, None], [width]), target, rtol=0, atol=1e-6)


def warp_to_rhythm(
    values: Tensor, peaks: NDArray[np.int64], intervals: NDArray[np.int64], rate: float
) -> tuple[Tensor, NDArray[np.int64]]:
    """A recording with its own beats, one after the other, at other intervals.

    What lies around the R peaks stays. Between them samples are left out, or go back and forth
    from both sides, so that noise keeps its spectrum; the two sides are faded into each other.

    Args:
        values: ``(B, C, T)``.
        peaks: samples of its R peaks, rising, at least two.
        intervals: samples from each R peak to the next, used over and over.
        rate: samples per second.

    Returns:
        The values, and where their R peaks are then.

    >>> import numpy as np, torch
    >>> slow = torch.arange(12.0)[None, None]
    >>> found, at = warp_to_rhythm(slow, np.array([2, 6, 10]), np.array([2]), rate=4)
    >>> at.tolist(), found[0, 0].tolist()
    ([2, 4, 6], [0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 11.0])
    """
    import numpy as np
    import torch

    samples = values.numpy()
    parts = [samples[..., : peaks[0]]]
    at = [int(peaks[0])]
    for number, (first, last) in enumerate(itertools.pairwise(peaks)):
        length = int(intervals[number % len(intervals)])
        parts.append(_of_length(samples[..., first:last], length, rate))
        at.append(at[-1] + length)
    parts.append(samples[..., peaks[-1] :])
    return torch.from_numpy(np.concatenate(parts, -1)), np.array(at, np.int64)


def _of_length(beat: NDArray[np.float32], length: int, rate: float) -> NDArray[np.float32]:
    """What lies between two R peaks, so many samples of it."""
    import numpy as np

    have = beat.shape[-1]
    head, tail = (
        min(round(each * rate), have * part // 20, length * part // 20)
        for each, part in zip(_KEPT, _MOST, strict=True)
    )
    middle = beat[..., head : have - tail]
    extent = middle.shape[-1]
    at = np.arange(length - head - tail)
    # Forwards from the left and backwards from the right, turned round at the other end.
    period = max(1, 2 * extent - 2)
    there = at % period
    left = np.minimum(there, period - there) % extent
    back = at[::-1] % period
    right = (extent - 1 - np.minimum(back, period - back)) % extent
    fade = np.clip((at - (len(at) - 1) / 2) / max(1.0, _FADE * rate) + 0.5, 0, 1)
    between = (middle[..., left] * (1 - fade) + middle[..., right] * fade).astype(beat.dtype)
    return np.concatenate([beat[..., :head], between, beat[..., have - tail :]], -1)
