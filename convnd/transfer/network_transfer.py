"""The transfer of one style by a trained network: one forward pass, in tiles if memory is short."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from convnd.errors import ResourceError, ShapeError, UsageError
from convnd.feedforward.inference import freeze_convolutions
from convnd.feedforward.network_shape import OUTPUT
from convnd.feedforward.transform_net import FieldStatistics, TransformNet
from convnd.losses import tile_index
from convnd.optimize import ProcessGroup
from convnd.optimize.evaluation.tiles import OnTile, TileCounter, write_tiles
from convnd.optimize.evaluation.two_pass import add_sums
from convnd.shapes import Tiling
from convnd.stats import MomentStatistic, Sums
from convnd.transfer.memory import usable_bytes
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.resizing import Resizer

__all__ = ["NetworkTransfer", "apply_network"]

_MOST_BYTES = {1: 1 << 30, 2: 1 << 30}
"""Memory for one tile; without an entry 3 GiB, since tiles of more axes have larger halos."""


class NetworkTransfer(OnePassTransfer):
    """Transfers by a network that was trained for one style.

    The styles of a problem are not read.

    Args:
        network: the network.
        options: see `OnePassTransfer`.

    >>> from convnd.feedforward.network_shape import NetworkShape
    >>> network = TransformNet(NetworkShape.for_rank(1, 1))
    >>> wave = torch.linspace(0, 6, 64).view(1, 1, 64)
    >>> transfer = NetworkTransfer(network, TransferOptions(size=0))
    >>> [progress.step for progress in transfer.run(TransferProblem(wave, [wave]))]
    [0]
    """

    reads_styles = False

    def __init__(self, network: TransformNet, options: TransferOptions) -> None:
        super().__init__(options)
        self._network = freeze_convolutions(network.to(self.device))

    @property
    def network(self) -> TransformNet:
        """The network."""
        return self._network

    def for_frames(
        self, styles: Sequence[Tensor], frames: Sequence[Tensor], masks: Sequence[Tensor] = ()
    ) -> NetworkTransfer:
        """Return this transfer: its network treats all fields alike."""
        del styles, frames, masks
        return self

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
        tiling = self._tiling(problem.size, content.shape[1])
        if len(tiling) > 1:
            on_message(f"{len(tiling)} tiles")
        return apply_network(self.network, content, tiling, self.device, self.on_tile)

    def check_memory(
        self, problem: TransferProblem, group: ProcessGroup, on_message: Callable[[str], None]
    ) -> None:
        """See `OnePassTransfer.check_memory`."""
        del group
        tiling = self._tiling(problem.size, problem.styles[0].shape[1])
        if len(tiling) > 1:
            on_message(f"{len(tiling)} tiles")

    def _tiling(self, size: tuple[int, ...], channels: int) -> Tiling:
        """The tiles that fit in memory, or those that the options ask for."""
        shape, options = self.network.shape, self.options
        if len(size) != shape.spatial_dims or channels != shape.channels:
            raise ShapeError(
                "trained network",
                expected=f"{shape.spatial_dims} axes and {shape.channels} channels",
                got=f"{len(size)} axes and {channels} channels",
                remedy="train one for such data",
            )
        fields = shape.receptive_fields
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
    network: TransformNet,
    content: Tensor,
    tiling: Tiling,
    device: torch.device | None = None,
    on_tile: OnTile | None = None,
) -> Tensor:
    """Apply a network tile by tile; the result is that of the whole field up to rounding.

    Several tiles take one pass for the statistics of each normalisation, and one for the result.

    Args:
        network: the network, on ``device``.
        content: ``(B, C, *S)``, on any device.
        tiling: tiles of the content, for the layers of `NetworkShape.receptive_fields`.
        device: computes; None is the content's.
        on_tile: is called after each tile of each pass, if there are several.

    Returns:
        ``(B, C, *S)``, on the content's device.
    """
    device = content.device if device is None else device
    result = torch.empty_like(content)
    passes = content.shape[0] * (1 + len(network.shape.normalized_layers))
    counter = TileCounter(passes * len(tiling), on_tile if len(tiling) > 1 else None)
    for number in range(content.shape[0]):  # fields one after the other, as memory is planned
        field, output = content[number : number + 1], result[number : number + 1]
        statistics: dict[str, FieldStatistics] = {}
        if len(tiling) > 1:
            statistics = _tiled_statistics(network, device, field, tiling, counter)

        def compute(
            crop: Tensor,
            origin: Sequence[int],
            statistics: Mapping[str, FieldStatistics] = statistics,
        ) -> Tensor:
            # A copy, aligned as any tensor: on some CPUs sums depend on the alignment.
            styled: Tensor = network(crop.to(device, copy=True), statistics, origin)
            return styled

        write_tiles(compute, field, counter.over(tiling), OUTPUT, output)
    return result


def _tiled_statistics(
    network: TransformNet,
    device: torch.device,
    field: Tensor,
    tiling: Tiling,
    counter: TileCounter,
) -> dict[str, FieldStatistics]:
    """Compute the statistics of each normalisation from sums over the tiles in float64.

    Args:
        network: the network, on ``device``.
        device: computes.
        field: ``(1, C, *S)``.
        tiling: tiles of the field, for the layers of `NetworkShape.receptive_fields`.
        counter: counts the tiles.
    """
    statistic, statistics = MomentStatistic(), dict[str, FieldStatistics]()
    for name in network.shape.normalized_layers:
        total: list[Sums] = []
        for tile in counter.over(tiling):
            crop = field[tile_index(tile.crop)].to(device, copy=True)
            origin = [part.start for part in tile.crop]
            features = network.features(crop, name, statistics, origin)
            window = features[tile_index(tile.crop_windows[name])]
            total = add_sums(total, [statistic.sums(window.double())])
        mean, variance = statistic.summary(total[0]).unbind(1)
        deviation = variance.clamp_min(0).sqrt()
        statistics[name] = FieldStatistics(mean.to(field.dtype), deviation.to(field.dtype))
    return statistics
