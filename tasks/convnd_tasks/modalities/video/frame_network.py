"""Stylises frames of a video in one pass of a network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from convnd.transfer.problem import TransferProblem
from convnd_tasks.modalities.video.progress import StepCallback, TransferOutcome, run_transfer

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.transfer.one_pass import OnePassTransfer
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.video.input import VideoSource

__all__ = ["FrameNetwork"]


class FrameNetwork:
    """Stylises each frame by one pass of a trained network, without optical flow.

    Frames are independent, but the network draws the same pattern at the same position of each.

    Args:
        transfer: the network.
        on_message: callback that gets lines for users.
    """

    def __init__(
        self, transfer: OnePassTransfer, on_message: Callable[[str], None] | None = None
    ) -> None:
        self._transfer = transfer
        self._on_message = on_message

    def prepare(self, source: VideoSource) -> None:
        """See `FrameTransfer.prepare`; nothing is to be done."""

    def begin(
        self, content: Tensor, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame, see `FrameTransfer.begin`."""
        problem = TransferProblem(content, [content])
        steps = self._transfer.run(problem, on_message=self._on_message)
        return (yield from run_transfer(steps, to_progress))

    def follow(
        self,
        content: Tensor,
        previous: Tensor,
        target: Tensor,
        mask: Tensor,
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame, see `FrameTransfer.follow`."""
        del previous, target, mask
        return (yield from self.begin(content, to_progress))
