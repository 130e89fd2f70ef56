"""Encoding of signals: leads in their owner's units as values of about ``[0, 1]``, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.io.signals.signal import describe, sampling_rate, signal_of, value_units
from convnd_tasks.modalities.arrays.codec import value_range
from convnd_tasks.modalities.base import SMALLEST, LabelledGrid, TransferInputs
from convnd_tasks.modalities.signals.baseline import match_baseline
from convnd_tasks.modalities.signals.changing_leads import choose_leads, matching_grid
from convnd_tasks.modalities.signals.leads import (
    band_limit,
    derive_leads,
    independent,
    interpolate_gaps,
    is_ecg_lead,
    is_other_lead,
    lead_key,
)
from convnd_tasks.modalities.signals.matching import (
    longest_stretch,
    match_leads,
    resample_to_content,
    unit_factors,
)
from convnd_tasks.modalities.signals.peaks import LOWEST_RATE
from convnd_tasks.modalities.signals.selection import describe_others, lead_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.signals.options import SignalOptions

__all__ = ["LeadCodec"]

_PASSBAND = 0.9  # share of the frequencies below Nyquist that resampling does not attenuate


class _Recording(NamedTuple):
    values: Tensor  # (1, K, T), in the content's units if these are known
    known_units: bool


class LeadCodec:
    r"""Maps the leads of a recording to values of about ``[0, 1]`` and back.

    Every lead is a signal of its own (the batch), compared with the style's lead of that name.
    With a median :math:`m` and one scale :math:`s` for content and styles,

    .. math:: x = \tfrac12 + (v - m) / s

    so noise of 0.05 mV in the style is noise of 0.05 mV in the result. If units are not known to
    agree, each recording has its own scale.

    - Leads of an ECG that follow from I and II are left out, and derived from the result. - A lead
    is left out if it is constant or empty in the content or in a style, if it records triggers, or
    if it was not requested; the content's lead passes through unchanged. - The baseline wander of
    an electrocardiogram, below 0.5 Hz, is the style's, see
    `convnd_tasks.modalities.signals.baseline`. - Styles are resampled to the content's sampling
    rate. The result keeps the content's frequencies above the Nyquist frequency of the slowest
    style. - Gaps (NaN) of the content are bridged, and are gaps again in the result. Of a style,
    the longest stretch without gaps is used. - If values were digital, independent leads are
    rounded to the steps of their recorder; derived leads then are off by half of their own step at
    most.

    Args:
        inputs: grids ``(1, C, T)``.
        options: reads ``size``.

    Attributes:
        template: the recording whose leads, rate and units the result has.
        names: of the encoded leads.
        size: samples of the result.
        spacing: from one of them to the next.
        content: the encoded template ``(K, 1, T)``.
        styles: encoded ``(K, 1, T_i)`` each.
        init: the encoded starting point, or None.
        bandwidth: share of the result's frequencies that all styles contain.
        messages: one line for each thing that users should know.

    Raises:
        InputFileError: see `convnd_tasks.modalities.signals.prepare.prepare`.
    """

    def __init__(self, inputs: TransferInputs, options: SignalOptions) -> None:
        import torch

        from convnd.transfer.scales import fit_size

        self.template = template = inputs.template
        self._pairs = lead_pairs(options.leads)
        self.messages: list[str] = []
        self.size = fit_size(template.shape, options.size)
        recordings = inputs.labelled()
        for _, grid, label in recordings:
            _check_recording(label, grid, self.size[0])
            self.messages += [f"{label} {remark}" for remark in signal_of(grid).remarks]
            if signal_of(grid).rate_assumed:
                self.messages.append(
                    f"{label} names no unit of time: seconds are assumed, {sampling_rate(grid):g} "
                    "Hz; --rate N says otherwise"
                )
        if template.units != ("s",):
            self.messages.append(
                f"{recordings[0].label} names no sampling rate: its samples are taken as they are; "
                "--rate N names it"
            )
        other_leads = describe_others(template, recordings[0].label)
        if other_leads:
            self.messages.append(other_leads)
        styles = [labelled for labelled in recordings if labelled.role == "style"]
        choice = choose_leads(recordings[0], styles, self._pairs)
        self.messages += choice.messages
        self._leads, self._unchanged = choice.changing, choice.unchanged
        self.names = [template.channels[index] for index in self._leads]
        digital = signal_of(template).steps
        self._steps = digital if len(digital) == len(template.channels) else ()
        self._gaps = ~torch.isfinite(template.values)
        self._bridged = _bridge_gaps(template.values)
        values = self._bridged[:, self._leads]  # (1, K, T)
        self._median = values.median(2, keepdim=True).values
        spread = _spread(template.values[:, self._leads])  # (K,)
        centred = [self._centred(style, spread) for style in styles]
        self._scale = torch.stack([spread, *(own for _, own in centred)]).amax(0)[:, None]  # (K, 1)
        self.content = self._encode(values - self._median)
        self.styles = [self._encode(style) for style, _ in centred]
        self.init: Tensor | None = None
        if inputs.init is not None:  # an earlier result: in the content's units and place
            start = next(labelled for labelled in recordings if labelled.role == "init")
            self.init = self._encode(self._matched(start).values - self._median)
        self._has_content = inputs.content is not None
        self._slowest = min(sampling_rate(style) for style in inputs.styles)
        # A texture of other length goes on as long; a content of other length has other steps.
        span = template.shape[0] / self.size[0] if self._has_content else 1.0
        self.spacing = (template.spacing[0] * span,)
        self.bandwidth = _bandwidth(template, self._slowest, self.spacing[0])
        if self._has_content and template.units == ("s",):
            self._match_baselines(options.style_weights)

    def _matched(self, recording: LabelledGrid) -> _Recording:
        """The leads of another recording that correspond to the encoded ones."""
        label, grid = recording.label, matching_grid(recording.grid, self.names, self._pairs)
        rows = match_leads(label, self.names, grid, self._pairs)
        values, message = longest_stretch(label, grid, rows)
        resampled, note = resample_to_content(label, values[:, rows], grid, self.template)
        self.messages += [text for text in (message, note) if text]
        factors = unit_factors(self.template, self.names, grid, rows)
        if factors is None:
            return _Recording(resampled, known_units=False)
        return _Recording(resampled * factors[:, None], known_units=True)

    def _centred(self, style: LabelledGrid, spread: Tensor) -> tuple[Tensor, Tensor]:
        """A style's leads ``(1, K, T')`` around 0, and their spreads ``(K,)``."""
        values, known_units = self._matched(style)
        centred = values - values.median(2, keepdim=True).values
        spreads = _spread(centred)
        if known_units:
            return centred, spreads
        return centred * (spread / spreads)[:, None], spread

    def _match_baselines(self, weights: Sequence[float]) -> None:
        """Give the content's electrocardiogram leads the baseline wander of the styles."""
        import torch

        rate, units = sampling_rate(self.template), value_units(self.template)
        if rate < LOWEST_RATE:
            return
        for row, (index, name) in enumerate(zip(self._leads, self.names, strict=True)):
            if is_ecg_lead(name, units[index]) and not is_other_lead(name, self.names):
                lead = self.content[row, 0].double().numpy()
                styles = [style[row, 0].double().numpy() for style in self.styles]
                matched = match_baseline(lead, styles, rate, weights)
                if matched is not lead:
                    self.content[row, 0] = torch.from_numpy(matched).to(self.content)

    def _encode(self, centred: Tensor) -> Tensor:
        return (centred / self._scale + 0.5).movedim(1, 0)  # (K, 1, T)

    def decode(self, values: Tensor) -> Grid:
        """A recording in the content's units.

        Args:
            values: ``(K, 1, T')``, of any length.
        """
        import torch

        if self.bandwidth < 1 and self._has_content and values.shape[2] == self.content.shape[2]:
            change = values - self.content
            rate = sampling_rate(self.template)
            values = self.content + band_limit(change, rate, self._slowest)
        leads = (values.movedim(0, 1) - 0.5) * self._scale + self._median
        if self._steps:  # on the recorder's own steps the derived leads are exact sums as well
            steps = torch.tensor([self._steps[index] for index in self._leads])
            leads = (leads / steps[:, None]).round() * steps[:, None]
        grid = self.template.with_values(self._all_leads(leads))
        if self._has_content:
            return grid
        # Marks are the style's, at its own times.
        return describe(dataclasses.replace(grid, spacing=self.template.spacing), annotations=())

    def _all_leads(self, leads: Tensor) -> Tensor:
        """Add the leads that were not encoded, and the gaps."""
        import torch
        import torch.nn.functional as F

        from convnd.nn import resize_nd

        channels, length = self.template.channels, leads.shape[2]
        unchanged: dict[int, Tensor] = {}
        if self._unchanged:
            # Leads that follow from others stay, too, if those do.
            changing = {lead_key(name) for name in self.names}
            derived = set(range(len(channels))) - set(independent(channels))
            unchanged_leads = [*self._unchanged, *(() if changing & {"i", "ii"} else derived)]
            resized = self._bridged
            if resized.shape[2] != length:
                resized = resize_nd(self._bridged, [length], mode="linear")
            unchanged = {index: resized[:, index] for index in unchanged_leads}
        rows = dict(zip(self._leads, leads.unbind(1), strict=True)) | unchanged
        basis = torch.stack([rows[index] for index in independent(channels)], 1)
        values = derive_leads(basis, channels)
        for index, row in unchanged.items():
            values[:, index] = row
        if self._has_content and bool(self._gaps.any()):
            # Adaptive pooling keeps even the shortest gap when the recording is shrunk.
            gaps = F.adaptive_max_pool1d(self._gaps.float(), length)
            values = values.masked_fill(gaps > 0, float("nan"))
        return values


def _check_recording(label: str, grid: Grid, size: int) -> None:
    if min(grid.shape[0], size) < SMALLEST:
        raise InputFileError(
            label,
            expected=f"at least {SMALLEST} samples",
            got=min(grid.shape[0], size),
            remedy="transpose the array, channels come first"
            if grid.values.shape[1] >= SMALLEST > grid.shape[0]
            else "use a longer recording",
        )


def _spread(values: Tensor) -> Tensor:
    """Range of each lead ``(K,)`` between the 0.5th and 99.5th percentile."""
    import torch

    ranges = [value_range(lead) for lead in values[0]]
    return torch.tensor([high - low for low, high in ranges])


def _bridge_gaps(values: Tensor) -> Tensor:
    """Values ``(1, C, T)`` with straight lines across gaps."""
    import torch

    if bool(torch.isfinite(values).all()):
        return values
    leads = [torch.from_numpy(interpolate_gaps(lead.numpy())) for lead in values[0]]
    return torch.stack(leads)[None].to(values.dtype)


def _bandwidth(template: Grid, slowest: float, step: float) -> float:
    """The share of a result's frequencies, at its step, that the slowest style has."""
    if template.units != ("s",):
        return 1.0
    rate = 1 / step
    # Filters, of resampling and of recorders, take away what lies next to the Nyquist frequency.
    return 1.0 if slowest >= rate else _PASSBAND * slowest / rate
