"""The files that a job writes: the result and its side files, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import UsageError
from convnd.io.atomic import check_target
from convnd_tasks.pipeline.provenance import is_up_to_date
from convnd_tasks.pipeline.report import check_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.pipeline.resolve import JobSpec
    from convnd_tasks.runtime.checkpoints import Checkpointer

__all__ = ["Output", "Skipped", "check_outputs"]


@dataclass
class Output:
    """The files that a job writes.

    Args:
        path: of the result.
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
        spec: of the job.
        checkpointer: of the transfer.
        make_record: makes the record of the result, which reads the inputs once.

    Returns:
        Where to write, or the result that ``--skip-existing`` leaves alone.

    Raises:
        OutputExistsError: a file exists and may not be replaced.
        OutputFileError: a file cannot be written there.
        UsageError: the result would replace an input.
    """
    settings = modality.settings
    # What was stopped has a checkpoint, and is continued rather than refused.
    overwrite = settings.overwrite or (settings.resume and checkpointer.exists())
    output = Output(target, _side_files(target, modality, spec), overwrite)
    _check_not_an_input(target, spec, settings.mask)
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
    """Return the files that a job writes: the result, figures, report and further side files.

    Args:
        target: path of the result.
        modality: the kind of data, with the settings of the job.
        spec: of the job.
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


def _check_not_an_input(target: Path, spec: JobSpec, mask: str | None) -> None:
    """Refuse to replace an input, or a file that an input is read from."""
    outputs = [file for file in io.files_written(target) if file.exists()]
    names = (*spec.contents, *spec.styles, spec.init, mask)
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
