"""The course of a run: its steps, their losses, and what ended it early."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convnd.errors import StopSignal

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.runtime.checkpoints import Checkpointer

__all__ = ["RunLog"]


@dataclass
class RunLog:
    """Takes the steps of a run, and collects what they report.

    Attributes:
        last: the last step; None before the first one.
        losses: the objective ("total") and its weighted terms at every step.
        stopped: the signal that ended the run early, or None.
    """

    last: Progress | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    stopped: BaseException | None = None

    def follow(
        self,
        steps: Iterable[Progress],
        checkpointer: Checkpointer,
        on_step: Callable[[Progress], None],
        *,
        partial: bool = True,
    ) -> None:
        """Take all steps, and write the checkpoints that are due.

        Args:
            steps: the steps of the run.
            checkpointer: writes the checkpoints; its signals wait for the end of a step.
            on_step: is called with every step, before its checkpoint.
            partial: whether a signal after the first step ends the run as if it were done, and is
                kept in ``stopped``.

        Raises:
            KeyboardInterrupt: there is no step yet, or ``partial`` is false.
            StopSignal: the same for other signals.
        """
        try:
            with checkpointer.interrupt.signals():
                for progress in steps:
                    self.last = progress
                    for name, value in {"total": progress.loss, **progress.parts}.items():
                        self.losses.setdefault(name, []).append(value)
                    on_step(progress)
                    checkpointer.after_step(progress)
        except (KeyboardInterrupt, StopSignal) as error:
            if self.last is None or not partial:
                raise
            self.stopped = error.with_traceback(None)  # its frames hold the optimiser's memory
