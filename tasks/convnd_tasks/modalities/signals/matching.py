"""Matches the leads of another recording with the content: names, gaps, sampling rate and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd.io.signals.signal import sampling_rate, value_units
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.signals.leads import lead_key, per_millivolt, resample

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["longest_stretch", "match_leads", "resample_to_content", "unit_factors"]


def match_leads(
    label: str, names: Sequence[str], grid: Grid, pairs: Mapping[str, str] | None = None
) -> list[int]:
    """Find the channel of another recording for each lead.

    Leads are matched by name. A recording of one lead serves all.

    Args:
        label: name of the other recording, for the message.
        names: names of the leads.
        grid: the other recording.
        pairs: keys of leads in the other recording by the keys of ``names``, see `lead_key`; a lead
            without an entry has the same key in both.

    Returns:
        One index into ``grid.channels`` for each lead.

    Raises:
        InputFileError: the recording has several leads, but not all of these.
    """
    keys = [lead_key(name) for name in grid.channels]
    if len(keys) == 1:
        return [0] * len(names)
    targets = {name: (pairs or {}).get(lead_key(name), lead_key(name)) for name in names}
    missing_leads = [name for name, key in targets.items() if key not in keys]
    # Leads of a file without names are called "0", "1" …, and are matched by their order.
    has_no_names = all(key == str(index) for index, key in enumerate(keys)) or all(
        name == str(index) for index, name in enumerate(names)
    )
    if missing_leads and has_no_names and len(keys) == len(names):
        return list(range(len(keys)))
    if missing_leads:
        common = [name for name in names if name not in missing_leads]
        pair = f"{missing_leads[0]}={grid.channels[0]}"
        remedy = f"--leads {','.join(common)} takes what both have; " if common else ""
        raise InputFileError(
            label,
            expected=f"leads {', '.join(names)}, or a single one for all",
            got=f"{', '.join(grid.channels)} without {', '.join(missing_leads)}",
            remedy=f"{remedy}--leads {pair} pairs leads of different names",
        )
    return [keys.index(targets[name]) for name in names]


def longest_stretch(label: str, grid: Grid, rows: Sequence[int]) -> tuple[Tensor, str]:
    """Cut out the longest part of a recording in which some leads have no gaps.

    Args:
        label: name of the recording, for messages.
        grid: the recording.
        rows: indices of the leads.

    Returns:
        ``(1, C, T')`` with all leads; and a message, or "" if nothing was cut.

    Raises:
        InputFileError: the part is too short.
    """
    import numpy as np
    import torch

    values = grid.values
    finite = torch.isfinite(values[0, sorted(set(rows))]).all(0).numpy()
    if finite.all():
        return values, ""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], finite.astype(np.int8), [0]])))
    first, last = max(zip(edges[::2], edges[1::2], strict=True), key=lambda part: part[1] - part[0])
    if last - first < MIN_EXTENT:
        raise InputFileError(
            label,
            expected=f"a stretch of {MIN_EXTENT} samples without gaps",
            got=last - first,
            remedy="use another recording",
        )
    message = f"{label} has gaps: using its longest whole stretch, {last - first} samples"
    return values[..., int(first) : int(last)], message


def resample_to_content(
    label: str, values: Tensor, grid: Grid, content: Grid
) -> tuple[Tensor, str]:
    """Bring another recording to the content's sampling rate.

    Args:
        label: name of the recording, for messages.
        values: values of the recording ``(1, C, T)``.
        grid: the recording.
        content: the content.

    Returns:
        ``(1, C, T')``; and a message, or "" if the rates are equal.

    Raises:
        InputFileError: only one of the two rates is known, or too few samples remain.
        DependencyError: scipy is missing.
    """
    have_rates = [recording.units == ("s",) for recording in (grid, content)]
    if not any(have_rates):
        return values, ""
    if not all(have_rates):
        raise InputFileError(
            label,
            expected="a sampling rate in this file and in the content, or in neither",
            got="one",
            remedy="add --rate",
        )
    rate, new_rate = sampling_rate(grid), sampling_rate(content)
    if abs(rate - new_rate) <= 1e-6 * new_rate:
        return values, ""
    resampled_values = resample(values, rate, new_rate)
    if resampled_values.shape[2] < MIN_EXTENT:
        raise InputFileError(
            label,
            expected=f"at least {MIN_EXTENT} samples at {new_rate:g} Hz",
            got=resampled_values.shape[2],
            remedy="use a longer recording",
        )
    return resampled_values, f"{label} resampled from {rate:g} to {new_rate:g} Hz"


def unit_factors(
    content: Grid, names: Sequence[str], grid: Grid, rows: Sequence[int]
) -> Tensor | None:
    """Compute the factors that convert the values of another recording to the content's units.

    Args:
        content: the content.
        names: names of ``K`` leads of the content.
        grid: the other recording.
        rows: index of each lead in the other recording.

    Returns:
        ``(K,)``, or None if the units are not known to agree.
    """
    import torch

    indices = [content.channels.index(name) for name in names]
    scale, other_scale = per_millivolt(content), per_millivolt(grid)
    if scale is not None and other_scale is not None:
        pairs = zip(indices, rows, strict=True)
        return torch.tensor([scale[index] / other_scale[row] for index, row in pairs])
    units, other_units = value_units(content), value_units(grid)
    same_units = all(
        units[index] == other_units[row] != "" for index, row in zip(indices, rows, strict=True)
    )
    return torch.ones(len(names)) if same_units else None
