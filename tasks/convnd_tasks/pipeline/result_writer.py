"""Decodes and writes the result of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import NumericalError
from convnd_tasks.pipeline.provenance import run_metrics
from convnd_tasks.runtime.checkpoints import save_last_good

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality, Transfer, TransferInputs
    from convnd_tasks.pipeline.result_files import Output

__all__ = ["ResultWriter"]


class ResultWriter:
    """Decodes the result at a step and writes it."""

    def __init__(
        self,
        modality: Modality,
        inputs: TransferInputs,
        transfer: Transfer,
        output: Output | None,
        on_message: Callable[[str], None],
    ) -> None:
        self.output = output
        self._modality, self._inputs = modality, inputs
        self._transfer, self._on_message = transfer, on_message
        self._last_saved = 0

    def write(
        self,
        progress: Progress,
        stopped: BaseException | None,
        path: Path | None = None,
        *,
        overwrite: bool | None = None,
    ) -> tuple[Any, dict[str, str]]:
        """Write the result at a step; returns it and the entries about how the run went."""
        result = self._transfer.result(progress)
        metrics = run_metrics(
            progress.step, progress.loss, stopped, progress.rejected_steps
        ) | dict(self._transfer.record)
        output = self.output
        if result is None or output is None:  # another process writes it, or nobody
            return result, metrics
        result = self._modality.write(
            path or output.path,
            result,
            inputs=self._inputs,
            overwrite=output.overwrite if overwrite is None else overwrite,
            record={**output.record, **metrics} if self._modality.settings.metadata else None,
            on_message=self._on_message,
        )
        return result, metrics

    def save_numbered(self, progress: Progress) -> None:
        """Write a numbered result if one is due at this step (``--save-every``)."""
        every = self._modality.settings.save_every
        # A scale starts with the step that the one before ended with.
        is_due = every and progress.step % every == 0 and progress.step > self._last_saved
        if is_due and self.output is not None:
            self._last_saved = progress.step
            self.write(progress, None, io.extend_stem(self.output.path, f"{progress.step:06d}"))

    def save_last_good(self, error: NumericalError, progress: Progress | None) -> NumericalError:
        """Write the last finite result beside the output; returns the error to raise."""
        assert progress is not None
        assert self.output is not None
        return save_last_good(
            error, self.output.path, lambda path: self.write(progress, error, path, overwrite=False)
        )
