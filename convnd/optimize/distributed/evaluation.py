"""Evaluation by several processes: each works on its share of the tiles.

An iterate lies in slabs, see `convnd.optimize.distributed.sharded_field`. An evaluation
gathers the regions that the tiles read, adds up their sums over all processes, and sends the
gradient back to the owners of the slabs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective, Window
from convnd.optimize.distributed.process_group import ProcessGroup
from convnd.optimize.distributed.sharded_field import Box, ShardedField
from convnd.optimize.evaluation.split import (
    SplitObjective,
    evaluate_sequentially,
    independent_parts,
)
from convnd.optimize.evaluation.targets import RecomputedContent, tiled_sums
from convnd.optimize.evaluation.tiler import Tiler
from convnd.optimize.evaluation.two_pass import (
    ForwardResult,
    backward_pass,
    forward_pass,
    grad_wrt_sums,
)
from convnd.optimize.evaluation.whole import Evaluation, evaluation
from convnd.shapes import Tile, Tiling
from convnd.stats import Statistic, Sums

__all__ = ["ShardedContent", "ShardedEvaluation", "all_reduce_sums", "sharded_sums"]

Features = Callable[[Tensor], Mapping[str, Tensor]]


class ShardedEvaluation:
    """An `Evaluator` of this process's slab of an iterate, together with the other processes.

    Its loss is that of the whole iterate, the same for all; its gradient that of the slab. When
    memory runs out in one process, all start again with smaller tiles.

    Args:
        tiler: says which tiles, at least one for each process where strides allow.
        shards: who owns what of the iterate.
    """

    def __init__(self, tiler: Tiler, shards: ShardedField) -> None:
        self.tiler = tiler
        self.shards = shards

    def __call__(self, objective: Objective, x: Tensor) -> Evaluation:
        """Loss, and gradient of the slab ``x`` ``(B, C, *S)``.

        Raises:
            UsageError: a term is not additive, or see `Tiler`.
            ResourceError: there is too little memory, or a process is lost.
        """
        if len(several := independent_parts(objective)) > 1:
            return evaluate_sequentially(self, several, x)
        halves = self._halves(objective)
        front = objective if halves is None else halves.front
        return self.tiler.run_with_retries(
            lambda tiling: self._evaluate(front, x, tiling, halves),
            front.backbone,
            (*front.layers, INPUT),
            self.shards.size,
            front.overlaps,
        )

    def _halves(self, objective: Objective) -> SplitObjective | None:
        """The two parts, where every process has a tile of the first."""
        shards = self.shards
        halves = (
            None if self.tiler.deep_tiler is None else SplitObjective.of(objective, shards.size)
        )
        if halves is None:
            return None
        front = halves.front
        layers = (*front.layers, INPUT)
        tiling = self.tiler.make_tiling(front.backbone, layers, shards.size, front.overlaps)
        axis = _axis(tiling)
        return halves if tiling.axes[axis].count >= shards.group.size else None

    def _evaluate(
        self, objective: Objective, x: Tensor, tiling: Tiling, halves: SplitObjective | None
    ) -> Evaluation:
        shards, group = self.shards, self.shards.group
        boxes = _boxes(tiling, shards)
        tiles = _moved(_tiles(tiling, group), boxes[group.rank])[::-1]
        seen = shards.gather_region(x, boxes)
        room = self.tiler.spare_bytes(tiling, objective.layers)
        see, joint = None, None
        if halves is not None:
            joint = _Joint(halves.layer, tiling, group, self.tiler.deep_tiler)
            halves.begin(joint.origin)
            see = halves.see
        before = group.run_together(
            lambda: (
                forward_pass(objective, seen, tiles, see, room=room) if tiles else ForwardResult([])
            )
        )
        deep = None if halves is None or joint is None else halves.turn(joint)
        totals = all_reduce_sums(group, before.totals, x.device, len(objective.terms))
        sum_grads = grad_wrt_sums(objective, totals)
        gradient, found = group.run_together(
            lambda: (
                backward_pass(objective, seen, tiles, before, sum_grads)
                if tiles
                else (torch.zeros_like(seen), [])
            )
        )
        totals = all_reduce_sums(group, found, x.device, len(objective.terms))
        part = shards.scatter_add(gradient, boxes)
        if halves is not None and deep is not None:
            return halves.evaluation(totals, part, deep, x, agreed=group.broadcast)
        with torch.no_grad():
            loss, shares = objective.value(totals)
            # Everybody's decisions are the same ones, whatever the last digit.
            loss, *rest = group.broadcast(torch.stack([loss, *shares]))
        return evaluation(objective, loss, torch.stack(rest), part, x)


class _Joint:
    """An `Evaluator` of the features at a cut, of which each process has what its tiles see.

    Args:
        layer: at the cut.
        tiling: of the part before it.
        group: the processes.
        deep: cuts the part behind it.
    """

    def __init__(self, layer: str, tiling: Tiling, group: ProcessGroup, deep: Tiler | None) -> None:
        assert deep is not None
        self._group, self._deep = group, deep
        self._axis = _axis(tiling)
        # Where the tiles of each process begin; the last one's end is known when it was seen.
        firsts = [
            next(tiling.tiles(self._axis, _share(tiling, number, group))).windows[layer]
            for number in range(group.size)
        ]
        self._starts = [window[self._axis].start for window in firsts]
        self.origin = [
            self._starts[group.rank] if axis == self._axis else 0
            for axis in range(len(tiling.size))
        ]

    def __call__(self, objective: Objective, h: Tensor) -> Evaluation:
        """Loss, and gradient of what this process has of ``h`` ``(B, C, *S)``."""
        group = self._group
        ends = [first + extent for first, extent in zip(self.origin, h.shape[2:], strict=True)]
        size = [group.all_reduce_max(end) for end in ends]
        shards = ShardedField(size, group)
        bounds = itertools.pairwise([*self._starts, size[self._axis]])
        boxes = [shards.slab(self._axis, start, stop) for start, stop in bounds]
        part = shards.scatter_add(h, boxes)  # they do not overlap
        found = ShardedEvaluation(self._deep, shards)(objective, part)
        return dataclasses.replace(found, gradient=shards.gather_region(found.gradient, boxes))


class ShardedContent(RecomputedContent):
    """Features of the content in the windows that this process asks for.

    Args:
        features: of a crop, by layer.
        content: ``(B, C, *S)``, whole.
        tiling: of it.
        layer: the layer.
        shards: of the content's size.
        tiler: that tiles of evaluations come from: features kept in its windows are forgotten
            when they change because memory ran out, and then made again for every tile.
        keep: whether features are kept at all.
    """

    def __init__(
        self,
        features: Features,
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
                features, content, tiling, layer, tiles=_tiles(tiling, group)
            )
        )
        self.energy = float(group.all_reduce(torch.tensor(self.energy, dtype=torch.float64)))
        self.channels = int(group.broadcast(torch.tensor(self.channels)))
        self._tiler = tiler
        self._shrunk = tiler.shrunk
        self._keep = keep
        self._kept: dict[tuple[tuple[int, int | None], ...], Tensor] = {}

    def at(self, window: Window | None) -> Tensor:
        """Features in a window of the layer; None is all of it."""
        if self._shrunk != self._tiler.shrunk:
            self._kept.clear()
            self._keep = False
        if not self._keep or window is None:
            return super().at(window)
        key = tuple((part.start, part.stop) for part in window)
        if key not in self._kept:
            self._kept[key] = super().at(window).cpu()
        return self._kept[key]


def sharded_sums(
    features: Features,
    x: Tensor,
    tiling: Tiling,
    statistics: Mapping[str, Statistic],
    group: ProcessGroup,
) -> dict[str, Sums]:
    """`tiled_sums` of a whole field that every process has, each doing its share of the tiles."""
    tiles = _tiles(tiling, group)
    found = group.run_together(
        lambda: tiled_sums(features, x, tiling, statistics, tiles=tiles) if tiles else {}
    )
    totals = all_reduce_sums(group, [*found.values()], x.device, len(statistics))
    return dict(zip(statistics, totals, strict=True))


_AXES = 8  # of a statistic's total, at most


def all_reduce_sums(
    group: ProcessGroup, sums: Sequence[Sums], device: torch.device, count: int
) -> list[Sums]:
    """Sums added up over processes.

    Args:
        group: the processes; 0 has sums.
        sums: of this one; nothing is zeros.
        device: where they are.
        count: how many there are.
    """
    # Who has none does not know their shapes either.
    shapes = torch.full((count, _AXES), -1, dtype=torch.int64, device=device)
    for row, each in zip(shapes, sums, strict=False):
        row[: each.total.ndim] = torch.tensor(each.total.shape)
    extents = [[n for n in row if n >= 0] for row in group.broadcast(shapes).tolist()]
    if sums:
        counts = torch.tensor([float(each.count) for each in sums], dtype=torch.float64)
        parts = [each.total.reshape(-1).double() for each in sums]
        flat = torch.cat([*parts, counts.to(device)])
    else:
        length = sum(map(math.prod, extents)) + count
        flat = torch.zeros(length, dtype=torch.float64, device=device)
    flat = group.all_reduce(flat)
    totals = torch.split(flat[:-count], [math.prod(extent) for extent in extents])
    return [
        # Positions may count in part.
        Sums(total.reshape(extent), int(number) if number.is_integer() else number)
        for total, extent, number in zip(totals, extents, flat[-count:].tolist(), strict=True)
    ]


def _axis(tiling: Tiling) -> int:
    """The axis along which tiles are shared out: that of the most of them."""
    return max(range(len(tiling.axes)), key=lambda axis: tiling.axes[axis].count)


def _share(tiling: Tiling, number: int, group: ProcessGroup) -> range:
    return tiling.share(_axis(tiling), number, group.size)


def _tiles(tiling: Tiling, group: ProcessGroup) -> list[Tile]:
    """The tiles of this process."""
    return list(tiling.tiles(_axis(tiling), _share(tiling, group.rank, group)))


def _boxes(tiling: Tiling, shards: ShardedField) -> list[Box]:
    """What the tiles of each process see."""
    axis = _axis(tiling)
    shares = [_share(tiling, number, shards.group) for number in range(shards.group.size)]
    return [shards.slab(axis, *tiling.crop_bounds(axis, share)) for share in shares]


def _moved(tiles: Sequence[Tile], origin: Box) -> list[Tile]:
    """The tiles with crops that count from where a box begins."""
    return [
        dataclasses.replace(
            tile,
            crop=tuple(
                slice(part.start - start, part.stop - start)
                for part, (start, _) in zip(tile.crop, origin, strict=True)
            ),
        )
        for tile in tiles
    ]
