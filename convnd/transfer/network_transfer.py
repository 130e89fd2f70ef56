"""The transfer of one style by a trained network: one forward pass, in tiles if memory is short."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from convnd.errors import ResourceError, ShapeError, UsageError
from convnd.feedforward.transform_net import FieldStatistics, TransformNet
from convnd.optimize import ProcessGroup, tiled_sums
from convnd.optimize.evaluation.tiles import write_tiles
from convnd.shapes import Tiling
from convnd.stats import MomentStatistic
from convnd.transfer.memory import usable_bytes
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.resizing import Resizer

__all__ = ["NetworkTransfer", "apply_network"]

_OUTPUT = "output"

_MOST_BYTES = {1: 1 << 28, 2: 1 << 29}
"""Memory for one tile; without an entry 3 GiB, since tiles of more axes have larger halos."""


class NetworkTransfer(OnePassTransfer):
    """Transfers by a network that was trained for one style.

    The styles of a problem are not read.

    Args:
        network: the network.
        options: see `OnePassTransfer`.

    >>> from convnd.feedforward.transform_net import NetworkShape
    >>> network = TransformNet(NetworkShape.for_rank(1, 1))
    >>> wave = torch.linspace(0, 6, 64).view(1, 1, 64)
    >>> transfer = NetworkTransfer(network, TransferOptions(size=0))
    >>> [progress.step for progress in transfer.run(TransferProblem(wave, [wave]))]
    [0]
    """

    def __init__(self, network: TransformNet, options: TransferOptions) -> None:
        super().__init__(options)
        self._network = network.to(self.device)

    @property
    def network(self) -> TransformNet:
        """The network."""
        return self._network

    def stylize(
        self,
        problem: TransferProblem,
        content: Tensor,
        group: ProcessGroup,
        on_message: Callable[[str], None],
    ) -> Tensor:
        """See `OnePassTransfer.stylize`.

        Raises:
            UsageError: several processes share the work.
            ShapeError: the content has another number of axes or channels than the network.
            ResourceError: there is not enough memory.
        """
        if group.size > 1:
            raise UsageError(
                "trained network",
                expected="one process",
                got=group.size,
                remedy="start it without torchrun",
            )
        content = Resizer(content.device).resize(content, problem.size)
        if problem.initial is not None:
            content = problem.initial(content)
        tiling = self._tiling(content)
        if len(tiling) > 1:
            on_message(f"{len(tiling)} tiles")
        return apply_network(self.network, content, tiling, self.device)

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
        tiling: tiles of the content.
        device: computes; None is the content's.

    Returns:
        ``(B, C, *S)``, on the content's device.
    """
    device = content.device if device is None else device
    result = torch.empty_like(content)
    for number in range(content.shape[0]):  # fields one after the other, as memory is planned
        field, output = content[number : number + 1], result[number : number + 1]
        statistics = _tiled_statistics(field, tiling, network.basis.to(content.device))
        compute = partial(_apply_to_crop, network, device, statistics)
        write_tiles(compute, field, tiling, _OUTPUT, output)
    return result


def _apply_to_crop(
    network: TransformNet,
    device: torch.device,
    statistics: FieldStatistics,
    crop: Tensor,
    origin: Sequence[int],
) -> Tensor:
    moved = FieldStatistics(*(values.to(device) for values in statistics))
    # A copy, aligned as any tensor: on some CPUs sums depend on the alignment.
    output: Tensor = network(crop.to(device, copy=True), moved, origin)
    return output


def _tiled_statistics(field: Tensor, tiling: Tiling, basis: Tensor) -> FieldStatistics:
    """Mean and deviation of a field ``(1, C, *S)``, from sums over its tiles in float64."""
    statistic, matrix = MomentStatistic(), basis.double()

    def change_basis(crop: Tensor) -> dict[str, Tensor]:
        return {_OUTPUT: (matrix @ crop.flatten(2).double()).view(crop.shape)}

    sums = tiled_sums(change_basis, field, tiling, {_OUTPUT: statistic})[_OUTPUT]
    mean, variance = statistic.summary(sums).unbind(1)
    return FieldStatistics(mean.to(field), variance.clamp_min(0).sqrt().to(field))
