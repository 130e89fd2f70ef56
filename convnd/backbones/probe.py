"""Receptive fields found by experiment, where a network does not tell."""

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
"""Of the inputs that networks are tried on."""

_OTHERS = (16, 32, 64)
"""Of their other axes, which only have to be long enough to get through."""

_Window = tuple[int, int, int]
"""Size, stride and offset along an axis."""


def probe_receptive_field(network: Backbone, layer: str) -> ReceptiveField:
    """The receptive field of a layer, found by experiment.

    A sample that is not a number makes every output that depends on it not a number, whatever the
    weights, zeros included. So NaN in the first samples along an axis, or in the last, shows which
    positions begin, or end, to see before some place; halving finds the place for a few of them,
    and every trial must agree with equal windows at equal steps for all others, at another length
    too.

    Args:
        network: any whose rank and channels are known; left as it is.
        layer: one of its layers.

    Raises:
        UnknownNameError: no such layer, or it does not run.
        UsageError: positions do not see equal windows at equal steps (an output that sees the
            whole input, a fractional stride), or the window is longer than 250 samples or so.

    >>> from torch import nn
    >>> from convnd.backbones import ModuleBackbone
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5, padding=2), nn.MaxPool1d(2))
    >>> probe_receptive_field(ModuleBackbone(net, ["1"], spatial_dims=1, in_channels=1), "1")
    ReceptiveField(size=(6,), stride=(2,), offset=(-2,))
    """
    field, stuck = _probe(network, layer)
    if field is None:
        raise UsageError(
            f"layer {layer}",
            expected=f"equal windows at equal whole steps along axis {stuck}",
            got="a layer that sees otherwise",
            remedy="choose a shallower one, or give ModuleBackbone its fields",
        )
    return field


def find_receptive_fields(network: Backbone, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """The receptive fields of those of ``layers`` that have one, see `probe_receptive_field`.

    Raises:
        UnknownNameError: no such layer, or it does not run.
    """
    found = {name: _probe(network, name)[0] for name in layers}
    return {name: field for name, field in found.items() if field is not None}


def _probe(network: Backbone, layer: str) -> tuple[ReceptiveField | None, int]:
    """The field, or None and the axis along which there is none."""
    found: list[_Window] = []
    for axis in range(network.spatial_dims):
        # Most networks look alike along every axis.
        window = _probe_axis(network, layer, axis, found[-1] if found else None)
        if window is None:
            return None, axis
        found.append(window)
    sizes, strides, offsets = zip(*found, strict=True)
    return ReceptiveField(tuple(sizes), tuple(strides), tuple(offsets)), 0


def _probe_axis(network: Backbone, layer: str, axis: int, guess: _Window | None) -> _Window | None:
    for length in _LENGTHS:
        for other in _OTHERS[: 1 if network.spatial_dims == 1 else None]:
            trials = _Trials(network, layer, axis, length, min(other, length))
            if not trials.runs():
                continue
            if guess is not None and trials.confirm(guess):
                return guess
            window = _window(trials)
            longer = _Trials(network, layer, axis, length + length // 2, min(other, length))
            # Pooling to a fixed number of positions is regular at some lengths alone.
            if window is not None and (not longer.runs() or longer.confirm(window)):
                return window
            break
    return None


def _window(trials: _Trials) -> _Window | None:
    """The windows that all trials agree with."""
    length = trials.length
    whole, first, last = trials(0, length), trials(0, 1), trials(length - 1, length)
    inner = [at for at, lost in enumerate(whole) if lost and not first[at] and not last[at]]
    if len(inner) < 3:
        return None

    def low(at: int) -> int:
        return bisect_left(range(length), True, key=lambda end: trials(0, end + 1)[at])

    def high(at: int) -> int:
        return bisect_left(range(length), True, key=lambda begin: not trials(begin + 1, length)[at])

    one, two = inner[len(inner) // 2 - 1 :][:2]
    starts, ends = (low(one), low(two)), (high(one), high(two))
    stride = (starts[1] - starts[0]) // (two - one)
    window = ends[0] - starts[0] + 1, stride, starts[0] - one * stride
    alike = stride > 0 and ends[1] - starts[1] == ends[0] - starts[0]
    return window if alike and trials.confirm(window) else None


class _Trials:
    """Runs of a network on inputs of one shape with some samples along an axis not a number."""

    def __init__(self, network: Backbone, layer: str, axis: int, length: int, other: int) -> None:
        self.length = length
        self._network, self._layer, self._axis = network, layer, axis
        self._shape = [other] * network.spatial_dims
        self._shape[axis] = length
        self._made: dict[tuple[int, int], list[bool]] = {}

    def runs(self) -> bool:
        """Whether inputs of this shape get through."""
        try:
            self(0, self.length)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, ConvndError) and not isinstance(error, ShapeError):
                raise
            return False
        return True

    def __call__(self, begin: int, end: int) -> list[bool]:
        """For each position whether it sees one of the samples from ``begin`` to ``end``."""
        if (begin, end) not in self._made:
            parameter = next(self._network.parameters(), torch.zeros(()))
            # Not zeros, which some layers divide by.
            x = torch.full(
                (1, self._network.in_channels, *self._shape),
                0.5,
                dtype=parameter.dtype,
                device=parameter.device,
            )
            x.narrow(self._axis + 2, begin, end - begin).fill_(torch.nan)
            self._made[begin, end] = self._lost(x)
        return self._made[begin, end]

    def _lost(self, x: Tensor) -> list[bool]:
        # Fast convolutions (Winograd's, Fourier's) mix neighbours, and with them what is no number.
        with (
            torch.no_grad(),
            warnings.catch_warnings(action="ignore"),  # of options this machine does not have
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
        return [
            bool(each) for each in features.isnan().movedim(self._axis + 2, 0).flatten(1).any(1)
        ]

    def confirm(self, window: _Window) -> bool:
        """Whether all trials are what such windows give, with some more at their very ends."""
        size, stride, offset = window
        # Those at the border see padding, and maybe nothing but that.
        inner = {
            at: (low, low + size)
            for at in range(len(self(0, self.length)))
            if (low := offset + at * stride) > 0 and low + size < self.length
        }
        if len(inner) < 3:
            return False
        half = self.length // 2
        for low, end in (inner[min(inner)], inner[max(inner)], (half, half)):
            for place in (low, low + 1):
                self(0, place)
            for place in (end - 1, end):
                self(place, self.length)
        return all(
            lost[at] == (low < stop and end > begin)
            for (begin, stop), lost in self._made.items()
            for at, (low, end) in inner.items()
        )
