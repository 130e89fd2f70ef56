"""The state of unfinished work on a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.optimize import ShardedField, Step

__all__ = ["BestIterate", "VolumeRunState"]


@dataclass
class VolumeRunState:
    """Everything that a checkpoint of a volume holds.

    Args:
        scale: number of the current size, from 0 (coarse), of the frame after the finished ones.
        start: values ``(1, 1, *S)`` where the optimization at this size began, this process's part;
            None before it has begun.
        terms: names of the style terms at this size, for each view.
        changes: change of each finished frame in the scan's units, with axes towards head, front
            and right; this process's part.
        rejected_steps: number of rejected steps at all sizes before this one.
        minimizer: state of the minimization to resume, see `convnd.optimize.Step`.
    """

    scale: int = 0
    start: Tensor | None = None
    terms: list[list[str]] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    rejected_steps: int = 0
    minimizer: dict[str, Any] | None = None

    def check(self, sizes: Sequence[ShardedField], frames: int) -> None:
        """Check a state that was read from a checkpoint; the optimizer checks its own.

        Args:
            sizes: the field at each size, from coarse to fine.
            frames: number of frames of the scan.

        Raises:
            ValueError: it is not that of such a scan.
        """
        from convnd.optimize.base import is_count
        from convnd.optimize.state import check_field

        if not (is_count(self.scale) and is_count(self.rejected_steps)):
            raise ValueError("no number of a size")
        unfinished = isinstance(self.changes, list) and len(self.changes) < frames
        if not (isinstance(self.minimizer, dict) and unfinished):
            raise ValueError("no unfinished frame")
        check_field(self.start, (1, 1, *local_extents(sizes[self.scale])))
        for change in self.changes:
            check_field(change, (1, 1, *local_extents(sizes[-1])))

    def to_dict(self, step: Step) -> dict[str, Any]:
        """The arguments of a `VolumeRunState` that resumes after a step and yields it again."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**values, "minimizer": step.state()}

    def pop_minimizer(self) -> dict[str, Any] | None:
        """The state to resume, once: it is as large as the optimizer's memory."""
        state, self.minimizer = self.minimizer, None
        return state


def local_extents(shards: ShardedField) -> list[int]:
    """Shape of this process's part of a field."""
    return [stop - start for start, stop in shards.local_box]


@dataclass
class BestIterate:
    """The best values of a frame so far.

    The optimizer's variable is the difference to the start in units of a length for each voxel.

    Args:
        frame: number of the frame.
        start: values ``(1, 1, *S)`` where the optimization began, this process's part.
        step_scale: length of a step in each voxel, of the same shape, or 1.
        shards: the processes that share the field.
        loss: the lowest loss.
        offset: the optimizer's variable at the lowest loss.
    """

    frame: int
    start: Tensor
    step_scale: Tensor | float
    shards: ShardedField
    loss: float = math.inf
    offset: Tensor | None = None

    def update(self, step: Step) -> None:
        """Keep a step unless its loss is higher than the best."""
        if step.loss <= self.loss:
            self.loss, self.offset = step.loss, step.values

    def values_at(self, offset: Tensor) -> Tensor:
        """Values ``(1, 1, *S)`` for the optimizer's variable."""
        return offset.mul(self.step_scale).add_(self.start)

    def values(self) -> Tensor:
        """The best values ``(1, 1, *S)``."""
        return self.start if self.offset is None else self.values_at(self.offset)
