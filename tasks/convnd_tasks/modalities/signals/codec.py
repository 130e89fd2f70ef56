"""Signals in time: how they enter a style transfer, and what comes back to their owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnd.errors import DependencyError, InputFileError, UsageError
from convnd.io.signals.signal import sampling_rate, signal_of, value_units
from convnd_tasks.modalities.arrays.codec import value_range
from convnd_tasks.modalities.base import SMALLEST, LabelledGrid, PreparedInputs, TransferInputs
from convnd_tasks.modalities.signals.beats import Beats, find_beats
from convnd_tasks.modalities.signals.leads import (
    derive,
    has_beats,
    held_by,
    independent,
    lead_key,
    per_millivolt,
    resample,
)

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.signals.options import SignalOptions

__all__ = ["match_leads", "prepare"]

_PASSED = 0.9  # of the frequencies below Nyquist that resampling leaves as they are


def prepare(inputs: TransferInputs, options: SignalOptions) -> PreparedInputs:
    r"""Leads in their owner's units as values that span about ``[0, 1]``.

    Every lead is a signal of its own (the batch), restyled after the style's lead of that name.
    Leads of an ECG that follow from I and II are left out and derived afterwards, so that the
    identities hold. With a median :math:`m` and one scale :math:`s` for content and style,

    .. math:: x = \tfrac12 + (v - m) / s

    so noise of 0.05 mV in the style is noise of 0.05 mV in the result. Where units are not known
    to agree, each has its own scale. Styles are brought to the content's sampling rate. Gaps
    (NaN) of the content are bridged and come back; of a style the longest stretch without gaps
    counts. Of frequencies that a slower style does not have, the content's stay as they are.
    Where values were digital, independent leads lie on their recorder's steps again, so that in a
    file derived leads are off by half of their own step at most.

    Args:
        inputs: grids ``(1, C, T)``.
        options: reads ``size``, ``beat_weight`` and ``style_weights``.

    Raises:
        UsageError: beats are asked for of a texture, or where the sampling rate is not known.
        InputFileError: too short, a lead without values or constant, leads or sampling rates that
            do not fit.
    """
    import torch
    import torch.nn.functional as F

    from convnd.transfer.style_transfer import fit_size

    template = inputs.styles[0] if inputs.content is None else inputs.content
    names = [template.channels[index] for index in independent(template.channels)]
    messages: list[str] = []
    size = fit_size(template.shape, options.size)
    given = inputs.labelled()
    for role, grid, label in given:
        if grid.shape[0] < SMALLEST or size[0] < SMALLEST:
            raise InputFileError(
                f"{label}: expected at least {SMALLEST} samples, got "
                f"{min(grid.shape[0], size[0])}; use a longer recording"
            )
        _check_leads(label, grid, changes=role != "init")
    content = template.values[:, independent(template.channels)]  # (1, K, T)
    gaps = ~torch.isfinite(template.values)
    filled = _bridged(content)
    middle = filled.median(2, keepdim=True).values
    spread = _spread(content)  # (K,)

    def matched(other: LabelledGrid) -> tuple[Tensor, bool]:
        """Another recording's leads ``(1, K, T')``, and whether their units are the content's."""
        _, grid, label = other
        rows = match_leads(label, names, grid)
        values = _cut(label, grid, rows, messages)[:, rows]
        values = _same_rate(label, values, grid, template, messages)
        factors = _factors(template, names, grid, rows)
        return (values if factors is None else values * factors[:, None]), factors is not None

    def follow(other: LabelledGrid) -> tuple[Tensor, Tensor]:
        """Another recording's leads ``(1, K, T')`` around 0, and their spreads ``(K,)``."""
        values, known = matched(other)
        around = values - values.median(2, keepdim=True).values
        own = _spread(around)
        if not known:
            around = around * (spread / own)[:, None]
            own = spread
        return around, own

    styles = [follow(each) for each in given if each.role == "style"]
    scale = torch.stack([spread, *(own for _, own in styles)]).amax(0)[:, None]  # (K, 1)

    def enter(around: Tensor) -> Tensor:
        return (around / scale + 0.5).movedim(1, 0)  # (K, 1, T)

    digital = signal_of(template)
    steps = digital.steps if len(digital.steps) == len(template.channels) else ()

    band = _band(template, inputs.styles, size[0])

    def decode(values: Tensor) -> Grid:
        if band < 1 and entered is not None and values.shape[2] == entered.shape[2]:
            slowest = min(sampling_rate(style) for style in inputs.styles)
            values = entered + held_by(values - entered, sampling_rate(template), slowest)
        leads = (values.movedim(0, 1) - 0.5) * scale + middle
        if steps:  # on the recorder's own steps the derived leads are exact sums as well
            step = torch.tensor([steps[index] for index in independent(template.channels)])
            leads = (leads / step[:, None]).round() * step[:, None]
        leads = derive(leads, template.channels)
        if bool(gaps.any()):
            # Shrunk, a gap stays one, however short it is.
            here = F.adaptive_max_pool1d(gaps.float(), leads.shape[2])
            leads = leads.masked_fill(here > 0, float("nan"))
        return template.with_values(leads)

    # What to start with is an earlier result, so it is in the content's units and place.
    start = None if inputs.init is None else enter(matched(given[-1])[0] - middle)
    entered = None if inputs.content is None else enter(filled - middle)
    references = [enter(around) for around, _ in styles]
    beats = None
    if options.beat_weight != 0:
        beats, message = _beats(inputs, options, names, entered, references)
        messages += [message] if message else []
    return PreparedInputs(
        content=entered,
        styles=references,
        feature_styles=None if beats is None else beats.styles,
        initial=None if beats is None else beats.put,
        extra_terms=None if beats is None else lambda extent: [beats.term(extent[0])],
        record={"convnd:beat_weight_used": f"{0.0 if beats is None else beats.weight:g}"},
        known_bandwidth=band,
        init=start,
        size=size,
        decode=decode,
        spacing=(template.spacing[0] * template.shape[0] / size[0],),
        same_grid=True,
        messages=tuple(dict.fromkeys(messages)),
    )


def _beats(
    inputs: TransferInputs,
    options: SignalOptions,
    names: Sequence[str],
    content: Tensor | None,
    styles: Sequence[Tensor],
) -> tuple[Beats | None, str]:
    """Beats where they are asked for, or where there are some; and a line for people, or ""."""
    weight, template = options.beat_weight, inputs.content
    timed = template is not None and template.units == ("s",)
    if weight is not None and not timed:
        raise UsageError(
            "--beat-weight: expected a content with a sampling rate, got "
            f"{'none' if template is None else 'one without'}; add it, or leave this out"
        )
    if content is None or template is None or not timed:
        return None, ""
    if weight is None and not all(has_beats(each) for each in (template, *inputs.styles)):
        return None, ""
    try:
        return find_beats(
            content,
            styles,
            names,
            sampling_rate(template),
            weights=options.style_weights,
            weight=weight,
            labels=[label for *_, label in inputs.labelled()],
        )
    except DependencyError as error:
        if weight is not None:
            raise
        return None, f"beats are left out: {error}"


def match_leads(label: str, names: Sequence[str], grid: Grid) -> list[int]:
    """For each lead the channel of another recording that stands for it.

    By name where the other has it; a recording of one lead stands for all.

    Args:
        label: of the other recording, for the message.
        names: of the leads wanted.
        grid: the other recording.

    Raises:
        InputFileError: some leads are not there, and there are several to choose from.
    """
    keys = [lead_key(name) for name in grid.channels]
    if len(keys) == 1:
        return [0] * len(names)
    missing = [name for name in names if lead_key(name) not in keys]
    # Names that nobody gave ("0", "1") say no more than the order does.
    unnamed = all(key == str(index) for index, key in enumerate(keys)) or all(
        name == str(index) for index, name in enumerate(names)
    )
    if missing and unnamed and len(keys) == len(names):
        return list(range(len(keys)))
    if missing:
        raise InputFileError(
            f"{label}: expected leads {', '.join(names)}, or a single one for all, got "
            f"{', '.join(grid.channels)} without {', '.join(missing)}; rename or select leads"
        )
    return [keys.index(lead_key(name)) for name in names]


def _check_leads(label: str, grid: Grid, *, changes: bool) -> None:
    import torch

    for name, lead in zip(grid.channels, grid.values[0], strict=True):
        finite = lead[torch.isfinite(lead)]
        if finite.numel() == 0:
            raise InputFileError(
                f"{label}: expected values in lead {name}, got none but gaps; remove that lead"
            )
        if changes and bool((finite == finite[0]).all()):
            raise InputFileError(
                f"{label}: expected a lead {name} that changes, got only {finite[0].item():g}; "
                "remove that lead"
            )


def _spread(values: Tensor) -> Tensor:
    """Range of each lead ``(K,)`` between the 0.5th and 99.5th percentile."""
    import torch

    ranges = [value_range(lead) for lead in values[0]]
    return torch.tensor([high - low for low, high in ranges])


def _bridged(values: Tensor) -> Tensor:
    """Gaps filled by straight lines."""
    import numpy as np
    import torch

    if bool(torch.isfinite(values).all()):
        return values
    found = values.clone()
    at = np.arange(values.shape[2])
    for lead in found[0]:
        row = lead.numpy()
        good = np.isfinite(row)
        row[~good] = np.interp(at[~good], at[good], row[good])
    return found


def _cut(label: str, grid: Grid, rows: Sequence[int], messages: list[str]) -> Tensor:
    """The longest stretch without gaps in the leads that are used."""
    import numpy as np
    import torch

    values = grid.values
    good = torch.isfinite(values[0, sorted(set(rows))]).all(0).numpy()
    if good.all():
        return values
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    first, last = max(zip(edges[::2], edges[1::2], strict=True), key=lambda part: part[1] - part[0])
    if last - first < SMALLEST:
        raise InputFileError(
            f"{label}: expected a stretch of {SMALLEST} samples without gaps, got {last - first}; "
            "use another recording"
        )
    messages.append(f"{label} has gaps: using its longest whole stretch, {last - first} samples")
    return values[..., int(first) : int(last)]


def _same_rate(
    label: str, values: Tensor, grid: Grid, template: Grid, messages: list[str]
) -> Tensor:
    timed = [each.units == ("s",) for each in (grid, template)]
    if not any(timed):
        return values
    if not all(timed):
        raise InputFileError(
            f"{label}: expected a sampling rate for both it and the content, or for neither, got "
            "one; add --rate"
        )
    rate, wanted = sampling_rate(grid), sampling_rate(template)
    if abs(rate - wanted) <= 1e-6 * wanted:
        return values
    messages.append(f"{label} resampled from {rate:g} to {wanted:g} Hz")
    found = resample(values, rate, wanted)
    if found.shape[2] < SMALLEST:
        raise InputFileError(
            f"{label}: expected at least {SMALLEST} samples at {wanted:g} Hz, got "
            f"{found.shape[2]}; use a longer recording"
        )
    return found


def _band(template: Grid, styles: Sequence[Grid], count: int) -> float:
    """The share of the result's frequencies that the slowest style has."""
    if template.units != ("s",):
        return 1.0
    rate = sampling_rate(template) * count / template.shape[0]
    slowest = min(sampling_rate(style) for style in styles)
    # A little less: filters that resample, and those of recorders, take the last of it.
    return 1.0 if slowest >= rate else _PASSED * slowest / rate


def _factors(
    template: Grid, names: Sequence[str], grid: Grid, rows: Sequence[int]
) -> Tensor | None:
    """What brings the other's values to the template's units, or None where that is unknown."""
    import torch

    wanted = [template.channels.index(name) for name in names]
    mine, theirs = per_millivolt(template), per_millivolt(grid)
    if mine is not None and theirs is not None:
        pairs = zip(wanted, rows, strict=True)
        return torch.tensor([mine[own] / theirs[other] for own, other in pairs])
    units = value_units(template), value_units(grid)
    alike = all(
        units[0][own] == units[1][other] != "" for own, other in zip(wanted, rows, strict=True)
    )
    return torch.ones(len(names)) if alike else None
