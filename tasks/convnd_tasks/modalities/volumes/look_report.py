"""What a transfer of a look did to a frame, as lines for users and as entries of the record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from convnd_tasks.modalities.volumes.look_change import LookChange
from convnd_tasks.modalities.volumes.noise_power import NoisePower
from convnd_tasks.modalities.volumes.safety_figure import (
    SafetyFigure,
    describe_broken,
    describe_figures,
)

__all__ = ["describe_frame"]


def describe_frame(
    change: LookChange,
    after: Mapping[int, NoisePower],
    strength: float,
    figures: Sequence[SafetyFigure],
    *,
    moderate: bool,
) -> tuple[list[str], dict[str, str]]:
    """Describe the change of one frame and its safety figures.

    Args:
        change: the change at full strength.
        after: noise of the result by tissue.
        strength: share of the change that the result has.
        figures: safety figures of the result.
        moderate: whether the result has a moderate amount of the style's noise.

    Returns:
        Lines for users, and the entries of the record.
    """
    lines, record = _describe_noise(change, after, moderate=moderate)
    if not change.targets:
        where = "of the style " if change.before else ""
        lines.append(f"noise: left as it is, since no tissue {where}is large enough to measure it")
    elif not change.coarse:
        counts = "white noise" if change.scheme.uniform else "noise that is certainly no anatomy"
        lines.append(
            f"noise: only {counts} is added, since the style shows other anatomy, which looks like "
            "coarse noise and is a part of these figures; none is removed"
        )
        record["added_noise"] = counts
    elif not change.paired and any(
        target.deviation < change.before[tissue].deviation
        for tissue, target in change.targets.items()
    ):
        lines.append(
            "noise: none is removed, since what a scan has more than a style of other anatomy may "
            "be anatomy; for less noise, give a quieter image of this scan as style"
        )
    sharpness = change.describe_sharpness() or "unchanged"
    anatomy = describe_figures(figures)
    lines.append(f"sharpness: {sharpness}")
    record |= {"sharpness": sharpness, "safe_strength": f"{strength:g}", "anatomy": anatomy}
    if strength < 1:
        lines.append(f"strength: {strength:g}, since more would harm the anatomy")
    if not describe_broken(figures):
        lines.append(f"anatomy: {anatomy}")
    return lines, record


def _describe_noise(
    change: LookChange, after: Mapping[int, NoisePower], *, moderate: bool
) -> tuple[list[str], dict[str, str]]:
    """Describe the noise of each tissue before, after and in the style."""
    lines, record, unit = [], {}, change.scheme.unit
    names = {0: "all tissues"} if change.scheme.uniform else dict(enumerate(change.scheme.names))
    for tissue, name in names.items():
        if tissue not in change.before:
            continue
        before, now = change.before[tissue].deviation, after[tissue].deviation
        style = change.changes[tissue].style if tissue in change.changes else math.nan
        deviations = f"from {before:.3g} to {now:.3g}{unit and ' ' + unit}"
        if f"{before:.3g}" == f"{now:.3g}":
            deviations = f"{before:.3g}{unit and ' ' + unit}, unchanged"
        aim = f"{'the aim is' if moderate else 'the style has'} {style:.3g}"
        if math.isnan(style):
            aim = "that of the style is unknown"
        lines.append(f"noise of {name}: {deviations}; {aim}")
        key = f"noise_{name.replace(' ', '_')}"
        record[key] = f"{before:.4g} to {now:.4g}, style {style:.4g}"
    return lines, record
