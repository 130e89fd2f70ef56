"""The transfer of one style by a trained network: one forward pass, tile by tile where needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.backbones import choose_device
from convnd.errors import ResourceError, ShapeError, UsageError
from convnd.feedforward.transform_net import FieldStatistics, TransformNet
from convnd.nn import resize_nd
from convnd.optimize import ProcessGroup
from convnd.shapes import Tiling
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.memory import usable_bytes
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress

__all__ = ["NetworkTransfer", "apply_network"]

_OUTPUT = "output"

_MOST_BYTES = {1: 1 << 28, 2: 1 << 29}
"""Memory for one tile; without an entry 3 GiB, since tiles of more axes have larger halos."""


class NetworkTransfer:
    """Applies a trained network to any number of contents.

    It has the interface of `convnd.transfer.style_transfer.StyleTransfer`. Styles of a problem are
    not read: the network has learnt its own.

    Args:
        network: the network.
        options: reads ``device``, ``deterministic``, ``tile`` and ``memory``.

    >>> from convnd.feedforward.transform_net import NetworkShape
    >>> network = TransformNet(NetworkShape.for_rank(1, 1))
    >>> wave = torch.linspace(0, 6, 64).view(1, 1, 64)
    >>> transfer = NetworkTransfer(network, TransferOptions(size=0))
    >>> [progress.step for progress in transfer.run(TransferProblem(wave, [wave]))]
    [0]
    """

    def __init__(self, network: TransformNet, options: TransferOptions) -> None:
        make_deterministic(options.deterministic)
        self.options = options
        self.device = choose_device(options.device)
        self.network = network.to(self.device)

    def run(
        self,
        problem: TransferProblem,
        *,
        resume: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """Apply the network to a content, and yield the only step.

        Args:
            problem: its content, starting point and size are read.
            resume: not needed: a state holds nothing.
            group: one process.
            on_message: is called with one line where the content is cut into tiles.

        Raises:
            UsageError: there is no content, or several processes share the work.
            ShapeError: the content has another number of axes or channels than the network.
            ResourceError: there is not enough memory.
        """
        del resume
        if problem.content is None or problem.init is not None:
            raise UsageError(
                "trained network",
                expected="a content to start from",
                got="none" if problem.content is None else "another starting point (--init)",
                remedy="give one" if problem.content is None else "leave it out",
            )
        if group is not None and group.size > 1:
            raise UsageError(
                "trained network",
                expected="one process",
                got=group.size,
                remedy="start it without torchrun",
            )
        content = problem.content
        if tuple(content.shape[2:]) != problem.size:
            content = resize_nd(content, problem.size, mode="linear", antialias=True)
        if problem.initial is not None:
            content = problem.initial(content)
        tiling = self._tiling(content)
        if len(tiling) > 1 and on_message is not None:
            on_message(f"{len(tiling)} tiles")
        values = apply_network(self.network, content, tiling, self.device)
        yield Progress.of_one_pass(values)

    def _tiling(self, content: Tensor) -> Tiling:
        """The tiles that fit in memory, or those that the options ask for."""
        size, shape, options = tuple(content.shape[2:]), self.network.shape, self.options
        if len(size) != shape.spatial_dims or content.shape[1] != shape.channels:
            raise ShapeError(
                "trained network",
                expected=f"{shape.spatial_dims} axes and {shape.channels} channels",
                got=f"{len(size)} axes and {content.shape[1]} channels",
                remedy="train one for such data",
            )
        fields = {_OUTPUT: shape.receptive_field}
        align = [shape.stride] * len(size)
        if options.tile == "off":
            return Tiling.cut(size, max(size) + shape.stride, fields, align=align)
        if options.tile != "auto":
            return Tiling.cut(size, int(options.tile), fields, align=align)
        # At full resolution a layer, its input and the sum from the encoder are in memory at once.
        channels = 8 * shape.width + 4 * shape.channels
        free = usable_bytes(options.memory, self.device, ProcessGroup())
        most = min(free, _MOST_BYTES.get(len(size), 3 << 30)) // (4 * channels)
        tiling = Tiling.choose(size, fields, lambda crop: math.prod(crop) <= most, align=align)
        if math.prod(tiling.largest_crop) > most:
            raise ResourceError(
                "trained network",
                expected=f"memory for a crop of {'x'.join(map(str, tiling.largest_crop))}",
                got=f"{free >> 20} MiB",
                remedy="use --memory with more, or free some",
            )
        return tiling


@torch.no_grad()
def apply_network(
    network: TransformNet, content: Tensor, tiling: Tiling, device: torch.device | None = None
) -> Tensor:
    """Apply a network tile by tile; the result is that of the whole field up to rounding.

    Args:
        network: the network, on ``device``.
        content: ``(B, C, *S)``, on any device.
        tiling: of the content, see `convnd.shapes.Tiling`.
        device: computes; None is the content's.

    Returns:
        ``(B, C, *S)``, on the content's device.
    """
    device = content.device if device is None else device
    result = torch.empty_like(content)
    for number in range(content.shape[0]):  # fields one after the other, as memory is planned
        field, output = content[number : number + 1], result[number : number + 1]
        statistics = _tiled_statistics(field, tiling, network.basis.to(content.device))
        statistics = FieldStatistics(*(values.to(device) for values in statistics))
        for tile in tiling:
            origin = [part.start for part in tile.crop]
            # A copy, aligned as any tensor: on some CPUs sums depend on the alignment.
            crop = field[_index(tile.crop)].to(device, copy=True)
            values = network(crop, statistics, origin)
            part = values[_index(tile.crop_windows[_OUTPUT])]
            output[_index(tile.windows[_OUTPUT])] = part.to(output)
    return result


def _tiled_statistics(field: Tensor, tiling: Tiling, basis: Tensor) -> FieldStatistics:
    """Mean and deviation of a field ``(1, C, *S)``, from sums over its tiles in float64."""
    count, channels = math.prod(field.shape[2:]), field.shape[1]
    first = field.new_zeros((1, channels), dtype=torch.float64)
    second = field.new_zeros((1, channels), dtype=torch.float64)
    matrix = basis.double()
    for tile in tiling:
        flat = matrix @ field[_index(tile.windows[_OUTPUT])].flatten(2).double()
        first += flat.sum(2)
        second += flat.square().sum(2)
    mean = first / count
    variance = (second / count - mean.square()).clamp_min(0)
    return FieldStatistics(mean.to(field), variance.sqrt().to(field))


def _index(window: Sequence[slice]) -> tuple[slice, ...]:
    """The index of a window in values ``(B, C, *S)``."""
    return (slice(None), slice(None), *window)
