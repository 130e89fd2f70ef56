"""Converts the optimisation steps of single frames or blocks to steps of a whole video."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.optimize import Step
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.video.frame_cache import quantize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "StepCallback",
    "TransferOutcome",
    "run_transfer",
    "step_callback",
    "unchanged",
    "unfinished_text",
]

_FINISHED_OVER, _FINISHED_DECREASE = 4, 0.15
"""A first frame counts as finished if its loss decreased by less than 0.15 over its last 4 steps.
The decrease is about 0.03 after the default 80 steps, 0.1 after 40, and 0.3 after 20."""

StepCallback = Callable[[Step | Progress], Progress]
"""Turns a step of one frame into a step of the video."""


@dataclass(frozen=True, kw_only=True)
class TransferOutcome:
    """The result of optimising a frame or a block.

    Args:
        values: values, rounded by `quantize`.
        steps: number of steps.
        rejected_steps: number of rejected steps.
        loss: loss of the values.
        parts: weighted terms of the loss.
    """

    values: Tensor
    steps: int
    rejected_steps: int
    loss: float
    parts: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Return everything but the values, in types that JSON has."""
        return {
            "steps": self.steps,
            "rejected_steps": self.rejected_steps,
            "loss": self.loss,
            "parts": dict(self.parts),
        }


def unchanged(values: Tensor) -> TransferOutcome:
    """Return the outcome of a frame that is known: a keyframe, or one that keeps its content."""
    return TransferOutcome(values=values, steps=0, rejected_steps=0, loss=math.nan, parts={})


def step_callback(number: int, total: int | None, passes: int = 1) -> StepCallback:
    """Make the function that converts steps of one frame to steps of the video.

    Args:
        number: number of the frame, from 0; those of a second pass follow those of the first.
        total: number of frames of the video, or None if it is unknown.
        passes: number of passes over the video.
    """
    frames = (total or number + 1) * passes

    def to_progress(step: Step | Progress) -> Progress:
        return Progress(
            step=number + 1,
            steps=max(frames, number + 1),
            phase=1,
            phases=1,
            fraction_done=min(1.0, number / frames),
            loss=step.loss,
            parts=step.parts,
            values=step.values,
        )

    return to_progress


def run_transfer(
    steps: Iterable[Progress], to_progress: StepCallback
) -> Generator[Progress, None, TransferOutcome]:
    """Yield the steps of a transfer as steps of the video, and return its outcome."""
    last: Progress | None = None
    for last in steps:
        yield to_progress(last)
    assert last is not None
    return TransferOutcome(
        values=quantize(last.values),
        steps=last.step,
        rejected_steps=last.rejected_steps,
        loss=last.loss,
        parts=last.parts,
    )


def unfinished_text(losses: Sequence[float]) -> str:
    """Explain why a frame is not finished; "" if it is finished.

    Args:
        losses: its losses at the last scale.

    >>> unfinished_text([9.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.06, 1.05, 1.04])
    ''
    >>> unfinished_text([9.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.05, 1.01])
    'its loss still fell by 33 % in the last 4'
    >>> unfinished_text([20.0, 19.9])
    'it took 1 step at its full size'
    """
    if len(losses) <= _FINISHED_OVER:
        count = len(losses) - 1
        return f"it took {count} step{'' if count == 1 else 's'} at its full size"
    earlier_loss, last_loss = losses[-1 - _FINISHED_OVER], losses[-1]
    decrease = (earlier_loss - last_loss) / abs(earlier_loss) if earlier_loss else 0.0
    if decrease < _FINISHED_DECREASE:
        return ""
    return f"its loss still fell by {100 * decrease:.0f} % in the last {_FINISHED_OVER}"
