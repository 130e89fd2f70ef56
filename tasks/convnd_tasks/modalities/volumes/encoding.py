"""From the values of a scan to those that the network sees, and from a change to the result.

Axes run towards head, front and right, and the values between the ends of a window become
``[0, 1]``. The result is the scan plus a change in its own units: outside the window, where there
is no value, and outside a mask, it is the scan to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd_tasks.modalities.arrays.codec import same_units, value_range
from convnd_tasks.modalities.volumes.noise import TISSUES
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.style import SlicedStyle

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.optimize.distributed.sharded_field import Box
    from convnd_tasks.modalities.volumes.slabs import View

__all__ = ["VolumeEncoding"]

_HOUNSFIELD = (-1200.0, 800.0)  # noise of air to bone; percentiles would cut that of the lungs


class VolumeEncoding:
    """How the values of a scan and its styles are encoded.

    Args:
        scan: values ``(1, T, *S)``.
        styles: volumes or pictures.
        options: reads ``window`` and ``style_scale``.
        transfer: "noise" or "paint".

    Attributes:
        axes: directions of the scan's axes.
        low: value that becomes 0.
        high: value that becomes 1.
        styles: the styles as slices.
        tissues: lowest and highest encoded value of each tissue, where values are in HU and noise
            is transferred.
        messages: what users should know about window and transfer.

    Raises:
        InputFileError: no value of the scan is inside the window.
    """

    def __init__(
        self, scan: Grid, styles: Sequence[Grid], options: VolumeOptions, transfer: str
    ) -> None:
        self._scan = scan
        self.axes = Orientation(scan)
        window = parse_window(options.window)
        self.low, self.high = value_range(scan.values) if window is None else window
        if window is not None and not bool(self._inside(scan.values).any()):
            raise InputFileError(
                f"scan: expected values in the window {self.low:g} … {self.high:g}, got none; "
                "use --window auto"
            )
        shared = [self._shares_units(style) for style in styles]
        is_noise = transfer == "noise"
        # Tissues have known values in HU only, where air is 1000 below water.
        hounsfield = is_noise and all(shared) and self.low <= TISSUES["soft"][0]
        if hounsfield and window is None:
            self.low, self.high = _HOUNSFIELD
        ranges = [
            (self.low, self.high) if same and is_noise else value_range(style.values)
            for style, same in zip(styles, shared, strict=True)
        ]
        self.styles = [
            SlicedStyle(style, *ends, scale=options.style_scale)
            for style, ends in zip(styles, ranges, strict=True)
        ]
        self.tissues = tuple(
            ((low - self.low) / self.width, (high - self.low) / self.width)
            for low, high in (TISSUES.values() if hounsfield else ())
        )
        chosen = " (auto)" if window is None else ""
        own_range = "; the style's units are others, so its own range is taken for the window"
        self.messages = (
            f"window {self.low:g} to {self.high:g}{chosen}; what lies outside stays as it is",
            f"transfer: {transfer}" + (own_range if is_noise and not all(shared) else ""),
        )

    @property
    def width(self) -> float:
        """Width of the window."""
        return self.high - self.low

    def content(
        self,
        frame: int,
        size: Sequence[int],
        box: Box | None = None,
        device: torch.device | None = None,
    ) -> Tensor:
        """A frame of the scan as values ``(1, 1, *size)`` in ``[0, 1]``.

        Args:
            frame: its number.
            size: extent of the whole frame.
            box: the part to return; None is all of it.
            device: where the values go; None is the scan's own.
        """
        if tuple(size) != self.axes.shape:
            whole = resize_nd(
                self.content(frame, self.axes.shape, device=device), size, mode="linear"
            )
            if box is None:
                return whole
            index = tuple(slice(start, stop) for start, stop in box)
            return whole[(slice(None), slice(None), *index)].contiguous()
        values = self.axes.to_canonical(self._scan.values[:, frame : frame + 1], box).contiguous()
        values = values.nan_to_num_(nan=self.low, posinf=self.high, neginf=self.low)
        values = values.sub_(self.low).div_(self.width).clamp_(0, 1)
        return values if device is None else values.to(device)

    def extract_styles(self, views: Sequence[View], device: torch.device) -> Iterator[list[Tensor]]:
        """For each view the slices ``(n, 1, H, W)`` of every style."""
        for view in views:
            yield [style.extract(view, device) for style in self.styles]

    def apply_change(
        self, scan: Tensor, change: Tensor, weight: Tensor | float, strength: float
    ) -> Tensor:
        """A frame of the scan with its change.

        Args:
            scan: ``(1, 1, *S)`` with the axes of the file.
            change: in the scan's units, with axes towards head, front and right.
            weight: share of the change for each voxel, from a mask.
            strength: share of the change everywhere.
        """
        change = self.axes.from_canonical(change)
        inside = torch.isfinite(scan) & self._inside(scan)
        change = torch.where(inside, change * weight * strength, 0.0)
        # Where nothing is added, nothing is rounded either.
        return torch.where(change == 0, scan, scan + change)

    def _inside(self, values: Tensor) -> Tensor:
        return (values >= self.low) & (values <= self.high)

    def _shares_units(self, style: Grid) -> bool:
        """Whether a style is a volume whose values are in the scan's units."""
        if style.ndim == 2:
            return False
        return same_units(value_range(style.values), (self.low, self.high))
