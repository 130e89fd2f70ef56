"""Encoding of signals: from leads in their units to values of about ``[0, 1]``, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.io.signals.signal import describe, sampling_rate, signal_of, value_units
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.inputs import LabelledGrid, TransferInputs
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
from convnd_tasks.modalities.signals.peaks import MIN_RATE
from convnd_tasks.modalities.signals.selection import describe_others, lead_pairs
from convnd_tasks.modalities.value_range import value_range

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.signals.options import SignalOptions

__all__ = ["LeadCodec"]

_PASSBAND = 0.9  # share of the frequencies below Nyquist that resampling does not attenuate


class _Recording(NamedTuple):
    """Leads of another recording that correspond to the encoded ones."""

    values: Tensor  # (1, K, T), in the content's units if `known_units`
    known_units: bool


class LeadCodec:
    r"""Maps the leads of a recording to values of about ``[0, 1]`` and back.

    Every lead is a separate signal of the batch, compared with the style's lead of the same name.
    With a median :math:`m` and one scale :math:`s` for content and styles,

    .. math:: x = \tfrac12 + (v - m) / s

    so noise of 0.05 mV in the style is noise of 0.05 mV in the result. If units are not known to
    agree, each recording has a separate scale.

    - Leads of an ECG that follow from I and II are left out, and derived from the result.
    - Leads that are constant or empty in the content or in a style, that record triggers, or that
      the user did not choose, are left out; the result has the content's leads there.
    - The baseline wander of an electrocardiogram, below 0.5 Hz, is the style's, see
      `convnd_tasks.modalities.signals.baseline`.
    - Styles are resampled to the content's sampling rate. The result keeps the content's
      frequencies above the Nyquist frequency of the slowest style.
    - Gaps (NaN) of the content are bridged, and are gaps again in the result. Of a style, the
      longest stretch without gaps is used.
    - If values were digital, independent leads are rounded to the steps of their recorder. The
      error of derived leads is then at most half of their step.

    Args:
        inputs: grids ``(1, C, T)``.
        options: options, of which ``size``, ``leads`` and ``style_weights`` are used.

    Attributes:
        template: the recording whose leads, rate and units the result has.
        names: names of the encoded leads.
        size: number of samples of the result.
        spacing: distance between samples of the result, in the unit of its axis.
        content: the encoded template ``(K, 1, T)``.
        styles: the encoded styles ``(K, 1, T_i)``.
        init: the encoded starting point, or None.
        bandwidth: share of the result's frequencies that all styles contain.
        messages: lines for users about the recordings.

    Raises:
        InputFileError: a recording is too short, a lead has no values, no lead changes in all
            recordings, or leads or sampling rates do not fit.
    """

    def __init__(self, inputs: TransferInputs, options: SignalOptions) -> None:
        import torch

        from convnd.transfer.scales import fit_size

        self.template = template = inputs.template
        self._pairs = lead_pairs(options.leads)
        self.messages: list[str] = []
        self.size = fit_size(template.shape, options.size)
        recordings = inputs.labelled()
        for role, grid, label in recordings:
            _check_recording(label, grid, self.size[0])
            if role == "mask":  # has the content's times, and perhaps is made from its regions
                continue
            self.messages += [f"{label} {remark}" for remark in signal_of(grid).remarks]
            if signal_of(grid).rate_assumed:
                self.messages.append(
                    f"{label} names no unit of time: seconds are assumed, {sampling_rate(grid):g} "
                    "Hz; --rate N says otherwise"
                )
        if template.units != ("s",):
            self.messages.append(
                f"{recordings[0].label} names no sampling rate: its samples are used as they are; "
                "--rate N sets the rate"
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
        self._gapless = _bridge_gaps(template.values)
        values = self._gapless[:, self._leads]  # (1, K, T)
        self._median = values.median(2, keepdim=True).values
        spread = _spread(template.values[:, self._leads])  # (K,)
        pairs = [self._center(style, spread) for style in styles]
        spreads = torch.stack([spread, *(style_spread for _, style_spread in pairs)])
        self._scale = spreads.amax(0)[:, None]  # (K, 1)
        self.content = self._encode(values - self._median)
        self.styles = [self._encode(style) for style, _ in pairs]
        self.init: Tensor | None = None
        if inputs.init is not None:  # an earlier result, which has the content's units
            start = next(labelled for labelled in recordings if labelled.role == "init")
            self.init = self._encode(self._match(start).values - self._median)
        self._has_content = inputs.content is not None
        self._min_rate = min(sampling_rate(style) for style in inputs.styles)
        # More samples make a texture longer, and a content finer.
        span = template.shape[0] / self.size[0] if self._has_content else 1.0
        self.spacing = (template.spacing[0] * span,)
        self.bandwidth = _bandwidth(template, self._min_rate, self.spacing[0])
        if self._has_content and template.units == ("s",):
            self._match_baselines(options.style_weights)

    def _match(self, recording: LabelledGrid) -> _Recording:
        """Take the leads of another recording that correspond to the encoded ones."""
        label, grid = recording.label, matching_grid(recording.grid, self.names, self._pairs)
        rows = match_leads(label, self.names, grid, self._pairs)
        values, message = longest_stretch(label, grid, rows)
        resampled_values, note = resample_to_content(label, values[:, rows], grid, self.template)
        self.messages += [text for text in (message, note) if text]
        factors = unit_factors(self.template, self.names, grid, rows)
        if factors is None:
            return _Recording(resampled_values, known_units=False)
        return _Recording(resampled_values * factors[:, None], known_units=True)

    def _center(self, style: LabelledGrid, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract the medians of a style's leads; returns ``(1, K, T')`` and spreads ``(K,)``.

        Args:
            style: the style.
            spread: spreads of the content's leads ``(K,)``, which scale a style of unknown units.
        """
        values, known_units = self._match(style)
        values = values - values.median(2, keepdim=True).values
        style_spread = _spread(values)
        if known_units:
            return values, style_spread
        return values * (spread / style_spread)[:, None], spread

    def _match_baselines(self, weights: Sequence[float]) -> None:
        """Give the content's electrocardiogram leads the baseline wander of the styles."""
        import torch

        rate, units = sampling_rate(self.template), value_units(self.template)
        if rate < MIN_RATE:
            return
        for row, (index, name) in enumerate(zip(self._leads, self.names, strict=True)):
            if is_ecg_lead(name, units[index]) and not is_other_lead(name, self.names):
                lead = self.content[row, 0].double().numpy()
                styles = [style[row, 0].double().numpy() for style in self.styles]
                matched_lead = match_baseline(lead, styles, rate, weights)
                if matched_lead is not lead:
                    self.content[row, 0] = torch.from_numpy(matched_lead).to(self.content)

    def _encode(self, values: Tensor) -> Tensor:
        return (values / self._scale + 0.5).movedim(1, 0)  # (K, 1, T)

    def encode_share(self, share: Tensor) -> Tensor:
        """Convert a share of the content to one of the encoded leads, see `PreparedInputs`."""
        return share if share.shape[1] == 1 else share[:, self._leads].movedim(1, 0)

    def decode(self, values: Tensor) -> Grid:
        """Convert values to a recording in the content's units.

        Args:
            values: ``(K, 1, T')``, of any length.
        """
        import torch

        if self.bandwidth < 1 and self._has_content and values.shape[2] == self.content.shape[2]:
            change = values - self.content
            rate = sampling_rate(self.template)
            values = self.content + band_limit(change, rate, self._min_rate)
        leads = (values.movedim(0, 1) - 0.5) * self._scale + self._median
        if self._steps:  # of values on the recorder's steps, derived leads are exact sums
            steps = torch.tensor([self._steps[index] for index in self._leads])
            leads = (leads / steps[:, None]).round() * steps[:, None]
        grid = self.template.with_values(self._all_leads(leads))
        if self._has_content:
            return grid
        # The template is a style, whose annotations do not fit the texture.
        return describe(dataclasses.replace(grid, spacing=self.template.spacing), annotations=())

    def _all_leads(self, leads: Tensor) -> Tensor:
        """Add the leads that were not encoded to ``(1, K, T)``, and the gaps."""
        import torch
        import torch.nn.functional as F

        from convnd.nn import resize_nd

        channels, length = self.template.channels, leads.shape[2]
        unchanged: dict[int, Tensor] = {}
        if self._unchanged:
            # Leads that follow from I and II change only if one of these does.
            changing = {lead_key(name) for name in self.names}
            derived_leads = set(range(len(channels))) - set(independent(channels))
            unchanged_leads = [*self._unchanged, *(() if changing & {"i", "ii"} else derived_leads)]
            content = resize_nd(self._gapless, [length], mode="linear")
            unchanged = {index: content[:, index] for index in unchanged_leads}
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
    """Check that a recording, and a result of this size, are long enough."""
    if min(grid.shape[0], size) < MIN_EXTENT:
        raise InputFileError(
            label,
            expected=f"at least {MIN_EXTENT} samples",
            got=min(grid.shape[0], size),
            remedy="transpose the array, channels come first"
            if grid.values.shape[1] >= MIN_EXTENT > grid.shape[0]
            else "use a longer recording",
        )


def _spread(values: Tensor) -> Tensor:
    """Compute the range of each lead ``(K,)`` between the 0.5th and 99.5th percentile."""
    import torch

    ranges = [value_range(lead) for lead in values[0]]
    return torch.tensor([high - low for low, high in ranges])


def _bridge_gaps(values: Tensor) -> Tensor:
    """Draw straight lines across the gaps of ``(1, C, T)``."""
    import torch

    if bool(torch.isfinite(values).all()):
        return values
    leads = [torch.from_numpy(interpolate_gaps(lead.numpy())) for lead in values[0]]
    return torch.stack(leads)[None].to(values.dtype)


def _bandwidth(template: Grid, min_rate: float, step: float) -> float:
    """Compute the share of a result's frequencies that the slowest style has.

    Args:
        template: the recording whose unit of time the result has.
        min_rate: lowest sampling rate of the styles.
        step: distance between samples of the result.
    """
    if template.units != ("s",):
        return 1.0
    rate = 1 / step
    # The filters of resampling and of recorders attenuate frequencies next to Nyquist's.
    return 1.0 if min_rate >= rate else _PASSBAND * min_rate / rate
