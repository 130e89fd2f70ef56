"""The report of one step of a transfer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from convnd.optimize import ShardedField

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """One evaluated step of a transfer.

    Args:
        step: number of the step over all phases; 0 is the starting point.
        steps: number of steps over all phases, as far as they are known: a phase may end early.
        phase: number of the current phase, which is one network at one size, from 1.
        phases: number of phases.
        fraction_done: share of the whole work that is done, in ``[0, 1]``.
        loss: value of the objective; NaN where nothing was optimised.
        parts: weighted value of each kind of term, by name.
        values: the field that is optimised ``(1, C, *S)`` at the current size; with several
            processes, this process's part of it.
        rejected_steps: number of rejected steps so far, see `convnd.optimize.minimize`.
        state: returns the state to resume from here; it has to be called before the next step is
            requested.
        shards: distribution of ``values`` over processes; None where one process holds all.
        extra_shards: distribution of fields of other sizes in the state.
        fixed_share: share of the time of this step that does not depend on the size, see
            `convnd.transfer.step_cost`.
    """

    step: int
    steps: int
    phase: int
    phases: int
    fraction_done: float
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    rejected_steps: int = 0
    state: Callable[[], dict[str, Any]] = field(default=dict, repr=False, compare=False)
    shards: ShardedField | None = field(default=None, repr=False, compare=False)
    extra_shards: Sequence[ShardedField] = field(default=(), repr=False, compare=False)
    fixed_share: float = 0.0

    @classmethod
    def of_one_pass(cls, values: Tensor) -> Progress:
        """Make the only step of a transfer without an optimisation.

        Args:
            values: the result ``(1, C, *S)``.
        """
        return cls(
            step=0,
            steps=0,
            phase=1,
            phases=1,
            fraction_done=1.0,
            loss=math.nan,
            parts={},
            values=values,
        )

    @property
    def size(self) -> tuple[int, ...]:
        """Samples of the whole field along each axis."""
        return tuple(self.values.shape[2:]) if self.shards is None else self.shards.size

    def whole(self) -> Tensor | None:
        """Return the whole field in process 0, and None in the others; every process calls this."""
        return self.values if self.shards is None else self.shards.gather_to_root(self.values)
