"""A field cut into slabs, one for each process, and how parts of it travel between them."""

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
"""First position and the one behind the last, along each axis."""


Index = tuple[slice, ...]


class ShardedField:
    """The slabs of a grid along its longest axis.

    Args:
        size: extent of the grid along each axis.
        group: its processes.

    >>> ShardedField((4, 10), ProcessGroup()).boxes
    [[(0, 4), (0, 10)]]
    """

    def __init__(self, size: Sequence[int], group: ProcessGroup) -> None:
        self.size = tuple(size)
        self.group = group
        self.axis = max(range(len(self.size)), key=self.size.__getitem__)
        self.boxes = self.even_boxes(self.axis)

    def even_boxes(self, axis: int) -> list[Box]:
        """The grid cut evenly along an axis, a box for each process; some may be empty."""
        count, extent = self.group.size, self.size[axis]
        bounds = [extent * number // count for number in range(count + 1)]
        return [self.slab(axis, start, stop) for start, stop in itertools.pairwise(bounds)]

    def slab(self, axis: int, start: int, stop: int) -> Box:
        """A range along one axis, and all of the others."""
        return [
            (start, stop) if each == axis else (0, extent) for each, extent in enumerate(self.size)
        ]

    def local_part(self, whole: Tensor) -> Tensor:
        """What this process owns of a field ``(B, C, *size)``, as a tensor of its own."""
        own = self.boxes[self.group.rank]
        return whole[_place(own)].clone(memory_format=torch.contiguous_format)

    def is_local_part(self, values: Tensor) -> bool:
        """Whether a tensor has the shape of what this process owns."""
        return tuple(values.shape[2:]) == _extent(self.boxes[self.group.rank])

    def gather_region(self, part: Tensor, boxes: Sequence[Box]) -> Tensor:
        """A box of the field, whoever owns it.

        Args:
            part: what this process owns, ``(B, C, *S)``.
            boxes: what each process asks for.

        Returns:
            The box of this one; ``part`` itself where everybody asks for what it owns.
        """
        if boxes == self.boxes:
            return part
        rank = self.group.rank
        wanted = boxes[rank]

        def prepared() -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
            found = part.new_empty((*part.shape[:2], *_extent(wanted)))
            sends, receives = {}, {}
            for other, (owned, asked) in enumerate(zip(self.boxes, boxes, strict=True)):
                theirs, ours = _meet(owned, wanted), _meet(self.boxes[rank], asked)
                if other == rank:
                    if ours is not None:
                        mine = part[_place(ours, self.boxes[rank])]
                        found[_place(ours, wanted)] = mine
                    continue
                if ours is not None:
                    sends[other] = part[_place(ours, self.boxes[rank])].contiguous()
                if theirs is not None:
                    receives[other] = part.new_empty((*part.shape[:2], *_extent(theirs)))
            return found, sends, receives

        # Memory runs out before anybody waits for what will not come.
        found, sends, receives = self.group.run_together(prepared)
        self.group.exchange(sends, receives)
        for other, values in receives.items():
            meet = _meet(self.boxes[other], wanted)
            assert meet is not None
            found[_place(meet, wanted)] = values
        return found

    def scatter_add(self, values: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Boxes added up at their owners: the transpose of `gather_region`.

        Args:
            values: of this process's box.
            boxes: of all processes.

        Returns:
            The sum over all boxes, of what this process owns; ``values`` itself likewise.
        """
        if boxes == self.boxes:
            return values
        rank = self.group.rank
        held = boxes[rank]

        def prepared() -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
            total = values.new_zeros((*values.shape[:2], *_extent(self.boxes[rank])))
            sends, receives = {}, {}
            for other, (owned, theirs) in enumerate(zip(self.boxes, boxes, strict=True)):
                away, here = _meet(owned, held), _meet(self.boxes[rank], theirs)
                if other == rank:
                    continue
                if away is not None:
                    sends[other] = values[_place(away, held)].contiguous()
                if here is not None:
                    receives[other] = values.new_empty((*values.shape[:2], *_extent(here)))
            return total, sends, receives

        total, sends, receives = self.group.run_together(prepared)
        self.group.exchange(sends, receives)
        for other, theirs in enumerate(boxes):  # in the order of processes, whoever was quicker
            meet = _meet(self.boxes[rank], theirs)
            if meet is not None:
                share = values[_place(meet, held)] if other == rank else receives[other]
                total[_place(meet, self.boxes[rank])] += share
        return total

    def assemble(self, pieces: Sequence[tuple[Box, Callable[[Index], Tensor]]]) -> Tensor:
        """What this process owns, out of any boxes that cover the field.

        Args:
            pieces: each a box, and what reads a part of it.
        """
        own = self.boxes[self.group.rank]
        sample = pieces[0][1](_place([(0, 0)] * len(own)))
        found = sample.new_empty((*sample.shape[:2], *_extent(own)))
        for box, read in pieces:
            meet = _meet(own, box)
            if meet is not None:
                found[_place(meet, own)] = read(_place(meet, box))
        return found

    def gather(self, part: Tensor) -> Tensor:
        """All of the field, for every process."""
        return self.gather_region(
            part, [self.slab(self.axis, 0, self.size[self.axis])] * self.group.size
        )

    def gather_to_root(self, part: Tensor) -> Tensor | None:
        """All of the field, for process 0 alone."""
        everything = self.slab(self.axis, 0, self.size[self.axis])
        nothing = self.slab(self.axis, 0, 0)
        found = self.gather_region(part, [everything, *[nothing] * (self.group.size - 1)])
        return found if self.group.rank == 0 else None


def _extent(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


def _meet(one: Box, other: Box) -> Box | None:
    both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True)]
    return both if math.prod(max(0, stop - start) for start, stop in both) else None


def _place(box: Box, origin: Box | None = None) -> tuple[slice, ...]:
    """Where a box lies in a tensor that begins where another one does."""
    starts = [0] * len(box) if origin is None else [start for start, _ in origin]
    return tile_index(
        [slice(start - at, stop - at) for (start, stop), at in zip(box, starts, strict=True)]
    )
