"""What one phase of a transfer passes to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convnd.optimize import ProcessGroup, ShardedField, refine
from convnd.optimize.base import is_count
from convnd.optimize.state import check_field, state_errors
from convnd.transfer.scales import Phase

__all__ = ["Handover", "check_resumed", "local_part"]


@dataclass
class Handover:
    """The values and the state of the optimiser that one phase passes to the next.

    Args:
        values: values to start from, the local part where several processes share them; None before
            the first phase.
        content: the content at the size of the phase before.
        memory: state of the optimiser of the phase before, and the samples of this phase relative
            to those of that one, see ``inherit`` of `convnd.optimize.minimize`.
        state: state of the optimiser to resume from, or None.
        steps: number of steps that the phases before have taken.
        rejected_steps: number of rejected steps in the phases before.
    """

    values: Tensor | None = None
    content: Tensor | None = None
    memory: tuple[dict[str, Any], float] | None = None
    state: dict[str, Any] | None = None
    steps: int = 0
    rejected_steps: int = 0

    @classmethod
    def resumed(cls, state: Mapping[str, Any], device: torch.device) -> Handover:
        """Return the handover to an interrupted phase, from its `Progress.state`."""
        optimizer = state["optimizer"]
        steps, rejected_steps = state["before"]
        values = optimizer["step"]["values"].to(device)
        return cls(values, state=optimizer, steps=steps, rejected_steps=rejected_steps)

    def refine(
        self,
        size: tuple[int, ...],
        content: Tensor | None,
        shards: ShardedField | None,
        detail: Callable[[Tensor], Tensor | None],
        *,
        periodic: bool = False,
    ) -> None:
        """Resize the values for the next phase.

        Args:
            size: samples of the next phase along each axis.
            content: the content at this size, or None.
            shards: the processes that share the values of this size; None is this one alone.
            detail: returns what is added to the resized values, or None for nothing.
            periodic: whether the values are one period of a field.
        """
        assert self.values is not None
        contents = None if content is None or self.content is None else (self.content, content)
        values = refine(self.values, size, contents, periodic=periodic)
        added = detail(values)
        self.values = local_part(values if added is None else values + added, shards)

    def start(self) -> dict[str, Any]:
        """Return the arguments of `convnd.optimize.minimize`, and drop the references to them."""
        arguments = {"start": self.values, "inherit": self.memory, "resume": self.state}
        self.values = self.content = self.memory = self.state = None
        return arguments


def local_part(values: Tensor, shards: ShardedField | None) -> Tensor:
    """Return this process's part of a field.

    Args:
        values: the whole field.
        shards: the processes that share it; None is this one alone.
    """
    return values if shards is None else shards.local_part(values)


def check_resumed(
    state: Mapping[str, Any], phases: Sequence[Phase], group: ProcessGroup, channels: Sequence[int]
) -> None:
    """Check the phase of a state and the size of its values; `minimize` checks the rest.

    Args:
        state: a `Progress.state` out of a file.
        phases: the phases of the transfer.
        group: the processes that share the values.
        channels: batch and channels of the values.

    Raises:
        InputFileError: it is no state of such a transfer.
    """
    with state_errors():
        number = state["phase"]
        steps, rejected_steps = state["before"]
        if not all(map(is_count, (number, steps, rejected_steps))):
            raise ValueError("a phase or steps that are no whole numbers")
        field = ShardedField(phases[number].size, group)
        extents = [stop - start for start, stop in field.local_box]
        check_field(state["optimizer"]["step"]["values"], (*channels, *extents))
