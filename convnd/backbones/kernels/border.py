"""Convolution of a field that continues beyond its border.

Its outermost samples repeat there, or those of the other end if the field is periodic. Such a
convolution differs from one with zero padding only near the border. `replace_border` computes that
part of the result again from thin slabs of the field, and `add_border_gradient` adds the gradient
of the samples beyond the border. The field and its features are large, and are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn.pad import pad_nd, wrapped_crop

__all__ = ["Border", "add_border_gradient", "pad_argument", "replace_border"]


@dataclass(frozen=True)
class Border:
    """The samples beyond the border that a kernel reads.

    Args:
        margins: number of samples on both sides, by dimension of the tensor.
        circular: whether these are the samples at the other end, or else the outermost ones.
    """

    margins: Mapping[int, int]
    circular: bool = False

    def without(self, axis: int) -> Border:
        """Return the border along the other dimensions."""
        return replace(self, margins={n: m for n, m in self.margins.items() if n != axis})

    def after(self, axis: int) -> Border:
        """Return the border along later dimensions."""
        return replace(self, margins={n: m for n, m in self.margins.items() if n > axis})

    def source(self, position: int, extent: int) -> int:
        """Return the sample that stands at a position."""
        return position % extent if self.circular else min(max(position, 0), extent - 1)

    def repeats_everywhere(self, ndim: int) -> bool:
        """Whether the outermost samples repeat along all spatial axes of a tensor."""
        return not self.circular and len(self.margins) == ndim - 2

    def extend(self, x: Tensor) -> Tensor:
        """Extend a field beyond its border; the gradient is deterministic.

        >>> Border({2: 1}).extend(torch.tensor([[[1.0, 2.0, 3.0]]]))
        tensor([[[1., 1., 2., 3., 3.]]])
        """
        if not self.circular and x.device.type == "cpu":
            margins = [(self.margins.get(axis, 0),) * 2 for axis in range(2, x.ndim)]
            return pad_nd(x, margins, "replicate")
        for axis, margin in self.margins.items():  # on a GPU, that has no deterministic gradient
            extent = x.shape[axis]
            if not self.circular:
                low, high = x.narrow(axis, 0, 1), x.narrow(axis, extent - 1, 1)
                x = torch.cat([low] * margin + [x] + [high] * margin, axis)
            elif margin <= extent:
                low, high = x.narrow(axis, extent - margin, margin), x.narrow(axis, 0, margin)
                x = torch.cat([low, x, high], axis)
            else:  # a deep layer may have fewer positions than the kernel reaches
                crop = [slice(0, count) for count in x.shape[2:]]
                crop[axis - 2] = slice(-margin, extent + margin)
                x = wrapped_crop(x, crop)
        return x

    def fold(self, gradient: Tensor) -> Tensor:
        """Return the gradient of a field from that of the extended field.

        >>> Border({2: 1}).fold(torch.tensor([[[1.0, 1.0, 1.0, 1.0, 1.0]]]))
        tensor([[[2., 1., 2.]]])
        """
        for axis, margin in self.margins.items():
            extent = gradient.shape[axis] - 2 * margin
            inner = gradient.narrow(axis, margin, extent)
            for position in (*range(-margin, 0), *range(extent, extent + margin)):
                place = self.source(position, extent)
                part = gradient.narrow(axis, margin + position, 1)
                pads = pad_argument(part.ndim, {axis: (place, extent - 1 - place)})
                inner = inner + F.pad(part, pads)
            gradient = inner
        return gradient


def replace_border(
    y: Tensor, x: Tensor, border: Border, convolve: Callable[[Tensor], Tensor]
) -> None:
    """Make a convolution with zero padding that of a field that continues beyond its border.

    Args:
        y: ``(B, O, *S)``, the convolution of ``x`` with zero padding; its border is overwritten.
        x: ``(B, C, *S)``.
        border: half of the kernel along each axis along which the field continues.
        convolve: the convolution with zero padding.
    """
    for axis, margin in border.margins.items():
        extent = x.shape[axis]
        parts = [(0, margin), (extent - margin, margin)] if extent > 2 * margin else [(0, extent)]
        for start, count in parts:
            # The results next to zero padding are wrong, and are cut off.
            positions = range(start - margin, start + count + margin)
            rows = [border.source(position, extent) for position in positions]
            slab = x.index_select(axis, torch.tensor(rows, device=x.device))
            part = convolve(border.without(axis).extend(slab))
            for other, width in border.margins.items():
                part = part.narrow(other, width, count if other == axis else x.shape[other])
            y.narrow(axis, start, count).copy_(part)


def add_border_gradient(
    x_grad: Tensor,
    y_grad: Tensor,
    gate: Tensor | None,
    border: Border,
    adjoint: Callable[[Tensor], Tensor],
) -> None:
    """Add the gradient of the samples beyond the border to that of a zero-padded convolution.

    Args:
        x_grad: ``(B, C, *S)``, the adjoint of ``y_grad``; is changed.
        y_grad: ``(B, O, *S)``, the gradient of the result.
        gate: as ``y_grad``; where it is not above 0, ``y_grad`` counts as 0.
        border: as for `replace_border`.
        adjoint: the adjoint of the convolution with zero padding.
    """
    for axis, margin in border.margins.items():
        extent = y_grad.shape[axis]
        count = min(margin, extent)
        for is_low in (True, False):
            edge = y_grad.narrow(axis, 0 if is_low else extent - count, count)
            if gate is not None:
                edge = edge * (gate.narrow(axis, 0 if is_low else extent - count, count) > 0)
            pads = {other: (width, width) for other, width in border.margins.items()}
            pads[axis] = (margin, 0) if is_low else (0, margin)
            beyond = adjoint(F.pad(edge, pad_argument(edge.ndim, pads)))
            beyond = beyond.narrow(axis, 0 if is_low else count, margin)
            # Samples beyond the border along two axes belong to the first of them.
            for other, width in border.margins.items():
                if other < axis:
                    beyond = beyond.narrow(other, width, y_grad.shape[other])
            beyond = border.after(axis).fold(beyond)
            for row in range(margin):
                place = border.source(row - margin if is_low else extent + row, extent)
                x_grad.narrow(axis, place, 1).add_(beyond.narrow(axis, row, 1))


def pad_argument(ndim: int, pads: Mapping[int, tuple[int, int]]) -> list[int]:
    """Return the argument of `torch.nn.functional.pad`, which counts dimensions from the last.

    >>> pad_argument(3, {1: (5, 6)})
    [0, 0, 5, 6, 0, 0]
    """
    return [count for axis in reversed(range(ndim)) for count in pads.get(axis, (0, 0))]
