"""The stages of the change of a frame of a scan, as steps of a job."""

from __future__ import annotations

import math

from torch import Tensor

from convnd.transfer.progress import Progress

__all__ = ["STAGES", "stage_progress"]

STAGES = 4
"""Of a frame: sharpness is measured, noise is measured, noise is drawn, result checked."""

_TIME_SHARES = (0.0, 0.1, 0.3, 0.4, 1.0)
"""Share of a frame's time that has passed after each stage, measured with a scan of 96x96x64."""


def stage_progress(frame: int, frames: int, stage: int, values: Tensor, loss: float) -> Progress:
    """Return the progress after a stage of a frame; an unknown loss counts as 1.

    Args:
        frame: number of the frame, from 0.
        frames: number of frames.
        stage: 0 before the first stage, to `STAGES`.
        values: ``(D, H, W)``; the frame, and after the last stage its result.
        loss: distance of the noise from that of the styles; NaN where it is not known yet.
    """
    loss = 1.0 if math.isnan(loss) else loss
    return Progress(
        step=frame * STAGES + stage,
        steps=frames * STAGES,
        phase=1,
        phases=1,
        fraction_done=(frame + _TIME_SHARES[stage]) / frames,
        loss=loss,
        parts={"noise": loss},
        values=values[None, None],
    )
