"""The bytes that the parts of a style transfer take, as functions of its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from convnd.backbones import Backbone
from convnd.losses import INPUT, default_radius
from convnd.optimize import HISTORY, OPTIMIZERS, ProcessGroup
from convnd.stats import STATISTICS, overlap_of, peak_bytes_of
from convnd.transfer.options import TransferOptions

__all__ = ["KEPT_PAGES", "MemoryModel"]

KEPT_PAGES = 512 * 2**20
"""Bytes in blocks that the allocator does not return because they are too small: measured for one
axis; for more axes half as much."""


@dataclass(frozen=True)
class MemoryModel:
    """Bytes that the parts of one transfer take in each process.

    Args:
        options: options of the transfer.
        backbone: the network.
        device: device of the network.
        batch: number of fields that are optimized together.
        group: the processes that share the work.
        content_location: device and extent of the content, which is in memory already, so that only
            a copy of another size or on another device is counted. None is no content.
        bounded: whether values are cut, see `convnd.optimize.evaluate_within`.
    """

    options: TransferOptions
    backbone: Backbone
    device: torch.device
    batch: int = 1
    group: ProcessGroup = field(default_factory=ProcessGroup)
    content_location: tuple[torch.device, tuple[int, ...]] | None = None
    bounded: bool = False

    @property
    def tile(self) -> int | None:
        """Samples of a tile along each axis, if the options fix it."""
        return None if self.options.tile in ("auto", "off") else int(self.options.tile)

    def field_bytes(self, size: Sequence[int]) -> int:
        """Return the bytes of one float32 field of some size."""
        return 4 * self.batch * self.backbone.in_channels * math.prod(size)

    def state_bytes(self, size: Sequence[int], *, offload: bool, history: int = HISTORY) -> int:
        """Return the bytes of the optimized field, its gradient, and the optimizer's state.

        Args:
            size: extent along each axis.
            offload: whether the steps' values and Adam's moments are on the disk.
            history: number of pairs that L-BFGS remembers.
        """
        copies = OPTIMIZERS[self.options.optimizer].copies(history)
        if len(self.backbone.independent_groups(self.options.layers)) > 1:
            copies += 1  # the gradients of two groups are added
        if offload:
            copies -= 4  # the last step, the best step and two moments
        if self.bounded:
            copies += 2  # the field that is evaluated, and its gradient
        if self.group.size > 1:
            copies += 2  # the region that tiles read, and its gradient
        field = self.field_bytes(size)
        in_memory = self.content_location in (None, (self.device, tuple(size)))
        content = 0 if in_memory else field  # whole in every process
        if self.options.affine_weight and self.content_location is not None:
            # A float64 matrix of channels by channels for each window, in every process.
            content += 2 * self.backbone.in_channels * field
        return content + field * copies // self.group.size

    def content_bytes(self, size: Sequence[int]) -> int:
        """Return the bytes of the content's features."""
        if not self.options.content_weight:
            return 0
        layers = self.options.content_layers
        return self.batch * self.backbone.activation_bytes(size, layers) // self.group.size

    def crop_bytes(
        self, crop: Sequence[int], layers: Sequence[str], backbone: Backbone | None = None
    ) -> int:
        """Return the bytes that a crop takes, forwards and backwards.

        Args:
            crop: extent along each axis.
            layers: the layers that are computed.
            backbone: the network; None is the whole one.
        """
        backbone = self.backbone if backbone is None else backbone
        options = self.options
        total = backbone.peak_bytes(crop, layers)
        for name, channels in self._summed_channels.items():
            if name in layers:
                stride = map(int, backbone.receptive_fields[name].stride)
                extent = [max(1, n // step) for n, step in zip(crop, stride, strict=True)]
                total += channels * peak_bytes_of(STATISTICS[options.style_loss], extent)
        values = [peak_bytes_of(STATISTICS[name], crop) for name in options.value_statistics]
        total += self.backbone.in_channels * sum(values)
        if options.affine_weight:
            channels = self.backbone.in_channels
            total += (150 * channels + 60 * channels**2) * math.prod(crop)  # measured
        if self.backbone.spatial_dims > 1:
            return total * self.batch + min(total * self.batch, KEPT_PAGES) // 2
        # With one axis deep layers are as large as shallow ones, and the peak is at the losses: a
        # gradient of every layer, and the content's differences three times in float32.
        total += self.backbone.activation_bytes(crop, [name for name in layers if name != INPUT])
        if options.content_weight:
            content = self.backbone.activation_bytes(crop, options.content_layers)
            total += 12 * content // self._feature_width
        return total * self.batch + min(total * self.batch, KEPT_PAGES)

    @cached_property
    def overlaps(self) -> dict[str, int]:
        """Positions behind its own that a tile needs, by layer, see `convnd.losses.Loss`."""
        options = self.options
        values = max((overlap_of(STATISTICS[name]) for name in options.value_statistics), default=0)
        if options.affine_weight:
            values = max(values, 2 * default_radius([2]))
        overlap = overlap_of(STATISTICS[options.style_loss])
        return {INPUT: values, **dict.fromkeys(options.style_layers, overlap)}

    @property
    def _feature_width(self) -> int:
        """Bytes of one value of the features; the first layer's weights may be wider."""
        return min((weights.element_size() for weights in self.backbone.parameters()), default=4)

    @cached_property
    def _summed_channels(self) -> dict[str, int]:
        """Channels of the style layers, if summing them takes memory that counts."""
        one = [1] * self.backbone.spatial_dims
        if not peak_bytes_of(STATISTICS[self.options.style_loss], one):
            return {}
        return {
            name: self.backbone.activation_bytes(one, [name]) // self._feature_width
            for name in self.options.style_layers
            if name in self.backbone.receptive_fields
        }
