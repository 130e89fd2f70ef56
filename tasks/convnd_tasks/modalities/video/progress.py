"""Converts the optimisation steps of single frames or blocks to steps of a whole video."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.optimize import Step
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.video.frame_cache import quantize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StepCallback", "TransferOutcome", "run_transfer", "step_callback", "unchanged"]

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
