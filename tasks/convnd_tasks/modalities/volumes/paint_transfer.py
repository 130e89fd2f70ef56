"""The transfer of all patterns of a picture or volume to a volume, with a network for pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.nn import resize_nd
from convnd.optimize import ProcessGroup
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.grid_transfer import GridModality, GridTransfer, blend_statistics
from convnd_tasks.modalities.images.similarity import luma
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.regions import Regions, apply_regions
from convnd_tasks.modalities.value_range import value_range
from convnd_tasks.modalities.volumes.inputs import (
    SHORTEST_SIDE,
    ScanTransfer,
    inside_window,
    mask_weights,
)
from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan, anatomy_figures
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.safety_figure import describe_broken, describe_figures
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.units import scan_unit
from convnd_tasks.runtime.changes import Changes

__all__ = ["NetworkPaintTransfer", "PaintTransfer", "square_planes"]

_SQUARE = 2.0  # largest ratio of a pixel's sides in the slices that the network sees


class PaintTransfer(ScanTransfer, GridTransfer):
    """The transfer of patterns: a network for pictures sees the slices across every axis.

    Args:
        inputs: a content with values ``(1, T, *S)`` and spacing in mm; styles that are volumes or
            pictures.
        options: options of the transfer.
        engine: returns the network for slices along given pairs of axes.
        regions: regions with styles of their own, or None.
        change: planned changes of options, see `Changes`.

    Raises:
        InputFileError: the scan has no slices that are large enough, or no value in the window.
    """

    def __init__(
        self,
        inputs: TransferInputs,
        options: VolumeOptions,
        engine: Callable[[Sequence[tuple[int, int]]], StyleTransfer | OnePassTransfer],
        *,
        regions: Regions | None = None,
        change: Sequence[str] = (),
    ) -> None:
        assert inputs.content is not None
        mask_weights(inputs.content, inputs.mask)
        self.scan, self._modality = inputs.content, options.modality
        axes = Orientation(self.scan)
        planes = square_planes(axes.shape, axes.spacing)
        if not planes:
            size, steps = f"{SHORTEST_SIDE} x {SHORTEST_SIDE}", map("{:g}".format, axes.spacing)
            expected = f"slices of at least {size} square pixels along some axis"
            got = f"{' x '.join(map(str, axes.shape))} at {' x '.join(steps)} mm"
            raise InputFileError("scan", expected=expected, got=got, remedy="use a larger volume")
        encoded = apply_regions(_encode(inputs.content, inputs.styles, options), inputs, regions)
        prepared, strength = encoded, options.strength
        if not isinstance(self, NetworkPaintTransfer):
            prepared, strength = blend_statistics(prepared, strength)

        def adopt(changes: Changes) -> tuple[PreparedInputs, TransferOptions, float]:
            changed = changes.apply(options)
            return dataclasses.replace(encoded, strength=changed.strength), changed, 1.0

        super().__init__(prepared, inputs, strength, lambda _: engine(planes), adopt=adopt)
        if not isinstance(self, NetworkPaintTransfer) and strength > 0:
            self.changes = Changes(change, GridModality.changeable)
            self.changes.check(options)

    def preview(self, progress: Progress) -> Grid | None:
        """Compute the scan at a step, see `Transfer.preview`; the change needs its full size."""
        return self.result(progress)


class NetworkPaintTransfer(PaintTransfer):
    """The transfer of patterns by a trained network, which also measures the safety figures.

    A pattern is drawn on purpose, so that figures outside of their limits are shown and recorded,
    and do not refuse the result.
    """

    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None,
        on_message: Callable[[str], None] | None,
    ) -> Iterator[Progress]:
        """Run the network, and measure the result, see `Transfer.run`."""
        for progress in super().run(state=state, group=group, on_message=on_message):
            result = self.result(progress)
            if result is not None:
                self._measure(result, on_message or (lambda _: None))
            yield progress

    def _measure(self, result: Grid, message: Callable[[str], None]) -> None:
        """Measure the safety figures of each frame, print them and record them."""
        content, record = self.scan, dict(self.record)
        axes, unit = Orientation(content), scan_unit(content, self._modality)
        for frame in range(content.values.shape[1]):
            scan = Scan.from_grid(content, frame)
            if not bool(scan.valid.any()):
                continue
            after = axes.canonical_frame(result.values, frame)
            before = MeasuredScan.measure(scan, unit, min(axes.spacing))
            changed = before.changed(torch.where(scan.valid, after, scan.values))
            figures = anatomy_figures(before, changed)
            prefix, suffix = self.frame_labels(frame)
            text, broken = describe_figures(figures), describe_broken(figures)
            shown = f"outside of the safe limits: {broken}" if broken else text
            message(f"{prefix}anatomy: {shown}")
            record[f"anatomy{suffix}"] = text
        self.record = record


def square_planes(shape: Sequence[int], spacing: Sequence[float]) -> list[tuple[int, int]]:
    """The pairs of axes whose slices are large enough and have about square pixels.

    Args:
        shape: voxels along each axis.
        spacing: mm along each axis.

    >>> square_planes((48, 512, 512), (5.0, 0.6, 0.6)), square_planes((40, 40, 40), (1.0, 1.0, 1.0))
    ([(1, 2)], [(0, 1), (0, 2), (1, 2)])
    """
    return [
        (first, second)
        for first, second in ((0, 1), (0, 2), (1, 2))
        if min(shape[first], shape[second]) >= SHORTEST_SIDE
        and 1 / _SQUARE <= spacing[first] / spacing[second] <= _SQUARE
    ]


def _encode(scan: Grid, styles: Sequence[Grid], options: VolumeOptions) -> PreparedInputs:
    """Encode a scan and its styles as values in ``[0, 1]``, with canonical axes.

    Decoding adds the change of the encoded values to the scan.
    """
    axes, window = Orientation(scan), parse_window(options.window)
    low, high = value_range(scan.values) if window is None else window
    inside = inside_window(scan, options.window)
    content = axes.to_canonical(_unit_range(scan.values, low, high)).movedim(1, 0)
    frames = content.shape[0]

    def decode(values: Tensor) -> Grid:
        change = axes.from_canonical((values - content).movedim(0, 1)) * (high - low)
        changes = inside & (change != 0)
        # Unchanged voxels keep exactly the value of the scan.
        return scan.with_values(torch.where(changes, scan.values + change, scan.values))

    chosen = " (auto)" if window is None else ""
    return PreparedInputs(
        content=content,
        styles=[_encode_style(style, axes).expand(frames, -1, -1, -1, -1) for style in styles],
        init=None,
        size=axes.shape,
        decode=decode,
        spacing=axes.spacing,
        same_grid=True,
        encode_share=lambda share: axes.to_canonical(share).movedim(1, 0),
        encode_style_share=lambda number, share: _encode_style_share(styles[number], share),
        messages=(
            f"window {low:g} to {high:g}{chosen}; values outside do not change",
            "transfer: paint",
        ),
    )


def _encode_style(style: Grid, axes: Orientation) -> Tensor:
    """Encode a style as ``(1, 1, *S)`` with the scan's voxel size; a picture has one slice."""
    if style.ndim == 2:
        values, (low, high) = style.values, value_range(style.values)
        if values.shape[1] == 3:
            values, low, high = luma(values), 0.0, 1.0
        factor = max(axes.shape) / max(style.shape)
        size = [max(SHORTEST_SIDE, round(extent * factor)) for extent in style.shape]
        values = _unit_range(values, low, high)
        return resize_nd(values, size, mode="linear", antialias=True)[:, :, None]
    own = Orientation(style)
    values = own.to_canonical(_unit_range(style.values[:, :1], *value_range(style.values)))
    size = [
        max(SHORTEST_SIDE, round(extent * step / target))
        for extent, step, target in zip(own.shape, own.spacing, axes.spacing, strict=True)
    ]
    return resize_nd(values, size, mode="linear", antialias=True)


def _encode_style_share(style: Grid, share: Tensor | None) -> Tensor | None:
    """Bring a part of a style to the axes of the encoded style; it is resized later."""
    if share is None:
        return None
    return share[:, :, None] if style.ndim == 2 else Orientation(style).to_canonical(share)


def _unit_range(values: Tensor, low: float, high: float) -> Tensor:
    """Map values from ``[low, high]`` to ``[0, 1]``; others are clipped, missing ones become 0."""
    return values.nan_to_num(nan=low, posinf=high, neginf=low).sub(low).div(high - low).clamp(0, 1)
