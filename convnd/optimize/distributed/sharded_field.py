"""A field cut into slabs, one for each process, and the exchange of regions between processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convnd.losses import tile_index
from convnd.optimize.distributed.process_group import ProcessGroup

__all__ = ["Box", "ShardedField"]

Box = Sequence[tuple[int, int]]
"""A region of a field: start and stop along each axis."""

Index = tuple[slice, ...]


class ShardedField:
    """The distribution of a field over processes, as slabs along its longest axis.

    This object holds no values; each process keeps its slab as a tensor ``(B, C, *S)``.

    Args:
        size: extent of the field along each axis.
        group: the processes.

    Attributes:
        axis: the longest axis.
        boxes: the slab of each process, by rank.

    >>> ShardedField((4, 10), ProcessGroup()).boxes
    [[(0, 4), (0, 10)]]
    """

    def __init__(self, size: Sequence[int], group: ProcessGroup) -> None:
        self.size = tuple(size)
        self.group = group
        self.axis = max(range(len(self.size)), key=self.size.__getitem__)
        self.boxes = self.even_boxes(self.axis)

    @property
    def local_box(self) -> Box:
        """The slab of this process."""
        return self.boxes[self.group.rank]

    def even_boxes(self, axis: int) -> list[Box]:
        """Cut the field evenly along an axis, one box for each process; some may be empty."""
        count, extent = self.group.size, self.size[axis]
        bounds = [extent * rank // count for rank in range(count + 1)]
        return [self.slab(axis, start, stop) for start, stop in itertools.pairwise(bounds)]

    def slab(self, axis: int, start: int, stop: int) -> Box:
        """Return the box from start to stop along one axis, and everything along the others."""
        return [
            (start, stop) if other == axis else (0, extent)
            for other, extent in enumerate(self.size)
        ]

    def local_part(self, whole: Tensor) -> Tensor:
        """Copy this process's slab out of a whole field ``(B, C, *size)``."""
        return whole[_index(self.local_box)].clone(memory_format=torch.contiguous_format)

    def is_local_part(self, values: Tensor) -> bool:
        """Return whether a tensor has the shape of this process's slab."""
        return tuple(values.shape[2:]) == _extent(self.local_box)

    def gather_region(self, part: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Collect one region of the field for each process from the owners of its slabs.

        Args:
            part: this process's slab ``(B, C, *S)``.
            boxes: the region that each process asks for, by rank.

        Returns:
            The region of this process; ``part`` itself if every process asks for its own slab.
        """
        if boxes == self.boxes:
            return part
        region, overlaps = self._exchange(part, self.boxes, boxes, part.new_empty)
        for index, values in overlaps:
            region[index] = values
        return region

    def scatter_add(self, values: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Add regions up at the owners of the slabs: the transpose of `gather_region`.

        Args:
            values: this process's region.
            boxes: the region of each process, by rank.

        Returns:
            The sum of all regions inside this process's slab; ``values`` itself if every region is
            the process's own slab.
        """
        if boxes == self.boxes:
            return values
        total, overlaps = self._exchange(values, boxes, self.boxes, values.new_zeros)
        # In the order of ranks, so that rounding does not depend on which process was quicker.
        for index, part in overlaps:
            total[index] += part
        return total

    def _exchange(
        self,
        values: Tensor,
        sources: Sequence[Box],
        targets: Sequence[Box],
        allocate: Callable[[tuple[int, ...]], Tensor],
    ) -> tuple[Tensor, list[tuple[Index, Tensor]]]:
        """Send the values of one box, and receive those of another from all processes.

        Args:
            values: values ``(B, C, *S)`` of this process's source box.
            sources: the box of which each process has the values, by rank.
            targets: the box of which each process asks for the values, by rank.
            allocate: makes a tensor of some shape, like ``values``.

        Returns:
            A tensor for this process's target box, and in the order of ranks the parts of the box
            that a process has, each as an index into this tensor and values.
        """
        rank, lead = self.group.rank, values.shape[:2]
        source, target = sources[rank], targets[rank]
        incoming = [_intersection(box, target) for box in sources]

        def prepare() -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
            sends = {
                other: values[_index(overlap, source)].contiguous()
                for other, box in enumerate(targets)
                if other != rank and (overlap := _intersection(source, box)) is not None
            }
            receives = {
                other: values.new_empty((*lead, *_extent(overlap)))
                for other, overlap in enumerate(incoming)
                if other != rank and overlap is not None
            }
            return allocate((*lead, *_extent(target))), sends, receives

        result, sends, receives = self.group.run_together(prepare)
        self.group.exchange(sends, receives)
        overlaps = [
            (
                _index(overlap, target),
                values[_index(overlap, source)] if other == rank else receives[other],
            )
            for other, overlap in enumerate(incoming)
            if overlap is not None
        ]
        return result, overlaps

    def assemble(self, pieces: Sequence[tuple[Box, Callable[[Index], Tensor]]]) -> Tensor:
        """Build this process's slab out of any boxes that cover the field.

        Args:
            pieces: each a box, and a function that reads an index of its values.
        """
        sample = pieces[0][1](_index([(0, 0)] * len(self.size)))
        part = sample.new_empty((*sample.shape[:2], *_extent(self.local_box)))
        for box, read in pieces:
            overlap = _intersection(self.local_box, box)
            if overlap is not None:
                part[_index(overlap, self.local_box)] = read(_index(overlap, box))
        return part

    def is_tiled_by(self, boxes: Sequence[Box]) -> bool:
        """Return whether boxes cover every position of the field once."""
        inside = all(
            len(box) == len(self.size)
            and all(
                0 <= start <= stop <= extent
                for (start, stop), extent in zip(box, self.size, strict=True)
            )
            for box in boxes
        )
        return (
            inside
            and sum(math.prod(_extent(box)) for box in boxes) == math.prod(self.size)
            and all(_intersection(a, b) is None for a, b in itertools.combinations(boxes, 2))
        )

    def gather(self, part: Tensor) -> Tensor:
        """Return the whole field in every process."""
        return self.gather_region(part, [self._whole()] * self.group.size)

    def gather_to_root(self, part: Tensor) -> Tensor | None:
        """Return the whole field in rank 0, and None in the others."""
        empty = self.slab(self.axis, 0, 0)
        whole = self.gather_region(part, [self._whole(), *[empty] * (self.group.size - 1)])
        return whole if self.group.rank == 0 else None

    def _whole(self) -> Box:
        return self.slab(self.axis, 0, self.size[self.axis])


def _extent(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


def _intersection(a: Box, b: Box) -> Box | None:
    """Return the region that two boxes share; None if they share none."""
    box = [
        (max(a_start, b_start), min(a_stop, b_stop))
        for (a_start, a_stop), (b_start, b_stop) in zip(a, b, strict=True)
    ]
    return box if math.prod(max(0, stop - start) for start, stop in box) else None


def _index(box: Box, container: Box | None = None) -> Index:
    """Return the index of a box in a tensor that holds the values of a container box."""
    origin = [0] * len(box) if container is None else [start for start, _ in container]
    return tile_index(
        [
            slice(start - first, stop - first)
            for (start, stop), first in zip(box, origin, strict=True)
        ]
    )
