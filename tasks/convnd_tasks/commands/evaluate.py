"""``convnd evaluate``: a result measured in the language of its field.

The shell is here; what is measured is a module per kind of data, see
`convnd_tasks.modalities.metrics.EVALUATORS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnd_tasks.pipeline.flags import Dim, Rate
from convnd_tasks.pipeline.output import CommandOutput, with_json_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convnd_tasks.modalities.metrics import Measure

__all__ = ["evaluate"]


@with_json_output("evaluate")
def evaluate(
    content: Annotated[str, typer.Argument(help="What was stylised: a file.")],
    result: Annotated[str, typer.Argument(help="What came out of it: a file.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="The style it was given: a file, or the name of a built-in one. May be repeated.",
            show_default=False,
        ),
    ] = None,
    dim: Dim = None,
    rate: Rate = None,
    *,
    summary: CommandOutput,
) -> None:
    """Measure what a style transfer kept of the content and took from the style.

    convnd evaluate ecg.csv ecg_stylized.csv --style noisy.csv
    """
    from convnd_tasks.modalities.metrics import as_json, evaluator_for
    from convnd_tasks.modalities.volumes.inputs import built_in_scan
    from convnd_tasks.pipeline.resolve import infer_dim, is_film, open_input, suffixed
    from convnd_tasks.samples import phantom

    def show(measures: Sequence[Measure]) -> None:
        summary.add(measures=as_json(measures))
        _table(measures)

    styles = style or []
    if is_film(content, dim) or (Path(content).is_dir() and is_film(result, dim)):
        from convnd_tasks.modalities.video.metrics import measure_files

        show(measure_files(content, result, styles))
        return
    axes = infer_dim(suffixed([content, result, *styles]), dim)
    find = evaluator_for(axes)
    before = open_input(content, axes, role="content", seed=0, rate=rate)
    after = open_input(result, axes, role="content", seed=0, rate=rate)
    references = [
        built_in_scan(name, 0, before)
        if axes == 3 and name in phantom.STYLES and not Path(name).exists()
        else open_input(name, axes, role="style", seed=0, rate=rate)
        for name in styles
    ]
    show(find(before, after, references))


def _table(measures: Sequence[Measure]) -> None:
    """One row each; the figure of the untouched content beside that of the result."""
    import math

    if not measures:
        typer.echo("nothing to measure without beats or a style; add --style", err=True)
        return

    def figure(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.4g}" if math.isfinite(value) else "-"

    rows = [("measure", "result", "content", "unit", "better", "what it is")]
    rows += [
        (each.name, figure(each.value), figure(each.before), each.unit, each.better, each.meaning)
        for each in measures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [
            row[column].rjust(widths[column])
            if column in (1, 2)
            else row[column].ljust(widths[column])
            for column in range(5)
        ]
        typer.echo("  ".join([*cells, row[5]]).rstrip())
