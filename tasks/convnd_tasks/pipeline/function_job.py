"""Runs the transfer of a call of `convnd.stylize`, and shows its steps in a notebook."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError
from convnd_tasks.pipeline.live_picture import notebook_picture
from convnd_tasks.pipeline.style_result import StyleResult
from convnd_tasks.pipeline.watching import Watcher
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.pipeline.job_spec import JobSpec

__all__ = ["FunctionJob", "open_styles"]


def open_styles(inputs: TransferInputs, spec: JobSpec, modality: Modality) -> TransferInputs:
    """Open the style of a job that is no data: a trained network, or a built-in style."""
    if spec.network is not None:
        return dataclasses.replace(inputs, styles=[modality.open(spec.network, "style")])
    if inputs.styles:
        return inputs
    styles = [modality.open(name, "style", inputs.content) for name in spec.styles]
    return dataclasses.replace(inputs, styles=styles, names=[*inputs.names, *spec.styles])


@dataclass(frozen=True, kw_only=True)
class FunctionJob:
    """The transfer of one call of `convnd.stylize`.

    Args:
        spec: inputs and output of the job.
        inputs: inputs that are open already; None are names of files.
        out: path of the result; None does not write it.
        settings: fields of `JobSettings`.
        options: options of the kind of data.
        on_progress: is called with every step.
        on_message: is called with lines for users.
    """

    spec: JobSpec
    inputs: TransferInputs | None
    out: str | os.PathLike[str] | None
    settings: Mapping[str, Any]
    options: Mapping[str, Any]
    on_progress: Callable[[Progress], None] | None = None
    on_message: Callable[[str], None] | None = None

    def run(self) -> StyleResult:
        """Run the transfer; a sheet is a result, too."""
        return self._run_sheet() if self.settings.get("sheet") else self._run_transfer()

    def _run_transfer(self) -> StyleResult:
        """Run one transfer."""
        from convnd_tasks.pipeline.job import Job
        from convnd_tasks.pipeline.job_options import make_options
        from convnd_tasks.pipeline.result_files import Skipped

        spec, inputs = self.spec, self.inputs
        settings = JobSettings(**{"figures": False, **self.settings})
        job = Job(spec, make_options(spec, self.options, self.settings), settings)
        if inputs is not None:
            inputs = open_styles(inputs, spec, job.modality)
        spec.make_folder()
        watcher = (None if settings.quiet else notebook_picture()) or Watcher()

        def on_step(progress: Progress) -> None:
            watcher.on_step(progress)
            if self.on_progress is not None:
                self.on_progress(progress)

        outcome = job.run(
            spec.contents[0],
            None if self.out is None else spec.outputs[0],
            inputs=inputs,
            on_progress=on_step,
            on_message=self.on_message,
            watcher=watcher,
        )
        if isinstance(outcome, Skipped):
            raise UsageError("stylize: skip_existing needs the command line; leave it out")
        if outcome.stopped is not None:
            raise outcome.stopped
        return StyleResult(
            result=outcome.result,
            losses=outcome.losses,
            steps=outcome.steps,
            seconds=outcome.seconds,
            messages=outcome.messages,
            path=None if self.out is None else outcome.path,
        )

    def _run_sheet(self) -> StyleResult:
        """Make a sheet, whose result is its picture."""
        from convnd_tasks.pipeline.sheet import Sheet

        if self.inputs is not None:
            raise UsageError(
                "sheet",
                expected="names of files or samples, which its record holds",
                got="data in memory",
                remedy="write them to files first",
            )
        output = {} if self.out is None else {"output": os.fspath(self.out)}
        sheet = Sheet(self.spec, self.options, {**self.settings, **output})
        if self.out is not None:
            sheet.check_output()
        for cell in sheet.cells:
            sheet.run(cell, on_progress=self.on_progress, on_message=self.on_message)
        path, picture = (None, sheet.picture()) if self.out is None else sheet.write()
        return StyleResult(
            result=picture, losses={}, steps=sheet.steps, seconds=sheet.seconds, path=path
        )
