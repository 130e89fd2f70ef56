"""The files that a job writes: checked before any work, and written at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import NumericalError, UsageError
from convnd.io.atomic import check_target
from convnd_tasks.pipeline.provenance import MEASURED, is_up_to_date, run_metrics, with_changes
from convnd_tasks.pipeline.report import check_report
from convnd_tasks.runtime.checkpoints import save_last_good

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality, Transfer
    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.pipeline.job_spec import JobSpec
    from convnd_tasks.runtime.checkpoints import Checkpointer
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Output", "ResultWriter", "Skipped", "check_outputs", "list_outputs"]


@dataclass
class Output:
    """The files that a transfer writes.

    Args:
        path: path of the result.
        side_files: paths of the figures by name, and of the report as "report".
        overwrite: whether existing files may be replaced.
        record: entries of the result's record that are known before the work.
    """

    path: Path
    side_files: Mapping[str, Path]
    overwrite: bool
    record: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A result that exists already and was left alone.

    Args:
        path: the result.
        side_files: requested figures and report.
    """

    path: Path
    side_files: Sequence[Path]


def check_outputs(
    target: Path,
    modality: Modality,
    spec: JobSpec,
    checkpointer: Checkpointer,
    make_record: Callable[[], Mapping[str, str]],
) -> Output | Skipped:
    """Check, before any input is read, that everything can be written.

    Args:
        target: path of the result.
        modality: the kind of data, with the settings of the job.
        spec: inputs and outputs of the job.
        checkpointer: checkpoints of the transfer.
        make_record: makes the entries of the result's record that are known before the work; it
            reads the inputs once.

    Returns:
        The files to write, or the result that ``--skip-existing`` leaves alone.

    Raises:
        OutputExistsError: a file exists and may not be replaced.
        OutputFileError: a file cannot be written there.
        UsageError: the result would replace an input.
    """
    settings = modality.settings
    # What was stopped has a checkpoint, and is continued rather than refused.
    overwrite = settings.overwrite or (settings.resume and checkpointer.exists())
    output = Output(target, _side_files(target, modality, spec), overwrite)
    _check_not_an_input(target, spec, settings)
    if settings.skip_existing:
        output.record = make_record()
        if is_up_to_date(target, output.record, overwrite=overwrite):
            return Skipped(target, list(output.side_files.values()))
    modality.check_output(target, None, overwrite=overwrite)
    for name, path in output.side_files.items():
        if name == "report":
            check_report(path, overwrite=overwrite)
        else:
            check_target(path, overwrite=overwrite)
    if settings.save_every:
        for path in sorted(target.parent.glob(io.extend_stem(target, "[0-9]" * 6).name)):
            modality.check_output(path, None, overwrite=overwrite)
    checkpointer.check(resume=settings.resume, overwrite=settings.overwrite)
    return output


def list_outputs(target: Path, modality: Modality, spec: JobSpec) -> list[Path]:
    """Return the files that a transfer writes: the result, its figures and its report.

    Args:
        target: path of the result.
        modality: the kind of data, with the settings of the job.
        spec: inputs and outputs of the job.
    """
    return [target, *_side_files(target, modality, spec).values()]


def _side_files(target: Path, modality: Modality, spec: JobSpec) -> dict[str, Path]:
    """Paths of the figures by name, and of the report as "report"."""
    draws = modality.settings.figures
    if draws is None:
        draws = modality.draws_demo_figures if spec.demo else modality.draws_figures
    stem = io.extend_stem(target, "x").name.rpartition("-x")[0]
    names = modality.figure_names() if draws else []
    paths = {name: target.with_name(f"{stem}-{name}.png") for name in names}
    # Nobody asked for these names: a demo works a second time, and results that differ in their
    # suffix keep their figures apart.
    if spec.demo or (modality.settings.figures is None and not target.exists()):
        paths = {name: io.next_free_path(path) for name, path in paths.items()}
    if modality.settings.report is not None:
        paths["report"] = modality.settings.report
    return paths


def _check_not_an_input(target: Path, spec: JobSpec, settings: JobSettings) -> None:
    """Refuse to replace an input, or a file that an input is read from."""
    outputs = [file for file in io.files_written(target) if file.exists()]
    maps = (settings.mask, settings.regions, *settings.style_regions)
    names = (*spec.contents, *spec.styles, spec.init, *maps)
    for name in names if outputs else ():
        if name is None or not Path(name).exists():
            continue
        inputs = io.files_read(name)
        if any(file.samefile(output) for file in inputs for output in outputs):
            raise UsageError(
                f"write {target}",
                expected=f"another file than the input {name}",
                got="the same",
                remedy="choose another name with --output",
            )


class ResultWriter:
    """Decodes and writes the result of a transfer.

    Args:
        modality: the kind of data, with the settings of the job.
        inputs: inputs of the transfer.
        transfer: the transfer, which computes the result at a step.
        output: the files to write; None writes nothing.
        on_message: is called with lines for users.
    """

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
        """Write the result at a step.

        Args:
            progress: the step.
            stopped: the exception that ended the run early, or None.
            path: path of the result; None is that of the output.
            overwrite: whether an existing file may be replaced; None is as for the output.

        Returns:
            The result, and the entries of its record about the run.
        """
        result = self._transfer.result(progress)
        measured = {f"{MEASURED}{name}": text for name, text in self._transfer.record.items()}
        metrics = measured | run_metrics(
            progress.step, progress.loss, stopped, progress.rejected_steps
        )
        output = self.output
        if result is None or output is None:  # another process writes it, or nobody
            return result, metrics
        changes = self._transfer.changes
        parameters = with_changes(output.record, [] if changes is None else changes.texts)
        result = self._modality.write(
            path or output.path,
            result,
            inputs=self._inputs,
            overwrite=output.overwrite if overwrite is None else overwrite,
            record={**parameters, **metrics} if self._modality.settings.metadata else None,
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

    def save_last_good(self, error: NumericalError, progress: Progress) -> NumericalError:
        """Write the last finite result beside the output; return the error to raise."""
        assert self.output is not None
        return save_last_good(
            error, self.output.path, lambda path: self.write(progress, error, path, overwrite=False)
        )
