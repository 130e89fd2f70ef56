"""The report of a transfer, which has the same sections for every kind of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import DependencyError, InputFileError
from convnd.io.atomic import atomic_path
from convnd_tasks.modalities.metrics import finite_or_none
from convnd_tasks.pipeline.provenance import settings_record
from convnd_tasks.pipeline.report import Report
from convnd_tasks.runtime import plots

if TYPE_CHECKING:
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.modalities.results import Figure, JobResult
    from convnd_tasks.pipeline.job_spec import JobSpec
    from convnd_tasks.pipeline.result_files import Output

__all__ = ["illustrate", "write_report"]


def illustrate(
    modality: Modality, spec: JobSpec, inputs: TransferInputs, outcome: JobResult, output: Output
) -> JobResult:
    """Write the figures and the report of a transfer, and return its outcome with their paths.

    Args:
        modality: the kind of data, with options and settings.
        spec: inputs and outputs of the job.
        inputs: inputs of the transfer.
        outcome: what the transfer has made.
        output: the files that it writes.
    """
    figures: Sequence[Figure] = modality.figures(inputs, outcome)
    paths = []
    for figure in figures:
        path = output.side_files.get(figure.name)
        if path is not None:
            png = figure.png
            with atomic_path(path, overwrite=output.overwrite) as temporary:
                temporary.write_bytes(png)
            paths.append(path)
    report = output.side_files.get("report")
    if report is not None:
        write_report(report, modality, spec, inputs, outcome, figures, overwrite=output.overwrite)
    return dataclasses.replace(outcome, figures=paths, report=report)


def write_report(
    path: Path,
    modality: Modality,
    spec: JobSpec,
    inputs: TransferInputs,
    outcome: JobResult,
    figures: Sequence[Figure],
    *,
    overwrite: bool,
) -> None:
    """Write figures, losses, measures, tables and options of one transfer.

    Args:
        path: path of the report.
        modality: the kind of data, with options and settings.
        spec: inputs and outputs of the job.
        inputs: inputs of the transfer.
        outcome: result of the transfer.
        figures: figures of the result.
        overwrite: whether an existing report may be replaced.

    Raises:
        OutputExistsError: the report exists and may not be replaced.
        OutputFileError: the report cannot be written there.
    """
    names = [Path(name).name for name in inputs.names]
    content, styles = (None, names) if inputs.content is None else (names[0], names[1:])
    styles = styles[: len(inputs.styles)]
    title = "A texture" if content is None else f"{content}, stylised"
    page = Report(title, lead=f"In the style of {', '.join(styles)}.")
    page.section("Pictures")
    for figure in figures:
        page.figure(figure.png, figure.caption)
    if outcome.losses:
        page.section("Loss")
        page.figure(plots.loss_curve(outcome.losses), modality.loss_caption)
    _measures(page, modality, inputs, outcome)
    for table in modality.tables(inputs, outcome):
        page.section(table.title)
        page.table(table.header, table.rows)
    page.section("How it was made", "\n\n".join(outcome.messages))
    options = {**modality.options.record(), **settings_record(modality.settings, spec)}
    rows = [[name.removeprefix("convnd:"), value] for name, value in options.items()]
    page.table(["option", "value"], rows)
    page.write(path, overwrite=overwrite)


def _measures(page: Report, modality: Modality, inputs: TransferInputs, outcome: JobResult) -> None:
    if inputs.content is None:
        return
    text, rows = "The measures of convnd evaluate, of the result and of the content.", []
    try:
        rows = [
            [
                measure.name,
                finite_or_none(measure.value),
                finite_or_none(measure.before),
                measure.unit,
                measure.meaning,
            ]
            for measure in modality.metrics(inputs, outcome.result)
        ]
    except (DependencyError, InputFileError) as error:  # the other sections do not depend on it
        text = f"Not measured: {error}."
    page.section("Measures", text)
    if rows:
        page.table(["measure", "result", "content", "unit", "what it is"], rows)
