"""Evaluation by several processes, each of which computes its share of the tiles.

The field lies in slabs, see `convnd.optimize.distributed.sharded_field`. An evaluation gathers the
region that a process's tiles read, adds the tiles' sums up over all processes, and adds the
gradient of the region up at the owners of the slabs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective, Window
from convnd.optimize.distributed.process_group import ProcessGroup
from convnd.optimize.distributed.sharded_field import Box, ShardedField
from convnd.optimize.evaluation.parts import evaluate_sequentially, independent_parts
from convnd.optimize.evaluation.split import CutFeatures, SplitObjective
from convnd.optimize.evaluation.targets import RecomputedContent, tiled_sums
from convnd.optimize.evaluation.tiler import Tiler
from convnd.optimize.evaluation.tiles import CropFeatures
from convnd.optimize.evaluation.two_pass import (
    FirstPass,
    backward_pass,
    forward_pass,
    grad_wrt_sums,
)
from convnd.optimize.evaluation.whole import Evaluation, make_evaluation
from convnd.shapes import Tile, Tiling
from convnd.stats import Statistic, Sums

__all__ = ["ShardedContent", "ShardedEvaluation", "all_reduce_sums", "sharded_sums"]


class ShardedEvaluation:
    """An `Evaluator` of one process's slab of a field, together with the other processes.

    The loss is that of the whole field, the same in all processes; the gradient is that of the
    slab. If memory runs out in one process, all start again with smaller tiles.

    Args:
        tiler: chooses the tiles, at least one for each process as far as strides allow.
        shards: distribution of the field over the processes.
    """

    def __init__(self, tiler: Tiler, shards: ShardedField) -> None:
        self.tiler = tiler
        self.shards = shards

    def __call__(self, objective: Objective, x: Tensor) -> Evaluation:
        """Compute the loss, and the gradient of this process's slab.

        Args:
            objective: the objective.
            x: the slab ``(B, C, *S)``.

        Raises:
            UsageError: a term is not additive, or the network cannot be run on tiles, see `Tiler`.
            ResourceError: there is too little memory, or a process is lost.
        """
        if len(parts := independent_parts(objective)) > 1:
            return evaluate_sequentially(self, parts, x)
        split = self._split(objective)
        if split is None:
            return self._run(lambda tiling: self._evaluate(objective, x, tiling), objective)
        return self._run(lambda tiling: self._evaluate_split(split, x, tiling), split.front)

    def _run(self, work: Callable[[Tiling], Evaluation], objective: Objective) -> Evaluation:
        return self.tiler.run_with_retries(
            work,
            objective.backbone,
            (*objective.layers, INPUT),
            self.shards.size,
            objective.overlaps,
        )

    def _split(self, objective: Objective) -> SplitObjective | None:
        """Split the objective, if every process has a tile of the front part."""
        shards = self.shards
        if self.tiler.deep_tiler is None:
            return None
        split = SplitObjective.split(objective, shards.size)
        if split is None:
            return None
        front = split.front
        layers = (*front.layers, INPUT)
        tiling = self.tiler.make_tiling(front.backbone, layers, shards.size, front.overlaps)
        count = tiling.axes[_shared_axis(tiling)].count
        return split if count >= shards.group.size else None

    def _evaluate(self, objective: Objective, x: Tensor, tiling: Tiling) -> Evaluation:
        group = self.shards.group
        region = _Region.gather(x, tiling, self.shards)
        spare_bytes = self.tiler.spare_bytes(tiling, objective.layers)
        first = group.run_together(
            lambda: forward_pass(objective, region.values, region.tiles, spare_bytes=spare_bytes)
        )
        totals, gradient = self._backward(objective, region, first)
        with torch.no_grad():
            loss, shares = objective.value(totals)
            # All processes must decide alike, whatever the last digit.
            loss, *part_values = group.broadcast(torch.stack([loss, *shares]))
        return make_evaluation(objective, loss, torch.stack(part_values), gradient, x)

    def _evaluate_split(self, split: SplitObjective, x: Tensor, tiling: Tiling) -> Evaluation:
        """Evaluate the front forwards, the deep part, and the front backwards."""
        group, front = self.shards.group, split.front
        region = _Region.gather(x, tiling, self.shards)
        spare_bytes = self.tiler.spare_bytes(tiling, front.layers)
        cut = CutFeatures(split.layer, _cut_origin(split.layer, tiling, group))
        first = group.run_together(
            lambda: forward_pass(
                front, region.values, region.tiles, cut.insert, spare_bytes=spare_bytes
            )
        )
        deep = self._evaluate_deep(split.deep, cut, tiling)
        with split.deep_gradient(deep.gradient, cut.origin):
            totals, gradient = self._backward(front, region, first)
        return split.combine(totals, gradient, deep, x, broadcast=group.broadcast)

    def _evaluate_deep(self, deep: Objective, cut: CutFeatures, tiling: Tiling) -> Evaluation:
        """Evaluate the deep part at the features that all processes have at the cut."""
        assert self.tiler.deep_tiler is not None
        assert cut.origin is not None
        features = cut.take()
        group, axis = self.shards.group, _shared_axis(tiling)
        starts = [_first_window(cut.layer, tiling, rank, group)[axis].start for rank in group.ranks]
        # The process with the last tile knows where the layer ends.
        stops = [start + n for start, n in zip(cut.origin, features.shape[2:], strict=True)]
        field = ShardedField([group.all_reduce_max(stop) for stop in stops], group)
        bounds = itertools.pairwise([*starts, field.size[axis]])
        boxes = [field.slab(axis, start, stop) for start, stop in bounds]
        slab = field.scatter_add(features, boxes)  # the boxes do not overlap: nothing is added
        del features
        evaluation = ShardedEvaluation(self.tiler.deep_tiler, field)(deep, slab)
        gradient = field.gather_region(evaluation.gradient, boxes)
        return dataclasses.replace(evaluation, gradient=gradient)

    def _backward(
        self, objective: Objective, region: _Region, first: FirstPass
    ) -> tuple[list[Sums], Tensor]:
        """Return the sums of the terms over all processes, and the gradient of the slab."""
        group, count, device = self.shards.group, len(objective.terms), region.values.device
        sum_grads = grad_wrt_sums(objective, all_reduce_sums(group, first.totals, device, count))
        gradient, sums = group.run_together(
            lambda: backward_pass(objective, region.values, region.tiles, first, sum_grads)
        )
        totals = all_reduce_sums(group, sums, device, count)
        return totals, region.scatter_add(gradient, self.shards)


@dataclass(frozen=True)
class _Region:
    """The part of the field that this process's tiles read.

    Attributes:
        axis: the axis along which regions differ.
        periods: the regions of all processes, by rank, in each period of a periodic field; one for
            other fields.
        tiles: this process's tiles, the last one first; their crops refer to `values`.
        values: ``(B, C, *S)``.
    """

    axis: int
    periods: Sequence[Sequence[Box]]
    tiles: Sequence[Tile]
    values: Tensor

    @classmethod
    def gather(cls, x: Tensor, tiling: Tiling, shards: ShardedField) -> _Region:
        """Gather the region from the owners of the slabs."""
        group, axis = shards.group, _shared_axis(tiling)
        bounds = [tiling.crop_bounds(axis, _share(tiling, rank, group)) for rank in group.ranks]
        extent = shards.size[axis]
        # Of crops that lie outside of one period, each period's part is exchanged by itself.
        first = min(start // extent for start, _ in bounds)
        last = max(-(-stop // extent) for _, stop in bounds)
        periods = []
        for origin in range(first * extent, max(last, first + 1) * extent, extent):
            inside = [
                (min(extent, max(0, start - origin)), min(extent, stop - origin))
                for start, stop in bounds
            ]
            periods.append([shards.slab(axis, low, max(low, high)) for low, high in inside])
        parts = [shards.gather_region(x, boxes) for boxes in periods]
        values = parts[0] if len(parts) == 1 else torch.cat(parts, 2 + axis)
        start, _ = bounds[group.rank]
        tiles = [_relative_to(tile, axis, start) for tile in _local_tiles(tiling, group)]
        return cls(axis, periods, tiles[::-1], values)

    def scatter_add(self, gradient: Tensor, shards: ShardedField) -> Tensor:
        """Add the gradients of the regions up at the owners of the slabs."""
        lengths = [
            stop - start
            for start, stop in (boxes[shards.group.rank][self.axis] for boxes in self.periods)
        ]
        parts = gradient.split(lengths, 2 + self.axis)
        total, *others = [
            shards.scatter_add(part, boxes) for part, boxes in zip(parts, self.periods, strict=True)
        ]
        for other in others:
            total += other
        return total


class ShardedContent(RecomputedContent):
    """Features of the content in the windows that this process's tiles ask for.

    Args:
        features: computes the features of a crop, see `CropFeatures`.
        content: ``(B, C, *S)``, whole.
        tiling: tiles of the content for the layer.
        layer: name of the layer.
        shards: distribution of a field of the content's size over the processes.
        tiler: the tiler of the evaluations. When memory runs out its tiles change; features kept in
            the windows of earlier tiles are then dropped, and recomputed for every tile.
        keep: whether features are kept at all.
    """

    def __init__(
        self,
        features: CropFeatures,
        content: Tensor,
        tiling: Tiling,
        layer: str,
        *,
        shards: ShardedField,
        tiler: Tiler,
        keep: bool,
    ) -> None:
        group = shards.group
        group.run_together(
            lambda: super(ShardedContent, self).__init__(
                features, content, tiling, layer, tiles=_local_tiles(tiling, group)
            )
        )
        self.energy = float(group.all_reduce(torch.tensor(self.energy, dtype=torch.float64)))
        self.channels = int(group.broadcast(torch.tensor(self.channels)))
        self._tiler = tiler
        self._shrunk = tiler.shrunk
        self._keep = keep
        self._cache: dict[tuple[tuple[int, int | None], ...], Tensor] = {}

    def features(self, window: Window | None) -> Tensor:
        """Return the features in a window of the layer; None is the whole layer."""
        if self._shrunk != self._tiler.shrunk:
            self._cache.clear()
            self._keep = False
        if not self._keep or window is None:
            return super().features(window)
        key = tuple((part.start, part.stop) for part in window)
        if key not in self._cache:
            self._cache[key] = super().features(window).cpu()
        return self._cache[key]


def sharded_sums(
    features: CropFeatures,
    x: Tensor,
    tiling: Tiling,
    statistics: Mapping[str, Statistic],
    group: ProcessGroup,
) -> dict[str, Sums]:
    """Compute `tiled_sums` of a field that every process holds, each for its share of the tiles."""
    tiles = _local_tiles(tiling, group)
    sums = group.run_together(
        lambda: tiled_sums(features, x, tiling, statistics, tiles=tiles) if tiles else {}
    )
    totals = all_reduce_sums(group, [*sums.values()], x.device, len(statistics))
    return dict(zip(statistics, totals, strict=True))


_MAX_AXES = 8  # of a statistic's total


def all_reduce_sums(
    group: ProcessGroup, sums: Sequence[Sums], device: torch.device, count: int
) -> list[Sums]:
    """Add sums up over processes.

    Args:
        group: the processes, of which rank 0 has sums.
        sums: sums of this process; empty counts as zeros.
        device: device of the sums.
        count: number of sums of a process that has some.
    """
    # A process without sums does not know their shapes.
    shapes = torch.full((count, _MAX_AXES), -1, dtype=torch.int64, device=device)
    for row, term in zip(shapes, sums, strict=False):
        row[: term.total.ndim] = torch.tensor(term.total.shape)
    extents = [[n for n in row if n >= 0] for row in group.broadcast(shapes).tolist()]
    if sums:
        counts = torch.tensor([float(term.count) for term in sums], dtype=torch.float64)
        parts = [term.total.reshape(-1).double() for term in sums]
        flat = torch.cat([*parts, counts.to(device)])
    else:
        length = sum(map(math.prod, extents)) + count
        flat = torch.zeros(length, dtype=torch.float64, device=device)
    flat = group.all_reduce(flat)
    totals = torch.split(flat[:-count], [math.prod(extent) for extent in extents])
    return [
        # The count may be a fraction: an overlap may count positions in part.
        Sums(total.reshape(extent), int(number) if number.is_integer() else number)
        for total, extent, number in zip(totals, extents, flat[-count:].tolist(), strict=True)
    ]


def _shared_axis(tiling: Tiling) -> int:
    """Return the axis along which tiles are shared out: the one with most tiles."""
    return max(range(len(tiling.axes)), key=lambda axis: tiling.axes[axis].count)


def _share(tiling: Tiling, rank: int, group: ProcessGroup) -> range:
    """Return the tiles of one process, as indices along the shared axis."""
    return tiling.share(_shared_axis(tiling), rank, group.size)


def _local_tiles(tiling: Tiling, group: ProcessGroup) -> list[Tile]:
    return list(tiling.tiles(_shared_axis(tiling), _share(tiling, group.rank, group)))


def _first_window(layer: str, tiling: Tiling, rank: int, group: ProcessGroup) -> Window:
    """Return the window of the first tile of one process in a layer."""
    return next(tiling.tiles(_shared_axis(tiling), _share(tiling, rank, group))).windows[layer]


def _cut_origin(layer: str, tiling: Tiling, group: ProcessGroup) -> list[int]:
    """Return the position in the layer where this process's tiles begin."""
    shared = _shared_axis(tiling)
    start = _first_window(layer, tiling, group.rank, group)[shared].start
    return [start if axis == shared else 0 for axis in range(len(tiling.size))]


def _relative_to(tile: Tile, axis: int, start: int) -> Tile:
    """Return the tile with a crop that refers to a region that begins at a position of an axis."""
    crop = list(tile.crop)
    crop[axis] = slice(crop[axis].start - start, crop[axis].stop - start)
    return dataclasses.replace(tile, crop=tuple(crop))
