"""Receptive fields measured by experiment."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.backbones.base import Backbone
from convnd.errors import ConvndError, ShapeError, UsageError
from convnd.shapes import ReceptiveField

__all__ = ["find_receptive_fields", "probe_receptive_field"]

_LENGTHS = (16, 32, 64, 128, 256, 512)
"""Extents of the test inputs along the axis that is measured."""

_OTHER_LENGTHS = (16, 32, 64)
"""Extents along the other axes; they only have to be large enough for the network to run."""

_Window = tuple[int, int, int]
"""Size, stride and offset along an axis."""


def probe_receptive_field(network: Backbone, layer: str) -> ReceptiveField:
    """Measure the receptive field of a layer.

    An input sample that is NaN makes every output that depends on it NaN, whatever the weights,
    zeros included. So with NaN in the first samples along an axis, or in the last ones, the outputs
    show which positions see any of these samples. Bisection finds the ends of the windows of two
    positions, from which size, stride and offset of the field follow. Further trials, also at
    another length, must agree for all positions.

    Args:
        network: any backbone; it does not change.
        layer: one of its layers.

    Raises:
        UnknownNameError: no such layer, or the network never calls it.
        UsageError: the positions do not see equal windows at equal steps (for example, they see
            the whole input, or the stride is a fraction), or a window is longer than about 250
            samples.

    >>> from torch import nn
    >>> from convnd.backbones import ModuleBackbone
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5, padding=2), nn.MaxPool1d(2))
    >>> probe_receptive_field(ModuleBackbone(net, ["1"], spatial_dims=1, in_channels=1), "1")
    ReceptiveField(size=(6,), stride=(2,), offset=(-2,))
    """
    field, axis = _probe(network, layer)
    if field is None:
        raise UsageError(
            f"layer {layer}",
            expected=f"equal windows at equal whole steps along axis {axis}",
            got="other windows",
            remedy="choose a shallower one, or give ModuleBackbone its fields",
        )
    return field


def find_receptive_fields(network: Backbone, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """Measure the receptive fields of layers; those without one are left out.

    Args:
        network: any backbone; it does not change.
        layers: names of its layers.

    Raises:
        UnknownNameError: no such layer, or the network never calls it.
    """
    fields = {name: _probe(network, name)[0] for name in layers}
    return {name: field for name, field in fields.items() if field is not None}


def _probe(network: Backbone, layer: str) -> tuple[ReceptiveField | None, int]:
    """Measure the field; None and the axis if there is none along an axis."""
    windows: list[_Window] = []
    for axis in range(network.spatial_dims):
        # Most networks have the same field along every axis, so that the last one is a good guess.
        window = _probe_axis(network, layer, axis, windows[-1] if windows else None)
        if window is None:
            return None, axis
        windows.append(window)
    sizes, strides, offsets = zip(*windows, strict=True)
    return ReceptiveField(tuple(sizes), tuple(strides), tuple(offsets)), 0


def _probe_axis(network: Backbone, layer: str, axis: int, guess: _Window | None) -> _Window | None:
    """Measure the windows along one axis; a right guess saves most trials."""
    for length in _LENGTHS:
        for other in _OTHER_LENGTHS[: 1 if network.spatial_dims == 1 else None]:
            trials = _Trials(network, layer, axis, length, min(other, length))
            if not trials.runs():
                continue
            if guess is not None and trials.confirm(guess):
                return guess
            window = _window(trials)
            longer = _Trials(network, layer, axis, length + length // 2, min(other, length))
            # A pooling to a fixed number of positions has equal windows at some lengths only.
            if window is not None and (not longer.runs() or longer.confirm(window)):
                return window
            break
    return None


def _window(trials: _Trials) -> _Window | None:
    """Find the windows that all trials agree with, by bisection; None if there are none."""
    length = trials.length
    whole, first, last = trials(0, length), trials(0, 1), trials(length - 1, length)
    inner = [
        position
        for position, sees in enumerate(whole)
        if sees and not first[position] and not last[position]
    ]
    if len(inner) < 3:
        return None

    def low(position: int) -> int:
        return bisect_left(range(length), True, key=lambda end: trials(0, end + 1)[position])

    def high(position: int) -> int:
        return bisect_left(
            range(length), True, key=lambda begin: not trials(begin + 1, length)[position]
        )

    one, two = inner[len(inner) // 2 - 1 :][:2]  # neighbours in the middle
    starts, ends = (low(one), low(two)), (high(one), high(two))
    stride = (starts[1] - starts[0]) // (two - one)
    window = ends[0] - starts[0] + 1, stride, starts[0] - one * stride
    equal = stride > 0 and ends[1] - starts[1] == ends[0] - starts[0]
    return window if equal and trials.confirm(window) else None


class _Trials:
    """Runs of a network on inputs of one shape, with NaN in some samples along an axis."""

    def __init__(self, network: Backbone, layer: str, axis: int, length: int, other: int) -> None:
        self.length = length
        self._network, self._layer, self._axis = network, layer, axis
        self._shape = [other] * network.spatial_dims
        self._shape[axis] = length
        self._results: dict[tuple[int, int], list[bool]] = {}

    def runs(self) -> bool:
        """Whether the network runs on inputs of this shape."""
        try:
            self(0, self.length)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, ConvndError) and not isinstance(error, ShapeError):
                raise
            return False
        return True

    def __call__(self, begin: int, end: int) -> list[bool]:
        """Find the positions that see any of the samples from ``begin`` to before ``end``."""
        if (begin, end) not in self._results:
            parameter = next(self._network.parameters(), torch.zeros(()))
            # Some layers would divide by zeros.
            x = torch.full(
                (1, self._network.in_channels, *self._shape),
                0.5,
                dtype=parameter.dtype,
                device=parameter.device,
            )
            x.narrow(self._axis + 2, begin, end - begin).fill_(torch.nan)
            self._results[begin, end] = self._find_affected(x)
        return self._results[begin, end]

    def _find_affected(self, x: Tensor) -> list[bool]:
        """Run the network, and find the positions along the axis with a feature that is NaN."""
        # oneDNN may choose Winograd's algorithm, which spreads NaN to neighbouring positions.
        with (
            torch.no_grad(),
            warnings.catch_warnings(action="ignore"),  # about options that this machine lacks
            torch.backends.mkldnn.flags(enabled=False),
        ):
            features = self._network(x, [self._layer])[self._layer]
        if features.ndim != x.ndim:
            raise ShapeError(
                f"layer {self._layer}",
                expected=f"features of rank {x.ndim} (B, C, *S)",
                got=f"shape {tuple(features.shape)}",
                remedy="choose another layer",
            )
        is_affected: list[bool] = (
            features.isnan().movedim(self._axis + 2, 0).flatten(1).any(1).tolist()
        )
        return is_affected

    def confirm(self, window: _Window) -> bool:
        """Whether all trials, and further ones at the ends of windows, agree with these windows."""
        size, stride, offset = window
        # Windows that touch the border see padding, and perhaps nothing else.
        inner = {
            position: (low, low + size)
            for position in range(len(self(0, self.length)))
            if (low := offset + position * stride) > 0 and low + size < self.length
        }
        if len(inner) < 3:
            return False
        half = self.length // 2
        for low, end in (inner[min(inner)], inner[max(inner)], (half, half)):
            for sample in (low, low + 1):
                self(0, sample)
            for sample in (end - 1, end):
                self(sample, self.length)
        return all(
            result[position] == (low < stop and end > begin)
            for (begin, stop), result in self._results.items()
            for position, (low, end) in inner.items()
        )
